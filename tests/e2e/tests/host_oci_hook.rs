//! The OCI hook: containers whose runtime calls it do not start before they are under their policy.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{ContainerSpec, Pod, PodSpec};
use nv_scene::{CLIENT_IMAGE, NAMESPACE, Scene, UNLISTED};
use rustix::process::{Pid, Signal, kill_process};

/// How long the enforcer stands still; the hook waits for it longer than that.
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_hook_a_container_waits_for_its_policy_and_does_not_start_without_the_enforcer() -> Result<()>
{
    let mut scene = Scene::start("hook").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;

    let waited = start_while_still(&scene, &intruder("bbbbb").hooked()).await?;
    ensure!(!ran(&waited), "it ran before the enforcer had placed it");
    // That is what the hook is for: nobody waits for an enforcer that stands still.
    let hasty = start_while_still(&scene, &intruder("ccccc")).await?;
    ensure!(ran(&hasty), "without the hook nothing is waited for");

    scene.product.stop().await?;
    let refused = scene.lab.run_pod(&intruder("ddddd").hooked()).await;
    let reason = match refused {
        Ok(_) => String::new(),
        Err(error) => format!("{:#}", anyhow::Error::from(error)),
    };
    ensure!(reason.contains("the enforcer has not placed the container"), "it started: {reason:?}");

    scene.product.launch()?;
    scene.product.wait_ready().await?;
    // The REST API is ready a moment before the enforcer is.
    let end = Instant::now() + Duration::from_secs(30);
    let again = loop {
        match scene.lab.run_pod(&intruder("fffff").hooked()).await {
            Err(error) if Instant::now() > end => return Err(error).context("the enforcer is back"),
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(500)).await,
            Ok(pod) => break pod,
        }
    };
    ensure!(!ran(&again));
    scene.stop().await
}
