//! The files that images consist of, in a folder or in an archive that is read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, openat};

use crate::tar::{TarKind, TarStream};

/// Most entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// Largest document, in bytes: what registries accept, and more.
const MAX_TEXT: u64 = 16 * 1024 * 1024;
/// Links to links to links.
const MAX_LINKS: usize = 8;

/// Why a part could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartError {
    /// It can not be opened or read.
    #[error("it can not be read")]
    Read(#[source] io::Error),
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// A document of more bytes than are read.
    #[error("it has {size} bytes, at most {MAX_TEXT} are read")]
    Large {
        /// Its size in bytes.
        size: u64,
    },
    /// The archive has more entries than are read.
    #[error("the archive has more than {MAX_ENTRIES} entries")]
    Entries,
    /// The archive is compressed as a whole, so that its parts can not be read in place.
    #[error("the archive is compressed as a whole; decompress it first")]
    Compressed,
}

/// Where the parts are.
pub(super) enum Parts {
    Folder(OwnedFd),
    Archive { file: Arc<File>, places: HashMap<String, Place> },
}

/// A part of an archive.
pub(super) enum Place {
    Bytes { at: u64, size: u64 },
    Link(String),
}

/// The bytes of one part, read as a stream.
pub struct Part {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Part {
    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Parts {
    pub(super) fn open(path: &Path) -> Result<Self, PartError> {
        let file = File::open(path).map_err(PartError::Read)?;
        let is_folder = file.metadata().map_err(PartError::Read)?.is_dir();
        if is_folder { Ok(Self::Folder(file.into())) } else { archive(file) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.open_part(name).is_ok()
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.open_part(name).ok().map(|part| part.left)
    }

    /// A document.
    pub(super) fn text(&self, name: &str) -> Result<Vec<u8>, PartError> {
        let mut part = self.open_part(name)?;
        if part.left > MAX_TEXT {
            return Err(PartError::Large { size: part.left });
        }
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map_err(PartError::Read)?;
        Ok(bytes)
    }

    pub(super) fn open_part(&self, name: &str) -> Result<Part, PartError> {
        match self {
            Self::Folder(folder) => open_below(folder, name),
            Self::Archive { file, places } => {
                let mut name = name;
                for _ in 0..MAX_LINKS {
                    match places.get(name).ok_or(PartError::Missing)? {
                        Place::Bytes { at, size } => {
                            return Ok(Part { file: Arc::clone(file), at: *at, left: *size });
                        }
                        Place::Link(target) => name = target,
                    }
                }
                Err(PartError::Missing)
            }
        }
    }
}

/// Opens a file below a folder, a step at a time, so that no link is followed.
fn open_below(folder: &OwnedFd, name: &str) -> Result<Part, PartError> {
    let fault = |error: rustix::io::Errno| match error {
        rustix::io::Errno::NOENT => PartError::Missing,
        other => PartError::Read(other.into()),
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mut present = folder.try_clone().map_err(PartError::Read)?;
    for step in name.split('/') {
        if matches!(step, "" | "." | "..") {
            return Err(PartError::Missing);
        }
        present = openat(&present, step, flags, Mode::empty()).map_err(fault)?;
    }
    let stat = rustix::fs::fstat(&present).map_err(fault)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(PartError::Missing);
    }
    let left = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(Part { file: Arc::new(present.into()), at: 0, left })
}

/// Counts the bytes that were read, to know where an entry's content begins.
struct Counted<R> {
    stream: R,
    bytes: std::rc::Rc<std::cell::Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.bytes.set(self.bytes.get() + read as u64);
        Ok(read)
    }
}

fn archive(file: File) -> Result<Parts, PartError> {
    let mut first = [0; 4];
    let read = file.read_at(&mut first, 0).map_err(PartError::Read)?;
    if read == 4 && (first.starts_with(&[0x1f, 0x8b]) || first == [0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(PartError::Compressed);
    }
    let size = file.metadata().map_err(PartError::Read)?.len();
    let file = Arc::new(file);
    let mut places = HashMap::new();
    let mut at = 0;
    // Each head is read at its place, so that no content is.
    loop {
        let bytes = std::rc::Rc::default();
        let part = Part { file: Arc::clone(&file), at, left: size.saturating_sub(at) };
        let counted =
            Counted { stream: BufReader::with_capacity(512, part), bytes: std::rc::Rc::clone(&bytes) };
        let Some(head) = TarStream::new(counted).next().map_err(PartError::Read)? else { break };
        let start = at + bytes.get();
        let Some(name) = crate::layer::normal(&head.path) else {
            at = start + head.size.next_multiple_of(512);
            continue;
        };
        if places.len() >= MAX_ENTRIES {
            return Err(PartError::Entries);
        }
        match head.kind {
            TarKind::File => {
                let size = head.size.min(size.saturating_sub(start));
                places.insert(name, Place::Bytes { at: start, size });
            }
            TarKind::HardLink | TarKind::Symlink => {
                places
                    .extend(target(&name, &head.target, head.kind).map(|target| (name, Place::Link(target))));
            }
            TarKind::Folder | TarKind::Other => {}
        }
        at = start + head.size.next_multiple_of(512);
    }
    Ok(Parts::Archive { file, places })
}

/// What a link in an archive names: a hard link from the root, a symbolic one from its own folder.
fn target(name: &str, target: &[u8], kind: TarKind) -> Option<String> {
    let text = String::from_utf8_lossy(target);
    let mut steps: Vec<&str> = match kind {
        TarKind::Symlink if !text.starts_with('/') => name.split('/').collect(),
        _ => vec![""],
    };
    steps.pop();
    for step in text.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop()?;
            }
            step => steps.push(step),
        }
    }
    Some(steps.join("/"))
}
