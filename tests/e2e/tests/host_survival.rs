//! What survives: a kill -9 of everything, a runtime that dies, a second start on one state directory.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Lab, LabOptions};
use nv_product::{Options, Product};
use nv_scene::Scene;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

fn ids(answer: &Value, list: &str) -> Vec<String> {
    let records = answer.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    records.iter().filter_map(|record| record.get("id")?.as_str().map(ToOwned::to_owned)).collect()
}

/// What the rules say, without what is counted of them.
fn said(answer: &Value) -> Vec<String> {
    let rules = answer.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let keys = ["id", "from", "to", "ports", "applications", "action"];
    rules
        .iter()
        .map(|rule| keys.map(|key| rule.get(key).cloned().unwrap_or_default().to_string()).join(" "))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enforcement_and_everything_acknowledged_survive_kill_9_under_traffic() -> Result<()> {
    let mut scene = Scene::start("kill").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    let forbidden = format!("{}:81", scene.web_address()?);
    let echo = format!("{}:7", scene.echo_address()?);
    scene.run(&["/bin/sh", "-c", "cp /bin/attacker /tmp/a && /tmp/a write /tmp/a1"]).await?;
    scene
        .api
        .wait_for("/v1/log/incident", Duration::from_secs(5), |answer| {
            (!ids(answer, "incidents").is_empty()).then_some(())
        })
        .await?;
    let incidents = ids(&scene.api.get("/v1/log/incident").await?, "incidents");
    let rules = said(&scene.api.get("/v1/policy/rule").await?);

    // An allowed connection talks all the while; nothing of it may be lost.
    let words = ["/bin/attacker", "talk", &echo, "2000"];
    let talk = scene.lab.exec(scene.client.container(), &words);
    let blow = async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        scene.product.kill().await
    };
    let (talked, killed) = tokio::join!(talk, blow);
    killed?;
    let talked = talked?;
    ensure!(talked.exit_code == 0, "an allowed connection was hurt by the kill: {}", talked.stderr);

    // Nobody is there, and the last policy is still enforced.
    scene.run(&["/bin/sh", "-c", "/tmp/a write /tmp/a2"]).await?;
    ensure!(!scene.has_file("/tmp/a2"), "a denied program ran while the enforcer was dead");
    ensure!(
        scene.run(&["/bin/attacker", "connect", &forbidden]).await?.exit_code != 0,
        "a denied connection passed while the enforcer was dead"
    );
    scene.operate().await.context("learned operation is stopped while the enforcer is dead")?;

    scene.product.restart().await?;
    scene.api = scene.product.login(nv_scene::PASSWORD).await?;
    let after = ids(&scene.api.get("/v1/log/incident").await?, "incidents");
    for id in &incidents {
        ensure!(after.contains(id), "incident {id} was shown before the kill and is lost");
    }
    let rules_after = said(&scene.api.get("/v1/policy/rule").await?);
    ensure!(rules_after == rules, "rules changed over the kill: {rules:?} became {rules_after:?}");
    scene.run(&["/bin/sh", "-c", "/tmp/a write /tmp/a3"]).await?;
    ensure!(!scene.has_file("/tmp/a3"), "a denied program ran after the restart");
    scene.operate().await.context("learned operation is stopped after the restart")?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_is_killed_is_replaced_and_new_pods_are_judged() -> Result<()> {
    let scene = Scene::start("keeper").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    let launcher = scene.product.children().first().copied().context("no launcher")?;
    let first = nv_product::children(launcher).first().copied().context("no keeper")?;
    let first = rustix::process::Pid::from_raw(first.cast_signed()).context("no keeper")?;
    rustix::process::kill_process(first, rustix::process::Signal::KILL)?;
    let forbidden = format!("{}:81", scene.web_address()?);
    ensure!(
        scene.run(&["/bin/attacker", "connect", &forbidden]).await?.exit_code != 0,
        "a denied connection passed while there was no keeper"
    );
    let log = scene.product.log_path();
    for _ in 0..200 {
        if std::fs::read_to_string(&log)?.contains("a new keeper holds the kernel") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let spec = nv_lab::PodSpec::new("client-5f6d8b7c9-kkkkk", nv_scene::NAMESPACE)
        .container(nv_lab::ContainerSpec::new("main", "docker.io/scene/client:1", &[]));
    let late = scene.lab.run_pod(&spec).await?;
    let web = format!("http://{}/index.html", scene.web_address()?);
    // Its identity is with the controller for a moment; then what is learned passes and the rest does not.
    let mut stopped = false;
    for _ in 0..100 {
        if scene.lab.exec(late.container(), &["/bin/attacker", "connect", &forbidden]).await?.exit_code != 0 {
            stopped = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(stopped, "the connections of a pod that came after the new keeper are not judged");
    let mut fetched = false;
    for _ in 0..100 {
        if scene.lab.exec(late.container(), &["/bin/wget", "-q", "-O", "-", &web]).await?.exit_code == 0 {
            fetched = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(fetched, "what is learned stays stopped for a pod that came after the new keeper");
    scene.operate().await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_dies_and_returns_is_followed_again() -> Result<()> {
    let mut scene = Scene::start("runtime").await?;
    scene.lab.kill_containerd().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(scene.api.get("/v1/workload").await.is_ok(), "the API died with the runtime");
    scene.lab.start_containerd().await?;
    let spec = nv_lab::PodSpec::new("late-0", nv_scene::NAMESPACE).container(nv_lab::ContainerSpec::new(
        "main",
        "docker.io/scene/client:1",
        &[],
    ));
    let late = scene.lab.run_pod(&spec).await?;
    let id = late.container().id.clone();
    scene
        .api
        .wait_for("/v1/workload", Duration::from_secs(40), |answer| {
            answer.to_string().contains(&id).then_some(())
        })
        .await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_has_one_owner_and_a_corrupt_one_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = |state: &str| -> Result<Options> {
        Ok(Options {
            binary: nv_product::binary()?,
            state_dir: folder.path().join(state),
            bpf_dir: format!("/sys/fs/bpf/nv-owner-{}", std::process::id()).into(),
            containerd_socket: None,
            arguments: Vec::new(),
            user: None,
        })
    };
    let mut first = Product::start(options("one")?).await?;
    let second = Product::start(options("one")?).await.err().context("a second owner was let in")?;
    ensure!(second.to_string().contains("in use"), "{second:#}");
    first.kill().await?;

    let store = walk(&folder.path().join("one")).into_iter().find(|path| path.ends_with("store.redb"));
    let store = store.context("no store.redb below the state directory")?;
    std::fs::write(&store, b"this is no database")?;
    let third = Product::start(options("one")?).await.err().context("a corrupt store was accepted")?;
    ensure!(third.to_string().contains("store.redb"), "{third:#}");
    first.remove_kernel_state()
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_containers_is_served_and_strangers_are_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut product = Product::start(Options {
        binary: nv_product::binary()?,
        state_dir: folder.path().join("state"),
        bpf_dir: format!("/sys/fs/bpf/nv-bare-{}", std::process::id()).into(),
        containerd_socket: Some(folder.path().join("no.sock")),
        arguments: Vec::new(),
        user: None,
    })
    .await?;
    let mut stranger = nv_product::Client::new(product.rest_url(), &product.ca_file())?;
    let login = |password: &str| json!({"password": {"username": "admin", "password": password}});
    let (status, body) = stranger.call(Method::POST, "/v1/auth", Some(&login("admin"))).await?;
    ensure!(status == StatusCode::UNAUTHORIZED && body.get("code") == Some(&json!(3)), "{status} {body}");
    let (status, _) = stranger.call(Method::GET, "/v1/workload", None).await?;
    ensure!(status == StatusCode::UNAUTHORIZED, "{status}");

    // The one-time password alone opens nothing: it has to be changed in the same breath.
    let one_time = std::fs::read_to_string(product.password_file())?;
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(product.password_file())?.permissions());
    ensure!(mode & 0o777 == 0o600, "the password file has mode {mode:o}");
    let (status, body) = stranger.call(Method::POST, "/v1/auth", Some(&login(one_time.trim()))).await?;
    ensure!(
        status == StatusCode::OK && body.get("need_to_reset_password") == Some(&json!(true)),
        "{status} {body}"
    );
    ensure!(body.get("token") == Some(&Value::Null), "{body}");
    stranger.login("admin", one_time.trim(), Some("Another-Pass-9")).await?;
    let hosts = stranger
        .wait_for("/v1/host", Duration::from_secs(10), |answer| {
            answer.get("hosts")?.as_array()?.first().cloned()
        })
        .await?
        .0;
    ensure!(hosts.get("kernel").and_then(Value::as_str).is_some_and(|kernel| !kernel.is_empty()), "{hosts}");
    ensure!(product.stop().await? == Some(0), "SIGTERM must end it in order");
    product.remove_kernel_state()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_root_the_rest_runs_and_says_what_is_missing() -> Result<()> {
    // The usual folder for temporary files may be closed to others.
    let folder = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()?;
    let binary = folder.path().join("neuvector");
    std::fs::copy(nv_product::binary()?, &binary)?;
    let mut product = Product::start(Options {
        binary,
        state_dir: folder.path().join("state"),
        bpf_dir: folder.path().join("no-bpf"),
        containerd_socket: None,
        arguments: Vec::new(),
        user: Some(65_534),
    })
    .await?;
    ensure!(
        product.login("Nobodys-Pass-1").await?.get("/v1/enforcer").await?.get("enforcers")
            == Some(&json!([]))
    );
    ensure!(product.log_tail().contains("not root"), "{}", product.log_tail());
    ensure!(product.stop().await? == Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lab_alone_leaves_nothing_behind() -> Result<()> {
    let options = LabOptions::fresh()?;
    let bridge = options.bridge.clone();
    let lab = Lab::start(options).await?;
    lab.stop().await?;
    ensure!(!std::path::Path::new("/sys/class/net").join(&bridge).exists(), "bridge {bridge} is left");
    Ok(())
}
