//! A key, its certificate chain and the roots to trust: what one end of a link needs.

use std::fmt;
use std::path::Path;

use nv_model::time::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::error::PkiError;
use crate::file;

/// A key and its certificate. Dropping it wipes the key; `Debug` shows the number of certificates alone.
#[derive(Clone)]
pub struct Credential {
    /// Certificate chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Roots to trust.
    pub roots: Vec<CertificateDer<'static>>,
    /// Private key, PKCS#8.
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("chain", &self.chain.len())
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// Puts a key (PKCS#8) and its certificates together.
    #[must_use]
    pub fn new(
        key: Zeroizing<Vec<u8>>,
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
    ) -> Self {
        Self { chain, roots, key }
    }

    /// A copy of the key for rustls.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.to_vec()))
    }

    /// The key as PEM, for servers that take their certificate as text.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", &self.key))
    }

    /// The chain as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// The roots as PEM, to hand to clients.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    /// Reads `<name>.pem` (key and chain) and `<name>-roots.pem` in `folder`; `None` when there are none.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Exposed`] or [`PkiError::Damaged`].
    pub fn load(folder: &Path, name: &str) -> Result<Option<Self>, PkiError> {
        let (path, roots_path) =
            (folder.join(format!("{name}.pem")), folder.join(format!("{name}-roots.pem")));
        let Some(bytes) = file::read(&path)? else { return Ok(None) };
        let damaged = |path: &Path, what: String| PkiError::Damaged { path: path.to_owned(), what };
        let key =
            PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
        let key = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        let chain = certificates(&bytes).map_err(|what| damaged(&path, what))?;
        let roots = file::read(&roots_path)?
            .ok_or_else(|| damaged(&roots_path, "it is missing beside its key".to_owned()))?;
        let roots = certificates(&roots).map_err(|what| damaged(&roots_path, what))?;
        Ok(Some(Self { chain, roots, key }))
    }

    /// Writes what [`Self::load`] reads, with mode 0600.
    ///
    /// # Errors
    /// [`PkiError::File`].
    pub fn save(&self, folder: &Path, name: &str) -> Result<(), PkiError> {
        file::write(&folder.join(format!("{name}-roots.pem")), self.roots_pem().as_bytes())?;
        let mut both = Zeroizing::new(String::with_capacity(16 * 1024));
        both.push_str(&self.key_pem());
        both.push_str(&self.chain_pem());
        file::write(&folder.join(format!("{name}.pem")), both.as_bytes())
    }

    /// Whether it is time for a new certificate; see [`renewal_due`].
    ///
    /// # Errors
    /// [`PkiError::NotANode`] when the certificate cannot be read.
    pub fn renewal_due(&self, now: Timestamp) -> Result<bool, PkiError> {
        let leaf = self.chain.first().ok_or_else(|| PkiError::NotANode("the chain is empty".to_owned()))?;
        renewal_due(leaf, now)
    }
}

/// Whether less than a third of a certificate's life is left, or it has not begun.
///
/// # Errors
/// [`PkiError::NotANode`] when the certificate cannot be read.
pub fn renewal_due(certificate: &CertificateDer<'_>, now: Timestamp) -> Result<bool, PkiError> {
    let (_, read) =
        X509Certificate::from_der(certificate).map_err(|error| PkiError::NotANode(error.to_string()))?;
    let (begin, end) = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
    let third = end.saturating_sub(begin) / 3;
    Ok(now.seconds() < begin || now.seconds() >= end.saturating_sub(third))
}

/// A fresh P-256 key with the request for its certificate. The name in it does not matter: the authority decides that.
pub struct SigningRequest {
    key: Zeroizing<Vec<u8>>,
    request: Vec<u8>,
}

impl fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningRequest").field("request", &self.request.len()).finish_non_exhaustive()
    }
}

impl SigningRequest {
    /// Makes a key.
    ///
    /// # Errors
    /// [`PkiError::Issue`] when the system has no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { key: Zeroizing::new(key.serialize_der()), request })
    }
    /// The request, DER (PKCS#10).
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.request
    }
    /// The key with the certificates that the authority gave for it.
    ///
    /// # Errors
    /// [`PkiError::Tls`] when they are not for this key.
    pub fn complete(self, chain: Vec<Vec<u8>>, roots: Vec<Vec<u8>>) -> Result<Credential, PkiError> {
        let ders = |list: Vec<Vec<u8>>| list.into_iter().map(CertificateDer::from).collect();
        let credential = Credential { chain: ders(chain), roots: ders(roots), key: self.key };
        crate::tls::certified(&credential)?;
        Ok(credential)
    }
}

/// Every certificate of a PEM text.
pub(crate) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Vec<_> =
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if list.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(list) }
}

/// RFC 7468 text.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let body = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(der));
    let mut text = String::with_capacity(body.len().saturating_mul(2).saturating_add(128));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for (at, character) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
