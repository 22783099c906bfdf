//! The form of a snapshot, the same for every backend, so that one restores what another took.
//!
//! ```text
//! "NVSTORE1"  revision 8
//! 1  key length 2  key  created 8  modified 8  value length 4  value      for every entry, keys ascending
//! 0  entries 8  SHA-256 of everything before it
//! ```
//! Numbers are big-endian. A snapshot without its right end is refused before anything is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::StoreError;
use crate::store::{Entry, Revision, SnapshotSummary};
use crate::transaction::{MAX_VALUE_BYTES, validate_key};

const MAGIC: &[u8; 8] = b"NVSTORE1";
/// Largest snapshot that is read (4 GiB).
const MAX_SNAPSHOT_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Writes a snapshot piece by piece.
pub(crate) struct Encoder {
    hash: Sha256,
    summary: SnapshotSummary,
}

impl Encoder {
    /// Starts one; its first bytes go into `out`.
    pub(crate) fn new(revision: Revision, out: &mut Vec<u8>) -> Self {
        let mut encoder = Self { hash: Sha256::new(), summary: SnapshotSummary { revision, entries: 0 } };
        encoder.add(out, |out| {
            out.put_slice(MAGIC);
            out.put_u64(revision.0);
        });
        encoder
    }
    /// Adds an entry's bytes to `out`.
    pub(crate) fn entry(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        self.summary.entries = self.summary.entries.saturating_add(1);
        self.add(out, |out| {
            out.put_u8(1);
            out.put_u16(u16::try_from(entry.key.len()).unwrap_or(u16::MAX));
            out.put_slice(entry.key.as_bytes());
            out.put_u64(entry.created.0);
            out.put_u64(entry.modified.0);
            out.put_u32(u32::try_from(entry.value.len()).unwrap_or(u32::MAX));
            out.put_slice(&entry.value);
        });
    }
    /// Adds the end to `out`.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) -> SnapshotSummary {
        let entries = self.summary.entries;
        self.add(out, |out| {
            out.put_u8(0);
            out.put_u64(entries);
        });
        out.put_slice(&self.hash.finalize());
        self.summary
    }
    fn add(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let before = out.len();
        write(out);
        self.hash.update(out.get(before..).unwrap_or_default());
    }
}

/// Reads a snapshot entry by entry. Errors of kind `InvalidData` are the snapshot's.
pub(crate) struct Decoder<R> {
    from: R,
    hash: Sha256,
    summary: SnapshotSummary,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> Decoder<R> {
    fn new(from: R) -> io::Result<Self> {
        let summary = SnapshotSummary { revision: Revision::ZERO, entries: 0 };
        let mut decoder = Self { from, hash: Sha256::new(), summary };
        if decoder.take::<8>()? != *MAGIC {
            return Err(bad("is none of this product, or of a later format"));
        }
        decoder.summary.revision = Revision(u64::from_be_bytes(decoder.take()?));
        Ok(decoder)
    }

    /// The next entry, `None` after the last of a whole snapshot.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        match self.take::<1>()? {
            [1] => {}
            [0] => return self.end().map(|()| None),
            _ => return Err(bad("is damaged")),
        }
        let length = usize::from(u16::from_be_bytes(self.take()?));
        let key = String::from_utf8(self.take_vec(length)?).map_err(|_utf8| bad("is damaged"))?;
        validate_key(&key).map_err(|error| bad(&format!("has an entry that is not allowed ({error})")))?;
        let created = Revision(u64::from_be_bytes(self.take()?));
        let modified = Revision(u64::from_be_bytes(self.take()?));
        let length = usize::try_from(u32::from_be_bytes(self.take()?)).unwrap_or(usize::MAX);
        if length > MAX_VALUE_BYTES || created > modified || modified > self.summary.revision {
            return Err(bad("is damaged"));
        }
        let value = Bytes::from(self.take_vec(length)?);
        self.summary.entries = self.summary.entries.saturating_add(1);
        Ok(Some(Entry { key, value, created, modified, lease: None }))
    }

    fn end(&mut self) -> io::Result<()> {
        let entries = u64::from_be_bytes(self.take()?);
        let digest = self.hash.clone().finalize();
        let stored: [u8; 32] = self.take()?;
        if entries != self.summary.entries || digest[..] != stored[..] {
            return Err(bad("is damaged"));
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
    fn take_vec(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.from.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => bad("is cut short"),
            _ => error,
        })?;
        self.hash.update(bytes);
        Ok(())
    }
}

