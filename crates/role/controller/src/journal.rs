//! What was acknowledged survives a kill: batches go to a journal on disk before they are acknowledged.
//!
//! ```text
//! checkpoint-7   what memory held when journal 7 began (inventory, graph, positions, learning that is under way)
//! journal-7      every batch since, appended and synced before its acknowledgement
//! ```
//! A start reads the newest whole checkpoint and replays its journal. A torn entry at the end of the journal was never
//! acknowledged, so that it is cut off. Records are in the event log before their batch is in the journal: replaying
//! writes none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nv_wire::bounds::MAX_MESSAGE_BYTES;
use nv_wire::enforcer::v1 as proto;
use prost::Message;

/// Largest checkpoint that is read, in bytes.
const MAX_CHECKPOINT_BYTES: u64 = 1024 * 1024 * 1024;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The disk refuses.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A checkpoint is there but cannot be read. It is kept: move it away to start without the history in it.
    #[error("{path} is damaged: {what}; move it away to start without what nodes reported before")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// One batch as it came.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Entry {
    /// The node that sent it.
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    /// Its stream.
    #[prost(string, tag = "2")]
    pub(crate) stream: String,
    /// The batch.
    #[prost(message, optional, tag = "3")]
    pub(crate) batch: Option<proto::Batch>,
    /// When it came, nanoseconds since the epoch.
    #[prost(int64, tag = "4")]
    pub(crate) at: i64,
    /// The last observation of the stream before this batch.
    #[prost(uint64, tag = "5")]
    pub(crate) taken: u64,
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    number: u64,
    file: File,
    bytes: u64,
}

/// What a start finds.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    /// Content of the checkpoint, when there is one.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// Batches since, in order.
    pub(crate) entries: Vec<Entry>,
    /// Bytes of a torn entry that were cut off.
    pub(crate) torn: u64,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
    |source| JournalError::File { path: path.to_owned(), source }
}

/// FNV-1a, 64 bits: finds torn and flipped bytes, is no defence against who can write the file.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(at(folder))
}

impl Journal {
    /// Opens the journal of `folder`, which is made when it is missing.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(crate) fn open(folder: &Path) -> Result<Recovered, JournalError> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let number = newest(folder)?;
        let path = folder.join(format!("checkpoint-{number}"));
        let checkpoint = match number {
            0 => None,
            _ => Some(read_checkpoint(&path)?),
        };
        let path = folder.join(format!("journal-{number}"));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        let (entries, whole) = read_entries(&file).map_err(at(&path))?;
        let length = file.metadata().map_err(at(&path))?.len();
        let torn = length.saturating_sub(whole);
        if torn > 0 {
            file.set_len(whole).map_err(at(&path))?;
            file.sync_all().map_err(at(&path))?;
        }
        sync_folder(folder)?;
        let journal = Self { folder: folder.to_owned(), number, file, bytes: whole };
        journal.clean();
        Ok(Recovered { journal, checkpoint, entries, torn })
    }

    /// Bytes since the last checkpoint.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends entries and waits until they are on the disk.
    ///
    /// # Errors
    /// [`JournalError`]; nothing of it is to be acknowledged then. What was written of it is cut off again.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let mut buffer = Vec::new();
        for entry in entries {
            let payload = entry.encode_to_vec();
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            buffer.extend_from_slice(&length.to_le_bytes());
            buffer.extend_from_slice(&checksum(&payload).to_le_bytes());
            buffer.extend_from_slice(&payload);
        }
        let written = self.file.write_all(&buffer).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            let path = self.folder.join(format!("journal-{}", self.number));
            if let Err(cut) = self.file.set_len(self.bytes) {
                tracing::error!(error = %cut, path = %path.display(), "a part of a batch stays in the journal");
            }
            return Err(at(&path)(error));
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(buffer.len()).unwrap_or_default());
        Ok(())
    }

    /// Writes a checkpoint and begins an empty journal behind it.
    ///
    /// # Errors
    /// [`JournalError`]; the journal goes on as before then.
    pub(crate) fn checkpoint(&mut self, content: &[u8]) -> Result<(), JournalError> {
        let number = self.number.saturating_add(1);
        let (path, temporary) =
            (self.folder.join(format!("checkpoint-{number}")), self.folder.join("checkpoint.new"));
        let journal = self.folder.join(format!("journal-{number}"));
        // The new journal is there before the checkpoint counts, so that no failure in between leaves us without one.
        let next = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&journal)
            .map_err(at(&journal))?;
        next.set_len(0).map_err(at(&journal))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(at(&temporary))?;
        file.write_all(&checksum(content).to_le_bytes()).map_err(at(&temporary))?;
        file.write_all(content).map_err(at(&temporary))?;
        file.sync_all().map_err(at(&temporary))?;
        fs::rename(&temporary, &path).map_err(at(&path))?;
        sync_folder(&self.folder)?;
        (self.number, self.file, self.bytes) = (number, next, 0);
        self.clean();
        Ok(())
    }

    /// Removes what is older than the checkpoint in use. What cannot be removed is tried again at the next one.
    fn clean(&self) {
        let Ok(list) = fs::read_dir(&self.folder) else { return };
        for entry in list.flatten() {
            let name = entry.file_name();
            let number =
                name.to_str().and_then(|name| name.rsplit_once('-')).and_then(|(_, n)| n.parse::<u64>().ok());
            if number.is_some_and(|number| number != self.number) && fs::remove_file(entry.path()).is_err() {
                tracing::debug!(path = %entry.path().display(), "an old journal stays");
            }
        }
    }
}

