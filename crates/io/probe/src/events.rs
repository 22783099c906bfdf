//! What the kernel saw: records of the ring as typed events, arguments redacted.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nv_model::behaviour::{Deed, DeedKind, Stdio};
use nv_model::file::FileOperation;
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Mechanism, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes;

use crate::layout::{
    CgroupRecord, DEED_REFUSED, DeedRecord, ExecRecord, ExitRecord, FileRecord, ForkRecord, NO_RULE,
    RecordHead, exec_flag, kind,
};
use crate::redact;
use crate::ring::Ring;

/// One event. Times are since boot, suspend included; see [`since_boot`].
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
    /// Whether it is from the image cannot be told on this kernel.
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

/// Reader of the ring. One owner reads, on a thread of its own or behind an `AsyncFd`.
pub struct Events {
    ring: Ring,
    inbox: Arc<Mutex<Inbox>>,
}

#[derive(Default)]
struct Inbox {
    events: Vec<Event>,
    malformed: u64,
}

impl Events {
    /// Most events of one [`Events::poll`].
    pub const MAX_BATCH: usize = 1024;

    /// Takes the descriptor of a ring: among `Loaded::descriptors`, `ring` has programs and processes, `cgroup_ring`
    /// cgroups alone.
    ///
    /// # Errors
    /// It is not a ring buffer, or it cannot be mapped.
    pub fn from_descriptor(ring: OwnedFd) -> io::Result<Self> {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let sink = Arc::clone(&inbox);
        let ring = Ring::new(
            ring,
            Box::new(move |record| {
                let mut inbox = sink.lock().unwrap_or_else(PoisonError::into_inner);
                match parse(record) {
                    Some(event) => inbox.events.push(event),
                    None => inbox.malformed = inbox.malformed.saturating_add(1),
                }
            }),
        )?;
        Ok(Self { ring, inbox })
    }

    /// Waits for at most `timeout`, then gives what lies in the ring, at most [`Events::MAX_BATCH`]. A stopped exec and
    /// a new cgroup end the wait at once; other records wait for its end or for 64 KiB of them, so a `timeout` of
    /// 100 ms bounds their delay.
    ///
    /// # Errors
    /// The wait failed; an interrupted one does not.
    pub fn poll(&mut self, timeout: Duration) -> io::Result<Vec<Event>> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.ring, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.drain(),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives what lies in the ring now, at most [`Events::MAX_BATCH`].
    ///
    /// # Errors
    /// The ring refused.
    pub fn drain(&mut self) -> io::Result<Vec<Event>> {
        self.ring.consume(Self::MAX_BATCH)?;
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut inbox.events))
    }

    /// Records that were of no known shape, since the start.
    pub fn malformed(&self) -> u64 {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).malformed
    }
}

