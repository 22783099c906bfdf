//! Certificates of the product's internal links.
//!
//! One [`Authority`] (P-256, aws-lc-rs) signs everything: the controllers' server certificates and one certificate a
//! node, whose id is in the certificate ([`node_id_of`]) and nowhere else, so that a node cannot speak for another.
//! A node gets its certificate with a join token ([`token`]): the token's text holds the fingerprint of the authority,
//! so that already the first contact is with the right controller ([`tls::pinned_client`]).
//!
//! ```text
//! controller  Authority::open → issue_server → tls::server → accept::incoming → gRPC
//! enforcer    KeyPair + request ──Join, token, pinned root──► sign_request ──► Credential::save
//!             Credential::load → tls::client → connect::channel ──mTLS──► node_id_of(peer certificate)
//! ```
//!
//! Everything here is TLS 1.3. Time comes in as an argument; private keys are wiped when dropped and are in no `Debug` form.

pub mod accept;
mod authority;
pub mod connect;
mod credential;
mod error;
mod file;
mod name;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod token;

pub use authority::Authority;
pub use credential::{Credential, SigningRequest, renewal_due};
pub use error::PkiError;
pub use name::{CONTROLLER_NAME, ENFORCER_NAME, SCANNER_NAME, node_id_of, scanner_id_of};

/// SHA-256 of a certificate's DER form.
#[must_use]
pub fn fingerprint(certificate: &rustls_pki_types::CertificateDer<'_>) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(certificate.as_ref()).into()
}
