//! Roots of trust and verifiers of images' signatures.

use nv_model::signature::{RootOfTrust, Verifier, VerifierType};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A verifier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SigstoreVerifier {
    /// Its name.
    pub name: String,
    /// keypair or keyless.
    pub verifier_type: String,
    /// keypair: the public key, PEM.
    pub public_key: String,
    /// keyless: who vouches for the signer.
    pub cert_issuer: String,
    /// keyless: the signer.
    pub cert_subject: String,
    /// A note.
    pub comment: String,
}

impl From<&Verifier> for SigstoreVerifier {
    fn from(verifier: &Verifier) -> Self {
        Self {
            name: verifier.name.clone(),
            verifier_type: match verifier.verifier_type {
                VerifierType::Keypair => "keypair".to_owned(),
                VerifierType::Keyless => "keyless".to_owned(),
            },
            public_key: verifier.public_key.clone(),
            cert_issuer: verifier.cert_issuer.clone(),
            cert_subject: verifier.cert_subject.clone(),
            comment: verifier.comment.clone(),
        }
    }
}

/// All verifiers of a root of trust.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SigstoreVerifiers {
    /// They.
    pub verifiers: Vec<SigstoreVerifier>,
}

/// What of a verifier is to be another one.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct SigstoreVerifierPatch {
    /// keypair or keyless.
    pub verifier_type: Option<String>,
    /// PEM.
    pub public_key: Option<String>,
    /// Who vouches for the signer.
    pub cert_issuer: Option<String>,
    /// The signer.
    pub cert_subject: Option<String>,
    /// A note.
    pub comment: Option<String>,
}

/// A root of trust.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct SigstoreRootOfTrust {
    /// Its name.
    pub name: String,
    /// It has its own keys and certificates; else it is Sigstore's public instance.
    pub is_private: bool,
    /// It has verifiers with keys alone, whose signatures need be in no log.
    pub rootless_keypairs_only: bool,
    /// Keys of the transparency log, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rekor_public_key: String,
    /// Certificates of the authority, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root_cert: String,
    /// Keys of the log of certificates, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sct_public_key: String,
    /// Always `user_created`.
    pub cfg_type: String,
    /// A note.
    pub comment: String,
    /// Its verifiers, with `with_verifiers=true`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verifiers: Vec<SigstoreVerifier>,
}

impl SigstoreRootOfTrust {
    /// A root, with its verifiers or without.
    #[must_use]
    pub fn of(root: &RootOfTrust, with_verifiers: bool) -> Self {
        let verifiers = root.verifiers.iter().filter(|_| with_verifiers).map(SigstoreVerifier::from);
        Self {
            name: root.name.clone(),
            is_private: root.is_private,
            rootless_keypairs_only: root.rootless_keypairs_only,
            rekor_public_key: root.rekor_public_key.clone(),
            root_cert: root.root_cert.clone(),
            sct_public_key: root.sct_public_key.clone(),
            cfg_type: "user_created".to_owned(),
            comment: root.comment.clone(),
            verifiers: verifiers.collect(),
        }
    }
}

/// All roots of trust.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SigstoreRootsOfTrust {
    /// They.
    pub roots_of_trust: Vec<SigstoreRootOfTrust>,
}

/// A new root of trust, or what of one is to be another.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct SigstoreRootInput {
    /// Its name, of a new one.
    pub name: String,
    /// It has its own keys and certificates.
    pub is_private: Option<bool>,
    /// It has verifiers with keys alone.
    pub rootless_keypairs_only: Option<bool>,
    /// PEM.
    pub rekor_public_key: Option<String>,
    /// PEM.
    pub root_cert: Option<String>,
    /// PEM.
    pub sct_public_key: Option<String>,
    /// A note.
    pub comment: Option<String>,
}
