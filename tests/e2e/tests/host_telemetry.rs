//! What an enforcer tells while more happens than it may use the processor for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_scene::Scene;
use serde_json::Value;

/// Shells that run programs at once, and how many programs each.
const SHELLS: u64 = 4;
const PROGRAMS: u64 = 1_500;
/// Denied programs, each by a path of its own, and how often each is tried.
const INTRUDERS: usize = 5;
const TRIES: u64 = 20;
/// Until the last record is read.
const SOON: Duration = Duration::from_secs(60);
/// Records that found the ring full, by what they are of.
const DROPPED: [&str; 5] = [
    "process.dropped_exec",
    "process.dropped_fork",
    "process.dropped_exit",
    "process.dropped_file",
    "process.dropped_deed",
];

/// What is asked of the front door.
struct Counted(Value);

impl Counted {
    async fn of(scene: &Scene) -> Result<Self> {
        let listed = scene.api.get("/v1/enforcer").await?;
        let id = listed.pointer("/enforcers/0/id").and_then(Value::as_str).context("no enforcer")?;
        let answer = scene.api.get(&format!("/v1/enforcer/{id}/counter")).await?;
        Ok(Self(answer.get("counter").cloned().context("no counter")?))
    }
    fn named(&self, name: &str) -> Result<u64> {
        let found = self.0.pointer(&format!("/counters/{name}")).and_then(Value::as_u64);
        found.with_context(|| format!("no counter {name}: {}", self.0))
    }
    fn number(&self, pointer: &str) -> Result<u64> {
        self.0.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer}: {}", self.0))
    }
    fn dropped(&self) -> Result<u64> {
        DROPPED.iter().map(|name| self.named(name)).sum()
    }
}

/// What the controller missed of the numbers that it was to get.
async fn missing(scene: &Scene) -> Result<u64> {
    let listed = scene.api.get("/v1/controller").await?;
    let id = listed.pointer("/controllers/0/id").and_then(Value::as_str).context("no controller")?;
    let answer = scene.api.get(&format!("/v1/controller/{id}/counter")).await?;
    answer.pointer("/counter/counters/missing").and_then(Value::as_u64).context("no count of what is missing")
}

/// How often each denied program was told of.
async fn told(scene: &Scene) -> Result<BTreeMap<String, u64>> {
    let answer = scene.api.get("/v1/log/incident?limit=1000").await?;
    let mut told = BTreeMap::new();
    for one in answer.get("incidents").and_then(Value::as_array).into_iter().flatten() {
        let path = one.get("proc_path").and_then(Value::as_str).unwrap_or_default();
        let count = one.get("count").and_then(Value::as_u64).unwrap_or(1);
        if path.starts_with("/tmp/intruder-")
            && one.get("name").is_some_and(|name| name == "Process.Profile.Violation")
        {
            *told.entry(path.to_owned()).or_default() += count;
        }
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_programs_every_record_is_told_or_counted_and_no_denial_is_left_out() -> Result<()> {
    // One hundredth of a processor: everything is more than that.
    let scene = Scene::start_with_arguments("telemetry", &["--enforcer-cpu-percent", "1"]).await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    for number in 0..INTRUDERS {
        scene.run(&["/bin/cp", "/bin/attacker", &format!("/tmp/intruder-{number}")]).await?;
    }
    let before = Counted::of(&scene).await?;

    let many = format!("i=0; while [ $i -lt {PROGRAMS} ]; do /bin/true; i=$((i+1)); done");
    let all = format!("s=0; while [ $s -lt {SHELLS} ]; do ({many}) & s=$((s+1)); done; wait");
    let command = ["/bin/sh", "-c", &all];
    let intrudes = async {
        for number in 0..INTRUDERS {
            let path = format!("/tmp/intruder-{number}");
            let repeat = ["/bin/attacker", "repeat", &TRIES.to_string(), "10", &path, "write", "/tmp/ran"];
            let went = scene.run(&repeat).await?.stdout;
            ensure!(went.starts_with(&"x".repeat(TRIES as usize)), "a denied program ran: {went}");
        }
        Ok(())
    };
    let begin = Instant::now();
    let (storm, intruded) = tokio::join!(scene.run(&command), intrudes);
    let took = begin.elapsed();
    intruded?;
    ensure!(storm?.exit_code == 0, "learned programs are stopped by a storm of them");
    ensure!(!scene.has_file("/tmp/ran"), "a denied program ran");

    // Each record that the kernel made was read, or is counted by its kind; and nothing else is missing.
    let end = Instant::now() + SOON;
    let after = loop {
        let now = Counted::of(&scene).await?;
        let told = now.named("process.records_read")? + now.dropped()?;
        let made = now.named("process.records")?;
        let judged = now.named("process.allow")? - before.named("process.allow")?;
        if told == made && judged >= SHELLS * PROGRAMS {
            break now;
        }
        ensure!(
            Instant::now() < end,
            "{made} records were made, {told} read or counted, {judged} judged: {}",
            now.0
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let lost = after.dropped()?;
    ensure!(
        after.named("process.records_missing")? <= lost,
        "records are missing that nobody counted: {}",
        after.0
    );
    ensure!(after.named("process.records_malformed")? == 0, "{}", after.0);
    let denied = after.named("process.deny")? - before.named("process.deny")?;
    ensure!(denied >= TRIES * INTRUDERS as u64, "{denied} were denied");

    // What is worth least is left out, and that is counted by its kind and said.
    let left_out = after.0.pointer("/shedding").and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(left_out != "nothing", "nothing is left out: {}", after.0);
    ensure!(after.number("/drops/usage")? > 0, "{}", after.0);
    let begins = |answer: &Value| {
        let list = answer.get("events")?.as_array()?;
        list.iter()
            .any(|one| one.get("name").is_some_and(|name| name == "Enforcer.Shedding.Start"))
            .then_some(())
    };
    scene.api.wait_for("/v1/log/event?limit=1000", Duration::from_secs(10), begins).await?;

    // What is worth most is told, each time that it happened.
    let end = Instant::now() + SOON;
    loop {
        let told = told(&scene).await?;
        let whole = told.len() == INTRUDERS && told.values().all(|count| *count == TRIES);
        if whole && after.named("process.limited_exec")? == 0 && lost == 0 {
            break;
        }
        // Where the ring was full, a denial may be among what is counted.
        let sum: u64 = told.values().sum();
        let counted = after.named("process.dropped_exec")?;
        if lost > 0 && sum + counted >= TRIES * INTRUDERS as u64 {
            break;
        }
        ensure!(
            Instant::now() < end,
            "of {INTRUDERS} programs {TRIES} times each are told: {told:?}, {counted} dropped"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(missing(&scene).await? == 0, "numbers of what arrived have a gap");
    let (memory, budget) = (after.number("/memory")?, after.number("/memory_budget")?);
    ensure!(memory < budget, "{memory} bytes are used of {budget}");
    println!(
        "{} programs in {took:?}: {} records made, {lost} dropped, {left_out} left out ({}), {} MiB of {} MiB",
        SHELLS * PROGRAMS,
        after.named("process.records")? - before.named("process.records")?,
        after.0.pointer("/drops").cloned().unwrap_or_default(),
        memory >> 20,
        budget >> 20
    );
    scene.stop().await
}
