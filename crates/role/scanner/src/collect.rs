//! One file at a time to what it says, and the secrets in it: the same for a folder and for a layer of an image.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use nv_layer::{ReadFile, TreeError};
use nv_package::distribution::{Distribution, parse_os_release, parse_red_hat_release};
use nv_package::known_program::{self, is_known, packages_of};
use nv_package::{Ecosystem, FileKind, Inventory, Package, copyright_of, java, program, rpm};
use nv_secret::{SecretRules, is_searched};
use serde::{Deserialize, Serialize};

use crate::report::{Installed, Report, Secret, SetId};

/// Largest small file, in bytes.
const MAX_SMALL: u64 = 1024 * 1024;
/// Permission bits, with those of set-uid, set-gid and sticky.
const PERMISSIONS: u32 = 0o7777;
/// Bytes at a file's beginning that have no zero in a text.
const TEXT_BEGINS: usize = 1024;
/// Set-uid and set-gid.
const SET_ID: u32 = 0o6000;
/// Execution by anyone.
const EXECUTABLE: u32 = 0o111;

/// The files that name the distribution; an earlier one stands before a later one. The one in etc is the
/// administrator's.
const RELEASE_FILES: [&str; 3] = ["etc/os-release", "usr/lib/os-release", "etc/redhat-release"];

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// Packages that it lists or is.
    pub(crate) packages: Vec<Package>,
    /// The distribution that it names.
    pub(crate) distribution: Option<Distribution>,
    /// Its permission bits, where they let it run as another user or group.
    pub(crate) set_id: Option<u32>,
    /// Files that packages of the distribution hold, as far as they may say what is installed.
    pub(crate) files: Vec<String>,
    /// Licences of the package that it is about.
    pub(crate) licence: Option<Box<str>>,
    /// Secrets in it; the file is told by where the record is.
    pub(crate) secrets: Vec<FoundSecret>,
}

/// A secret, masked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FoundSecret {
    rule: String,
    description: String,
    line: usize,
    evidence: String,
}

/// What a folder or archive says of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    /// Permission bits.
    pub(crate) mode: u32,
    /// Size in bytes.
    pub(crate) size: u64,
}

/// The secrets in a text; none in what is no text.
fn secrets_in(text: &[u8], rules: &SecretRules) -> Vec<FoundSecret> {
    if text.iter().take(TEXT_BEGINS).any(|byte| *byte == 0) {
        return Vec::new();
    }
    let told = rules.find(text).into_iter().map(|found| FoundSecret {
        rule: found.rule.to_owned(),
        description: found.description.to_owned(),
        line: found.line,
        evidence: found.evidence,
    });
    told.collect()
}

impl FileRecord {
    fn is_empty(&self) -> bool {
        self.packages.is_empty()
            && self.files.is_empty()
            && self.distribution.is_none()
            && self.set_id.is_none()
            && self.licence.is_none()
            && self.secrets.is_empty()
    }
}

/// What the files of a folder or layer say, by their paths below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Records {
    pub(crate) files: BTreeMap<String, FileRecord>,
    /// What could not be read.
    pub(crate) faults: Vec<String>,
}

/// Most faults that are kept of one folder or layer.
const MAX_FAULTS: usize = 10_000;

impl Records {
    pub(crate) fn fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// Takes a regular file, whose content is read only where it is wanted.
    pub(crate) fn offer(
        &mut self,
        path: &str,
        stat: Stat,
        file: &mut dyn ReadFile,
        rules: Option<&SecretRules>,
    ) {
        let Stat { mode, size } = stat;
        let mut record = FileRecord::default();
        if mode & SET_ID != 0 {
            record.set_id = Some(mode & PERMISSIONS);
        }
        let release = is_release(path);
        let kind = FileKind::of(path);
        if (release || kind.is_some() || is_program(path, mode))
            && let Err(error) = self.read(path, release, kind, file, &mut record)
        {
            self.fault(format!("{path}: {error}"));
        }
        if let Some(rules) = rules.filter(|_| is_searched(path, size)) {
            match file.whole(size) {
                Ok(text) => record.secrets = secrets_in(&text, rules),
                Err(error) => self.fault(format!("{path}: {error}")),
            }
        }
        if !record.is_empty() {
            self.files.insert(path.to_owned(), record);
        }
    }

    /// Takes rpm's database in SQLite with the log beside it.
    pub(crate) fn offer_rpm(
        &mut self,
        path: &str,
        log: &[u8],
        read: impl FnOnce() -> Result<Vec<u8>, TreeError>,
    ) {
        let mut record = FileRecord::default();
        match read() {
            Ok(bytes) => self.take(path, rpm::parse_database(&bytes, log), &mut record),
            Err(error) => self.fault(nv_telemetry::chain(&error)),
        }
        if !record.is_empty() {
            self.files.insert(path.to_owned(), record);
        }
    }

