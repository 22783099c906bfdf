//! Who waits for the enforcer's answer before a file is opened or a program runs: for how long, what comes of it when nobody
//! answers, and that nobody waits for ever.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{ContainerSpec, PodSpec};
use nv_scene::{CLIENT_GROUP, CLIENT_IMAGE, NAMESPACE, SECRET, Scene, TOOL};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A script whose interpreter is listed, and which reads itself.
const SCRIPT: &str = "/srv/listed";
/// Longest time that somebody may wait while a keeper is replaced, on a busy machine.
const LONGEST: Duration = Duration::from_secs(2);

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("no process")?;
    kill_process(pid, signal).with_context(|| format!("signal {pid:?}"))
}

fn launcher_of(scene: &Scene) -> Result<u32> {
    scene.product.children().first().copied().context("no launcher")
}

/// The launcher's keeper; an inspector is among its processes too.
fn keeper_of(launcher: u32) -> Result<u32> {
    let is_keeper = |pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == b"keeper"))
    };
    nv_product::children(launcher).into_iter().find(is_keeper).context("no keeper")
}

/// The scene in Protect, where the client's secret is for its tool alone, and a script is learned.
async fn protected(name: &str, tier: u8) -> Result<Scene> {
    let scene = Scene::start_on_tier(name, tier).await?;
    let make = format!("printf '#!{TOOL} read\\n' > {SCRIPT}; chmod 755 {SCRIPT}; {SCRIPT}");
    for command in ["/bin/chmod --help", &make] {
        ensure!(scene.run(&["/bin/sh", "-c", command]).await?.exit_code == 0, "{command}");
    }
    scene.run(&["/bin/attacker", "repeat", "1", "0", TOOL, "read", SECRET]).await?;
    scene.operate().await?;
    scene.wait_learned_programs().await?;
    let profile = format!("/v1/file_monitor/{CLIENT_GROUP}");
    let rule = json!({"config": {"add_filters": [{"filter": SECRET, "behavior": "block_access", "applications": [TOOL]}]}});
    scene.api.patch(&profile, &rule).await?;
    let baseline = json!({"config": {"services": ["client.shop"], "baseline_profile": "basic"}});
    scene.api.patch("/v1/service/config", &baseline).await?;
    scene.set_mode("Protect").await?;
    keeps(&scene).await?;
    Ok(scene)
}

/// Who may, may, and who may not, may not.
async fn keeps(scene: &Scene) -> Result<()> {
    let read = scene.run(&[TOOL, "read", SECRET]).await?;
    ensure!(read.exit_code == 0, "the tool is kept from its file: {}", read.stderr);
    ensure!(scene.run(&["/bin/attacker", "read", SECRET]).await?.exit_code != 0, "a stranger reads the file");
    ensure!(scene.run(&[SCRIPT]).await?.exit_code == 0, "a learned script does not run");
    scene.run(&["/bin/sh", "-c", "cp /bin/attacker /tmp/intruder"]).await?;
    drop(scene.run(&["/tmp/intruder", "write", "/tmp/intruded"]).await);
    ensure!(!scene.has_file("/tmp/intruded"), "a denied program ran");
    Ok(())
}

/// Waits until that is so again, with a keeper that was started since.
async fn keeps_again(scene: &Scene) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match keeps(scene).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Processes of the client's container that wait in the kernel without being interruptible.
fn waiting(scene: &Scene) -> HashSet<u32> {
    let read =
        |pid: u32, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let own = read(scene.client.container().pid, "cgroup");
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| read(*pid, "cgroup") == own)
        .filter(|pid| {
            let stat = read(*pid, "stat");
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
        })
        .collect()
}

/// Six that open the secret or run a script, again and again for some seconds.
const GANG: &str = "for one in 1 2 3; do /bin/attacker repeat 60 100 /usr/bin/report read /etc/shadow & \
                    /bin/attacker repeat 60 100 /srv/listed & done; wait";

