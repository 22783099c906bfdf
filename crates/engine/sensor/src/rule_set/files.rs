//! The files of a rule set: out of the archive that its authors publish, into one blob and back.

use flate2::{Compress, Compression, FlushCompress};
use nv_seclang::{CompileError, File, Refused, RuleSet, Settings};

use crate::decode::content::{Coding, Content, MAX_DECODED_BYTES};

/// Most files of a rule set: the Core Rule Set 4 has 45.
pub const MAX_FILES: usize = 512;
/// Longest name of a file, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// A block of a tar archive (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK: usize = 512;
/// Folders of a published rule set whose files are not rules.
const PASSED_OVER: [&str; 3] = ["tests", "util", "docs"];

/// Files of rules, and those that rules name, in the order in which they are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFiles {
    files: Vec<(String, Vec<u8>)>,
}

/// Why there is no rule set in some bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleFilesError {
    /// It is compressed in a way that cannot be undone.
    #[error("the archive is not compressed with gzip, or its compression is damaged")]
    Compression,
    /// There is more than is taken.
    #[error(
        "the archive has more than {MAX_DECODED_BYTES} bytes of files, or more than {MAX_FILES} files of rules"
    )]
    Size,
    /// It is cut or damaged.
    #[error("the archive is damaged at byte {at}")]
    Damaged {
        /// Where, in the archive without compression.
        at: usize,
    },
    /// None of its files holds rules.
    #[error("the archive has no file whose name ends in .conf")]
    NoRules,
    /// Two files have one name, so that nobody knows which one a rule means.
    #[error("the archive has two files named {name}")]
    Twice {
        /// The name, without its folders.
        name: String,
    },
}

impl RuleFiles {
    /// Takes the files out of a tar archive, compressed with gzip or not, or takes the text of one file of rules. Of an
    /// archive: what ends in `.conf` or `.data`, and the set-up that the Core Rule Set calls `crs-setup.conf.example`.
    ///
    /// # Errors
    /// [`RuleFilesError`].
    pub fn from_archive(bytes: &[u8]) -> Result<Self, RuleFilesError> {
        let plain = match bytes {
            [0x1f, 0x8b, ..] => decompress(Coding::Gzip, bytes)?,
            plain => plain.to_vec(),
        };
        if plain.get(257..262) == Some(b"ustar") {
            return Self::new(walk(&plain)?);
        }
        if plain.contains(&0) {
            return Err(RuleFilesError::Damaged { at: 0 });
        }
        Self::new(vec![("rules.conf".to_owned(), plain)])
    }

    /// Puts files into the order in which they are read: the set-up, then by name; what plug-ins of the Core Rule Set bring
    /// stands before or behind its rules as their names say.
    ///
    /// # Errors
    /// [`RuleFilesError`].
    pub fn new(files: Vec<(String, Vec<u8>)>) -> Result<Self, RuleFilesError> {
        let has_setup = files.iter().any(|(name, _)| last(name) == "crs-setup.conf");
        let is_spare = |name: &str| has_setup && last(name) == "crs-setup.conf.example";
        let mut files: Vec<_> = files.into_iter().filter(|(name, _)| !is_spare(name)).collect();
        let bytes = files.iter().map(|(_, text)| text.len() as u64).fold(0_u64, u64::saturating_add);
        if files.len() > MAX_FILES || bytes > MAX_DECODED_BYTES {
            return Err(RuleFilesError::Size);
        }
        if !files.iter().any(|(name, _)| name.ends_with(".conf")) {
            return Err(RuleFilesError::NoRules);
        }
        files.sort_by(|(one, _), (other, _)| (place(one), last(one)).cmp(&(place(other), last(other))));
        let mut names: Vec<&str> = files.iter().map(|(name, _)| last(name)).collect();
        names.sort_unstable();
        let twice = names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some((*one).to_owned()),
            _ => None,
        });
        match twice {
            Some(name) => Err(RuleFilesError::Twice { name }),
            None => Ok(Self { files }),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// In one blob: for each file its name and its content, each behind its length (four bytes, the highest first),
    /// compressed (RFC 1950). The same files give the same bytes.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        for (name, text) in &self.files {
            for part in [name.as_bytes(), text] {
                plain.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                plain.extend_from_slice(part);
            }
        }
        // Stored blocks add 5 bytes for 16 KiB at most, so that all of it fits at once.
        let mut packed =
            Vec::with_capacity(plain.len().saturating_add(plain.len() / 1024).saturating_add(1024));
        let done =
            Compress::new(Compression::best(), true).compress_vec(&plain, &mut packed, FlushCompress::Finish);
        debug_assert!(matches!(done, Ok(flate2::Status::StreamEnd)), "it fits");
        packed
    }

    /// Reads [`Self::pack`]'s blob.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn unpack(blob: &[u8]) -> Result<Self, RuleFilesError> {
        let plain = decompress(Coding::Deflate, blob)?;
        let (mut files, mut rest) = (Vec::new(), plain.as_slice());
        let damaged = |rest: &[u8]| RuleFilesError::Damaged { at: plain.len().saturating_sub(rest.len()) };
        // Each turn takes eight bytes at least.
        while !rest.is_empty() {
            let (name, text, behind) = (|| {
                let (name, rest) = take(rest)?;
                let (text, rest) = take(rest)?;
                Some((std::str::from_utf8(name).ok()?.to_owned(), text.to_vec(), rest))
            })()
            .ok_or_else(|| damaged(rest))?;
            files.push((name, text));
            rest = behind;
        }
        Self::new(files)
    }

    /// Compiles the rules. Takes a tenth of a second for the Core Rule Set.
    ///
    /// # Errors
    /// [`CompileError`]; what is left out of what is taken comes along.
    pub fn compile(&self, settings: Settings) -> Result<(RuleSet, Vec<Refused>), CompileError> {
        let files: Vec<File<'_>> = self.files.iter().map(|(name, text)| File { name, text }).collect();
        RuleSet::compile(&files, settings)
    }
}

