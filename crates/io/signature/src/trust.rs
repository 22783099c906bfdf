//! Roots of trust and verifiers, ready to judge.

use nv_model::signature::{MAX_ROOTS, MAX_VERIFIERS, RootOfTrust, Verifier, VerifierType};

use crate::certificate::{Authorities, Purpose, certificates_of, identity, key};
use crate::entry::{self, Signer};
use crate::error::SignatureError;
use crate::key::PublicKey;
use crate::sct;
use crate::signature::{MAX_SIGNATURES, Signature};
use crate::time_stamp;

/// Keys and certificates of Sigstore's public instance, as its root of trust names them (version 14 of its TUF
/// repository, 2026).
mod public_good {
    pub(super) const REKOR: &str = include_str!("public_good/rekor.pem");
    pub(super) const FULCIO: &str = include_str!("public_good/fulcio.pem");
    pub(super) const TSA: &str = include_str!("public_good/tsa.pem");
    pub(super) const CTFE: &str = include_str!("public_good/ctfe.pem");
}

/// All roots of trust, parsed once.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    roots: Vec<Root>,
}

#[derive(Clone, Debug)]
struct Root {
    name: String,
    /// `None` wants no log.
    rekor: Option<Vec<PublicKey>>,
    authorities: Authorities,
    /// Who tells the time.
    clocks: Authorities,
    keyless: bool,
    /// `None` wants no proof of a certificate's log.
    sct: Option<Vec<PublicKey>>,
    verifiers: Vec<ParsedVerifier>,
}

#[derive(Clone, Debug)]
struct ParsedVerifier {
    name: String,
    who: Who,
}

#[derive(Clone, Debug)]
enum Who {
    Keys(Vec<PublicKey>),
    Identity { issuer: String, subject: String },
}

/// Whose signatures an image has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// `root/verifier`, sorted.
    pub verifiers: Vec<String>,
    /// Of each other verifier, why each signature does not count for it: `root/verifier: signature 1: …`.
    pub reasons: Vec<String>,
}

impl Trust {
    /// Parses what is configured. What is not usable is told with its name and left out, so that one bad verifier
    /// hides no other.
    #[must_use]
    pub fn new(roots: &[RootOfTrust]) -> (Self, Vec<String>) {
        let mut faults = Vec::new();
        let mut parsed = Vec::new();
        for root in roots.iter().take(MAX_ROOTS) {
            match Root::new(root, &mut faults) {
                Ok(root) => parsed.push(root),
                Err(error) => faults.push(format!("{}: {error}", root.name)),
            }
        }
        (Self { roots: parsed }, faults)
    }

    /// Whether there is anybody whose signature counts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.iter().all(|root| root.verifiers.is_empty())
    }

    /// Who signed the image of this digest (`sha256:…`). `now` in seconds since 1970 judges certificates of signatures
    /// for which no log vouches when they were made.
    #[must_use]
    pub fn verify(&self, image: &str, signatures: &[Signature], now: i64) -> Verified {
        let mut verified = Verified::default();
        for root in &self.roots {
            for verifier in &root.verifiers {
                let name = format!("{}/{}", root.name, verifier.name);
                let mut reasons = Vec::new();
                let by_one = signatures.iter().take(MAX_SIGNATURES).enumerate().any(|(place, signature)| {
                    match root.judge(verifier, image, signature, now) {
                        Ok(()) => true,
                        Err(error) => {
                            reasons.push(format!("{name}: signature {}: {error}", place + 1));
                            false
                        }
                    }
                });
                if by_one {
                    verified.verifiers.push(name);
                } else {
                    verified.reasons.extend(reasons);
                }
            }
        }
        verified.verifiers.sort();
        verified
    }
}

impl Root {
    fn new(root: &RootOfTrust, faults: &mut Vec<String>) -> Result<Self, SignatureError> {
        let public = root.is_public();
        let own = |text: &str, of_public: &str| match (public, text.is_empty()) {
            (true, _) => PublicKey::all_of(of_public).map(Some),
            (false, true) => Ok(None),
            (false, false) => PublicKey::all_of(text).map(Some),
        };
        let certificates = if public { public_good::FULCIO } else { root.root_cert.as_str() };
        let authorities = if certificates.is_empty() || root.rootless_keypairs_only {
            Authorities::default()
        } else {
            Authorities::of(certificates_of(certificates)?)
        };
        // A private root names the authorities of both among its certificates; what each is for stands in a signer's own.
        let clocks =
            if public { Authorities::of(certificates_of(public_good::TSA)?) } else { authorities.clone() };
        let keyless = !root.rootless_keypairs_only && !certificates.is_empty();
        let (rekor, sct) = if root.rootless_keypairs_only {
            (None, None)
        } else {
            (own(&root.rekor_public_key, public_good::REKOR)?, own(&root.sct_public_key, public_good::CTFE)?)
        };
        let mut verifiers = Vec::new();
        for verifier in root.verifiers.iter().take(MAX_VERIFIERS) {
            match ParsedVerifier::new(verifier) {
                Ok(parsed) => verifiers.push(parsed),
                Err(error) => faults.push(format!("{}/{}: {error}", root.name, verifier.name)),
            }
        }
        Ok(Self { name: root.name.clone(), rekor, authorities, clocks, keyless, sct, verifiers })
    }

