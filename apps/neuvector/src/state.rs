//! The state directory: everything in it is for its owner alone.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Makes the folder, mode 0700, if it is not there, and gives an older one that mode.
///
/// # Errors
/// When it cannot be made or is somebody else's, with what to do.
pub(crate) fn make_private(folder: &Path) -> Result<()> {
    let shown = folder.display();
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| {
            format!("state directory {shown} cannot be made; name another with --state-dir")
        })?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("state directory {shown} is not ours; name another with --state-dir"))
}

/// Writes a file whole or not at all, with `mode` from its first moment.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let shown = || path.display().to_string();
    let next = path.with_extension("next");
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(mode).open(&next).with_context(shown)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).with_context(shown)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).with_context(shown)?;
    fs::rename(&next, path).with_context(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_private_from_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (state, secret) = (folder.path().join("state"), folder.path().join("state/secret"));
        make_private(&state).unwrap();
        write(&secret, "x", 0o600).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&secret)), (0o700, 0o600));
    }
}
