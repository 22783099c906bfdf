//! What a controller asks a node: what is looked at when someone wants to see it, and is not kept at the controller.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::application::ApplicationId;
use crate::name::WorkloadId;
use crate::port::Protocol;
use crate::rule::RuleId;
use crate::time::Timestamp;
use crate::verdict::Verdict;

/// A question to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Which processes a workload has, or had.
    Processes {
        /// Whose; `None` for the processes of the host.
        workload: Option<WorkloadId>,
        /// Those that have ended, and programs that were stopped, too.
        history: bool,
    },
    /// Which connections are open.
    Sessions {
        /// Whose; `None` for all of the node.
        workload: Option<WorkloadId>,
        /// How many to pass over, in the order of their ids.
        start: u32,
        /// How many to give at most.
        limit: u32,
    },
    /// Forgets connections, so that their next packet is judged anew.
    ClearSessions {
        /// Whose; `None` for all of the node.
        workload: Option<WorkloadId>,
        /// This one alone.
        id: Option<u64>,
    },
    /// What the enforcer counted since its start.
    Counters,
    /// What the meters of inspection count at this moment.
    Meters {
        /// At whom; `None` for all of the node.
        workload: Option<WorkloadId>,
    },
    /// Which files are watched or protected.
    WatchedFiles {
        /// Whose; `None` for all of the node.
        workload: Option<WorkloadId>,
    },
    /// Packets of a workload that are kept for whoever looks for a fault.
    Capture(CaptureQuestion),
    /// What is installed. The first question begins to read files; until that is done, the answer is
    /// [`Answer::InventoryReading`]. When the last piece was asked for, the node forgets the document.
    Inventory {
        /// Where; `None` for the node's own root.
        workload: Option<WorkloadId>,
        /// Where the piece begins, in bytes of the document.
        position: u64,
    },
}

/// About captures of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureQuestion {
    /// Begins one; answered with it.
    Start {
        /// Whose packets. It must have a network of its own.
        workload: WorkloadId,
        /// Which of them, in the language of pcap-filter; empty for all.
        filter: String,
        /// Files of 2 MiB that are kept at most (1 to 50); the oldest goes when there are more.
        files: u32,
        /// After how many seconds it stops by itself; 0 for not before somebody stops it.
        seconds: u32,
    },
    /// Which there are.
    List {
        /// Whose; `None` for all of the node.
        workload: Option<WorkloadId>,
    },
    /// Ends one; what it has is kept.
    Stop {
        /// Its number on the node.
        id: String,
    },
    /// Ends one and deletes what it has.
    Remove {
        /// Its number on the node.
        id: String,
    },
    /// A piece of what one has, as a capture file: records from `position` on, at most [`CAPTURE_PIECE`] bytes.
    Read {
        /// Its number on the node.
        id: String,
        /// In bytes of all that it ever kept. What is not kept any more is passed over.
        position: u64,
    },
}

/// Most bytes of a piece in [`Answer::InventoryPiece`].
pub const INVENTORY_PIECE: usize = 512 * 1024;

/// Most bytes of a [`Answer::CapturePiece`].
pub const CAPTURE_PIECE: usize = 512 * 1024;

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Question::Processes`], parents before their children as far as they are known.
    Processes(Vec<ProcessEntry>),
    /// To [`Question::Sessions`].
    Sessions {
        /// The asked part of them.
        sessions: Vec<SessionEntry>,
        /// How many there are.
        total: u32,
    },
    /// To [`Question::ClearSessions`].
    Cleared {
        /// How many were forgotten.
        count: u32,
    },
    /// To [`Question::Counters`], by name.
    Counters(BTreeMap<String, u64>),
    /// To [`Question::Meters`], those nearest to their limit first, at most [`MAX_METERS`].
    Meters(Vec<MeterEntry>),
    /// To [`Question::WatchedFiles`], at most [`MAX_WATCHED`].
    WatchedFiles(Vec<WatchedFile>),
    /// To every [`CaptureQuestion`] but reading: those that it is about.
    Captures(Vec<CaptureEntry>),
    /// To [`CaptureQuestion::Read`].
    CapturePiece {
        /// Where the piece begins.
        position: u64,
        /// Whole records of a capture file in the little-endian classic format with nanoseconds, without the file's header;
        /// empty when there is no more now.
        bytes: Vec<u8>,
    },
    /// To [`Question::Inventory`]: files are still being read.
    InventoryReading,
    /// To [`Question::Inventory`]: a piece of the document, which is what a scanner takes as an inventory.
    InventoryPiece {
        /// Bytes of the whole document.
        total: u64,
        /// Where the piece begins.
        position: u64,
        /// At most [`INVENTORY_PIECE`] bytes.
        bytes: Vec<u8>,
    },
}

/// Most meters of an answer.
pub const MAX_METERS: usize = 1024;
/// Most watched files of an answer.
pub const MAX_WATCHED: usize = 4096;
/// Most names of a [`WatchedFile`].
pub const MAX_WATCHED_NAMES: usize = 256;

/// What a meter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Connections that are asked for, a second.
    SynFlood,
    /// Echo requests, a second.
    IcmpFlood,
    /// Sessions that one address has with another, at one time.
    IpSrcSessionLimit,
    /// Connections that were opened and on which nothing was said, in a span.
    TcpNodata,
}

impl MeterKind {
    const ALL: [Self; 4] = [Self::SynFlood, Self::IcmpFlood, Self::IpSrcSessionLimit, Self::TcpNodata];

    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SynFlood => "syn_flood",
            Self::IcmpFlood => "icmp_flood",
            Self::IpSrcSessionLimit => "ip_src_session_limit",
            Self::TcpNodata => "tcp_nodata",
        }
    }
    /// By the contract's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A meter of inspection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterEntry {
    /// What it counts.
    pub kind: MeterKind,
    /// At whom; `None` for an address that is no workload's of the node.
    pub workload: Option<WorkloadId>,
    /// Whose, where a meter is of two addresses.
    pub peer: Option<IpAddr>,
    /// Of the present span, a second; sessions at this moment.
    pub count: u32,
    /// Of the present span so far.
    pub span_count: u32,
    /// Length of a span in seconds; 0 for what is counted at one time.
    pub span: u32,
    /// From which count on it is an attack.
    pub upper: u32,
    /// Below which count the attack is over.
    pub lower: u32,
    /// Seconds since it last counted something.
    pub idle: u32,
    /// Copies of packets are counted, and none is stopped.
    pub tap: bool,
}

/// A file or folder that is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedFile {
    /// Whose; `None` for the host.
    pub workload: Option<WorkloadId>,
    /// As the workload sees it.
    pub path: String,
    /// What the kernel tells of it, or asks before it, in the bits of fanotify(7).
    pub mask: u64,
    /// It is a folder.
    pub is_dir: bool,
    /// Only named programs may open it.
    pub protect: bool,
    /// Of a folder: names in it that are meant; empty where all are. At most [`MAX_WATCHED_NAMES`].
    pub names: Vec<String>,
}

/// A capture of packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureEntry {
    /// Its number on the node: 8 hexadecimal digits.
    pub id: String,
    /// Whose packets; `None` when it is not known any more.
    pub workload: Option<WorkloadId>,
    /// What it does.
    pub status: CaptureStatus,
    /// As it was given.
    pub filter: String,
    /// Files that are kept now.
    pub files: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that were kept, those that are not any more too.
    pub packets: u64,
    /// Packets that came faster than they could be kept.
    pub dropped: u64,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` while it runs.
    pub stopped: Option<Timestamp>,
}

