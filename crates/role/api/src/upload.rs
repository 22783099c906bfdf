//! The file of a request: the first part of a form (RFC 7578), or the body as it is.

use axum::http::{HeaderMap, header};
use bytes::Bytes;

use crate::error::ApiError;

/// Longest delimiter between the parts of a form, in bytes (RFC 2046 §5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The file of a body.
///
/// # Errors
/// Code 6 when the body says that it is a form, and is none.
pub(crate) fn file_of(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = kind.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if !is_form {
        return Ok(body.clone());
    }
    let wrong = || ApiError::format("the body is no form with a file in it");
    let boundary = kind.split(';').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    });
    let boundary =
        boundary.filter(|text| !text.is_empty() && text.len() <= MAX_BOUNDARY).ok_or_else(wrong)?;
    first_part(body, boundary.as_bytes()).ok_or_else(wrong)
}

/// Where `wanted` begins in `within`, from `from` on.
fn find(within: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let rest = within.get(from..)?;
    from.checked_add(memchr::memmem::find(rest, wanted)?)
}

/// What is between the headers of the first part and the next delimiter.
fn first_part(body: &Bytes, boundary: &[u8]) -> Option<Bytes> {
    let delimiter = [b"--", boundary].concat();
    let begin = find(body, &delimiter, 0)?;
    let end_of_headers = find(body, b"\r\n\r\n", begin)?;
    let content = end_of_headers.checked_add(4)?;
    let end = find(body, &[b"\r\n", delimiter.as_slice()].concat(), end_of_headers.checked_add(2)?)?;
    // A part without content ends where its headers do.
    Some(if end < content { Bytes::new() } else { body.slice(content..end) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(kind: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())])
    }

    #[test]
    fn a_file_is_the_body_or_the_first_part_of_a_form() {
        let kind = "multipart/form-data; boundary=\"--x1\"";
        let head = "----x1\r\nContent-Disposition: form-data; name=\"f\"\r\nContent-Type: text/plain\r\n\r\n";
        for (kind, body, want) in [
            ("text/plain", "a: 1\n".to_owned(), Some("a: 1\n")),
            (kind, format!("{head}a: 1\r\n\r\nb: 2\r\n----x1--\r\n"), Some("a: 1\r\n\r\nb: 2")),
            (kind, format!("{head}\r\n----x1--\r\n"), Some("")),
            (kind, format!("{head}one\r\n----x1\r\n\r\ntwo\r\n----x1--"), Some("one")),
            (kind, format!("{head}no end"), None),
            (kind, "a: 1\n".to_owned(), None),
            ("multipart/form-data", format!("{head}one\r\n----x1--"), None),
        ] {
            let found = file_of(&form(kind), &Bytes::from(body.clone())).ok();
            assert_eq!(found.as_deref(), want.map(str::as_bytes), "{kind}: {body:?}");
        }
    }

    proptest! {
        #[test]
        fn any_form_has_a_file_or_none(body in proptest::collection::vec(any::<u8>(), 0..96), boundary in "[-\r\na]{1,3}") {
            let _whatever = first_part(&Bytes::from(body), boundary.as_bytes());
        }
    }
}