    fn read(
        &mut self,
        path: &str,
        release: bool,
        kind: Option<FileKind>,
        file: &mut dyn ReadFile,
        record: &mut FileRecord,
    ) -> std::io::Result<()> {
        if release {
            let bytes = file.whole(MAX_SMALL)?;
            record.distribution = parse_os_release(&bytes).or_else(|| parse_red_hat_release(&bytes));
            return Ok(());
        }
        let inventory = match kind {
            Some(FileKind::JavaArchive) => {
                java::parse_archive(path, file.size()?, &mut |at, length| file.read_at(at, length).ok())
            }
            Some(kind) => {
                let bytes = file.whole(kind.cap())?;
                record.files = kind.files(&bytes).filter(|path| may_tell(path)).collect();
                record.licence = kind.licence(&bytes);
                kind.parse(path, &bytes)
            }
            None => {
                let size = file.size()?;
                let mut read = |at, length| file.read_at(at, length).ok();
                let built_of = program::inspect(&mut read);
                let known = known_program::inspect(path, size, &mut read);
                self.take(path, known, record);
                built_of
            }
        };
        self.take(path, inventory, record);
        Ok(())
    }

    fn take(&mut self, path: &str, inventory: Inventory, record: &mut FileRecord) {
        for fault in &inventory.faults {
            self.fault(format!("{path}: {fault}"));
        }
        let more = inventory.fault_count - inventory.faults.len();
        if more > 0 {
            self.fault(format!("{path}: {more} more items could not be read"));
        }
        record.packages.extend(inventory.packages);
        record.packages.sort();
        record.packages.dedup();
    }

    /// Puts what the files say into a report, as of the layer at a place.
    pub(crate) fn report(self, report: &mut Report, layer: impl Fn(&str) -> Option<usize>) {
        let mut files = self.files;
        report.distribution = RELEASE_FILES.iter().find_map(|path| files.get_mut(*path)?.distribution.take());
        let licences: HashMap<String, Box<str>> = files
            .iter_mut()
            .filter_map(|(path, record)| Some((copyright_of(path)?.to_owned(), record.licence.take()?)))
            .collect();
        let systems: Vec<Box<str>> = files
            .values()
            .flat_map(|record| &record.packages)
            .filter(|package| package.ecosystem.is_distribution())
            .map(|package| package.name.clone())
            .collect();
        let all_held: HashSet<String> =
            files.values().flat_map(|record| &record.files).map(|path| merged(path).to_owned()).collect();
        for (file, record) in files {
            let held = all_held.contains(merged(&file));
            let layer = layer(&file);
            let installed = |package: Package| Installed {
                file: file.clone(),
                held: held && !package.ecosystem.is_distribution(),
                package,
                layer,
            };
            report.secrets.extend(record.secrets.into_iter().map(|found| Secret {
                file: file.clone(),
                line: found.line,
                rule: found.rule,
                description: found.description,
                evidence: found.evidence,
                layer,
            }));
            let own = record.packages.into_iter().filter(|package| !is_twin(&file, package, &systems));
            let own = own.map(|mut package| {
                if package.ecosystem == Ecosystem::Deb {
                    package.licence = licences.get(&*package.name).cloned();
                }
                package
            });
            report.packages.extend(own.map(installed));
            report.set_ids.extend(record.set_id.map(|mode| SetId { file: file.clone(), mode, layer }));
        }
    }
}

/// Whether a file may be a program or library that tells what it was built of, or its own version.
fn is_program(path: &str, mode: u32) -> bool {
    // Programs of Windows carry no permission bits of this system.
    mode & EXECUTABLE != 0 || path.ends_with(".exe") || (path.contains(".so") && is_known(path))
}

/// Whether [`Records::offer`] would read a file, or remark its bits.
pub(crate) fn is_wanted(path: &str, stat: Stat, secrets: bool) -> bool {
    is_release(path)
        || stat.mode & SET_ID != 0
        || is_program(path, stat.mode)
        || FileKind::of(path).is_some()
        || (secrets && is_searched(path, stat.size))
}

/// Whether a file names the distribution.
pub(crate) fn is_release(path: &str) -> bool {
    RELEASE_FILES.contains(&path)
}

/// Whether a file that a package holds may say what is installed: others need not be known.
fn may_tell(path: &str) -> bool {
    let program = || {
        let folder = merged(path).split('/').next();
        matches!(folder, Some("bin" | "sbin" | "libexec"))
    };
    let told = |kind| !matches!(kind, FileKind::DpkgList | FileKind::DebianCopyright);
    FileKind::of(path).is_some_and(told) || program()
}

/// A path as it is where `bin`, `sbin` and `lib` of the root are links into usr: lists still name the old ones.
fn merged(path: &str) -> &str {
    let below = path.strip_prefix("usr/").unwrap_or(path);
    let linked = ["bin/", "sbin/", "lib", "libexec/"].iter().any(|folder| below.starts_with(folder));
    if linked { below } else { path }
}

/// Folders of the system's own programs.
const SYSTEM: [&str; 6] = ["bin/", "sbin/", "lib", "usr/bin/", "usr/sbin/", "usr/lib"];

/// Whether a program that is known by itself is one that a package of the distribution holds, which is judged instead.
fn is_twin(file: &str, package: &Package, systems: &[Box<str>]) -> bool {
    package.ecosystem == Ecosystem::Program
        && SYSTEM.iter().any(|folder| file.starts_with(folder))
        && packages_of(&package.name)
            .iter()
            .any(|beginning| systems.iter().any(|name| name.starts_with(beginning)))
}

/// A path as text; bytes that are no UTF-8 are replaced.
pub(crate) fn text(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}
