//! Authorities that a registry's certificate may be of, besides the usual ones.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Why a text names no authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// It is damaged.
    #[error("it is no PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// There is no certificate in it.
    #[error("it has no certificate: -----BEGIN CERTIFICATE----- is expected")]
    None,
}

/// The certificates of a PEM text, DER each, for [`Options::roots`](crate::Options::roots).
///
/// # Errors
/// [`RootsError`] when there is none, or the text is damaged.
pub fn roots_of_pem(text: &[u8]) -> Result<Vec<Vec<u8>>, RootsError> {
    let read: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(text).collect();
    let read = read.map_err(RootsError::Pem)?;
    if read.is_empty() {
        return Err(RootsError::None);
    }
    Ok(read.iter().map(|root| root.to_vec()).collect())
}
