//! What refers to a manifest: signatures, attestations (distribution specification 1.1, "Listing Referrers").

use serde::Deserialize;

use crate::error::RegistryError;
use crate::name::{Digest, Reference, Repository};
use crate::request::{Ask, MAX_MANIFEST, Registry, pull};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Most referrers of one manifest that are told; there may be more.
const MAX_REFERRERS: usize = 256;

/// A manifest that refers to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its own name.
    pub digest: Digest,
    /// What it is, as the registry says; some registries say the kind of its configuration.
    pub artifact_type: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    artifact_type: String,
}

impl Registry {
    /// What refers to a manifest, by the registry's own list, or, where it keeps none, by the tag that clients keep in its
    /// place. Names that are no digests are left out.
    ///
    /// # Errors
    /// [`RegistryError`] says what is in the way; that there is nothing is no error.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let what = format!("what refers to {digest} of {repository}");
        let path = format!("v2/{repository}/referrers/{digest}");
        let ask: Ask = self.ask(&path, INDEX, pull(repository), what.clone())?;
        let bytes = match self.get(&ask).await {
            Ok(answer) => self.read(answer, MAX_MANIFEST, &what).await?,
            // Registries of before 1.1 know no such path.
            Err(RegistryError::NotFound { .. } | RegistryError::Refused { status: 400 | 405 | 501, .. }) => {
                let tag = Reference::Tag(digest.as_str().replacen(':', "-", 1));
                match self.manifest(repository, &tag).await {
                    Ok(index) => index.bytes,
                    Err(RegistryError::NotFound { .. }) => return Ok(Vec::new()),
                    Err(other) => return Err(other),
                }
            }
            Err(other) => return Err(other),
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| RegistryError::Malformed {
            host: self.host().to_owned(),
            what: "a list of referrers",
            reason: error.to_string(),
        })?;
        let found = index.manifests.unwrap_or_default().into_iter().take(MAX_REFERRERS);
        Ok(found
            .filter_map(|one| {
                Some(Referrer { digest: one.digest.parse().ok()?, artifact_type: one.artifact_type })
            })
            .collect())
    }
}
