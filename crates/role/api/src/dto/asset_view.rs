//! Things with the vulnerabilities that they have, and images of registries.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::asset::{AssetCveCount, VulQueryStats, VulnerabilityAssetV2};

/// How many vulnerabilities something has, what is accepted left out.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct Counts {
    /// Critical ones.
    pub critical: u32,
    /// High ones.
    pub high: u32,
    /// Medium ones.
    pub medium: u32,
    /// Low ones.
    pub low: u32,
}

/// A container.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct WorkloadAssetView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub domain: String,
    /// Its image.
    pub image: String,
    /// Applications that it was seen to serve.
    pub applications: Vec<String>,
    /// Discover, Monitor or Protect.
    pub policy_mode: String,
    /// The group of its service.
    pub service_group: String,
    /// When it was scanned.
    pub scanned_at: String,
    /// All that it has.
    #[serde(flatten)]
    pub counts: Counts,
    /// Those that were asked for, as `H_CVE-2024-1`: C, H, M or L for the severity.
    pub vulnerabilities: Vec<String>,
}

/// A node.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct HostAssetView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Discover, Monitor or Protect.
    pub policy_mode: String,
    /// Its operating system.
    pub os: String,
    /// Its kernel.
    pub kernel: String,
    /// How many CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: i64,
    /// Containers that run on it.
    pub containers: usize,
    /// When it was scanned.
    pub scanned_at: String,
    /// All that it has.
    #[serde(flatten)]
    pub counts: Counts,
    /// Those that were asked for, as for containers.
    pub vulnerabilities: Vec<String>,
}

/// An image of a registry.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ImageAssetView {
    /// Digest of its configuration.
    pub id: String,
    /// Its place.
    pub name: String,
    /// Digest of what its tag names.
    pub digest: String,
    /// Version of the database that it was judged by.
    pub cvedb_version: String,
    /// When that was built.
    pub cvedb_create_time: String,
    /// All that it has.
    #[serde(flatten)]
    pub counts: Counts,
    /// Those that were asked for, as for containers.
    pub vulnerabilities: Vec<String>,
}

/// An image of a registry in which nothing was found.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct NoVulImageAsset {
    /// Digest of its configuration.
    pub id: String,
    /// Its place.
    pub name: String,
    /// Digest of what its tag names.
    pub digest: String,
    /// Version of the database that it was judged by.
    pub cvedb_version: String,
    /// When that was built.
    pub cvedb_create_time: String,
}

/// The platform.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct PlatformAssetView {
    /// Its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Always empty: a platform has no distribution.
    pub base_os: String,
    /// All that it has.
    #[serde(flatten)]
    pub counts: Counts,
    /// Those that were asked for, as for containers.
    pub vulnerabilities: Vec<String>,
}

/// What has the vulnerabilities that were asked for, and those.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AssetView {
    /// Containers.
    pub workloads: Vec<WorkloadAssetView>,
    /// Nodes.
    pub nodes: Vec<HostAssetView>,
    /// The platform.
    pub platforms: Vec<PlatformAssetView>,
    /// Images of registries.
    pub images: Vec<ImageAssetView>,
    /// Images of registries in which nothing was found.
    pub no_vul_images: Vec<NoVulImageAsset>,
    /// The vulnerabilities, each with the packages that have it.
    pub vulnerabilities: Vec<VulnerabilityAssetV2>,
    /// What the query found.
    pub summary: VulQueryStats,
}

/// Which images of registries are wanted.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct AssetQuery {
    /// `image`, the one kind that there is.
    #[serde(rename = "type")]
    pub kind: String,
    /// A part of a name.
    #[serde(rename = "quickFilter")]
    pub quick_filter: String,
    /// A column's name; else by repository.
    #[serde(rename = "orderbyColumn")]
    pub orderby_column: String,
    /// `desc` or `asc`.
    pub orderby: String,
}

/// How many images there are.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AssetQueryStats {
    /// Those that are wanted.
    pub total_records: usize,
    /// To be given when pages are asked for.
    pub query_id: String,
    /// Which have most vulnerabilities.
    pub summary: AssetSessionSummary,
}

/// Which images have most vulnerabilities.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AssetSessionSummary {
    /// The five with most.
    pub top_images: Vec<AssetCveCount>,
}

/// An image of a registry.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ImageAssetViewV2 {
    /// Digest of its configuration.
    pub image_id: String,
    /// Its repository.
    pub repository: String,
    /// When it was made.
    pub created_at: String,
    /// When it was scanned.
    pub scanned_at: String,
    /// Digest of what its tag names.
    pub digest: String,
    /// `debian:12`.
    pub base_os: String,
    /// Why packages of the distribution were not judged.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_scan_status: String,
    /// Name of its registry.
    pub reg_name: String,
    /// Address of its registry.
    pub repo_url: String,
    /// Its tag.
    pub tag: String,
    /// Version of the database that it was judged by.
    pub cvedb_version: String,
    /// When that was built.
    pub cvedb_create_time: String,
    /// Critical ones.
    pub critical: u32,
    /// High ones.
    pub high: u32,
    /// Medium ones.
    pub medium: u32,
    /// Bytes of its layers, compressed.
    pub size: u64,
}

/// A page of images.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ImageAssetPage {
    /// `image`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The page.
    pub data: Vec<ImageAssetViewV2>,
    /// How many there are for the quick filter.
    pub qf_matched_records: usize,
}
