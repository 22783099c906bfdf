//! How a certificate names its owner.

use nv_model::name::{NodeId, ScannerId};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::PkiError;

/// DNS name in the certificate of every controller; clients check this one, whatever address they dial.
pub const CONTROLLER_NAME: &str = "neuvector-controller";
/// DNS name in the certificate of every enforcer, for when a controller dials it.
pub const ENFORCER_NAME: &str = "neuvector-enforcer";
/// Begin of the URI in a node's certificate; the node's id follows, percent-encoded.
const NODE_URI: &str = "urn:neuvector:node:";

/// DNS name in the certificate of every scanner.
pub const SCANNER_NAME: &str = "neuvector-scanner";
/// Begin of the URI in a scanner's certificate; its id follows, percent-encoded. A certificate has one of the two kinds,
/// so that a scanner cannot speak for a node.
const SCANNER_URI: &str = "urn:neuvector:scanner:";

/// The URI that stands for a node.
pub(crate) fn node_uri(node: &NodeId) -> String {
    encode(NODE_URI, node.as_str())
}

/// The URI that stands for a scanner.
pub(crate) fn scanner_uri(scanner: &ScannerId) -> String {
    encode(SCANNER_URI, scanner.as_str())
}

fn encode(begin: &str, name: &str) -> String {
    let mut uri = String::from(begin);
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            for nibble in [byte >> 4, byte & 0x0F] {
                uri.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
    }
    uri
}

fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut nibble = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (nibble()?, nibble()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// The node that a certificate was issued to. The caller has verified the certificate: TLS does.
///
/// # Errors
/// [`PkiError::NotANode`] when it cannot be read, or has no or more than one node in it.
pub fn node_id_of(certificate: &CertificateDer<'_>) -> Result<NodeId, PkiError> {
    let id = only_name(certificate, NODE_URI, "node")?;
    id.parse().map_err(|error: nv_model::name::NameError| PkiError::NotANode(error.to_string()))
}

/// The scanner that a certificate was issued to. The caller has verified the certificate: TLS does.
///
/// # Errors
/// [`PkiError::NotANode`] when it cannot be read, or has no or more than one scanner in it.
pub fn scanner_id_of(certificate: &CertificateDer<'_>) -> Result<ScannerId, PkiError> {
    let id = only_name(certificate, SCANNER_URI, "scanner")?;
    id.parse().map_err(|error: nv_model::name::NameError| PkiError::NotANode(error.to_string()))
}

/// The one alternative name of a kind.
fn only_name(certificate: &CertificateDer<'_>, begin: &str, kind: &str) -> Result<String, PkiError> {
    let refuse = |why: String| PkiError::NotANode(why);
    let (_, read) = X509Certificate::from_der(certificate).map_err(|error| refuse(error.to_string()))?;
    let names = read
        .subject_alternative_name()
        .map_err(|error| refuse(error.to_string()))?
        .ok_or_else(|| refuse("it has no alternative names".to_owned()))?;
    let mut found = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(begin),
        _ => None,
    });
    let first = found.next().ok_or_else(|| refuse(format!("it names no {kind}")))?;
    if found.next().is_some() {
        return Err(refuse(format!("it names several {kind}s")));
    }
    decode(first).ok_or_else(|| refuse(format!("the {kind}'s name is not percent-encoded text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_node_id_survives_the_encoding() {
        for raw in ["n1", "host.example:0123", "a b%c/ü"] {
            let uri = node_uri(&raw.parse().unwrap());
            assert!(uri.is_ascii());
            assert_eq!(decode(uri.strip_prefix(NODE_URI).unwrap()).as_deref(), Some(raw));
        }
        assert_eq!(decode("a%4"), None);
        assert_eq!(decode("%ff"), None);
    }
}
