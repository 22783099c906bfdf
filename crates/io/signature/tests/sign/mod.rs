//! A private Sigstore: an authority, a transparency log and a log of certificates, which sign as the public ones do.

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nv_signature::Signature;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Digest of the image that is signed.
pub(crate) const IMAGE: &str = "sha256:0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
/// 2026-01-02, within the certificate's life.
pub(crate) const THEN: i64 = 1_767_312_000;

pub(crate) fn text(bytes: impl AsRef<[u8]>) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An ECDSA key on P-256.
pub(crate) struct Key {
    pair: EcdsaKeyPair,
    /// The same, as the authority takes it.
    pub(crate) of_rcgen: KeyPair,
}

impl Key {
    pub(crate) fn new() -> Self {
        let of_rcgen = KeyPair::generate().unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &of_rcgen.serialize_der()).unwrap();
        assert!(pair.public_key().as_ref().len() == 65);
        Self { pair, of_rcgen }
    }

    pub(crate) fn pem(&self) -> String {
        self.of_rcgen.public_key_pem()
    }

    pub(crate) fn info(&self) -> Vec<u8> {
        use rcgen::PublicKeyData as _;
        self.of_rcgen.subject_public_key_info()
    }

    pub(crate) fn id(&self) -> [u8; 32] {
        Sha256::digest(self.info()).into()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

/// What cosign signs before its third version.
pub(crate) fn payload(image: &str) -> Vec<u8> {
    json!({"critical": {"identity": {"docker-reference": "r.example/shop/web"},
        "image": {"docker-manifest-digest": image}, "type": "cosign container image signature"},
        "optional": null})
    .to_string()
    .into()
}

/// What it signs since.
pub(crate) fn statement(image: &str) -> Vec<u8> {
    let digits = image.strip_prefix("sha256:").unwrap();
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": digits}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}})
    .to_string()
    .into()
}

pub(crate) fn envelope_bytes(statement: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 28 application/vnd.in-toto+json {} ", statement.len());
    [head.as_bytes(), statement].concat()
}

/// An entry of the log, with its promise.
pub(crate) struct Logged {
    pub(crate) body: Vec<u8>,
    pub(crate) time: i64,
    pub(crate) promise: Vec<u8>,
}

/// A transparency log with one entry at most.
pub(crate) struct Log(pub(crate) Key);

impl Log {
    pub(crate) fn put(&self, body: &serde_json::Value, time: i64) -> Logged {
        let body = body.to_string().into_bytes();
        let promised = format!(
            r#"{{"body":"{}","integratedTime":{time},"logID":"{}","logIndex":7}}"#,
            text(&body),
            hex(&self.0.id())
        );
        Logged { promise: self.0.sign(promised.as_bytes()), body, time }
    }

    /// What cosign keeps of it beside a payload.
    pub(crate) fn annotation(&self, logged: &Logged) -> String {
        json!({"SignedEntryTimestamp": text(&logged.promise), "Payload": {"body": text(&logged.body),
            "integratedTime": logged.time, "logIndex": 7, "logID": hex(&self.0.id())}})
        .to_string()
    }

    /// What bundles have, with a proof in a log of this entry alone.
    pub(crate) fn entry(&self, logged: &Logged, promised: bool) -> serde_json::Value {
        let leaf = Sha256::new_with_prefix([0]).chain_update(&logged.body).finalize();
        let state = format!("log.example - 1\n1\n{}\n", text(leaf));
        let signed = [&self.0.id()[..4], &self.0.sign(state.as_bytes())].concat();
        let checkpoint = format!("{state}\n\u{2014} log.example {}\n", text(signed));
        let mut entry = json!({"logIndex": "7", "logId": {"keyId": text(self.0.id())},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"}, "integratedTime": logged.time.to_string(),
            "inclusionProof": {"logIndex": "0", "rootHash": text(leaf), "treeSize": "1", "hashes": [],
                "checkpoint": {"envelope": checkpoint}},
            "canonicalizedBody": text(&logged.body)});
        if promised {
            entry["inclusionPromise"] = json!({"signedEntryTimestamp": text(&logged.promise)});
        }
        entry
    }
}

/// What an entry says of a payload of simple signing.
pub(crate) fn hashedrekord(message: &[u8], signature: &[u8], pem: &str) -> serde_json::Value {
    json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
        "data": {"hash": {"algorithm": "sha256", "value": hex(&Sha256::digest(message))}},
        "signature": {"content": text(signature), "publicKey": {"content": text(pem)}}}})
}

