//! The test programs, as cargo names them.

use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Has;

/// A test program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Its target, as `host_probe`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

impl Program {
    /// Tests of it to run, as arguments of the harness; none for all. Emulation is some twenty times slower, so of the
    /// network's tests those run that touch the kernel's interfaces most (attaching, adoption, verdicts) and count no
    /// packets by time, without BPF LSM those in which another mechanism stops something, and on the oldest kernel one of each
    /// kind that it has.
    pub(crate) fn arguments(&self, has: Has) -> Vec<&'static str> {
        let some: &[&str] = match (self.name.as_str(), has) {
            ("nv-cost", _) => return Vec::new(),
            ("host_network", Has::OldBpfLsm) => &[
                "enforcement_goes_on",
                "a_denied",
                "places::a_",
                "what_goes_out",
                "detour::a_conn",
                "sent_as_one",
            ],
            ("host_network", _) => &[
                "enforcement_goes_on",
                "interface",
                "filters_of_others",
                "tables_of_another",
                "does_not_notice",
                "a_denied",
                "ipv6",
                "places::a_",
                "translation::both",
                "detour::a_conn",
                "sent_as_one",
            ],
            // What is done on an overlay is not told by so old a kernel.
            ("host_fanotify", Has::OldBpfLsm) => &["asked_about", "whoever_waits", "the_trial"],
            ("host_probe", Has::OldBpfLsm) => &[
                "the_trial_finds_what",
                "no_unlisted",
                "zero_drift_runs",
                "many_containers",
                "conditions::arguments",
                "pins::enforcement",
                "scripts::a_stopped",
                "files::what_a_rule",
                "files::no_other_name",
            ],
            ("host_probe", Has::Trampolines) => &[
                "the_trial",
                "no_unlisted",
                "zero_drift",
                "many_containers",
                "detached_mount",
                "conditions::",
                "family::",
                "scripts::",
                "files::",
            ],
            // The limits of tables are the same everywhere, and reaching them takes minutes here.
            ("host_probe", Has::BpfLsm) => &["--skip", "limits::"],
            _ => &[],
        };
        [some, &["--test-threads", "1"]].concat()
    }

    /// Whether it says something on a kernel that has this: another way to stop programs makes a difference to some alone.
    pub(crate) fn runs_where(&self, has: Has) -> bool {
        match has {
            Has::BpfLsm | Has::OldBpfLsm => true,
            Has::Trampolines => self.name == "host_probe",
        }
    }
}

/// Reads `cargo test --no-run --message-format json`: host tests that need a kernel and nothing else.
pub(crate) fn from_cargo(messages: impl BufRead) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for line in messages.lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        let (Some(path), Some(name)) = (
            message.get("executable").and_then(Value::as_str),
            message.pointer("/target/name").and_then(Value::as_str),
        ) else {
            continue;
        };
        let source = message.pointer("/target/src_path").and_then(Value::as_str).unwrap_or_default();
        // The others need a container runtime.
        let bare = ["/crates/io/probe/", "/crates/io/capture/"].iter().any(|folder| source.contains(folder));
        if bare && name.starts_with("host_") {
            programs.push(Program { name: name.to_owned(), path: path.into() });
        }
    }
    ensure!(
        !programs.is_empty(),
        "no host test came in; pipe `cargo test --no-run --message-format json` in"
    );
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    let missing = programs.iter().find(|program| !program.path.is_file());
    missing.map_or(Ok(()), |program| Err(anyhow::anyhow!("{} is gone", program.path.display())))?;
    Ok(programs)
}

/// Shared libraries that a program asks for.
pub(crate) fn libraries(path: &std::path::Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("ldd").arg(path).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}
