//! Whose signatures of images count: roots of trust and the verifiers under them, as the contract's
//! `/v1/scan/sigstore/root_of_trust` has them.

use serde::{Deserialize, Serialize};

/// Most roots of trust, and most verifiers of one.
pub const MAX_ROOTS: usize = 64;
/// See [`MAX_ROOTS`].
pub const MAX_VERIFIERS: usize = 256;

/// Longest text of keys or certificates, in bytes.
pub const MAX_PEM_BYTES: usize = 32 * 1024;

/// What signatures are traced back to. Without keys or certificates of its own, and not `rootless_keypairs_only`, it is
/// Sigstore's public instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootOfTrust {
    /// Its name.
    pub name: String,
    /// It has its own keys and certificates.
    pub is_private: bool,
    /// It has verifiers with keys alone, whose signatures need be in no log.
    pub rootless_keypairs_only: bool,
    /// Keys of the transparency log, PEM; with none a private root wants no log.
    pub rekor_public_key: String,
    /// Certificates of the authority, PEM: roots, and intermediates where signatures do not bring them.
    pub root_cert: String,
    /// Keys of the log of certificates, PEM; with none a private root wants no proof of it.
    pub sct_public_key: String,
    /// For the reader.
    pub comment: String,
    /// Who may have signed.
    pub verifiers: Vec<Verifier>,
}

impl RootOfTrust {
    /// Whether it is Sigstore's public instance.
    #[must_use]
    pub fn is_public(&self) -> bool {
        !self.rootless_keypairs_only
            && self.rekor_public_key.is_empty()
            && self.root_cert.is_empty()
            && self.sct_public_key.is_empty()
    }
}

/// Someone whose signature counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Verifier {
    /// Its name; a signed image shows `root/verifier`.
    pub name: String,
    /// By what it is known.
    pub verifier_type: VerifierType,
    /// Of [`VerifierType::Keypair`]: the public key, PEM.
    pub public_key: String,
    /// Of [`VerifierType::Keyless`]: who vouched for the signer, an address of OpenID Connect.
    pub cert_issuer: String,
    /// Of [`VerifierType::Keyless`]: the signer, a mail address or URI.
    pub cert_subject: String,
    /// For the reader.
    pub comment: String,
}

/// By what a verifier is known. The words are the contract's `verifier_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifierType {
    /// A public key.
    #[default]
    Keypair,
    /// An identity in a certificate that lived for minutes.
    Keyless,
}