/// A part behind its length.
fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Where a file stands among others.
fn place(name: &str) -> u8 {
    let last = last(name);
    match last {
        "crs-setup.conf" | "crs-setup.conf.example" => 0,
        _ if last.ends_with("-config.conf") => 1,
        _ if last.ends_with("-before.conf") => 2,
        _ if last.ends_with("-after.conf") => 4,
        _ => 3,
    }
}

/// Whether a file of an archive is taken.
fn is_wanted(name: &str) -> bool {
    let is_setup = last(name) == "crs-setup.conf.example";
    (is_setup || name.ends_with(".conf") || name.ends_with(".data"))
        && !name.split('/').any(|part| PASSED_OVER.contains(&part))
}

fn decompress(coding: Coding, bytes: &[u8]) -> Result<Vec<u8>, RuleFilesError> {
    let mut plain = Vec::new();
    let outcome = Content::new(coding).push(bytes, &mut |piece| plain.extend_from_slice(piece));
    match outcome {
        Ok(()) if !plain.is_empty() => Ok(plain),
        Err(crate::decode::content::ContentError::TooLarge) => Err(RuleFilesError::Size),
        _ => Err(RuleFilesError::Compression),
    }
}

/// A number in octal digits.
fn octal(field: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c: char| c == '\0' || c == ' ');
    usize::from_str_radix(text, 8).ok()
}

