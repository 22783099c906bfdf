//! Log records, in the contract's shapes: what `/v1/log/*`, the stream, syslog and webhooks carry.
//!
//! Field names are the contract's; an optional field is absent when it is empty.

mod event;
mod incident;
mod traffic;

use serde::{Deserialize, Serialize};

pub use event::{Audit, Event};
pub use incident::Incident;
pub use traffic::{Threat, Violation};

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
