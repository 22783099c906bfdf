//! `multipart/form-data` (RFC 7578, RFC 2046 §5.1), read forgivingly: lines may end with a line feed alone, and what a
//! strict reader would not take is told and read on.

use super::{BodyError, MAX_ARGUMENTS};
use crate::store::Store;
use crate::variable::{List, Scalar};

/// Bytes of a boundary (RFC 2046 §5.1.1 allows 70).
const MAX_BOUNDARY: usize = 200;

/// Header lines of a part.
const MAX_HEADERS: usize = 64;

pub(super) fn read(store: &mut Store, content_type: &[u8], body: &[u8]) -> Result<(), BodyError> {
    let boundary =
        parameter(content_type, b"boundary").filter(|text| !text.is_empty() && text.len() <= MAX_BOUNDARY);
    let Some(boundary) = boundary else {
        store.put(Scalar::MultipartStrictError, b"1");
        return Err(BodyError::Multipart("Multipart: Invalid boundary in C-T (malformed)"));
    };
    let delimiter = [b"--", boundary.as_slice()].concat();
    let mut result = Ok(());
    let mut parts = 0_usize;
    let Some((_, mut rest, mut closed)) = delimiter_line(body, &delimiter) else {
        store.put(Scalar::MultipartStrictError, b"1");
        return Err(BodyError::Multipart("Multipart: No boundaries found in payload"));
    };
    while !closed {
        parts = parts.saturating_add(1);
        if parts > MAX_ARGUMENTS {
            return Err(BodyError::Arguments);
        }
        let next = delimiter_line(rest, &delimiter);
        if next.is_none_or(|(_, after, last)| !last && after.is_empty()) {
            result = Err(BodyError::Multipart("Multipart: Final boundary missing"));
        }
        let (content, after, last) = next.unwrap_or((rest, &[], true));
        if let Err(error) = part(store, content) {
            result = Err(error);
        }
        (rest, closed) = (after, last || after.is_empty());
    }
    if result.is_err() {
        store.put(Scalar::MultipartStrictError, b"1");
    }
    if store
        .list(List::PartHeaders)
        .iter()
        .any(|entry| memchr::memmem::find(&entry.value, b"--").is_some_and(|at| at == 0))
    {
        store.put(Scalar::MultipartUnmatchedBoundary, b"1");
    }
    result
}

/// What is before the next delimiter line, what is behind it, and whether it is the last one.
fn delimiter_line<'b>(body: &'b [u8], delimiter: &[u8]) -> Option<(&'b [u8], &'b [u8], bool)> {
    let at = memchr::memmem::find_iter(body, delimiter).find(|at| {
        let starts_line = at.checked_sub(1).is_none_or(|before| body.get(before) == Some(&b'\n'));
        let behind = body.get(at.saturating_add(delimiter.len())..).unwrap_or_default();
        starts_line && matches!(behind, [] | [b'\r' | b'\n' | b' ' | b'\t', ..] | [b'-', b'-', ..])
    })?;
    let before = body.get(..at).unwrap_or_default();
    let before = before.strip_suffix(b"\n").unwrap_or(before);
    let before = before.strip_suffix(b"\r").unwrap_or(before);
    let behind = body.get(at.saturating_add(delimiter.len())..).unwrap_or_default();
    if behind.starts_with(b"--") {
        return Some((before, &[], true));
    }
    let end = memchr::memchr(b'\n', behind).map_or(behind.len(), |end| end.saturating_add(1));
    Some((before, behind.get(end..).unwrap_or_default(), false))
}

/// One part: its header lines, an empty line, its content.
fn part(store: &mut Store, text: &[u8]) -> Result<(), BodyError> {
    let mut headers: Vec<Vec<u8>> = Vec::new();
    let mut rest = text;
    let mut result = Ok(());
    loop {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end).unwrap_or_default();
        rest = after.get(1..).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        // A folded line goes on with the one before.
        if matches!(line.first(), Some(b' ' | b'\t'))
            && let Some(before) = headers.last_mut()
        {
            before.push(b' ');
            before.extend_from_slice(line.trim_ascii_start());
        } else if headers.len() < MAX_HEADERS {
            headers.push(line.to_vec());
        } else {
            return Err(BodyError::Multipart("Multipart: Too many part headers"));
        }
    }
    let value_of = |name: &[u8]| {
        headers.iter().find_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            let (known, value) = line.split_at_checked(at)?;
            known
                .trim_ascii()
                .eq_ignore_ascii_case(name)
                .then(|| value.get(1..).unwrap_or_default().trim_ascii().to_vec())
        })
    };
    let disposition = value_of(b"content-disposition").unwrap_or_default();
    let name = parameter(&disposition, b"name");
    let file = parameter(&disposition, b"filename").or_else(|| parameter(&disposition, b"filename*"));
    let shown = name.clone().unwrap_or_default();
    for line in &headers {
        let field = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if field.iter().any(|byte| !(0x21..=0x7E).contains(byte)) {
            result = Err(BodyError::Multipart("Multipart: Invalid part header (contains invalid character)"));
        }
        store.push(List::PartHeaders, shown.clone(), line.clone());
    }
    match (name, file) {
        (name, Some(file)) => {
            store.push(List::Files, shown.clone(), file);
            store.push(List::FilesNames, shown.clone(), name.unwrap_or_default());
            store.push(List::FilesSizes, shown.clone(), rest.len().to_string().into_bytes());
            store.push(List::FilesContent, shown, rest.to_vec());
        }
        (Some(name), None) => {
            store.push(List::ArgsPost, name, rest.to_vec());
        }
        (None, None) => {
            result = Err(BodyError::Multipart("Multipart: Content-Disposition header without a name"));
            store.push(List::ArgsPost, Vec::new(), rest.to_vec());
        }
    }
    result
}

