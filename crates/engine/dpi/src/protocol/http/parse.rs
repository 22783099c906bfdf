//! Lines of HTTP, read without state.

use crate::protocol::Step;

/// First line of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start<'a> {
    Request { method: &'a [u8], target: &'a [u8], version: &'a [u8] },
    Answer { status: u16, version: &'a [u8] },
}

/// Whether a byte may stand in a method or header name (RFC 9110 §5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `HTTP/1.1`, `RTSP/1.0`, `SIP/2.0`.
pub(super) fn is_version(word: &[u8]) -> bool {
    let number = [&b"HTTP/"[..], b"RTSP/", b"SIP/"].iter().find_map(|name| word.strip_prefix(*name));
    matches!(number, Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Reads a request or status line (RFC 9112 §3, §4).
pub(super) fn start_line(line: &[u8]) -> Option<Start<'_>> {
    let first = memchr::memchr(b' ', line)?;
    let (word, rest) = line.split_at_checked(first)?;
    let rest = rest.get(1..)?;
    // Clients take an answer of `HTTP/1.01` as well.
    if is_nearly_version(word) {
        let digits = rest.trim_ascii_start().first_chunk::<3>()?;
        let status = digits.iter().try_fold(0_u16, |status, digit| {
            digit.is_ascii_digit().then(|| status.saturating_mul(10).saturating_add(u16::from(digit & 0x0F)))
        })?;
        return Some(Start::Answer { status, version: word });
    }
    if word.is_empty() || !word.iter().all(|byte| is_token(*byte)) {
        return None;
    }
    let rest = rest.trim_ascii();
    let (target, version) = match memchr::memrchr(b' ', rest) {
        // A target with spaces is wrong, but servers take it.
        Some(last) => rest.split_at_checked(last)?,
        // So is a target that the version follows without a space, or a version in its place.
        None => (rest, rest.last_chunk::<8>()?.as_slice()),
    };
    let (target, version) = (target.trim_ascii(), version.trim_ascii());
    (is_nearly_version(version) && !target.is_empty()).then_some(Start::Request {
        method: word,
        target,
        version,
    })
}

/// A version, or what some servers still take for one of HTTP: `HTTP/1.`, `HTTP/01.1`.
fn is_nearly_version(word: &[u8]) -> bool {
    let number =
        |rest: &[u8]| rest.len() <= 5 && rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    is_version(word) || word.strip_prefix(b"HTTP/").is_some_and(number)
}

/// Target of a request without a version, which only the first HTTP knew (RFC 1945 §4.1).
pub(super) fn oldest(line: &[u8]) -> Option<&[u8]> {
    let target = line.strip_prefix(b"GET ")?.trim_ascii();
    (target.first() == Some(&b'/') && target.iter().all(u8::is_ascii_graphic)).then_some(target)
}

/// Name and value of a header line; `None` for what is no header, and for a continued line (RFC 9112 §5.2).
pub(super) fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return None;
    }
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    Some((name, value.get(1..)?.trim_ascii()))
}

/// What a Content-Length says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(u64),
    /// A list of lengths that are not all the same.
    Differ,
    Negative,
    Invalid,
}

/// Reads a Content-Length, or a list of equal ones (RFC 9110 §8.6).
pub(super) fn content_length(value: &[u8]) -> Length {
    let mut known = None;
    for part in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if let Some(digits) = part.strip_prefix(b"-")
            && digits.first().is_some_and(u8::is_ascii_digit)
        {
            return Length::Negative;
        }
        if part.is_empty() || !part.iter().all(u8::is_ascii_digit) {
            return Length::Invalid;
        }
        let bytes = part
            .iter()
            .try_fold(0_u64, |bytes, digit| bytes.checked_mul(10)?.checked_add(u64::from(digit & 0x0F)));
        // What does not fit wraps around to something negative in a reader with 64 bits.
        let Some(bytes) = bytes.filter(|bytes| i64::try_from(*bytes).is_ok()) else {
            return Length::Negative;
        };
        if known.is_some_and(|known| known != bytes) {
            return Length::Differ;
        }
        known = Some(bytes);
    }
    known.map_or(Length::Invalid, Length::Bytes)
}

/// What Transfer-Encoding says about the end of a message (RFC 9112 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Chunked, as the last and only once.
    Chunked,
    /// No chunked at the end.
    Other,
    /// Something that one reader takes for chunked and another one does not.
    Doubtful,
}

/// Reads a Transfer-Encoding that comes after one that gave `before`.
pub(super) fn coding(value: &[u8], before: Option<Coding>) -> Coding {
    let mut coding = before;
    for part in value.split(|byte| *byte == b',') {
        let part = part.trim_ascii();
        coding = Some(match coding {
            // Nothing may follow chunked, not even itself.
            Some(Coding::Chunked | Coding::Doubtful) => Coding::Doubtful,
            _ if part.eq_ignore_ascii_case(b"chunked") => Coding::Chunked,
            _ if part.eq_ignore_ascii_case(b"identity") && before.is_none() => Coding::Other,
            _ if part.iter().all(|byte| is_token(*byte)) && !contains_chunked(part) && !part.is_empty() => {
                Coding::Other
            }
            _ => Coding::Doubtful,
        });
    }
    coding.unwrap_or(Coding::Doubtful)
}

/// Whether a sloppy reader would see `chunked` in it.
fn contains_chunked(part: &[u8]) -> bool {
    part.windows(7).any(|window| window.eq_ignore_ascii_case(b"chunked"))
}

/// Size of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkSize {
    Bytes(u64),
    Last,
    Negative,
    Invalid,
}

/// Reads a chunk's size, without its extensions (RFC 9112 §7.1). A size from 2 GiB up is negative in a reader with 32
/// bits.
pub(super) fn chunk_size(line: &[u8]) -> ChunkSize {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if digits.first() == Some(&b'-') {
        return ChunkSize::Negative;
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return ChunkSize::Invalid;
    }
    let size = digits.iter().try_fold(0_u64, |size, digit| {
        let value = char::from(*digit).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(value))
    });
    match size {
        Some(0) => ChunkSize::Last,
        Some(size) if size < 1 << 31 => ChunkSize::Bytes(size),
        Some(_) | None => ChunkSize::Negative,
    }
}

/// Passes over RTSP's binary data between messages (RFC 2326 §10.12).
pub(super) fn interleaved(input: &[u8]) -> Step {
    match input.first_chunk::<4>() {
        Some([_, _, l0, l1]) => Step::Skip(u64::from(u16::from_be_bytes([*l0, *l1])).saturating_add(4)),
        None => Step::More(4),
    }
}
