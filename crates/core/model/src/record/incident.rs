//! Records of what programs did to processes and files.

use serde::{Deserialize, Serialize};

use super::LogCommon;

/// A process or file against the profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Incident {
    /// What every record begins with.
    #[serde(flatten)]
    pub common: LogCommon,
    /// Unique id.
    #[serde(default)]
    pub id: String,
    /// Where; absent for a host.
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
    /// The other end, for tunnels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_workload_id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_workload_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_workload_domain: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_workload_image: String,
    /// Its service group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remote_workload_service: String,
    /// The program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_name: String,
    /// Its executable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_path: String,
    /// Its arguments, secrets redacted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_cmd: String,
    /// Real user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proc_real_uid: Option<i64>,
    /// Effective user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proc_effective_uid: Option<i64>,
    /// Real user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_real_user: String,
    /// Effective user.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_effective_user: String,
    /// The file, for file incidents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file_path: String,
    /// Files in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_name: Vec<String>,
    /// Client address, for tunnels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// Server address, for tunnels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_ip: String,
    /// Client port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// Server port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_port: Option<u16>,
    /// Server port as seen on the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_conn_port: Option<u16>,
    /// Ethernet type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ether_type: Option<u16>,
    /// IP protocol number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_proto: Option<u8>,
    /// Seen at the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conn_ingress: Option<bool>,
    /// Parent program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_parent_name: String,
    /// Parent's executable.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_parent_path: String,
    /// `violate` or `deny`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// The group whose profile was asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The rule; a fixed id when none matched.
    #[serde(default)]
    pub rule_id: String,
    /// First of the folded ones, seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation_from: Option<i64>,
    /// How many were folded into this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// What happened, in a sentence.
    #[serde(default)]
    pub message: String,
    /// What stopped it (`tracepoint_kill`); ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mechanism: String,
    /// Suspicious behaviour: what was done (`remote_shell`); ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub behaviour: String,
    /// Id of the technique in MITRE ATT&CK (`T1059.004`); ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mitre_attack: String,
    /// Nanoseconds that the decision took in the kernel; ours, beside the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_nanos: Option<u64>,
}
