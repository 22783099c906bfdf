//! Numbers at a place in bytes; none where the bytes end before.

/// Reads bytes of a file: offset, length. None where the file ends before, or can not be read.
pub type ReadAt<'a> = &'a mut dyn FnMut(u64, usize) -> Option<Vec<u8>>;

/// Reads a file that is in memory.
pub fn read_slice(bytes: &[u8]) -> impl FnMut(u64, usize) -> Option<Vec<u8>> {
    |at, length| slice(bytes, usize::try_from(at).ok()?, length).map(<[u8]>::to_vec)
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_be_bytes(*raw))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_be_bytes(*raw))
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|raw| u16::from_le_bytes(*raw))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|raw| u32::from_le_bytes(*raw))
}

/// A 32-bit number as an index.
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// `length` bytes from `at`.
pub(crate) fn slice(bytes: &[u8], at: usize, length: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(length)?)
}

/// The lines of text that may not be UTF-8, with their numbers from 1; what is no UTF-8 is replaced.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, std::borrow::Cow<'_, str>)> {
    bytes
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(at, line)| (at + 1, String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line))))
}

/// JSON, or a fault.
pub(crate) fn json<'a, T: serde::Deserialize<'a>>(
    format: &'static str,
    bytes: &'a [u8],
    inventory: &mut crate::Inventory,
) -> Option<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| {
            inventory.fault(
                format,
                format!("line {}, column {}", error.line(), error.column()),
                error.to_string(),
            );
        })
        .ok()
}

/// TOML, or a fault.
pub(crate) fn toml<T: serde::de::DeserializeOwned>(
    format: &'static str,
    bytes: &[u8],
    inventory: &mut crate::Inventory,
) -> Option<T> {
    let read = std::str::from_utf8(bytes)
        .map_err(|error| error.to_string())
        .and_then(|text| ::toml::from_str(text).map_err(|error| error.message().to_owned()));
    read.map_err(|why| inventory.fault(format, "file", why)).ok()
}

/// YAML, or a fault.
pub(crate) fn yaml<T: serde::de::DeserializeOwned>(
    format: &'static str,
    bytes: &[u8],
    inventory: &mut crate::Inventory,
) -> Option<T> {
    let read = std::str::from_utf8(bytes)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_saphyr::from_str(text).map_err(|error| error.to_string()));
    read.map_err(|why| inventory.fault(format, "file", why.lines().next().unwrap_or_default())).ok()
}
