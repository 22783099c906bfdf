//! The OCI hook: containers whose runtime calls it do not start before they are under their policy.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_scene::{Scene, intruder, intruder_ran};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_hook_a_container_waits_for_its_policy_and_does_not_start_without_the_enforcer() -> Result<()>
{
    let mut scene = Scene::start("hook").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;

    let waited = scene.start_while_still(&intruder("bbbbb").hooked()).await?;
    ensure!(!intruder_ran(&waited), "it ran before the enforcer had placed it");
    // That is what the hook is for: nobody waits for an enforcer that stands still.
    let hasty = scene.start_while_still(&intruder("ccccc")).await?;
    ensure!(intruder_ran(&hasty), "without the hook nothing is waited for");

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
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(pod) => break pod,
        }
    };
    ensure!(!intruder_ran(&again));
    scene.stop().await
}
