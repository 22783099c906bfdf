//! The stage for end-to-end tests, benches and the demo: three pods on a private containerd, and the real product.
//!
//! ```text
//! client ──tcp/80──▶ web (busybox httpd)      learned
//!        ──tcp/7──▶ echo (nv-attacker serve)  learned
//!        ──tcp/81─▶ web                        never seen before the attack
//! ```

pub mod debian;
mod intruder;
mod newcomer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use nv_lab::{ContainerSpec, Image, Lab, LabOptions, Output, Pod, PodSpec};
use nv_product::{Client, Options, Product};
use serde_json::{Value, json};

pub use intruder::{intruder, intruder_ran};
pub use newcomer::{Counted, Load, client_pod};

/// Namespace of all pods of the scene.
pub const NAMESPACE: &str = "shop";
/// Learned group of the client's service.
pub const CLIENT_GROUP: &str = "nv.client.shop";
/// Learned group of the web server's service.
pub const WEB_GROUP: &str = "nv.web.shop";
/// Learned group of the echo server's service.
pub const ECHO_GROUP: &str = "nv.echo.shop";
/// Password of the admin after the first login.
pub const PASSWORD: &str = "Scene-Password-1";
/// Program that the client runs in ordinary operation and that an attack replaces.
pub const TOOL: &str = "/usr/bin/report";

/// Program of the client's image that ordinary operation never runs.
pub const UNLISTED: &str = "/usr/bin/unlisted";

/// File of the client's image that only some programs should read.
pub const SECRET: &str = "/etc/shadow";

/// Image of the client.
pub const CLIENT_IMAGE: &str = "docker.io/scene/client:1";
const WEB_IMAGE: &str = "docker.io/scene/web:1";
const ECHO_IMAGE: &str = "docker.io/scene/echo:1";

/// Everything that runs.
#[derive(Debug)]
pub struct Scene {
    /// The private containerd.
    pub lab: Lab,
    /// The product.
    pub product: Product,
    /// A client of its REST API, logged in.
    pub api: Client,
    /// Web server.
    pub web: Pod,
    /// Echo server.
    pub echo: Pod,
    /// The one that asks both.
    pub client: Pod,
    folder: PathBuf,
}

/// The static intruder beside this program.
///
/// # Errors
/// When it was not built.
pub fn attacker() -> Result<PathBuf> {
    let path = nv_product::binary()?.with_file_name("nv-attacker");
    if !path.is_file() {
        bail!("{} is not there; run make build", path.display());
    }
    Ok(path)
}

/// Images of the scene, built here.
fn images() -> Result<[Image; 3]> {
    let attacker = std::fs::read(attacker()?)?;
    // Another file than the tool's by its content too.
    let unlisted = [attacker.as_slice(), b"unlisted"].concat();
    let page = "<html>shop</html>\n";
    Ok([
        Image::busybox(WEB_IMAGE)?.file("/www/index.html", page, 0o644).command(&[
            "/bin/sh",
            "-c",
            "httpd -p 81 -h /www; exec httpd -f -p 80 -h /www",
        ]),
        Image::busybox(CLIENT_IMAGE)?
            .file("/bin/attacker", attacker.clone(), 0o755)
            .file(TOOL, attacker.clone(), 0o755)
            .file(UNLISTED, unlisted, 0o755)
            .file(SECRET, "root:!:20000::::::\n", 0o600)
            .file("/srv/vault/key", "secret\n", 0o600)
            .command(&["/bin/sleep", "1000000"]),
        Image::busybox(ECHO_IMAGE)?.file("/bin/echo-server", attacker, 0o755).command(&[
            "/bin/echo-server",
            "serve",
            "7",
        ]),
    ])
}

