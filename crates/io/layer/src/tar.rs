//! Tar archives as streams (POSIX.1-1988 ustar, POSIX.1-2001 pax, GNU's long names): heads one after another, nothing
//! kept, names and extended heads capped.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// Longest name or extended head, in bytes.
const MAX_EXTENDED: u64 = 1024 * 1024;
/// Longest path that is handed on, in bytes.
const MAX_PATH: usize = 4096;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TarKind {
    File,
    HardLink,
    Symlink,
    Folder,
    /// Devices, pipes, and what is not known.
    Other,
}

/// The head of an entry.
#[derive(Debug)]
pub(crate) struct TarHead {
    pub(crate) path: Vec<u8>,
    /// What a link points to.
    pub(crate) target: Vec<u8>,
    pub(crate) kind: TarKind,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Bytes of content in the archive.
    pub(crate) size: u64,
}

/// A stream of entries.
pub(crate) struct TarStream<R> {
    stream: R,
    /// Bytes of the present entry that were not read, and the filling behind them.
    left: u64,
    filling: u64,
}

/// What stands before a head and speaks of it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, left: 0, filling: 0 }
    }

    /// The next head; none at the end. What was not read of the entry before is skipped.
    pub(crate) fn next(&mut self) -> io::Result<Option<TarHead>> {
        let mut extended = Extended::default();
        loop {
            self.skip()?;
            let Some(block) = self.block()? else { return Ok(None) };
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            check_sum(&block)?;
            let size = number(field(&block, 124, 12)).ok_or_else(|| damaged("a size that is no number"))?;
            let size = extended.size.take().unwrap_or(size);
            self.left = size;
            self.filling = size.next_multiple_of(BLOCK as u64) - size;
            match block.get(156).copied().unwrap_or(0) {
                b'L' => extended.path = Some(text(&self.extended(size)?).to_vec()),
                b'K' => extended.target = Some(text(&self.extended(size)?).to_vec()),
                b'x' => pax(&self.extended(size)?, &mut extended),
                b'g' => {}
                kind => return Ok(Some(self.head(&block, kind, size, extended)?)),
            }
        }
    }

    fn head(&mut self, block: &[u8], kind: u8, size: u64, extended: Extended) -> io::Result<TarHead> {
        let kind = match kind {
            b'0' | 0 | b'7' | b'S' => TarKind::File,
            b'1' => TarKind::HardLink,
            b'2' => TarKind::Symlink,
            b'5' => TarKind::Folder,
            _ => TarKind::Other,
        };
        let path = extended.path.unwrap_or_else(|| own_path(block));
        let target = extended.target.unwrap_or_else(|| text(field(block, 157, 100)).to_vec());
        if path.len() > MAX_PATH || target.len() > MAX_PATH {
            return Err(damaged("a path of more than 4,096 bytes"));
        }
        // Old archives write folders as files whose names end with a slash.
        let kind = if kind == TarKind::File && path.ends_with(b"/") { TarKind::Folder } else { kind };
        // Links and folders have no content, whatever size they claim: GNU tar and Go's agree.
        if matches!(kind, TarKind::HardLink | TarKind::Symlink | TarKind::Folder) {
            self.left = 0;
            self.filling = 0;
        }
        let mode = number(field(block, 100, 8)).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0);
        Ok(TarHead { path, target, kind, mode, size: if self.left == 0 { 0 } else { size } })
    }

    /// The content of the present entry, as far as it was not read.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content { stream: &mut self.stream, left: &mut self.left }
    }

    /// Reads what is behind the end, so that the stream's digest is that of the whole.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(|_bytes| ())
    }

    fn extended(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_EXTENDED {
            return Err(damaged("an extended head of more than 1 MiB"));
        }
        let mut bytes = Vec::new();
        self.content().read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.filling;
        let skipped = io::copy(&mut self.stream.by_ref().take(rest), &mut io::sink())?;
        (self.left, self.filling) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// A whole block; none where the stream ends before it, as archives without an end do.
    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(block))
    }
}

