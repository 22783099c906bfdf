//! Scans: what is looked at, for whom, and how soon.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{NodeId, WorkloadId};
use crate::scan_report::ScanReport;
use crate::signature::RootOfTrust;
use crate::time::Timestamp;

/// Number of a scan of one controller, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ScanTaskId(pub u64);

impl fmt::Display for ScanTaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of something that is kept as a whole and never changed: a report, an inventory, a database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// By its bytes.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BlobId {
    type Err = BlobIdError;
    fn from_str(raw: &str) -> Result<Self, BlobIdError> {
        let digits = raw.as_bytes();
        let mut sha256 = [0_u8; 32];
        if digits.len() != sha256.len() * 2 {
            return Err(BlobIdError);
        }
        for (byte, pair) in sha256.iter_mut().zip(digits.chunks_exact(2)) {
            let text = std::str::from_utf8(pair).map_err(|_no_text| BlobIdError)?;
            // One spelling alone: from_str_radix would take a sign and capitals too.
            if !text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(BlobIdError);
            }
            *byte = u8::from_str_radix(text, 16).map_err(|_no_number| BlobIdError)?;
        }
        Ok(Self(sha256))
    }
}

/// A text is no [`BlobId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hexadecimal digits in small letters")]
pub struct BlobIdError;

impl TryFrom<String> for BlobId {
    type Error = BlobIdError;
    fn try_from(raw: String) -> Result<Self, BlobIdError> {
        raw.parse()
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.to_string()
    }
}

/// What a report is about. There is one newest report a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanSubject {
    /// One container, as it is now.
    Workload(WorkloadId),
    /// The root file system of a node.
    Node(NodeId),
    /// An image that containers run of, by the digest of its configuration.
    RunningImage(String),
    /// An image of a registry that is configured here.
    RegistryImage {
        /// The registry's name here.
        registry: String,
        /// Digest of the image's configuration, without `sha256:`.
        image: String,
    },
    /// What orchestrates the containers: the components of Kubernetes.
    Platform,
    /// An image that somebody asked for by its place, for instance a build.
    Repository {
        /// Address of the registry.
        registry: String,
        /// Its repository.
        repository: String,
        /// Tag or digest.
        reference: String,
    },
}

impl fmt::Display for ScanSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(id) => write!(f, "container {id}"),
            Self::Node(id) => write!(f, "node {id}"),
            Self::RunningImage(id) => write!(f, "image {id}"),
            Self::RegistryImage { registry, image } => write!(f, "image {image} of registry {registry}"),
            Self::Platform => f.write_str("the platform"),
            Self::Repository { registry, repository, reference } => {
                write!(f, "{registry}/{repository}:{reference}")
            }
        }
    }
}

/// How soon a scan is due: every scan of a level is begun before one of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanPriority {
    /// Somebody waits for it, or what runs became vulnerable by a newer database.
    OnDemand,
    /// Something that runs.
    Automatic,
    /// An image of a registry, or one whose report is only older than the database.
    Registry,
}

impl ScanPriority {
    /// The most urgent first.
    pub const ALL: [Self; 3] = [Self::OnDemand, Self::Automatic, Self::Registry];
}

/// How a registry is reached. `Debug` shows neither passwords nor tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RegistryAccess {
    /// `https://registry.example:5000/`; empty for a runtime of the scanner's machine.
    pub url: String,
    /// User name; empty for none.
    pub username: String,
    /// Password, a secret; empty for none.
    pub password: String,
    /// Token in the place of a user's name and password, a secret; empty for none.
    pub token: String,
    /// Authorities to trust besides the usual ones, DER.
    pub roots: Vec<Vec<u8>>,
    /// Take any certificate.
    pub accept_any_certificate: bool,
    /// Address of the proxy; empty for none.
    pub proxy: String,
    /// The proxy's user; empty for none.
    pub proxy_username: String,
    /// The proxy's password, a secret.
    pub proxy_password: String,
}

impl fmt::Debug for RegistryAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAccess")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

