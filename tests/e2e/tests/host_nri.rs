//! NRI: a runtime that asks the enforcer before it starts a container waits until that is under its policy.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{ContainerSpec, Pod, PodSpec};
use nv_scene::{CLIENT_GROUP, CLIENT_IMAGE, NAMESPACE, Scene, UNLISTED};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long the enforcer stands still; the lab's containerd waits for its plug-in longer than that.
const STILL: Duration = Duration::from_secs(3);

/// A pod of the client's service that runs what is not in its profile as soon as it starts.
fn intruder(suffix: &str) -> PodSpec {
    let script = format!("{UNLISTED} write /tmp/ran; exec sleep 100000");
    PodSpec::new(&format!("client-5f6d8b7c9-{suffix}"), NAMESPACE).container(ContainerSpec::new(
        "main",
        CLIENT_IMAGE,
        &["/bin/sh", "-c", &script],
    ))
}

fn ran(pod: &Pod) -> bool {
    PathBuf::from(format!("/proc/{}/root/tmp/ran", pod.container().pid)).exists()
}

/// Starts a pod while the product stands still for some seconds.
async fn start_while_still(scene: &Scene, spec: &PodSpec) -> Result<Pod> {
    let product = scene.product.pid().context("no product")?;
    let product = Pid::from_raw(product.cast_signed()).context("no process")?;
    kill_process(product, Signal::STOP)?;
    let goes_on = async {
        tokio::time::sleep(STILL).await;
        kill_process(product, Signal::CONT)
    };
    let (pod, gone_on) = tokio::join!(scene.lab.run_pod(spec), goes_on);
    gone_on?;
    // What it runs first has been decided about by now, and has written its file if it could.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(pod?)
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nri_a_pod_waits_for_its_policy_and_starts_without_an_enforcer_that_is_gone() -> Result<()> {
    let mut scene = Scene::start_with_nri("nri").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;

    let waited = start_while_still(&scene, &intruder("bbbbb")).await?;
    ensure!(!ran(&waited), "it ran before the enforcer had placed it");
    incident_of(&scene, &waited).await?;

    // NRI is no condition for starting: a runtime that has nobody to ask goes on, and the kernel judges by what it holds.
    scene.product.stop().await?;
    scene.lab.run_pod(&intruder("ccccc")).await.context("nobody answers, it starts all the same")?;

    scene.product.launch()?;
    scene.product.wait_ready().await?;
    scene.lab.restart_containerd().await?;
    // The plug-in comes back to a runtime that was away, within its longest pause.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let again = start_while_still(&scene, &intruder("ddddd")).await?;
    ensure!(!ran(&again), "the enforcer was not asked after containerd's restart");
    scene.stop().await
}
