//! The file of keys that secrets are sealed with.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Most keys of a file: the first seals, the others open what was sealed before.
const MAX_KEYS: usize = 16;
/// Largest file of keys, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes in front of what is sealed (NIST SP 800-38D, 8.2.2: drawn at random).
const NONCE_BYTES: usize = 12;

/// Why secrets cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The file of keys cannot be read or made.
    #[error("the file of keys {} cannot be used", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read the file of keys.
    #[error("{} has mode {mode:o}: keys must be readable by their owner alone, run chmod 600 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file of keys has a line that is no key, none at all, or too many.
    #[error("{} is no file of keys ({what}): it has one key of 64 hexadecimal digits a line", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The cryptography's own failure.
    #[error("a secret cannot be sealed")]
    Cipher,
}

struct Key {
    /// First four bytes of the key's SHA-256, in hexadecimal digits: which key sealed something.
    id: String,
    key: RandomizedNonceKey,
}

/// Keys of AES-256-GCM, the one that seals first.
pub struct SealingKeys {
    keys: Vec<Key>,
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

impl SealingKeys {
    /// Reads the keys of a file, one of 64 hexadecimal digits a line; lines that begin with `#` are passed over. Where
    /// there is no file, one is made with a key drawn at random and mode 0600. A new key is taken into use by putting it
    /// before the others.
    ///
    /// # Errors
    /// [`SealError`]. A file that cannot be read is never replaced: that would lose every secret.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(error) => return Err(failed(error)),
        };
        let found = file.metadata().map_err(failed)?;
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SealError::Exposed { path: path.to_owned(), mode });
        }
        // The room is there from the start, so that no copy of a key stays behind when the text grows.
        let room = usize::try_from(found.len().min(MAX_FILE_BYTES)).unwrap_or_default().saturating_add(1);
        let mut text = Zeroizing::new(String::with_capacity(room));
        (&mut file).take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).map_err(|what| SealError::Keys { path: path.to_owned(), what })
    }

    fn create(path: &Path) -> Result<Self, SealError> {
        let failed = |source| SealError::File { path: path.to_owned(), source };
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_unspecified| SealError::Cipher)?;
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str(
            "# Opens the passwords and tokens in the store: keep a copy apart from backups of the store.\n",
        );
        text.push_str("# A new key goes before the others, which open what was sealed before.\n");
        for byte in key.iter() {
            for half in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Self::parse(&text).map_err(|what| SealError::Keys { path: path.to_owned(), what })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().map(|(at, line)| (at.saturating_add(1), line.trim()));
        let mut keys = Vec::new();
        for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            if keys.len() == MAX_KEYS {
                return Err(format!("it has more than {MAX_KEYS} keys"));
            }
            let bytes = key_bytes(line).ok_or_else(|| format!("line {at}"))?;
            let key =
                RandomizedNonceKey::new(&AES_256_GCM, &*bytes).map_err(|_wrong| format!("line {at}"))?;
            let digest = Sha256::digest(*bytes);
            let id = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            keys.push(Key { id, key });
        }
        if keys.is_empty() { Err("it has no key".to_owned()) } else { Ok(Self { keys }) }
    }

    /// Id of the key that seals.
    pub(super) fn current(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// Seals `plain` for one `place`, where alone it can be opened: nonce, text, tag.
    pub(super) fn seal(&self, plain: &str, place: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError::Cipher)?;
        // What is encrypted in place is no copy that stays behind: the vector has room for the tag.
        let mut text = Vec::with_capacity(plain.len().saturating_add(32));
        text.extend_from_slice(plain.as_bytes());
        let nonce = key
            .key
            .seal_in_place_append_tag(Aad::from(place), &mut text)
            .map_err(|_unspecified| SealError::Cipher)?;
        let nonce: &[u8; NONCE_BYTES] = nonce.as_ref();
        Ok([nonce.as_slice(), &text].concat())
    }

    /// Opens what [`Self::seal`] made with the key of this id; none where there is no such key, or it was altered or
    /// moved.
    pub(super) fn open_sealed(&self, id: &str, sealed: &[u8], place: &[u8]) -> Option<String> {
        let key = self.keys.iter().find(|key| key.id == id)?;
        let (nonce, text) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let mut text = Zeroizing::new(text.to_vec());
        let plain = key.key.open_in_place(Nonce::from(nonce), Aad::from(place), &mut text).ok()?;
        String::from_utf8(plain.to_vec()).ok()
    }
}

fn key_bytes(digits: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    if digits.len() != KEY_BYTES * 2 {
        return None;
    }
    for (slot, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.key");
        let first = SealingKeys::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SealingKeys::open(&path).unwrap();
        let sealed = first.seal("hunter2", b"a/b").unwrap();
        assert_eq!(again.open_sealed(first.current(), &sealed, b"a/b").as_deref(), Some("hunter2"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SealingKeys::open(&path).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn what_is_altered_moved_or_sealed_with_another_key_is_not_opened() {
        let keys = SealingKeys::parse(&"ab".repeat(32)).unwrap();
        let other = SealingKeys::parse(&"cd".repeat(32)).unwrap();
        let sealed = keys.seal("hunter2", b"registry/a/password").unwrap();
        assert_ne!(sealed, keys.seal("hunter2", b"registry/a/password").unwrap(), "each is sealed anew");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        let id = keys.current();
        assert!(keys.open_sealed(id, &sealed, b"registry/b/password").is_none(), "moved");
        assert!(other.open_sealed(id, &sealed, b"registry/a/password").is_none(), "no such key");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(keys.open_sealed(id, &altered, b"registry/a/password").is_none(), "byte {at}");
        }
        assert!(keys.open_sealed(id, b"short", b"").is_none());
    }

    #[test]
    fn a_file_that_is_none_of_keys_is_refused_with_its_line() {
        for (text, want) in [
            ("", "no key"),
            ("# nothing\n", "no key"),
            ("# one\nzz\n", "line 2"),
            (&format!("{}\n", "ab".repeat(32)).repeat(17), "more than 16"),
        ] {
            let error = SealingKeys::parse(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