/// An image of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryImage {
    /// How the registry is reached.
    pub access: RegistryAccess,
    /// Its repository.
    pub repository: String,
    /// Tag, or digest as `sha256:…`.
    pub reference: String,
    /// Findings of each layer too.
    pub layers: bool,
    /// `repository:tag` in the same registry whose findings are marked as those of the base image; empty for none.
    pub base_image: String,
    /// Whose signatures are looked for; empty for nobody's.
    pub roots_of_trust: Vec<RootOfTrust>,
}

/// Where a scan gets what it looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanSource {
    /// A scanner pulls the image.
    Image(Box<RegistryImage>),
    /// The enforcer of its node lists what is installed in the container.
    Workload(WorkloadId),
    /// The enforcer lists what is installed on its node.
    Node(NodeId),
    /// What an earlier scan has listed: nothing is pulled or read again.
    Inventory(BlobId),
}

/// A scan that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// Whose report it makes.
    pub subject: ScanSubject,
    /// Where from.
    pub source: ScanSource,
    /// How soon.
    pub priority: ScanPriority,
}

/// Where a subject's scan is. The words are the contract's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanState {
    /// It was never scanned.
    #[default]
    Idle,
    /// It waits.
    Scheduled,
    /// A scanner is at it.
    Scanning,
    /// There is a report.
    Finished,
    /// The last scan gave none.
    Failed,
}

impl ScanState {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "",
            Self::Scheduled => "scheduled",
            Self::Scanning => "scanning",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// What came of a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Scanned {
    /// What was found.
    pub report: ScanReport,
    /// When.
    pub at: Timestamp,
}

/// Why a scan gave no report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ScanFailure {
    /// The reason as a sentence.
    pub message: String,
    /// Whether trying again may help: a network that failed, and not an image that is none.
    pub retry: bool,
}

/// What a scanner keeps of layers, so that none is pulled twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerCacheFacts {
    /// How many records.
    pub count: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Layers that were found in it, since the scanner's start.
    pub hits: u64,
    /// Layers that were not.
    pub misses: u64,
    /// The records, where they were asked for.
    pub records: Vec<LayerCacheRecord>,
}

/// What is kept of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerCacheRecord {
    /// The layer's digest.
    pub layer: String,
    /// Bytes of the record.
    pub bytes: u64,
    /// How often it was used, since the scanner's start.
    pub references: u32,
    /// When it was made or last used.
    pub last_used: Timestamp,
}

/// A vulnerability database, as whoever has it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseInfo {
    /// Version in thousandths: 4196 is 4.196.
    pub version: u32,
    /// When it was built.
    pub created: Timestamp,
    /// Hash of its content, in hexadecimal.
    pub content: String,
}

impl DatabaseInfo {
    /// As the contract writes it, `4.196`; empty where there is none.
    #[must_use]
    pub fn shown_version(&self) -> String {
        if self.content.is_empty() {
            return String::new();
        }
        format!("{}.{:03}", self.version / 1000, self.version % 1000)
    }
    /// When it was built, as RFC 3339; empty where there is none.
    #[must_use]
    pub fn shown_created(&self) -> String {
        if self.content.is_empty() { String::new() } else { self.created.rfc3339() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blobs_name_has_one_spelling() {
        let id = BlobId::of(b"report");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "00", &"+1".repeat(32), &id.to_string().to_uppercase(), &format!("{id}0")] {
            assert_eq!(wrong.parse::<BlobId>(), Err(BlobIdError), "{wrong}");
        }
    }

    #[test]
    fn how_a_registry_is_reached_shows_no_secret() {
        let access = RegistryAccess {
            username: "ci".to_owned(),
            password: "hunter2".to_owned(),
            token: "hunter3".to_owned(),
            proxy_password: "hunter4".to_owned(),
            ..RegistryAccess::default()
        };
        let shown = format!("{access:?}");
        assert!(shown.contains("ci") && !shown.contains("hunter"), "{shown}");
    }
}
