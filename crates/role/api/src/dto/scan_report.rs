//! Reports of many containers or nodes, finding by finding, a page at a time.

use nv_model::scan_report::Vulnerability;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a page ends; the next one begins behind it. All of it is empty on the last page.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ScanReportCursor {
    /// The container's or node's name.
    pub name: String,
    /// Its namespace.
    pub domain: String,
    /// Its node.
    pub host_name: String,
    /// The vulnerability.
    pub cve_name: String,
    /// The package that has it.
    pub cve_package: String,
}

impl ScanReportCursor {
    /// Of what has a finding, in the order of pages.
    pub(crate) fn thing(&self) -> (&str, &str, &str) {
        (&self.name, &self.domain, &self.host_name)
    }
}

/// A range of scores.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VulScoreFilter {
    /// `v2` or `v3`: which score.
    pub score_version: String,
    /// Lowest.
    pub score_bottom: f64,
    /// Highest, at most 10.
    pub score_top: f64,
}

/// Which containers or nodes are wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AssetsScanReportFilter {
    /// `domain` and `host_name` of containers, `name` of nodes.
    pub name: String,
    /// `eq`, `neq`, `in` or `notin`.
    pub op: String,
    /// With which; of `eq` and `neq` the first counts.
    pub value: Vec<String>,
}

/// What is wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AssetsScanReportQuery {
    /// With what is accepted, marked.
    pub show_accepted: bool,
    /// Most findings of a page: 3,000 where it is 0, and at most 10,000. Findings of one vulnerability in one package of
    /// one thing are on one page, even if it gets longer by them.
    pub max_cve_records: usize,
    /// Where the page before it ended.
    pub cursor: ScanReportCursor,
    /// `pod` for containers within their pods; they are told the same.
    pub view_pod: Option<String>,
    /// A severity: `critical`, `high`, `medium`, `low`; else all.
    pub severity_filter: Option<String>,
    /// A range of scores; absent for all.
    pub vul_score_filter: Option<VulScoreFilter>,
    /// All must hold.
    pub filters: Vec<AssetsScanReportFilter>,
}

/// What has a finding, and the finding.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AssetScanData {
    /// The node.
    pub host_name: String,
    /// The container; empty for nodes, as what follows.
    pub workload_name: String,
    /// Its namespace.
    pub workload_domain: String,
    /// Its image.
    pub workload_image: String,
    /// Id of the image.
    pub workload_image_id: String,
    /// Digest of the image.
    pub workload_image_digest: String,
    /// Digests of the image in repositories.
    pub workload_image_repo_digests: Vec<String>,
    /// The finding.
    #[serde(flatten)]
    pub found: Vulnerability,
}

/// A page of findings.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct AssetScanReportData {
    /// Where it ends.
    pub cursor: ScanReportCursor,
    /// The page.
    pub scan_data: Vec<AssetScanData>,
}