/// A whole snapshot on this disk, checked, in a file without a name that goes with it.
#[derive(Debug)]
pub(crate) struct SpooledSnapshot {
    file: File,
    summary: SnapshotSummary,
}

impl SpooledSnapshot {
    /// Reads all of `from` into `directory` and checks it.
    pub(crate) async fn read(
        directory: &Path,
        from: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Self, StoreError> {
        let path = directory.join("restore.tmp");
        let file = nameless(&path).map_err(|error| StoreError::io("create", &path, error))?;
        let mut spool = tokio::fs::File::from_std(file);
        let mut buffer = vec![0_u8; 64 * 1024];
        let mut total = 0_u64;
        loop {
            let read = from
                .read(&mut buffer)
                .await
                .map_err(|error| StoreError::SnapshotStream { source: Arc::new(error) })?;
            total = total.saturating_add(read as u64);
            if total > MAX_SNAPSHOT_BYTES {
                return Err(StoreError::Snapshot { what: "is larger than 4 GiB".to_owned() });
            }
            match buffer.get(..read) {
                None | Some([]) => break,
                Some(bytes) => {
                    spool.write_all(bytes).await.map_err(|error| StoreError::io("write to", &path, error))?;
                }
            }
        }
        spool.flush().await.map_err(|error| StoreError::io("write to", &path, error))?;
        let file = spool.into_std().await;
        let checked = tokio::task::spawn_blocking(move || Self::check(file)).await;
        checked.map_err(|_stopped| StoreError::Closed)?.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => StoreError::Snapshot { what: error.to_string() },
            _ => StoreError::io("read", &path, error),
        })
    }

    fn check(file: File) -> io::Result<Self> {
        let empty = SnapshotSummary { revision: Revision::ZERO, entries: 0 };
        let mut snapshot = Self { file, summary: empty };
        let mut entries = snapshot.entries()?;
        let mut last = String::new();
        while let Some(entry) = entries.next()? {
            if entry.key <= last {
                return Err(bad("is damaged"));
            }
            last = entry.key;
        }
        let summary = entries.summary;
        snapshot.summary = summary;
        Ok(snapshot)
    }

    pub(crate) const fn summary(&self) -> SnapshotSummary {
        self.summary
    }

    /// Its entries, from the first.
    pub(crate) fn entries(&self) -> io::Result<Decoder<BufReader<&File>>> {
        let mut file = &self.file;
        file.rewind()?;
        Decoder::new(BufReader::with_capacity(64 * 1024, file))
    }
}

fn nameless(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(Revision(9), &mut out);
        for (key, value) in [("a", "1"), ("b/ä", ""), ("c", "three")] {
            let entry = Entry {
                key: key.to_owned(),
                value: Bytes::from_static(value.as_bytes()),
                created: Revision(1),
                modified: Revision(9),
                lease: None,
            };
            encoder.entry(&entry, &mut out);
        }
        assert_eq!(encoder.finish(&mut out), SnapshotSummary { revision: Revision(9), entries: 3 });
        out
    }

    #[tokio::test]
    async fn a_snapshot_with_any_byte_cut_or_altered_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let whole = sample();
        let read = SpooledSnapshot::read(directory.path(), &mut whole.as_slice()).await.unwrap();
        assert_eq!(read.summary().entries, 3);
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 0x40;
            for broken in [altered.as_slice(), &whole[..at]] {
                let refused = SpooledSnapshot::read(directory.path(), &mut &*broken).await;
                assert!(matches!(refused, Err(StoreError::Snapshot { .. })), "byte {at}: {refused:?}");
            }
        }
    }
}
