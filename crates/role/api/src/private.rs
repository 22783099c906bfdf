//! The state directory: everything in it is for its owner alone.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes the folder, mode 0700, if it is not there, and gives an older one that mode.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Writes a file whole or not at all, with `mode` from its first moment.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::options().create(true).truncate(true).write(true).mode(mode).open(&next)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_private_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (state, secret) = (folder.path().join("state"), folder.path().join("state/secret"));
        make_folder(&state).unwrap();
        write(&secret, "x", 0o600).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&secret)), (0o700, 0o600));
    }
}
