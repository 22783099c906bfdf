//! Records of the system and its users, and of findings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::LogCommon;

/// Something that happened to the system or was done by a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Event {
    /// What every record begins with.
    #[serde(flatten)]
    pub common: LogCommon,
    /// Controller it happened on.
    #[serde(default)]
    pub controller_id: String,
    /// That controller's name.
    #[serde(default)]
    pub controller_name: String,
    /// Workload concerned.
    #[serde(default)]
    pub workload_id: String,
    /// Its name.
    #[serde(default)]
    pub workload_name: String,
    /// Its namespace.
    #[serde(default)]
    pub workload_domain: String,
    /// Its image.
    #[serde(default)]
    pub workload_image: String,
    /// Its service group.
    #[serde(default)]
    pub workload_service: String,
    /// WORKLOAD, ENFORCER, CONTROLLER, AUTH, RESTFUL, …
    #[serde(default)]
    pub category: String,
    /// Who did it.
    #[serde(default)]
    pub user: String,
    /// With which roles, by namespace.
    #[serde(default)]
    pub user_roles: BTreeMap<String, String>,
    /// From where.
    #[serde(default)]
    pub user_addr: String,
    /// In which session.
    #[serde(default)]
    pub user_session: String,
    /// Method of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rest_method: String,
    /// Path of the request.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rest_request: String,
    /// Body of the request with secrets masked, at most 1,024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rest_body: String,
    /// Unused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcer_limit: Option<i64>,
    /// What happened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A finding of a scan, a benchmark or admission control.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Audit {
    /// What every record begins with.
    #[serde(flatten)]
    pub common: LogCommon,
    /// Workload concerned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload_id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload_domain: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload_image: String,
    /// Its service group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload_service: String,
    /// Image concerned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image_id: String,
    /// Its registry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registry: String,
    /// That registry's name here.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub registry_name: String,
    /// Its repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub repository: String,
    /// Its tag.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Its operating system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base_os: String,
    /// Version of the vulnerability database.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cvedb_version: String,
    /// What was found.
    #[serde(default)]
    pub message: String,
    /// Who asked.
    #[serde(default)]
    pub user: String,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Group concerned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Platform.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub platform_version: String,
    /// Critical findings.
    #[serde(default)]
    pub critical_vul_cnt: u32,
    /// High findings.
    #[serde(default)]
    pub high_vul_cnt: u32,
    /// Medium findings.
    #[serde(default)]
    pub medium_vul_cnt: u32,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical_vuls: Vec<String>,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub high_vuls: Vec<String>,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub medium_vuls: Vec<String>,
    /// Checks concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// How many were folded into this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// First of the folded ones, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation_from: Option<i64>,
}
