//! A registry through the REST API: its images are scanned by two scanners, of which one is killed with an image in its
//! hands, and a newer database names what it makes vulnerable, images and a running container, without a request to the
//! registry.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Image, Registry};
use nv_scene::debian::{self, Debian, OPENSSL, SOON, ZLIB, scanner_in};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// How soon a newer database has named a running container.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Images that the registry has.
const IMAGES: usize = 12;
/// User and password by which Harbor shows itself.
const HARBOR: (&str, &str) = ("harbor", "Harbor-Password-1");

/// openssl's version in an image: of every second one the vulnerable one.
fn openssl(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "3.0.8-1" } else { "3.0.9-1" }
}

/// A registry with its images beside a running container.
struct Stage {
    debian: Debian,
    registry: Registry,
    harbor_port: u16,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let place = folder.path().join("registry");
        std::fs::create_dir(&place)?;
        let registry = Registry::start(&place, true).await?;
        let base = debian::release(Image::empty("base"));
        for number in 0..IMAGES {
            let status = debian::installed(openssl(number));
            // No two have the same configuration or layers: each is an image of its own.
            let top = Image::empty("top")
                .file("/var/lib/dpkg/status", status, 0o644)
                .file("/app/number", number.to_string(), 0o644)
                .user("65534");
            registry.push(&format!("shop/web{number}"), "1.0", &[&base, &top]).await?;
        }
        registry.push("private/other", "1.0", &[&base]).await?;

        let harbor_port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let password_file = folder.path().join("harbor-password");
        std::fs::write(&password_file, format!("{}\n", HARBOR.1))?;
        let (password_file, harbor_listens) = (password_file.display().to_string(), harbor_port.to_string());
        let arguments = [
            "--harbor-user",
            HARBOR.0,
            "--harbor-password-file",
            &password_file,
            "--harbor-port",
            &harbor_listens,
        ];
        let debian = Debian::start("registry-scan", &arguments, |image| image).await?;
        Ok(Self { debian, registry, harbor_port, _folder: folder })
    }

    /// Waits until the summary of the registry is as wanted.
    async fn registry_is(&self, wanted: impl Fn(&Summary) -> bool) -> Result<Summary> {
        let found = self.debian.api.wait_for("/v1/scan/registry/hub", SOON, |answer| {
            Summary::of(answer).filter(|summary| wanted(summary))
        });
        Ok(found.await?.0)
    }

    /// The registry's images by repository.
    async fn images(&self) -> Result<Vec<Value>> {
        let mut answer = self.debian.api.get("/v1/scan/registry/hub/images").await?;
        let images = answer.get_mut("images").and_then(Value::as_array_mut).map(std::mem::take);
        images.context("a list of images")
    }

    /// Has an image scanned as Harbor does, and gives the vulnerabilities that it is told.
    async fn scan_for_harbor(&self, repository: &str, digest: &str) -> Result<Vec<String>> {
        let root = reqwest::Certificate::from_pem(&std::fs::read(self.debian.product.ca_file())?)?;
        let builder = reqwest::Client::builder().tls_certs_only([root]);
        let client = builder.redirect(reqwest::redirect::Policy::none()).build()?;
        let base = format!("https://127.0.0.1:{}/endpoint/api/v1/scan", self.harbor_port);
        // base64 of `reader:reads-only`, as a robot's credentials come.
        let order = json!({
            "registry": {"url": self.registry.url(), "authorization": "Basic cmVhZGVyOnJlYWRzLW9ubHk="},
            "artifact": {"repository": repository, "digest": digest, "tag": "1.0",
                "mime_type": "application/vnd.oci.image.manifest.v1+json"},
        });
        let begun = client.post(&base).basic_auth(HARBOR.0, Some(HARBOR.1)).json(&order).send().await?;
        ensure!(begun.status() == StatusCode::ACCEPTED, "{begun:?}");
        let accepted: Value = begun.json().await?;
        let report = format!("{base}/{}/report", text(&accepted, "id"));
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            let answer = client.get(&report).basic_auth(HARBOR.0, Some(HARBOR.1)).send().await?;
            if answer.status() == StatusCode::FOUND {
                ensure!(tokio::time::Instant::now() < deadline, "Harbor gets no report");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            ensure!(answer.status() == StatusCode::OK, "{answer:?}");
            let told: Value = answer.json().await?;
            let found = told.get("vulnerabilities").and_then(Value::as_array).context("a list")?;
            return Ok(found.iter().map(|one| text(one, "id").to_owned()).collect());
        }
    }
}

/// Where the scans of a registry are.
#[derive(Debug)]
struct Summary {
    status: String,
    scanned: u64,
    scheduled: u64,
    scanning: u64,
    failed: u64,
    error: String,
}

