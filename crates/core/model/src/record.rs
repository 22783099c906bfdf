//! Log records, in the contract's shapes: what `/v1/log/*`, the stream, syslog and webhooks carry.
//!
//! Field names are the contract's; an optional field is absent when it is empty.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Severity of a record, the most severe first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Level {
    /// Emergency.
    Emergency,
    /// Alert.
    Alert,
    /// Critical: an act was stopped, or privileges were gained.
    Critical,
    /// Error.
    Error,
    /// Warning: an act was reported.
    Warning,
    /// Notice.
    Notice,
    /// Info.
    #[default]
    Info,
    /// Debug.
    Debug,
}

impl Level {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Emergency => "Emergency",
            Self::Alert => "Alert",
            Self::Critical => "Critical",
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Notice => "Notice",
            Self::Info => "Info",
            Self::Debug => "Debug",
        }
    }
}

/// What every record begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogCommon {
    /// Name of the kind of record (`Process.Profile.Violation`); violations have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Level.
    pub level: Level,
    /// When, as RFC 3339.
    pub reported_at: String,
    /// When, in seconds since the epoch.
    pub reported_timestamp: i64,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Node it happened on.
    pub host_id: String,
    /// Host name of that node.
    pub host_name: String,
    /// Enforcer that reported it.
    pub enforcer_id: String,
    /// That enforcer's name.
    pub enforcer_name: String,
    /// Response rule that acted on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_rule_id: Option<u32>,
}

/// Which log a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// `/v1/log/threat`.
    Threat,
    /// `/v1/log/violation`.
    Violation,
    /// `/v1/log/incident`.
    Incident,
    /// `/v1/log/event`.
    Event,
    /// `/v1/log/activity`: the coming and going of containers.
    Activity,
    /// `/v1/log/audit`.
    Audit,
}

impl Topic {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Threat, Self::Violation, Self::Incident, Self::Event, Self::Activity, Self::Audit];
    /// Word in the stream's `topics` and in file names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Threat => "threat",
            Self::Violation => "violation",
            Self::Incident => "incident",
            Self::Event => "event",
            Self::Activity => "activity",
            Self::Audit => "audit",
        }
    }
}

/// A record of any log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "topic", rename_all = "snake_case")]
pub enum Record {
    /// An attack seen in traffic.
    Threat(Box<Threat>),
    /// A connection against the rules.
    Violation(Box<Violation>),
    /// A process or file against the profile.
    Incident(Box<Incident>),
    /// Something that happened to the system or was done by a user.
    Event(Box<Event>),
    /// A container came or went.
    Activity(Box<Event>),
    /// A finding of a scan, a benchmark or admission control.
    Audit(Box<Audit>),
}

impl Record {
    /// Which log it belongs to.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        match self {
            Self::Threat(_) => Topic::Threat,
            Self::Violation(_) => Topic::Violation,
            Self::Incident(_) => Topic::Incident,
            Self::Event(_) => Topic::Event,
            Self::Activity(_) => Topic::Activity,
            Self::Audit(_) => Topic::Audit,
        }
    }
    /// What it begins with.
    #[must_use]
    pub const fn common(&self) -> &LogCommon {
        match self {
            Self::Threat(record) => &record.common,
            Self::Violation(record) => &record.common,
            Self::Incident(record) => &record.common,
            Self::Event(record) | Self::Activity(record) => &record.common,
            Self::Audit(record) => &record.common,
        }
    }
}

