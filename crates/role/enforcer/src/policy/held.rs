//! The policy that this node holds: on disk, so that it is enforced without any controller and after any restart.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use nv_model::policy::NodePolicy;
use nv_policy::lower::ProfileNumbers;
use serde::{Deserialize, Serialize};

/// Largest policy file that is read back, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// A policy and the numbers that its profiles have in the kernel. The numbers outlive a restart, because the
/// kernel's tables do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The policy.
    pub(crate) policy: NodePolicy,
    /// Numbers of the groups' profiles.
    pub(crate) numbers: ProfileNumbers,
}

/// Why the held policy could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{} the held policy {}", .what, .path.display())]
pub(crate) struct HeldError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Held {
    /// Reads what was held; empty when there is nothing. A file that cannot be understood is put aside, so that it
    /// can be looked at, and the node starts without: a controller then sends the whole policy.
    pub(crate) fn load(path: &Path) -> Result<Self, HeldError> {
        let fail = |source| HeldError { what: "reading", path: path.to_owned(), source };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(fail(error)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fail)?;
        match serde_json::from_slice(&bytes) {
            Ok(held) => Ok(held),
            Err(error) => {
                let aside = path.with_extension("unreadable");
                tracing::error!(path = %path.display(), aside = %aside.display(), %error, "the held policy cannot be understood and is put aside");
                fs::rename(path, aside).map_err(fail)?;
                Ok(Self::default())
            }
        }
    }

    /// Writes it whole: the old file is there until the new one is on disk.
    pub(crate) fn store(&self, path: &Path) -> Result<(), HeldError> {
        let fail = |source| HeldError { what: "writing", path: path.to_owned(), source };
        let bytes = serde_json::to_vec(self).map_err(|error| fail(error.into()))?;
        let next = path.with_extension("next");
        let mut file = fs::File::create(&next).map_err(fail)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(fail)?;
        fs::rename(&next, path).map_err(fail)?;
        if let Some(folder) = path.parent() {
            fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_numbers_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        let mut held = Held::load(&path).unwrap();
        let (web, db) = ("nv.web.a".parse().unwrap(), "nv.db.a".parse().unwrap());
        let number = held.numbers.number(&web);
        assert_ne!(number, held.numbers.number(&db));
        held.store(&path).unwrap();
        let mut again = Held::load(&path).unwrap();
        assert_eq!((again.clone(), again.numbers.number(&web)), (held, number));
    }

    #[test]
    fn a_torn_file_is_put_aside_and_the_node_starts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        fs::write(&path, b"{\"policy\":").unwrap();
        assert_eq!(Held::load(&path).unwrap(), Held::default());
        assert!(path.with_extension("unreadable").exists() && !path.exists());
    }
}
