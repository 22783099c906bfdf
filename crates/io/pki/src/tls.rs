//! rustls configurations: TLS 1.3, aws-lc-rs, our own roots and nothing else.

use std::sync::Arc;

use nv_model::time::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::credential::Credential;
use crate::error::PkiError;
use crate::fingerprint;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, PkiError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate.clone())?;
    }
    Ok(Arc::new(store))
}

/// The key with its chain; fails when they do not belong together.
pub(crate) fn certified(credential: &Credential) -> Result<CertifiedKey, PkiError> {
    let certified = CertifiedKey::from_der(credential.chain.clone(), credential.key(), &provider())?;
    certified.keys_match()?;
    Ok(certified)
}

fn builder_error(error: impl std::fmt::Display) -> PkiError {
    PkiError::Tls(rustls::Error::General(error.to_string()))
}

/// Checks a server's chain as a client would.
pub(crate) fn verify(credential: &Credential, name: &str, now: Timestamp) -> Result<(), PkiError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(&credential.roots)?, provider())
        .build()
        .map_err(builder_error)?;
    let leaf = credential.chain.first().ok_or_else(|| builder_error("the chain is empty"))?;
    let name = ServerName::try_from(name).map_err(builder_error)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(now.seconds()).unwrap_or_default(),
    ));
    verifier.verify_server_cert(leaf, credential.chain.get(1..).unwrap_or_default(), &name, &[], now)?;
    Ok(())
}

/// A server of the internal links. It asks for a client certificate and checks one that is given against our roots;
/// a client without one gets through, as joining needs that: what it may call is the service's decision.
///
/// # Errors
/// [`PkiError::Tls`].
pub fn server(credential: &Credential) -> Result<ServerConfig, PkiError> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(&credential.roots)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(builder_error)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(credential.chain.clone(), credential.key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A server that browsers and scripts reach: HTTP/1.1, no client certificates.
///
/// # Errors
/// [`PkiError::Tls`].
pub fn web_server(credential: &Credential) -> Result<ServerConfig, PkiError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(credential.chain.clone(), credential.key())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A client with a certificate, which trusts our roots alone.
///
/// # Errors
/// [`PkiError::Tls`].
pub fn client(credential: &Credential) -> Result<ClientConfig, PkiError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots(&credential.roots)?)
        .with_client_auth_cert(credential.chain.clone(), credential.key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A client without a certificate that knows its authority only by fingerprint: for joining.
///
/// # Errors
/// [`PkiError::Tls`].
pub fn pinned_client(authority: [u8; 32]) -> Result<ClientConfig, PkiError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { authority, provider: provider() }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes the certificate with the known fingerprint out of the server's chain as the only root, then verifies as usual.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let root = intermediates
            .iter()
            .find(|certificate| fingerprint(certificate) == self.authority)
            .ok_or(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))?;
        let mut store = RootCertStore::empty();
        store.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, schemes)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, schemes)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
