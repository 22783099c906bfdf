//! The first moments of new pods.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::join_all;
use nv_scene::{Counted, Load, Scene, client_pod};

use crate::Line;

/// Pods whose first program dials out, how many start at one time, and for how many milliseconds each dials.
const STARTS: usize = 1_000;
const AT_ONCE: usize = 8;
const DIALS_FOR: &str = "300";

/// New pods whose first program dials out at once, against the rules, while every CPU is busy: what comes of it to the
/// other end. A few in Monitor show that it would come.
pub(crate) async fn measure(scene: &Scene) -> Result<Line> {
    let target = format!("{}:82", scene.web_address()?);
    scene.set_mode("Monitor").await?;
    let before = Counted::of(&scene.web)?.received;
    let reached = dialling(scene, &target, 0..AT_ONCE).await?;
    let control = Counted::of(&scene.web)?.received - before;
    ensure!(control >= reached as u64, "{control} packets came of {reached} pods that nothing stops");
    scene.set_mode("Protect").await?;

    let before = Counted::of(&scene.web)?.received;
    let (mut started, mut number) = (0, AT_ONCE);
    let load = Load::new();
    while started < STARTS {
        ensure!(number < 3 * STARTS, "{started} of {number} pods came as far as their first program");
        let count = AT_ONCE.min(STARTS - started);
        started += dialling(scene, &target, number..number + count).await?;
        number += count;
    }
    drop(load);
    let came = Counted::of(&scene.web)?.received - before;
    Ok(Line {
        what: "packets of new pods that dial out at once",
        promised: "0 in 1,000 starts",
        measured: format!(
            "{came} in {started} starts, {AT_ONCE} at a time on busy CPUs; {control} of {reached} in Monitor"
        ),
        holds: came == 0,
    })
}

/// Starts pods at one time whose first program dials out, and removes them after it. How many there were: on a busy
/// machine the runtime itself may fail to start one.
async fn dialling(scene: &Scene, target: &str, numbers: std::ops::Range<usize>) -> Result<usize> {
    let pods = numbers.map(|number| async move {
        let spec = client_pod(number, &["/bin/attacker", "dial", target, DIALS_FOR]);
        let pod = scene.lab.run_pod(&spec).await.ok()?;
        tokio::time::sleep(Duration::from_millis(400)).await;
        Some(pod)
    });
    let pods: Vec<_> = join_all(pods).await.into_iter().flatten().collect();
    // One that the runtime fails to remove goes with the lab.
    drop(join_all(pods.iter().map(|pod| scene.lab.remove_pod(pod))).await);
    Ok(pods.len())
}
