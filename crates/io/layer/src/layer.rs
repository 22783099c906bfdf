//! One layer of an image as a stream: decompressed, checked by its digests, entry by entry.

use std::io::{self, BufRead as _, BufReader, Read};

use crate::content::{ReadFile, StreamFile};
use crate::digest::{Hashed, Sum};
use crate::tar::{TarHead, TarKind, TarStream};

/// Most bytes of a layer when decompressed: 64 GiB.
const MAX_LAYER: u64 = 64 << 30;
/// Most entries of a layer.
const MAX_ENTRIES: usize = 5_000_000;
/// A layer that is more than so many times as large when decompressed, and larger than [`SMALL`], is a bomb: deflate
/// reaches 1,032.
const MAX_RATIO: u64 = 1_100;
/// What no bomb is, in bytes: 256 MiB.
const SMALL: u64 = 256 << 20;
/// Largest window of a zstd stream, as a power of two: 128 MiB.
const WINDOW: u32 = 27;

/// Why a layer could not be read to its end. What came before has been handed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// It is cut, or damaged.
    #[error("it is damaged after {entries} entries")]
    Damaged {
        /// Entries that were read before.
        entries: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its bytes are not those that the image names.
    #[error("its digest is {found}, the image names {expected}")]
    Digest {
        /// What the image says.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It has more entries than are read.
    #[error("it has more than {MAX_ENTRIES} entries")]
    Entries,
}

/// What an entry of a layer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerChange {
    /// A regular file, whose content is at hand.
    File,
    /// A further name of a file; `target` is the first.
    HardLink,
    /// A folder, in which that of the layers below stays.
    Folder,
    /// A link, a device or a pipe.
    Other,
    /// What the layers below have at `path` is gone, with everything below it.
    Whiteout,
    /// What the layers below have in the folder `path` is gone.
    Opaque,
}

/// An entry of a layer. Paths are below the root, without a slash at either end and without `.` and `..`.
#[derive(Debug)]
pub struct LayerEntry<'a> {
    /// Where.
    pub path: &'a str,
    /// What a hard link names.
    pub target: &'a str,
    /// What it does.
    pub change: LayerChange,
    /// Permission bits.
    pub mode: u32,
}

/// The digests that a layer must have; what is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerDigests {
    /// Of the blob, as it lies there.
    pub blob: String,
    /// Of the archive, when decompressed.
    pub archive: String,
}

/// Hands each entry of a layer to `take`, regular files with their content; entries whose path leads out of the root are
/// handed to `refused`. The digests that it has.
///
/// # Errors
/// [`LayerError`] when the layer is damaged, too large, or not the one that the image names.
pub fn walk_layer(
    blob: impl Read,
    expected: &LayerDigests,
    take: &mut dyn FnMut(&LayerEntry<'_>, &mut dyn ReadFile),
    refused: &mut dyn FnMut(&str),
) -> Result<LayerDigests, LayerError> {
    walk_within(blob, expected, SMALL, take, refused)
}

fn walk_within(
    blob: impl Read,
    expected: &LayerDigests,
    small: u64,
    take: &mut dyn FnMut(&LayerEntry<'_>, &mut dyn ReadFile),
    refused: &mut dyn FnMut(&str),
) -> Result<LayerDigests, LayerError> {
    let mut entries = 0;
    let (blob, blob_sum) = Hashed::new(blob);
    let mut blob = BufReader::with_capacity(256 * 1024, blob);
    let damaged = |entries| move |source| LayerError::Damaged { entries, source };
    let (archive, archive_sum) = Hashed::new(decoder(&mut blob).map_err(damaged(0))?);
    let capped = Capped { stream: archive, sum: archive_sum.clone(), packed: blob_sum.clone(), small };
    let mut tar = TarStream::new(BufReader::with_capacity(64 * 1024, capped));
    let mut buffer = Vec::new();
    while let Some(head) = tar.next().map_err(damaged(entries))? {
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(LayerError::Entries);
        }
        buffer = hand_on(&head, &mut tar, buffer, take, refused);
    }
    tar.finish().map_err(damaged(entries))?;
    // What is behind a compressed stream belongs to the blob.
    io::copy(&mut blob, &mut io::sink()).map_err(damaged(entries))?;
    let found = LayerDigests { blob: blob_sum.digest(), archive: archive_sum.digest() };
    for (expected, found) in [(&expected.blob, &found.blob), (&expected.archive, &found.archive)] {
        if !expected.is_empty() && expected != found {
            return Err(LayerError::Digest { expected: expected.clone(), found: found.clone() });
        }
    }
    Ok(found)
}

/// gzip, zstd, or as it is, by its first bytes: media types lie.
fn decoder<'a>(blob: &'a mut BufReader<impl Read + 'a>) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match blob.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(blob)?;
            decoder.window_log_max(WINDOW)?;
            Box::new(decoder)
        }
        _ => Box::new(blob),
    })
}

/// Refuses to go on where a stream grows beyond all measure.
struct Capped<R> {
    stream: R,
    sum: Sum,
    packed: Sum,
    /// Bytes up to which nothing is a bomb.
    small: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (size, packed) = (self.sum.bytes(), self.packed.bytes());
        if size > MAX_LAYER || size > self.small.max(packed.saturating_mul(MAX_RATIO)) {
            let why = format!("{packed} bytes have grown to {size}: it is made to fill memory or disks");
            return Err(io::Error::other(why));
        }
        self.stream.read(buffer)
    }
}