/// The content of an entry.
pub(crate) struct Content<'a, R> {
    stream: &'a mut R,
    left: &'a mut u64,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(*self.left).unwrap_or(usize::MAX));
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let read = self.stream.read(buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

fn field(block: &[u8], at: usize, length: usize) -> &[u8] {
    block.get(at..at + length).unwrap_or_default()
}

/// Up to the first zero byte.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn own_path(block: &[u8]) -> Vec<u8> {
    let name = text(field(block, 0, 100));
    let prefix = text(field(block, 345, 155));
    // GNU's own heads have other things where ustar has the prefix.
    if field(block, 257, 6) == b"ustar\0" && !prefix.is_empty() {
        [prefix, b"/", name].concat()
    } else {
        name.to_vec()
    }
}

/// An octal number with blanks or zeros around, or GNU's base 256.
fn number(bytes: &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    if first & 0x80 != 0 {
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |sum, byte| Some(sum.checked_mul(256)? | u64::from(*byte)));
    }
    let digits = text(bytes).trim_ascii();
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        sum.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

/// The sum of a head's bytes, its own field taken for blanks; some have added them with signs.
fn check_sum(block: &[u8]) -> io::Result<()> {
    let wanted = number(field(block, 148, 8));
    let (mut plain, mut signed) = (0_i64, 0_i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        plain += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    let matches = |sum: i64| wanted.is_some_and(|wanted| i64::try_from(wanted) == Ok(sum));
    if matches(plain) || matches(signed) { Ok(()) } else { Err(damaged("a head with a wrong check sum")) }
}

/// Records `length key=value\n`; what is behind a damaged one is left out.
fn pax(mut bytes: &[u8], extended: &mut Extended) {
    while let Some(blank) = bytes.iter().position(|byte| *byte == b' ') {
        let length = bytes.get(..blank).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let Some((record, rest)) = length.and_then(|length: usize| bytes.split_at_checked(length)) else {
            return;
        };
        let Some(record) = record.get(blank + 1..).and_then(|record| record.strip_suffix(b"\n")) else {
            return;
        };
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else { return };
        let (key, value) = (record.get(..equals), record.get(equals + 1..).unwrap_or_default());
        match key {
            Some(b"path") => extended.path = Some(value.to_vec()),
            Some(b"linkpath") => extended.target = Some(value.to_vec()),
            Some(b"size") => {
                extended.size = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut head = ::tar::Header::new_gnu();
            head.set_size(content.len() as u64);
            head.set_mode(0o644);
            builder.append_data(&mut head, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut stream = TarStream::new(bytes);
        let mut found = Vec::new();
        while let Some(head) = stream.next()? {
            let mut content = Vec::new();
            stream.content().read_to_end(&mut content)?;
            found.push((String::from_utf8_lossy(&head.path).into_owned(), content));
        }
        Ok(found)
    }

    #[test]
    fn entries_come_one_after_another_with_long_names_too() {
        let long = format!("{}/file", "a".repeat(300));
        let bytes = archive(&[("short", b"1"), (&long, &[7; 1000]), ("empty", b"")]);
        let found = read(&bytes).unwrap();
        let want = [("short", vec![1; 0]), (&*long, vec![7; 1000]), ("empty", Vec::new())];
        assert_eq!(found[0], ("short".to_owned(), b"1".to_vec()));
        assert_eq!((&*found[1].0, &found[1].1), (want[1].0, &want[1].1));
        assert_eq!(found[2], ("empty".to_owned(), Vec::new()));
    }

    #[test]
    fn a_cut_archive_is_an_error_and_one_without_an_end_is_none() {
        let bytes = archive(&[("a", b"1"), ("b", &[7; 1000])]);
        assert!(read(&bytes[..1024 + 700]).is_err());
        assert!(read(&bytes[..1024 + 512 + 100]).is_err());
        assert_eq!(read(&bytes[..bytes.len() - 1024]).unwrap().len(), 2);
        let mut changed = bytes.clone();
        changed[0] ^= 1;
        assert!(read(&changed).is_err());
    }

    #[test]
    fn pax_heads_name_paths_and_sizes() {
        let mut extended = Extended::default();
        pax(b"12 path=a/b\n10 size=7\n5 x\n", &mut extended);
        assert_eq!((extended.path.as_deref(), extended.size), (Some(&b"a/b"[..]), Some(7)));
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_archive_is_read_or_an_error(
            flips in proptest::collection::vec((0..3000_usize, proptest::prelude::any::<u8>()), 0..20),
        ) {
            let mut bytes = archive(&[("a", b"1"), (&"n".repeat(200), &[7; 300])]);
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let _either = read(&bytes);
        }
    }
}
