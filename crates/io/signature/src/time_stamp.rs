//! Time stamps (RFC 3161): an authority's word that a signature was there at a time. Logs that tell no time of their own
//! (Rekor's second version) have bundles bring one.

use aws_lc_rs::digest;

use crate::certificate::{Authorities, Purpose, key};
use crate::der::{self, Element, OCTET_STRING, SEQUENCE, element, elements, wrap};
use crate::error::SignatureError;

/// Longest time stamp, in bytes.
pub(crate) const MAX_TIME_STAMP: usize = 64 * 1024;
/// Most signers of one that are looked at, and most certificates that it brings.
const MAX_PARTS: usize = 16;

/// `id-signedData` and `id-ct-TSTInfo`, as DER writes them.
const SIGNED_DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x07, 0x02];
const TIME_INFO: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x10, 0x01, 0x04];
/// The attributes `contentType` and `messageDigest` (RFC 5652 §11).
const CONTENT_TYPE: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x04];
/// SHA-256, SHA-384 and SHA-512 are `2.16.840.1.101.3.4.2.1` to `.3`.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

const INTEGER: u8 = 0x02;
const OBJECT: u8 = 0x06;
const GENERALIZED_TIME: u8 = 0x18;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xA0;

/// When the signature was there, in seconds since 1970, by one of these authorities.
pub(crate) fn time_of(
    stamp: &[u8],
    signature: &[u8],
    authorities: &Authorities,
) -> Result<i64, SignatureError> {
    let token = Token::parse(stamp).ok_or(SignatureError::TimeStamp("it is no token of RFC 3161"))?;
    if token.imprint.hash(signature).as_deref() != Some(token.imprint.value) {
        return Err(SignatureError::TimeStamp("it is of another signature"));
    }
    let brought: Vec<Vec<u8>> = token.certificates.iter().map(|one| one.to_vec()).collect();
    for signer in &token.signers {
        if !signer.is_over(token.info) {
            continue;
        }
        let signed = wrap(SET, signer.attributes);
        let way = der::object_text(signer.way).unwrap_or_default();
        let of_signer = |certificate: &&[u8]| {
            let hash = signer.digest.name();
            key(certificate).is_some_and(|key| key.signed_message(&way, hash, &signed, signer.signature))
        };
        let known = authorities.intermediates().map(Vec::as_slice);
        let mut certificates = token.certificates.iter().copied().chain(known).filter(of_signer);
        if certificates.any(|one| authorities.issuer_key(one, &brought, token.time, Purpose::Time).is_ok()) {
            return Ok(token.time);
        }
    }
    Err(SignatureError::TimeStamp("nobody of this root's authorities made it"))
}

/// A hash function and what it gave.
struct Imprint<'a> {
    algorithm: &'a [u8],
    value: &'a [u8],
}

impl Imprint<'_> {
    fn hash(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(digest::digest(hash_function(self.algorithm)?, message).as_ref().to_vec())
    }

    /// The last number of the function's name: 1 for SHA-256.
    fn name(&self) -> u8 {
        self.algorithm.last().copied().unwrap_or_default()
    }
}

fn hash_function(object: &[u8]) -> Option<&'static digest::Algorithm> {
    match object.strip_prefix(SHA2)? {
        [1] => Some(&digest::SHA256),
        [2] => Some(&digest::SHA384),
        [3] => Some(&digest::SHA512),
        _ => None,
    }
}

struct Signer<'a> {
    /// Which hash of the content the attributes have.
    digest: Imprint<'a>,
    /// What is signed, but for its tag.
    attributes: &'a [u8],
    content_type: &'a [u8],
    /// How: the object of the signature's algorithm.
    way: &'a [u8],
    signature: &'a [u8],
}

impl Signer<'_> {
    fn is_over(&self, content: &[u8]) -> bool {
        self.content_type == TIME_INFO && self.digest.hash(content).as_deref() == Some(self.digest.value)
    }
}

/// The parts of a time stamp.
struct Token<'a> {
    /// `TSTInfo` as it was signed.
    info: &'a [u8],
    imprint: Imprint<'a>,
    time: i64,
    certificates: Vec<&'a [u8]>,
    signers: Vec<Signer<'a>>,
}

