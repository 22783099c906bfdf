//! Bodies of requests into arguments, files, and what XML and JSON say.

mod form;
mod json;
mod multipart;
mod xml;

use crate::control::Processor;
use crate::store::Store;
use crate::variable::{List, Scalar};

/// Arguments of a request that are read.
pub(crate) const MAX_ARGUMENTS: usize = 1000;

/// Why a body could not be read to its end; what was read before it counts.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("more than {MAX_ARGUMENTS} arguments")]
    Arguments,
    #[error("Multipart parsing error: {0}")]
    Multipart(&'static str),
    #[error("XML parsing error: {0}")]
    Xml(String),
    #[error("JSON parsing error: {0} at byte {1}")]
    Json(&'static str, usize),
}

/// Reads the arguments of a query.
pub(crate) fn query(store: &mut Store, text: &[u8]) -> Result<(), BodyError> {
    form::read(text, |name, value| store.push(List::ArgsGet, name, value))
}

/// Reads a body.
pub(crate) fn read(
    store: &mut Store,
    processor: Processor,
    content_type: &[u8],
    body: &[u8],
) -> Result<(), BodyError> {
    match processor {
        Processor::Form => form::read(body, |name, value| store.push(List::ArgsPost, name, value)),
        Processor::Json => json::read(body, |name, value| store.push(List::ArgsPost, name, value)),
        Processor::Multipart => {
            let read = multipart::read(store, content_type, body);
            let total: usize = store.list(List::Files).len();
            let sizes = store.list(List::FilesSizes).iter();
            let size =
                sizes.map(|entry| crate::operator::number(&entry.value)).fold(0_i64, i64::saturating_add);
            if total > 0 {
                store.put(Scalar::FilesCombinedSize, size.to_string().as_bytes());
            }
            read
        }
        Processor::Xml => xml::read(store, body),
    }
}

/// What reads a body of this type.
pub(crate) fn processor_of(content_type: &[u8]) -> Option<Processor> {
    let end = content_type.iter().position(|byte| matches!(byte, b';' | b' ' | b',' | b'\t'));
    let media =
        content_type.get(..end.unwrap_or(content_type.len())).unwrap_or_default().to_ascii_lowercase();
    match media.as_slice() {
        b"application/x-www-form-urlencoded" => Some(Processor::Form),
        b"multipart/form-data" => Some(Processor::Multipart),
        b"text/xml" | b"application/xml" => Some(Processor::Xml),
        b"application/json" => Some(Processor::Json),
        media if media.starts_with(b"application/") && media.ends_with(b"+xml") => Some(Processor::Xml),
        media if media.starts_with(b"application/") && media.ends_with(b"+json") => Some(Processor::Json),
        _ => None,
    }
}

/// Cookies of a `Cookie` field (RFC 6265 §5.4), names and values as they are.
pub(crate) fn cookies(store: &mut Store, field: &[u8]) {
    for cookie in field.split(|byte| *byte == b';') {
        let cookie = cookie.trim_ascii_start();
        let at = cookie.iter().position(|byte| *byte == b'=').unwrap_or(cookie.len());
        let (name, value) = cookie.split_at_checked(at).unwrap_or_default();
        if !cookie.is_empty()
            && !store.push(List::RequestCookies, name.to_vec(), value.get(1..).unwrap_or_default().to_vec())
        {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_body_names_its_reader() {
        for (text, want) in [
            ("application/x-www-form-urlencoded; charset=utf-8", Some(Processor::Form)),
            ("Multipart/Form-Data; boundary=x", Some(Processor::Multipart)),
            ("application/soap+xml", Some(Processor::Xml)),
            ("application/vnd.api+json", Some(Processor::Json)),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(processor_of(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn cookies_are_parted() {
        let mut store = Store::new();
        cookies(&mut store, b"a=1; b=x=y;c");
        let shown: Vec<_> = store
            .list(List::RequestCookies)
            .iter()
            .map(|e| (e.name.as_slice(), e.value.as_slice()))
            .collect();
        assert_eq!(shown, [(&b"a"[..], &b"1"[..]), (b"b", b"x=y"), (b"c", b"")]);
    }
}
