//! Who waits for the enforcer's answer before a file is opened or a program runs: for how long, what comes of it when nobody
//! answers, and that nobody waits for ever.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Container, ContainerSpec, PodSpec};
use nv_scene::{CLIENT_GROUP, CLIENT_IMAGE, NAMESPACE, SECRET, Scene, TOOL};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A script whose interpreter is listed, and which reads itself.
const SCRIPT: &str = "/srv/listed";
/// Longest time that somebody may wait while a keeper is replaced, on a busy machine.
const LONGEST: Duration = Duration::from_secs(2);
/// The same when all of the keeper's threads hang, which it is replaced for.
const LONGEST_FOR_ALL: Duration = Duration::from_secs(6);

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
    block(&scene, SECRET).await?;
    let baseline = json!({"config": {"services": ["client.shop"], "baseline_profile": "basic"}});
    scene.api.patch("/v1/service/config", &baseline).await?;
    scene.set_mode("Protect").await?;
    keeps(&scene).await?;
    Ok(scene)
}

/// A file of the client's service is for its tool alone.
async fn block(scene: &Scene, path: &str) -> Result<()> {
    let profile = format!("/v1/file_monitor/{CLIENT_GROUP}");
    let rule = json!({"config": {"add_filters": [{"filter": path, "behavior": "block_access", "applications": [TOOL]}]}});
    scene.api.patch(&profile, &rule).await.map(drop)
}

/// Waits until the rule for a file holds.
async fn is_kept(scene: &Scene, path: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while scene.run(&["/bin/attacker", "read", path]).await?.exit_code == 0 {
        ensure!(Instant::now() < end, "a stranger reads {path}");
    }
    ensure!(scene.run(&[TOOL, "read", path]).await?.exit_code == 0, "the tool is kept from {path}");
    Ok(())
}

/// Waits until a line with all these words is in the product's log.
async fn wait_for_log(scene: &Scene, words: &[&str]) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let log = std::fs::read_to_string(scene.product.log_path())?;
        if log.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the log has no line with {words:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

fn of_process(pid: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn processes(container: &Container) -> impl Iterator<Item = u32> {
    let own = of_process(container.pid, "cgroup");
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |pid| of_process(*pid, "cgroup") == own)
}

/// Processes of a container that wait in the kernel without being interruptible.
fn waiting(container: &Container) -> HashSet<u32> {
    let waits = |pid: &u32| {
        let stat = of_process(*pid, "stat");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('D'))
    };
    processes(container).filter(waits).collect()
}

