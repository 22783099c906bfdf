//! A pod that does at once what its profile does not allow, and an enforcer that stands still meanwhile.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nv_lab::{ContainerSpec, Pod, PodSpec};
use rustix::process::{Pid, Signal, kill_process};

use crate::{CLIENT_IMAGE, NAMESPACE, Scene, UNLISTED};

/// How long the enforcer stands still; whoever waits for it in a test waits longer than that.
const STILL: Duration = Duration::from_secs(3);

/// A pod of the client's service that runs what is not in its profile as soon as it starts; five characters tell one from
/// another.
#[must_use]
pub fn intruder(suffix: &str) -> PodSpec {
    let script = format!("{UNLISTED} write /tmp/ran; exec sleep 100000");
    PodSpec::new(&format!("client-5f6d8b7c9-{suffix}"), NAMESPACE).container(ContainerSpec::new(
        "main",
        CLIENT_IMAGE,
        &["/bin/sh", "-c", &script],
    ))
}

/// Whether an intruder's forbidden program ran.
#[must_use]
pub fn intruder_ran(pod: &Pod) -> bool {
    Path::new(&format!("/proc/{}/root/tmp/ran", pod.container().pid)).exists()
}

impl Scene {
    /// Starts a pod while the product stands still for three seconds, and comes back a second after that.
    ///
    /// # Errors
    /// When the pod does not start, or there is no product.
    pub async fn start_while_still(&self, spec: &PodSpec) -> Result<Pod> {
        let product = self.product.pid().context("no product")?;
        let product = Pid::from_raw(product.cast_signed()).context("no process")?;
        kill_process(product, Signal::STOP)?;
        let goes_on = async {
            tokio::time::sleep(STILL).await;
            kill_process(product, Signal::CONT)
        };
        let (pod, gone_on) = tokio::join!(self.lab.run_pod(spec), goes_on);
        gone_on?;
        // What it runs first has been decided about by now, and has written its file if it could.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(pod?)
    }
}
