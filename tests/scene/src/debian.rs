//! A stage for scans: one container with Debian's list of packages in it, the product beside it, and advisories that name
//! what is in that list.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::BoxFuture;
use nv_lab::{Image, Lab, LabOptions};
use nv_product::{Client, Options, Product, Scanner, build_database, update_database};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// How soon what was asked for is done, on a busy machine.
pub const SOON: Duration = Duration::from_secs(120);
/// What [`Debian`]'s container runs.
pub const DEBIAN_IMAGE: &str = "docker.io/scan/debian:12";
/// Password of its admin.
pub const PASSWORD: &str = "Scan-Password-1";

const RELEASE: &str =
    "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n";
/// An advisory as Debian writes it: openssl before 3.0.9-1 has `CVE-2023-1`.
pub const OPENSSL: &str =
    "[29 Mar 2023] DSA-5380-1 openssl - security update\n\t{CVE-2023-1}\n\t[bookworm] - openssl 3.0.9-1\n";
/// zlib before 1:1.2.13-2 has `CVE-2023-2`.
pub const ZLIB: &str =
    "[30 Mar 2023] DSA-5381-1 zlib - security update\n\t{CVE-2023-2}\n\t[bookworm] - zlib 1:1.2.13-2\n";

/// dpkg's list: openssl in this version, and a zlib to which [`ZLIB`] applies.
#[must_use]
pub fn installed(openssl: &str) -> String {
    format!(
        "Package: openssl\nStatus: install ok installed\nVersion: {openssl}\nArchitecture: amd64\n\n\
         Package: zlib1g\nStatus: install ok installed\nSource: zlib\nVersion: 1:1.2.13-1\nArchitecture: amd64\n\n"
    )
}

/// A layer that makes Debian 12 of an image.
#[must_use]
pub fn release(image: Image) -> Image {
    image.file("/etc/os-release", RELEASE, 0o644)
}

/// The stage.
#[derive(Debug)]
pub struct Debian {
    /// The private containerd.
    pub lab: Lab,
    /// The product.
    pub product: Product,
    /// A client of its REST API, logged in.
    pub api: Client,
    /// Id of the container, to which [`OPENSSL`] and [`ZLIB`] apply.
    pub container: String,
    token: PathBuf,
    folder: tempfile::TempDir,
}

impl Debian {
    /// Starts containerd, the product with further arguments, and the container, whose image `more` may add to.
    ///
    /// # Errors
    /// When anything does not start, with the reason.
    pub async fn start(name: &str, arguments: &[&str], more: impl FnOnce(Image) -> Image) -> Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let lab = Lab::start(LabOptions::fresh()?).await?;
        let image = release(Image::busybox(DEBIAN_IMAGE)?)
            .file("/var/lib/dpkg/status", installed("3.0.8-1"), 0o644)
            .command(&["/bin/sleep", "1000000"]);
        lab.import(&more(image)).await?;
        let token = folder.path().join("token");
        let (runtime, token_file) = (lab.state_dir().display().to_string(), token.display().to_string());
        let own = ["--runtime-state-dir", &runtime, "--scanner-token-file", &token_file];
        let product = Product::start(Options {
            binary: nv_product::binary()?,
            state_dir: folder.path().join("state"),
            bpf_dir: PathBuf::from(format!("/sys/fs/bpf/nv-{name}-{}", std::process::id())),
            containerd_socket: Some(lab.socket().to_owned()),
            arguments: own.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect(),
            user: None,
        })
        .await?;
        let api = product.login(PASSWORD).await?;
        let pod = lab.pod("web-5f6d8b7c9-q8w7r", "shop", &[], DEBIAN_IMAGE, &[]).await?;
        let container = pod.container().id.clone();
        let path = format!("/v1/workload/{container}");
        api.wait_for(&path, SOON, |answer| answer.pointer("/workload/running")?.as_bool().filter(|on| *on))
            .await?;
        Ok(Self { lab, product, api, container, token, folder })
    }

    /// Where databases and scanners have their files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A database of these advisories.
    ///
    /// # Errors
    /// As for [`build_database`].
    pub fn database<'a>(&'a self, version: &'a str, advisories: &'a str) -> BoxFuture<'a, Result<PathBuf>> {
        Box::pin(async move { build_database(self.folder(), version, advisories).await })
    }

    /// A scanner that takes `tasks` at a time, once it is linked.
    ///
    /// # Errors
    /// When it does not start, or is not in the list of scanners in time.
    pub fn scanner<'a>(
        &'a self,
        name: &'a str,
        database: &'a Path,
        tasks: u32,
    ) -> BoxFuture<'a, Result<Scanner>> {
        Box::pin(async move {
            let scanner = Scanner::start(&self.product, &self.token, self.folder(), name, database, tasks)?;
            self.api.wait_for("/v1/scan/scanner", SOON, |answer| scanner_in(answer, name).map(drop)).await?;
            Ok(scanner)
        })
    }

    /// Hands the controller a database, as an updater does.
    ///
    /// # Errors
    /// As for [`update_database`].
    pub fn update<'a>(&'a self, database: &'a Path) -> BoxFuture<'a, Result<Output>> {
        Box::pin(async move { update_database(&self.product, &self.token, self.folder(), database).await })
    }

    /// POST, which must answer 200.
    ///
    /// # Errors
    /// With status and body otherwise.
    pub fn post<'a>(&'a self, path: &'a str, body: &'a Value) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (status, answer) = self.api.call(Method::POST, path, Some(body)).await?;
            ensure!(status == StatusCode::OK, "POST {path}: {status} {answer}");
            Ok(())
        })
    }

    /// Waits until exactly these are the vulnerabilities of a report, and says how long that took.
    ///
    /// # Errors
    /// When they are others after `limit`.
    pub fn report_has<'a>(
        &'a self,
        path: &'a str,
        wanted: &'a [&'a str],
        limit: Duration,
    ) -> BoxFuture<'a, Result<Duration>> {
        Box::pin(async move {
            let are = |answer: &Value| {
                let list = answer.pointer("/report/vulnerabilities")?.as_array()?;
                let names: Vec<&str> = list.iter().filter_map(|found| found.get("name")?.as_str()).collect();
                (names == wanted).then_some(())
            };
            Ok(self.api.wait_for(path, limit, are).await?.1)
        })
    }

    /// Where the report of the container is, and its scan begun.
    #[must_use]
    pub fn scan_path(&self) -> String {
        format!("/v1/scan/workload/{}", self.container)
    }
}

/// A scanner in the answer to `/v1/scan/scanner`.
#[must_use]
pub fn scanner_in(answer: &Value, name: &str) -> Option<Value> {
    let list = answer.get("scanners")?.as_array()?;
    list.iter().find(|scanner| scanner.get("server").and_then(Value::as_str) == Some(name)).cloned()
}