/// What a capture does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureStatus {
    /// It keeps packets.
    #[default]
    Running,
    /// It was stopped, its time is over, or its workload has ended.
    Stopped,
    /// The disk or the kernel refused.
    Failed,
}

impl CaptureStatus {
    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// By the contract's word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Failed].into_iter().find(|status| status.as_str() == word)
    }
}

/// Why a node does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AnswerError {
    /// The workload is not on this node, or not any more.
    #[error("no such workload on this node")]
    UnknownWorkload,
    /// There is no such capture on this node.
    #[error("no such capture on this node")]
    UnknownCapture,
    /// This enforcer does not know the question; a newer one may.
    #[error("this enforcer does not know the question")]
    UnknownQuestion,
    /// What is asked for cannot be looked up.
    #[error("the enforcer cannot look it up: {0}")]
    Failed(String),
}

/// A process, or a program that was stopped before it became one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEntry {
    /// Process id, in the host's numbering.
    pub pid: u32,
    /// Parent's process id; 0 when it is not known.
    pub parent: u32,
    /// Process group; 0 when it is not known.
    pub process_group: u32,
    /// Session of the terminal; 0 when it is not known.
    pub session: u32,
    /// Last part of the path.
    pub name: String,
    /// Executable, absolute in the workload.
    pub path: String,
    /// Arguments with secrets redacted; empty when they were not seen.
    pub command: String,
    /// Name of the real user in the workload; empty when it is not known.
    pub user: String,
    /// Real user id.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// What it does: `Running`, `Sleeping`, `Waiting` (for a device), `Stopped`, `Zombie`; empty when it has ended.
    pub state: String,
    /// When it began to run this program; [`Timestamp::NEVER`] when it ran before the enforcer and cannot be told.
    pub started: Timestamp,
    /// When it ended; `None` while it lives.
    pub ended: Option<Timestamp>,
    /// How it ended, as wait(2) gives it: the exit status times 256, or the signal; `None` while it lives.
    pub exit: Option<u32>,
    /// SHA-256 of the executable in hexadecimal; empty while it is not known.
    pub sha256: String,
    /// What was decided when it was run; `None` when it ran before the enforcer.
    pub verdict: Option<Verdict>,
}

/// An open connection, as the kernel's table has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Number of the session on this node.
    pub id: u64,
    /// The workload at whose interface it was seen; `None` for the host's network.
    pub workload: Option<WorkloadId>,
    /// The workload is the server.
    pub ingress: bool,
    /// IP protocol.
    pub protocol: Protocol,
    /// Who opened it.
    pub client: IpAddr,
    /// Its port; 0 for protocols without.
    pub client_port: u16,
    /// Who was asked.
    pub server: IpAddr,
    /// Its port; for ICMP the type and code as the kernel's row has them.
    pub server_port: u16,
    /// Whoever asked through trusted proxies last, when that is known.
    pub forwarded_for: Option<IpAddr>,
    /// Application, when it is known.
    pub application: Option<ApplicationId>,
    /// Packets from the client.
    pub client_packets: u64,
    /// Bytes from the client.
    pub client_bytes: u64,
    /// Packets from the server.
    pub server_packets: u64,
    /// Bytes from the server.
    pub server_bytes: u64,
    /// Seconds since it was opened.
    pub age: u32,
    /// Seconds since its last packet.
    pub idle: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// The rule that decided; [`RuleId::DEFAULT`] for none.
    pub rule: RuleId,
}