impl Scene {
    /// Starts containerd, the product and the pods, in this order, and logs in.
    ///
    /// # Errors
    /// When anything does not start, with the reason.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, nv_product::binary()?).await
    }

    /// As [`Self::start`], with a given binary of the product.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_with(name: &str, binary: PathBuf) -> Result<Self> {
        Self::start_at(
            name,
            binary,
            PathBuf::from(format!("/sys/fs/bpf/nv-scene-{name}-{}", std::process::id())),
        )
        .await
    }

    /// As [`Self::start_with`], with a given folder for what is pinned.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_at(name: &str, binary: PathBuf, bpf_dir: PathBuf) -> Result<Self> {
        Self::start_as(name, binary, bpf_dir, false, &[]).await
    }

    /// As [`Self::start`], with a containerd that asks the enforcer by NRI before it starts a container.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_with_nri(name: &str) -> Result<Self> {
        let bpf_dir = PathBuf::from(format!("/sys/fs/bpf/nv-scene-{name}-{}", std::process::id()));
        Self::start_as(name, nv_product::binary()?, bpf_dir, true, &[]).await
    }

    /// As [`Self::start`], where only the mechanisms of a tier and those after it are used.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_on_tier(name: &str, tier: u8) -> Result<Self> {
        let bpf_dir = PathBuf::from(format!("/sys/fs/bpf/nv-scene-{name}-{}", std::process::id()));
        Self::start_as(name, nv_product::binary()?, bpf_dir, false, &["--enforcer-tier", &tier.to_string()])
            .await
    }

    /// As [`Self::start`], with more arguments of the product.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub async fn start_with_arguments(name: &str, arguments: &[&str]) -> Result<Self> {
        let bpf_dir = PathBuf::from(format!("/sys/fs/bpf/nv-scene-{name}-{}", std::process::id()));
        Self::start_as(name, nv_product::binary()?, bpf_dir, false, arguments).await
    }

    fn start_as<'a>(
        name: &'a str,
        binary: PathBuf,
        bpf_dir: PathBuf,
        nri: bool,
        arguments: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move {
            let folder = PathBuf::from(format!("/var/tmp/nv-scene-{name}-{}", std::process::id()));
            let mut options = LabOptions::fresh()?;
            let socket = folder.join("state/enforcer/oci.sock").display().to_string();
            options.hook = [
                &binary.display().to_string(),
                "oci-hook",
                "--fail-closed",
                "--timeout-ms",
                "10000",
                "--socket",
                &socket,
            ]
            .map(str::to_owned)
            .to_vec();
            options.nri = nri;
            let lab = Lab::start(options).await?;
            for image in &images()? {
                lab.import(image).await?;
            }
            let product = Product::start(Options {
                binary,
                state_dir: folder.join("state"),
                bpf_dir,
                containerd_socket: Some(lab.socket().to_owned()),
                arguments: [
                    "--runtime-state-dir",
                    &lab.state_dir().display().to_string(),
                    "--log",
                    "info,nv_role_enforcer=debug",
                ]
                .iter()
                .chain(arguments)
                .map(|argument| (*argument).to_owned())
                .chain(nri.then(|| format!("--nri-socket={}", lab.nri_socket().display())))
                .collect(),
                user: None,
            })
            .await?;
            let api = product.login(PASSWORD).await?;
            // The kernel's programs are in place when the enforcer is linked.
            api.wait_linked().await?;
            let web = pod(&lab, "web-7d9c5b8f6-x2x5z", WEB_IMAGE).await?;
            let echo = pod(&lab, "echo-6b8d7c9f5-k4j8m", ECHO_IMAGE).await?;
            let client = pod(&lab, "client-5f6d8b7c9-q8w7r", CLIENT_IMAGE).await?;
            Ok(Self { lab, product, api, web, echo, client, folder })
        })
    }

    /// Runs a command in the client's container, as `kubectl exec` does.
    ///
    /// # Errors
    /// When the runtime cannot run it; a command that was stopped is no error but an exit code.
    pub fn run<'a>(&'a self, command: &'a [&'a str]) -> BoxFuture<'a, Result<Output>> {
        Box::pin(async move { Ok(self.lab.exec(self.client.container(), command).await?) })
    }

    /// The web server's IPv4 address.
    ///
    /// # Errors
    /// When it has none.
    pub fn web_address(&self) -> Result<String> {
        Ok(self.web.ipv4().context("the web pod has no IPv4 address")?.to_string())
    }

    /// The echo server's IPv4 address.
    ///
    /// # Errors
    /// When it has none.
    pub fn echo_address(&self) -> Result<String> {
        Ok(self.echo.ipv4().context("the echo pod has no IPv4 address")?.to_string())
    }

    /// Normal operation: everything that shall be learned, once.
    ///
    /// # Errors
    /// When a step of it fails.
    pub fn operate(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let web = format!("http://{}/index.html", self.web_address()?);
            let echo = format!("{}:7", self.echo_address()?);
            let copy = "cp /bin/attacker /tmp/copy && rm /tmp/copy && cat /etc/passwd";
            for command in [
                &["/bin/wget", "-q", "-O", "-", &web][..],
                &["/bin/attacker", "talk", &echo, "5"],
                &["/bin/sh", "-c", copy],
                &[TOOL, "write", "/tmp/report"],
            ] {
                self.succeed(command).await?;
            }
            Ok(())
        })
    }

    /// Runs a program in the client's container that has to end well.
    ///
    /// # Errors
    /// When it does not: with what was told last of programs that were stopped.
    pub fn succeed<'a>(&'a self, command: &'a [&'a str]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let output = self.run(command).await?;
            if output.exit_code == 0 {
                return Ok(());
            }
            // Why it was stopped may be told a moment later.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let told = self.api.get("/v1/log/incident?limit=5").await?;
            bail!("{command:?} ended with {}: {}; told: {told}", output.exit_code, output.stderr)
        })
    }

    /// Goes on with normal operation until it is in the rules and profiles.
    ///
    /// # Errors
    /// When something is not learned within half a minute.
    pub fn wait_learned(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.wait_learned_programs().await?;
            for (to, port) in [(WEB_GROUP, "tcp/80"), (ECHO_GROUP, "tcp/7")] {
                let mut rounds = 0;
                let learned = |answer: &Value| has_rule(answer, CLIENT_GROUP, to, port);
                // A pod's very first connections may be before its veth is watched.
                while self.api.wait_for("/v1/policy/rule", Duration::from_secs(4), learned).await.is_err() {
                    rounds += 1;
                    if rounds > 7 {
                        bail!("{CLIENT_GROUP} to {to} {port} is not learned");
                    }
                    self.operate().await?;
                }
            }
            Ok(())
        })
    }

    /// Waits until normal operation's programs are in the profiles.
    ///
    /// # Errors
    /// When one is not learned within half a minute.
    pub fn wait_learned_programs(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let limit = Duration::from_secs(30);
            for (group, path) in
                [(CLIENT_GROUP, "/bin/busybox"), (CLIENT_GROUP, "/bin/attacker"), (CLIENT_GROUP, TOOL)]
            {
                self.api
                    .wait_for(&format!("/v1/process_profile/{group}"), limit, |answer| {
                        has_process(answer, path)
                    })
                    .await
                    .with_context(|| format!("{path} is not learned for {group}"))?;
            }
            Ok(())
        })
    }

    /// Puts all three services in a mode and waits until the node enforces it.
    ///
    /// # Errors
    /// When the API refuses it or the node does not follow within ten seconds.
    pub fn set_mode<'a>(&'a self, mode: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.api.set_modes(&["web.shop", "echo.shop", "client.shop"], mode).await?;
            self.wait_mode(mode).await
        })
    }

    /// Puts the network of all three services in a mode, programs as they are, and waits as [`Self::set_mode`] does, and
    /// until packets are inspected by the rules of that mode.
    ///
    /// # Errors
    /// As for [`Self::set_mode`].
    pub fn set_network_mode<'a>(&'a self, mode: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let services = ["web.shop", "echo.shop", "client.shop"];
            let config = json!({"config": {"services": services, "policy_mode": mode}});
            self.api.patch("/v1/service/config", &config).await?;
            self.wait_mode(mode).await?;
            self.wait_inspected().await
        })
    }

    /// Waits until the workloads of the scene are shown in a mode, and the node enforces it.
    ///
    /// # Errors
    /// When they are not within ten seconds.
    pub fn wait_mode<'a>(&'a self, mode: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let id = &self.client.container().id;
            self.api
                .wait_for(&format!("/v1/workload/{id}"), Duration::from_secs(10), |answer| {
                    let shown = answer.pointer("/workload/policy_mode").and_then(Value::as_str);
                    shown.filter(|shown| *shown == mode).map(drop)
                })
                .await?;
            self.api.wait_enforced().await
        })
    }

    /// Waits until packets are inspected by the policy that the node enforces.
    ///
    /// # Errors
    /// When they are not within half a minute.
    pub async fn wait_inspected(&self) -> Result<()> {
        self.api.wait_enforced().await?;
        self.wait_counter("inspection.rules_behind", Duration::from_secs(30), |behind| behind == 0)
            .await
            .map(drop)
    }

    /// Waits until the packets of a number of pods wait for inspection, by the policy that the node enforces.
    ///
    /// # Errors
    /// When there are not as many queues within 20 seconds.
    pub async fn wait_queues(&self, pods: u64) -> Result<()> {
        self.wait_inspected().await?;
        let limit = Duration::from_secs(20);
        self.wait_counter("inspection.queues", limit, |queues| queues == pods).await.map(drop)
    }

    /// A counter of the only enforcer.
    ///
    /// # Errors
    /// When it has none of this name.
    pub async fn counter(&self, name: &str) -> Result<u64> {
        self.wait_counter(name, Duration::ZERO, |_any| true).await
    }

    /// Waits until a counter of the only enforcer is as wanted, and gives it.
    ///
    /// # Errors
    /// When it is not within `limit`.
    pub async fn wait_counter(
        &self,
        name: &str,
        limit: Duration,
        wanted: impl Fn(u64) -> bool,
    ) -> Result<u64> {
        let listed = self.api.get("/v1/enforcer").await?;
        let id = listed.pointer("/enforcers/0/id").and_then(Value::as_str).context("no enforcer")?;
        let path = format!("/v1/enforcer/{id}/counter");
        let found = |answer: &Value| {
            let counters = answer.pointer("/counter/counters")?;
            counters.get(name)?.as_u64().filter(|count| wanted(*count))
        };
        let waited = self.api.wait_for(&path, limit, found).await;
        Ok(waited.with_context(|| format!("counter {name}"))?.0)
    }

    /// Whether a file is in the client's container, seen from outside of it.
    #[must_use]
    pub fn has_file(&self, path: &str) -> bool {
        Path::new(&format!("/proc/{}/root{path}", self.client.container().pid)).exists()
    }

    /// Ends everything and removes what it left.
    ///
    /// # Errors
    /// When something does not end.
    pub fn stop(mut self) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let ended = self.product.stop().await;
            self.product.remove_kernel_state()?;
            self.lab.stop().await?;
            std::fs::remove_dir_all(&self.folder)?;
            ended.map(drop)
        })
    }
}

fn pod<'a>(lab: &'a Lab, name: &'a str, image: &'a str) -> BoxFuture<'a, Result<Pod>> {
    Box::pin(async move {
        let spec = PodSpec::new(name, NAMESPACE).container(ContainerSpec::new("main", image, &[]));
        Ok(lab.run_pod(&spec).await?)
    })
}

fn has_process(answer: &Value, path: &str) -> Option<()> {
    let list = answer.pointer("/process_profile/process_list")?.as_array()?;
    list.iter().any(|entry| entry.get("path").and_then(Value::as_str) == Some(path)).then_some(())
}

fn has_rule(answer: &Value, from: &str, to: &str, port: &str) -> Option<()> {
    let text = |rule: &Value, key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    answer
        .get("rules")?
        .as_array()?
        .iter()
        .any(|rule| {
            text(rule, "from") == from
                && text(rule, "to") == to
                && text(rule, "action") == "allow"
                && text(rule, "ports").split(',').any(|listed| listed == port || listed == "any")
        })
        .then_some(())
}
