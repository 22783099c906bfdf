//! Archives as streams: `.tar.zst`, entry by entry.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Largest window of a zstd stream, as a power of two: 128 MiB.
const WINDOW: u32 = 27;
/// Most entries of an archive.
const MAX_ENTRIES: usize = 2_000_000;

/// Why an archive could not be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// It could not be opened.
    #[error("{} could not be opened", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is damaged, or is none.
    #[error("{} is damaged after {entries} entries", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Entries that were read before.
        entries: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has more entries than are read.
    #[error("{} has more than {MAX_ENTRIES} entries", path.display())]
    Entries {
        /// Which.
        path: PathBuf,
    },
}

/// What a file holds, or its size in bytes where it is larger than the reader's cap.
pub type Content<'a> = Result<&'a [u8], u64>;

/// Hands each regular file of a `.tar.zst` that `wants` to `take`, with its path. A file larger than `cap` bytes is
/// handed as nothing but its size.
///
/// # Errors
/// [`ArchiveError`] when the archive can not be opened or is damaged; what came before has been handed on.
pub fn walk_archive(
    path: &Path,
    cap: u64,
    wants: &dyn Fn(&str) -> bool,
    take: &mut dyn FnMut(&str, Content<'_>),
) -> Result<(), ArchiveError> {
    let open = |source| ArchiveError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(open)?;
    let mut decoder = zstd::Decoder::new(file).map_err(open)?;
    decoder.window_log_max(WINDOW).map_err(open)?;
    let mut archive = ::tar::Archive::new(BufReader::with_capacity(1 << 20, decoder));
    let damaged = |entries| move |source| ArchiveError::Damaged { path: path.to_owned(), entries, source };
    let mut content = Vec::new();
    for (number, entry) in archive.entries().map_err(damaged(0))?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(ArchiveError::Entries { path: path.to_owned() });
        }
        let mut entry = entry.map_err(damaged(number))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if !entry.header().entry_type().is_file() || !wants(&name) {
            continue;
        }
        let size = entry.size();
        if size > cap {
            take(&name, Err(size));
            continue;
        }
        content.clear();
        entry.by_ref().take(cap).read_to_end(&mut content).map_err(damaged(number))?;
        take(&name, Ok(&content));
    }
    Ok(())
}
