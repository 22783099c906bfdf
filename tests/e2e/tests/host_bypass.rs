//! Ways around the rules that an intruder with every privilege of a container has. Each is first gone in a container that
//! only learns, where it must lead somewhere, and then in one that is protected, where it must not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Container, ContainerSpec, Pod, PodSpec};
use nv_scene::{CLIENT_GROUP, CLIENT_IMAGE, NAMESPACE, SECRET, Scene, TOOL, UNLISTED};
use serde_json::{Value, json};

/// Commands that the ways are made of; they are learned before, as it is not they that are tested.
const COMMANDS: [&str; 17] = [
    "/bin/sh",
    "/bin/cat",
    "/bin/cp",
    "/bin/mv",
    "/bin/ln",
    "/bin/grep",
    "/bin/rm",
    "/bin/mkdir",
    "/bin/rmdir",
    "/bin/touch",
    "/bin/chmod",
    "/bin/chroot",
    "/bin/mount",
    "/bin/umount",
    "/bin/unshare",
    "/bin/nsenter",
    "/bin/pivot_root",
];

/// Ends a mount. Whoever looks at a container's mounts, as the enforcer does when they change, holds each of them for a
/// moment.
const UNMOUNT: &str = "off() { umount $1 || { sleep 1; umount $1; } }; ";

/// A way to run a program that is not in the profile: `$P` is one that the image has, `$L` the path of one that the
/// profile lists, `$O` the file in which it writes who it is when it runs, `$U` what ends a mount.
struct Way {
    name: &'static str,
    script: &'static str,
    /// What runs is a file of the image, as it was there: the zero-drift baseline has nothing against it.
    of_image: bool,
    /// What runs has the path of a listed program, and the basic baseline knows paths alone.
    listed: bool,
}

impl Way {
    fn script(&self, out: &str) -> String {
        let script = self.script.replace("$P", UNLISTED).replace("$L", TOOL).replace("$U", "off");
        format!("{UNMOUNT}{}", script.replace("$O", out))
    }
}

const fn image(name: &'static str, script: &'static str) -> Way {
    Way { name, script, of_image: true, listed: false }
}

const fn foreign(name: &'static str, script: &'static str) -> Way {
    Way { name, script, of_image: false, listed: false }
}

const fn replaced(name: &'static str, script: &'static str) -> Way {
    Way { name, script, of_image: false, listed: true }
}

