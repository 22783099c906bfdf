//! Images made here: one layer from a list of files, packed as an OCI image archive
//! (image-spec v1.0: `oci-layout`, `index.json`, `blobs/sha256/…`).

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::LabError;

/// Places of a statically linked busybox.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

#[derive(Clone, Debug)]
enum Node {
    Folder { mode: u32 },
    File { contents: Vec<u8>, mode: u32 },
    Link { target: String },
}

/// An image to be imported with [`crate::Lab::import`].
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    /// By path without leading `/`. A folder sorts before what is in it, as the archive needs.
    nodes: BTreeMap<String, Node>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<String>,
    labels: BTreeMap<String, String>,
    user: String,
}

impl Image {
    /// An image without files. `reference` is the full name (`docker.io/library/web:1`).
    #[must_use]
    pub fn empty(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            nodes: BTreeMap::new(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            environment: vec!["PATH=/bin:/usr/bin:/sbin:/usr/sbin".to_owned()],
            labels: BTreeMap::new(),
            user: String::new(),
        }
    }

    /// An image with this machine's static busybox as `/bin/busybox`, a link for each of its applets, and the few
    /// files that programs expect (`/etc/passwd`, `/etc/group`, a `/tmp` that all may write).
    ///
    /// Debian 12's busybox dies of `wget -T <seconds>`; write `timeout <seconds> wget` instead.
    ///
    /// # Errors
    /// [`LabError::Missing`] without busybox.
    pub fn busybox(reference: &str) -> Result<Self, LabError> {
        let missing = || LabError::Missing { what: BUSYBOX.join(" or "), package: "busybox-static" };
        let path = BUSYBOX.into_iter().map(Path::new).find(|path| path.is_file()).ok_or_else(missing)?;
        let program = fs::read(path).map_err(LabError::io("read", path))?;
        let listed = Command::new(path).arg("--list").output().map_err(LabError::io("run", path))?;
        let mut image = Self::empty(reference)
            .file("/bin/busybox", program, 0o755)
            .file(
                "/etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
                0o644,
            )
            .file("/etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
            .folder("/tmp", 0o1777)
            .folder("/root", 0o700);
        for name in ["proc", "sys", "dev", "usr/bin", "var/run"] {
            image = image.folder(name, 0o755);
        }
        let applets = String::from_utf8_lossy(&listed.stdout);
        for applet in applets.lines().filter(|applet| !applet.is_empty() && *applet != "busybox") {
            image = image.link(&format!("/bin/{applet}"), "busybox");
        }
        Ok(image.command(&["/bin/sh"]))
    }

    /// Adds or replaces a file; `mode` are its permission bits.
    #[must_use]
    pub fn file(self, path: &str, contents: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.node(path, Node::File { contents: contents.into(), mode })
    }
    /// Adds a program of this machine with the libraries that it is linked to, each where it is here.
    ///
    /// # Errors
    /// [`LabError::Missing`] when it is not there; `package` is where Debian has it.
    pub fn program(mut self, path: &str, package: &'static str) -> Result<Self, LabError> {
        if !Path::new(path).is_file() {
            return Err(LabError::Missing { what: path.to_owned(), package });
        }
        let linked =
            Command::new("ldd").arg(path).output().map_err(LabError::io("run ldd on", Path::new(path)))?;
        let text = String::from_utf8_lossy(&linked.stdout).into_owned();
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader alone.
        let libraries = text.lines().filter_map(|line| {
            let place = line.split("=>").last()?.split_whitespace().next()?;
            place.starts_with('/').then_some(place)
        });
        for file in libraries.chain([path]) {
            let contents = fs::read(file).map_err(LabError::io("read", Path::new(file)))?;
            self = self.file(file, contents, 0o755);
        }
        Ok(self)
    }
    /// Adds a folder of this machine with all files below it.
    ///
    /// # Errors
    /// [`LabError::Missing`] when it is not there; `package` is where Debian has it.
    pub fn tree(mut self, path: &str, package: &'static str) -> Result<Self, LabError> {
        let missing = |_error| LabError::Missing { what: path.to_owned(), package };
        for entry in fs::read_dir(path).map_err(missing)? {
            let entry = entry.map_err(LabError::io("read", Path::new(path)))?.path();
            let name = entry.display().to_string();
            if entry.is_dir() {
                self = self.tree(&name, package)?;
            } else if entry.is_file() {
                let contents = fs::read(&entry).map_err(LabError::io("read", &entry))?;
                self = self.file(&name, contents, 0o644);
            }
        }
        Ok(self)
    }
    /// Adds a folder.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.node(path, Node::Folder { mode })
    }
    /// Adds a symbolic link.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Self {
        self.node(path, Node::Link { target: target.to_owned() })
    }
    /// Program and arguments that always run first.
    #[must_use]
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|&word| word.to_owned()).collect();
        self
    }
    /// Default command.
    #[must_use]
    pub fn command(mut self, words: &[&str]) -> Self {
        self.command = words.iter().map(|&word| word.to_owned()).collect();
        self
    }
    /// User of the first process (`65534`, `nobody`); root without it.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }
    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }
    /// The full name.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    fn node(mut self, path: &str, node: Node) -> Self {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..at).unwrap_or_default().to_owned();
            self.nodes.entry(parent).or_insert(Node::Folder { mode: 0o755 });
        }
        self.nodes.insert(path.to_owned(), node);
        self
    }

    /// What `docker import` is to set beside the files, in the words of a Dockerfile.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut changes: Vec<String> = self.environment.iter().map(|pair| format!("ENV {pair}")).collect();
        for (word, command) in [("ENTRYPOINT", &self.entrypoint), ("CMD", &self.command)] {
            if !command.is_empty() {
                changes.push(format!("{word} {}", json!(command)));
            }
        }
        if !self.user.is_empty() {
            changes.push(format!("USER {}", self.user));
        }
        changes.extend(self.labels.iter().map(|(name, value)| format!("LABEL {name}={}", json!(value))));
        changes
    }

    pub(crate) fn layer(&self) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            let mut header = tar::Header::new_gnu();
            match node {
                Node::Folder { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    header.set_size(0);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::File { contents, mode } => {
                    header.set_mode(*mode);
                    header.set_size(contents.len().try_into().unwrap_or(u64::MAX));
                    archive.append_data(&mut header, path, contents.as_slice())?;
                }
                Node::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()
    }

    /// The configuration (image-spec v1.0) of an image whose layers are these, the lowest first.
    pub(crate) fn config(&self, layers: &[Vec<u8>]) -> serde_json::Result<Vec<u8>> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let marks: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
        serde_json::to_vec(&json!({
            "architecture": architecture,
            "os": "linux",
            "config": {
                "Env": self.environment,
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "User": self.user,
                "Labels": self.labels,
            },
            "rootfs": { "type": "layers", "diff_ids": marks },
        }))
    }

    /// The archive that `ctr images import` reads.
    pub(crate) fn archive(&self) -> io::Result<Vec<u8>> {
        let layers = [self.layer()?];
        let config = self.config(&layers)?;
        let [layer] = layers;
        let blob = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() });
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("application/vnd.oci.image.config.v1+json", &config),
            "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)],
        }))?;
        let mut entry = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("annotations".to_owned(), json!({ "io.containerd.image.name": self.reference }));
        }
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

        let mut archive = tar::Builder::new(Vec::new());
        let mut put = |path: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(bytes.len().try_into().unwrap_or(u64::MAX));
            archive.append_data(&mut header, path, bytes)
        };
        put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        put("index.json", &index)?;
        for bytes in [&manifest, &config, &layer] {
            put(&format!("blobs/sha256/{}", digest(bytes)), bytes)?;
        }
        archive.into_inner()
    }
}

/// SHA-256 in hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn every_blob_of_an_archive_has_the_name_of_its_digest_and_the_manifest_names_them() {
        let image = Image::empty("docker.io/library/x:1").file("/a/b/c", "hello", 0o600).command(&["/a/b/c"]);
        let bytes = image.archive().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut blobs = 0;
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(name, digest(&contents));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }

    #[test]
    fn a_layer_has_the_folders_before_what_is_in_them() {
        let layer = Image::empty("x").file("/a/b/c", "hello", 0o600).link("a/l", "b").layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(paths, ["a/", "a/b/", "a/b/c", "a/l"]);
    }
}
