//! One signature as it lies in a registry.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer};

use crate::certificate::certificates_of;
use crate::claim::Claim;
use crate::error::SignatureError;
use crate::log::{LogEntry, Proof};

/// Kind of a layer with a payload of simple signing.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Kinds of bundles begin with it: `…+json;version=0.1`, `….v0.3+json`.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Largest payload or bundle, in bytes.
pub const MAX_PAYLOAD: u64 = 1024 * 1024;
/// Most signatures of one image that are looked at.
pub const MAX_SIGNATURES: usize = 64;
/// Most log entries, time stamps and signatures of one bundle.
const MAX_PARTS: usize = 16;

/// What cosign writes beside a layer with a payload.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const PROMISE: &str = "dev.sigstore.cosign/bundle";

/// A signature, with all that came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub(crate) claim: Claim,
    /// One alone, but for envelopes.
    pub(crate) signatures: Vec<Vec<u8>>,
    /// The signer's certificate, DER.
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) entries: Vec<LogEntry>,
    /// Time stamps of the signature (RFC 3161).
    pub(crate) time_stamps: Vec<Vec<u8>>,
}

fn shape(what: impl std::fmt::Display) -> SignatureError {
    SignatureError::Shape(what.to_string())
}

/// What the log promised, as cosign keeps it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Promise {
    #[serde(deserialize_with = "base64")]
    signed_entry_timestamp: Vec<u8>,
    payload: PromisedEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromisedEntry {
    #[serde(deserialize_with = "base64")]
    body: Vec<u8>,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log: String,
}

/// `dev.sigstore.bundle.v1.Bundle`, as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Raw>,
    x509_certificate_chain: Option<Chain>,
    #[serde(default, deserialize_with = "nullable")]
    tlog_entries: Vec<Entry>,
    timestamp_verification_data: Option<TimeStamps>,
}

#[derive(Deserialize)]
struct TimeStamps {
    #[serde(rename = "rfc3161Timestamps", default)]
    stamps: Vec<TimeStamp>,
}

#[derive(Deserialize)]
struct TimeStamp {
    #[serde(rename = "signedTimestamp", deserialize_with = "base64")]
    stamp: Vec<u8>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(deserialize_with = "base64")]
    raw_bytes: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(deserialize_with = "base64")]
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<Sig>,
}

#[derive(Deserialize)]
struct Sig {
    #[serde(deserialize_with = "base64")]
    sig: Vec<u8>,
}

/// 64-bit numbers are texts in the JSON of protocol buffers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default, deserialize_with = "number")]
    log_index: i64,
    log_id: LogId,
    #[serde(default, deserialize_with = "number")]
    integrated_time: i64,
    inclusion_promise: Option<InclusionPromise>,
    inclusion_proof: Option<InclusionProof>,
    #[serde(deserialize_with = "base64")]
    canonicalized_body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    #[serde(deserialize_with = "base64")]
    key_id: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionPromise {
    #[serde(deserialize_with = "base64")]
    signed_entry_timestamp: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionProof {
    #[serde(default, deserialize_with = "number")]
    log_index: u64,
    #[serde(deserialize_with = "number")]
    tree_size: u64,
    #[serde(default, deserialize_with = "hashes")]
    hashes: Vec<Vec<u8>>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

fn base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)
}

fn hashes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| BASE64_STANDARD.decode(text).map_err(serde::de::Error::custom)).collect()
}

fn nullable<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Entry>, D::Error> {
    Option::<Vec<Entry>>::deserialize(from).map(Option::unwrap_or_default)
}

fn number<'de, D: Deserializer<'de>, N>(from: D) -> Result<N, D::Error>
where
    N: std::str::FromStr<Err: std::fmt::Display> + Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<N> {
        Number(N),
        Text(String),
    }
    match Either::deserialize(from)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

impl Signature {
    /// A layer of an image `sha256-….sig`: its payload, and the annotations of its descriptor.
    ///
    /// # Errors
    /// [`SignatureError::Shape`] when it is none.
    pub fn simple(payload: &[u8], annotations: &BTreeMap<String, String>) -> Result<Self, SignatureError> {
        let signature = annotations.get(SIGNATURE).ok_or_else(|| shape("there is no signature beside it"))?;
        let signature = BASE64_STANDARD.decode(signature).map_err(shape)?;
        let pem = |name: &str| annotations.get(name).filter(|text| !text.trim().is_empty());
        let certificate = pem(CERTIFICATE).map(|text| certificates_of(text)).transpose()?;
        let chain = pem(CHAIN).map(|text| certificates_of(text)).transpose()?;
        let entry = annotations.get(PROMISE).map(|text| {
            let promise: Promise = serde_json::from_str(text).map_err(shape)?;
            let log = crate::entry::unhex(&promise.payload.log).ok_or_else(|| shape("its log's name"))?;
            Ok(LogEntry {
                body: promise.payload.body,
                time: promise.payload.integrated_time,
                log,
                index: promise.payload.log_index,
                promise: Some(promise.signed_entry_timestamp),
                proof: None,
            })
        });
        Ok(Self {
            claim: Claim::Simple(payload.to_vec()),
            signatures: vec![signature],
            certificate: certificate.and_then(|found| found.into_iter().next()),
            chain: chain.unwrap_or_default(),
            entries: entry.transpose()?.into_iter().collect(),
            time_stamps: Vec::new(),
        })
    }

    /// A bundle of Sigstore, version 0.1 to 0.3, with an envelope.
    ///
    /// # Errors
    /// [`SignatureError::Shape`] when it is none.
    pub fn bundle(json: &[u8]) -> Result<Self, SignatureError> {
        let bundle: Bundle = serde_json::from_slice(json).map_err(shape)?;
        if !bundle.media_type.starts_with(BUNDLE) {
            return Err(shape(format!("{:?} is no bundle", bundle.media_type)));
        }
        let envelope = bundle.dsse_envelope.ok_or_else(|| shape("it signs a file, and not an image"))?;
        let material = bundle.verification_material;
        let mut brought: Vec<Vec<u8>> = match (material.certificate, material.x509_certificate_chain) {
            (Some(one), _) => vec![one.raw_bytes],
            (None, Some(chain)) => chain.certificates.into_iter().map(|one| one.raw_bytes).collect(),
            (None, None) => Vec::new(),
        };
        let chain = brought.split_off(brought.len().min(1));
        let stamps = material.timestamp_verification_data.map(|data| data.stamps).unwrap_or_default();
        if stamps.len() > MAX_PARTS
            || material.tlog_entries.len() > MAX_PARTS
            || envelope.signatures.len() > MAX_PARTS
        {
            return Err(shape(format!("it has more than {MAX_PARTS} entries, time stamps or signatures")));
        }
        let entries = material.tlog_entries.into_iter().map(|entry| LogEntry {
            body: entry.canonicalized_body,
            time: entry.integrated_time,
            log: entry.log_id.key_id,
            index: entry.log_index,
            promise: entry.inclusion_promise.map(|promise| promise.signed_entry_timestamp),
            proof: entry.inclusion_proof.map(|proof| Proof {
                index: proof.log_index,
                size: proof.tree_size,
                hashes: proof.hashes,
                checkpoint: proof.checkpoint.envelope,
            }),
        });
        Ok(Self {
            claim: Claim::Envelope { payload_type: envelope.payload_type, payload: envelope.payload },
            signatures: envelope.signatures.into_iter().map(|one| one.sig).collect(),
            certificate: brought.pop(),
            chain,
            entries: entries.collect(),
            time_stamps: stamps.into_iter().map(|one| one.stamp).collect(),
        })
    }
}
