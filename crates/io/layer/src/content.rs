//! The bytes of one file, read as far as they are wanted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The bytes of one file.
pub trait ReadFile {
    /// Its size in bytes, as the folder or archive says.
    fn size(&self) -> u64;

    /// `length` bytes from `at`.
    ///
    /// # Errors
    /// When the file ends before, or can not be read.
    fn read_at(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>>;

    /// All of its bytes.
    ///
    /// # Errors
    /// When there are more than `cap`, or they can not be read.
    fn whole(&mut self, cap: u64) -> io::Result<Vec<u8>> {
        let size = self.size();
        if size > cap {
            return Err(io::Error::other(format!("{size} bytes, at most {cap} are read")));
        }
        self.read_at(0, usize::try_from(size).map_err(io::Error::other)?)
    }
}

/// A file of a folder.
pub(crate) struct FolderFile {
    file: File,
    size: u64,
}

impl FolderFile {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl ReadFile for FolderFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        // A length that a damaged file claims must not be taken from memory before it is known to be there.
        if at.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_at_places_and_whole_but_not_beyond_its_end_or_the_cap() {
        let text = b"0123456789";
        let mut stored = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut stored, text).unwrap();
        let mut file = FolderFile::new(stored).unwrap();
        assert_eq!(file.read_at(8, 2).unwrap(), b"89");
        assert_eq!(file.read_at(0, 2).unwrap(), b"01");
        assert!(file.read_at(9, 2).is_err());
        assert!(file.read_at(u64::MAX, 2).is_err());
        assert!(file.whole(9).is_err());
        assert_eq!(file.whole(10).unwrap(), text);
    }
}
