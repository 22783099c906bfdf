//! Under the zero-drift baseline a program of the image runs for the container's family alone: its first process, what its
//! runtime sends in, and what descends from these.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::{CLIENT_GROUP, Scene, TOOL, UNLISTED};
use serde_json::{Value, json};
use tokio::process::Command;

/// How soon an incident must be in the REST API.
const SOON: Duration = Duration::from_secs(5);
/// Rule id of what is not from the container's root process.
const NOT_OF_FAMILY: &str = "00000000-0000-0000-0000-000000000007";

/// Runs a program of the client's image as somebody on the machine does who goes past the runtime: in the container's
/// cgroup and mounts.
async fn intrude(scene: &Scene, program: &str, file: &str) -> Result<()> {
    let container = scene.client.container();
    let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].into_iter().map(PathBuf::from);
    let tree = tree.into_iter().find(|root| root.join("cgroup.controllers").exists());
    let cgroup = tree.context("no cgroup v2 tree")?.join(container.cgroup.trim_start_matches('/'));
    let script = format!(
        "echo $$ > {}/cgroup.procs && exec nsenter --target {} --mount {program} write {file}",
        cgroup.display(),
        container.pid
    );
    Command::new("/bin/sh").args(["-c", &script]).status().await?;
    Ok(())
}

/// The runtime sends in what it likes of the image; whoever goes past it, nothing.
async fn holds(scene: &Scene, round: &str) -> Result<()> {
    let own = format!("/tmp/runtime-{round}");
    let sent = scene.lab.exec(scene.client.container(), &[UNLISTED, "write", &own]).await?;
    ensure!(sent.exit_code == 0 && scene.has_file(&own), "{round}: the runtime's own is stopped: {sent:?}");
    // A child of what is allowed runs the image's programs as well, and no other.
    let (child, foreign) = (format!("/tmp/child-{round}"), format!("/tmp/foreign-{round}"));
    let script = format!(
        "{UNLISTED} write {child}; cp {UNLISTED} /tmp/copy-{round}; /tmp/copy-{round} write {foreign}"
    );
    scene.lab.exec(scene.client.container(), &["/bin/sh", "-c", &script]).await?;
    ensure!(scene.has_file(&child), "{round}: a child of the runtime's own is stopped");
    ensure!(scene.has_file(&format!("/tmp/copy-{round}")), "{round}: nothing was copied");
    ensure!(!scene.has_file(&foreign), "{round}: a child that is not from the image runs");
    for program in [UNLISTED, TOOL] {
        let file = format!("/tmp/intruder-{round}");
        intrude(scene, program, &file).await?;
        ensure!(!scene.has_file(&file), "{round}: {program} runs for a stranger");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_the_runtime_no_program_of_the_image_runs_but_what_somebody_has_allowed() -> Result<()> {
    Box::pin(family(Scene::start("family").await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_bpf_the_family_is_the_same() -> Result<()> {
    Box::pin(family(Scene::start_on_tier("family-no-bpf", 4).await?)).await
}

async fn family(mut scene: Scene) -> Result<()> {
    scene.operate().await?;
    scene.wait_learned().await?;
    let body = json!({"config": {"services": ["client.shop"], "baseline_profile": "zero-drift"}});
    scene.api.patch("/v1/service/config", &body).await?;
    scene.set_mode("Protect").await?;
    holds(&scene, "new").await?;
    let told = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        let text = |record: &Value, key: &str| record.get(key).and_then(Value::as_str).map(str::to_owned);
        list.iter()
            .filter(|record| text(record, "rule_id").as_deref() == Some(NOT_OF_FAMILY))
            // What brings the programs in is a stranger in the cgroup as well.
            .find(|record| {
                [UNLISTED, TOOL].contains(&text(record, "proc_path").as_deref().unwrap_or_default())
            })
            .map(|record| (text(record, "name"), text(record, "action")))
    };
    let (found, _) =
        scene.api.wait_for("/v1/log/incident", SOON, told).await.context("no incident names the family")?;
    let of = |text: &str| Some(text.to_owned());
    ensure!(found.0 == of("Process.Profile.Violation") && found.1 == of("deny"), "{found:?}");

    // Containers that ran before the programs did: what has started them is told.
    scene.product.stop().await?;
    scene.product.remove_kernel_state()?;
    scene.product.restart().await?;
    scene.api = scene.product.login(nv_scene::PASSWORD).await?;
    // The kernel's programs are in place when the enforcer is linked, and containers' rows a moment later.
    scene.api.wait_linked().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    holds(&scene, "known").await?;

    let name = UNLISTED.rsplit('/').next().unwrap_or_default();
    let change = json!({"process_profile_config": {"group": CLIENT_GROUP, "process_change_list": [
        {"name": name, "path": UNLISTED, "action": "allow"},
    ]}});
    scene.api.patch(&format!("/v1/process_profile/{CLIENT_GROUP}"), &change).await?;
    scene.api.wait_enforced().await?;
    intrude(&scene, UNLISTED, "/tmp/allowed").await?;
    ensure!(scene.has_file("/tmp/allowed"), "what somebody has allowed does not run");
    scene.stop().await
}