impl Summary {
    fn of(answer: &Value) -> Option<Self> {
        let summary = answer.get("summary")?;
        let text = |key: &str| summary.get(key).and_then(Value::as_str).map(str::to_owned);
        let number = |key: &str| summary.get(key).and_then(Value::as_u64);
        Some(Self {
            status: text("status")?,
            scanned: number("scanned")?,
            scheduled: number("scheduled")?,
            scanning: number("scanning")?,
            failed: number("failed")?,
            error: text("error_message")?,
        })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_scanners_images_are_done_by_another_and_a_newer_database_asks_the_registry_nothing()
-> Result<()> {
    let stage = Stage::start().await?;
    let debian = &stage.debian;
    let older = debian.database("1.001", OPENSSL).await?;
    let newer = debian.database("1.002", &format!("{ZLIB}\n{OPENSSL}")).await?;
    let mut first = debian.scanner("first", &older, 2).await?;
    let _second = debian.scanner("second", &older, 2).await?;

    let (user, password) = Registry::USER;
    let config = json!({"name": "hub", "registry_type": "Docker Registry", "registry": stage.registry.url(),
        "filters": ["shop/*"], "auth": {"username": user, "password": password},
        "scan": {"scan_layers": true, "rescan_after_db_update": true}});
    debian.post("/v2/scan/registry", &json!({ "config": config })).await?;
    debian.post("/v1/scan/registry/hub/scan", &json!({})).await?;
    // Both are at it; then one stands still with two images in its hands, and is killed.
    stage.registry_is(|now| now.scanned >= 1).await?;
    first.hold()?;
    let all = u64::try_from(IMAGES)?;
    let held = stage.registry_is(|now| now.scanning == 2 && now.scanned == all - 2).await?;
    ensure!(held.scheduled == 0, "{held:?}");
    first.kill().await?;
    let done = stage.registry_is(|now| now.status == "idle" && now.scanned == all).await?;
    ensure!(done.failed == 0 && done.error.is_empty(), "{done:?}");

    // Each image has the report of what is in it, and its layers theirs.
    let images = stage.images().await?;
    ensure!(images.len() == IMAGES, "the filter leaves the others out: {images:?}");
    for number in 0..IMAGES {
        let repository = format!("shop/web{number}");
        let image = images.iter().find(|image| text(image, "repository") == repository);
        let image = image.with_context(|| format!("{repository} is not listed"))?;
        ensure!(text(image, "status") == "finished" && text(image, "base_os") == "debian:12", "{image}");
        let id = text(image, "image_id");
        let wanted: &[&str] = if openssl(number) == "3.0.8-1" { &["CVE-2023-1"] } else { &[] };
        debian.report_has(&format!("/v1/scan/registry/hub/image/{id}"), wanted, Duration::ZERO).await?;
        let layers = debian.api.get(&format!("/v1/scan/registry/hub/layers/{id}")).await?;
        let layers = layers.pointer("/report/layers").and_then(Value::as_array).context("layers")?;
        let counts: Vec<usize> = layers
            .iter()
            .map(|layer| layer.get("vulnerabilities").and_then(Value::as_array).map_or(0, Vec::len))
            .collect();
        ensure!(counts == [0, wanted.len()], "{repository}: {layers:?}");
    }
    let scanners = debian.api.get("/v1/scan/scanner").await?;
    ensure!(scanner_in(&scanners, "first").is_none(), "{scanners}");
    let second = scanner_in(&scanners, "second").context("the second scanner")?;
    ensure!(second.get("scanned_images").and_then(Value::as_u64) >= Some(2), "{second}");
    let summary = debian.api.get("/v1/scan/registry/hub").await?.to_string();
    ensure!(!summary.contains(password), "an answer has no password");

    // Harbor has one of them scanned, by its own interface.
    let first_image = images.iter().find(|image| text(image, "repository") == "shop/web0");
    let digest = text(first_image.context("shop/web0 is listed")?, "digest");
    let told = stage.scan_for_harbor("shop/web0", digest).await?;
    ensure!(told == ["CVE-2023-1"], "{told:?}");

    // What runs is listed once by its node.
    let workload = debian.scan_path();
    debian.post(&workload, &Value::Null).await?;
    debian.report_has(&workload, &["CVE-2023-1"], SOON).await?;

    // A newer database: zlib became vulnerable. What everything has is known: the registry is asked nothing.
    let asked = stage.registry.requests()?;
    ensure!(asked > IMAGES, "its log tells of requests: {asked}");
    let updated = debian.update(&newer).await?;
    ensure!(updated.status.success(), "{}", String::from_utf8_lossy(&updated.stderr));
    let took = debian.report_has(&workload, &["CVE-2023-1", "CVE-2023-2"], AT_ONCE).await?;
    eprintln!("a newer database named the container after {took:?}");
    let images = stage.images().await?;
    for image in &images {
        let path = format!("/v1/scan/registry/hub/image/{}", text(image, "image_id"));
        let has = |answer: &Value| {
            let list = answer.pointer("/report/vulnerabilities")?.as_array()?;
            list.iter().any(|found| text(found, "name") == "CVE-2023-2").then_some(())
        };
        debian.api.wait_for(&path, SOON, has).await?;
    }
    ensure!(stage.registry.requests()? == asked, "the registry was asked something");

    // What was found outlives the controller.
    let Stage { debian, registry, .. } = stage;
    let Debian { lab, mut product, .. } = debian;
    product.kill().await?;
    product.restart().await?;
    let api = product.login(debian::PASSWORD).await?;
    let known = Summary::of(&api.get("/v1/scan/registry/hub").await?).context("a summary")?;
    ensure!(known.scanned == all && known.failed == 0, "{known:?}");
    ensure!(registry.requests()? == asked, "the registry was asked something");
    product.stop().await?;
    product.remove_kernel_state()?;
    lab.stop().await?;
    Ok(())
}
