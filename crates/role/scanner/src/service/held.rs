//! The database that a scanner uses: verified once, mapped by every task, replaced in one step. A task that has begun ends
//! with the one that it began with.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use nv_model::scan::DatabaseInfo;
use nv_vulnerability::{Change, VerifyingKey, archive_changes, changes, verify};
use nv_wire::DatabaseChange;
use nv_wire::bounds::MAX_CHANGED_PACKAGES;

use crate::database::{OpenedDatabase, refuse_future};
use crate::error::ScannerError;
use crate::shown::database_info;
use crate::transport::database_in;

/// A database that was verified, and what it says of itself.
pub(super) struct Verified {
    /// Keeps the very file that was verified, whatever lies in its place by now.
    file: File,
    pub(super) info: DatabaseInfo,
}

impl Verified {
    /// Maps it: a map belongs to the thread that reads it.
    pub(super) fn open(&self) -> Result<OpenedDatabase, ScannerError> {
        OpenedDatabase::open(&by_descriptor(&self.file))
    }
}

fn by_descriptor(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// See the module.
pub(super) struct Held {
    now: ArcSwapOption<Verified>,
    trusted: Option<VerifyingKey>,
}

/// What tells one file from another that has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// The file of a path or folder as it is now; none where there is none.
pub(super) fn look(place: &Path) -> Option<Seen> {
    let stat = std::fs::metadata(database_in(place)).ok()?;
    Some(Seen { inode: stat.ino(), bytes: stat.size(), changed: (stat.mtime(), stat.mtime_nsec()) })
}

impl Held {
    pub(super) fn new(trusted: Option<VerifyingKey>) -> Self {
        Self { now: ArcSwapOption::empty(), trusted }
    }

    /// The one in use.
    pub(super) fn now(&self) -> Option<Arc<Verified>> {
        self.now.load_full()
    }

    /// Takes the database of a file or folder into use when it is newer than the one in use: all of it is verified
    /// first. Gives what changed; none when the one in use is as new.
    ///
    /// # Errors
    /// [`ScannerError`] says why it is refused.
    pub(super) fn take(&self, place: &Path) -> Result<Option<DatabaseChange>, ScannerError> {
        let path: PathBuf = database_in(place);
        let held = File::open(&path).map_err(|source| ScannerError::Read { path: path.clone(), source })?;
        let file = OpenedDatabase::open(&by_descriptor(&held))?;
        if !file.is_mapped() {
            let shown = path.display();
            return Err(ScannerError::Argument(format!(
                "{shown} is compressed: put it in place with scanner db import"
            )));
        }
        let refused = |source| ScannerError::Database { path: path.clone(), source };
        verify(file.bytes(), self.trusted.as_ref()).map_err(refused)?;
        refuse_future(&path, file.database()?)?;
        let info = database_info(file.database()?);
        let before = self.now();
        if let Some(before) = &before {
            if before.info.content == info.content {
                return Ok(None);
            }
            if before.info.version > info.version {
                return Err(ScannerError::Downgrade {
                    fresh: info.shown_version(),
                    present: before.info.shown_version(),
                });
            }
        }
        let change = DatabaseChange {
            database: info.clone(),
            replaced: before.as_ref().map(|before| before.info.content.clone()).unwrap_or_default(),
            changed: match &before {
                Some(before) => changed_packages(&before.open()?, &file)?,
                None => None,
            },
        };
        self.now.store(Some(Arc::new(Verified { file: held, info })));
        Ok(Some(change))
    }
}

/// Names of packages of which the two say something else, sorted; none where there are too many to tell.
fn changed_packages(old: &OpenedDatabase, new: &OpenedDatabase) -> Result<Option<Vec<String>>, ScannerError> {
    let mut names = BTreeSet::new();
    changes(old.database()?, new.database()?, &mut |change| {
        let (Change::Added(_, package, _) | Change::Removed(_, package, _) | Change::Changed(_, package, _)) =
            change;
        if names.len() <= MAX_CHANGED_PACKAGES && !names.contains(package) {
            names.insert(package.to_owned());
        }
    });
    // Archives that nothing names are listed by their hash and the name of their file.
    archive_changes(old.database()?, new.database()?, &mut |before, after| {
        for archive in before.into_iter().chain(after) {
            let artifact = archive.name.rsplit_once(':').map_or(&*archive.name, |(_, artifact)| artifact);
            if names.len() <= MAX_CHANGED_PACKAGES {
                names.extend([archive.sha1.to_string(), archive.name.to_string(), artifact.to_owned()]);
            }
        }
    });
    Ok((names.len() <= MAX_CHANGED_PACKAGES).then(|| names.into_iter().collect()))
}
