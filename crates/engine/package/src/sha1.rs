//! SHA-1 of whole files: the key under which Maven's repositories and indexes of them know an archive. It is looked up and
//! trusted for nothing: who makes two archives of one hash hides no more than who renames one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha1::Digest as _;

use crate::read::ReadAt;

/// Bytes that are read at once.
const PIECE: u64 = 256 * 1024;

/// The SHA-1 of a file's bytes; written as 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha1([u8; 20]);

impl Sha1 {
    /// Of a file of `size` bytes; none where it cannot be read to its end.
    pub fn of_file(size: u64, read: ReadAt<'_>) -> Option<Self> {
        let mut hash = sha1::Sha1::new();
        let mut at = 0;
        while at < size {
            let length = (size - at).min(PIECE);
            hash.update(read(at, usize::try_from(length).ok()?)?);
            at += length;
        }
        Some(Self(hash.finalize().into()))
    }

    /// From its 20 bytes; none of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its 20 bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-1 is 40 hexadecimal digits")]
pub struct Sha1Error;

impl FromStr for Sha1 {
    type Err = Sha1Error;

    fn from_str(text: &str) -> Result<Self, Sha1Error> {
        if text.len() != 40 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Sha1Error);
        }
        let mut bytes = [0; 20];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(at * 2..at * 2 + 2).ok_or(Sha1Error)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_no_digits| Sha1Error)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read_slice;

    #[test]
    fn a_file_has_the_hash_that_others_write_of_it() {
        let of = |bytes: &[u8]| Sha1::of_file(bytes.len() as u64, &mut read_slice(bytes)).unwrap();
        assert_eq!(of(b"").to_string(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(of(b"abc").to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        // A million times the letter a: the third example of FIPS 180.
        assert_eq!(of(&[b'a'; 1_000_000]).to_string(), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
        assert_eq!(Sha1::of_file(4, &mut read_slice(b"abc")), None);
    }

    #[test]
    fn it_is_read_as_it_is_written_and_nothing_else_is() {
        let text = "a9993e364706816aba3e25717850c26c9cd0d89d";
        let hash: Sha1 = text.to_uppercase().parse().unwrap();
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<Sha1>(&format!("\"{text}\"")).unwrap(), hash);
        for wrong in
            ["", "a9", "+9993e364706816aba3e25717850c26c9cd0d89d", "ä993e364706816aba3e25717850c26c9cd0d89d"]
        {
            assert_eq!(wrong.parse::<Sha1>(), Err(Sha1Error), "{wrong}");
        }
    }
}
