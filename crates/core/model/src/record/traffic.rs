//! Records of traffic: attacks, and connections against the rules.

use serde::{Deserialize, Serialize};

use super::LogCommon;

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
    /// What stopped it (`detour`, `nfqueue`); ours, beside the contract.
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
    /// What stopped it (`traffic_control`, `detour`, `nfqueue`); ours, beside the contract.
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
