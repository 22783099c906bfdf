//! What a protected pod moves, against one that nothing watches.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nv_lab::{ContainerSpec, Image, Lab, LabOptions, Pod, PodSpec};
use nv_scene::Scene;
use serde_json::Value;
use tokio::process::Command;

use crate::Line;

/// Interleaved pairs of the throughput bench, and seconds of each run. Single pairs scatter by a third on a virtual machine: many
/// short ones tell the median to some hundredths, of seven the next run says another tenth.
const PAIRS: usize = 41;
const SECONDS: u64 = 1;

/// One TCP stream between two pods in Protect, against two pods that nothing watches, in interleaved pairs.
pub(crate) async fn measure(scene: &Scene) -> Result<Vec<Line>> {
    // The same kernel, bridge and veths, without the product's programs.
    let bare = Lab::start(LabOptions::fresh()?).await?;
    let outcome = pairs(scene, &bare).await;
    bare.stop().await?;
    outcome
}

async fn pairs(scene: &Scene, bare: &Lab) -> Result<Vec<Line>> {
    let image = Image::busybox("docker.io/scene/bare:1")?.command(&["/bin/sleep", "1000000"]);
    bare.import(&image).await?;
    let pod = |name: &'static str| {
        let spec =
            PodSpec::new(name, "bare").container(ContainerSpec::new("main", "docker.io/scene/bare:1", &[]));
        async move { bare.run_pod(&spec).await }
    };
    let (one, two) = (pod("one").await?, pod("two").await?);
    let _bare_server = Server::start(&two)?;
    let _server = Server::start(&scene.web)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    // Learned, then protected.
    stream(&scene.client, (&scene.web, Pod::ipv4), 1).await?;
    scene
        .api
        .wait_for("/v1/policy/rule", Duration::from_secs(30), |answer| {
            answer.to_string().contains("5201").then_some(())
        })
        .await?;
    scene.set_mode("Protect").await?;
    let mut lines = Vec::new();
    let families: [(&str, Family); 2] = [
        ("TCP over IPv4 of a pod in Protect / unprotected", Pod::ipv4),
        ("TCP over IPv6 of a pod in Protect / unprotected", Pod::ipv6),
    ];
    for (what, family) in families {
        let (mut ratios, mut costs) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let base = || stream(&one, (&two, family), SECONDS);
            let watched = || stream(&scene.client, (&scene.web, family), SECONDS);
            // Each comes first in every other pair, so that a slow change of the machine's load evens out.
            let (base, watched) = if pair % 2 == 0 {
                let base = base().await?;
                (base, watched().await?)
            } else {
                let watched = watched().await?;
                (base().await?, watched)
            };
            ratios.push(watched.bytes / base.bytes);
            costs.push((watched.cpu / watched.bytes) / (base.cpu / base.bytes));
        }
        let (ratio, spread) = median(&mut ratios);
        let (cost, _) = median(&mut costs);
        lines.push(Line {
            what,
            promised: ">= 0.95, or <= 1.05 CPU",
            measured: format!("{ratio:.3} (half of the pairs within {spread:.2}), CPU per byte {cost:.3}"),
            holds: ratio >= 0.95 || (spread > 0.05 && cost <= 1.05),
        });
    }
    scene.set_mode("Discover").await?;
    Ok(lines)
}

/// Which of a pod's addresses.
type Family = fn(&Pod) -> Option<IpAddr>;

/// Median, and the distance between the quartiles.
fn median(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    (at(values.len() / 2), at(values.len() * 3 / 4) - at(values.len() / 4))
}

/// An iperf3 server in a pod's network.
struct Server {
    _child: tokio::process::Child,
}

impl Server {
    fn start(pod: &Pod) -> Result<Self> {
        let child = in_network(pod, &["iperf3", "-s"]).kill_on_drop(true).spawn().context("iperf3")?;
        Ok(Self { _child: child })
    }
}

fn in_network(pod: &Pod, words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/proc/{}/ns/net", pod.sandbox.pid))
        .args(words)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    command
}

struct Moved {
    bytes: f64,
    cpu: f64,
}

async fn stream(from: &Pod, (to, family): (&Pod, Family), seconds: u64) -> Result<Moved> {
    let address = family(to).context("a pod without address")?.to_string();
    let before = busy()?;
    let seconds = seconds.to_string();
    let output = in_network(from, &["iperf3", "-J", "-c", &address, "-t", &seconds]).output().await?;
    let cpu = busy()? - before;
    let answer: Value = serde_json::from_slice(&output.stdout).context("iperf3's answer")?;
    let Some(bytes) = answer.pointer("/end/sum_received/bytes").and_then(Value::as_f64) else {
        bail!("iperf3 to {address}: {}", answer.get("error").unwrap_or(&answer));
    };
    Ok(Moved { bytes, cpu })
}

/// Seconds that the machine's CPUs were busy.
fn busy() -> Result<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc/stat"))?;
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let idle: f64 = fields.iter().skip(3).take(2).sum();
    Ok((fields.iter().sum::<f64>() - idle) / 100.0)
}
