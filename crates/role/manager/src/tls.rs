//! The console's certificate from PEM text.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate, or a broken one.
    #[error("certificate is not PEM with at least one certificate")]
    Certificate,
    /// No key, or a broken one.
    #[error("private key is not a PEM key in PKCS#8, PKCS#1 or SEC1 form")]
    Key,
    /// Certificate and key do not fit each other, or the key's kind is not supported.
    #[error("certificate and private key cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// The certificates in `pem`, leaf first.
///
/// # Errors
/// [`TlsError::Certificate`] when there is none or one is broken.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(list) if !list.is_empty() => Ok(list),
        _ => Err(TlsError::Certificate),
    }
}

/// A server configuration for TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1, from a certificate chain and its key.
///
/// # Errors
/// [`TlsError`] says which of the two is wrong.
pub fn server_config_from_pem(certificate: &[u8], key: &[u8]) -> Result<rustls::ServerConfig, TlsError> {
    let chain = certificates_from_pem(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_unreadable| TlsError::Key)?;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