fn text(field: &[u8]) -> String {
    let end = memchr::memchr(0, field).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

/// The wanted files of a tar archive. Links and devices are passed over.
fn walk(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>, RuleFilesError> {
    let mut files = Vec::new();
    let (mut at, mut long_name) = (0_usize, None);
    // Each turn takes a block at least.
    while let Some(header) = archive.get(at..at.saturating_add(BLOCK)) {
        if header.iter().all(|byte| *byte == 0) {
            return Ok(files);
        }
        let damaged = || RuleFilesError::Damaged { at };
        let field = |from: usize, to: usize| header.get(from..to).unwrap_or_default();
        let begin = at.saturating_add(BLOCK);
        let size = octal(field(124, 136)).ok_or_else(damaged)?;
        let content = archive.get(begin..begin.saturating_add(size)).ok_or_else(damaged)?;
        at = begin.saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
        let (name, prefix) = (text(field(0, 100)), text(field(345, 500)));
        match header.get(156) {
            // Of GNU tar, and of pax: the name of the file that follows.
            Some(b'L') => long_name = Some(text(content)),
            Some(b'x') => long_name = pax_path(content).or(long_name),
            Some(b'0' | 0) => {
                let whole = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                let name = long_name.take().unwrap_or(whole);
                if name.len() <= MAX_NAME_BYTES && is_wanted(&name) {
                    if files.len() >= MAX_FILES {
                        return Err(RuleFilesError::Size);
                    }
                    files.push((name, content.to_vec()));
                }
            }
            _ => long_name = None,
        }
    }
    // Without its last block it is cut, and nobody knows which rules are missing.
    Err(RuleFilesError::Damaged { at: archive.len() })
}

/// The path in a pax header: lines of a length, a blank, `path=` and the path.
fn pax_path(content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?;
    let found = text.lines().find_map(|line| line.split_once(' ')?.1.strip_prefix("path="));
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: u8, text: &[u8]) -> Vec<u8> {
        let mut header = vec![0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
        header[156] = kind;
        header[257..262].copy_from_slice(b"ustar");
        header.extend_from_slice(text);
        header.resize(header.len().div_ceil(BLOCK) * BLOCK, 0);
        header
    }

    fn archive() -> Vec<u8> {
        let mut bytes = entry("crs/rules/REQUEST-911.conf", b'0', b"SecAction \"id:2,nolog,pass\"");
        bytes.extend(entry("crs/rules/words.data", b'0', b"evil\n"));
        bytes.extend(entry("crs/crs-setup.conf.example", b'0', b"SecAction \"id:1,nolog,pass\""));
        bytes.extend(entry("crs/tests/other.conf", b'0', b"no rules"));
        bytes.extend(entry("crs/rules/REQUEST-900.conf.example", b'0', b"no rules"));
        bytes.extend(entry("crs/link.conf", b'2', b""));
        bytes.extend(entry("x", b'x', b"28 path=crs/rules/b-after.conf\n"));
        bytes.extend(entry("short", b'0', b"SecAction \"id:3,nolog,pass\""));
        bytes.extend(vec![0; 2 * BLOCK]);
        bytes
    }

    #[test]
    fn of_a_published_archive_the_rules_and_what_they_name_are_taken_in_their_order() {
        let files = RuleFiles::from_archive(&archive()).unwrap();
        let names: Vec<&str> = files.files.iter().map(|(name, _)| last(name)).collect();
        assert_eq!(names, ["crs-setup.conf.example", "REQUEST-911.conf", "words.data", "b-after.conf"]);
        let (set, refused) = files.compile(Settings::default()).unwrap();
        assert_eq!((set.ids().collect::<Vec<_>>(), refused), (vec![1, 2, 3], vec![]));
    }

    #[test]
    fn a_blob_is_unpacked_as_it_was_packed_and_a_damaged_one_is_refused() {
        let files = RuleFiles::from_archive(&archive()).unwrap();
        let blob = files.pack();
        assert_eq!(blob, files.pack());
        assert_eq!(RuleFiles::unpack(&blob).unwrap(), files);
        assert_eq!(RuleFiles::unpack(b"nothing"), Err(RuleFilesError::Compression));
        assert!(RuleFiles::unpack(&blob[..blob.len() / 2]).is_err());
    }

    #[test]
    fn one_file_of_rules_needs_no_archive_and_what_is_neither_is_refused() {
        let files = RuleFiles::from_archive(b"SecAction \"id:1,nolog,pass\"").unwrap();
        assert_eq!(files.len(), 1);
        assert!(matches!(RuleFiles::from_archive(b"PK\x03\x04\0\0"), Err(RuleFilesError::Damaged { .. })));
        assert_eq!(RuleFiles::from_archive(&[0x1f, 0x8b, 9]), Err(RuleFilesError::Compression));
        for cut in [700, 2 * BLOCK] {
            let cut = RuleFiles::from_archive(&archive()[..cut]);
            assert!(matches!(cut, Err(RuleFilesError::Damaged { .. })), "{cut:?}");
        }
        let mut two = entry("a/x.conf", b'0', b"");
        two.extend(entry("b/x.conf", b'0', b""));
        two.extend([0; BLOCK]);
        assert_eq!(RuleFiles::from_archive(&two), Err(RuleFilesError::Twice { name: "x.conf".to_owned() }));
    }

    proptest::proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2000), at in 0_usize..2000) {
            drop(RuleFiles::unpack(&bytes));
            let mut damaged = archive();
            let at = at.min(damaged.len() - bytes.len().min(8));
            damaged.splice(at.., bytes);
            drop(RuleFiles::from_archive(&damaged));
        }
    }
}
