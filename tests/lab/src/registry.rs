//! A private image registry on loopback: Debian's `docker-registry`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};

use crate::runtime::program;
use crate::{Image, LabError};

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Kind of the manifest of an image.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Debian package.
const PACKAGE: &str = "docker-registry";

/// A running registry; dropping it ends it, what was pushed stays in its folder.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Registry {
    /// The user that it lets in when it asks for one, and the password.
    pub const USER: (&'static str, &'static str) = ("reader", "reads-only");
    /// bcrypt of the password: the one form that it takes.
    const PASSWORD_FILE: &'static str =
        "reader:$2y$05$abcdefghijklmnopqrstuuPbEJLHpU/sIB/Nb5buWOg2WmCfLMDMm\n";

    /// Starts one that keeps its images in `folder`, on a port of its own choice. With `closed` it lets nobody in but
    /// [`Registry::USER`].
    ///
    /// # Errors
    /// [`LabError::Missing`] without the program; [`LabError::Program`] with its log when it does not come up.
    pub fn start(folder: &Path, closed: bool) -> BoxFuture<'_, Result<Self, LabError>> {
        Box::pin(async move {
            let path = program("docker-registry", PACKAGE)?;
            let users = folder.join("users");
            fs::write(&users, Self::PASSWORD_FILE).map_err(LabError::io("write", &users))?;
            let auth = if closed {
                format!("auth:\n  htpasswd:\n    realm: lab\n    path: {}\n", users.display())
            } else {
                String::new()
            };
            let config = folder.join("registry.yml");
            let data = folder.join("data");
            let text = format!(
                "version: 0.1\nlog:\n  formatter: json\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    \
                 enabled: true\nhttp:\n  addr: 127.0.0.1:0\n{auth}",
                data.display()
            );
            fs::write(&config, text).map_err(LabError::io("write", &config))?;
            let log = folder.join("registry.log");
            let file = File::create(&log).map_err(LabError::io("create", &log))?;
            let errors = file.try_clone().map_err(LabError::io("open", &log))?;
            let child = Command::new(&path)
                .arg("serve")
                .arg(&config)
                // It would look for names of other services in the environment.
                .env_clear()
                .stdin(Stdio::null())
                .stdout(file)
                .stderr(errors)
                .spawn()
                .map_err(LabError::io("run", &path))?;
            let mut started = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child, log };
            started.address = started.listening().await?;
            Ok(started)
        })
    }

    /// Where it listens, over plain HTTP.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Pushes an image whose layers are these images' files, the lowest first, and whose configuration is the last one's.
    ///
    /// # Errors
    /// [`LabError::Program`] with what the registry answered.
    pub fn push<'a>(
        &'a self,
        name: &'a str,
        tag: &'a str,
        images: &'a [&'a Image],
    ) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let packed = |what: std::io::Error| refused(name, &what);
            let layers: Vec<Vec<u8>> =
                images.iter().map(|image| image.layer()).collect::<Result<_, _>>().map_err(packed)?;
            let top = images.last().ok_or_else(|| refused(name, &"an image has at least one layer"))?;
            let config = top.config(&layers).map_err(|error| packed(error.into()))?;
            let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
            self.push_image(name, tag, &config, &layers).await.map(drop)
        })
    }

    /// Pushes an image of these layers, not compressed, as the OCI distribution specification 1.1 says under "Pushing", and
    /// gives its manifest.
    ///
    /// # Errors
    /// [`LabError::Program`] with what the registry answered.
    pub fn push_image<'a>(
        &'a self,
        name: &'a str,
        tag: &'a str,
        config: &'a [u8],
        layers: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Result<Vec<u8>, LabError>> {
        Box::pin(async move {
            let mut described = Vec::new();
            for layer in layers {
                described.push(self.push_blob(name, "application/vnd.oci.image.layer.v1.tar", layer).await?);
            }
            let config = self.push_blob(name, "application/vnd.oci.image.config.v1+json", config).await?;
            let manifest = serde_json::json!({
                "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described,
            })
            .to_string()
            .into_bytes();
            self.push_manifest(name, tag, MANIFEST, &manifest).await?;
            Ok(manifest)
        })
    }

    /// Pushes a manifest of any kind, whose parts are there.
    ///
    /// # Errors
    /// [`LabError::Program`] with what the registry answered.
    pub fn push_manifest<'a>(
        &'a self,
        name: &'a str,
        tag: &'a str,
        kind: &'a str,
        bytes: &'a [u8],
    ) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(
            async move { self.put(&format!("{}/v2/{name}/manifests/{tag}", self.url()), kind, bytes).await },
        )
    }

    /// Pushes a blob in one piece, and gives its descriptor.
    ///
    /// # Errors
    /// [`LabError::Program`] with what the registry answered.
    pub async fn push_blob(
        &self,
        name: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<serde_json::Value, LabError> {
        let (user, password) = Self::USER;
        let url = format!("{}/v2/{name}/blobs/uploads/", self.url());
        let begun = reqwest::Client::new().post(&url).basic_auth(user, Some(password)).send().await;
        let begun = begun.map_err(|error| refused(&url, &error))?;
        let place = begun.headers().get("location").and_then(|place| place.to_str().ok());
        let place = place.ok_or_else(|| refused(&url, &begun.status()))?;
        let place = if place.starts_with('/') { format!("{}{place}", self.url()) } else { place.to_owned() };
        let digest = digest(bytes);
        self.put(&format!("{place}&digest={digest}"), "application/octet-stream", bytes).await?;
        Ok(serde_json::json!({ "mediaType": kind, "digest": digest, "size": bytes.len() }))
    }

    async fn put(&self, url: &str, kind: &str, bytes: &[u8]) -> Result<(), LabError> {
        let (user, password) = Self::USER;
        let request = reqwest::Client::new().put(url).basic_auth(user, Some(password));
        let answer = request.header("content-type", kind).body(bytes.to_vec()).send().await;
        let answer = answer.map_err(|error| refused(url, &error))?;
        if answer.status().is_success() { Ok(()) } else { Err(refused(url, &answer.status())) }
    }

    /// How many requests it has answered.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn requests(&self) -> Result<usize, LabError> {
        let text = fs::read_to_string(&self.log).map_err(LabError::io("read", &self.log))?;
        Ok(text.lines().filter(|line| line.contains("\"msg\":\"response completed")).count())
    }

    /// The port that it took, once its log says so.
    async fn listening(&mut self) -> Result<SocketAddr, LabError> {
        let deadline = Instant::now() + PATIENCE;
        let log = &self.log;
        loop {
            let text = fs::read_to_string(log).map_err(LabError::io("read", log))?;
            let address = text
                .lines()
                .filter_map(|line| line.split_once("listening on "))
                .find_map(|(_, rest)| rest.split(['"', ' ', ',']).next()?.parse().ok());
            if let Some(address) = address {
                return Ok(address);
            }
            let ended = self.child.try_wait().map_err(LabError::io("wait for", log))?.is_some();
            if ended || Instant::now() > deadline {
                return Err(LabError::Program {
                    program: "docker-registry",
                    arguments: format!("serve; not listening within {} s", PATIENCE.as_secs()),
                    output: text,
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn refused(url: &str, why: &dyn std::fmt::Display) -> LabError {
    LabError::Program { program: "docker-registry", arguments: url.to_owned(), output: why.to_string() }
}

/// `sha256:` and the digits.
fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}
