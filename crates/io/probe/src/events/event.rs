//! What a record tells.

use std::time::Duration;

use nv_model::behaviour::{Deed, Stdio};
use nv_model::file::FileOperation;
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Mechanism, Verdict};
use serde::{Deserialize, Serialize};

/// One event. Times are since boot, suspend included; see [`super::since_boot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A program was run, or stopped from running.
    Exec(Box<Exec>),
    /// A file was opened or changed against its rule, or was kept from it.
    File(Box<FileEvent>),
    /// A process of a container asked the kernel for something that attacks are made of.
    Deed(Box<DeedEvent>),
    /// A process was made.
    Fork {
        /// When.
        at: Duration,
        /// In which cgroup.
        cgroup: u64,
        /// The new process.
        pid: u32,
        /// Who made it.
        parent_pid: u32,
    },
    /// A process ended.
    Exit {
        /// When.
        at: Duration,
        /// In which cgroup.
        cgroup: u64,
        /// Which one.
        pid: u32,
        /// How, as wait(2) gives it: the exit status times 256, or the signal.
        code: u32,
    },
    /// A cgroup (v2) was made. It already has its parent's row.
    CgroupMade {
        /// When.
        at: Duration,
        /// Its id.
        id: u64,
        /// Its parent's id.
        parent: u64,
        /// Its path in the v2 tree, `/` first; at most 511 bytes.
        path: String,
        /// The profile that it inherited.
        profile: Option<u32>,
    },
    /// A cgroup (v2) was removed, and its row with it.
    CgroupGone {
        /// When.
        at: Duration,
        /// Its id.
        id: u64,
        /// Its path.
        path: String,
    },
}

/// A program that was run, or was stopped from running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// When.
    pub at: Duration,
    /// Cgroup of the process.
    pub cgroup: u64,
    /// Cgroup of its parent process: another one for a runtime's exec into a container.
    pub parent_cgroup: u64,
    /// Process id in the host's numbering.
    pub pid: u32,
    /// Parent's process id.
    pub parent_pid: u32,
    /// Real user id in the host's numbering.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Absolute path in the process' root, as the kernel resolved it; `/memfd:…` for a file in memory.
    pub path: String,
    /// The path is not whole, so no exact rule was asked: it did not fit (255 bytes, 64 folders), or its beginning is
    /// not in the process' sight (a detached mount).
    pub truncated: bool,
    /// The file name as it was called, which a link can differ by; at most 127 bytes.
    pub filename: String,
    /// Arguments with secrets redacted, at most 256 bytes of them; of an exec that was refused those that its caller gave.
    /// Empty where they could not be read.
    pub command: String,
    /// The task's name.
    pub name: String,
    /// The parent's name.
    pub parent_name: String,
    /// Not from the image: new, changed, in memory only, or on another mount.
    pub drifted: bool,
    /// In memory only, or deleted.
    pub fileless: bool,
    /// On another mount than the container's root file system.
    pub other_mount: bool,
    /// Whether it is from the image cannot be told: judged without BPF, not on an overlay.
    pub origin_unknown: bool,
    /// Its path may be of the container's own making: on a mount of its own, or in the host's file system.
    pub foreign: bool,
    /// The caller is in the host's mount namespace.
    pub host_mounts: bool,
    /// The container runtime itself, before it enters the container; not judged.
    pub runtime: bool,
    /// The file is a script against the rules; the exec of its interpreter is told on its own, where it comes to that.
    pub script: bool,
    /// The process, or one that it descends from, came into the container by another way than its runtime.
    pub stranger: bool,
    /// Standard input and output of the process.
    pub stdio: [Stdio; 2],
    /// Those of its parent.
    pub parent_stdio: [Stdio; 2],
    /// Number of the profile that was asked.
    pub profile: u32,
    /// The profile's mode at that moment; `None` when it had no row.
    pub mode: Option<Mode>,
    /// The profile's baseline.
    pub baseline: Baseline,
    /// The matching rule's number, whatever it said.
    pub rule: Option<u32>,
    /// What was decided.
    pub verdict: Verdict,
    /// What stopped it.
    pub mechanism: Option<Mechanism>,
    /// From the hook's first instruction to the verdict (and the signal), in nanoseconds.
    pub decision_nanos: u32,
}

impl Exec {
    /// Whether what is against it is its descent, which only the zero-drift baseline asks for.
    #[must_use]
    pub fn is_against_family(&self) -> bool {
        self.stranger
            && self.baseline == Baseline::ZeroDrift
            && self.rule.is_none()
            && self.verdict.is_violation()
    }
}

/// A file was opened or changed against its rule, or was kept from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEvent {
    /// When.
    pub at: Duration,
    /// Cgroup of the process.
    pub cgroup: u64,
    /// Process id in the host's numbering.
    pub pid: u32,
    /// Parent's process id.
    pub parent_pid: u32,
    /// Real user id in the host's numbering.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// The task's name.
    pub name: String,
    /// Path of the file in the process' root.
    pub path: String,
    /// The path is not whole.
    pub truncated: bool,
    /// What was done.
    pub operation: FileOperation,
    /// Number of the profile that was asked.
    pub profile: u32,
    /// Number of the rule in it.
    pub rule: u32,
    /// What was decided.
    pub verdict: Verdict,
    /// What stopped it.
    pub mechanism: Option<Mechanism>,
    /// Time that the decision took, in nanoseconds.
    pub decision_nanos: u32,
}

/// A process of a container asked the kernel for something that attacks are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeedEvent {
    /// When.
    pub at: Duration,
    /// Cgroup of the container that the process belongs to.
    pub cgroup: u64,
    /// Process id in the host's numbering.
    pub pid: u32,
    /// Parent's process id.
    pub parent_pid: u32,
    /// Real user id in the host's numbering.
    pub uid: u32,
    /// Effective user id.
    pub euid: u32,
    /// The task's name.
    pub name: String,
    /// What it asked for.
    pub deed: Deed,
}
