//! Conversations.

use std::collections::BTreeMap;
use std::sync::Arc;

use nv_graph::link::{Entry, EntryKey};
use nv_graph::view::Conversation as Model;
use nv_model::application::ApplicationId;
use nv_model::conversation::EndpointId;
use nv_model::name::{GroupName, WorkloadId};
use nv_model::port::Protocol;
use nv_model::workload::Workload;
use nv_role_controller::View;
use serde::Serialize;
use utoipa::ToSchema;

use super::infrastructure::state_word;
use super::workload::{WorkloadBrief, WorkloadHead};
use crate::answer::Named;

/// One end of conversations.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationEndpoint {
    /// container, node_ip, workload_ip, address, ip_service or external.
    pub kind: String,
    /// The end in a workload's shape.
    #[serde(flatten)]
    pub workload: WorkloadBrief,
}
impl Named for ConversationEndpoint {
    const ONE: &'static str = "endpoint";
    const MANY: &'static str = "endpoints";
}

/// What was seen under one port, application and pair of addresses.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationReportEntry {
    /// Bytes both ways.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u32,
    /// Protocol and port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub port: String,
    /// Application.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub application: String,
    /// What was decided last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub policy_action: String,
    /// Client's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// Server's address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_ip: String,
    /// When it was last seen, in seconds.
    pub last_seen_at: i64,
}

/// What was seen from one end to another.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationReport {
    /// Bytes both ways.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u32,
    /// Of the worst threat; empty for none.
    pub severity: String,
    /// The most severe of what was decided.
    pub policy_action: String,
    /// threat, dlp, waf.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub event_type: Vec<String>,
    /// Protocols.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<String>,
    /// Applications.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub applications: Vec<String>,
    /// Ports without a known application.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// A conversation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationCompact {
    /// Who opens.
    pub from: String,
    /// Who accepts.
    pub to: String,
    /// What was seen.
    #[serde(flatten)]
    pub report: ConversationReport,
    /// By port, application and addresses.
    pub entries: Vec<ConversationReportEntry>,
}

/// A conversation with its ends in full.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Conversation {
    /// Who opens.
    pub from: ConversationEndpoint,
    /// Who accepts.
    pub to: ConversationEndpoint,
    /// What was seen.
    #[serde(flatten)]
    pub report: ConversationReport,
    /// By port, application and addresses.
    pub entries: Vec<ConversationReportEntry>,
}

/// All conversations.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationsData {
    /// Ends.
    pub endpoints: Vec<ConversationEndpoint>,
    /// Conversations.
    pub conversations: Vec<ConversationCompact>,
}

/// All conversations with their ends in full.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationsVerboseData {
    /// Ends.
    pub endpoints: Vec<ConversationEndpoint>,
    /// Conversations.
    pub conversations: Vec<Conversation>,
}

/// One entry of a conversation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationEntry {
    /// Bytes both ways.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u32,
    /// Protocol and port.
    pub port: String,
    /// Port on the host that it is mapped to.
    pub mapped_port: String,
    /// Application.
    pub application: String,
    /// Software of the server.
    #[serde(rename = "Server")]
    pub server: String,
    /// Threat.
    pub threat_name: String,
    /// Its severity.
    pub severity: String,
    /// What was decided last.
    pub policy_action: String,
    /// The rule that decided last; 0 for none.
    pub policy_id: u32,
    /// When it was last seen.
    pub last_seen_at: String,
    /// Client's address.
    pub client_ip: String,
    /// Server's address.
    pub server_ip: String,
    /// Host name that was asked for.
    pub fqdn: String,
    /// The client's address is from X-Forwarded-For.
    pub xff: bool,
    /// To a mesh's sidecar.
    pub to_sidecar: bool,
    /// Across a namespace boundary.
    pub nbe: bool,
}

/// A conversation with all of its entries.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConversationDetail {
    /// Who opens.
    pub from: ConversationEndpoint,
    /// Who accepts.
    pub to: ConversationEndpoint,
    /// What was seen.
    #[serde(flatten)]
    pub report: ConversationReport,
    /// By port, application and addresses.
    pub entries: Vec<ConversationEntry>,
}
impl Named for ConversationDetail {
    const ONE: &'static str = "conversation";
    const MANY: &'static str = "conversations";
}

fn few(sessions: u64) -> u32 {
    u32::try_from(sessions).unwrap_or(u32::MAX)
}

/// `tcp/80`, or the protocol's name where there are no ports.
fn port(protocol: Protocol, port: u16) -> String {
    match protocol {
        Protocol::Tcp | Protocol::Udp => format!("{}/{port}", protocol.as_str()),
        Protocol::Icmp | Protocol::Other => protocol.as_str().to_owned(),
    }
}

