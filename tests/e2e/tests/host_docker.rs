//! Beside a Docker daemon: its containers are known by name and image, learned and protected, from their first program
//! on, and neither a restart of the daemon nor its absence changes whose rules they have.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use nv_lab::{Container, Docker, Image, Lab, LabOptions};
use nv_product::{Client, Options, Product};
use nv_scene::{PASSWORD, UNLISTED};
use serde_json::Value;

const IMAGE: &str = "shop/cart:1";
const GROUP: &str = "nv.cart";
const SOON: Duration = Duration::from_secs(20);
/// Containers whose first program is refused, and how many are started at one time.
const STARTS: usize = 12;
const AT_ONCE: usize = 4;

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What runs: containerd, Docker on it, one container, and the product, started in this order.
struct Stage {
    lab: Lab,
    docker: Docker,
    cart: Container,
    product: Product,
    api: Client,
    folder: PathBuf,
}

impl Stage {
    async fn start() -> Result<Self> {
        let lab = Lab::start(LabOptions::fresh()?).await?;
        let docker = lab.start_docker().await?;
        let image = Image::busybox(IMAGE)?
            .file(UNLISTED, std::fs::read(nv_scene::attacker()?)?, 0o755)
            .label("tier", "front")
            .command(&["/bin/sleep", "1000000"]);
        docker.import(&image).await?;
        let cart = docker.start_container("cart-1", &["--label", "app=cart", IMAGE]).await?;
        let folder = PathBuf::from(format!("/var/tmp/nv-scene-docker-{}", std::process::id()));
        let product = Product::start(Options {
            binary: nv_product::binary()?,
            state_dir: folder.join("state"),
            bpf_dir: format!("/sys/fs/bpf/nv-scene-docker-{}", std::process::id()).into(),
            containerd_socket: Some(lab.socket().to_owned()),
            arguments: vec![
                "--docker-socket".into(),
                docker.socket().display().to_string(),
                "--runtime-state-dir".into(),
                lab.state_dir().display().to_string(),
                "--log".into(),
                "info,nv_role_enforcer=debug".into(),
            ],
            user: None,
        })
        .await?;
        let api = product.login(PASSWORD).await?;
        Ok(Self { lab, docker, cart, product, api, folder })
    }

    /// Waits until the one container with this name is as wanted.
    async fn workload(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = |answer: &Value| {
            let list = answer.get("workloads")?.as_array()?;
            let mut named = list.iter().filter(|one| text(one, "name") == name);
            let only = named.next().filter(|_| named.next().is_none())?;
            wanted(only).then(|| only.clone())
        };
        let waited = self.api.wait_for("/v1/workload", SOON, found).await;
        Ok(waited.with_context(|| format!("workload {name}"))?.0)
    }

    /// Tries the program that was not learned in the container; whether it ran.
    async fn intrude(&self, mark: &str) -> bool {
        let command = ["exec", &self.cart.id, UNLISTED, "write", mark];
        // Stopped before its first instruction, it is an error of Docker's or ends by a signal.
        drop(self.docker.run(&command).await);
        Path::new(&format!("/proc/{}/root{mark}", self.cart.pid)).exists()
    }

    /// Workloads in which the program was stopped.
    async fn stopped_in(&self, least: usize) -> Result<Vec<String>> {
        let stopped = |answer: &Value| {
            let list = answer.get("incidents")?.as_array()?;
            let denied = list.iter().filter(|record| {
                text(record, "proc_path") == UNLISTED
                    && text(record, "action") == "deny"
                    && text(record, "group") == GROUP
            });
            let mut ids: Vec<String> = denied.map(|record| text(record, "workload_id").to_owned()).collect();
            ids.sort_unstable();
            ids.dedup();
            (ids.len() >= least).then_some(ids)
        };
        Ok(self.api.wait_for("/v1/log/incident?limit=1000", SOON, stopped).await?.0)
    }

