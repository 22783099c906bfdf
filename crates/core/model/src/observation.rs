//! What a node tells: an ordered stream of observations, each acknowledged by number.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::application::ApplicationId;
use crate::behaviour::BehaviourObservation;
use crate::file::{FileBehavior, FileOperation, FilePattern};
use crate::name::{GroupName, WorkloadId};
use crate::node::Usage;
use crate::policy::IdentityId;
use crate::port::Protocol;
use crate::rule::RuleId;
use crate::threat::ThreatObservation;
use crate::time::Timestamp;
use crate::verdict::{Mechanism, Verdict};
use crate::vitals::{Drops, Shedding};
use crate::workload::Workload;

/// Number of an observation on one node: starts at 1, grows by 1, never falls, so that a gap is visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(pub u64);

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// A workload is new or changed.
    Workload(Box<Workload>),
    /// A workload is gone; its runtime has forgotten it.
    WorkloadGone {
        /// Which one.
        id: WorkloadId,
        /// When.
        at: Timestamp,
    },
    /// A program was run.
    Process(Box<ProcessObservation>),
    /// A watched file was opened or changed, or was kept from it.
    File(Box<FileObservation>),
    /// A program did what attacks are made of.
    Behaviour(Box<BehaviourObservation>),
    /// A connection was opened, or an open one moved bytes.
    Connection(Box<ConnectionObservation>),
    /// An attack was seen in traffic.
    Threat(Box<ThreatObservation>),
    /// Use of CPU, memory and network by a workload, or by the node when `workload` is `None`.
    Usage {
        /// Whose.
        workload: Option<WorkloadId>,
        /// How much.
        usage: Usage,
        /// When.
        at: Timestamp,
    },
    /// What was asked of a workload. Told while there is something, and once when there is nothing any more.
    Ingress {
        /// Whose; of a pod, its sandbox.
        workload: WorkloadId,
        /// How much.
        ingress: Ingress,
        /// When.
        at: Timestamp,
    },
    /// Observations were dropped before this one; the counters are totals since the enforcer's start.
    Dropped {
        /// Records that the kernel could not place in the ring buffer.
        kernel: u64,
        /// Observations that found the queue to the controller full.
        queue: u64,
        /// All that was not told, by what it was about.
        drops: Drops,
        /// What is left out now.
        shedding: Shedding,
    },
}

/// Connections that a workload accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingress {
    /// That are open.
    pub sessions: u32,
    /// That were opened within the last 60 seconds.
    pub opened: u32,
    /// Bytes that their clients sent within the last 60 seconds.
    pub bytes: u64,
}

/// Rule id of a program that no rule decided about: its process descends neither from the container's first one nor from
/// one that the container's runtime sent in (the contract's "not from its root process").
pub const NOT_OF_FAMILY: &str = "00000000-0000-0000-0000-000000000007";

/// A program that was run, or was stopped from running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessObservation {
    /// Where; `None` for the host.
    pub workload: Option<WorkloadId>,
    /// The group whose profile was asked: the learned one, or `nodes`.
    pub group: GroupName,
    /// The group whose rule matched; the same as `group` when none did.
    pub rule_group: GroupName,
    /// Rule that matched; empty when none did, or [`NOT_OF_FAMILY`].
    pub rule_uuid: String,
    /// Process id, in the host's numbering.
    pub pid: u32,
    /// Parent's process id.
    pub parent_pid: u32,
    /// Last part of the path.
    pub name: String,
    /// Absolute path of the executable in the workload.
    pub path: String,
    /// Arguments with secrets redacted; empty when they could not be read.
    pub command: String,
    /// Real user id.
    pub real_uid: u32,
    /// Effective user id.
    pub effective_uid: u32,
    /// Name of the real user in the workload; empty when unknown.
    pub user: String,
    /// Parent's name.
    pub parent_name: String,
    /// Parent's executable.
    pub parent_path: String,
    /// The file is not from the image: new, changed, or in memory only.
    pub drifted: bool,
    /// The file is in memory only (memfd, deleted).
    pub fileless: bool,
    /// What was decided.
    pub verdict: Verdict,
    /// What stopped it, when something did.
    pub mechanism: Option<Mechanism>,
    /// Time from the call to the decision in the kernel, in nanoseconds; 0 when unknown.
    pub decision_nanos: u64,
    /// How often, when like observations were folded into one; at least 1.
    pub count: u32,
    /// When it first happened.
    pub at: Timestamp,
}

/// A watched file that was opened or changed, or was kept from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileObservation {
    /// Where; `None` for the host.
    pub workload: Option<WorkloadId>,
    /// The group whose profile was asked: the learned one, or `nodes`.
    pub group: GroupName,
    /// The group whose rule covers the file; the same as `group` for the built-in watch list.
    pub rule_group: GroupName,
    /// That rule's filter.
    pub filter: FilePattern,
    /// What it does.
    pub behavior: FileBehavior,
    /// Absolute path of the file in the workload.
    pub path: String,
    /// What was done to it.
    pub operation: FileOperation,
    /// Process that did it, in the host's numbering; 0 when it is not known, as are the texts below.
    pub pid: u32,
    /// Its name.
    pub process: String,
    /// Its executable in the workload.
    pub process_path: String,
    /// Its arguments with secrets redacted.
    pub command: String,
    /// Its real user id.
    pub real_uid: u32,
    /// Its effective user id.
    pub effective_uid: u32,
    /// Name of its real user in the workload.
    pub user: String,
    /// Its parent's name.
    pub parent_name: String,
    /// Its parent's executable.
    pub parent_path: String,
    /// What was decided.
    pub verdict: Verdict,
    /// What stopped it, when something did.
    pub mechanism: Option<Mechanism>,
    /// Time that the decision took, in nanoseconds; 0 when unknown.
    pub decision_nanos: u64,
    /// How often, when like observations were folded into one; at least 1.
    pub count: u32,
    /// When it first happened.
    pub at: Timestamp,
}

/// One end of a connection, as far as the node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The workload, when it is one of this node's.
    pub workload: Option<WorkloadId>,
    /// The identity that policy saw.
    pub identity: IdentityId,
    /// The address.
    pub address: IpAddr,
}

/// A connection, or more sessions between the same ends to the same port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionObservation {
    /// Who opened it.
    pub client: Peer,
    /// Who was asked.
    pub server: Peer,
    /// Seen at the server's end.
    pub ingress: bool,
    /// IP protocol.
    pub protocol: Protocol,
    /// Destination port; 0 for protocols without.
    pub port: u16,
    /// Application, when it is known.
    pub application: Option<ApplicationId>,
    /// Bytes both ways since the last observation of this connection.
    pub bytes: u64,
    /// Sessions opened since the last observation.
    pub sessions: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// The rule that decided; [`RuleId::DEFAULT`] for none.
    pub rule: RuleId,
    /// Name of the process on this node that opened it, when it is known.
    pub process: String,
    /// Its executable.
    pub process_path: String,
    /// The container that the process is in, when it is known.
    pub container: Option<WorkloadId>,
    /// The host that the client named (Host, SNI), where the verdict is by it; empty elsewhere.
    pub host: String,
    /// The client is who asked through trusted proxies (`X-Forwarded-For`), and not who opened the connection.
    pub forwarded: bool,
    /// What stopped it, when it was stopped by something else than the programs at interfaces and sockets.
    pub mechanism: Option<Mechanism>,
    /// Time that the decision on the first packet took in the kernel, in nanoseconds; 0 when unknown.
    pub decision_nanos: u64,
    /// When it was first seen.
    pub first: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
}