impl AsFd for Events {
    /// Readable when a record that wakes is there; call [`Events::drain`] then, and every 100 ms for the others.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Time since boot by the events' clock. `now − (since_boot() − event.at)` is the event's time of day.
#[must_use]
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Reads one record; `None` when its kind or length is not known.
fn parse(record: &[u8]) -> Option<Event> {
    let (head, _) = RecordHead::read_from_prefix(record).ok()?;
    let (at, cgroup, pid) = (Duration::from_nanos(head.at), head.cgroup, head.pid);
    match head.kind {
        kind::EXEC => Some(Event::Exec(Box::new(exec(&ExecRecord::read_from_prefix(record).ok()?.0)))),
        kind::FILE => {
            file(&FileRecord::read_from_prefix(record).ok()?.0).map(|event| Event::File(Box::new(event)))
        }
        kind::DEED => {
            deed(&DeedRecord::read_from_prefix(record).ok()?.0).map(|event| Event::Deed(Box::new(event)))
        }
        kind::FORK => {
            let parent_pid = ForkRecord::read_from_prefix(record).ok()?.0.parent_pid;
            Some(Event::Fork { at, cgroup, pid, parent_pid })
        }
        kind::EXIT => {
            let code = ExitRecord::read_from_prefix(record).ok()?.0.code;
            Some(Event::Exit { at, cgroup, pid, code })
        }
        kind::CGROUP_MADE => {
            let (made, _) = CgroupRecord::read_from_prefix(record).ok()?;
            let profile = (made.profile != 0).then_some(made.profile);
            Some(Event::CgroupMade { at, id: cgroup, parent: made.parent, path: text(&made.path), profile })
        }
        kind::CGROUP_GONE => {
            let (gone, _) = CgroupRecord::read_from_prefix(record).ok()?;
            Some(Event::CgroupGone { at, id: cgroup, path: text(&gone.path) })
        }
        _ => None,
    }
}

fn exec(record: &ExecRecord) -> Exec {
    let has = |flag: u32| record.flags & flag != 0;
    let arguments = record.arguments.get(..record.argument_bytes as usize).unwrap_or(&record.arguments);
    Exec {
        at: Duration::from_nanos(record.head.at),
        cgroup: record.head.cgroup,
        parent_cgroup: record.parent_cgroup,
        pid: record.head.pid,
        parent_pid: record.parent_pid,
        uid: record.uid,
        euid: record.euid,
        path: text(&record.path),
        truncated: has(exec_flag::TRUNCATED),
        filename: text(&record.filename),
        command: redact::command(arguments, arguments.len() == record.arguments.len()),
        name: text(&record.comm),
        parent_name: text(&record.parent_comm),
        drifted: has(exec_flag::CHANGED | exec_flag::FILELESS | exec_flag::OTHER_MOUNT),
        fileless: has(exec_flag::FILELESS),
        other_mount: has(exec_flag::OTHER_MOUNT),
        origin_unknown: has(exec_flag::ORIGIN_UNKNOWN),
        foreign: has(exec_flag::FOREIGN),
        host_mounts: has(exec_flag::HOST_MOUNTS),
        runtime: has(exec_flag::RUNTIME),
        script: has(exec_flag::SCRIPT),
        stranger: has(exec_flag::STRANGER),
        stdio: record.stdio.map(stdio),
        parent_stdio: record.parent_stdio.map(stdio),
        profile: record.profile,
        mode: match record.mode {
            1 => Some(Mode::Discover),
            2 => Some(Mode::Monitor),
            3 => Some(Mode::Protect),
            _ => None,
        },
        baseline: if record.baseline == 1 { Baseline::ZeroDrift } else { Baseline::Basic },
        rule: (record.rule != NO_RULE).then_some(record.rule),
        verdict: verdict(record.verdict),
        mechanism: mechanism(record.mechanism),
        decision_nanos: record.decision_nanos,
    }
}

/// `enum verdict`.
const fn verdict(raw: u8) -> Verdict {
    match raw {
        1 => Verdict::Learn,
        2 => Verdict::Allow,
        3 => Verdict::Violate,
        4 => Verdict::Deny,
        _ => Verdict::Open,
    }
}

/// `enum mechanism`.
const fn mechanism(raw: u8) -> Option<Mechanism> {
    match raw {
        1 => Some(Mechanism::BpfLsm),
        2 => Some(Mechanism::FmodRet),
        3 => Some(Mechanism::TracepointKill),
        _ => None,
    }
}

fn file(record: &FileRecord) -> Option<FileEvent> {
    Some(FileEvent {
        at: Duration::from_nanos(record.head.at),
        cgroup: record.head.cgroup,
        pid: record.head.pid,
        parent_pid: record.parent_pid,
        uid: record.uid,
        euid: record.euid,
        name: text(&record.comm),
        path: text(&record.path),
        truncated: record.flags & exec_flag::TRUNCATED != 0,
        operation: FileOperation::ALL.get(usize::from(record.operation).checked_sub(1)?).copied()?,
        profile: record.profile,
        rule: record.rule,
        verdict: verdict(record.verdict),
        mechanism: mechanism(record.mechanism),
        decision_nanos: record.decision_nanos,
    })
}

fn deed(record: &DeedRecord) -> Option<DeedEvent> {
    let other = (record.other_pid != 0).then(|| (record.other_pid, text(&record.other_comm)));
    Some(DeedEvent {
        at: Duration::from_nanos(record.head.at),
        cgroup: record.head.cgroup,
        pid: record.head.pid,
        parent_pid: record.parent_pid,
        uid: record.uid,
        euid: record.euid,
        name: text(&record.comm),
        deed: Deed {
            kind: DeedKind::ALL.get(usize::try_from(record.deed).ok()?.checked_sub(1)?).copied()?,
            refused: record.flags & DEED_REFUSED != 0,
            argument: record.argument,
            other,
            file_system: said(&record.type_name),
            // Sources of network file systems may have a password in them.
            from: said(&record.from),
            target: said(&record.target),
        },
    })
}

/// What a process said, without secrets and control characters.
fn said(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    redact::command(bytes.get(..end).unwrap_or(bytes), end + 1 >= bytes.len())
}

/// `enum stdio`.
const fn stdio(raw: u8) -> Stdio {
    match raw {
        1 => Stdio::Terminal,
        2 => Stdio::Device,
        3 => Stdio::File,
        4 => Stdio::Pipe,
        5 => Stdio::InternetSocket,
        6 => Stdio::OtherSocket,
        _ => Stdio::Unknown,
    }
}

/// Text up to the first NUL; bytes that are no UTF-8 become U+FFFD.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromZeros as _, IntoBytes as _};

    #[test]
    fn a_stopped_exec_reads_as_what_the_kernel_wrote() {
        let mut record = ExecRecord::new_zeroed();
        record.head = RecordHead { kind: kind::EXEC, pid: 7, at: 5_000_000_001, cgroup: 42 };
        record.flags = exec_flag::CHANGED | exec_flag::CONTAINER;
        record.rule = NO_RULE;
        (record.verdict, record.mechanism, record.mode, record.baseline) = (4, 3, 3, 1);
        record.path[..9].copy_from_slice(b"/tmp/evil");
        record.arguments[..22].copy_from_slice(b"evil\0--token\0abcdef\0x\0");
        record.argument_bytes = 22;
        let Some(Event::Exec(exec)) = parse(record.as_bytes()) else { panic!("no exec") };
        assert_eq!((exec.pid, exec.cgroup, exec.at), (7, 42, Duration::new(5, 1)));
        assert_eq!((exec.path.as_str(), exec.command.as_str()), ("/tmp/evil", "evil --token *** x"));
        assert_eq!((exec.verdict, exec.mechanism), (Verdict::Deny, Some(Mechanism::TracepointKill)));
        assert_eq!((exec.mode, exec.baseline, exec.rule), (Some(Mode::Protect), Baseline::ZeroDrift, None));
        assert!(exec.drifted && !exec.fileless && !exec.runtime);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_event_or_nothing(mut record in proptest::collection::vec(any::<u8>(), 0..900), kind in 0_u32..8) {
            if let Some(head) = record.get_mut(..4) { head.copy_from_slice(&kind.to_ne_bytes()); }
            let event = parse(&record);
            prop_assert!(event.is_none() || record.len() >= size_of::<ForkRecord>());
        }
    }
}
