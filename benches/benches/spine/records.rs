//! Records of programs on their way from the kernel to the agent: none is lost uncounted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_probe::replay::{MAX_RECORDS, Recorded, Replay};
use nv_scene::Scene;
use serde_json::Value;

use crate::Line;

/// Records a second that the replay puts into the ring, and for how long.
const RATE: u64 = 20_000;
const SECONDS: u64 = 10;

/// Shells that start programs at one time, and how many each.
const SHELLS: u64 = 4;
const STARTS: u64 = 4_000;

/// What was counted on the node, by name.
type Counters = BTreeMap<String, u64>;

/// Replayed records, then as many real programs as the machine can start.
pub(crate) async fn measure(scene: &Scene) -> Result<Vec<Line>> {
    Ok(vec![replayed(scene).await?, started(scene).await?])
}

/// A recorded exec, put into the product's own ring: its agent reads, judges and folds each.
async fn replayed(scene: &Scene) -> Result<Line> {
    let cgroup = cgroup_of(scene.client.container().pid)?;
    let recorded = Recorded {
        pid: scene.client.container().pid,
        cgroup,
        // Of no rule: a record that nobody looks up any further would be no measure.
        profile: 0,
        path: "/bin/attacker",
        arguments: "attacker\0write\0--password=hidden\0/tmp/x\0",
    };
    let before = counters(scene).await?;
    let mut replay = Replay::new(&pins(scene)?, &recorded)?;
    let (begin, wanted) = (Instant::now(), RATE * SECONDS);
    let (mut put, mut kept) = (0_u64, 0_u64);
    while put < wanted {
        let due = u64::try_from(begin.elapsed().as_micros())? * RATE / 1_000_000;
        if due < put + u64::from(MAX_RECORDS) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        kept += u64::from(replay.put(MAX_RECORDS)?);
        put += u64::from(MAX_RECORDS);
    }
    let took = begin.elapsed();
    let after = settled(scene, &before).await?;
    let (read, lost) = balance(&before, &after);
    let rate = put as f64 / took.as_secs_f64();
    Ok(Line {
        what: "records through the ring, replayed",
        promised: ">= 20,000/s, all read",
        measured: format!(
            "{rate:.0}/s for {SECONDS} s: {kept} of {put} found room, {read} read, {lost} lost uncounted"
        ),
        // The pods of the scene make some of their own.
        holds: rate >= 0.99 * RATE as f64 && kept == put && read >= put && lost == 0,
    })
}

/// Programs as fast as the machine starts them.
async fn started(scene: &Scene) -> Result<Line> {
    let script = format!(
        "for shell in $(seq {SHELLS}); do ( i=0; while [ $i -lt {STARTS} ]; do /bin/attacker write /tmp/x; i=$((i+1)); done ) & done; wait"
    );
    let before = counters(scene).await?;
    let begin = Instant::now();
    let ended = scene.run(&["/bin/sh", "-c", &script]).await?;
    let took = begin.elapsed();
    ensure!(ended.exit_code == 0, "{}", ended.stderr);
    let after = settled(scene, &before).await?;
    let (wanted, since) = (SHELLS * STARTS, |name: &str| since(&before, &after, name));
    let judged: u64 = ["open", "learn", "allow", "violate", "deny"]
        .iter()
        .map(|verdict| since(&format!("process.{verdict}")))
        .sum();
    let (read, lost) = balance(&before, &after);
    let limited = since("process.limited_exec");
    Ok(Line {
        what: "programs started as fast as the machine can",
        promised: "0 lost uncounted",
        measured: format!(
            "{:.0}/s: {judged} judged of {wanted}; {read} records read, {limited} programs beyond the limit, {lost} lost uncounted",
            wanted as f64 / took.as_secs_f64()
        ),
        holds: judged >= wanted && lost == 0,
    })
}

/// Records that were read, and those that neither were nor are in a counter.
fn balance(before: &Counters, after: &Counters) -> (u64, u64) {
    let since = |name: &str| since(before, after, name);
    let dropped: u64 = ["exec", "fork", "exit", "file", "deed"]
        .iter()
        .map(|kind| since(&format!("process.dropped_{kind}")))
        .sum();
    let read = since("process.records_read");
    (read, since("process.records").abs_diff(read + dropped))
}

fn since(before: &Counters, after: &Counters, name: &str) -> u64 {
    let count = |counters: &Counters| counters.get(name).copied().unwrap_or(0);
    count(after).saturating_sub(count(before))
}

/// The counters when the ring has been emptied: twice the same, and nothing on its way. A node tells them every five seconds.
async fn settled(scene: &Scene, before: &Counters) -> Result<Counters> {
    let mut last = counters(scene).await?;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let now = counters(scene).await?;
        if last.get("process.records_read") == now.get("process.records_read") && balance(before, &now).1 == 0
        {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

async fn counters(scene: &Scene) -> Result<Counters> {
    let answer = scene.api.get("/v1/enforcer").await?;
    let id = answer.pointer("/enforcers/0/id").and_then(Value::as_str).context("no enforcer")?;
    let answer = scene.api.get(&format!("/v1/enforcer/{id}/counter")).await?;
    let counters = answer.pointer("/counter/counters").context("no counters")?;
    Ok(serde_json::from_value(counters.clone())?)
}

/// Where the product's programs are pinned: a folder a version.
fn pins(scene: &Scene) -> Result<PathBuf> {
    let versions = std::fs::read_dir(scene.product.bpf_dir())?;
    let mut versions = versions.flatten().map(|entry| entry.path());
    versions.find(|version| version.join("process").is_dir()).context("no programs are pinned")
}

/// Number of a process' cgroup (v2).
fn cgroup_of(pid: u32) -> Result<u64> {
    let listed = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = listed.lines().find_map(|line| line.strip_prefix("0::")).context("it is in no cgroup")?;
    let root = nv_probe::cgroup::unified_root()?;
    Ok(nv_probe::cgroup::id(&root.join(path.trim_start_matches('/')))?)
}