const WAYS: [Way; 22] = [
    image("as it is", "$P write $O"),
    image("by a link", "ln -s $P /tmp/link; /tmp/link write $O"),
    image("by the root in /proc", "/proc/self/root$P write $O"),
    image(
        "as the interpreter of a script",
        "printf \"#!$P write\n\" > /tmp/s; chmod 755 /tmp/s; /tmp/s; grep -q : /tmp/s && mv /tmp/s $O",
    ),
    image("in all namespaces of its own", "unshare -m -u -i -n -p -f $P write $O"),
    image("in namespaces that it joins", "nsenter -t 1 -m -u -i -n -p $P write $O"),
    image("mounted over a listed one", "mount --bind $P $L; $L write $O; $U $L"),
    image(
        "mounted over a listed one in a namespace of its own",
        "unshare -m sh -c \"mount --bind $P $L; $L write $O\"",
    ),
    image(
        "in a root that has the image's files elsewhere",
        "mkdir -p /tmp/m/usr/bin /tmp/m/out; touch /tmp/m$L; mount --bind $P /tmp/m$L; mount --bind /out /tmp/m/out; \
         chroot /tmp/m $L write $O; $U /tmp/m$L; $U /tmp/m/out",
    ),
    foreign("by a hard link", "ln $P /tmp/hard; /tmp/hard write $O"),
    foreign("copied", "cp $P /tmp/copied; /tmp/copied write $O"),
    foreign(
        "by a descriptor of a deleted file",
        "cp $P /tmp/gone; exec 9</tmp/gone; rm /tmp/gone; /proc/self/fd/9 write $O",
    ),
    foreign("in memory", "$L memfd $O"),
    foreign(
        "on a tmpfs",
        "mkdir /tmp/t; mount -t tmpfs t /tmp/t; cp $P /tmp/t/p; /tmp/t/p write $O; umount /tmp/t",
    ),
    foreign(
        "on a mount that forbade it",
        "mkdir /tmp/n; mount -t tmpfs -o noexec t /tmp/n; cp $P /tmp/n/p; mount -o remount,exec /tmp/n; \
         /tmp/n/p write $O; umount /tmp/n",
    ),
    foreign(
        "in another root",
        "mkdir -p /tmp/r/usr/bin /tmp/r/out; mount --bind /out /tmp/r/out; cp $P /tmp/r$L; \
         chroot /tmp/r $L write $O; umount /tmp/r/out",
    ),
    replaced(
        "in the place of a listed one",
        "cp -p $L /tmp/kept; cp $P /tmp/new; mv /tmp/new $L; $L write $O; mv /tmp/kept $L",
    ),
    replaced("linked over a listed one", "mv $L /tmp/kept2; ln $P $L; $L write $O; rm $L; mv /tmp/kept2 $L"),
    foreign(
        "mounted over the folder of a listed one",
        "mkdir -p /mnt; unshare -m sh -c \"mount -t tmpfs t /mnt; cp $P /mnt/report; mount --bind /mnt /usr/bin; $L write $O\"",
    ),
    foreign(
        "after pivot_root",
        "mkdir -p /tmp/v; unshare -m sh -c \"mount -t tmpfs t /tmp/v; mkdir -p /tmp/v/usr/bin /tmp/v/out /tmp/v/old; \
         mount --bind /out /tmp/v/out; cp $P /tmp/v$L; cd /tmp/v; pivot_root . old; exec $L write $O\"",
    ),
    foreign(
        "on an overlay of its own",
        "mkdir -p /tmp/o; unshare -m sh -c \"mount -t tmpfs t /tmp/o; mkdir -p /tmp/o/low/usr/bin /tmp/o/low/out /tmp/o/up \
         /tmp/o/work /tmp/o/all; cp $P /tmp/o/low$L; mount -t overlay -o \
         lowerdir=/tmp/o/low,upperdir=/tmp/o/up,workdir=/tmp/o/work o /tmp/o/all; mount --bind /out /tmp/o/all/out; \
         cd /tmp/o/all; mkdir old; pivot_root . old; exec $L write $O\"",
    ),
    // Changes the file for good, so it comes last.
    foreign("copied up", "chmod 700 $P; $P write $O"),
];

/// A way to read a file that only a listed program may open: `$F` is the file.
const FILES: [(&str, &str); 9] = [
    ("as it is", "cat $F"),
    ("by a link", "ln -s $F /tmp/fl; cat /tmp/fl"),
    ("by a hard link", "ln $F /tmp/fh; cat /tmp/fh"),
    ("by the root in /proc", "cat /proc/self/root$F"),
    ("mounted elsewhere", "touch /tmp/fm; mount --bind $F /tmp/fm; cat /tmp/fm; umount /tmp/fm"),
    (
        "mounted elsewhere in a namespace of its own",
        "touch /tmp/fn; unshare -m sh -c \"mount --bind $F /tmp/fn; cat /tmp/fn\"",
    ),
    ("copied up", "chmod 644 $F; cat $F"),
    ("in another root", "mkdir -p /tmp/fr; mount --bind / /tmp/fr; chroot /tmp/fr cat $F; umount /tmp/fr"),
    ("in namespaces that it joins", "nsenter -t 1 -m cat $F"),
];

/// Two replicas of one image with every privilege: one whose service only learns, and one that is protected.
struct Stage {
    scene: Scene,
    learns: Pod,
    guarded: Pod,
}

impl Stage {
    async fn start(name: &str) -> Result<Self> {
        Box::pin(Self::on(Scene::start(name).await?)).await
    }

