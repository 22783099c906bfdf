//! Who a certificate is for and who made it (RFC 5280 §4.1), by walking its DER.

use crate::protocol::read::Cursor;

/// Common name (RFC 5280 §A.1: 2.5.4.3).
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// Parts of a name that are looked at.
const MAX_PARTS: usize = 32;

const SEQUENCE: u8 = 0x30;

/// The first certificate of a Certificate message (RFC 5246 §7.4.2).
pub(super) fn first(body: &[u8]) -> Option<&[u8]> {
    let mut cursor = Cursor(body);
    cursor.u24()?;
    let length = cursor.u24()?;
    cursor.bytes(length)
}

/// Tag and content of the next element.
fn element<'a>(cursor: &mut Cursor<'a>) -> Option<(u8, &'a [u8])> {
    let tag = cursor.u8()?;
    let length = cursor.ber_length(3)?;
    Some((tag, cursor.bytes(length)?))
}

fn sequence<'a>(cursor: &mut Cursor<'a>) -> Option<Cursor<'a>> {
    element(cursor).filter(|(tag, _)| *tag == SEQUENCE).map(|(_, content)| Cursor(content))
}

/// Common names of a certificate, where it has them.
pub(super) struct Names<'a> {
    pub(super) issuer: Option<&'a [u8]>,
    pub(super) subject: Option<&'a [u8]>,
}

/// Reads the names of a certificate.
pub(super) fn names(certificate: &[u8]) -> Option<Names<'_>> {
    let mut inside = sequence(&mut Cursor(certificate))?;
    let mut signed = sequence(&mut inside)?;
    // Version, when it is there, and serial number.
    let (tag, _) = element(&mut signed)?;
    if tag == 0xA0 {
        element(&mut signed)?;
    }
    sequence(&mut signed)?;
    let issuer = sequence(&mut signed)?;
    sequence(&mut signed)?;
    let subject = sequence(&mut signed)?;
    Some(Names { issuer: common_name(issuer), subject: common_name(subject) })
}

fn common_name(mut name: Cursor<'_>) -> Option<&[u8]> {
    let mut found = None;
    for _ in 0..MAX_PARTS {
        let Some((_, set)) = element(&mut name) else { break };
        let Some(mut pair) = sequence(&mut Cursor(set)) else { continue };
        let (Some((_, kind)), Some((_, value))) = (element(&mut pair), element(&mut pair)) else { continue };
        if kind == COMMON_NAME {
            found = Some(value);
        }
    }
    found
}
