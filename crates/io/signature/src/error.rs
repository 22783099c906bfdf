//! Why a signature does not count.

/// What is wrong with a signature, or with what it is checked against. The texts go to the operator who asks why an image
/// is not signed for a verifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The text holds no public key of a kind that is checked.
    #[error(
        "no public key in PEM: ECDSA on P-256, P-384 or P-521, RSA of 2,048 to 8,192 bits, or Ed25519 is expected"
    )]
    Key,
    /// The text holds no certificate.
    #[error("no certificate in PEM: {0}")]
    Certificate(String),
    /// What the registry has is no signature.
    #[error("no signature that can be read: {0}")]
    Shape(String),
    /// It is of another image, or of no image.
    #[error("it does not speak of this image: {0}")]
    Claim(String),
    /// The key does not fit.
    #[error("it was not made with this key")]
    NotByKey,
    /// A keyless verifier, and the signature has no certificate.
    #[error("it has no certificate")]
    NoCertificate,
    /// The certificate is not of an authority of this root, or was not valid then.
    #[error("its certificate is not good: {0}")]
    Chain(&'static str),
    /// Another person or workflow signed.
    #[error("it is by {subject} of {issuer}")]
    Identity {
        /// Who.
        subject: String,
        /// Who vouches for that.
        issuer: String,
    },
    /// No proof that the certificate is in the log of certificates.
    #[error("its certificate is in no log of certificates of this root: {0}")]
    NoSct(&'static str),
    /// No proof that the signature is in the transparency log.
    #[error("it is in no transparency log of this root: {0}")]
    NoLog(&'static str),
    /// A time stamp does not count.
    #[error("its time stamp does not count: {0}")]
    TimeStamp(&'static str),
    /// A root of trust that has nothing to check this with.
    #[error("the root of trust cannot check this: {0}")]
    Root(&'static str),
}
