//! A header blob: an index of tags and the data they point to (rpm's `lib/header.c`).

use crate::ecosystem::Ecosystem;
use crate::inventory::{Package, Source};
use crate::read::{be32, index, slice};

/// Most tags in a header; rpm's own bound is 65,535.
const MAX_TAGS: u32 = 65_535;
/// Largest data of a header, in bytes; rpm's own bound.
const MAX_DATA: u32 = 256 * 1024 * 1024;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const DIRECTORY_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;
const SOURCE_RPM: u32 = 1044;
const MODULARITY_LABEL: u32 = 5096;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;

/// Most files of one package that are told.
const MAX_FILES: usize = 200_000;

/// Why bytes are no header of a package.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The header is shorter than its index says.
    #[error("the header has {bytes} bytes, its index asks for {needed}")]
    Short {
        /// Bytes there are.
        bytes: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// The index says more than a header may hold.
    #[error("the header says it has {tags} tags and {data} bytes of data")]
    Size {
        /// Tags it says.
        tags: u32,
        /// Bytes of data it says.
        data: u32,
    },
    /// A tag that every package has is missing or points outside of the data.
    #[error("tag {tag} is missing or points outside of the header's data")]
    Tag {
        /// Its number.
        tag: u32,
    },
}

/// Reads a package's header; none for the keys that rpm keeps as packages (`gpg-pubkey`).
///
/// # Errors
/// [`HeaderError`] when the blob is cut, says more than it may hold, or has no name, version or release.
pub fn parse(blob: &[u8]) -> Result<Option<Package>, HeaderError> {
    let (entries, data) = open(blob)?;
    let mut name = None;
    let mut version = None;
    let mut release = None;
    let mut epoch = None;
    let mut arch = None;
    let mut source = None;
    let mut label = None;
    let mut licence = None;
    for entry in entries.as_chunks::<16>().0 {
        let (Some(tag), Some(kind), Some(offset)) = (be32(entry, 0), be32(entry, 4), be32(entry, 8)) else {
            continue;
        };
        let slot = match tag {
            NAME => &mut name,
            VERSION => &mut version,
            RELEASE => &mut release,
            ARCH => &mut arch,
            LICENSE => &mut licence,
            SOURCE_RPM => &mut source,
            MODULARITY_LABEL => &mut label,
            EPOCH if kind == INT32 => {
                epoch = be32(data, index(offset));
                continue;
            }
            _ => continue,
        };
        if kind == STRING {
            *slot = Some(string(data, index(offset)).ok_or(HeaderError::Tag { tag })?);
        }
    }
    let name = name.ok_or(HeaderError::Tag { tag: NAME })?;
    let version = version.ok_or(HeaderError::Tag { tag: VERSION })?;
    let release = release.ok_or(HeaderError::Tag { tag: RELEASE })?;
    if name == "gpg-pubkey" {
        return Ok(None);
    }
    let whole = match epoch.unwrap_or(0) {
        0 => format!("{version}-{release}"),
        epoch => format!("{epoch}:{version}-{release}"),
    };
    Ok(Some(Package {
        source: source.and_then(|file| source_of(&file)),
        arch: arch.map(Into::into),
        licence: licence.and_then(|said| crate::inventory::licence(&said)),
        module: label.and_then(|label| module_of(&label)),
        ..Package::new(Ecosystem::Rpm, name, whole)
    }))
}

/// A header's index and the data that it points to.
fn open(blob: &[u8]) -> Result<(&[u8], &[u8]), HeaderError> {
    let short = |needed| HeaderError::Short { bytes: blob.len(), needed };
    let tags = be32(blob, 0).ok_or_else(|| short(8))?;
    let length = be32(blob, 4).ok_or_else(|| short(8))?;
    if tags == 0 || tags > MAX_TAGS || length > MAX_DATA {
        return Err(HeaderError::Size { tags, data: length });
    }
    let start = 8 + index(tags) * 16;
    let needed = start + index(length);
    let entries = blob.get(8..start).ok_or_else(|| short(needed))?;
    let data = slice(blob, start, index(length)).ok_or_else(|| short(needed))?;
    Ok((entries, data))
}

/// The files that a package holds, without a slash at the beginning: each a name in one of its folders. None of a header
/// that cannot be read.
pub fn files(blob: &[u8]) -> Vec<String> {
    let Ok((entries, data)) = open(blob) else { return Vec::new() };
    let (mut folders, mut names, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries.as_chunks::<16>().0 {
        let field = |at| be32(entry, at);
        let (Some(tag), Some(kind), Some(offset), Some(count)) = (field(0), field(4), field(8), field(12))
        else {
            continue;
        };
        let rest = data.get(index(offset)..).unwrap_or_default();
        let count = index(count).min(MAX_FILES);
        match (tag, kind) {
            (DIRECTORY_NAMES, STRING_ARRAY) => folders = strings(rest, count),
            (BASE_NAMES, STRING_ARRAY) => names = strings(rest, count),
            (DIRECTORY_INDEXES, INT32) => {
                places =
                    rest.as_chunks::<4>().0.iter().take(count).map(|one| u32::from_be_bytes(*one)).collect();
            }
            _ => {}
        }
    }
    let found = names.iter().zip(places).filter_map(|(name, place)| {
        let folder = folders.get(index(place))?;
        Some(format!("{}{name}", folder.trim_start_matches('/')))
    });
    found.collect()
}

/// Strings that end in a zero each.
fn strings(data: &[u8], count: usize) -> Vec<String> {
    data.split(|byte| *byte == 0).take(count).map(|one| String::from_utf8_lossy(one).into_owned()).collect()
}

fn string(data: &[u8], at: usize) -> Option<String> {
    let rest = data.get(at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(rest.get(..end)?).into_owned())
}

/// `bash-4.4.20-5.el8.src.rpm` → `bash`, `4.4.20-5.el8`.
pub(crate) fn source_of(file: &str) -> Option<Source> {
    let stem = file.strip_suffix(".rpm")?;
    let stem = stem.strip_suffix(".src").or_else(|| stem.strip_suffix(".nosrc"))?;
    let (rest, release) = stem.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some(Source { name: name.into(), version: Some(format!("{version}-{release}").into()) })
}

/// `nodejs:16:8050020220202130602:c5368500` → `nodejs:16`.
fn module_of(label: &str) -> Option<Box<str>> {
    let mut pieces = label.split(':');
    let (name, stream) = (pieces.next()?, pieces.next()?);
    (!name.is_empty() && !stream.is_empty()).then(|| format!("{name}:{stream}").into())
}
