//! From the very first program: new pods, further containers, short jobs and what is run in a container from outside
//! are judged by their service's profile, however busy the machine is.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use nv_lab::{ContainerSpec, Image, PlainSpec, PodSpec};
use nv_scene::{CLIENT_IMAGE, Load, Scene, UNLISTED, client_pod};
use serde_json::Value;

/// Pods that are started, and how many at one time.
const PODS: usize = 48;
const AT_ONCE: usize = 8;
/// Image of a container outside of pods.
const PLAIN_IMAGE: &str = "docker.io/scene/plain:1";

/// Workloads in which `path` was stopped.
fn stopped(answer: &Value, path: &str) -> BTreeSet<String> {
    let text =
        |record: &Value, key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let incidents = answer.get("incidents").and_then(Value::as_array).cloned().unwrap_or_default();
    incidents
        .iter()
        .filter(|record| text(record, "proc_path") == path && text(record, "action") == "deny")
        .map(|record| text(record, "workload_id"))
        .collect()
}

/// Files of this name that any container of the lab has written, the ended ones too: their layers are still there.
fn written(folder: &Path, name: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => written(&entry.path(), name),
            Ok(_) if entry.file_name() == name => 1,
            _ => 0,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_program_of_every_new_pod_is_judged_by_its_services_profile_under_load() -> Result<()> {
    let scene = Scene::start("newcomers").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;

    let load = Load::new();
    let (mut number, mut started) = (0, 0);
    while started < PODS {
        ensure!(number < 3 * PODS, "{started} of {number} pods came as far as their first program");
        let specs: Vec<PodSpec> = (number..number + AT_ONCE)
            .map(|number| client_pod(number, &[UNLISTED, "write", "/tmp/first-ran"]))
            .collect();
        number += AT_ONCE;
        for outcome in join_all(specs.iter().map(|spec| scene.lab.run_pod(spec))).await {
            // A start whose program is refused fails, one whose program is killed does not: both are right. On a busy
            // machine the runtime itself may fail before there is any program.
            let failed = outcome.err().map(|error| error.to_string());
            started += usize::from(failed.is_none_or(|error| error.contains("start container")));
        }
    }
    drop(load);
    let (seen, _) = scene
        .api
        .wait_for("/v1/log/incident?limit=1000", Duration::from_secs(20), |answer| {
            let seen = stopped(answer, UNLISTED);
            (seen.len() >= started).then_some(seen)
        })
        .await
        .context("not every first program was stopped")?;
    ensure!(seen.len() == started, "{} of {started} first programs were stopped", seen.len());
    let ran = written(&scene.lab.options().dir, "first-ran");
    ensure!(ran == 0, "{ran} of {started} first programs ran");

    // What is listed goes on to start, at once and under the same profile.
    let pod = scene.lab.run_pod(&client_pod(number, &[])).await?;
    // A further container of a pod: the pod's row is inherited, no user space takes part.
    let mut pod = pod;
    let spec = ContainerSpec::new("second", CLIENT_IMAGE, &[UNLISTED, "write", "/tmp/second-ran"]);
    drop(scene.lab.add_container(&mut pod, &spec).await);
    // What a kubelet or an operator runs in it from outside.
    for _ in 0..10 {
        drop(scene.lab.exec(pod.container(), &[UNLISTED, "write", "/tmp/exec-ran"]).await);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for name in ["second-ran", "exec-ran"] {
        ensure!(written(&scene.lab.options().dir, name) == 0, "{name}: a program ran that is not listed");
    }
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_outside_of_pods_are_judged_from_their_first_program_too() -> Result<()> {
    let scene = Scene::start("plain").await?;
    let image = Image::busybox(PLAIN_IMAGE)?
        .file(UNLISTED, std::fs::read(nv_scene::attacker()?)?, 0o755)
        .command(&["/bin/sleep", "1000000"]);
    scene.lab.import_into("default", &image).await?;
    let first = scene.lab.run_plain(&PlainSpec::new("plain-0", PLAIN_IMAGE, &[])).await?;
    let group = scene
        .api
        .wait_for("/v1/workload", Duration::from_secs(20), |answer| {
            let list = answer.get("workloads")?.as_array()?;
            let own =
                list.iter().find(|one| one.get("id").and_then(Value::as_str) == Some(first.id.as_str()))?;
            own.get("service_group").and_then(Value::as_str).map(ToOwned::to_owned)
        })
        .await?
        .0;
    let service = group.trim_start_matches("nv.").to_owned();
    scene
        .api
        .wait_for(&format!("/v1/process_profile/{group}"), Duration::from_secs(20), |answer| {
            answer.to_string().contains("/bin/busybox").then_some(())
        })
        .await?;
    scene.api.set_modes(&[&service], "Protect").await?;
    scene.api.wait_enforced().await?;

    let load = Load::new();
    for round in 0..4 {
        let specs: Vec<PlainSpec> = (0..4)
            .map(|place| {
                let id = format!("plain-{round}-{place}");
                PlainSpec::new(&id, PLAIN_IMAGE, &[UNLISTED, "write", "/tmp/plain-ran"])
            })
            .collect();
        // The program is stopped, so that there is no task to be looked up: an error, and right.
        drop(join_all(specs.iter().map(|spec| scene.lab.run_plain(spec))).await);
    }
    drop(load);
    scene
        .api
        .wait_for("/v1/log/incident?limit=1000", Duration::from_secs(20), |answer| {
            (stopped(answer, UNLISTED).len() >= 16).then_some(())
        })
        .await
        .context("not every first program was stopped")?;
    let ran = written(&scene.lab.options().dir, "plain-ran");
    ensure!(ran == 0, "{ran} of 16 first programs ran");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_connection_of_every_new_pod_is_judged_by_its_services_rules_under_load() -> Result<()> {
    let scene = Scene::start("first-dial").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    let forbidden = format!("{}:81", scene.web_address()?);
    // It dials until it gets through, and says so.
    let dial = format!("/bin/attacker connect {forbidden} && : > /tmp/first-reached; exec sleep 1000");

    let load = Load::new();
    let mut pods = Vec::new();
    for round in 0..2 {
        let numbers = 1000 + round * AT_ONCE..1000 + (round + 1) * AT_ONCE;
        let specs: Vec<PodSpec> =
            numbers.map(|number| client_pod(number, &["/bin/sh", "-c", &dial])).collect();
        // On a busy machine the runtime itself may fail to start one.
        pods.extend(join_all(specs.iter().map(|spec| scene.lab.run_pod(spec))).await.into_iter().flatten());
    }
    drop(load);
    ensure!(pods.len() >= AT_ONCE, "{} pods started", pods.len());
    let denied = |answer: &Value| {
        let told = answer.get("violations").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |record: &Value, key: &str| {
            record.get(key).and_then(Value::as_str).map(str::to_owned).unwrap_or_default()
        };
        let clients: BTreeSet<String> = told
            .iter()
            .filter(|record| text(record, "policy_action") == "deny")
            .filter(|record| record.get("server_port").and_then(Value::as_u64) == Some(81))
            .map(|record| text(record, "client_id"))
            .collect();
        (clients.len() >= pods.len()).then_some(clients.len())
    };
    scene
        .api
        .wait_for("/v1/log/violation?limit=1000", Duration::from_secs(20), denied)
        .await
        .context("not every pod's first connection was stopped and told")?;
    let reached = written(&scene.lab.options().dir, "first-reached");
    ensure!(reached == 0, "{reached} of {} first connections came through", pods.len());
    scene.stop().await
}