/// An attack seen in traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Threat {
    /// What every record begins with.
    #[serde(flatten)]
    pub common: LogCommon,
    /// Unique id.
    #[serde(default)]
    pub id: String,
    /// Number of the threat.
    #[serde(default)]
    pub threat_id: u32,
    /// Endpoint id of the client.
    #[serde(default)]
    pub client_workload_id: String,
    /// Its name.
    #[serde(default)]
    pub client_workload_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_workload_domain: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_workload_image: String,
    /// Its service group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_workload_service: String,
    /// Endpoint id of the server.
    #[serde(default)]
    pub server_workload_id: String,
    /// Its name.
    #[serde(default)]
    pub server_workload_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_workload_domain: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_workload_image: String,
    /// Its service group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_workload_service: String,
    /// Critical, High, Medium, Low or Info.
    #[serde(default)]
    pub severity: String,
    /// alert, allow, deny or reset.
    #[serde(default)]
    pub action: String,
    /// How many were folded into this record.
    #[serde(default)]
    pub count: u32,
    /// Ethernet type.
    #[serde(default)]
    pub ether_type: u16,
    /// Client port.
    #[serde(default)]
    pub client_port: u16,
    /// Server port.
    #[serde(default)]
    pub server_port: u16,
    /// Server port as seen on the wire.
    #[serde(default)]
    pub server_conn_port: u16,
    /// ICMP code.
    #[serde(default)]
    pub icmp_code: u8,
    /// ICMP type.
    #[serde(default)]
    pub icmp_type: u8,
    /// IP protocol number.
    #[serde(default)]
    pub ip_proto: u8,
    /// Client address.
    #[serde(default)]
    pub client_ip: String,
    /// Server address.
    #[serde(default)]
    pub server_ip: String,
    /// Application.
    #[serde(default)]
    pub application: String,
    /// Sensor that matched.
    #[serde(default)]
    pub sensor: String,
    /// Group whose sensor matched.
    #[serde(default)]
    pub group: String,
    /// server or client.
    #[serde(default)]
    pub target: String,
    /// Only reported.
    #[serde(default)]
    pub monitor: bool,
    /// What stopped it (`nfqueue`); ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mechanism: String,
    /// Bytes of the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_len: Option<u16>,
    /// The packet, base64; blank in lists.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub packet: String,
    /// What happened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A connection against the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Violation {
    /// What every record begins with.
    #[serde(flatten)]
    pub common: LogCommon,
    /// Unique id.
    #[serde(default)]
    pub id: String,
    /// Endpoint id of the side that opened the connection.
    #[serde(default)]
    pub client_id: String,
    /// Its name.
    #[serde(default)]
    pub client_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_domain: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_image: String,
    /// Its service group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_service: String,
    /// Endpoint id of the side that was asked.
    #[serde(default)]
    pub server_id: String,
    /// Its name.
    #[serde(default)]
    pub server_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_domain: String,
    /// Its image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_image: String,
    /// Its service group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server_service: String,
    /// `violate` or `deny`.
    #[serde(default)]
    pub policy_action: String,
    /// Address of the client.
    #[serde(default)]
    pub client_ip: String,
    /// Address of the server.
    #[serde(default)]
    pub server_ip: String,
    /// Host name that the client asked for, when known.
    #[serde(default)]
    pub fqdn: String,
    /// Destination port.
    #[serde(default)]
    pub server_port: u16,
    /// IP protocol number.
    #[serde(default)]
    pub ip_proto: u8,
    /// Applications, when known.
    #[serde(default)]
    pub applications: Vec<String>,
    /// Server software, when known.
    #[serde(default)]
    pub servers: Vec<String>,
    /// How many sessions were folded into this record.
    #[serde(default)]
    pub sessions: u32,
    /// The rule; 0 when none matched.
    #[serde(default)]
    pub policy_id: u32,
    /// The client's address is from X-Forwarded-For.
    #[serde(default)]
    pub xff: bool,
    /// It crossed a namespace boundary.
    #[serde(default)]
    pub nbe: bool,
    /// What stopped it (`traffic_control`, `nfqueue`); ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mechanism: String,
    /// Program that opened the connection, when it is known; ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_name: String,
    /// Its executable; ours, beside the contract.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proc_path: String,
    /// Nanoseconds that the decision took in the kernel; ours, beside the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_nanos: Option<u64>,
}

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
