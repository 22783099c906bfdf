//! XML: its text and the values of its attributes. Entities are those that XML itself knows; nothing is fetched.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::BodyError;
use crate::store::Store;
use crate::variable::List;

/// Parts of a document that are read.
const MAX_EVENTS: usize = 100_000;

/// Reads a document: `XML:/*` is all its text, `XML://@*` each attribute.
pub(super) fn read(store: &mut Store, body: &[u8]) -> Result<(), BodyError> {
    // Bytes that are no UTF-8 are replaced, what is around them is read.
    let body = String::from_utf8_lossy(body);
    let mut reader = Reader::from_str(&body);
    reader.config_mut().check_end_names = true;
    let mut text = Vec::new();
    let mut result = Ok(());
    let (mut depth, mut any) = (0_usize, false);
    for count in 0.. {
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(error) => {
                result = Err(BodyError::Xml(error.to_string()));
                break;
            }
        };
        if count > MAX_EVENTS {
            result = Err(BodyError::Xml("too many parts".to_owned()));
            break;
        }
        match event {
            Event::Start(element) => {
                (depth, any) = (depth.saturating_add(1), true);
                attributes(store, element.attributes());
            }
            Event::Empty(element) => {
                any = true;
                attributes(store, element.attributes());
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Text(part) => text.extend_from_slice(part.as_bytes()),
            Event::CData(part) => text.extend_from_slice(part.as_bytes()),
            Event::GeneralRef(name) => reference(name.as_bytes(), &mut text),
            Event::Eof => {
                if depth > 0 || !any {
                    result = Err(BodyError::Xml("the document ends early".to_owned()));
                }
                break;
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    if any {
        store.push(List::XmlText, Vec::new(), text);
    }
    result
}

fn attributes(store: &mut Store, mut attributes: quick_xml::events::attributes::Attributes<'_>) {
    for attribute in attributes.with_checks(false).flatten() {
        let mut value = Vec::with_capacity(attribute.value.len());
        let mut rest = attribute.value.as_bytes();
        while let Some(at) = memchr::memchr(b'&', rest) {
            value.extend_from_slice(rest.get(..at).unwrap_or_default());
            let inside = rest.get(at.saturating_add(1)..).unwrap_or_default();
            let Some(end) = memchr::memchr(b';', inside) else {
                rest = rest.get(at..).unwrap_or_default();
                break;
            };
            reference(inside.get(..end).unwrap_or_default(), &mut value);
            rest = inside.get(end.saturating_add(1)..).unwrap_or_default();
        }
        value.extend_from_slice(rest);
        store.push(List::XmlAttributes, attribute.key.as_ref().as_bytes().to_vec(), value);
    }
}

/// What a reference stands for; one that XML does not know stays as it is.
fn reference(name: &[u8], out: &mut Vec<u8>) {
    let code = match name {
        [b'#', b'x', digits @ ..] => {
            std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, 16).ok())
        }
        [b'#', digits @ ..] => std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()),
        b"lt" => Some(u32::from('<')),
        b"gt" => Some(u32::from('>')),
        b"amp" => Some(u32::from('&')),
        b"quot" => Some(u32::from('"')),
        b"apos" => Some(u32::from('\'')),
        _ => None,
    };
    match code.and_then(char::from_u32) {
        Some(letter) => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            out.push(b'&');
            out.extend_from_slice(name);
            out.push(b';');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_attributes_are_read() {
        let mut store = Store::new();
        read(&mut store, b"<?xml version=\"1.0\"?><a x=\"1&lt;\"><b y='2'>t&amp;u</b><![CDATA[<c>]]> v</a>")
            .unwrap();
        assert_eq!(store.list(List::XmlText)[0].value, b"t&u<c> v");
        let values: Vec<_> =
            store.list(List::XmlAttributes).iter().map(|entry| entry.value.as_slice()).collect();
        assert_eq!(values, [&b"1<"[..], b"2"]);
    }

    #[test]
    fn what_is_no_document_is_told() {
        for text in ["", "plain", "<a>", "<a></b>", "<a"] {
            assert!(read(&mut Store::new(), text.as_bytes()).is_err(), "{text}");
        }
    }
}
