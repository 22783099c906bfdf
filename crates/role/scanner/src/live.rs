//! A system that runs, in two halves: one walks its root and opens what may tell something, the other reads what was opened.
//! The files may be anybody's, so that the other half can be a process that may do nothing else.

use std::fs::File;
use std::path::Path;

use nv_layer::{Entry, TreeError, Visit, opened, walk_tree};
use nv_package::FileKind;
use nv_secret::SecretRules;
use serde::{Deserialize, Serialize};

use crate::collect::{Records, Stat, is_wanted, text};
use crate::error::ScannerError;
use crate::inventory::inventory_document;
use crate::report::Report;
use crate::root::{KERNEL, MAX_DATABASE};

/// Where runtimes keep the files of containers, which are looked at as theirs.
const RUNTIMES: [&str; 6] = [
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/docker",
    "var/lib/kubelet",
    "run/containerd",
    "var/lib/rancher",
];
/// Most entries that are looked at.
const MAX_LIVE: usize = 2_000_000;

/// A file that may tell something, and what lies beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveFile {
    /// Its path below the root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
}

/// What walking gives: a file, opened to be read, with the log of its database where it has one.
pub type Take<'a> = dyn FnMut(LiveFile, File, Option<File>) -> Result<(), String> + 'a;

/// Walks a root and hands on what may tell something. What is mounted into it is not its own, nor are the folders in which
/// runtimes keep containers; links are not followed. Returns what could not be opened, a sentence each.
///
/// # Errors
/// [`ScannerError::Root`] when the root itself cannot be read, [`ScannerError::Argument`] with what `take` says.
pub fn walk_live(root: &Path, secrets: bool, take: &mut Take<'_>) -> Result<Vec<String>, ScannerError> {
    use std::os::unix::fs::MetadataExt as _;
    let stat =
        std::fs::metadata(root).map_err(|source| ScannerError::Read { path: root.to_owned(), source })?;
    let device = stat.dev();
    let mut faults = Faults::default();
    let mut refused: Option<String> = None;
    let mut seen = 0_usize;
    let mut visit = |entry: &Entry<'_>| {
        seen = seen.saturating_add(1);
        if seen > MAX_LIVE || refused.is_some() {
            return Visit::Skip;
        }
        if entry.is_folder {
            let own = |names: &[&str]| names.iter().any(|name| entry.path == Path::new(name));
            let foreign = own(&KERNEL) || own(&RUNTIMES) || entry.device().is_ok_and(|other| other != device);
            return if foreign { Visit::Skip } else { Visit::On };
        }
        match open(entry, secrets) {
            Ok(Some((file, content, log))) => refused = take(file, content, log).err(),
            Ok(None) => {}
            Err(error) => faults.add(nv_telemetry::chain(&error)),
        }
        Visit::On
    };
    let mut unread = Faults::default();
    walk_tree(root, &mut visit, &mut |error| unread.add(nv_telemetry::chain(&error)))
        .map_err(ScannerError::Root)?;
    if let Some(why) = refused {
        return Err(ScannerError::Argument(why));
    }
    if seen > MAX_LIVE {
        faults.add(format!("{} has more than {MAX_LIVE} entries; the rest was not read", root.display()));
    }
    faults.0.extend(unread.0);
    Ok(faults.0)
}

fn open(entry: &Entry<'_>, secrets: bool) -> Result<Option<(LiveFile, File, Option<File>)>, TreeError> {
    let (size, mode) = entry.stat()?;
    let path = text(entry.path).into_owned();
    if !is_wanted(&path, Stat { mode, size }, secrets) {
        return Ok(None);
    }
    let database = path.ends_with("/rpmdb.sqlite") && FileKind::of(&path) == Some(FileKind::Rpm);
    let log = if database { entry.open_beside(c"rpmdb.sqlite-wal").ok() } else { None };
    Ok(Some((LiveFile { path, mode, size }, entry.open()?, log)))
}

/// The first of what could not be read.
#[derive(Default)]
struct Faults(Vec<String>);

/// Most of them.
const MAX_FAULTS: usize = 1000;

impl Faults {
    fn add(&mut self, fault: String) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(fault);
        }
    }
}

