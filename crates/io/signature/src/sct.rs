//! Proof that a certificate is in a log of certificates: the log's signature over it, inside of the certificate itself
//! (RFC 6962 §3.2 and §3.3). What was signed is the certificate without that proof, so that it is taken out first.

use crate::der::{EXTENSIONS, OCTET_STRING, SEQUENCE, element, elements, wrap};
use crate::error::SignatureError;
use crate::key::PublicKey;

/// Object identifier of the list of proofs, 1.3.6.1.4.1.11129.2.4.2, as DER writes it.
const SCT_LIST: [u8; 12] = [0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0xD6, 0x79, 0x02, 0x04, 0x02];
/// Most proofs of one certificate.
const MAX_PROOFS: usize = 16;

/// Whether one of the proofs in a certificate is of one of these logs.
pub(crate) fn in_log(
    certificate: &[u8],
    issuer: &PublicKey,
    logs: &[PublicKey],
) -> Result<(), SignatureError> {
    let missing = || SignatureError::NoSct("it brings no proof");
    let (body, list) = without_proofs(certificate).ok_or_else(missing)?;
    let length = u32::try_from(body.len()).ok().map(u32::to_be_bytes);
    let Some([0, length @ ..]) = length else { return Err(missing()) };
    let issuer: [u8; 32] = issuer.id();
    let proved = proofs(&list).ok_or_else(missing)?.into_iter().any(|proof| {
        let Some(log) = logs.iter().find(|log| log.id() == proof.log) else { return false };
        // Version 1, a certificate's time stamp; then an entry of a certificate to be.
        let head: [&[u8]; 3] = [&[0, 0], &proof.time, &[0, 1]];
        let extensions = u16::try_from(proof.extensions.len()).unwrap_or_default().to_be_bytes();
        let signed = [&head.concat(), &issuer[..], &length, &body, &extensions, proof.extensions].concat();
        log.signed(&signed, proof.signature)
    });
    if proved { Ok(()) } else { Err(SignatureError::NoSct("none of its proofs is of these logs")) }
}

struct Proof<'a> {
    log: [u8; 32],
    time: [u8; 8],
    extensions: &'a [u8],
    signature: &'a [u8],
}

/// The signed part of a certificate without its list of proofs, and that list.
fn without_proofs(certificate: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (whole, _) = element(certificate)?;
    let (body, _) = element(whole.content)?;
    let mut list = None;
    let mut parts: Vec<u8> = Vec::with_capacity(body.content.len());
    for part in elements(body.content)? {
        if part.tag != EXTENSIONS {
            parts.extend_from_slice(part.whole);
            continue;
        }
        let (all, _) = element(part.content)?;
        let mut kept = Vec::new();
        for extension in elements(all.content)? {
            if !extension.content.starts_with(&SCT_LIST) {
                kept.extend_from_slice(extension.whole);
                continue;
            }
            // The value is a string of octets in a string of octets.
            let value = elements(extension.content)?.into_iter().find(|one| one.tag == OCTET_STRING)?;
            let (inner, _) = element(value.content)?;
            list = Some(inner.content.to_vec());
        }
        parts.extend(wrap(EXTENSIONS, &wrap(SEQUENCE, &kept)));
    }
    Some((wrap(SEQUENCE, &parts), list?))
}

/// The proofs of a list; what is of another version is left out.
fn proofs(list: &[u8]) -> Option<Vec<Proof<'_>>> {
    let (mut list, _) = sized(list)?;
    let mut found = Vec::new();
    while !list.is_empty() && found.len() < MAX_PROOFS {
        let (one, rest) = sized(list)?;
        list = rest;
        let (version, one) = one.split_first()?;
        let (log, one) = one.split_first_chunk::<32>()?;
        let (time, one) = one.split_first_chunk::<8>()?;
        let (extensions, one) = sized(one)?;
        // Hash and algorithm; the key knows better.
        let (_ways, one) = one.split_first_chunk::<2>()?;
        let (signature, _) = sized(one)?;
        if *version == 0 {
            found.push(Proof { log: *log, time: *time, extensions, signature });
        }
    }
    Some(found)
}

/// Bytes behind their length in two bytes.
fn sized(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}
