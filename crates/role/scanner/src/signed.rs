//! Who signed an image of a registry: what lies there beside it, and whose signatures count.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use nv_layer::{Image, Manifest};
use nv_model::signature::{RootOfTrust, Verifier};
use nv_registry::{Digest, Reference, RegistryError, Repository};
use nv_signature::{BUNDLE, MAX_PAYLOAD, MAX_SIGNATURES, SIMPLE_SIGNING, Signature, Trust};
use serde::Deserialize;

use crate::error::ScannerError;
use crate::registry::{RegistryImages, parse_digest};
use crate::remark::Remarks;
use crate::report::SignatureFacts;

/// The root of keys that were given as files.
const KEYS: &str = "key";
/// Kinds of artefacts that are looked into for signatures begin so; the last is what some registries say of any.
const ARTIFACTS: [&str; 3] = [BUNDLE, "application/vnd.dev.cosign.", "application/vnd.oci.empty."];

/// Roots of trust in a file, in the contract's shape.
#[derive(Deserialize)]
struct Roots {
    roots_of_trust: Vec<RootOfTrust>,
}

/// A manifest, as far as signatures need it.
#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    layers: Vec<Layer>,
    subject: Option<Subject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Subject {
    digest: String,
}

/// Whose signatures count: public keys in files (PEM), each a verifier named `key/FILE`, and files of roots of trust, as
/// the REST API gives them. None where neither is given.
///
/// # Errors
/// [`ScannerError`] for a file that cannot be read; single verifiers that are not usable are remarked.
pub fn read_trust(
    keys: &[PathBuf],
    roots: &[PathBuf],
    remarks: &mut Remarks<'_>,
) -> Result<Option<Trust>, ScannerError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|source| ScannerError::Read { path: path.clone(), source });
    let mut all = Vec::new();
    if !keys.is_empty() {
        let mut verifiers = Vec::new();
        for path in keys {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let public_key = String::from_utf8_lossy(&read(path)?).into_owned();
            verifiers.push(Verifier { name, public_key, ..Verifier::default() });
        }
        let name = KEYS.to_owned();
        all.push(RootOfTrust { name, rootless_keypairs_only: true, verifiers, ..RootOfTrust::default() });
    }
    for path in roots {
        let parsed: Roots = serde_json::from_slice(&read(path)?)
            .map_err(|source| ScannerError::Trust { path: path.clone(), source })?;
        all.extend(parsed.roots_of_trust);
    }
    if all.is_empty() {
        return Ok(None);
    }
    let (trust, faults) = Trust::new(&all);
    for fault in faults {
        remarks.add(&fault);
    }
    Ok(Some(trust))
}

impl RegistryImages {
    /// Who signed an image: it itself, or the index that it was chosen from.
    ///
    /// # Errors
    /// [`ScannerError::Registry`] when the registry cannot be asked. Signatures that cannot be read are told as reasons.
    pub fn signed(&self, image: &Image, trust: &Trust, now: u64) -> Result<SignatureFacts, ScannerError> {
        let mut facts = SignatureFacts { judged: now, ..SignatureFacts::default() };
        let seconds = i64::try_from(now).unwrap_or(i64::MAX);
        let mut reasons = Vec::new();
        for digest in self.named(image)? {
            let (signatures, faults) = self.block_on(self.signatures(&digest))?;
            reasons.extend(faults);
            let verified = trust.verify(digest.as_str(), &signatures, seconds);
            facts.verifiers.extend(verified.verifiers);
            reasons.extend(verified.reasons);
            if signatures.is_empty() {
                reasons.push(format!("{digest} has no signature"));
            }
        }
        facts.verifiers.sort();
        facts.verifiers.dedup();
        reasons.retain(|reason| {
            let of = |verifier: &String| {
                reason.strip_prefix(verifier.as_str()).is_some_and(|rest| rest.starts_with(':'))
            };
            !facts.verifiers.iter().any(of)
        });
        facts.reasons = reasons;
        Ok(facts)
    }

