//! Public keys, and what was made with them.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA512_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};

use crate::error::SignatureError;

/// Most keys of one text.
const MAX_KEYS: usize = 32;
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const ED: &str = "1.3.101.112";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
const P521: &str = "1.3.132.0.35";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    P521,
    Rsa,
    Ed25519,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    kind: Kind,
    /// The point, or the key as its algorithm writes it.
    bits: Vec<u8>,
    /// As SubjectPublicKeyInfo, DER.
    info: Vec<u8>,
}

impl PublicKey {
    /// The keys of a text in PEM, at least one.
    pub(crate) fn all_of(pem: &str) -> Result<Vec<Self>, SignatureError> {
        let found = SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()).take(MAX_KEYS);
        let keys: Vec<Self> = found
            .map(|one| Self::of_info(one.ok()?.as_ref()))
            .collect::<Option<_>>()
            .ok_or(SignatureError::Key)?;
        if keys.is_empty() { Err(SignatureError::Key) } else { Ok(keys) }
    }

    /// A key as certificates have it.
    pub(crate) fn of_info(info: &[u8]) -> Option<Self> {
        let (_, read) = SubjectPublicKeyInfo::from_der(info).ok()?;
        let curve = || read.algorithm.parameters.as_ref()?.as_oid().ok().map(|oid| oid.to_id_string());
        let kind = match read.algorithm.algorithm.to_id_string().as_str() {
            RSA => Kind::Rsa,
            ED => Kind::Ed25519,
            EC => match curve()?.as_str() {
                P256 => Kind::P256,
                P384 => Kind::P384,
                P521 => Kind::P521,
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { kind, bits: read.subject_public_key.data.to_vec(), info: info.to_vec() })
    }

    /// As SubjectPublicKeyInfo, DER.
    pub(crate) fn info(&self) -> &[u8] {
        &self.info
    }

    /// What logs call their keys: the SHA-256 of the key (RFC 6962 §3.2).
    pub(crate) fn id(&self) -> [u8; 32] {
        Sha256::digest(&self.info).into()
    }

    /// Whether a message was signed with it. cosign signs with SHA-256 whatever the curve; other signers take the hash
    /// that is as long as the curve.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let ways: &[&'static dyn VerificationAlgorithm] = match self.kind {
            Kind::P256 => &[&ECDSA_P256_SHA256_ASN1],
            Kind::P384 => &[&ECDSA_P384_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1],
            Kind::P521 => &[&ECDSA_P521_SHA256_ASN1, &ECDSA_P521_SHA512_ASN1],
            Kind::Rsa => &[&RSA_PKCS1_2048_8192_SHA256],
            Kind::Ed25519 => &[&ED25519],
        };
        self.fits(ways, message, signature)
    }

    /// Whether a certificate was signed with it, in the way that the certificate names.
    pub(crate) fn signed_certificate(&self, way: &str, message: &[u8], signature: &[u8]) -> bool {
        let ways: &[&'static dyn VerificationAlgorithm] = match (self.kind, way) {
            (Kind::P256, "1.2.840.10045.4.3.2") => &[&ECDSA_P256_SHA256_ASN1],
            (Kind::P256, "1.2.840.10045.4.3.3") => &[&ECDSA_P256_SHA384_ASN1],
            (Kind::P384, "1.2.840.10045.4.3.2") => &[&ECDSA_P384_SHA256_ASN1],
            (Kind::P384, "1.2.840.10045.4.3.3") => &[&ECDSA_P384_SHA384_ASN1],
            (Kind::P521, "1.2.840.10045.4.3.4") => &[&ECDSA_P521_SHA512_ASN1],
            (Kind::Rsa, "1.2.840.113549.1.1.11") => &[&RSA_PKCS1_2048_8192_SHA256],
            (Kind::Ed25519, ED) => &[&ED25519],
            _ => return false,
        };
        self.fits(ways, message, signature)
    }

    /// Whether a message of CMS was signed with it (RFC 5652 §5.4). `way` is the signature's algorithm, which of RSA may be the
    /// key's alone; `hash` is the last number of the hash's name, 1 for SHA-256.
    pub(crate) fn signed_message(&self, way: &str, hash: u8, message: &[u8], signature: &[u8]) -> bool {
        let way = match (way, hash) {
            (RSA, 1) => "1.2.840.113549.1.1.11",
            (EC, 1) => "1.2.840.10045.4.3.2",
            (EC, 2) => "1.2.840.10045.4.3.3",
            (EC, 3) => "1.2.840.10045.4.3.4",
            (other, _) => other,
        };
        self.signed_certificate(way, message, signature)
    }

    fn fits(&self, ways: &[&'static dyn VerificationAlgorithm], message: &[u8], signature: &[u8]) -> bool {
        ways.iter().any(|way| UnparsedPublicKey::new(*way, &self.bits).verify(message, signature).is_ok())
    }
}
