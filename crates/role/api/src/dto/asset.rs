//! Vulnerabilities with what has them, and questions about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A version of a package that has a vulnerability, and the one that mends it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct VulnPackageVersion {
    /// What is installed.
    pub package_version: String,
    /// What to install; empty where none is known.
    pub fixed_version: String,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct WorkloadAsset {
    /// Its id.
    pub id: String,
    /// Its namespace.
    pub domain: String,
    /// Its name.
    pub display_name: String,
    /// Discover, Monitor or Protect.
    pub policy_mode: String,
    /// Its service.
    pub service: String,
    /// Its image.
    pub image: String,
}

/// A node, an image, or the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HostAsset {
    /// Its id.
    pub id: String,
    /// Its name.
    pub display_name: String,
    /// Discover, Monitor or Protect; empty for images and the platform.
    pub policy_mode: String,
}

/// A vulnerability with what has it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulnerabilityAssetV2 {
    /// Its id.
    pub name: String,
    /// Critical, High, Medium, Low or Unknown.
    pub severity: String,
    /// What it is.
    pub description: String,
    /// Packages that have it.
    pub packages: BTreeMap<String, Vec<VulnPackageVersion>>,
    /// Where more is said.
    pub link: String,
    /// CVSS 2 score.
    pub score: f64,
    /// CVSS 2 vector.
    pub vectors: String,
    /// CVSS 3 score.
    pub score_v3: f64,
    /// CVSS 3 vector.
    pub vectors_v3: String,
    /// In seconds since the epoch.
    pub published_timestamp: i64,
    /// In seconds since the epoch.
    pub last_modified_timestamp: i64,
    /// The feed's own word for the severity.
    pub feed_rating: String,
    /// Containers that have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<WorkloadAsset>,
    /// Nodes that have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<HostAsset>,
    /// Images of registries that have it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<HostAsset>,
    /// The platform, when it has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<HostAsset>,
}

/// A page of vulnerabilities.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulnerabilityAssetDataV2 {
    /// The page.
    pub vulnerabilities: Vec<VulnerabilityAssetV2>,
    /// How many there are for the quick filter.
    pub qf_matched_records: usize,
}

/// Which vulnerabilities are wanted. What is not given filters nothing.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct VulQueryFilter {
    /// `withFix`, `withoutFix`; else all.
    #[serde(rename = "packageType")]
    pub package_type: String,
    /// `critical`, `high`, `medium`, `low`; else all.
    #[serde(rename = "severityType")]
    pub severity_type: String,
    /// `v2` for the range of CVSS 2 scores, `v3` for that of CVSS 3.
    #[serde(rename = "scoreType")]
    pub score_type: String,
    /// `before`, `after`; else all.
    #[serde(rename = "publishedType")]
    pub published_type: String,
    /// The moment of that, in seconds since the epoch.
    #[serde(rename = "publishedTime")]
    pub published_time: i64,
    /// `containers`, `infrastructure` (nodes and the platform), `registry`; else all.
    #[serde(rename = "viewType")]
    pub view_type: String,
    /// Namespaces.
    #[serde(rename = "selectedDomains")]
    pub selected_domains: Vec<String>,
    /// A service's name, or a part of it.
    #[serde(rename = "serviceName")]
    pub service_name: String,
    /// An image's name, or a part of it.
    #[serde(rename = "imageName")]
    pub image_name: String,
    /// A node's name, or a part of it.
    #[serde(rename = "nodeName")]
    pub node_name: String,
    /// A container's name, or a part of it.
    #[serde(rename = "containerName")]
    pub container_name: String,
    /// `equals` for whole names of services.
    #[serde(rename = "matchTypeService")]
    pub match_type_service: String,
    /// `equals` for whole names of images.
    #[serde(rename = "matchTypeImage")]
    pub match_type_image: String,
    /// `equals` for whole names of nodes.
    #[serde(rename = "matchTypeNode")]
    pub match_type_node: String,
    /// `equals` for whole names of containers.
    #[serde(rename = "matchTypeContainer")]
    pub match_type_container: String,
    /// Range of CVSS 2 scores.
    #[serde(rename = "scoreV2")]
    pub score_v2: Vec<f64>,
    /// Range of CVSS 3 scores.
    #[serde(rename = "scoreV3")]
    pub score_v3: Vec<f64>,
    /// Not changed since then, in seconds since the epoch: left out.
    #[serde(rename = "lastModifiedTime", alias = "last_modified_timestamp")]
    pub last_modified_time: i64,
    /// A part of a vulnerability's id.
    #[serde(rename = "quickFilter")]
    pub quick_filter: String,
    /// `name`, `score`, `score_v3`, `published_timestamp`; else by severity.
    #[serde(rename = "orderbyColumn")]
    pub orderby_column: String,
    /// `desc` or `asc`.
    pub orderby: String,
}

/// What a query found.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulQueryStats {
    /// Vulnerabilities of all that the caller sees.
    pub total_records: usize,
    /// Those that are wanted.
    pub total_matched_records: usize,
    /// To be given when pages are asked for.
    pub query_id: String,
    /// `ready`.
    pub status: String,
    /// How many of each severity.
    pub summary: VulAssetSummary,
}

/// How many of each severity.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulAssetSummary {
    /// By severity.
    pub count_distribution: VulAssetCount,
    /// The five images with most vulnerabilities, whatever was asked for.
    pub top_images: Vec<AssetCveCount>,
    /// The five nodes with most vulnerabilities, whatever was asked for.
    pub top_nodes: Vec<AssetCveCount>,
}

/// How many vulnerabilities something has.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = AssetCVECount)]
pub struct AssetCveCount {
    /// Its id.
    pub id: String,
    /// Its name.
    pub display_name: String,
    /// Critical ones.
    pub critical: u32,
    /// High ones.
    pub high: u32,
    /// Medium ones.
    pub medium: u32,
    /// Low ones.
    pub low: u32,
}

/// How many of each severity.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct VulAssetCount {
    /// Critical ones.
    pub critical: usize,
    /// High ones.
    pub high: usize,
    /// Medium ones.
    pub medium: usize,
    /// Low ones.
    pub low: usize,
    /// Containers that have one.
    pub container: usize,
    /// Nodes that have one.
    pub node: usize,
    /// Images that have one.
    pub image: usize,
    /// 1 when the platform has one.
    pub platform: usize,
}

/// A vulnerability with the ids of what has it.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulnerabilityAsset {
    /// The vulnerability.
    #[serde(flatten)]
    pub vulnerability: VulnerabilityAssetV2,
    /// Containers that have it.
    pub workloads: Vec<String>,
    /// Nodes that have it.
    pub nodes: Vec<String>,
    /// Images that have it.
    pub images: Vec<String>,
    /// Platforms that have it.
    pub platforms: Vec<String>,
}

/// A name to an id.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = IDName)]
pub struct IdName {
    /// The id.
    pub id: String,
    /// The name.
    pub display_name: String,
    /// Discover, Monitor or Protect.
    pub policy_mode: String,
    /// Namespaces.
    pub domains: Vec<String>,
}

/// All vulnerabilities, and names to the ids of what has them.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct VulnerabilityAssetData {
    /// The vulnerabilities.
    pub vulnerabilities: Vec<VulnerabilityAsset>,
    /// Names of containers.
    pub workloads: BTreeMap<String, Vec<IdName>>,
    /// Names of nodes.
    pub nodes: BTreeMap<String, Vec<IdName>>,
    /// Names of images.
    pub images: BTreeMap<String, Vec<IdName>>,
    /// Names of platforms.
    pub platforms: BTreeMap<String, Vec<IdName>>,
}
