//! A vulnerability database that comes in, and is handed to every scanner: a blob, and a file that names it.

use std::path::Path;

use nv_layer::MappedFile;
use nv_model::scan::{BlobId, DatabaseInfo};
use nv_model::time::Timestamp;
use nv_vulnerability::{Database, VerifyingKey, verify};
use serde::{Deserialize, Serialize};

use super::blobs::{BlobError, BlobWriter, Blobs};
use super::state::Offered;
use super::{OfferError, Scans};

/// The file that names the blob.
#[derive(Serialize, Deserialize)]
struct Named {
    blob: BlobId,
    bytes: u64,
    database: DatabaseInfo,
}

/// The database that was handed out when this controller last ran.
pub(super) fn read(path: &Path, blobs: &Blobs) -> Option<Offered> {
    let named: Named = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let Named { blob, bytes, database } = named;
    (blobs.size(blob) == Some(bytes)).then_some(Offered { blob, bytes, database })
}

fn write(path: &Path, offered: &Offered) -> Result<(), BlobError> {
    let Offered { blob, bytes, database } = offered.clone();
    let error = |source| BlobError::Io { path: path.to_owned(), source };
    let text = serde_json::to_vec(&Named { blob, bytes, database }).map_err(|io| error(io.into()))?;
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path)).map_err(error)
}

/// What the bytes of a database's file say; they are verified, each of them.
fn look(path: &Path, trusted: Option<&VerifyingKey>) -> Result<DatabaseInfo, OfferError> {
    let refuse = |why: String| OfferError::Refused(why);
    let file = MappedFile::open(path).map_err(|error| refuse(nv_telemetry::chain(&error)))?;
    verify(file.bytes(), trusted).map_err(|error| refuse(error.to_string()))?;
    let database = Database::open(file.bytes()).map_err(|error| refuse(error.to_string()))?;
    let content = database.content_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let created = i64::try_from(database.created()).unwrap_or(i64::MAX);
    Ok(DatabaseInfo { version: database.version(), created: Timestamp::from_seconds(created), content })
}

impl Scans {
    /// Hands a database to every scanner, once all of it is here. Runs on a thread for files.
    pub(super) fn offer(&self, writer: BlobWriter) -> Result<(BlobId, DatabaseInfo), OfferError> {
        let (blob, bytes) = writer.finish()?;
        let taken = self.hand_out(blob, bytes);
        if taken.is_err() && self.state().offered.as_ref().is_none_or(|offered| offered.blob != blob) {
            self.inner.blobs.remove(blob)?;
        }
        taken.map(|database| (blob, database))
    }

    fn hand_out(&self, blob: BlobId, bytes: u64) -> Result<DatabaseInfo, OfferError> {
        let database = look(&self.inner.blobs.path(blob), self.inner.trusted.as_ref())?;
        let offered = Offered { blob, bytes, database: database.clone() };
        let mut state = self.state();
        let present = state.offered.as_ref().map(|offered| &offered.database).or(state.database.as_ref());
        if let Some(present) = present
            && present.version > database.version
        {
            return Err(OfferError::Refused(format!(
                "version {} is older than {}, which is in use",
                database.shown_version(),
                present.shown_version()
            )));
        }
        write(&self.inner.offered, &offered)?;
        let before = state.offer(offered);
        drop(state);
        if let Some(before) = before {
            // Whoever reads it still has it open.
            self.inner.blobs.remove(before)?;
        }
        tracing::info!(version = database.shown_version(), bytes, "scanners are handed a database");
        self.changed();
        Ok(database)
    }
}
