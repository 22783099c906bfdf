//! Certificates that live for minutes: who is in them, and who vouches for that (Fulcio; RFC 5280 §6 as far as such chains
//! need it).

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::der;
use crate::error::SignatureError;
use crate::key::PublicKey;

/// Most certificates of one text or signature.
const MAX_CERTIFICATES: usize = 32;
/// Longest chain above a signer's certificate.
const MAX_CHAIN: usize = 4;
/// Issuer of the signer's identity, as bare text, and as a string of DER (Fulcio's extensions).
const ISSUER: [&str; 2] = ["1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1"];
/// A user's name (Fulcio's othername).
const USER_NAME: &str = "1.3.6.1.4.1.57264.1.7";

/// The certificates of a text in PEM, at least one.
pub(crate) fn certificates_of(pem: &str) -> Result<Vec<Vec<u8>>, SignatureError> {
    let wrong = |why: &str| SignatureError::Certificate(why.to_owned());
    let read: Result<Vec<Vec<u8>>, _> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .take(MAX_CERTIFICATES)
        .map(|one| one.map(|der| der.to_vec()))
        .collect();
    let found = read.map_err(|error| wrong(&error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is none"));
    }
    match found.iter().all(|one| parse(one).is_some()) {
        true => Ok(found),
        false => Err(wrong("one of them is no X.509 certificate")),
    }
}

fn parse(certificate: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(certificate).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, read)| read)
}

fn valid(certificate: &X509Certificate<'_>, at: i64) -> bool {
    let validity = certificate.validity();
    (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&at)
}

fn self_signed(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Signing code.
    Code,
    /// Telling the time.
    Time,
}

/// Authorities that a root of trust has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorities {
    roots: Vec<Vec<u8>>,
    intermediates: Vec<Vec<u8>>,
}

impl Authorities {
    pub(crate) fn of(certificates: Vec<Vec<u8>>) -> Self {
        let is_root = |one: &Vec<u8>| parse(one).is_some_and(|read| self_signed(&read));
        let (roots, intermediates) = certificates.into_iter().partition(is_root);
        Self { roots, intermediates }
    }

    /// Certificates between roots and signers, and signers that are known beforehand.
    pub(crate) fn intermediates(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.intermediates.iter()
    }

    /// The key of whoever issued a signer's certificate, when a chain of authorities leads from it to a root and all
    /// were valid then. `brought` are certificates that came with the signature.
    pub(crate) fn issuer_key(
        &self,
        leaf: &[u8],
        brought: &[Vec<u8>],
        at: i64,
        purpose: Purpose,
    ) -> Result<PublicKey, SignatureError> {
        let chain = |why| SignatureError::Chain(why);
        let read = parse(leaf).ok_or(chain("it is no X.509 certificate"))?;
        if !valid(&read, at) {
            return Err(chain("it was not valid when it was used"));
        }
        let usage = read.extended_key_usage().ok().flatten();
        let fits = usage.is_some_and(|usage| match purpose {
            Purpose::Code => usage.value.code_signing,
            Purpose::Time => usage.value.time_stamping,
        });
        match (fits, purpose) {
            (true, _) => {}
            (false, Purpose::Code) => return Err(chain("it is not for signing code")),
            (false, Purpose::Time) => return Err(chain("it is not for telling the time")),
        }
        if read.is_ca() {
            return Err(chain("it is one of an authority"));
        }
        let mut between = Vec::new();
        for one in self.intermediates.iter().chain(brought.iter().take(MAX_CERTIFICATES)) {
            between.extend(parse(one));
        }
        let roots: Vec<X509Certificate<'_>> = self.roots.iter().filter_map(|one| parse(one)).collect();
        let found = issuer(&read, &between, &roots, at, 0);
        found.ok_or(chain("no chain of valid authorities leads from it to this root"))
    }
}

/// The key that signed a certificate, of an authority from which a chain leads to a root.
fn issuer(
    of: &X509Certificate<'_>,
    between: &[X509Certificate<'_>],
    roots: &[X509Certificate<'_>],
    at: i64,
    depth: usize,
) -> Option<PublicKey> {
    let signed_by = |authority: &X509Certificate<'_>| {
        let may_sign = authority.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        let length = authority.basic_constraints().ok().flatten()?;
        // How many authorities may stand below it; the signer's own certificate does not count.
        let short = length
            .value
            .path_len_constraint
            .is_none_or(|most| usize::try_from(most).is_ok_and(|most| depth <= most));
        let fits = length.value.ca && may_sign && short && valid(authority, at);
        let key = PublicKey::of_info(authority.public_key().raw)?;
        let way = of.signature_algorithm.algorithm.to_id_string();
        let named = authority.subject().as_raw() == of.issuer().as_raw();
        let body: &[u8] = of.tbs_certificate.as_ref();
        (fits && named && key.signed_certificate(&way, body, &of.signature_value.data)).then_some(key)
    };
    if let Some(key) = roots.iter().find_map(signed_by) {
        return Some(key);
    }
    if depth >= MAX_CHAIN {
        return None;
    }
    between.iter().find_map(|authority| {
        let key = signed_by(authority)?;
        issuer(authority, between, roots, at, depth + 1).map(|_root| key)
    })
}

/// Who is in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Mail addresses, URIs and names.
    pub(crate) subjects: Vec<String>,
    /// Who vouches for them.
    pub(crate) issuer: String,
}

/// Who is in a certificate; nobody where it cannot be read.
pub(crate) fn identity(certificate: &[u8]) -> Identity {
    let Some(read) = parse(certificate) else { return Identity::default() };
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.map(|found| found.value.general_names.as_slice()).unwrap_or_default();
    let subjects = names.iter().filter_map(|name| match name {
        GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::OtherName(kind, value) if kind.to_id_string() == USER_NAME => string(value),
        _ => None,
    });
    let value = |wanted: &str| {
        let found = read.extensions().iter().find(|extension| extension.oid.to_id_string() == wanted)?;
        if wanted == ISSUER[0] { string(found.value) } else { String::from_utf8(found.value.to_vec()).ok() }
    };
    let issuer = ISSUER.iter().find_map(|wanted| value(wanted)).unwrap_or_default();
    Identity { subjects: subjects.collect(), issuer }
}

/// A string of DER, also inside of the tag that other names are given.
fn string(bytes: &[u8]) -> Option<String> {
    let (mut found, _) = der::element(bytes)?;
    if found.tag & 0xE0 == 0xA0 {
        (found, _) = der::element(found.content)?;
    }
    String::from_utf8(found.content.to_vec()).ok()
}

/// The key in a certificate.
pub(crate) fn key(certificate: &[u8]) -> Option<PublicKey> {
    PublicKey::of_info(parse(certificate)?.public_key().raw)
}