/// Waits until so many processes of the client repeat something, and have done so for half a second.
async fn wait_for_repeating(scene: &Scene, count: usize) -> Result<()> {
    let repeats = |pid: &u32| of_process(*pid, "cmdline").starts_with("/bin/attacker\0repeat");
    let end = Instant::now() + Duration::from_secs(20);
    while processes(scene.client.container()).filter(repeats).count() < count {
        ensure!(Instant::now() < end, "nothing is repeated");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// Waits until so many of them do; those that do.
async fn wait_for_waiting(container: &Container, count: usize) -> Result<HashSet<u32>> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let waited = waiting(container);
        if waited.len() >= count {
            return Ok(waited);
        }
        ensure!(Instant::now() < end, "only {waited:?} wait for an answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Six that open the secret or run a script, again and again for some seconds.
const GANG: &str = "for one in 1 2 3; do /bin/attacker repeat 30 100 /usr/bin/report read /etc/shadow & \
                    /bin/attacker repeat 30 100 /srv/listed & done; wait";

/// Kills keeper and launcher while openers and execs wait for them, in one order or the other.
async fn killed_together(scene: &Scene, keeper_first: bool) -> Result<()> {
    let launcher = launcher_of(scene)?;
    let keeper = keeper_of(launcher)?;
    let client = scene.client.container();
    let kills = async {
        wait_for_repeating(scene, 6).await?;
        // Nobody answers, and nobody is there to see that.
        signal(launcher, Signal::STOP)?;
        signal(keeper, Signal::STOP)?;
        let waited = wait_for_waiting(client, 6).await;
        for pid in if keeper_first { [keeper, launcher] } else { [launcher, keeper] } {
            signal(pid, Signal::KILL)?;
        }
        let waited = waited?;
        let end = Instant::now() + LONGEST;
        while waiting(client).intersection(&waited).next().is_some() {
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
    ensure!(went.matches('y').count() == 180, "who waited did not go on: {went}");
    Ok(())
}

/// The interfaces for copies of packets, and for those that wait, on this machine.
fn taps() -> Result<BTreeSet<String>> {
    let names =
        std::fs::read_dir("/sys/class/net")?.map(|entry| Ok(entry?.file_name().display().to_string()));
    let names: Result<BTreeSet<String>> = names.collect();
    Ok(names?.into_iter().filter(|name| name.starts_with("nvtap") || name.starts_with("nvway")).collect())
}

async fn nobody_waits_for_the_dead(scene: &mut Scene) -> Result<()> {
    scene.wait_inspected().await?;
    let tapped = taps()?;
    ensure!(!tapped.is_empty(), "no packet is copied to an inspector");
    for keeper_first in [true, false] {
        killed_together(scene, keeper_first)
            .await
            .with_context(|| format!("the keeper first: {keeper_first}"))?;
        scene.product.kill().await?;
        scene.product.restart().await?;
        scene.api = scene.product.login(nv_scene::PASSWORD).await?;
        keeps_again(scene).await.with_context(|| format!("after the new start, {keeper_first}"))?;
        let end = Instant::now() + LONGEST_FOR_ALL;
        while taps()? != tapped {
            ensure!(Instant::now() < end, "the dead have left interfaces: {:?}, of {tapped:?}", taps()?);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// What is asked about: an open of the secret, a script, and without BPF a program.
fn asked(tier: u8) -> &'static [&'static [&'static str]] {
    let all: &[&[&str]] = &[&[TOOL, "read", SECRET], &[SCRIPT], &[TOOL, "read", "/etc/passwd"]];
    if tier == 4 { all } else { all.get(..2).unwrap_or(all) }
}

/// Runs each of the commands again and again while the keeper is hurt. How it went for each.
async fn around(scene: &Scene, hurt: Signal, commands: &[&[&str]]) -> Result<Vec<String>> {
    let keeper = keeper_of(launcher_of(scene)?)?;
    let hurts = async {
        wait_for_repeating(scene, commands.len()).await?;
        signal(keeper, hurt)
    };
    let runs = futures::future::try_join_all(commands.iter().map(|command| async move {
        let repeat = [&["/bin/attacker", "repeat", "70", "40"], *command].concat();
        let output = scene.run(&repeat).await?.stdout;
        let (went, longest) = output.split_once(' ').with_context(|| format!("no end: {output:?}"))?;
        ensure!(went.starts_with('y'), "{command:?} is refused while the keeper runs: {went}");
        let longest = Duration::from_millis(longest.parse()?);
        ensure!(longest < LONGEST, "{command:?} waited for {longest:?}: {went}");
        Ok(went.to_owned())
    }));
    let (went, hurt) = tokio::join!(runs, hurts);
    hurt?;
    went
}

/// Waits until the launcher has been told that somebody fails closed, of each kind that is asked about.
async fn closed_is_known(scene: &Scene, tier: u8) -> Result<()> {
    for kind in ["Files", if tier == 4 { "Programs" } else { "Scripts" }] {
        let words = ["who fails closed is known", &format!("asked={kind}"), "any_closed=true"];
        wait_for_log(scene, &words).await.context("the launcher does not know what fails closed")?;
    }
    Ok(())
}

async fn fails_as_its_group_says(scene: &Scene, tier: u8) -> Result<()> {
    for fail_mode in ["open", "closed"] {
        let config = json!({"config": {"services": ["client.shop"], "fail_mode": fail_mode}});
        scene.api.patch("/v1/service/config", &config).await?;
        if fail_mode == "closed" {
            closed_is_known(scene, tier).await?;
        }
        for hurt in [Signal::STOP, Signal::KILL] {
            for (command, went) in asked(tier).iter().zip(around(scene, hurt, asked(tier)).await?) {
                let refused = went.contains(['n', 'x']);
                ensure!(
                    refused == (fail_mode == "closed"),
                    "{command:?} of one who fails {fail_mode}, {hurt:?}: {went}"
                );
            }
            keeps_again(scene).await.context("with the next keeper")?;
        }
    }
    let config = json!({"config": {"services": ["client.shop"], "fail_mode": "open"}});
    scene.api.patch("/v1/service/config", &config).await.map(drop)
}

/// How others fare meanwhile: nobody is refused or killed. The longest time that one of them waited.
async fn others(scene: &Scene) -> Result<Duration> {
    let output = scene.run(&["/bin/attacker", "repeat", "60", "30", SCRIPT]).await?.stdout;
    let (went, longest) = output.split_once(' ').with_context(|| format!("no end: {output:?}"))?;
    ensure!(!went.contains(['n', 'x']), "others are stopped: {went}");
    Ok(Duration::from_millis(longest.parse()?))
}

/// Forty programs on a file system that never answers who opens one, and on an overlay over it: whoever looks at them hangs,
/// too, and not even his end ends that.
const HANGING: &str = "mkdir -p /h /o; /bin/attacker hang /h & all=$!; until [ -e /h/x ]; do :; done; \
    mount -t overlay -o lowerdir=/h:/srv o /o || echo no overlay; i=0; until [ -e /tmp/begin ]; do sleep 1; done; \
    while [ $i -lt 20 ]; do /h/x & all=\"$all $!\"; /o/x & all=\"$all $!\"; i=$((i+1)); done; \
    until [ -e /tmp/over ]; do sleep 1; done; kill -9 $all; wait";

async fn beside_hanging(scene: &Scene) -> Result<()> {
    let spec = PodSpec::new("client-5f6d8b7c9-h4n6s", NAMESPACE)
        .container(ContainerSpec::new("main", CLIENT_IMAGE, &[]).privileged());
    let pod = scene.lab.run_pod(&spec).await?;
    let command = ["/bin/sh", "-c", HANGING];
    let touch = async |path| scene.lab.exec(pod.container(), &["/bin/touch", path]).await;
    let measures = async {
        let end = Instant::now() + Duration::from_secs(10);
        while !Path::new(&format!("/proc/{}/root/o/x", pod.container().pid)).exists() {
            ensure!(Instant::now() < end, "it is not mounted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        block(scene, "/h/x").await?;
        // What the container serves itself is not asked about, and that is said.
        wait_for_log(scene, &["not every file of the rules is watched", &pod.container().id]).await?;
        // Who looks for a file there hangs as well, and is left behind: the rules of others are kept up to date.
        block(scene, "/h/never").await?;
        wait_for_log(scene, &["its files are not kept", &pod.container().id]).await?;
        block(scene, "/srv/vault/key").await?;
        is_kept(scene, "/srv/vault/key").await?;
        touch("/tmp/begin").await?;
        // Who waits for such a file system can be interrupted: there are as many as were started.
        let end = Instant::now() + Duration::from_secs(20);
        while processes(pod.container()).count() < 42 {
            ensure!(Instant::now() < end, "they do not hang");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        others(scene).await
    };
    let measured = async {
        let measured = measures.await;
        // Whatever came of it.
        touch("/tmp/begin").await?;
        touch("/tmp/over").await?;
        measured
    };
    let (hung, measured) = tokio::join!(scene.lab.exec(pod.container(), &command), measured);
    let hung = hung?;
    ensure!(!hung.stdout.contains("no overlay"), "{hung:?}");
    let longest = measured?;
    ensure!(longest < LONGEST, "others hang as well: {longest:?}");
    keeps(scene).await
}

/// A file system that the host has mounted and that hangs; it ends with this.
struct Volume {
    folder: tempfile::TempDir,
    server: std::process::Child,
}

impl Volume {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let server =
            std::process::Command::new(nv_scene::attacker()?).arg("hang").arg(folder.path()).spawn()?;
        let volume = Self { folder, server };
        let end = Instant::now() + Duration::from_secs(10);
        while !volume.folder.path().join("x").exists() {
            ensure!(Instant::now() < end, "it is not mounted");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(volume)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
        let _gone = rustix::mount::unmount(self.folder.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// Without BPF programs on the host's volumes are asked about, and the kernel opens them for whoever reads the question.
async fn sixteen_at_once(scene: &Scene) -> Result<()> {
    let volume = Volume::new()?;
    let main = ContainerSpec::new("main", CLIENT_IMAGE, &[]).volume(volume.folder.path(), "/volume");
    let pod = scene.lab.run_pod(&PodSpec::new("client-5f6d8b7c9-w4t6s", NAMESPACE).container(main)).await?;
    let runs = "i=0; while [ $i -lt 20 ]; do /volume/x & i=$((i+1)); done; wait";
    let measured = async {
        wait_for_waiting(pod.container(), 20).await?;
        let longest = others(scene).await;
        drop(volume);
        longest
    };
    let command = ["/bin/sh", "-c", runs];
    let (hung, measured) = tokio::join!(scene.lab.exec(pod.container(), &command), measured);
    let longest = measured?;
    hung.context("the programs on the volume do not end with it")?;
    ensure!(longest < LONGEST_FOR_ALL, "others hang as well: {longest:?}");
    keeps_again(scene).await.context("when nobody hangs any more")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_goes_on_as_his_group_says_whatever_becomes_of_keeper_and_launcher() -> Result<()> {
    let mut scene = protected("waiters", 3).await?;
    fails_as_its_group_says(&scene, 3).await?;
    beside_hanging(&scene).await.context("beside a file system that hangs")?;
    nobody_waits_for_the_dead(&mut scene).await?;
    a_stopped_launcher_holds_nobody_up(&scene).await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_without_bpf_and_beside_more_questions_that_hang_than_there_are_threads() -> Result<()>
{
    let mut scene = protected("waiters-no-bpf", 4).await?;
    fails_as_its_group_says(&scene, 4).await?;
    beside_hanging(&scene).await.context("beside a file system that hangs")?;
    sixteen_at_once(&scene).await.context("beside a volume that hangs")?;
    nobody_waits_for_the_dead(&mut scene).await?;
    scene.stop().await
}

async fn a_stopped_launcher_holds_nobody_up(scene: &Scene) -> Result<()> {
    let launcher = launcher_of(scene)?;
    signal(launcher, Signal::STOP)?;
    keeps(scene).await.context("while the launcher is stopped")?;
    signal(launcher, Signal::CONT)?;
    signal(launcher, Signal::KILL)?;
    keeps(scene).await.context("after the launcher's end")
}
