//! Scripts: their own files are judged beside their interpreters, also where the kernel's programs see the interpreters alone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::{CLIENT_GROUP, Scene, TOOL};
use serde_json::{Value, json};

/// How soon a deed must be in the REST API.
const SOON: Duration = Duration::from_secs(5);

fn stopped(answer: &Value, path: &str) -> Option<()> {
    let list = answer.get("incidents")?.as_array()?;
    let meant = |one: &Value| {
        one.get("proc_path").is_some_and(|told| told == path)
            && one.get("action").is_some_and(|action| action == "deny")
    };
    list.iter().any(meant).then_some(())
}

async fn denied_path_and_new_script(scene: Scene) -> Result<()> {
    scene.operate().await?;
    scene.wait_learned_programs().await?;
    // Scripts whose interpreter is listed, and one that is in nobody's profile.
    let make = format!(
        "for name in listed denied; do printf '#!{TOOL} write\\n' > /srv/$name; chmod 755 /srv/$name; done; \
         /srv/listed; grep -q : /srv/listed && printf '#!{TOOL} write\\n' > /srv/listed"
    );
    for command in ["/bin/chmod --help", "/bin/grep --help", &make] {
        scene.run(&["/bin/sh", "-c", command]).await?;
    }
    let change = json!({"process_profile_config": {"group": CLIENT_GROUP, "process_change_list": [
        {"name": "denied", "path": "/srv/denied", "action": "deny"},
    ]}});
    scene.api.patch(&format!("/v1/process_profile/{CLIENT_GROUP}"), &change).await?;
    let body =
        |baseline: &str| json!({"config": {"services": ["client.shop"], "baseline_profile": baseline}});
    scene.api.patch("/v1/service/config", &body("basic")).await?;
    scene.set_mode("Protect").await?;
    // The interpreter writes into the script itself.
    let touched = |path: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/root{path}", scene.client.container().pid));
        text.is_ok_and(|text| !text.starts_with("#!"))
    };
    let refused = scene.run(&["/srv/denied"]).await;
    ensure!(!touched("/srv/denied"), "a denied script ran: {refused:?}");
    scene
        .api
        .wait_for("/v1/log/incident", SOON, |answer| stopped(answer, "/srv/denied"))
        .await
        .context("not told")?;
    let allowed = scene.run(&["/srv/listed"]).await?;
    ensure!(touched("/srv/listed"), "another script of the same interpreter does not run: {allowed:?}");

    // What is not from the image is no program under zero-drift, and no script either.
    scene.run(&["/bin/sh", "-c", &format!("printf '#!{TOOL} write\\n' > /srv/listed")]).await?;
    scene.api.patch("/v1/service/config", &body("zero-drift")).await?;
    scene.api.wait_enforced().await?;
    drop(scene.run(&["/srv/listed"]).await);
    ensure!(!touched("/srv/listed"), "a script that is not from the image ran");
    scene
        .api
        .wait_for("/v1/log/incident", SOON, |answer| stopped(answer, "/srv/listed"))
        .await
        .context("not told")?;
    scene.operate().await.context("learned operation is stopped")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_script_does_not_run_and_a_foreign_one_neither_under_zero_drift() -> Result<()> {
    Box::pin(denied_path_and_new_script(Scene::start("scripts").await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_without_bpf() -> Result<()> {
    Box::pin(denied_path_and_new_script(Scene::start_on_tier("scripts-no-bpf", 4).await?)).await
}
