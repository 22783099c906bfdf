//! What an entry of the transparency log says was signed: it must be this message, this signature and this key, else the
//! entry of another signature would serve.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::claim::Claim;
use crate::error::SignatureError;

/// Who signed, as entries name it.
pub(crate) struct Signer<'a> {
    /// The key as SubjectPublicKeyInfo, DER.
    pub(crate) key: &'a [u8],
    /// The certificate, DER.
    pub(crate) certificate: Option<&'a [u8]>,
}

/// Whether an entry is of this signature.
pub(crate) fn is_of(
    body: &[u8],
    claim: &Claim,
    signature: &[u8],
    signer: &Signer<'_>,
) -> Result<(), SignatureError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|_no_json| SignatureError::NoLog("its entry is no JSON"))?;
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (hashed, hash, signed) = match (text("/kind"), text("/apiVersion")) {
        ("hashedrekord", "0.0.1") => (
            claim.signed_bytes(),
            unhex(text("/spec/data/hash/value")),
            vec![(
                text("/spec/signature/content").to_owned(),
                text("/spec/signature/publicKey/content").to_owned(),
            )],
        ),
        ("dsse", "0.0.1") => (
            claim.payload().to_vec(),
            unhex(text("/spec/payloadHash/value")),
            pairs(&body, "/spec/signatures", "signature", "verifier"),
        ),
        // Both parts are in Base64 twice.
        ("intoto", "0.0.2") => (
            claim.payload().to_vec(),
            unhex(text("/spec/content/payloadHash/value")),
            pairs(&body, "/spec/content/envelope/signatures", "sig", "publicKey")
                .into_iter()
                .map(|(signature, key)| (decoded_text(&signature), key))
                .collect(),
        ),
        // Of Rekor's second version: bytes in Base64, certificates and keys as DER.
        ("hashedrekord", "0.0.2") => (
            claim.signed_bytes(),
            BASE64_STANDARD.decode(text("/spec/hashedRekordV002/data/digest")).ok(),
            signed_by(body.pointer("/spec/hashedRekordV002/signature")).into_iter().collect(),
        ),
        ("dsse", "0.0.2") => {
            let list = body.pointer("/spec/dsseV002/signatures").and_then(Value::as_array);
            (
                claim.payload().to_vec(),
                BASE64_STANDARD.decode(text("/spec/dsseV002/payloadHash/digest")).ok(),
                list.into_iter().flatten().filter_map(|one| signed_by(Some(one))).collect(),
            )
        }
        _ => return Err(SignatureError::NoLog("its entry is of a kind that is not known")),
    };
    if hash.as_deref() != Some(Sha256::digest(&hashed).as_slice()) {
        return Err(SignatureError::NoLog("its entry is of another message"));
    }
    let same = |(content, key): &(String, String)| {
        BASE64_STANDARD.decode(content).is_ok_and(|bytes| bytes == signature) && names(key, signer)
    };
    if signed.iter().any(same) {
        Ok(())
    } else {
        Err(SignatureError::NoLog("its entry is of another signature or key"))
    }
}

/// A signature of Rekor's second version, and the key or certificate that it is checked with.
fn signed_by(signature: Option<&Value>) -> Option<(String, String)> {
    let text = |pointer: &str| signature?.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let key = text("/verifier/x509Certificate/rawBytes").or_else(|| text("/verifier/publicKey/rawBytes"))?;
    Some((text("/content")?, key))
}

/// Whether a key or certificate, as DER or PEM in Base64, is the signer's.
fn names(encoded: &str, signer: &Signer<'_>) -> bool {
    let Ok(pem) = BASE64_STANDARD.decode(encoded) else { return false };
    if pem == signer.key || Some(pem.as_slice()) == signer.certificate {
        return true;
    }
    let certificate = CertificateDer::from_pem_slice(&pem).ok();
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&pem).ok();
    key.is_some_and(|key| key.as_ref() == signer.key)
        || certificate.is_some_and(|found| Some(found.as_ref()) == signer.certificate)
}

fn pairs(body: &Value, list: &str, signature: &str, key: &str) -> Vec<(String, String)> {
    let list = body.pointer(list).and_then(Value::as_array).into_iter().flatten();
    let text = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    list.map(|one| (text(one, signature), text(one, key))).collect()
}

fn decoded_text(encoded: &str) -> String {
    let bytes = BASE64_STANDARD.decode(encoded).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Bytes of hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.last()?)?)).collect()
}
