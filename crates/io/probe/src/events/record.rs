//! From a record's bytes to an event.

use std::time::Duration;

use nv_model::behaviour::{Deed, DeedKind, Stdio};
use nv_model::file::FileOperation;
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Mechanism, Verdict};
use zerocopy::FromBytes as _;

use super::event::{DeedEvent, Event, Exec, FileEvent};
use crate::layout::{
    CgroupRecord, DEED_REFUSED, DeedRecord, ExecRecord, ExitRecord, FileRecord, ForkRecord, NO_RULE,
    RecordHead, exec_flag, kind,
};
use crate::redact;

/// Reads one record and how it begins; `None` when its kind or length is not known.
pub(super) fn parse(record: &[u8]) -> Option<(RecordHead, Event)> {
    let (head, _) = RecordHead::read_from_prefix(record).ok()?;
    Some((head, event(head, record)?))
}

fn event(head: RecordHead, record: &[u8]) -> Option<Event> {
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
        origin_unknown: false,
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
        record.head =
            RecordHead { kind: kind::EXEC, pid: 7, at: 5_000_000_001, cgroup: 42, cpu: 1, sequence: 9 };
        record.flags = exec_flag::CHANGED | exec_flag::CONTAINER;
        record.rule = NO_RULE;
        (record.verdict, record.mechanism, record.mode, record.baseline) = (4, 3, 3, 1);
        record.path[..9].copy_from_slice(b"/tmp/evil");
        record.arguments[..22].copy_from_slice(b"evil\0--token\0abcdef\0x\0");
        record.argument_bytes = 22;
        let Some((head, Event::Exec(exec))) = parse(record.as_bytes()) else { panic!("no exec") };
        assert_eq!((exec.pid, exec.cgroup, exec.at), (7, 42, Duration::new(5, 1)));
        assert_eq!((exec.path.as_str(), exec.command.as_str()), ("/tmp/evil", "evil --token *** x"));
        assert_eq!((exec.verdict, exec.mechanism), (Verdict::Deny, Some(Mechanism::TracepointKill)));
        assert_eq!((exec.mode, exec.baseline, exec.rule), (Some(Mode::Protect), Baseline::ZeroDrift, None));
        assert_eq!((head.cpu, head.sequence), (1, 9));
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