fn application(id: ApplicationId) -> String {
    if id == ApplicationId::ANY { String::new() } else { id.name().unwrap_or_default().to_owned() }
}

impl ConversationReportEntry {
    fn of(key: &EntryKey, entry: &Entry) -> Self {
        let volume = entry.volume();
        Self {
            bytes: volume.bytes,
            sessions: few(volume.sessions),
            port: port(key.protocol, key.port),
            application: application(key.application),
            policy_action: entry.verdict.as_str().to_owned(),
            client_ip: key.client_ip.to_string(),
            server_ip: key.server_ip.to_string(),
            last_seen_at: entry.last.seconds(),
        }
    }
    /// All of a conversation.
    #[must_use]
    pub fn all(seen: &Model<'_>) -> Vec<Self> {
        seen.link.entries().map(|(key, entry)| Self::of(key, entry)).collect()
    }
}

impl ConversationEntry {
    fn of(key: &EntryKey, entry: &Entry) -> Self {
        let short = ConversationReportEntry::of(key, entry);
        Self {
            bytes: short.bytes,
            sessions: short.sessions,
            port: short.port,
            mapped_port: String::new(),
            application: short.application,
            server: String::new(),
            threat_name: String::new(),
            severity: String::new(),
            policy_action: short.policy_action,
            policy_id: entry.rule.0,
            last_seen_at: entry.last.rfc3339(),
            client_ip: short.client_ip,
            server_ip: short.server_ip,
            fqdn: String::new(),
            xff: false,
            to_sidecar: false,
            nbe: false,
        }
    }
    /// All of a conversation.
    #[must_use]
    pub fn all(seen: &Model<'_>) -> Vec<Self> {
        seen.link.entries().map(|(key, entry)| Self::of(key, entry)).collect()
    }
}

impl From<&Model<'_>> for ConversationReport {
    fn from(seen: &Model<'_>) -> Self {
        Self {
            bytes: seen.bytes,
            sessions: few(seen.sessions),
            severity: String::new(),
            policy_action: seen.verdict.as_str().to_owned(),
            event_type: Vec::new(),
            protocols: seen.protocols.iter().map(|protocol| protocol.as_str().to_owned()).collect(),
            applications: seen.applications.iter().map(|id| application(*id)).collect(),
            ports: seen.ports.iter().map(|(protocol, number)| port(*protocol, *number)).collect(),
        }
    }
}

impl ConversationEndpoint {
    /// As the view has it. A pod of one container (`pods`) has this one's image, as its sandbox' says nothing.
    #[must_use]
    pub fn of(view: &View, pods: &BTreeMap<&WorkloadId, &Arc<Workload>>, end: &EndpointId) -> Self {
        let id = end.to_string();
        let named = |name: String| WorkloadHead {
            id: id.clone(),
            display_name: name.clone(),
            name,
            ..WorkloadHead::default()
        };
        let head = match end {
            EndpointId::Workload(workload) => match view.workload(workload) {
                Some(known) => {
                    let head = WorkloadHead::of(view, known);
                    match pods.get(workload).filter(|_| known.is_sandbox) {
                        Some(only) => WorkloadHead {
                            image: only.image.clone(),
                            image_id: only.image_id.clone(),
                            ..head
                        },
                        None => head,
                    }
                }
                None => WorkloadHead { state: "exit".to_owned(), ..named(workload.to_string()) },
            },
            EndpointId::Host(node) => {
                let modes = view.state.modes_of(&GroupName::nodes()).unwrap_or_default();
                let name =
                    view.state.nodes.get(node).map_or_else(|| node.to_string(), |node| node.name.clone());
                WorkloadHead {
                    host_name: name.clone(),
                    host_id: node.to_string(),
                    state: state_word(modes.network).to_owned(),
                    policy_mode: modes.network.as_str().to_owned(),
                    profile_mode: modes.profile.as_str().to_owned(),
                    service_group: "nodes".to_owned(),
                    ..named(name)
                }
            }
            EndpointId::UnmanagedWorkload(ip) | EndpointId::UnmanagedHost(ip) => {
                WorkloadHead { state: "unmanaged".to_owned(), ..named(ip.to_string()) }
            }
            EndpointId::Address(group) | EndpointId::IpService(group) => {
                WorkloadHead { service_group: group.to_string(), ..named(group.to_string()) }
            }
            EndpointId::External => {
                WorkloadHead { service_group: "external".to_owned(), ..named(id.clone()) }
            }
        };
        Self { kind: end.kind().to_owned(), workload: WorkloadBrief { head, children: Vec::new() } }
    }
}
