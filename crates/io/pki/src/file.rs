//! Files that hold keys: mode 0600, replaced whole, refused when others may read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::PkiError;

/// Largest file of keys and certificates, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PkiError + '_ {
    |source| PkiError::File { path: path.to_owned(), source }
}

/// Reads a file of keys; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, PkiError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let metadata = file.metadata().map_err(failed(path))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned(), mode });
    }
    if metadata.len() > MAX_FILE_BYTES {
        let what = format!("it has {} bytes, at most {MAX_FILE_BYTES} are read", metadata.len());
        return Err(PkiError::Damaged { path: path.to_owned(), what });
    }
    // The room is there from the start, so that no copy of a key stays behind when the vector grows.
    let room = usize::try_from(metadata.len()).unwrap_or_default().saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    (&mut file).take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(failed(path))?;
    Ok(Some(bytes))
}

/// Writes a file of keys beside its place, then moves it there: after a crash the old or the new one is whole.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), PkiError> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&temporary)(error)),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed(&temporary))?;
    file.write_all(bytes).map_err(failed(&temporary))?;
    file.sync_all().map_err(failed(&temporary))?;
    fs::rename(&temporary, path).map_err(failed(path))?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}
