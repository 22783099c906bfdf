//! A root file system: one walk over its files.

use std::path::Path;

use nv_layer::{Entry, Visit, walk_tree};
use nv_package::FileKind;
use nv_secret::SecretRules;

use crate::collect::{Records, Stat, text};
use crate::error::ScannerError;
use crate::remark::Remarks;
use crate::report::Report;

/// What the kernel shows at a running system's root; no file of it is stored.
const KERNEL: [&str; 3] = ["proc", "sys", "dev"];
/// Where runtimes keep the files of containers, which are looked at as theirs.
const RUNTIMES: [&str; 6] = [
    "var/lib/containerd",
    "var/lib/containers",
    "var/lib/docker",
    "var/lib/kubelet",
    "run/containerd",
    "var/lib/rancher",
];
/// Most entries of a system that runs.
pub(crate) const MAX_LIVE: usize = 2_000_000;
/// Largest database of rpm and largest log beside it, in bytes.
const MAX_DATABASE: u64 = 512 * 1024 * 1024;

/// Reads what is installed below `root`, and the secrets in its files where there are rules for them. Files that can not
/// be read are remarked.
///
/// # Errors
/// [`ScannerError::Root`] when the root itself can not be read.
pub fn read_root(
    root: &Path,
    rules: Option<&SecretRules>,
    remarks: &mut Remarks<'_>,
) -> Result<Report, ScannerError> {
    read(root, None, rules, remarks)
}

/// As [`read_root`], of a system that runs: what is mounted into it is not its own, nor are the folders in which runtimes
/// keep containers, and reading ends after [`MAX_LIVE`] entries, with a remark.
///
/// # Errors
/// [`ScannerError::Root`] when the root itself can not be read.
pub(crate) fn read_live_root(root: &Path, remarks: &mut Remarks<'_>) -> Result<Report, ScannerError> {
    use std::os::unix::fs::MetadataExt as _;
    let stat =
        std::fs::metadata(root).map_err(|source| ScannerError::Read { path: root.to_owned(), source })?;
    read(root, Some(stat.dev()), None, remarks)
}

/// `device` is that of a system that runs.
fn read(
    root: &Path,
    device: Option<u64>,
    rules: Option<&SecretRules>,
    remarks: &mut Remarks<'_>,
) -> Result<Report, ScannerError> {
    let mut records = Records::default();
    let mut unread: Vec<String> = Vec::new();
    let mut seen = 0_usize;
    let mut visit = |entry: &Entry<'_>| {
        if device.is_some() {
            seen += 1;
            if seen > MAX_LIVE {
                return Visit::Skip;
            }
        }
        if entry.is_folder {
            let kernel = KERNEL.iter().any(|name| entry.path == Path::new(name));
            let foreign = device.is_some_and(|own| {
                RUNTIMES.iter().any(|name| entry.path == Path::new(name))
                    || entry.device().is_ok_and(|device| device != own)
            });
            return if kernel || foreign { Visit::Skip } else { Visit::On };
        }
        match entry.stat() {
            Ok((size, mode)) => {
                let path = text(entry.path);
                if let Some(log) = log_of(entry, &path) {
                    records.offer_rpm(&path, &log, || entry.read(MAX_DATABASE));
                    return Visit::On;
                }
                records.offer(&path, Stat { mode, size }, &mut entry.content(), rules);
            }
            Err(error) => records.fault(nv_telemetry::chain(&error)),
        }
        Visit::On
    };
    walk_tree(root, &mut visit, &mut |error| unread.push(nv_telemetry::chain(&error)))
        .map_err(ScannerError::Root)?;
    if seen > MAX_LIVE {
        remarks.add(&format!("{} has more than {MAX_LIVE} entries; the rest was not read", root.display()));
    }
    for fault in records.faults.iter().chain(&unread) {
        remarks.add(fault);
    }
    let mut report = Report { subject: root.display().to_string(), ..Report::default() };
    records.report(&mut report, |_| None);
    Ok(report)
}

/// The write-ahead log beside rpm's database in SQLite, whose last packages may be in there alone.
fn log_of(entry: &Entry<'_>, path: &str) -> Option<Vec<u8>> {
    let database = path.ends_with("/rpmdb.sqlite") && FileKind::of(path) == Some(FileKind::Rpm);
    if database { entry.beside(c"rpmdb.sqlite-wal", MAX_DATABASE).ok() } else { None }
}
