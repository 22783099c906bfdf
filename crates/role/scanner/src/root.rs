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
pub(crate) const KERNEL: [&str; 3] = ["proc", "sys", "dev"];
/// Largest database of rpm and largest log beside it, in bytes.
pub(crate) const MAX_DATABASE: u64 = 512 * 1024 * 1024;

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
    let mut records = Records::default();
    let mut unread: Vec<String> = Vec::new();
    let mut visit = |entry: &Entry<'_>| {
        if entry.is_folder {
            let kernel = KERNEL.iter().any(|name| entry.path == Path::new(name));
            return if kernel { Visit::Skip } else { Visit::On };
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
