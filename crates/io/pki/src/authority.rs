//! The authority: one key that signs every certificate of the cluster's internal links.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use nv_model::name::{NodeId, ScannerId};
use nv_model::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::credential::{Credential, certificates, pem};
use crate::error::PkiError;
use crate::file;
use crate::name::{ENFORCER_NAME, SCANNER_NAME, node_uri, scanner_uri};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Life of the authority's own certificate, in days.
const AUTHORITY_DAYS: u32 = 3650;
/// Life of every other certificate, in days.
const LEAF_DAYS: u32 = 365;
/// Certificates are valid from this long before now, for clocks that are behind, or are set back.
const BACKDATE: Duration = Duration::from_secs(48 * 60 * 60);
/// File in the state folder.
const FILE: &str = "ca.pem";

/// The certificate authority of one cluster.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the authority of `folder` (`ca.pem`, key and certificate, mode 0600), or makes it when there is none.
    ///
    /// # Errors
    /// [`PkiError::File`], [`PkiError::Exposed`], [`PkiError::Damaged`], [`PkiError::Issue`]. A damaged file is never
    /// replaced: that would lock out every node that has joined.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let path = folder.join(FILE);
        let Some(bytes) = file::read(&path)? else { return Self::create(&path, now) };
        let damaged = |what: String| PkiError::Damaged { path: path.clone(), what };
        let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| damaged(error.to_string()))?;
        let certificate = certificates(&bytes).map_err(damaged)?.into_iter().next();
        let certificate = certificate.ok_or_else(|| damaged("it has no certificate".to_owned()))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| damaged(error.to_string()))?;
        let authority = Self { certificate, issuer };
        // A key that does not belong to the certificate shows here, not at the first node.
        let probe = authority.issue_server(&["localhost".to_owned()], &[], now)?;
        crate::tls::verify(&probe, "localhost", now).map_err(|error| damaged(error.to_string()))?;
        Ok(authority)
    }

    fn create(path: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "NeuVector");
        params.distinguished_name.push(DnType::CommonName, "NeuVector internal authority");
        // No authority below it.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        live(&mut params, now, AUTHORITY_DAYS)?;
        let certificate = params.self_signed(&key)?.der().clone();
        let mut both = Zeroizing::new(String::with_capacity(16 * 1024));
        both.push_str(&Zeroizing::new(pem("PRIVATE KEY", key.serialized_der())));
        both.push_str(&pem("CERTIFICATE", &certificate));
        file::write(path, both.as_bytes())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate, issuer })
    }

    /// Its own certificate: the root to trust.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// SHA-256 of its certificate, which join tokens carry.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        crate::fingerprint(&self.certificate)
    }

    /// A new key with a certificate for a server (both key usages, as controllers also dial). `names` are DNS names.
    ///
    /// # Errors
    /// [`PkiError::Issue`], for instance for a name that is not ASCII.
    pub fn issue_server(
        &self,
        names: &[String],
        ips: &[IpAddr],
        now: Timestamp,
    ) -> Result<Credential, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf(names.first().map_or("neuvector", String::as_str), now)?;
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(ips.iter().copied().map(SanType::IpAddress));
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key = Zeroizing::new(key.serialize_der());
        // The root goes along, so that a node that only knows its fingerprint can check the chain.
        Ok(Credential::new(key, vec![certificate, self.certificate.clone()], vec![self.certificate.clone()]))
    }

    /// The certificate chain of a node, leaf first. From the request only the key is taken; what name, usages or
    /// life it asks for does not count.
    ///
    /// # Errors
    /// [`PkiError::Request`] for a request that is malformed, or not signed by its own key.
    pub fn sign_request(
        &self,
        request: &[u8],
        node: &NodeId,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        self.sign(request, "neuvector node", node_uri(node), ENFORCER_NAME, now)
    }

    /// The certificate chain of a scanner, leaf first; as [`Self::sign_request`].
    ///
    /// # Errors
    /// [`PkiError::Request`] for a request that is malformed, or not signed by its own key.
    pub fn sign_scanner_request(
        &self,
        request: &[u8],
        scanner: &ScannerId,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        self.sign(request, "neuvector scanner", scanner_uri(scanner), SCANNER_NAME, now)
    }

    fn sign(
        &self,
        request: &[u8],
        common_name: &str,
        uri: String,
        name: &str,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let mut read =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
                .map_err(|error| PkiError::Request(error.to_string()))?;
        read.params = leaf(common_name, now)?;
        read.params.subject_alt_names =
            vec![SanType::URI(uri.try_into()?), SanType::DnsName(name.try_into()?)];
        let certificate = read.signed_by(&self.issuer)?.der().clone();
        Ok(vec![certificate, self.certificate.clone()])
    }
}

fn leaf(common_name: &str, now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "NeuVector");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    live(&mut params, now, LEAF_DAYS)?;
    Ok(params)
}

/// Sets begin, end and a random serial number.
fn live(params: &mut CertificateParams, now: Timestamp, days: u32) -> Result<(), PkiError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = Duration::from_secs(u64::try_from(now.seconds()).unwrap_or_default());
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now.saturating_add(DAY.saturating_mul(days));
    let mut serial = [0_u8; 16];
    getrandom::fill(&mut serial).map_err(|error| PkiError::Entropy(error.to_string()))?;
    // RFC 5280 §4.1.2.2: positive.
    serial[0] &= 0x7F;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(())
}
