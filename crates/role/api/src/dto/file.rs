//! File monitor profiles.

use nv_model::file::FileRule;
use nv_model::question::WatchedFile;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// A line of a file profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FileMonitorFilter {
    /// Path with `*` inside of components.
    pub filter: String,
    /// Everything below a matching folder too.
    pub recursive: bool,
    /// `monitor_change` or `block_access`.
    pub behavior: String,
    /// Executables that may, for `block_access`.
    pub applications: Vec<String>,
    /// Owner; `system_defined` for the built-in watch list.
    pub cfg_type: String,
    /// Group that it comes from, in a workload's profile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// When it was made, in seconds.
    pub created_timestamp: i64,
    /// When it was last changed, in seconds.
    pub last_modified_timestamp: i64,
}

impl FileMonitorFilter {
    /// A line; `group` only where several groups' lines stand together.
    #[must_use]
    pub fn of(rule: &FileRule, group: &str) -> Self {
        Self {
            filter: rule.filter.to_string(),
            recursive: rule.recursive,
            behavior: rule.behavior.as_str().to_owned(),
            applications: rule.applications.clone(),
            cfg_type: rule.origin.as_str().to_owned(),
            group: group.to_owned(),
            created_timestamp: rule.created.seconds(),
            last_modified_timestamp: rule.modified.seconds(),
        }
    }
}

/// A file profile.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct FileMonitorProfile {
    /// Whose.
    pub group: String,
    /// The lines.
    pub filters: Vec<FileMonitorFilter>,
}
impl Named for FileMonitorProfile {
    const ONE: &'static str = "profile";
    const MANY: &'static str = "profiles";
}

/// A line as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct FileMonitorFilterConfig {
    /// Path with `*` inside of components.
    #[serde(default)]
    pub filter: String,
    /// Everything below a matching folder too.
    #[serde(default)]
    pub recursive: bool,
    /// `monitor_change` or `block_access`.
    #[serde(default)]
    pub behavior: String,
    /// Executables that may, for `block_access`.
    #[serde(default)]
    pub applications: Vec<String>,
    /// Whose; the profile's own is taken.
    #[serde(default)]
    pub group: String,
}

/// Changes to a file profile.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct FileMonitorConfig {
    /// New lines.
    #[serde(default)]
    pub add_filters: Option<Vec<FileMonitorFilterConfig>>,
    /// Lines that go, by filter.
    #[serde(default)]
    pub delete_filters: Option<Vec<FileMonitorFilterConfig>>,
    /// Another content for lines that are there, by filter.
    #[serde(default)]
    pub update_filters: Option<Vec<FileMonitorFilterConfig>>,
}

/// Changes to a file profile.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct FileMonitorConfigData {
    /// The changes.
    #[serde(default)]
    pub config: Option<FileMonitorConfig>,
}

/// A file or folder that a node watches.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct FileMonitorFile {
    /// As the workload sees it.
    pub path: String,
    /// What is told of it, and asked before it is opened, in the bits of fanotify(7).
    pub mask: u64,
    /// It is a folder.
    pub is_dir: bool,
    /// Only named programs may open it.
    pub protect: bool,
    /// Of a folder: names in it that are meant; empty where all are.
    pub files: Vec<String>,
    /// Whose; empty for the host's; ours, beside the contract.
    pub workload_id: String,
}
impl Named for FileMonitorFile {
    const ONE: &'static str = "file";
    const MANY: &'static str = "files";
}

impl From<WatchedFile> for FileMonitorFile {
    fn from(watched: WatchedFile) -> Self {
        Self {
            path: watched.path,
            mask: watched.mask,
            is_dir: watched.is_dir,
            protect: watched.protect,
            files: watched.names,
            workload_id: watched.workload.map(String::from).unwrap_or_default(),
        }
    }
}
