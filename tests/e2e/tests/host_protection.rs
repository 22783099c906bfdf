//! From learning to protection, on real pods: what was seen goes on, what was not is stopped and told.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::{CLIENT_GROUP, Scene, TOOL, WEB_GROUP};
use serde_json::Value;

/// How soon a deed must be in the REST API.
const SOON: Duration = Duration::from_secs(5);

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The newest incident with this executable and action.
fn incident(answer: &Value, path: &str, action: &str) -> Option<Value> {
    let list = answer.get("incidents")?.as_array()?;
    list.iter().find(|record| text(record, "proc_path") == path && text(record, "action") == action).cloned()
}

fn violation(answer: &Value, port: u64, action: &str) -> Option<Value> {
    let list = answer.get("violations")?.as_array()?;
    list.iter()
        .find(|record| {
            record.get("server_port").and_then(Value::as_u64) == Some(port)
                && text(record, "policy_action") == action
        })
        .cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_goes_on_and_what_was_not_is_reported_then_stopped() -> Result<()> {
    let scene = Scene::start("protect").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let forbidden = format!("{}:81", scene.web_address()?);

    // Monitor reports and lets through.
    scene.set_mode("Monitor").await?;
    let intrusion = "cp /bin/attacker /tmp/intruder && /tmp/intruder write /tmp/monitored";
    scene.run(&["/bin/sh", "-c", intrusion]).await?;
    ensure!(scene.has_file("/tmp/monitored"), "Monitor must not stop anything");
    scene
        .api
        .wait_for("/v1/log/incident", SOON, |answer| incident(answer, "/tmp/intruder", "violate"))
        .await?;
    ensure!(scene.run(&["/bin/attacker", "connect", &forbidden]).await?.exit_code == 0);
    scene.api.wait_for("/v1/log/violation", SOON, |answer| violation(answer, 81, "violate")).await?;

    // Protect stops the program before it runs, and the connection at its first packet.
    scene.set_mode("Protect").await?;
    // The second command keeps the shell from becoming the intruder itself.
    scene.run(&["/bin/sh", "-c", "/tmp/intruder write /tmp/protected; true"]).await?;
    let (record, _) = scene
        .api
        .wait_for("/v1/log/incident", SOON, |answer| incident(answer, "/tmp/intruder", "deny"))
        .await?;
    ensure!(!scene.has_file("/tmp/protected"), "the intruder ran: {record}");
    ensure!(text(&record, "name") == "Process.Profile.Violation", "{record}");
    ensure!(text(&record, "level") == "Critical", "{record}");
    ensure!(text(&record, "group") == CLIENT_GROUP, "{record}");
    ensure!(text(&record, "workload_id") == scene.client.container().id, "{record}");
    ensure!(text(&record, "proc_parent_path") == "/bin/busybox", "{record}");

    scene.run(&["/bin/attacker", "memfd", "/tmp/in-memory"]).await?;
    ensure!(!scene.has_file("/tmp/in-memory"), "the program without a file ran");

    ensure!(scene.run(&["/bin/attacker", "connect", &forbidden]).await?.exit_code != 0);
    let (record, _) =
        scene.api.wait_for("/v1/log/violation", SOON, |answer| violation(answer, 81, "deny")).await?;
    ensure!(text(&record, "level") == "Critical", "{record}");
    ensure!(text(&record, "server_service") == WEB_GROUP, "{record}");
    ensure!(
        text(&record, "client_id") == scene.client.sandbox.id
            || text(&record, "client_id") == scene.client.container().id,
        "{record}"
    );

    // What was learned still works.
    scene.operate().await.context("learned operation is stopped")?;

    // Zero-drift: a program of the image is good until it is replaced.
    scene
        .api
        .patch(
            "/v1/service/config",
            &serde_json::json!({"config": {"services": ["client.shop"], "baseline_profile": "zero-drift"}}),
        )
        .await?;
    scene.api.wait_enforced().await?;
    scene.succeed(&[TOOL, "write", "/tmp/before"]).await?;
    ensure!(scene.has_file("/tmp/before"));
    let replace = format!("cp /bin/busybox {TOOL}.new && cat /bin/attacker > {TOOL}");
    scene.run(&["/bin/sh", "-c", &replace]).await?;
    scene.run(&[TOOL, "write", "/tmp/replaced"]).await.ok();
    ensure!(!scene.has_file("/tmp/replaced"), "a replaced program ran under zero-drift");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pod_of_a_protected_service_is_protected_from_its_first_program() -> Result<()> {
    let scene = Scene::start("newpod").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    let spec = nv_lab::PodSpec::new("client-5f6d8b7c9-zzzzz", nv_scene::NAMESPACE).container(
        nv_lab::ContainerSpec::new(
            "main",
            "docker.io/scene/client:1",
            &[
                "/bin/sh",
                "-c",
                "cp /bin/attacker /tmp/first; /tmp/first write /tmp/first-ran; exec sleep 1000",
            ],
        ),
    );
    let pod = scene.lab.run_pod(&spec).await?;
    scene.api.wait_for("/v1/log/incident", SOON, |answer| incident(answer, "/tmp/first", "deny")).await?;
    let marker = format!("/proc/{}/root/tmp/first-ran", pod.container().pid);
    ensure!(!std::path::Path::new(&marker).exists(), "the first program of a new pod ran unchecked");
    scene.stop().await
}
