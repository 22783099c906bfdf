//! A file mapped into memory.

use std::path::{Path, PathBuf};

/// A file whose bytes are those of the page cache. It must not be changed in place while it is open: whoever replaces
/// it writes another file and renames.
pub struct MappedFile {
    map: vmap::Map,
}

/// Why a file could not be mapped.
#[derive(Debug, thiserror::Error)]
// The mapping's error tells its own cause, which a chain of causes would tell again.
#[error("{}: {why}", path.display())]
pub struct MapError {
    path: PathBuf,
    why: vmap::Error,
}

impl MappedFile {
    /// Maps a file to read it.
    ///
    /// # Errors
    /// [`MapError`] when it does not exist, is empty, or may not be read.
    pub fn open(path: &Path) -> Result<Self, MapError> {
        let (map, _file) =
            vmap::Map::with_options().open(path).map_err(|why| MapError { path: path.to_owned(), why })?;
        Ok(Self { map })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}