fn of(tag: u8, one: Element<'_>) -> Option<Element<'_>> {
    (one.tag == tag).then_some(one)
}

impl<'a> Token<'a> {
    fn parse(stamp: &'a [u8]) -> Option<Self> {
        if stamp.len() > MAX_TIME_STAMP {
            return None;
        }
        // TimeStampResp { status, timeStampToken }: granted, or granted with changes.
        let [status, token] = elements(of(SEQUENCE, element(stamp)?.0)?.content)?.try_into().ok()?;
        let granted = of(INTEGER, *elements(of(SEQUENCE, status)?.content)?.first()?)?;
        matches!(granted.content, [0 | 1]).then_some(())?;
        // ContentInfo { contentType, [0] content }
        let [kind, content] = elements(of(SEQUENCE, token)?.content)?.try_into().ok()?;
        (of(OBJECT, kind)?.content == SIGNED_DATA).then_some(())?;
        let (signed, _) = element(of(CONTEXT_0, content)?.content)?;
        // SignedData { version, digestAlgorithms, encapContentInfo, [0] certificates, [1] crls, signerInfos }
        let parts = elements(of(SEQUENCE, signed)?.content)?;
        let inner = elements(of(SEQUENCE, *parts.get(2)?)?.content)?;
        (of(OBJECT, *inner.first()?)?.content == TIME_INFO).then_some(())?;
        let info = of(OCTET_STRING, element(of(CONTEXT_0, *inner.get(1)?)?.content)?.0)?.content;
        let brought = parts.iter().skip(3).find(|part| part.tag == CONTEXT_0);
        let brought = brought.map(|part| elements(part.content)).unwrap_or_else(|| Some(Vec::new()))?;
        let signers = elements(of(SET, *parts.last()?)?.content)?;
        let (imprint, time) = time_info(info)?;
        Some(Self {
            info,
            imprint,
            time,
            certificates: brought.iter().take(MAX_PARTS).map(|one| one.whole).collect(),
            signers: signers.iter().take(MAX_PARTS).filter_map(|one| signer(one.content)).collect(),
        })
    }
}

/// `TSTInfo { version, policy, messageImprint { hashAlgorithm, hashedMessage }, serialNumber, genTime, … }`.
fn time_info(info: &[u8]) -> Option<(Imprint<'_>, i64)> {
    let parts = elements(of(SEQUENCE, element(info)?.0)?.content)?;
    let [algorithm, value] = elements(of(SEQUENCE, *parts.get(2)?)?.content)?.try_into().ok()?;
    let (object, _) = element(of(SEQUENCE, algorithm)?.content)?;
    let imprint = Imprint { algorithm: of(OBJECT, object)?.content, value: of(OCTET_STRING, value)?.content };
    Some((imprint, seconds(of(GENERALIZED_TIME, *parts.get(4)?)?.content)?))
}

/// `SignerInfo { version, sid, digestAlgorithm, [0] signedAttrs, signatureAlgorithm, signature, … }`.
fn signer(content: &[u8]) -> Option<Signer<'_>> {
    let parts = elements(content)?;
    let [_version, _who, hash, attributes, way, signature, ..] = parts.as_slice() else { return None };
    let (object, _) = element(of(SEQUENCE, *hash)?.content)?;
    let (way, _) = element(of(SEQUENCE, *way)?.content)?;
    let attributes = of(CONTEXT_0, *attributes)?.content;
    let value = |wanted: &[u8]| {
        let all = elements(attributes)?;
        let found = all.iter().find_map(|one| {
            let [name, values] = elements(one.content)?.try_into().ok()?;
            (name.content == wanted).then_some(values)
        })?;
        Some(element(of(SET, found)?.content)?.0.content)
    };
    Some(Signer {
        digest: Imprint { algorithm: of(OBJECT, object)?.content, value: value(MESSAGE_DIGEST)? },
        attributes,
        content_type: value(CONTENT_TYPE)?,
        way: of(OBJECT, way)?.content,
        signature: of(OCTET_STRING, *signature)?.content,
    })
}

/// `20250725195304Z`, with parts of a second behind a dot, which are left out.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = text.split('.').next()?;
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar, of years that begin in March.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        for (text, want) in [
            ("19700101000000Z", Some(0)),
            ("20000229000000Z", Some(951_782_400)),
            ("20250725195304Z", Some(1_753_473_184)),
            ("20250725195304.5Z", Some(1_753_473_184)),
            ("20251325195304Z", None),
            ("20250725195304", None),
            ("2025072519530Z", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_token_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            Token::parse(&bytes);
            Token::parse(&wrap(SEQUENCE, &bytes));
            time_info(&wrap(SEQUENCE, &bytes));
            signer(&bytes);
        }
    }
}
