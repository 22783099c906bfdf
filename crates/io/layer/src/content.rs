//! The bytes of one file, from a folder or out of a stream, read as far as they are wanted.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

/// Most bytes of one file in a stream that are kept to be read at places.
const MAX_KEPT: u64 = 256 * 1024 * 1024;

/// The bytes of one file.
pub trait ReadFile {
    /// Its size in bytes, as the folder or archive says.
    ///
    /// # Errors
    /// When the file can not be opened.
    fn size(&mut self) -> io::Result<u64>;

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
        let size = self.size()?;
        if size > cap {
            return Err(io::Error::other(format!("{size} bytes, at most {cap} are read")));
        }
        self.read_at(0, usize::try_from(size).map_err(io::Error::other)?)
    }
}

/// A file of a folder, opened when it is first read.
pub(crate) struct FolderFile<F> {
    open: F,
    opened: Option<(File, u64)>,
}

impl<F: FnMut() -> io::Result<File>> FolderFile<F> {
    pub(crate) fn new(open: F) -> Self {
        Self { open, opened: None }
    }

    fn opened(&mut self) -> io::Result<(&File, u64)> {
        if self.opened.is_none() {
            let file = (self.open)()?;
            let size = file.metadata()?.len();
            self.opened = Some((file, size));
        }
        match &self.opened {
            Some((file, size)) => Ok((file, *size)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The content of a file that is open already.
pub fn opened(file: File) -> impl ReadFile {
    let mut file = Some(file);
    FolderFile::new(move || file.take().ok_or_else(|| io::ErrorKind::NotFound.into()))
}

impl<F: FnMut() -> io::Result<File>> ReadFile for FolderFile<F> {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.opened()?.1)
    }

    fn read_at(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let (file, size) = self.opened()?;
        // A length that a damaged file claims must not be taken from memory before it is known to be there.
        if at.checked_add(length as u64).is_none_or(|end| end > size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

/// A file in a stream: what was read is kept, because a stream does not go back.
pub(crate) struct StreamFile<R> {
    stream: R,
    size: u64,
    kept: Vec<u8>,
}

impl<R: Read> StreamFile<R> {
    /// `buffer` is used again; its content is forgotten.
    pub(crate) fn new(stream: R, size: u64, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { stream, size, kept: buffer }
    }

    /// Gives the buffer back, unless it has become too large to be kept.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        if self.kept.capacity() > 4 * 1024 * 1024 { Vec::new() } else { self.kept }
    }
}

impl<R: Read> ReadFile for StreamFile<R> {
    fn size(&mut self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&mut self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let end = at.checked_add(length as u64).filter(|end| *end <= self.size);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > MAX_KEPT {
            let why = format!("{end} bytes of it are needed, at most {MAX_KEPT} are kept in memory");
            return Err(io::Error::other(why));
        }
        let missing = end.saturating_sub(self.kept.len() as u64);
        self.stream.by_ref().take(missing).read_to_end(&mut self.kept)?;
        let place = usize::try_from(at).map_err(io::Error::other)?;
        let bytes = self.kept.get(place..).and_then(|rest| rest.get(..length));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_stream_is_read_at_places_as_one_of_a_folder_is() {
        let text = b"0123456789";
        let mut stored = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut stored, text).unwrap();
        let folder: Box<dyn ReadFile> = Box::new(FolderFile::new(move || stored.try_clone()));
        let stream: Box<dyn ReadFile> = Box::new(StreamFile::new(&text[..], 10, Vec::new()));
        for mut file in [folder, stream] {
            assert_eq!(file.read_at(8, 2).unwrap(), b"89");
            assert_eq!(file.read_at(0, 2).unwrap(), b"01");
            assert!(file.read_at(9, 2).is_err());
            assert!(file.read_at(u64::MAX, 2).is_err());
            assert!(file.whole(9).is_err());
            assert_eq!(file.whole(10).unwrap(), text);
        }
    }
}