/// The half that reads: files to the document of what is installed.
pub struct LiveReader {
    records: Records,
    rules: Option<SecretRules>,
}

impl LiveReader {
    /// One that looks for secrets too, or does not.
    ///
    /// # Errors
    /// [`ScannerError`] when the rules for secrets cannot be made.
    pub fn new(secrets: bool) -> Result<Self, ScannerError> {
        let rules = secrets.then(SecretRules::built_in).transpose()?;
        Ok(Self { records: Records::default(), rules })
    }

    /// Reads a file.
    pub fn read(&mut self, file: &LiveFile, content: File, log: Option<File>) {
        use nv_layer::ReadFile as _;
        let mut content = opened(content);
        let Some(log) = log else {
            let stat = Stat { mode: file.mode, size: file.size };
            self.records.offer(&file.path, stat, &mut content, self.rules.as_ref());
            return;
        };
        let log = opened(log).whole(MAX_DATABASE).unwrap_or_default();
        self.records.offer_rpm(&file.path, &log, || {
            let whole = content.whole(MAX_DATABASE);
            whole.map_err(|source| TreeError { path: file.path.clone().into(), source })
        });
    }

    /// The document, and what could not be read.
    ///
    /// # Errors
    /// [`ScannerError::Json`].
    pub fn finish(mut self, subject: &str) -> Result<(Vec<u8>, Vec<String>), ScannerError> {
        let faults = std::mem::take(&mut self.records.faults);
        let mut report = Report { subject: subject.to_owned(), ..Report::default() };
        self.records.report(&mut report, |_| None);
        Ok((inventory_document(&report)?, faults))
    }
}

/// Both halves in this process: the document of what is installed in a container or on a node that runs, and what could not be
/// read.
///
/// # Errors
/// [`ScannerError`] when the root cannot be read.
pub fn live_inventory(
    root: &Path,
    subject: &str,
    secrets: bool,
) -> Result<(Vec<u8>, Vec<String>), ScannerError> {
    let mut reader = LiveReader::new(secrets)?;
    let mut faults = walk_live(root, secrets, &mut |file, content, log| {
        reader.read(&file, content, log);
        Ok(())
    })?;
    let (document, unread) = reader.finish(subject)?;
    faults.extend(unread);
    Ok((document, faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::parse_document;

    #[test]
    fn a_running_system_tells_its_packages_and_its_secrets_and_not_those_of_containers_on_it() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("lib/apk/db/installed", "P:busybox\nV:1.36.1-r5\nA:x86_64\n\n");
        put("etc/os-release", "ID=alpine\nVERSION_ID=3.18.4\n");
        put("var/lib/docker/overlay2/a/diff/lib/apk/db/installed", "P:other\nV:1-r0\n\n");
        let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA1qazZ2wsxEdcRfvTgbYhnUjmIkolP0p9Zq3W5e7R9t1Y3u5I\n-----END RSA PRIVATE KEY-----\n";
        put("home/app/key.pem", key);
        let (with, faults) = live_inventory(root.path(), "w", true).unwrap();
        let (report, _) = parse_document(&with).unwrap();
        let names: Vec<&str> = report.packages.iter().map(|one| &*one.package.name).collect();
        assert_eq!((names.as_slice(), faults.len()), (&["busybox"][..], 0));
        assert_eq!(
            report.secrets.iter().map(|one| one.file.as_str()).collect::<Vec<_>>(),
            ["home/app/key.pem"]
        );
        let (without, _) = live_inventory(root.path(), "w", false).unwrap();
        assert!(parse_document(&without).unwrap().0.secrets.is_empty());
        let text = String::from_utf8(with).unwrap();
        assert!(!text.contains("MIIEowIBAAKCAQEA1qaz"), "what is secret is masked");
    }

    #[test]
    fn who_reads_may_end_the_walk() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/os-release"), "ID=alpine\n").unwrap();
        let error =
            walk_live(root.path(), false, &mut |_, _, _| Err("the reader is gone".to_owned())).unwrap_err();
        assert!(error.to_string().contains("the reader is gone"), "{error}");
    }
}
