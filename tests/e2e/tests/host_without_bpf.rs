//! The last tier: no BPF at all. Programs are judged by fanotify before they run, and what it is not asked about by what the
//! proc connector tells.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Container, ContainerSpec, PodSpec};
use nv_scene::{CLIENT_GROUP, CLIENT_IMAGE, NAMESPACE, Scene, TOOL, UNLISTED};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(10);

/// Ways to a program that is not in the profile, of which fanotify is asked: `$P` is the program, `$L` one that the profile
/// lists, `$O` the file that it makes when it runs.
const WAYS: [(&str, &str); 11] = [
    ("as it is", "$P write $O"),
    ("by a link", "ln -s $P /tmp/link; /tmp/link write $O"),
    ("by a hard link", "ln $P /tmp/hard; /tmp/hard write $O"),
    ("by the root in /proc", "/proc/self/root$P write $O"),
    ("copied", "cp $P /tmp/copied; /tmp/copied write $O"),
    (
        "as a script's interpreter",
        "printf \"#!$P write\n\" > /tmp/s; chmod 755 /tmp/s; /tmp/s; grep -q : /tmp/s && mv /tmp/s $O",
    ),
    ("deleted", "cp $P /tmp/gone; exec 9</tmp/gone; rm /tmp/gone; /proc/self/fd/9 write $O"),
    ("mounted over a listed one", "mount --bind $P $L; $L write $O; umount $L"),
    (
        "on a tmpfs a while old",
        "mkdir /tmp/t; mount -t tmpfs t /tmp/t; cp $P /tmp/t/p; sleep 2; /tmp/t/p write $O; umount /tmp/t",
    ),
    (
        "on a tmpfs before which another program has run",
        "mkdir /tmp/t2; mount -t tmpfs t /tmp/t2; cp $P /tmp/t2/p; $L write /tmp/l; /tmp/t2/p write $O; umount /tmp/t2",
    ),
    ("in a namespace of its own", "unshare -m $P write $O"),
];

async fn run(scene: &Scene, container: &Container, script: &str) -> Result<nv_lab::Output> {
    Ok(scene.lab.exec(container, &["/bin/sh", "-c", script]).await?)
}

fn made(container: &Container, path: &str) -> bool {
    std::fs::metadata(format!("/proc/{}/root{path}", container.pid)).is_ok()
}

fn denied(answer: &Value, path: &str) -> Option<()> {
    let list = answer.get("incidents")?.as_array()?;
    list.iter()
        .any(|one| {
            one.get("proc_path").is_some_and(|told| told == path)
                && one.get("action").is_some_and(|action| action == "deny")
        })
        .then_some(())
}