fn hand_on<R: Read>(
    head: &TarHead,
    tar: &mut TarStream<R>,
    buffer: Vec<u8>,
    take: &mut dyn FnMut(&LayerEntry<'_>, &mut dyn ReadFile),
    refused: &mut dyn FnMut(&str),
) -> Vec<u8> {
    let (path, target) = (normal(&head.path), normal(&head.target));
    let Some(path) = path.filter(|_| head.kind != TarKind::HardLink || target.is_some()) else {
        refused(&String::from_utf8_lossy(&head.path));
        return buffer;
    };
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let (path, change) = match name.strip_prefix(".wh.") {
        Some(".wh..opq") => (folder.to_owned(), LayerChange::Opaque),
        // Notes of aufs to itself.
        Some(note) if note.starts_with(".wh.") => return buffer,
        Some(gone) if folder.is_empty() => (gone.to_owned(), LayerChange::Whiteout),
        Some(gone) => (format!("{folder}/{gone}"), LayerChange::Whiteout),
        None => {
            let change = match head.kind {
                TarKind::File => LayerChange::File,
                TarKind::HardLink => LayerChange::HardLink,
                TarKind::Folder => LayerChange::Folder,
                TarKind::Symlink | TarKind::Other => LayerChange::Other,
            };
            (path, change)
        }
    };
    if path.is_empty() && change != LayerChange::Opaque {
        return buffer;
    }
    let target = target.unwrap_or_default();
    let entry = LayerEntry { path: &path, target: &target, change, mode: head.mode };
    let mut file = StreamFile::new(tar.content(), head.size, buffer);
    take(&entry, &mut file);
    file.into_buffer()
}

/// A path below the root in its one form; none where it leads out of it.
pub(crate) fn normal(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw);
    let mut path = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return None;
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: ::tar::EntryType, link: &str, content: &[u8]| {
            let mut head = ::tar::Header::new_ustar();
            // The builder refuses what an attacker would write.
            let name = &mut head.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            head.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            head.set_entry_type(kind);
            head.set_size(content.len() as u64);
            head.set_mode(0o755);
            head.set_cksum();
            builder.append(&head, content).unwrap();
        };
        use ::tar::EntryType as T;
        add("./etc/", T::Directory, "", b"");
        add("/etc/passwd", T::Regular, "", b"root");
        add("etc/link", T::Link, "./etc/passwd", b"");
        add("etc/.wh.gone", T::Regular, "", b"");
        add("opt/.wh..wh..opq", T::Regular, "", b"");
        add("opt/.wh..wh.plnk", T::Regular, "", b"");
        add("../../outside", T::Regular, "", b"x");
        add("etc/out", T::Link, "../../etc/passwd", b"");
        builder.into_inner().unwrap()
    }

    fn walked(
        blob: &[u8],
        expected: &LayerDigests,
    ) -> (Vec<String>, Vec<String>, Result<LayerDigests, LayerError>) {
        let (mut seen, mut refused) = (Vec::new(), Vec::new());
        let mut take = |entry: &LayerEntry<'_>, file: &mut dyn ReadFile| {
            let content = String::from_utf8(file.whole(100).unwrap()).unwrap();
            seen.push(format!("{:?} {} {}{content}", entry.change, entry.path, entry.target));
        };
        let result = walk_layer(blob, expected, &mut take, &mut |path| refused.push(path.to_owned()));
        (seen, refused, result)
    }

    #[test]
    fn changes_are_the_same_however_a_layer_is_compressed_and_nothing_leads_out_of_the_root() {
        let plain = archive();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(&plain[..], 1).unwrap();
        for blob in [plain.clone(), gzip.finish().unwrap(), zstd] {
            let expected = LayerDigests {
                blob: crate::digest::digest_of(&blob),
                archive: crate::digest::digest_of(&plain),
            };
            let (seen, refused, result) = walked(&blob, &expected);
            assert_eq!(result.unwrap(), expected);
            assert_eq!(
                seen,
                [
                    "Folder etc ",
                    "File etc/passwd root",
                    "HardLink etc/link etc/passwd",
                    "Whiteout etc/gone ",
                    "Opaque opt ",
                ]
            );
            assert_eq!(refused, ["../../outside", "etc/out"]);
        }
    }

    #[test]
    fn a_cut_layer_a_wrong_digest_and_a_bomb_are_errors_after_what_was_read() {
        let plain = archive();
        let wrong = LayerDigests { blob: "sha256:00".to_owned(), ..LayerDigests::default() };
        let (seen, _, result) = walked(&plain, &wrong);
        assert!(matches!(result, Err(LayerError::Digest { .. })), "{result:?}");
        assert_eq!(seen.len(), 5);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let (seen, _, result) = walked(&gzip[..gzip.len() / 4], &LayerDigests::default());
        assert!(matches!(result, Err(LayerError::Damaged { .. })), "{result:?}");
        assert!(!seen.is_empty());

        let mut head = ::tar::Header::new_ustar();
        head.set_path("zeros").unwrap();
        head.set_size(1 << 32);
        head.set_cksum();
        let zeros = io::repeat(0).take((4 << 20) - 512);
        let bomb = zstd::encode_all((&head.as_bytes()[..]).chain(zeros), 1).unwrap();
        let none = LayerDigests::default();
        let result = walk_within(&bomb[..], &none, 1 << 20, &mut |_, _| {}, &mut |_| {});
        let Err(LayerError::Damaged { source, .. }) = result else { panic!("{result:?}") };
        assert!(source.to_string().contains("have grown to"), "{source}");
    }
}
