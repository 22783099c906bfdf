//! NRI: a runtime that asks the enforcer before it starts a container waits until that is under its policy.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::Pod;
use nv_scene::{CLIENT_GROUP, Scene, UNLISTED, intruder, intruder_ran};
use serde_json::Value;

/// Waits until the incident of a pod is told, with the group that its profile was.
async fn incident_of(scene: &Scene, pod: &Pod) -> Result<()> {
    let id = pod.container().id.clone();
    let limit = Duration::from_secs(30);
    scene
        .api
        .wait_for("/v1/log/incident", limit, |answer| {
            let incidents = answer.get("incidents")?.as_array()?;
            let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
            incidents
                .iter()
                .any(|entry| {
                    text(entry, "workload_id").as_deref() == Some(id.as_str())
                        && text(entry, "proc_path").as_deref() == Some(UNLISTED)
                        && text(entry, "group").as_deref() == Some(CLIENT_GROUP)
                        && text(entry, "action").as_deref() == Some("deny")
                        && text(entry, "workload_name").is_some_and(|name| name.contains("client-5f6d8b7c9"))
                })
                .then_some(())
        })
        .await
        .map(drop)
        .with_context(|| format!("no incident of {id} that names it"))
}

/// Waits until a runtime asks the only enforcer.
async fn asked_again(scene: &Scene) -> Result<()> {
    let answer = scene.api.get("/v1/enforcer").await?;
    let id = answer.pointer("/enforcers/0/id").and_then(Value::as_str).context("no enforcer")?.to_owned();
    let connected = |answer: &Value| {
        let count = answer.pointer("/counter/counters/nri.connected").and_then(Value::as_u64);
        (count == Some(1)).then_some(())
    };
    let limit = Duration::from_secs(60);
    scene.api.wait_for(&format!("/v1/enforcer/{id}/counter"), limit, connected).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nri_a_pod_waits_for_its_policy_and_starts_without_an_enforcer_that_is_gone() -> Result<()> {
    let mut scene = Scene::start_with_nri("nri").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;

    let waited = scene.start_while_still(&intruder("bbbbb")).await?;
    ensure!(!intruder_ran(&waited), "it ran before the enforcer had placed it");
    incident_of(&scene, &waited).await?;

    // NRI is no condition for starting: a runtime that has nobody to ask goes on, and the kernel judges by what it holds.
    scene.product.stop().await?;
    scene.lab.run_pod(&intruder("ccccc")).await.context("nobody answers, it starts all the same")?;

    scene.product.launch()?;
    scene.product.wait_ready().await?;
    scene.api = scene.product.login(nv_scene::PASSWORD).await?;
    scene.lab.restart_containerd().await?;
    asked_again(&scene).await?;
    let again = scene.start_while_still(&intruder("ddddd")).await?;
    ensure!(!intruder_ran(&again), "the enforcer was not asked after containerd's restart");
    scene.stop().await
}
