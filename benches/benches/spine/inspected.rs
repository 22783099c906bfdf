//! What a pod in Protect moves whose packets all wait for inspection: one HTTP answer, which is read to its end, against
//! the same between two pods that nothing watches.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{ContainerSpec, Image, Lab, LabOptions, Pod, PodSpec};
use nv_scene::Scene;

use crate::Line;
use crate::throughput::{Family, in_network, median};

/// Interleaved pairs, and bytes of each answer.
const PAIRS: usize = 5;
const BYTES: u64 = 512 << 20;
const PORT: &str = "8099";

pub(crate) async fn measure(scene: &Scene) -> Result<Vec<Line>> {
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
    let folder = tempfile::tempdir()?;
    // A file without blocks: what is measured is the way, not a disk.
    std::fs::File::create(folder.path().join("answer"))?.set_len(BYTES)?;
    let www = folder.path().display().to_string();
    let serve = |pod: &Pod| {
        let words = ["busybox", "httpd", "-f", "-p", PORT, "-h", &www];
        in_network(pod, &words).kill_on_drop(true).spawn().context("busybox httpd")
    };
    let _servers = (serve(&two)?, serve(&scene.web)?);
    tokio::time::sleep(Duration::from_millis(500)).await;
    fetch(&scene.client, (&scene.web, Pod::ipv4)).await?;
    scene
        .api
        .wait_for("/v1/policy/rule", Duration::from_secs(30), |answer| {
            answer.to_string().contains(PORT).then_some(())
        })
        .await?;
    scene.set_mode("Protect").await?;
    let families: [(&str, Family); 2] = [
        ("HTTP over IPv4 of which each packet waits / unprotected", Pod::ipv4),
        ("HTTP over IPv6 of which each packet waits / unprotected", Pod::ipv6),
    ];
    let mut lines = Vec::new();
    for (what, family) in families {
        let (mut ratios, mut speeds) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let base = || fetch(&one, (&two, family));
            let watched = || fetch(&scene.client, (&scene.web, family));
            let (base, watched) = if pair % 2 == 0 {
                let base = base().await?;
                (base, watched().await?)
            } else {
                let watched = watched().await?;
                (base().await?, watched)
            };
            ratios.push(base.as_secs_f64() / watched.as_secs_f64());
            speeds.push(BYTES as f64 * 8.0 / 1e9 / watched.as_secs_f64());
        }
        let ((ratio, spread), (speed, _)) = (median(&mut ratios), median(&mut speeds));
        lines.push(Line {
            what,
            promised: ">= 0.1",
            measured: format!("{ratio:.3} (pairs scatter by {spread:.2}), {speed:.2} Gb/s"),
            holds: ratio >= 0.1,
        });
    }
    scene.set_mode("Discover").await?;
    Ok(lines)
}

async fn fetch(from: &Pod, (to, family): (&Pod, Family)) -> Result<Duration> {
    let address = family(to).context("a pod without address")?;
    let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
    let url = format!("http://{host}:{PORT}/answer");
    let begin = Instant::now();
    let output = in_network(from, &["busybox", "wget", "-q", "-O", "/dev/null", &url]).output().await?;
    ensure!(output.status.success(), "{url} is not answered");
    Ok(begin.elapsed())
}
