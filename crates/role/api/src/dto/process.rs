//! Processes of a workload.

use nv_model::question::ProcessEntry;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Named;

/// A process, or in the history one that has ended or a program that was stopped.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct ProcessInfo {
    /// Last part of the path.
    pub name: String,
    /// Arguments, secrets redacted.
    pub cmdline: String,
    /// Name of the user; empty when unknown.
    pub user: String,
    /// What it does (`Running`, `Sleeping`, `Waiting`, `Stopped`, `Zombie`), or `Exited`.
    pub status: String,
    /// What was decided when it was run: `open`, `learn`, `allow`, `violate` or `deny`; empty when it ran before the
    /// enforcer.
    pub action: String,
    /// Process id, in the host's numbering.
    pub pid: u32,
    /// Parent's process id; 0 when unknown.
    pub parent: u32,
    /// Process group; 0 when unknown.
    pub group: u32,
    /// Session; 0 when unknown.
    pub session: u32,
    /// It runs with the rights of root.
    pub root: bool,
    /// When it began to run this program, in seconds since the epoch.
    pub start_timestamp: i64,
    /// Executable, absolute in the workload; ours, beside the contract.
    pub path: String,
    /// SHA-256 of the executable, in hexadecimal, once it was taken; ours, beside the contract.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Real user id; ours, beside the contract.
    pub uid: u32,
    /// Effective user id; ours, beside the contract.
    pub euid: u32,
    /// When it ended, in seconds since the epoch; ours, beside the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_timestamp: Option<i64>,
    /// Exit status, or 128 and the signal's number; ours, beside the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u32>,
}

impl Named for ProcessInfo {
    const ONE: &'static str = "process";
    const MANY: &'static str = "processes";
}

impl From<ProcessEntry> for ProcessInfo {
    fn from(entry: ProcessEntry) -> Self {
        Self {
            name: entry.name,
            cmdline: entry.command,
            user: entry.user,
            status: if entry.ended.is_some() { "Exited".to_owned() } else { entry.state },
            action: entry.verdict.map(|verdict| verdict.as_str().to_owned()).unwrap_or_default(),
            pid: entry.pid,
            parent: entry.parent,
            group: entry.process_group,
            session: entry.session,
            root: entry.euid == 0,
            start_timestamp: entry.started.seconds(),
            path: entry.path,
            sha256: entry.sha256,
            uid: entry.uid,
            euid: entry.euid,
            end_timestamp: entry.ended.map(nv_model::time::Timestamp::seconds),
            exit_code: entry.exit.map(exit_code),
        }
    }
}

/// As a shell shows it, of what wait(2) gives.
fn exit_code(wait: u32) -> u32 {
    match wait & 0x7f {
        0 => (wait >> 8) & 0xff,
        signal => 128 + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_shown_as_a_shell_shows_it() {
        assert_eq!([0, 3 << 8, 9, 9 | 0x80].map(exit_code), [0, 3, 137, 137]);
    }
}