    async fn on(scene: Scene) -> Result<Self> {
        scene.operate().await?;
        let pod = |name| {
            PodSpec::new(name, NAMESPACE)
                .container(ContainerSpec::new("main", CLIENT_IMAGE, &[]).privileged())
        };
        let learns = scene.lab.run_pod(&pod("control-5f6d8b7c9-aaaaa")).await?;
        let guarded = scene.lab.run_pod(&pod("client-5f6d8b7c9-bbbbb")).await?;
        for container in [learns.container(), guarded.container()] {
            scene.lab.exec(container, &["/bin/mkdir", "/out"]).await?;
            for command in COMMANDS {
                scene.lab.exec(container, &[command, "--help"]).await?;
            }
        }
        scene.wait_learned_programs().await?;
        Ok(Self { scene, learns, guarded })
    }

    async fn run(&self, container: &Container, script: &str) -> Result<nv_lab::Output> {
        Ok(self.scene.lab.exec(container, &["/bin/sh", "-c", script]).await?)
    }
}

/// Which file wrote `path` in a container, as `device:inode`; `None` when nothing did.
fn writer(container: &Container, path: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{}/root{path}", container.pid)).ok()
}

impl Stage {
    /// Goes every way under a baseline. Those by which an unlisted program ran.
    async fn go(&self, baseline: &str) -> Result<Vec<&'static Way>> {
        let body = json!({"config": {"services": ["client.shop"], "baseline_profile": baseline}});
        self.scene.api.patch("/v1/service/config", &body).await?;
        self.scene.set_mode("Protect").await?;
        let mut passed = Vec::new();
        for (number, way) in WAYS.iter().enumerate() {
            let out = format!("/out/{number}");
            let script = way.script(&out);
            let own = "/out/own";
            let learns = self.learns.container();
            self.scene.lab.exec(learns, &[TOOL, "write", own]).await?;
            let listed = writer(learns, own);
            let known = self.run(learns, &script).await?;
            let reached = writer(learns, &out);
            ensure!(
                reached.is_some() && reached != listed,
                "{}: it leads nowhere even where nothing is guarded ({reached:?}): {}",
                way.name,
                known.stderr
            );
            let guarded = self.guarded.container();
            drop(self.scene.lab.exec(guarded, &[TOOL, "write", own]).await);
            let listed = writer(guarded, own);
            drop(self.run(guarded, &script).await?);
            if writer(guarded, &out).is_some_and(|by| Some(by) != listed) {
                passed.push(way);
            }
        }
        Ok(passed)
    }
}

