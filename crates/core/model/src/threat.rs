//! Attacks seen in traffic.

use serde::{Deserialize, Serialize};

use crate::application::ApplicationId;
use crate::name::{GroupName, SensorName};
use crate::observation::Peer;
use crate::port::Protocol;
use crate::sensor::SensorKind;
use crate::time::Timestamp;
use crate::verdict::{Mechanism, Verdict};

/// Most bytes of a packet that are kept as a proof.
pub const MAX_PACKET_BYTES: usize = 2048;

/// Most bytes of what a rule says of itself, and of the name of a variable.
pub const MAX_MESSAGE_BYTES: usize = 256;

/// How bad an attack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The contract's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "Info",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// Which rule of which sensor holds for a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sensed {
    /// What the sensor is for.
    pub kind: SensorKind,
    /// Its name.
    pub sensor: SensorName,
    /// The rule's name within it.
    pub rule: SensorName,
    /// The group that uses the sensor.
    pub group: GroupName,
    /// What the rule says of itself, at most [`MAX_MESSAGE_BYTES`] bytes; empty for a sensor's own rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The variable that it matched (`ARGS:id`), never its value; empty for a sensor's own rules.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variable: String,
}

impl Sensed {
    /// The threat's name: `DLP.<sensor>.<rule>` or `WAF.<sensor>.<rule>`.
    #[must_use]
    pub fn threat(&self) -> String {
        format!("{}{}.{}", self.kind.prefix(), self.sensor, self.rule)
    }
}

/// An attack that inspection saw in a connection, or a message that a sensor matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreatObservation {
    /// Its number in the contract's list, or that of the sensor's rule.
    pub threat: u32,
    /// Its name there (`SQL.Injection`).
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// Who opened the connection.
    pub client: Peer,
    /// Who was asked.
    pub server: Peer,
    /// Seen at the server's end.
    pub ingress: bool,
    /// IP protocol.
    pub protocol: Protocol,
    /// The client's port; 0 for protocols without.
    pub client_port: u16,
    /// The server's port; 0 for protocols without.
    pub server_port: u16,
    /// Application, when it is known.
    pub application: Option<ApplicationId>,
    /// The client sent it; else the server did.
    pub by_client: bool,
    /// [`Verdict::Deny`] when it was stopped, else [`Verdict::Violate`].
    pub verdict: Verdict,
    /// The packet that showed it, from its Ethernet header on: at most its first [`MAX_PACKET_BYTES`] bytes.
    pub packet: Vec<u8>,
    /// How many bytes the packet had.
    pub packet_bytes: u32,
    /// How often, when like ones were folded into one; at least 1.
    pub count: u32,
    /// When it first happened.
    pub at: Timestamp,
    /// The sensor that matched; `None` for an attack on a protocol.
    #[serde(default)]
    pub sensed: Option<Box<Sensed>>,
    /// What stopped it, when something did: what held its packet back until it was judged.
    #[serde(default)]
    pub mechanism: Option<Mechanism>,
}