    /// The image's digest, and that of the index under its name, where it is in there.
    fn named(&self, image: &Image) -> Result<Vec<Digest>, ScannerError> {
        let mut digests = vec![parse_digest(&image.digest)?];
        let found = self.block_on(self.registry().manifest(self.repository(), self.reference()))?;
        let inside = match Manifest::parse(found.digest.as_str(), &found.bytes) {
            Ok(Manifest::Index(images)) => images.iter().any(|one| one.digest == image.digest),
            Ok(_) | Err(_) => false,
        };
        if inside {
            digests.push(found.digest);
        }
        Ok(digests)
    }

    /// The signatures beside a manifest: under cosign's tag, and of what refers to it.
    async fn signatures(&self, of: &Digest) -> Result<(Vec<Signature>, Vec<String>), RegistryError> {
        let (registry, repository) = (self.registry(), self.repository());
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        let tag = Reference::Tag(format!("{}.sig", of.as_str().replacen(':', "-", 1)));
        match registry.manifest(repository, &tag).await {
            Ok(manifest) => self.read_beside(&manifest.bytes, None, &mut found, &mut faults).await?,
            Err(RegistryError::NotFound { .. }) => {}
            Err(other) => return Err(other),
        }
        for referrer in registry.referrers(repository, of).await? {
            let kind = &referrer.artifact_type;
            if !kind.is_empty() && !ARTIFACTS.iter().any(|known| kind.starts_with(known)) {
                continue;
            }
            if found.len() >= MAX_SIGNATURES {
                faults.push(format!("{of} has more than {MAX_SIGNATURES} signatures"));
                break;
            }
            match registry.manifest(repository, &Reference::Digest(referrer.digest.clone())).await {
                Ok(manifest) => {
                    self.read_beside(&manifest.bytes, Some(of), &mut found, &mut faults).await?;
                }
                Err(error) => faults.push(nv_telemetry::chain(&error)),
            }
        }
        Ok((found, faults))
    }

    /// The signatures in one manifest; one that refers to something must refer to this.
    async fn read_beside(
        &self,
        manifest: &[u8],
        of: Option<&Digest>,
        found: &mut Vec<Signature>,
        faults: &mut Vec<String>,
    ) -> Result<(), RegistryError> {
        let beside: Beside = match serde_json::from_slice(manifest) {
            Ok(beside) => beside,
            Err(error) => {
                faults.push(format!("what should have signatures cannot be read: {error}"));
                return Ok(());
            }
        };
        if of.is_some_and(|of| beside.subject.is_none_or(|subject| subject.digest != of.as_str())) {
            return Ok(());
        }
        for layer in beside.layers.iter().take(MAX_SIGNATURES.saturating_sub(found.len())) {
            let simple = layer.media_type == SIMPLE_SIGNING;
            if !simple && !layer.media_type.starts_with(BUNDLE) {
                continue;
            }
            let bytes = match self.payload(self.repository(), layer).await {
                Ok(bytes) => bytes,
                Err(why) => {
                    faults.push(why);
                    continue;
                }
            };
            let read = if simple {
                Signature::simple(&bytes, layer.annotations.as_ref().unwrap_or(&BTreeMap::new()))
            } else {
                Signature::bundle(&bytes)
            };
            match read {
                Ok(signature) => found.push(signature),
                Err(error) => faults.push(format!("{}: {error}", layer.digest)),
            }
        }
        Ok(())
    }

    async fn payload(&self, repository: &Repository, layer: &Layer) -> Result<Vec<u8>, String> {
        if layer.size > MAX_PAYLOAD {
            return Err(format!("{} is larger than a signature ({MAX_PAYLOAD} bytes)", layer.digest));
        }
        let digest: Digest =
            layer.digest.parse().map_err(|error: nv_registry::NameError| error.to_string())?;
        let whole = async {
            let mut blob = self.registry().blob(repository, &digest, layer.size).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = blob.next().await? {
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        };
        whole.await.map_err(|error: RegistryError| nv_telemetry::chain(&error))
    }
}