/// What an entry says of an envelope.
pub(crate) fn dsse(payload: &[u8], signature: &[u8], pem: &str) -> serde_json::Value {
    json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
        "payloadHash": {"algorithm": "sha256", "value": hex(&Sha256::digest(payload))},
        "signatures": [{"signature": text(signature), "verifier": text(pem)}]}})
}

/// A bundle of version 0.3 as JSON.
pub(crate) fn bundle(statement: &[u8], signature: &[u8], material: &serde_json::Value) -> Vec<u8> {
    json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": material,
        "dsseEnvelope": {"payload": text(statement), "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"sig": text(signature)}]}})
    .to_string()
    .into()
}

pub(crate) fn simple(payload: &[u8], signature: &[u8], more: &[(&str, String)]) -> Signature {
    let mut annotations: BTreeMap<String, String> =
        more.iter().map(|(name, value)| (format!("dev.sigstore.cosign/{name}"), value.clone())).collect();
    annotations.insert("dev.cosignproject.cosign/signature".to_owned(), text(signature));
    Signature::simple(payload, &annotations).unwrap()
}

/// An authority like Fulcio, and the log of its certificates.
pub(crate) struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    between: CertifiedIssuer<'static, KeyPair>,
    pub(crate) ct: Key,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params
}

/// The signed part of a certificate.
fn body(certificate: &[u8]) -> Vec<u8> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, read) = X509Certificate::from_der(certificate).unwrap();
    read.tbs_certificate.as_ref().to_vec()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let between =
            CertifiedIssuer::signed_by(authority("between"), KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, between, ct: Key::new() }
    }

    /// Root and intermediate, PEM.
    pub(crate) fn pem(&self) -> String {
        format!("{}{}", self.root.pem(), self.between.pem())
    }

    /// A certificate for ten minutes of 2026-01-02 at most, with the proof of its log.
    pub(crate) fn certify(&self, key: &Key, subject: &str, issuer: &str) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(7_u64));
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 3);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        params.subject_alt_names = vec![SanType::Rfc822Name(subject.try_into().unwrap())];
        let own = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&own, issuer.as_bytes().to_vec())];
        let before = params.clone().signed_by(&key.of_rcgen, &self.between).unwrap();

        let signed_part = body(before.der());
        let issuer_key = {
            use rcgen::PublicKeyData as _;
            Sha256::digest(self.between.key().subject_public_key_info())
        };
        let time = 1_767_312_000_000_u64.to_be_bytes();
        let length = u32::try_from(signed_part.len()).unwrap().to_be_bytes();
        let entry = [&[0, 0][..], &time, &[0, 1], &issuer_key, &length[1..], &signed_part, &[0, 0]].concat();
        let signature = self.ct.sign(&entry);
        let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
        let proof = [&[0][..], &self.ct.id(), &time, &[0, 0], &[4, 3], &sized(&signature)].concat();
        let list = sized(&sized(&proof));
        let octets = [&[0x04, 0x81, u8::try_from(list.len()).unwrap()][..], &list].concat();
        let place = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
        params.custom_extensions.push(CustomExtension::from_oid_content(&place, octets));
        let with = params.signed_by(&key.of_rcgen, &self.between).unwrap();
        Certified { without_proof: before.pem(), pem: with.pem(), der: with.der().to_vec() }
    }
}

/// A certificate, and the same without the proof of its log.
pub(crate) struct Certified {
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
    pub(crate) without_proof: String,
}
