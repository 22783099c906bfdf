//! Scans of a running container by scanners of their own: one is lost in the middle, and a newer database names what it
//! makes vulnerable without looking into the container again. The node itself is scanned, too, and a build's scanner hands in
//! what it found.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Image, Registry};
use nv_product::{Options, Product, build_database, scanner_program};
use nv_scene::debian::{self, Debian, OPENSSL, SOON, ZLIB};
use serde_json::{Value, json};

/// How soon all that is on this machine's disk is looked at, with the least claim on its CPU.
const WHOLE_DISK: Duration = Duration::from_secs(600);
/// How soon a newer database has named what it makes vulnerable.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Made up: no key of anybody's.
const PRIVATE: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA1qazZ2wsxEdcRfvTgbYhnUjmIkolP0p9Zq3W5e7R9t1Y3u5I\n-----END RSA PRIVATE KEY-----\n";

/// Waits for a state of the container's scan.
async fn scan_is(stage: &Debian, state: &str) -> Result<Value> {
    let path = format!("/v1/workload/{}", stage.container);
    let is = |answer: &Value| {
        let brief = answer.pointer("/workload/scan_summary")?;
        (brief.get("status")?.as_str()? == state).then(|| brief.clone())
    };
    Ok(stage.api.wait_for(&path, SOON, is).await?.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_scanners_task_is_done_by_another_and_a_newer_database_names_what_runs_without_a_pull()
-> Result<()> {
    let key = |image: nv_lab::Image| image.file("/srv/private.pem", PRIVATE, 0o600);
    let stage = Debian::start("scan", &[], key).await?;
    let older = stage.database("1.001", OPENSSL).await?;
    let newer = stage.database("1.002", &format!("{ZLIB}\n{OPENSSL}")).await?;
    let path = stage.scan_path();

    // The only scanner stands still with the task in its hands.
    let mut first = stage.scanner("first", &older, 1).await?;
    first.hold()?;
    stage.post(&path, &Value::Null).await?;
    scan_is(&stage, "scanning").await?;
    let _second = stage.scanner("second", &older, 1).await?;
    let workload = stage.api.get(&format!("/v1/workload/{}", stage.container)).await?;
    let status = workload.pointer("/workload/scan_summary/status").and_then(Value::as_str);
    ensure!(status == Some("scanning"), "the task is still the first one's: {workload}");
    first.kill().await?;
    stage.report_has(&path, &["CVE-2023-1"], SOON).await?;
    // A process that may do nothing else has read the container's files, and told of the key in one of them.
    let report = stage.api.get(&path).await?;
    let secrets = report.pointer("/report/secrets").and_then(Value::as_array).context("secrets")?;
    let text = serde_json::to_string(secrets)?;
    ensure!(text.contains("srv/private.pem") && !text.contains("MIIEowIBAAKCAQEA1qaz"), "{text}");
    let brief = scan_is(&stage, "finished").await?;
    ensure!(brief.get("base_os").and_then(Value::as_str) == Some("debian:12"), "{brief}");
    ensure!(brief.get("scanner_version").and_then(Value::as_str) == Some("1.001"), "{brief}");

    // The same image where it lies in containerd, by its name alone.
    let asked = serde_json::json!({"request": {"repository": "docker.io/scan/debian", "tag": "12"}});
    let (status, answer) = stage.api.call(reqwest::Method::POST, "/v1/scan/repository", Some(&asked)).await?;
    let found = answer.pointer("/report/vulnerabilities/0/name").and_then(Value::as_str);
    ensure!(status == reqwest::StatusCode::OK && found == Some("CVE-2023-1"), "{status} {answer}");

    // A newer database: zlib became vulnerable. What the container has is known; nothing is read again.
    let updated = stage.update(&newer).await?;
    ensure!(updated.status.success(), "{}", String::from_utf8_lossy(&updated.stderr));
    let took = stage.report_has(&path, &["CVE-2023-1", "CVE-2023-2"], AT_ONCE).await?;
    eprintln!("a newer database named the container after {took:?}");
    let told = |answer: &Value| {
        let list = answer.get("audits")?.as_array()?;
        let of = |record: &&Value| {
            record.get("name").and_then(Value::as_str) == Some("Container.Scan.Report")
                && record.get("cvedb_version").and_then(Value::as_str) == Some("1.002")
        };
        list.iter().find(of).cloned()
    };
    let (record, _) = stage.api.wait_for("/v1/log/audit", SOON, told).await?;
    ensure!(record.get("workload_id").and_then(Value::as_str) == Some(&stage.container), "{record}");

    // An older one is refused.
    let refused = stage.update(&older).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("1.001 is older than 1.002"), "{said}");
    stage.lab.stop().await?;
    Ok(())
}

/// A value of this machine's `/etc/os-release`.
fn release(key: &str) -> Result<String> {
    let text = std::fs::read_to_string("/etc/os-release")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(line.context("this machine is no Debian")?.trim_matches('"').to_owned())
}

/// The version of a package of this machine.
fn installed_here(package: &str) -> Result<String> {
    let status = std::fs::read_to_string("/var/lib/dpkg/status")?;
    let entry = status.split("\n\n").find(|entry| entry.starts_with(&format!("Package: {package}\n")));
    let version = entry.and_then(|entry| entry.lines().find_map(|line| line.strip_prefix("Version: ")));
    Ok(version.context("the package is installed here")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_own_packages_are_judged_by_its_own_distribution() -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let (codename, version) = (release("VERSION_CODENAME")?, installed_here("base-files")?);
    let advisories = format!(
        "[1 Nov 2026] DSA-9000-1 base-files - security update\n\t{{CVE-2026-1}}\n\t[{codename}] - base-files 9999\n\n\
         [1 Nov 2026] DSA-9001-1 base-files - security update\n\t{{CVE-2026-2}}\n\t[{codename}] - base-files {version}\n"
    );
    let database = build_database(folder.path(), "1.001", &advisories).await?;
    let product = Product::start(Options {
        binary: nv_product::binary()?,
        state_dir: folder.path().join("state"),
        bpf_dir: PathBuf::from(format!("/sys/fs/bpf/nv-scan-node-{}", std::process::id())),
        containerd_socket: None,
        arguments: vec!["--database".to_owned(), database.display().to_string()],
        user: None,
    })
    .await?;
    let api = product.login("Scan-Password-1").await?;
    let first = |answer: &Value| Some(answer.pointer("/hosts/0/id")?.as_str()?.to_owned());
    let (node, _) = api.wait_for("/v1/host", SOON, first).await?;
    let path = format!("/v1/scan/host/{node}");
    let (status, answer) = api.call(reqwest::Method::POST, &path, None).await?;
    ensure!(status == reqwest::StatusCode::OK, "{status} {answer}");
    let report = |answer: &Value| {
        let report = answer.get("report")?;
        report.get("vulnerabilities")?.as_array().filter(|list| !list.is_empty()).map(|_| report.clone())
    };
    let (report, _) = api.wait_for(&path, WHOLE_DISK, report).await?;
    let found = report.get("vulnerabilities").and_then(Value::as_array).context("a list")?;
    let [found] = found.as_slice() else {
        anyhow::bail!("what has the mended version is not told: {found:?}")
    };
    let text = |key: &str| found.get(key).and_then(Value::as_str).unwrap_or_default();
    ensure!(text("name") == "CVE-2026-1" && text("package_name") == "base-files", "{found}");
    ensure!(text("package_version") == version && text("fixed_version") == "9999", "{found}");
    let modules = report.get("modules").and_then(Value::as_array).map_or(0, Vec::len);
    let here =
        std::fs::read_to_string("/var/lib/dpkg/status")?.matches("\nStatus: install ok installed").count();
    ensure!(modules >= here, "{modules} of {here} packages are listed");
    Ok(())
}

/// Where NeuVector's scanner writes its result, and ours in its place.
const RESULT: &str = "/var/neuvector/scan_result.json";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builds_scanner_hands_its_result_in_by_the_variables_that_neuvectors_has() -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("registry"))?;
    let registry = Registry::start(&path("registry"), true).await?;
    let image = Image::empty("web").file("/var/lib/dpkg/status", debian::installed("3.0.8-1"), 0o644);
    registry.push("shop/web", "1.0", &[&debian::release(Image::empty("base")), &image]).await?;
    let database = build_database(folder.path(), "1.001", OPENSSL).await?;
    std::fs::create_dir(path("db"))?;
    std::fs::rename(database, path("db/cvedb"))?;
    let mut product = Product::start(Options {
        binary: nv_product::binary()?,
        state_dir: path("state"),
        bpf_dir: PathBuf::from(format!("/sys/fs/bpf/nv-scan-build-{}", std::process::id())),
        containerd_socket: None,
        arguments: Vec::new(),
        user: None,
    })
    .await?;
    let api = product.login(debian::PASSWORD).await?;
    let user = json!({"user": {"fullname": "ci", "password": "Build-Password-1", "role": "ciops"}});
    let (status, answer) = api.call(reqwest::Method::POST, "/v1/user", Some(&user)).await?;
    ensure!(status == reqwest::StatusCode::OK, "{status} {answer}");

    let port = product.rest_url().rsplit(':').next().unwrap_or_default().to_owned();
    let scan = |password: &str| {
        let mut command = tokio::process::Command::new(scanner_program()?);
        command.args(["-license", "on_demand", "-no_wait", "-d"]).arg(path("db"));
        command.env("SCANNER_REGISTRY", registry.url());
        command.envs([("SCANNER_REPOSITORY", "shop/web"), ("SCANNER_TAG", "1.0")]);
        let (user, secret) = Registry::USER;
        command.envs([("SCANNER_REGISTRY_USERNAME", user), ("SCANNER_REGISTRY_PASSWORD", secret)]);
        command.envs([("CLUSTER_JOIN_ADDR", "127.0.0.1"), ("CLUSTER_JOIN_PORT", port.as_str())]);
        command.envs([("SCANNER_CTRL_API_USERNAME", "ci"), ("SCANNER_CTRL_API_PASSWORD", password)]);
        command.env("SCANNER_CTRL_API_CA", product.ca_file());
        anyhow::Ok(command.output())
    };
    let images = "/v1/scan/registry/_repo_scan/images";
    let refused = scan("Another-Password-1")?.await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("401"), "{said}");
    ensure!(api.get(images).await?.get("images") == Some(&json!([])), "nothing was handed in");

    let scanned = scan("Build-Password-1")?.await?;
    let (out, errors) = (String::from_utf8(scanned.stdout)?, String::from_utf8(scanned.stderr)?);
    ensure!(scanned.status.success() && out.contains("CVE-2023-1"), "{out} {errors}");
    let written: Value = serde_json::from_slice(&std::fs::read(RESULT)?)?;
    std::fs::remove_file(RESULT)?;
    ensure!(written.pointer("/report/repository") == Some(&json!("shop/web")), "{written}");

    let shown = api.get(images).await?;
    let text =
        |key: &str| shown.pointer(&format!("/images/0/{key}")).and_then(Value::as_str).unwrap_or_default();
    ensure!((text("repository"), text("tag"), text("result")) == ("shop/web", "1.0", "succeeded"), "{shown}");
    ensure!((text("base_os"), text("scanner_version")) == ("debian:12", "1.001"), "{shown}");
    let report = api.get(&format!("/v1/scan/registry/_repo_scan/image/{}", text("image_id"))).await?;
    let found = report.pointer("/report/vulnerabilities").and_then(Value::as_array).context("a list")?;
    let [found] = found.as_slice() else { anyhow::bail!("openssl has one, and zlib none: {found:?}") };
    ensure!(found.get("name") == Some(&json!("CVE-2023-1")), "{found}");
    ensure!(found.get("package_name") == Some(&json!("openssl")), "{found}");
    product.stop().await?;
    product.remove_kernel_state()
}
