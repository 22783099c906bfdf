//! The state directory: one owner, mode 0700.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The lock on a state directory, held as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes the folder if it is not there, and becomes its only owner.
///
/// # Errors
/// When another process owns it, with that process' number, or it cannot be made.
pub(crate) fn own(folder: &Path) -> Result<Lock> {
    let shown = folder.display();
    if !folder.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("state directory {shown} cannot be made; name another with --state-dir"))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("state directory {shown} is not ours; name another with --state-dir"))?;
    let path = folder.join("owner");
    let mut file = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            (&mut file).take(32).read_to_string(&mut owner)?;
            bail!(
                "state directory {shown} is in use by process {}; stop it, or name another directory with --state-dir",
                owner.trim()
            );
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Lock { _file: file })
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let next = path.with_extension("next");
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_is_there() {
        let folder = std::env::temp_dir().join(format!("nv-state-{}", std::process::id()));
        let first = own(&folder).unwrap();
        let error = own(&folder).unwrap_err().to_string();
        assert!(error.contains("in use by process") && error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        drop(own(&folder).unwrap());
        write_secret(&folder.join("secret"), "x").unwrap();
        let mode = fs::metadata(folder.join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&folder).unwrap();
    }
}
