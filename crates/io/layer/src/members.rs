//! The files of an archive that comes as a stream and is read once, such as what a runtime exports.

use std::io::{self, BufReader, Read};

use crate::layer::normal;
use crate::tar::{TarKind, TarStream};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 100_000;

/// The files of an archive, one after another. Reading gives the content of the present one.
pub struct Members<R> {
    stream: TarStream<BufReader<R>>,
    entries: usize,
}

impl<R: Read> Members<R> {
    /// Of an archive that is not compressed.
    pub fn new(archive: R) -> Self {
        Self { stream: TarStream::new(BufReader::with_capacity(64 * 1024, archive)), entries: 0 }
    }

    /// The path of the next file, below the root; none at the end. Folders, links and what leads out of the root are passed
    /// over, as is what was not read of the file before.
    ///
    /// # Errors
    /// When the archive is damaged, or has more than 100,000 entries.
    pub fn next_file(&mut self) -> io::Result<Option<String>> {
        while let Some(head) = self.stream.next()? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
            }
            if head.kind == TarKind::File
                && let Some(path) = normal(&head.path)
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.content().read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_one_after_another_and_links_folders_and_what_leads_out_are_passed_over() {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: ::tar::EntryType, content: &[u8]| {
            let mut head = ::tar::Header::new_ustar();
            head.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            head.set_entry_type(kind);
            head.set_size(content.len() as u64);
            head.set_cksum();
            builder.append(&head, content).unwrap();
        };
        use ::tar::EntryType as T;
        add("a/", T::Directory, b"");
        add("a/layer.tar", T::Regular, &[7; 1000]);
        add("b/layer.tar", T::Symlink, b"");
        add("../x", T::Regular, b"x");
        add("manifest.json", T::Regular, b"[]");
        let archive = builder.into_inner().unwrap();
        let mut members = Members::new(&archive[..]);
        assert_eq!(members.next_file().unwrap().as_deref(), Some("a/layer.tar"));
        assert_eq!(
            members.next_file().unwrap().as_deref(),
            Some("manifest.json"),
            "unread content is passed"
        );
        let mut content = Vec::new();
        members.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"[]");
        assert_eq!(members.next_file().unwrap(), None);
        let mut cut = Members::new(&archive[..2000]);
        cut.next_file().unwrap();
        assert!(cut.read_to_end(&mut content).is_err(), "an end that is none");
    }
}
