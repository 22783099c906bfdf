//! The promised numbers of the spine (docs/SPEC.md), on the real product and real pods. Each line says what was promised
//! and what was measured; a promise that does not hold ends the run with an error. Arguments choose some of them:
//! `memory`, `throughput`, `records`, `programs`, `modes`, `newcomers`.

mod modes;
mod newcomers;
mod records;
mod throughput;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nv_benches::{resident, resident_alone};
use nv_scene::Scene;
use serde_json::Value;
use tokio::process::Command;

/// Denied programs of the first bench.
const DENIED: usize = 10_000;
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
    // cargo adds an argument of its own.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_chosen = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);
    scene.operate().await?;
    scene.wait_learned().await?;
    let mut lines = Vec::new();
    if is_chosen("memory") {
        lines.extend(memory(scene).await?);
    }
    if is_chosen("throughput") {
        lines.extend(throughput::measure(scene).await?);
    }
    if is_chosen("records") {
        lines.extend(records::measure(scene).await?);
    }
    scene.set_mode("Protect").await?;
    if is_chosen("programs") {
        lines.push(denied(scene).await?);
        lines.push(latency(scene).await?);
    }
    if is_chosen("modes") {
        lines.extend(modes::measure(scene).await?);
    }
    if is_chosen("newcomers") {
        lines.push(newcomers::measure(scene).await?);
    }
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

/// Resident memory of the product's processes, idle, and of an enforcer alone.
async fn memory(scene: &Scene) -> Result<Vec<Line>> {
    let pid = scene.product.pid().context("the product does not run")?;
    let whole = resident(pid);
    let others = whole.saturating_sub(resident_alone(pid));
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
    let alone = child.id().map_or(0, resident);
    child.kill().await?;
    std::fs::remove_dir_all(&bpf)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(vec![
        Line {
            what: "resident memory, all-in-one with its processes",
            promised: "<= 300 MiB",
            measured: format!(
                "{:.0} MiB, {:.0} MiB of it keeper, inspector and launcher",
                mib(whole),
                mib(others)
            ),
            holds: whole <= 300 * 1024 * 1024,
        },
        Line {
            what: "resident memory, enforcer alone with its processes",
            promised: "<= 60 MiB",
            measured: format!("{:.0} MiB", mib(alone)),
            holds: alone > 0 && alone <= 60 * 1024 * 1024,
        },
    ])
}