/// Number of the newest checkpoint, 0 for none.
fn newest(folder: &Path) -> Result<u64, JournalError> {
    let mut newest = 0;
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix("checkpoint-")).and_then(|n| n.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

fn read_checkpoint(path: &Path) -> Result<Vec<u8>, JournalError> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut bytes = Vec::new();
    (&mut file).take(MAX_CHECKPOINT_BYTES).read_to_end(&mut bytes).map_err(at(path))?;
    let damaged = |what: &str| JournalError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let Some((sum, content)) = bytes.split_first_chunk::<8>() else { return Err(damaged("it is too short")) };
    if u64::from_le_bytes(*sum) != checksum(content) {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(content.to_vec())
}

/// Whole entries from the start, and how many bytes they are.
fn read_entries(file: &File) -> io::Result<(Vec<Entry>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut entries, mut whole) = (Vec::new(), 0_u64);
    loop {
        let mut head = [0_u8; 12];
        if reader.read_exact(&mut head).is_err() {
            return Ok((entries, whole));
        }
        let [l0, l1, l2, l3, sum @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let Ok(size) = usize::try_from(length) else { return Ok((entries, whole)) };
        if size > MAX_MESSAGE_BYTES.saturating_mul(2) {
            return Ok((entries, whole));
        }
        let mut payload = vec![0; size];
        if reader.read_exact(&mut payload).is_err() || u64::from_le_bytes(sum) != checksum(&payload) {
            return Ok((entries, whole));
        }
        let Ok(entry) = Entry::decode(payload.as_slice()) else { return Ok((entries, whole)) };
        entries.push(entry);
        whole = whole.saturating_add(12).saturating_add(u64::from(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first_sequence: u64) -> Entry {
        let batch = proto::Batch { first_sequence, observations: vec![proto::Observation::default()] };
        Entry { node: "n1".into(), stream: "s".into(), batch: Some(batch), at: 7, taken: 0 }
    }

    #[test]
    fn what_was_appended_is_there_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = Journal::open(folder.path()).unwrap();
        assert!(opened.checkpoint.is_none() && opened.entries.is_empty());
        opened.journal.append(&[entry(1), entry(2)]).unwrap();
        opened.journal.append(&[entry(3)]).unwrap();
        let again = Journal::open(folder.path()).unwrap();
        assert_eq!(again.entries, [entry(1), entry(2), entry(3)]);
    }

    #[test]
    fn a_checkpoint_stands_for_everything_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = Journal::open(folder.path()).unwrap().journal;
        opened.append(&[entry(1)]).unwrap();
        opened.checkpoint(b"state").unwrap();
        opened.append(&[entry(2)]).unwrap();
        let again = Journal::open(folder.path()).unwrap();
        assert_eq!(again.checkpoint.as_deref(), Some(b"state".as_slice()));
        assert_eq!(again.entries, [entry(2)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_torn_entry_is_cut_off_and_the_journal_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal-0");
        Journal::open(folder.path()).unwrap().journal.append(&[entry(1), entry(2)]).unwrap();
        let bytes = fs::read(&path).unwrap();
        for cut in 1..bytes.len() / 2 {
            fs::write(&path, bytes.get(..bytes.len() - cut).unwrap()).unwrap();
            let mut opened = Journal::open(folder.path()).unwrap();
            assert_eq!(opened.entries, [entry(1)], "cut={cut}");
            assert_eq!(opened.torn, u64::try_from(bytes.len() / 2 - cut).unwrap());
            opened.journal.append(&[entry(3)]).unwrap();
            assert_eq!(Journal::open(folder.path()).unwrap().entries, [entry(1), entry(3)]);
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_reported_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        Journal::open(folder.path()).unwrap().journal.checkpoint(b"state").unwrap();
        let path = folder.path().join("checkpoint-1");
        fs::write(&path, b"12345678nonsense").unwrap();
        assert!(matches!(Journal::open(folder.path()), Err(JournalError::Damaged { .. })));
        assert!(path.exists());
    }
}