/// Kills keeper and launcher while openers and execs wait for them, in one order or the other.
async fn killed_together(scene: &Scene, keeper_first: bool) -> Result<()> {
    let launcher = launcher_of(scene)?;
    let keeper = keeper_of(launcher)?;
    let kills = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        // Nobody answers, and nobody is there to see that.
        signal(launcher, Signal::STOP)?;
        signal(keeper, Signal::STOP)?;
        let end = Instant::now() + Duration::from_secs(10);
        while waiting(scene).len() < 6 && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let waited = waiting(scene);
        for pid in if keeper_first { [keeper, launcher] } else { [launcher, keeper] } {
            signal(pid, Signal::KILL)?;
        }
        ensure!(waited.len() >= 6, "only {waited:?} wait for an answer");
        let end = Instant::now() + LONGEST;
        while waiting(scene).intersection(&waited).next().is_some() {
            ensure!(Instant::now() < end, "{waited:?} still wait, and nobody is there to answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    let gang = ["/bin/sh", "-c", GANG];
    let limited = tokio::time::timeout(Duration::from_secs(60), scene.run(&gang));
    let (went, killed) = tokio::join!(limited, kills);
    killed?;
    let went = went.context("the gang does not end")??.stdout;
    ensure!(went.matches('y').count() == 360, "who waited did not go on: {went}");
    Ok(())
}

async fn nobody_waits_for_the_dead(name: &str, tier: u8) -> Result<()> {
    let mut scene = protected(name, tier).await?;
    // Which of several groups would be ended first is left to chance, so once is not enough.
    for round in 0..4 {
        killed_together(&scene, round % 2 == 0).await.with_context(|| format!("round {round}"))?;
        scene.product.kill().await?;
        scene.product.restart().await?;
        scene.api = scene.product.login(nv_scene::PASSWORD).await?;
        keeps_again(&scene).await.with_context(|| format!("after the new start of round {round}"))?;
    }
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_keeper_and_launcher_die_at_one_moment_whoever_waits_goes_on() -> Result<()> {
    Box::pin(nobody_waits_for_the_dead("dead", 3)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_without_bpf() -> Result<()> {
    Box::pin(nobody_waits_for_the_dead("dead-no-bpf", 4)).await
}

/// How it goes for one that runs the command again and again while the keeper is hurt.
async fn around(scene: &Scene, hurt: Signal, command: &[&str]) -> Result<String> {
    let repeat = [&["/bin/attacker", "repeat", "150", "40"], command].concat();
    let keeper = keeper_of(launcher_of(scene)?)?;
    let hurts = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        signal(keeper, hurt)
    };
    let (output, hurt) = tokio::join!(scene.run(&repeat), hurts);
    hurt?;
    let output = output?.stdout;
    let (went, longest) = output.split_once(' ').with_context(|| format!("no end: {output:?}"))?;
    ensure!(went.starts_with("yyyyy"), "{command:?} is refused while the keeper runs: {went}");
    let longest = Duration::from_millis(longest.parse()?);
    ensure!(longest < LONGEST, "{command:?} waited for {longest:?}: {went}");
    Ok(went.to_owned())
}

/// What is asked about: an open of the secret, a script, and without BPF a program.
fn asked(tier: u8) -> Vec<Vec<&'static str>> {
    let mut asked = vec![vec![TOOL, "read", SECRET], vec![SCRIPT]];
    if tier == 4 {
        asked.push(vec![TOOL, "read", "/etc/passwd"]);
    }
    asked
}

async fn fails_as_its_group_says(name: &str, tier: u8) -> Result<()> {
    let scene = protected(name, tier).await?;
    for fail_mode in ["open", "closed"] {
        let config = json!({"config": {"services": ["client.shop"], "fail_mode": fail_mode}});
        scene.api.patch("/v1/service/config", &config).await?;
        // The keeper has it, and says so to the launcher, a moment later.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for hurt in [Signal::STOP, Signal::KILL] {
            for command in asked(tier) {
                let went = around(&scene, hurt, &command).await?;
                let refused = went.contains(['n', 'x']);
                ensure!(
                    refused == (fail_mode == "closed"),
                    "{command:?} of one who fails {fail_mode}, {hurt:?}: {went}"
                );
                keeps_again(&scene).await.context("with the next keeper")?;
            }
        }
    }
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_keeper_files_and_scripts_fail_as_their_group_says() -> Result<()> {
    Box::pin(fails_as_its_group_says("fails", 3)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_bpf_and_a_keeper_programs_do_too() -> Result<()> {
    Box::pin(fails_as_its_group_says("fails-no-bpf", 4)).await
}

/// Forty programs on a file system that never answers who opens one, and on an overlay over it: whoever looks at them hangs,
/// too, and not even his end ends that.
const HANGING: &str = "mkdir -p /h /o; /bin/attacker hang /h & all=$!; sleep 3; \
    mount -t overlay -o lowerdir=/h:/srv o /o || echo no overlay; i=0; \
    while [ $i -lt 20 ]; do /h/x & all=\"$all $!\"; /o/x & all=\"$all $!\"; i=$((i+1)); done; sleep 10; kill -9 $all; wait";

async fn beside_hanging(name: &str, tier: u8) -> Result<()> {
    let scene = protected(name, tier).await?;
    let spec = PodSpec::new("client-5f6d8b7c9-hangs", NAMESPACE)
        .container(ContainerSpec::new("main", CLIENT_IMAGE, &[]).privileged());
    let pod = scene.lab.run_pod(&spec).await?;
    let command = ["/bin/sh", "-c", HANGING];
    let measured = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        scene.run(&["/bin/attacker", "repeat", "100", "40", SCRIPT]).await
    };
    let (hung, measured) = tokio::join!(scene.lab.exec(pod.container(), &command), measured);
    let hung = hung?;
    ensure!(!hung.stdout.contains("no overlay"), "{hung:?}");
    let output = measured?.stdout;
    let (went, longest) = output.split_once(' ').with_context(|| format!("no end: {output:?}"))?;
    let longest = Duration::from_millis(longest.parse()?);
    ensure!(!went.contains(['n', 'x']) && longest < LONGEST, "others hang as well: {longest:?} {went}");
    keeps(&scene).await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_of_a_container_that_hangs_holds_up_nobody_else() -> Result<()> {
    Box::pin(beside_hanging("hangs", 3)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_bpf_it_holds_up_nobody_either() -> Result<()> {
    Box::pin(beside_hanging("hangs-no-bpf", 4)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_launcher_holds_nobody_up_while_the_keeper_lives() -> Result<()> {
    let scene = protected("launcher", 3).await?;
    let launcher = launcher_of(&scene)?;
    signal(launcher, Signal::STOP)?;
    keeps(&scene).await?;
    signal(launcher, Signal::CONT)?;
    signal(launcher, Signal::KILL)?;
    keeps(&scene).await.context("after the launcher's end")?;
    scene.stop().await
}
