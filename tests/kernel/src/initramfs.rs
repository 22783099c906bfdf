//! The guest's only file system: a `newc` cpio archive (kernel documentation, `initramfs-buffer-format`).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Initramfs {
    /// A folder, and those above it.
    pub(crate) fn folder(&mut self, path: &str) {
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if !so_far.is_empty() {
                so_far.push('/');
            }
            so_far.push_str(part);
            if self.folders.insert(so_far.clone()) {
                self.entry(&so_far, 0o040_755, &[]);
            }
        }
    }

    /// A file.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path.trim_start_matches('/'), 0o100_000 | mode, content);
    }

    /// A copy of a file of this machine, under the same path unless another is given.
    pub(crate) fn copy(&mut self, from: &Path, to: Option<&str>) -> Result<()> {
        let content = std::fs::read(from).with_context(|| from.display().to_string())?;
        let same = from.to_string_lossy().into_owned();
        self.file(to.unwrap_or(&same), 0o755, &content);
        Ok(())
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.entry(path.trim_start_matches('/'), 0o120_777, target.as_bytes());
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let named = u32::try_from(name.len()).unwrap_or(u32::MAX).saturating_add(1);
        // inode, mode, uid, gid, links, mtime, size, device (major, minor), special device (both), name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, named, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}
