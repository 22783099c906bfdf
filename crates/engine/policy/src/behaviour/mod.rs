//! Suspicious behaviour, from facts about one exec and from connections. A finding is a report and nothing else: what
//! may run is the profile's business, so that a name that is known here neither stops nor excuses anything.
//!
//! Names catch what is used as it is; renamed tools are caught by what they do: a shell on a connection, the rights of
//! root from nowhere, many ports of one address.

mod deed;
mod privilege;
mod scan;
mod shell;
mod tools;

use nv_model::behaviour::{Behaviour, Stdio};
use nv_model::verdict::Verdict;

pub use deed::of_deed;
pub use scan::Scans;

/// Facts about one exec.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// In a container; else a program of the host.
    pub container: bool,
    /// Started from outside of the container, as a runtime does for its first program and for an exec into it.
    pub entered: bool,
    /// Executable, absolute in the workload.
    pub path: &'a str,
    /// As it was called, which a link can differ by; may be empty.
    pub called: &'a str,
    /// Arguments, redacted, with spaces between; empty when they are not known.
    pub command: &'a str,
    /// Standard input and output.
    pub stdio: [Stdio; 2],
    /// Those of the parent.
    pub parent_stdio: [Stdio; 2],
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Real and effective user of the process before; `None` when that is not known.
    pub before: Option<(u32, u32)>,
    /// Not from the image.
    pub drifted: bool,
    /// Not from the image, and the file that ran under this path before was.
    pub replaced: bool,
    /// In memory only.
    pub fileless: bool,
    /// In the host's mount namespace, although the process ran a program of the container before.
    pub escaped: bool,
    /// What the profile says.
    pub verdict: Verdict,
}

/// Something suspicious.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub behaviour: Behaviour,
    /// How it was recognised.
    pub message: String,
}

impl Finding {
    fn new(behaviour: Behaviour, message: impl Into<String>) -> Self {
        Self { behaviour, message: message.into() }
    }
    /// Whether a profile in Discover should not take the program in because of it: it is what an attack does, and no
    /// tool that a service may well use. A name alone never keeps a program from being learned.
    #[must_use]
    pub fn unlearnable(&self) -> bool {
        matches!(
            self.behaviour,
            Behaviour::RemoteShell
                | Behaviour::SetIdEscalation
                | Behaviour::Escalation
                | Behaviour::Fileless
                | Behaviour::NamespaceEscape
                | Behaviour::CgroupEscape
        )
    }
}

/// What is suspicious about an exec, at most one finding of each kind.
#[must_use]
pub fn of_exec(exec: &Exec<'_>) -> Vec<Finding> {
    let names = tools::Names::of(exec);
    let mut found = Vec::new();
    found.extend(shell::remote(exec, &names));
    found.extend(tools::named(exec, &names));
    found.extend(privilege::gained(exec));
    found.extend(origin(exec));
    if exec.escaped {
        found.push(Finding::new(
            Behaviour::NamespaceEscape,
            format!("a process of the container runs {} in the host's file system", exec.path),
        ));
    }
    found
}

/// Where the program comes from. What the profile was asked about and did not allow is an incident of its own; on
/// hosts the origin says nothing, as there is no image.
fn origin(exec: &Exec<'_>) -> Option<Finding> {
    if !exec.container || exec.verdict.is_violation() {
        return None;
    }
    if exec.fileless {
        let what = format!("{} exists in memory only", exec.path);
        return Some(Finding::new(Behaviour::Fileless, what));
    }
    if exec.replaced {
        let what = format!("{} is not the image's program any more, as it was before", exec.path);
        return Some(Finding::new(Behaviour::ChangedExecutable, what));
    }
    let new = exec.drifted && exec.verdict != Verdict::Allow;
    new.then(|| Finding::new(Behaviour::NewExecutable, format!("{} is not from the image", exec.path)))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An ordinary program of a container.
    pub(crate) fn exec() -> Exec<'static> {
        Exec {
            container: true,
            entered: false,
            path: "/usr/bin/app",
            called: "/usr/bin/app",
            command: "app",
            stdio: [Stdio::Pipe; 2],
            parent_stdio: [Stdio::Pipe; 2],
            uid: 0,
            euid: 0,
            before: Some((0, 0)),
            drifted: false,
            replaced: false,
            fileless: false,
            escaped: false,
            verdict: Verdict::Learn,
        }
    }

    pub(crate) fn found(exec: &Exec<'_>) -> Vec<Behaviour> {
        of_exec(exec).into_iter().map(|finding| finding.behaviour).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{exec, found};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ordinary_program_is_not_suspicious() {
        assert_eq!(found(&exec()), []);
        assert_eq!(found(&Exec { container: false, drifted: true, fileless: true, ..exec() }), []);
    }

    #[test]
    fn where_a_program_comes_from_is_told_unless_the_profile_did_so_already() {
        let memory = Exec { fileless: true, drifted: true, ..exec() };
        assert_eq!(found(&memory), [Behaviour::Fileless]);
        assert_eq!(found(&Exec { verdict: Verdict::Deny, ..memory }), []);
        let new = Exec { drifted: true, ..exec() };
        assert_eq!(found(&new), [Behaviour::NewExecutable]);
        assert_eq!(found(&Exec { verdict: Verdict::Allow, ..new }), [], "someone listed it");
        let listed = Exec { replaced: true, verdict: Verdict::Allow, ..new };
        assert_eq!(found(&listed), [Behaviour::ChangedExecutable], "someone listed another file");
        assert!(!of_exec(&new)[0].unlearnable(), "a new program is what Discover is for");
        assert!(of_exec(&memory)[0].unlearnable());
        let tool = Exec { path: "/usr/bin/ssh", ..exec() };
        assert!(!of_exec(&tool)[0].unlearnable(), "a name is reported and nothing else");
    }

    #[test]
    fn a_process_that_left_its_container_is_an_escape() {
        assert_eq!(found(&Exec { escaped: true, ..exec() }), [Behaviour::NamespaceEscape]);
    }

    proptest! {
        #[test]
        fn any_texts_give_few_findings(path in ".{0,40}", called in ".{0,40}", command in "(-|[ -eRDw:/]|.){0,60}", uid: u32, euid: u32, container: bool) {
            let exec = Exec { path: &path, called: &called, command: &command, uid, euid, container, ..exec() };
            prop_assert!(of_exec(&exec).len() <= 5);
        }
    }
}