    async fn stop(mut self) -> Result<()> {
        let ended = self.product.stop().await;
        self.product.remove_kernel_state()?;
        self.docker.kill()?;
        self.lab.stop().await?;
        std::fs::remove_dir_all(&self.folder)?;
        ended.map(drop)
    }
}

/// Whether the API shows a learned rule that lets the client reach the server at this port.
fn allows(answer: &Value, from: &str, to: &str, port: &str) -> Option<()> {
    let list = answer.get("rules")?.as_array()?;
    let is_it = |rule: &&Value| {
        text(rule, "from") == from
            && text(rule, "to") == to
            && text(rule, "action") == "allow"
            && text(rule, "ports").split(',').any(|listed| listed == port)
    };
    list.iter().find(is_it).map(drop)
}

/// Files of this name that any container has written, the ended ones too: their layers are still there.
fn written(folder: &Path, name: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => written(&entry.path(), name),
        Ok(_) => usize::from(entry.file_name() == name),
        Err(_) => 0,
    };
    entries.flatten().map(count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dockers_containers_are_learned_and_protected_and_stay_so_when_the_daemon_restarts() -> Result<()> {
    let mut stage = Stage::start().await?;

    // Known by what Docker calls it, once, though containerd has it too.
    let seen = stage.workload("cart-1", |one| text(one, "service_group") == GROUP).await?;
    ensure!(text(&seen, "id") == stage.cart.id && text(&seen, "image") == IMAGE, "{seen}");
    let path = format!("/v1/workload/{}", stage.cart.id);
    let whole = stage.api.get(&path).await?;
    for (label, value) in [("app", "cart"), ("tier", "front")] {
        let found = whole.pointer(&format!("/workload/labels/{label}")).and_then(Value::as_str);
        ensure!(found == Some(value), "label {label} of {whole}");
    }
    let host = |answer: &Value| {
        let host = answer.get("hosts")?.as_array()?.first()?.clone();
        (text(&host, "runtime") == "docker").then_some(host)
    };
    let (host, _) = stage.api.wait_for("/v1/host", SOON, host).await.context("the node's runtime")?;
    let version = stage.docker.run(&["version", "--format", "{{.Server.Version}}"]).await?;
    ensure!(text(&host, "runtime_version") == version, "{host}");
    let driver = stage.docker.run(&["info", "--format", "{{.Driver}}"]).await?;
    ensure!(text(&host, "storage_driver") == driver, "{driver} is used: {host}");

    // Learned, though it ran before the product; then protected.
    stage.docker.run(&["exec", &stage.cart.id, "/bin/cat", "/etc/passwd"]).await?;
    let learned = |answer: &Value| answer.to_string().contains("/bin/busybox").then_some(());
    stage.api.wait_for(&format!("/v1/process_profile/{GROUP}"), SOON, learned).await?;
    stage.api.set_modes(&["cart"], "Protect").await?;
    stage.workload("cart-1", |one| text(one, "policy_mode") == "Protect").await?;
    stage.api.wait_enforced().await?;
    ensure!(!stage.intrude("/tmp/in-protect").await, "an unlisted program ran");
    stage.docker.run(&["exec", &stage.cart.id, "/bin/cat", "/etc/passwd"]).await?;
    ensure!(stage.stopped_in(1).await? == [stage.cart.id.clone()]);

    // From the first program of a new container.
    for round in 0..STARTS / AT_ONCE {
        let names: Vec<String> = (0..AT_ONCE).map(|place| format!("first-{round}-{place}")).collect();
        let command = [IMAGE, UNLISTED, "write", "/tmp/first-ran"];
        drop(join_all(names.iter().map(|name| stage.docker.start_container(name, &command))).await);
    }
    let stopped = stage.stopped_in(STARTS + 1).await?;
    let ran = written(&stage.lab.options().dir, "first-ran");
    ensure!(ran == 0, "{ran} of {STARTS} first programs ran; stopped in {}", stopped.len());

    // The daemon dies; who its containers are does not change, and what is new after its return is protected too.
    stage.docker.kill()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage
        .workload("cart-1", |one| text(one, "state") == "protect" && text(one, "service_group") == GROUP)
        .await?;
    stage.docker.start().await?;
    ensure!(!stage.intrude("/tmp/after-restart").await, "an unlisted program ran after the daemon's restart");
    let second = stage.docker.start_container("cart-2", &[IMAGE]).await?;
    stage
        .workload("cart-2", |one| text(one, "service_group") == GROUP && text(one, "id") == second.id)
        .await?;
    stage.docker.run(&["rename", "cart-2", "cart-3"]).await?;
    stage.workload("cart-3", |one| text(one, "id") == second.id).await?;
    let now = stage.api.get(&path).await?;
    let started = |answer: &Value| answer.pointer("/workload/started_at").cloned();
    ensure!(
        started(&now) == started(&whole) && now.pointer("/workload/running") == Some(&Value::Bool(true)),
        "{now}"
    );

    // And gone when it is gone.
    stage.docker.run(&["rm", "--force", "cart-3"]).await?;
    let gone = |answer: &Value| {
        let list = answer.get("workloads")?.as_array()?;
        list.iter().all(|one| text(one, "id") != second.id).then_some(())
    };
    stage.api.wait_for("/v1/workload", SOON, gone).await.context("a removed container stays")?;
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_on_a_network_of_dockers_are_learned_and_those_that_were_not_are_stopped() -> Result<()> {
    let stage = Stage::start().await?;
    stage.docker.make_network("shop").await?;
    let web = Image::busybox("shop/web:1")?.file("/www/index.html", "shop\n", 0o644).command(&[
        "/bin/sh",
        "-c",
        "httpd -p 81 -h /www; exec httpd -f -p 80 -h /www",
    ]);
    stage.docker.import(&web).await?;
    let started = ["run", "--detach", "--net", "shop", "--name"];
    let web = stage.docker.run(&[&started[..], &["web", "shop/web:1"]].concat()).await?;
    let client = stage.docker.run(&[&started[..], &["client", IMAGE]].concat()).await?;
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = stage.docker.run(&["inspect", "--format", format, &web]).await?;
    let path = format!("/v1/workload/{web}");
    stage
        .api
        .wait_for(&path, SOON, |answer| {
            answer.pointer("/workload/interfaces")?.to_string().contains(&address).then_some(())
        })
        .await
        .context("the address that Docker gave")?;

    let connect = async |port: &str| {
        let target = format!("{address}:{port}");
        let command = ["exec", &client, UNLISTED, "connect", &target];
        stage.docker.run(&command).await.is_ok()
    };
    let learned = async || {
        let learned = |answer: &Value| allows(answer, GROUP, "nv.web", "tcp/80");
        stage.api.wait_for("/v1/policy/rule", Duration::from_secs(4), learned).await
    };
    // The very first connections may be before the veth is watched.
    let mut rounds = 0;
    loop {
        ensure!(connect("80").await, "Discover stops nothing");
        if learned().await.is_ok() {
            break;
        }
        rounds += 1;
        ensure!(rounds < 6, "the connection is not learned");
    }
    stage.api.set_modes(&["cart", "web"], "Protect").await?;
    stage.workload("client", |one| text(one, "policy_mode") == "Protect").await?;
    stage.api.wait_enforced().await?;
    ensure!(connect("80").await, "a learned connection is stopped");
    ensure!(!connect("81").await, "a connection that was not learned came through");
    let denied = |answer: &Value| {
        let list = answer.get("violations")?.as_array()?.clone();
        list.into_iter().find(|record| {
            record.get("server_port").and_then(Value::as_u64) == Some(81)
                && text(record, "policy_action") == "deny"
        })
    };
    let (record, _) = stage.api.wait_for("/v1/log/violation", SOON, denied).await?;
    ensure!(text(&record, "client_id") == client && text(&record, "server_id") == web, "{record}");
    stage.stop().await
}
