//! A root file system: what is installed in it.

use std::path::Path;

use nv_layer::{Entry, Visit, walk_tree};
use nv_package::distribution::parse_os_release;
use nv_package::{Inventory, apk, dpkg, rpm};

use crate::error::ScannerError;
use crate::remark::Remarks;
use crate::report::{Installed, Report};

/// Largest package database that is read, in bytes.
const MAX_DATABASE: u64 = 512 * 1024 * 1024;
/// Largest small file, in bytes.
const MAX_SMALL: u64 = 16 * 1024 * 1024;

/// Reads what is installed below `root`. Files that can not be read are remarked.
///
/// # Errors
/// [`ScannerError::Root`] when the root itself can not be read.
pub fn read_root(root: &Path, remarks: &mut Remarks<'_>) -> Result<Report, ScannerError> {
    let mut found = Report { subject: root.display().to_string(), ..Report::default() };
    let mut faults: Vec<String> = Vec::new();
    let mut unread: Vec<String> = Vec::new();
    let mut visit = |entry: &Entry<'_>| {
        if entry.is_folder {
            // What the kernel shows is no file of the image.
            let kernel = ["proc", "sys", "dev"].iter().any(|name| entry.path == Path::new(name));
            return if kernel { Visit::Skip } else { Visit::On };
        }
        if let Err(error) = read_file(root, entry, &mut found, &mut faults) {
            faults.push(nv_telemetry::chain(&error));
        }
        Visit::On
    };
    walk_tree(root, &mut visit, &mut |error| unread.push(nv_telemetry::chain(&error)))
        .map_err(ScannerError::Root)?;
    for fault in faults.iter().chain(&unread) {
        remarks.add(fault);
    }
    found.packages.sort();
    found.packages.dedup();
    Ok(found)
}

fn read_file(
    root: &Path,
    entry: &Entry<'_>,
    found: &mut Report,
    faults: &mut Vec<String>,
) -> Result<(), nv_layer::TreeError> {
    let path = entry.path.to_string_lossy();
    let inventory = match &*path {
        "etc/os-release" | "usr/lib/os-release" => {
            let read = parse_os_release(&entry.read(MAX_SMALL)?);
            // The one in etc is the administrator's, and stands before the vendor's.
            if &*path == "etc/os-release" || found.distribution.is_none() {
                found.distribution = read.or(found.distribution.take());
            }
            return Ok(());
        }
        "var/lib/dpkg/status" => dpkg::parse_status(&entry.read(MAX_DATABASE)?),
        "lib/apk/db/installed" | "usr/lib/apk/db/installed" => {
            apk::parse_installed(&entry.read(MAX_DATABASE)?)
        }
        other if other.starts_with("var/lib/dpkg/status.d/") && !other.ends_with(".md5sums") => {
            dpkg::parse_status(&entry.read(MAX_SMALL)?)
        }
        other if is_rpm(other) => {
            let log = if other.ends_with("rpmdb.sqlite") { read_log(root, other) } else { Vec::new() };
            rpm::parse_database(&entry.read(MAX_DATABASE)?, &log)
        }
        _ => return Ok(()),
    };
    take(entry.path, inventory, found, faults);
    Ok(())
}

fn take(path: &Path, inventory: Inventory, found: &mut Report, faults: &mut Vec<String>) {
    faults.extend(inventory.faults.iter().map(|fault| format!("{}: {fault}", path.display())));
    let more = inventory.fault_count - inventory.faults.len();
    if more > 0 {
        faults.push(format!("{}: {more} more items could not be read", path.display()));
    }
    let file = path.to_string_lossy();
    let installed = |package| Installed { file: file.clone().into_owned(), package, layer: None };
    found.packages.extend(inventory.packages.into_iter().map(installed));
}

/// rpm's databases, in the folder that rpm has used and in the one that it uses now.
fn is_rpm(path: &str) -> bool {
    let file = path.strip_prefix("var/lib/rpm/").or_else(|| path.strip_prefix("usr/lib/sysimage/rpm/"));
    matches!(file, Some("Packages" | "Packages.db" | "rpmdb.sqlite"))
}

/// The write-ahead log beside a database; empty where there is none.
fn read_log(root: &Path, database: &str) -> Vec<u8> {
    let log = root.join(format!("{database}-wal"));
    match std::fs::symlink_metadata(&log) {
        Ok(stat) if stat.is_file() && stat.len() <= MAX_DATABASE => std::fs::read(&log).unwrap_or_default(),
        _ => Vec::new(),
    }
}
