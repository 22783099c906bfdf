//! The promised numbers of the spine (docs/SPEC.md), on the real product and real pods. Each line says what was promised
//! and what was measured; a promise that does not hold ends the run with an error.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nv_lab::{ContainerSpec, Image, Lab, LabOptions, Pod, PodSpec};
use nv_scene::Scene;
use serde_json::Value;
use tokio::process::Command;

/// Denied programs of the first bench.
const DENIED: usize = 10_000;
/// Interleaved pairs of the throughput bench, and seconds of each run.
const PAIRS: usize = 7;
const SECONDS: u64 = 3;
/// Switches of the mode.
const SWITCHES: usize = 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match Box::pin(run()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // Nobody reads where standard output is closed.
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// One promise.
struct Line {
    what: &'static str,
    promised: &'static str,
    measured: String,
    holds: bool,
}

async fn run() -> Result<bool> {
    let scene = Scene::start_with("bench", nv_product::binary()?).await?;
    let lines = measure(&scene).await;
    let ended = scene.stop().await;
    let lines = lines?;
    ended?;
    say(&format!("{:<52} {:<24} measured", "what", "promised"));
    for line in &lines {
        let sign = if line.holds { "" } else { "  BROKEN" };
        say(&format!("{:<52} {:<24} {}{sign}", line.what, line.promised, line.measured));
    }
    Ok(lines.iter().all(|line| line.holds))
}

async fn measure(scene: &Scene) -> Result<Vec<Line>> {
    scene.operate().await?;
    scene.wait_learned().await?;
    let mut lines = memory(scene).await?;
    lines.push(throughput(scene).await?);
    scene.set_mode("Protect").await?;
    lines.push(denied(scene).await?);
    lines.push(latency(scene).await?);
    lines.extend(switch(scene).await?);
    Ok(lines)
}

/// Programs that are not allowed run no instruction: none of the files that they make first of all is there.
async fn denied(scene: &Scene) -> Result<Line> {
    let script = format!(
        "mkdir -p /tmp/proof; cp /bin/attacker /tmp/denied; i=0; while [ $i -lt {DENIED} ]; do /tmp/denied write /tmp/proof/$i; i=$((i+1)); done"
    );
    drop(scene.run(&["/bin/sh", "-c", &script]).await);
    let folder = format!("/proc/{}/root/tmp/proof", scene.client.container().pid);
    let ran = std::fs::read_dir(&folder).context("the folder for proofs")?.count();
    let (told, _) = scene
        .api
        // Repeats are folded for a minute before they are told.
        .wait_for("/v1/log/incident", Duration::from_secs(150), |answer| {
            let list = answer.get("incidents")?.as_array()?;
            let told: u64 = list
                .iter()
                .filter(|record| record.get("proc_path").and_then(Value::as_str) == Some("/tmp/denied"))
                .map(|record| record.get("count").and_then(Value::as_u64).unwrap_or(1).max(1))
                .sum();
            (told >= DENIED as u64).then_some(told)
        })
        .await
        .context("not every denied program was told")?;
    Ok(Line {
        what: "denied programs that run an instruction",
        promised: "0 of 10,000",
        measured: format!("{ran} of {DENIED}, {told} of them told"),
        holds: ran == 0,
    })
}

/// From the deed to the event in the REST API.
async fn latency(scene: &Scene) -> Result<Line> {
    let mut taken = Vec::new();
    for number in 0..9 {
        let path = format!("/tmp/late{number}");
        let script = format!("cp /bin/attacker {path}; exec {path} write /tmp/x");
        let begin = Instant::now();
        let deed = async {
            drop(scene.run(&["/bin/sh", "-c", &script]).await);
        };
        let seen =
            scene.api.wait_for("/v1/log/incident?start=0&limit=20", Duration::from_secs(10), |answer| {
                let list = answer.get("incidents")?.as_array()?;
                list.iter()
                    .any(|record| record.get("proc_path").and_then(Value::as_str) == Some(path.as_str()))
                    .then(|| begin.elapsed())
            });
        let ((), seen) = tokio::join!(deed, seen);
        taken.push(seen?.0);
    }
    taken.sort_unstable();
    let median = taken.get(taken.len() / 2).copied().unwrap_or_default();
    let worst = taken.last().copied().unwrap_or_default();
    Ok(Line {
        what: "start of an attack -> its event in the REST API",
        promised: "< 1 s",
        measured: format!("median {} ms, worst {} ms", median.as_millis(), worst.as_millis()),
        holds: worst < Duration::from_secs(1),
    })
}

/// Discover → Protect and back, while an allowed connection talks.
async fn switch(scene: &Scene) -> Result<Vec<Line>> {
    let echo = format!("{}:7", scene.echo_address()?);
    let lines = "4000";
    let words = ["/bin/attacker", "talk", &echo, lines];
    let talk = scene.run(&words);
    let toggle = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for number in 0..SWITCHES {
            let mode = if number % 2 == 0 { "Discover" } else { "Protect" };
            scene.api.set_modes(&["web.shop", "echo.shop", "client.shop"], mode).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        Ok::<(), anyhow::Error>(())
    };
    let (talked, toggled) = tokio::join!(talk, toggle);
    toggled?;
    let talked = talked?;
    let log = std::fs::read_to_string(scene.product.log_path())?;
    let mut micros: Vec<u64> = log
        .lines()
        .filter(|line| line.contains("policy enforced"))
        .filter_map(|line| line.split("micros=").nth(1)?.split_whitespace().next()?.parse().ok())
        .collect();
    ensure!(!micros.is_empty(), "the log names no enforced policy");
    let last = micros.split_off(micros.len().saturating_sub(SWITCHES));
    let worst = last.iter().copied().max().unwrap_or(0);
    let mut sorted = last;
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    Ok(vec![
        Line {
            what: "Discover <-> Protect, first to last map write",
            promised: "< 10 ms",
            measured: format!(
                "median {:.1} ms, worst {:.1} ms of {SWITCHES}",
                median as f64 / 1e3,
                worst as f64 / 1e3
            ),
            holds: worst < 10_000,
        },
        Line {
            what: "lines lost by an allowed connection meanwhile",
            promised: "0",
            measured: format!("exit code {} of {lines} lines{}", talked.exit_code, talked.stderr),
            holds: talked.exit_code == 0,
        },
    ])
}

/// Resident memory of the product's processes, idle, and of an enforcer alone.
async fn memory(scene: &Scene) -> Result<Vec<Line>> {
    let pid = scene.product.pid().context("the product does not run")?;
    let keeper = nv_product::descendants(pid).into_iter().map(resident).sum::<u64>();
    let whole = resident(pid) + keeper;
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;

    // An enforcer by itself waits for a controller; its tables and readers are there all the same.
    let folder = format!("/var/tmp/nv-bench-enforcer-{}", std::process::id());
    let bpf = format!("/sys/fs/bpf/nv-bench-enforcer-{}", std::process::id());
    let mut child = Command::new(nv_product::binary()?.with_file_name("enforcer"))
        .args(["run", "--state-dir", &folder, "--bpf-dir", &bpf, "--log", "error", "--containerd-socket"])
        .arg(scene.lab.socket())
        .kill_on_drop(true)
        .spawn()
        .context("the enforcer")?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let alone = child
        .id()
        .map_or(0, |pid| resident(pid) + nv_product::descendants(pid).into_iter().map(resident).sum::<u64>());
    child.kill().await?;
    std::fs::remove_dir_all(&bpf)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(vec![
        Line {
            what: "resident memory, all-in-one with its keeper",
            promised: "<= 300 MiB",
            measured: format!("{:.0} MiB, {:.0} MiB of it the keeper", mib(whole), mib(keeper)),
            holds: whole <= 300 * 1024 * 1024,
        },
        Line {
            what: "resident memory, enforcer alone with its keeper",
            promised: "<= 60 MiB",
            measured: format!("{:.0} MiB", mib(alone)),
            holds: alone > 0 && alone <= 60 * 1024 * 1024,
        },
    ])
}

fn resident(pid: u32) -> u64 {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// One TCP stream between two pods in Protect, against two pods that nothing watches, in interleaved pairs.
async fn throughput(scene: &Scene) -> Result<Line> {
    // The same kernel, bridge and veths, without the product's programs.
    let bare = Lab::start(LabOptions::fresh()?).await?;
    let outcome = pairs(scene, &bare).await;
    bare.stop().await?;
    outcome
}

async fn pairs(scene: &Scene, bare: &Lab) -> Result<Line> {
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
    stream(&scene.client, &scene.web, 1).await?;
    scene
        .api
        .wait_for("/v1/policy/rule", Duration::from_secs(30), |answer| {
            answer.to_string().contains("5201").then_some(())
        })
        .await?;
    scene.set_mode("Protect").await?;
    let (mut ratios, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let base = stream(&one, &two, SECONDS).await?;
        let watched = stream(&scene.client, &scene.web, SECONDS).await?;
        ratios.push(watched.bytes / base.bytes);
        costs.push((watched.cpu / watched.bytes) / (base.cpu / base.bytes));
    }
    scene.set_mode("Discover").await?;
    let (ratio, spread) = median(&mut ratios);
    let (cost, _) = median(&mut costs);
    Ok(Line {
        what: "TCP throughput of a pod in Protect / unprotected",
        promised: ">= 0.95, or <= 1.05 CPU",
        measured: format!("{ratio:.3} (pairs scatter by {spread:.2}), CPU per byte {cost:.3}"),
        holds: ratio >= 0.95 || (spread > 0.05 && cost <= 1.05),
    })
}

/// Median, and the distance between the largest and the smallest.
fn median(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    (at(values.len() / 2), at(values.len().saturating_sub(1)) - at(0))
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

async fn stream(from: &Pod, to: &Pod, seconds: u64) -> Result<Moved> {
    let address = to.ipv4().context("a pod without address")?.to_string();
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