/// A parameter of a header value, quotes taken off; a quote within them is behind a backslash.
fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value.get(value.iter().position(|byte| *byte == b';')?..)?;
    while let Some((_, after)) = rest.split_first() {
        let after = after.trim_ascii_start();
        let end = after.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(after.len());
        let (key, behind) = after.split_at_checked(end)?;
        let found = key.trim_ascii().eq_ignore_ascii_case(name);
        let Some(behind) = behind.strip_prefix(b"=") else {
            rest = behind;
            continue;
        };
        let mut out = Vec::new();
        let mut behind = behind.trim_ascii_start();
        match behind.first() {
            Some(quote @ (b'"' | b'\'')) => {
                let quote = *quote;
                behind = behind.get(1..).unwrap_or_default();
                loop {
                    match behind {
                        [b'\\', escaped @ (b'"' | b'\\' | b'\''), after @ ..]
                            if *escaped == quote || *escaped == b'\\' =>
                        {
                            out.push(*escaped);
                            behind = after;
                        }
                        [byte, after @ ..] => {
                            behind = after;
                            if *byte == quote {
                                break;
                            }
                            out.push(*byte);
                        }
                        [] => break,
                    }
                }
                let next = behind.iter().position(|byte| *byte == b';').unwrap_or(behind.len());
                behind = behind.get(next..).unwrap_or_default();
            }
            _ => {
                let next = behind.iter().position(|byte| *byte == b';').unwrap_or(behind.len());
                let (text, after) = behind.split_at_checked(next)?;
                out.extend_from_slice(text.trim_ascii());
                behind = after;
            }
        }
        if found {
            return Some(out);
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TYPE: &[u8] = b"multipart/form-data; boundary=\"xyz\"";

    #[test]
    fn fields_files_and_headers_are_read() {
        let body = b"--xyz\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n--xyz\r\nContent-Disposition: form-data; name=f; filename=\"x\\\"y;.php\"\r\nContent-Type: text/plain\r\n\r\ntwo\r\n--xyz--\r\n";
        let mut store = Store::new();
        read(&mut store, TYPE, body).unwrap();
        assert_eq!(store.list(List::ArgsPost)[0].value, b"one");
        assert_eq!(store.list(List::Files)[0].value, b"x\"y;.php");
        assert_eq!(store.list(List::FilesContent)[0].value, b"two");
        assert_eq!(store.list(List::PartHeaders)[2].value, b"Content-Type: text/plain");
        assert_eq!(store.list(List::PartHeaders)[2].name, b"f");
    }

    #[test]
    fn what_a_strict_reader_does_not_take_is_told_and_read() {
        for (body, read_args) in [
            (&b"--xyz\nContent-Disposition: form-data; name=a\n\none"[..], 1),
            (b"--xyz\nContent-Disp\x0eosition: form-data; name=a\n\none\n--xyz--", 1),
            (b"nothing", 0),
        ] {
            let mut store = Store::new();
            assert!(read(&mut store, TYPE, body).is_err());
            assert_eq!(store.list(List::ArgsPost).len(), read_args);
            assert_eq!(store.scalar(Scalar::MultipartStrictError), b"1");
        }
        assert!(read(&mut Store::new(), b"multipart/form-data", b"--xyz--").is_err());
    }

    proptest! {
        #[test]
        fn any_body_comes_to_an_end(body in vec(prop::sample::select(b"--xyz\r\n:;=\"name".to_vec()), 0..300)) {
            let mut store = Store::new();
            let result = read(&mut store, TYPE, &body);
            prop_assert_eq!(result.is_err(), store.scalar(Scalar::MultipartStrictError) == b"1");
        }
    }
}