fn names(ways: &[&Way]) -> Vec<&'static str> {
    ways.iter().map(|way| way.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_basic_baseline_only_what_takes_a_listed_path_runs_and_the_change_is_told() -> Result<()> {
    let stage = Stage::start("bypass-basic").await?;
    let passed = stage.go("basic").await?;
    let wrong: Vec<&Way> = passed.iter().filter(|way| !way.listed).copied().collect();
    ensure!(wrong.is_empty(), "an unlisted program runs: {:?}", names(&wrong));
    let told = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        let of = |one: &&Value| {
            one.get("proc_path").is_some_and(|path| path == TOOL)
                && one.get("behaviour").is_some_and(|behaviour| behaviour == "changed_executable")
        };
        list.iter().find(of).map(drop)
    };
    stage
        .scene
        .api
        .wait_for("/v1/log/incident", Duration::from_secs(5), told)
        .await
        .context("nothing is told")?;
    stage.scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_zero_drift_baseline_nothing_runs_that_is_not_from_the_image() -> Result<()> {
    let stage = Stage::start("bypass-drift").await?;
    let passed = stage.go("zero-drift").await?;
    let wrong: Vec<&Way> = passed.iter().filter(|way| !way.of_image).copied().collect();
    ensure!(wrong.is_empty(), "a program that is not from the image runs: {:?}", names(&wrong));
    stage.scene.stop().await
}

/// What fanotify cannot or may not be asked about, as it is in memory, on a mount that was just made, or on an overlay of the
/// container's own: each with what is in the path by which it is told, be it that it was refused or killed.
const LATE: [(&str, &str); 5] = [
    ("in memory", "memfd:"),
    ("on a tmpfs", "/tmp/t/p"),
    ("on a mount that forbade it", "/tmp/n/p"),
    ("after pivot_root", TOOL),
    ("on an overlay of its own", TOOL),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_bpf_what_is_not_stopped_before_it_runs_is_killed_told_and_named() -> Result<()> {
    let stage = Box::pin(Stage::on(Scene::start_on_tier("bypass-late", 4).await?)).await?;
    let passed = stage.go("basic").await?;
    let is_late = |way: &Way| LATE.iter().any(|(name, _)| *name == way.name);
    let wrong: Vec<&Way> = passed.iter().filter(|way| !way.listed && !is_late(way)).copied().collect();
    ensure!(wrong.is_empty(), "an unlisted program runs: {:?}", names(&wrong));

    let clean = "umount /tmp/t /tmp/n 2>/dev/null; rm -rf /tmp/t /tmp/n /tmp/v /tmp/o";
    for (name, path) in LATE {
        stage.run(stage.guarded.container(), clean).await?;
        let way = WAYS.iter().find(|way| way.name == name).context("no such way")?;
        // It would run until it is killed.
        let script = way.script("$O").replace("write $O", "serve 9").replace("memfd $O", "in-memory serve 9");
        let ends =
            tokio::time::timeout(Duration::from_secs(20), stage.run(stage.guarded.container(), &script));
        ends.await.with_context(|| format!("{name}: it goes on"))??;
        let told = |answer: &Value| {
            let list = answer.get("incidents")?.as_array()?;
            let of = |one: &&Value| {
                one.get("action").is_some_and(|action| action == "deny")
                    && one.get("proc_path").and_then(Value::as_str).is_some_and(|told| told.contains(path))
            };
            list.iter().find(of).map(drop)
        };
        let incidents = "/v1/log/incident?limit=1000";
        stage
            .scene
            .api
            .wait_for(incidents, Duration::from_secs(5), told)
            .await
            .with_context(|| format!("{name}: it is not told"))?;
    }
    let shown = stage.scene.api.get("/v1/enforcer").await?;
    let lost = shown.pointer("/enforcers/0/capabilities/lost").cloned().unwrap_or_default().to_string();
    for named in [
        "in memory",
        "on a mount that was just made",
        "on FUSE or an overlay that a container has mounted itself",
    ] {
        ensure!(lost.contains(named), "{named} is not named: {lost}");
    }
    stage.scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_way_leads_to_a_file_that_is_for_others() -> Result<()> {
    Box::pin(to_a_file(Stage::start("bypass-files").await?)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_bpf_none_leads_there_either() -> Result<()> {
    let scene = Scene::start_on_tier("bypass-files-4", 4).await?;
    Box::pin(to_a_file(Box::pin(Stage::on(scene)).await?)).await
}

async fn to_a_file(stage: Stage) -> Result<()> {
    let scene = &stage.scene;
    let profile = format!("/v1/file_monitor/{CLIENT_GROUP}");
    let rule = json!({"config": {"add_filters": [{"filter": SECRET, "behavior": "block_access", "applications": [TOOL]}]}});
    scene.api.patch(&profile, &rule).await?;
    scene.set_mode("Protect").await?;
    let mut passed = Vec::new();
    for (name, script) in FILES {
        let script = script.replace("$F", SECRET);
        let known = stage.run(stage.learns.container(), &script).await?;
        ensure!(
            known.stdout.contains("root:"),
            "{name}: it leads nowhere even where nothing is guarded: {known:?}"
        );
        let read = stage.run(stage.guarded.container(), &script).await?;
        if read.stdout.contains("root:") {
            passed.push(name);
        }
        let own = scene.lab.exec(stage.guarded.container(), &[TOOL, "read", SECRET]).await?;
        ensure!(own.exit_code == 0, "{name}: afterwards the listed program cannot read it: {}", own.stderr);
    }
    ensure!(passed.is_empty(), "the file is read: {passed:?}");
    let refused = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        list.iter()
            .any(|one| one.get("name").is_some_and(|name| name == "Container.FileAccess.Violation"))
            .then_some(())
    };
    scene
        .api
        .wait_for("/v1/log/incident", Duration::from_secs(5), refused)
        .await
        .context("nothing is told")?;
    stage.scene.stop().await
}