    fn judge(
        &self,
        verifier: &ParsedVerifier,
        image: &str,
        signature: &Signature,
        now: i64,
    ) -> Result<(), SignatureError> {
        match &verifier.who {
            Who::Keys(keys) => {
                let mut last = Err(SignatureError::NotByKey);
                for key in keys {
                    last = self.signed_by(key, None, signature).map(drop);
                    if last.is_ok() {
                        break;
                    }
                }
                last?;
            }
            Who::Identity { issuer, subject } => self.signed_by_identity(issuer, subject, signature, now)?,
        }
        signature.claim.speaks_of(image)
    }

    /// Which of the signatures a key made, where the log has it if the root wants that. The time of it, where a log vouches
    /// for that.
    fn signed_by<'a>(
        &self,
        key: &PublicKey,
        certificate: Option<&[u8]>,
        signature: &'a Signature,
    ) -> Result<(&'a [u8], Option<i64>), SignatureError> {
        let message = signature.claim.signed_bytes();
        let by_key = signature.signatures.iter().find(|one| key.signed(&message, one));
        let by_key = by_key.ok_or(SignatureError::NotByKey)?;
        let Some(logs) = &self.rekor else { return Ok((by_key, None)) };
        let signer = Signer { key: key.info(), certificate };
        let mut last = Err(SignatureError::NoLog("it brings no entry"));
        for one in &signature.entries {
            last = entry::is_of(&one.body, &signature.claim, by_key, &signer).and_then(|()| one.proved(logs));
            if last.is_ok() {
                break;
            }
        }
        last.map(|time| (by_key.as_slice(), time))
    }

    fn signed_by_identity(
        &self,
        issuer: &str,
        subject: &str,
        signature: &Signature,
        now: i64,
    ) -> Result<(), SignatureError> {
        if !self.keyless {
            return Err(SignatureError::Root(
                "it has no certificates, and so none of its verifiers is keyless",
            ));
        }
        let certificate = signature.certificate.as_deref().ok_or(SignatureError::NoCertificate)?;
        let own = key(certificate).ok_or(SignatureError::Key)?;
        let (by_key, logged) = self.signed_by(&own, Some(certificate), signature)?;
        let mut times: Vec<i64> = logged.into_iter().collect();
        let mut why = SignatureError::NoLog("its entry does not prove when it was made");
        for stamp in &signature.time_stamps {
            match time_stamp::time_of(stamp, by_key, &self.clocks) {
                Ok(time) => times.push(time),
                Err(error) => why = error,
            }
        }
        // Certificates end after minutes: without a word on the time there must be one that is valid now.
        match (&self.rekor, times.is_empty()) {
            (Some(_), true) => return Err(why),
            (None, true) => times.push(now),
            (_, false) => {}
        }
        // Whoever vouches for a time may not contradict another.
        let issued =
            |at: &i64| self.authorities.issuer_key(certificate, &signature.chain, *at, Purpose::Code);
        let issuers: Vec<PublicKey> = times.iter().map(issued).collect::<Result<_, _>>()?;
        let authority = issuers.into_iter().next().ok_or(SignatureError::NoCertificate)?;
        if let Some(logs) = &self.sct {
            sct::in_log(certificate, &authority, logs)?;
        }
        let found = identity(certificate);
        if found.issuer == issuer && found.subjects.iter().any(|one| one == subject) {
            return Ok(());
        }
        Err(SignatureError::Identity { subject: found.subjects.join(", "), issuer: found.issuer })
    }
}

impl ParsedVerifier {
    fn new(verifier: &Verifier) -> Result<Self, SignatureError> {
        let who = match verifier.verifier_type {
            VerifierType::Keypair => Who::Keys(PublicKey::all_of(&verifier.public_key)?),
            VerifierType::Keyless if verifier.cert_issuer.is_empty() || verifier.cert_subject.is_empty() => {
                return Err(SignatureError::Root("a keyless verifier needs an issuer and a subject"));
            }
            VerifierType::Keyless => {
                Who::Identity { issuer: verifier.cert_issuer.clone(), subject: verifier.cert_subject.clone() }
            }
        };
        Ok(Self { name: verifier.name.clone(), who })
    }
}
