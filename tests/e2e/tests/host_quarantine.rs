//! Quarantine on real pods: nothing gets in or out, and it is undone as it was done.

use std::time::Duration;

use anyhow::{Result, ensure};
use nv_scene::Scene;
use serde_json::{Value, json};

/// How soon it must be in the REST API.
const SOON: Duration = Duration::from_secs(5);

fn told(answer: &Value, name: &str, workload: &str) -> Option<()> {
    let text =
        |record: &Value, key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = answer.get("events")?.as_array()?;
    list.iter()
        .any(|record| text(record, "name") == name && text(record, "workload_id") == workload)
        .then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_in_quarantine_talks_to_nobody_and_goes_on_afterwards() -> Result<()> {
    let scene = Scene::start("quarantine").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let id = scene.client.container().id.clone();
    let echo = format!("{}:7", scene.echo_address()?);
    let web = format!("{}:80", scene.web_address()?);
    let quarantine = async |on: bool| {
        let config = json!({"config": {"quarantine": on}});
        scene.api.patch(&format!("/v1/workload/{id}"), &config).await
    };

    // A connection that was open before, and goes on for eight seconds if nobody cuts it.
    let talk = async { scene.run(&["/bin/attacker", "talk", &echo, "4000"]).await };
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        quarantine(true).await
    };
    let (talk, cut) = tokio::join!(talk, cut);
    cut?;
    ensure!(talk?.exit_code != 0, "an open connection went on through the quarantine");
    ensure!(
        scene.run(&["/bin/attacker", "connect", &web]).await?.exit_code != 0,
        "a new connection went out"
    );
    let shown = scene.api.get(&format!("/v1/workload/{id}")).await?;
    ensure!(shown.pointer("/workload/state").and_then(Value::as_str) == Some("quarantined"), "{shown}");
    scene.api.wait_for("/v1/log/activity", SOON, |answer| told(answer, "Container.Quarantined", &id)).await?;

    quarantine(false).await?;
    scene
        .api
        .wait_for("/v1/log/activity", SOON, |answer| told(answer, "Container.Unquarantined", &id))
        .await?;
    for _ in 0..60 {
        if scene.run(&["/bin/attacker", "connect", &web]).await?.exit_code == 0 {
            return scene.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the workload is still cut off after the end of the quarantine")
}
