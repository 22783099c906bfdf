//! Signatures of images, judged in process and without a network: what cosign puts beside an image under the tag
//! `sha256-….sig`, and Sigstore's bundles that refer to it.
//!
//! ```text
//! annotations, payload ──┐                     ┌─ whose key, or whose certificate (key, certificate)
//!                        ├─ Signature ─ Trust ─┼─ is it in the log, and since when (log, entry, time_stamp)
//! bundle of Sigstore ────┘                     └─ does it speak of this image (claim)
//! ```
//!
//! Whoever can write to the registry can put any bytes there: every part is bounded, parsed without panic, and believed
//! for nothing but its own signature.

mod certificate;
mod claim;
mod der;
mod entry;
mod error;
mod key;
mod log;
mod sct;
mod signature;
mod time_stamp;
mod trust;

pub use error::SignatureError;
pub use signature::{BUNDLE, MAX_PAYLOAD, MAX_SIGNATURES, SIMPLE_SIGNING, Signature};
pub use trust::{Trust, Verified};

/// Whether a verifier's text is a public key that signatures can be checked with.
///
/// # Errors
/// [`SignatureError::Key`].
pub fn check_public_key(pem: &str) -> Result<(), SignatureError> {
    key::PublicKey::all_of(pem).map(drop)
}

/// Whether a root's text has certificates.
///
/// # Errors
/// [`SignatureError::Certificate`].
pub fn check_certificates(pem: &str) -> Result<(), SignatureError> {
    certificate::certificates_of(pem).map(drop)
}
