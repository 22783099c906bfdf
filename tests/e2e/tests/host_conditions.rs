//! Lines of a process profile with conditions, from the REST API to the kernel, on a real pod.

use std::time::Duration;

use anyhow::{Result, ensure};
use nv_scene::{CLIENT_GROUP, Scene, TOOL};
use serde_json::{Value, json};

/// How soon a deed must be in the REST API.
const SOON: Duration = Duration::from_secs(5);

/// An incident of the tool that was stopped, with this in its arguments.
fn stopped(answer: &Value, argument: &str) -> Option<Value> {
    let text =
        |record: &Value, key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let list = answer.get("incidents")?.as_array()?;
    let meant = |record: &&Value| {
        text(record, "proc_path") == TOOL
            && text(record, "action") == "deny"
            && text(record, "proc_cmd").contains(argument)
    };
    list.iter().find(meant).cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learned_program_is_stopped_with_some_arguments_and_out_of_some_program() -> Result<()> {
    let scene = Scene::start("conditions").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let name = TOOL.rsplit('/').next().unwrap_or_default();
    let line = |condition: &str, value: &str| json!({"name": name, "path": TOOL, "action": "deny", condition: value});
    let change = json!({"process_profile_config": {"group": CLIENT_GROUP, "process_change_list": [
        line("arguments", "write /tmp/secret*"),
        line("parent", "/bin/busybox"),
    ]}});
    scene.api.patch(&format!("/v1/process_profile/{CLIENT_GROUP}"), &change).await?;
    scene.set_mode("Protect").await?;

    // The runtime runs it: no shell is its parent.
    ensure!(scene.run(&[TOOL, "write", "/tmp/public"]).await?.exit_code == 0);
    ensure!(scene.has_file("/tmp/public"), "other arguments are as they were learned");
    scene.run(&[TOOL, "write", "/tmp/secret1"]).await.ok();
    scene.run(&["/bin/sh", "-c", &format!("{TOOL} write /tmp/by-shell; true")]).await?;
    for argument in ["/tmp/secret1", "/tmp/by-shell"] {
        scene.api.wait_for("/v1/log/incident", SOON, |answer| stopped(answer, argument)).await?;
        ensure!(!scene.has_file(argument), "{argument} was written");
    }
    scene.stop().await
}