/// The scene without BPF, with a privileged client that has learned and is protected.
async fn protected(name: &str) -> Result<(Scene, nv_lab::Pod)> {
    let scene = Scene::start_on_tier(name, 4).await?;
    let spec = PodSpec::new("client-5f6d8b7c9-bbbbb", NAMESPACE)
        .container(ContainerSpec::new("main", CLIENT_IMAGE, &[]).privileged());
    let pod = scene.lab.run_pod(&spec).await?;
    scene.operate().await?;
    scene.wait_learned_programs().await?;
    let body = json!({"config": {"services": ["client.shop"], "baseline_profile": "basic"}});
    scene.api.patch("/v1/service/config", &body).await?;
    scene.set_mode("Protect").await?;
    Ok((scene, pod))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_program_that_is_denied_runs_an_instruction_where_fanotify_is_asked() -> Result<()> {
    let (scene, pod) = protected("no-bpf").await?;
    let shown = scene.api.get("/v1/enforcer").await?;
    let capabilities = shown.pointer("/enforcers/0/capabilities").cloned().unwrap_or_default();
    ensure!(capabilities.get("tier") == Some(&json!(4)), "{capabilities}");
    let lost = capabilities.get("lost").cloned().unwrap_or_default().to_string();
    ensure!(lost.contains("Connections are judged by the enforcer's processes"), "{lost}");

    let container = pod.container();
    run(&scene, container, "mkdir /out").await?;
    let mut passed = Vec::new();
    for (number, (name, script)) in WAYS.iter().enumerate() {
        let out = format!("/out/{number}");
        let script = script.replace("$P", UNLISTED).replace("$L", TOOL).replace("$O", &out);
        drop(run(&scene, container, &script).await?);
        if made(container, &out) {
            passed.push(*name);
        }
    }
    ensure!(passed.is_empty(), "an unlisted program runs: {passed:?}");
    // Many, one after the other and at once.
    let many = format!(
        "i=0; while [ $i -lt 300 ]; do {UNLISTED} write /out/many-$i & {UNLISTED} write /out/more-$i; i=$((i+1)); done; wait"
    );
    drop(run(&scene, container, &many).await?);
    let ran = (0..300)
        .filter(|i| made(container, &format!("/out/many-{i}")) || made(container, &format!("/out/more-{i}")));
    ensure!(ran.count() == 0, "a denied program ran");
    scene
        .api
        .wait_for("/v1/log/incident", LIMIT, |answer| denied(answer, UNLISTED))
        .await
        .context("nothing is told")?;
    scene.operate().await.context("learned operation is stopped")?;

    // What fanotify is not asked about is told, and killed when it is seen.
    let killed = scene.lab.exec(container, &[TOOL, "in-memory", "serve", "9"]).await?;
    ensure!(killed.exit_code == 137, "a program in memory ends with {}: {}", killed.exit_code, killed.stderr);
    let told = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        list.iter()
            .any(|one| {
                one.get("proc_path").and_then(Value::as_str).is_some_and(|path| path.contains("memfd"))
            })
            .then_some(())
    };
    scene.api.wait_for("/v1/log/incident", LIMIT, told).await.context("a program in memory is not told")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_container_of_a_protected_service_is_judged_from_its_first_program_on() -> Result<()> {
    let (scene, _pod) = protected("no-bpf-new").await?;
    for number in "bcdfghjklm".chars() {
        let command = format!("{UNLISTED} write /tmp/first; exec sleep 1000");
        let spec = PodSpec::new(&format!("client-5f6d8b7c9-nzw4{number}"), NAMESPACE)
            .container(ContainerSpec::new("main", CLIENT_IMAGE, &["/bin/sh", "-c", &command]));
        let pod = scene.lab.run_pod(&spec).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(!made(pod.container(), "/tmp/first"), "the first program of pod {number} was not stopped");
    }
    scene
        .api
        .wait_for("/v1/log/incident", LIMIT, |answer| denied(answer, UNLISTED))
        .await
        .context("nothing is told")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_keeper_judges_as_the_one_before_and_processes_are_listed() -> Result<()> {
    let (scene, pod) = protected("no-bpf-keeper").await?;
    let launcher = scene.product.children().first().copied().context("no launcher")?;
    let keeper = nv_product::children(launcher).first().copied().context("no keeper")?;
    kill_process(Pid::from_raw(keeper.cast_signed()).context("no keeper")?, Signal::KILL)?;
    let log = scene.product.log_path();
    for _ in 0..200 {
        if std::fs::read_to_string(&log)?.contains("a new keeper holds the kernel") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let container = pod.container();
    drop(run(&scene, container, &format!("{UNLISTED} write /tmp/after")).await?);
    ensure!(!made(container, "/tmp/after"), "a denied program runs after the new keeper");
    drop(run(&scene, container, "cat /etc/passwd").await?);
    let history = format!("/v1/workload/{}/process_history", container.id);
    let known = |answer: &Value| answer.to_string().contains("/bin/busybox").then_some(());
    scene.api.wait_for(&history, LIMIT, known).await.context("no history of processes")?;
    ensure!(scene.api.get(&format!("/v1/process_profile/{CLIENT_GROUP}")).await?.is_object(), "no profile");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_agent_and_a_fork_bomb_hide_no_denial() -> Result<()> {
    let (scene, pod) = protected("no-bpf-bomb").await?;
    let container = pod.container();
    let agent = scene.product.pid().and_then(|pid| Pid::from_raw(pid.cast_signed())).context("no process")?;
    // Each by a program of its own, as the repeats of one are a single record for a minute.
    let intruder = |number: usize| format!("/tmp/intruder-{number}");
    let copies: Vec<String> = (0..=10).map(|number| format!("cp {UNLISTED} {}", intruder(number))).collect();
    run(&scene, container, &copies.join("; ")).await?;
    let intrude = async |number: usize| {
        let out = format!("/tmp/ran-{number}");
        drop(run(&scene, container, &format!("{} write {out}", intruder(number))).await);
        ensure!(!made(container, &out), "a denied program ran: {number}");
        Ok(())
    };
    kill_process(agent, Signal::STOP)?;
    intrude(0).await?;
    let learned = scene.lab.exec(container, &[TOOL, "write", "/tmp/learned"]).await;
    kill_process(agent, Signal::CONT)?;
    ensure!(learned?.exit_code == 0, "a learned program is stopped while the agent is");

    // Bounded, as the machine has other users: five times three hundred processes at once.
    let bomb = "j=0; while [ $j -lt 5 ]; do i=0; while [ $i -lt 300 ]; do /bin/true & i=$((i+1)); done; wait; j=$((j+1)); done";
    let explodes = run(&scene, container, bomb);
    let intrudes = async {
        for number in 1..=10 {
            intrude(number).await?;
        }
        Ok::<(), anyhow::Error>(())
    };
    let (exploded, intruded) = tokio::join!(explodes, intrudes);
    intruded?;
    ensure!(exploded?.exit_code == 0, "learned programs are stopped by a flood of them");
    let told = |answer: &Value| (0..=10).try_for_each(|number| denied(answer, &intruder(number)));
    scene
        .api
        .wait_for("/v1/log/incident?limit=1000", Duration::from_secs(20), told)
        .await
        .context("a denial was lost in the flood")?;
    scene.operate().await.context("learned operation is stopped")?;
    scene.stop().await
}
