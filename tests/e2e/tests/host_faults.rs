//! What goes wrong around the enforcer, and what holds all the while.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::Scene;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A denied program in the client's container: makes `/tmp/<name>` if it runs.
async fn intrude(scene: &Scene, name: &str) -> Result<()> {
    let path = format!("/tmp/{name}");
    // Refused or killed: either way it is the file that tells.
    drop(scene.run(&["/tmp/intruder", "write", &path]).await);
    ensure!(!scene.has_file(&path), "a denied program ran: {name}");
    Ok(())
}

/// The scene in Protect, with an intruder that is in nobody's profile.
async fn protected(scene: &Scene) -> Result<()> {
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    scene.run(&["/bin/sh", "-c", "cp /bin/attacker /tmp/intruder"]).await?;
    intrude(scene, "before").await
}

/// The launcher's keeper; an inspector is among its processes too.
fn keeper_of(launcher: u32) -> Option<u32> {
    nv_product::children(launcher).into_iter().find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == b"keeper"))
    })
}

/// Versions that have pinned something.
fn versions(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('v'))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_over_without_a_moment_in_which_nothing_is_judged() -> Result<()> {
    let mut scene = Scene::start("upgrade").await?;
    protected(&scene).await?;
    let folder = PathBuf::from(format!("/sys/fs/bpf/nv-scene-upgrade-{}", std::process::id()));
    let own = versions(&folder).pop().context("nothing is pinned")?;
    scene.product.kill().await?;
    // What an earlier build with other tables would have left: the same programs, under another version's name.
    std::fs::rename(folder.join(&own), folder.join("v0-earlier"))?;
    intrude(&scene, "by-the-earlier").await?;

    scene.product.launch()?;
    let mut tries = 0;
    while versions(&folder) != [own.clone()] {
        intrude(&scene, &format!("between-{tries}")).await?;
        tries += 1;
        ensure!(tries < 600, "the earlier version is still there: {:?}", versions(&folder));
    }
    scene.product.wait_ready().await?;
    scene.api = scene.product.login(nv_scene::PASSWORD).await?;
    ensure!(tries > 5, "{tries} tries say little");
    intrude(&scene, "after").await?;
    scene.operate().await.context("learned operation is stopped after the upgrade")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_can_be_pinned_it_is_said_and_enforced_all_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scene = Scene::start_at("unpinned", nv_product::binary()?, folder.path().join("no-bpf-fs")).await?;
    protected(&scene).await?;
    let shown = scene.api.get("/v1/enforcer").await?;
    let lost = shown.pointer("/enforcers/0/capabilities/lost").cloned().unwrap_or_default();
    ensure!(lost.to_string().contains("nothing can be pinned"), "{lost}");

    // With the keeper its programs end; those of the next one judge by the same policy.
    let launcher = scene.product.children().first().copied().context("no launcher")?;
    let keeper = keeper_of(launcher).context("no keeper")?;
    kill_process(Pid::from_raw(keeper.cast_signed()).context("no keeper")?, Signal::KILL)?;
    let log = scene.product.log_path();
    for _ in 0..200 {
        if std::fs::read_to_string(&log)?.contains("a new keeper holds the kernel") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    intrude(&scene, "after-the-new-keeper").await?;
    scene.operate().await.context("learned operation is stopped after the new keeper")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_fork_bomb_nor_a_stopped_keeper_or_enforcer_lets_a_denied_program_run_or_hides_it()
-> Result<()> {
    let scene = Scene::start("stopped").await?;
    protected(&scene).await?;
    beside_a_fork_bomb(&scene).await.context("beside a fork bomb")?;
    with_a_stopped_keeper(&scene).await.context("with a stopped keeper")?;
    with_a_stopped_enforcer(&scene).await.context("with a stopped enforcer")?;
    scene.stop().await
}

/// It goes on enforcing and counts what it missed.
async fn with_a_stopped_enforcer(scene: &Scene) -> Result<()> {
    let pid = scene.product.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("no process")?;
    kill_process(pid, Signal::STOP)?;
    intrude(scene, "while-stopped").await?;
    // More programs than the ring holds records of.
    let many = "i=0; while [ $i -lt 9000 ]; do /bin/true; i=$((i+1)); done";
    let flood = scene.run(&["/bin/sh", "-c", many]).await;
    intrude(scene, "after-the-flood").await?;
    kill_process(pid, Signal::CONT)?;
    flood.context("learned programs are stopped while the enforcer is")?;
    let dropped = |answer: &Value| {
        let dropped = answer.pointer("/counter/kernel_dropped").and_then(Value::as_u64)?;
        (dropped > 0).then_some(dropped)
    };
    let node = scene.api.get("/v1/enforcer").await?;
    let id = node.pointer("/enforcers/0/id").and_then(Value::as_str).context("no enforcer")?.to_owned();
    scene
        .api
        .wait_for(&format!("/v1/enforcer/{id}/counter"), Duration::from_secs(30), dropped)
        .await
        .context("nobody says that records were dropped")?;
    intrude(scene, "after").await
}

/// It hides no denial.
async fn beside_a_fork_bomb(scene: &Scene) -> Result<()> {
    // Bounded, as the machine has other users: five times five hundred processes at once.
    let bomb = "j=0; while [ $j -lt 5 ]; do i=0; while [ $i -lt 500 ]; do /bin/true & i=$((i+1)); done; wait; j=$((j+1)); done";
    let command = ["/bin/sh", "-c", bomb];
    let explodes = scene.run(&command);
    let intrudes = async {
        for number in 0..20 {
            intrude(scene, &format!("in-the-bomb-{number}")).await?;
        }
        Ok::<(), anyhow::Error>(())
    };
    let (exploded, intruded) = tokio::join!(explodes, intrudes);
    intruded?;
    ensure!(exploded?.exit_code == 0, "learned programs are stopped by a flood of them");
    let told = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        let of_intruder = |record: &&Value| {
            record.get("proc_path").and_then(Value::as_str) == Some("/tmp/intruder")
                && record.get("action").and_then(Value::as_str) == Some("deny")
        };
        let count = |record: &Value| record.get("count").and_then(Value::as_u64).unwrap_or(1).max(1);
        let told: u64 = list.iter().filter(of_intruder).map(count).sum();
        (told >= 21).then_some(told)
    };
    scene
        .api
        .wait_for("/v1/log/incident?limit=1000", Duration::from_secs(90), told)
        .await
        .context("a denial was lost in the flood")
        .map(drop)
}

/// It is replaced, so that nobody waits for it.
async fn with_a_stopped_keeper(scene: &Scene) -> Result<()> {
    let launcher = scene.product.children().first().copied().context("no launcher")?;
    let keeper = keeper_of(launcher).context("no keeper")?;
    kill_process(Pid::from_raw(keeper.cast_signed()).context("no keeper")?, Signal::STOP)?;
    let mut next = keeper;
    for _ in 0..200 {
        next = keeper_of(launcher).unwrap_or(keeper);
        if next != keeper {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(next != keeper, "the stopped keeper is still there");
    intrude(scene, "after-the-next-keeper").await?;
    scene.operate().await
}
