//! Whose a program is follows from the cgroup that it runs in, whatever namespaces it makes or joins.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nv_lab::{Container, ContainerSpec, PodSpec};
use nv_scene::{CLIENT_IMAGE, Scene, TOOL, UNLISTED};
use serde_json::json;
use tokio::process::Command;

/// Where the cgroup v2 tree is mounted on this machine.
fn tree() -> Result<PathBuf> {
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .map(PathBuf::from)
        .find(|root| root.join("cgroup.controllers").exists())
        .context("no cgroup v2 tree")
}

fn wrote(container: &Container, path: &str) -> bool {
    PathBuf::from(format!("/proc/{}/root{path}", container.pid)).exists()
}

/// Runs a command on the machine itself: in a cgroup, with a mount namespace of its own, as a container's programs are.
async fn run_in(cgroup: &std::path::Path, program: &str) -> Result<std::process::ExitStatus> {
    let script = format!("echo $$ > {}/cgroup.procs && exec unshare --mount {program}", cgroup.display());
    Ok(Command::new("/bin/sh").args(["-c", &script]).status().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_is_its_cgroups_whatever_namespaces_it_unshares_changes_or_joins() -> Result<()> {
    let scene = Scene::start("identity").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let spec = PodSpec::new("client-5f6d8b7c9-bbbbb", nv_scene::NAMESPACE)
        .container(ContainerSpec::new("main", CLIENT_IMAGE, &[]).privileged());
    let pod = scene.lab.run_pod(&spec).await?;
    let container = pod.container();
    // The tools of the intruder are known programs, and what it does with them is not what is tested.
    for known in [&["/bin/unshare", "-m", "/bin/true"][..], &["/bin/chroot", "/", "/bin/true"]] {
        scene.lab.exec(container, known).await?;
    }
    scene.set_mode("Protect").await?;

    let ways: [(&str, &[&str]); 4] = [
        ("mounts", &["/bin/unshare", "-m"]),
        ("all", &["/bin/unshare", "-m", "-u", "-i", "-n"]),
        ("pids", &["/bin/unshare", "-p", "-f"]),
        ("root", &["/bin/chroot", "/"]),
    ];
    for (name, way) in ways {
        // What is listed goes the same way, so that it is known to lead somewhere.
        for (program, file, may) in
            [(TOOL, format!("/tmp/{name}-listed"), true), (UNLISTED, format!("/tmp/{name}"), false)]
        {
            let command: Vec<&str> = way.iter().copied().chain([program, "write", &file]).collect();
            drop(scene.lab.exec(container, &command).await);
            ensure!(wrote(container, &file) == may, "{command:?}");
        }
    }

    // A process that joins the container's namespaces, in its cgroup, as `exec` of a runtime does.
    let cgroup = tree()?.join(container.cgroup.trim_start_matches('/'));
    for (program, file, may) in [(TOOL, "/tmp/joined-listed", true), (UNLISTED, "/tmp/joined", false)] {
        let join = format!(
            "echo $$ > {}/cgroup.procs && exec nsenter --target {} --mount --pid --net {program} write {file}",
            cgroup.display(),
            container.pid
        );
        Command::new("/bin/sh").args(["-c", &join]).status().await?;
        ensure!(wrote(container, file) == may, "{join}");
    }

    // A cgroup that is made below the container's, and a process that is moved there while it runs.
    let inner = cgroup.join("inner");
    std::fs::create_dir(&inner).with_context(|| inner.display().to_string())?;
    let script = format!("sleep 1; {TOOL} write /tmp/moved-listed; {UNLISTED} write /tmp/moved; true");
    let command = ["/bin/sh", "-c", &script];
    let waits = scene.lab.exec(container, &command);
    let moves = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let members = std::fs::read_to_string(cgroup.join("cgroup.procs"))?;
        let mut moved = 0;
        for pid in members.lines().filter(|pid| *pid != container.pid.to_string()) {
            moved += usize::from(std::fs::write(inner.join("cgroup.procs"), pid).is_ok());
        }
        if moved == 0 {
            bail!("nothing could be moved");
        }
        Ok(())
    };
    let (waited, moved) = tokio::join!(waits, moves);
    moved?;
    drop(waited);
    ensure!(
        !wrote(container, "/tmp/moved"),
        "a process in a cgroup below the container's escaped its profile"
    );
    scene.operate().await.context("learned operation is stopped")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_new_services_fail_closed_nothing_of_an_unknown_container_runs() -> Result<()> {
    let scene = Scene::start("unknown").await?;
    scene.operate().await?;
    // Beside the pods' cgroups, where containers alone are made; no bundle speaks of it.
    let above = scene.client.sandbox.cgroup.trim_start_matches('/').to_owned();
    let above = PathBuf::from(above);
    let above =
        above.parent().and_then(std::path::Path::parent).context("the pods have no cgroup above them")?;
    let unknown = tree()?.join(above).join(format!("nobody-{}", std::process::id()));
    std::fs::create_dir(&unknown).with_context(|| unknown.display().to_string())?;
    let outcome = async {
        ensure!(run_in(&unknown, "/bin/true").await?.success(), "by default what is not known is learned");
        let closed = json!({"config_v2": {"svc_cfg": {"new_service_fail_mode": "closed"}}});
        scene.api.patch("/v2/system/config", &closed).await.map(drop)?;
        let mut stopped = false;
        for _ in 0..100 {
            if !run_in(&unknown, "/bin/true").await?.success() {
                stopped = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        ensure!(stopped, "a container that nobody knows runs programs although new services fail closed");
        // Pods are known before they run anything, and start as ever.
        let spec = PodSpec::new("client-5f6d8b7c9-ccccc", nv_scene::NAMESPACE).container(ContainerSpec::new(
            "main",
            CLIENT_IMAGE,
            &[],
        ));
        let pod = scene.lab.run_pod(&spec).await?;
        let ran = scene.lab.exec(pod.container(), &["/bin/true"]).await?;
        ensure!(ran.exit_code == 0, "a known container is stopped: {}", ran.stderr);
        Ok(())
    }
    .await;
    std::fs::remove_dir(&unknown)?;
    outcome?;
    scene.stop().await
}
