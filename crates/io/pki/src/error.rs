//! What can go wrong with certificates.

use std::path::PathBuf;

/// Why a certificate, key or token was not made, read or accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file of keys or certificates cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is there, but is not what was written: restore it from a backup, or remove it to start afresh, after
    /// which every node has to join again.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Others than the owner may read a file that holds a key.
    #[error(
        "{path} has mode {mode:o}: a private key must be readable by its owner alone, run chmod 600 on it"
    )]
    Exposed {
        /// Which one.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A signing request that is malformed or not signed by its own key.
    #[error("the signing request is refused: {0}")]
    Request(String),
    /// A certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Issue(String),
    /// A certificate that names no node, or cannot be read.
    #[error("the certificate is not a node's: {0}")]
    NotANode(String),
    /// TLS cannot be set up with these certificates.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// A text that is no join token.
    #[error("the join token is malformed: expected <random>.<fingerprint of the authority>")]
    Token,
    /// The system has no randomness.
    #[error("no randomness from the system: {0}")]
    Entropy(String),
    /// The controller cannot be reached.
    #[error("{0}")]
    Connect(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Issue(error.to_string())
    }
}
