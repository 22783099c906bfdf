//! Rule sets in ModSecurity's language, as the files that somebody handed in: one blob, known by the digest of its bytes.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::scan::BlobId;

/// Most bytes of a blob, which is compressed: the OWASP Core Rule Set 4 takes 200 KiB.
pub const MAX_RULE_SET_BYTES: usize = 1 << 20;
/// Most rule sets of a cluster.
pub const MAX_RULE_SETS: usize = 16;

/// The files of a rule set in one piece that never changes; copies share it. Two are the same when their bytes are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RuleSetBlob {
    id: BlobId,
    bytes: Arc<[u8]>,
}

/// Why bytes are no [`RuleSetBlob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleSetBlobError {
    /// There are too many of them.
    #[error("a rule set has {bytes} bytes compressed, {MAX_RULE_SET_BYTES} at most are taken")]
    Size {
        /// How many there are.
        bytes: usize,
    },
    /// A text is not base64.
    #[error("a rule set is not in base64")]
    Text,
}

impl RuleSetBlob {
    /// Of these bytes.
    ///
    /// # Errors
    /// When there are more than [`MAX_RULE_SET_BYTES`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, RuleSetBlobError> {
        if bytes.len() > MAX_RULE_SET_BYTES {
            return Err(RuleSetBlobError::Size { bytes: bytes.len() });
        }
        Ok(Self { id: BlobId::of(&bytes), bytes: bytes.into() })
    }
    /// What it is known by.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.id
    }
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl PartialEq for RuleSetBlob {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for RuleSetBlob {}

impl fmt::Debug for RuleSetBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuleSetBlob({}, {} bytes)", self.id, self.bytes.len())
    }
}

impl TryFrom<String> for RuleSetBlob {
    type Error = RuleSetBlobError;
    fn try_from(raw: String) -> Result<Self, RuleSetBlobError> {
        Self::new(STANDARD.decode(raw).map_err(|_error| RuleSetBlobError::Text)?)
    }
}

impl From<RuleSetBlob> for String {
    fn from(blob: RuleSetBlob) -> Self {
        STANDARD.encode(blob.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_is_read_back_as_it_was_and_none_is_larger_than_is_taken() {
        let blob = RuleSetBlob::new(b"SecRuleEngine On".to_vec()).unwrap();
        let text = serde_json::to_string(&blob).unwrap();
        assert_eq!(serde_json::from_str::<RuleSetBlob>(&text).unwrap(), blob);
        assert_eq!(blob.id(), BlobId::of(b"SecRuleEngine On"));
        let bytes = MAX_RULE_SET_BYTES + 1;
        assert_eq!(RuleSetBlob::new(vec![0; bytes]), Err(RuleSetBlobError::Size { bytes }));
        assert!(serde_json::from_str::<RuleSetBlob>("\"?\"").is_err());
    }
}
