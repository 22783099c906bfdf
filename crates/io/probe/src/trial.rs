//! What this kernel really allows, found by doing it: each mechanism is loaded, attached and fired at a program that
//! this crate starts itself, in a cgroup made for that. Nothing else on the machine is judged meanwhile.

#![expect(unsafe_code, reason = "a child joins its cgroup between fork and exec")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libbpf_rs::ErrorKind;
use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::node::{Capabilities, Capability};
use nv_model::verdict::Mechanism;

use crate::cgroup;
use crate::fanotify;
use crate::object::{Constants, OBSERVERS, complaint, open};
use crate::tables::{CgroupRow, ProfileRow, Tables};

/// What the trial starts: a program that ends at once with [`child_main`]'s code. A binary names itself with a hidden
/// subcommand for it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The executable, for instance `/proc/self/exe`.
    pub exe: PathBuf,
    /// Its arguments, the hidden subcommand.
    pub args: Vec<String>,
}

/// Exit code by which the trial knows that its child ran.
const RAN: u8 = 42;
/// Longest wait for the child: it needs a millisecond, but a busy machine may leave it waiting, and a wrong answer here
/// costs a tier.
const PATIENCE: Duration = Duration::from_secs(3);
/// The trial's only profile.
pub(crate) const PROFILE: u32 = 1;

/// What the hidden subcommand does: nothing. Return its value from `main` at once.
#[must_use]
pub fn child_main() -> u8 {
    RAN
}

/// How a program that should be stopped ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It ran.
    Ran,
    /// Its exec failed with EPERM.
    Refused,
    /// It was killed.
    Killed,
    /// Something else, said in a sentence.
    Other(String),
}

/// Tries every mechanism, the strongest first, and says which one is the best that works. Takes well under a second.
///
/// Mechanisms of tiers before `from_tier` (1 to 4) are left out, as if the kernel did not have them. Needs root, and never
/// fails: what cannot be tried is reported as not working, with the reason. `network` is left open; another crate tries
/// that.
#[must_use]
pub fn run(trial: &Trial, from_tier: u8) -> Capabilities {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let mechanisms = [
        (Mechanism::BpfLsm, "exec_lsm", 1_u8),
        (Mechanism::FmodRet, "exec_fmod_ret", 2),
        (Mechanism::TracepointKill, "exec_tracepoint", 3),
    ];
    let mut capabilities = Capabilities { kernel, ..Capabilities::default() };
    for (mechanism, program, tier) in mechanisms {
        let start = Instant::now();
        let reason = if tier < from_tier {
            left_out(from_tier)
        } else {
            fire(trial, mechanism, program).err().unwrap_or_default()
        };
        let works = reason.is_empty();
        tracing::info!(mechanism = mechanism.as_str(), works, reason, "tried to stop a program");
        if works && capabilities.process.is_none() {
            (capabilities.process, capabilities.tier) = (Some(mechanism), tier);
        }
        let trial_micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        capabilities.trials.push(Capability { mechanism, works, reason, trial_micros });
    }
    if capabilities.process.is_none() {
        let start = Instant::now();
        let reason = without_bpf(trial).err().unwrap_or_default();
        let works = reason.is_empty();
        tracing::info!(mechanism = Mechanism::Fanotify.as_str(), works, reason, "tried to stop a program");
        let lost = if works {
            (capabilities.process, capabilities.tier) = (Some(Mechanism::Fanotify), 4);
            lost_without_bpf()
        } else {
            vec![lost(None, None).concat(), format!("What runs is not seen: {reason}")]
        };
        capabilities.lost = lost;
        let trial_micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        capabilities.trials.push(Capability { mechanism: Mechanism::Fanotify, works, reason, trial_micros });
        return capabilities;
    }
    let observers =
        match capabilities.trials.iter().find(|trial| trial.mechanism == Mechanism::TracepointKill) {
            Some(exec) if !exec.works => Err(exec.reason.clone()),
            _ => observers(),
        };
    capabilities.lost = lost(capabilities.process, observers.as_ref().err());
    if let (Some(_), Err(reason)) = (capabilities.process, belonging()) {
        capabilities.lost.push(format!(
            "Whose a process is follows from the cgroup that it is in, also when it was moved there; what it asks the \
             kernel for is not told: {reason}"
        ));
    }
    capabilities
}

/// Why a mechanism was not tried.
#[must_use]
pub fn left_out(from_tier: u8) -> String {
    format!("it was not tried, as the setting enforcer-tier is {from_tier}")
}

/// What is left where no BPF program stops one: fanotify asks before a file is opened to be run, and the proc connector
/// tells what runs. The error is the reason, in one sentence.
fn without_bpf(trial: &Trial) -> Result<(), String> {
    use std::os::fd::AsFd as _;
    let script = crate::trial_files::program(&trial.exe)
        .map_err(|error| format!("no program can be made to try it with: {error}"))?;
    let path = script.path.clone();
    let run = move || Command::new(path).spawn().and_then(|mut child| child.wait()).map(drop);
    fanotify::fire(fanotify::Ask::Exec, script.file.as_fd(), run)?;
    let run = || {
        let mut command = Command::new(&trial.exe);
        command.args(&trial.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        child.wait()?;
        Ok(child.id())
    };
    crate::connector::trial(run)
}

/// What an operator loses on the last tier, a sentence each.
fn lost_without_bpf() -> Vec<String> {
    [
        "A program that fanotify is not asked about (in memory, on a mount that was just made, on FUSE or an overlay that a \
         container has mounted itself, one that a dynamic loader is given) runs until it is looked at, and is killed then; one \
         that ends before is counted.",
        "A program of the host is not stopped before it runs: in Protect it is killed afterwards.",
        "Conditions on arguments cannot be asked before a program runs: a line with one denies whatever the arguments are, \
         and allows nothing.",
        "Programs are judged by this enforcer's own process: what starts while it is replaced goes by its group's fail mode, \
         and what starts while no enforcer runs is not judged.",
        "Which process comes from a container's first program is known by the kernel's messages on processes, from a second \
         after the container's start on; where messages are lost, by its ancestors.",
        "The hook of the runtime gets no answer: with --fail-closed no container starts.",
        "Of programs that end at once the arguments, and what their input and output were, may not be told.",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What an operator loses against the first tier, a sentence each.
fn lost(process: Option<Mechanism>, observers: Option<&String>) -> Vec<String> {
    let mut lost: Vec<&str> = match process {
        Some(Mechanism::BpfLsm) => vec![],
        Some(Mechanism::FmodRet) => vec![
            "On a kernel that preempts itself the check of an exec can be skipped under load; such a program is \
             killed before its first instruction instead of being refused.",
        ],
        Some(_) => vec![
            "A program that is not allowed is killed before its first instruction instead of being refused: \
             its caller sees an end by signal 9, and no error from execve.",
            "A script's own file is judged by fanotify, in this enforcer's own process: while it is replaced a script goes by \
             its group's fail mode, and while no enforcer runs a script is judged by its interpreter alone. So it is on FUSE or an overlay that a \
             container has mounted itself.",
        ],
        None => vec!["Programs cannot be stopped: Protect only reports them on this node."],
    };
    let observers = observers.map(|reason| format!("What runs is not seen: {reason}"));
    lost.extend(observers.as_deref());
    lost.into_iter().map(str::to_owned).collect()
}

/// Loads one program with tables of its own, and fires it: first in Discover, where the child must run, then in
/// Protect without any rule, where it must not. The error is the reason, in one sentence.
fn fire(trial: &Trial, mechanism: Mechanism, program: &str) -> Result<(), String> {
    let (object, tables) = load(&[program])?;
    let attached = object
        .progs_mut()
        .find(|found| found.name() == program)
        .ok_or_else(|| format!("the object has no program {program}"))?;
    let link = attached.attach().map_err(|error| format!("the kernel does not attach it: {error}"))?;
    let arena = Arena::new().map_err(|error| format!("cannot make a cgroup to try it in: {error}"))?;
    let enforce = |mode: Mode| -> Result<Outcome, String> {
        let set = || {
            tables
                .set_profile(PROFILE, ProfileRow { mode, baseline: Baseline::Basic, fault: Fault::Open })?;
            tables.set_cgroup(arena.id, CgroupRow { profile: PROFILE, container: false })
        };
        set().map_err(|error| format!("cannot write its tables: {error}"))?;
        Ok(arena.start(trial))
    };
    let control = enforce(Mode::Discover)?;
    if control != Outcome::Ran {
        return Err(format!("the trial's own program does not run where it may: {control:?}"));
    }
    let outcome = enforce(Mode::Protect)?;
    drop(link);
    match (mechanism, outcome) {
        (Mechanism::BpfLsm | Mechanism::FmodRet, Outcome::Refused)
        | (Mechanism::TracepointKill, Outcome::Killed) => Ok(()),
        (Mechanism::BpfLsm, Outcome::Ran) => Err(format!(
            "it loads and attaches, but the kernel does not call it: \"bpf\" is {}in /sys/kernel/security/lsm ({})",
            if security("lsm").split(',').any(|name| name == "bpf") { "" } else { "not " },
            security("lsm")
        )),
        (_, Outcome::Ran) => {
            Err("it loads and attaches, but the program that it should stop runs".to_owned())
        }
        (_, other) => Err(format!("it was fired, with an end that was not expected: {other:?}")),
    }
}

/// Whether the programs that only look on load and attach; the first of them, the exec tracepoint, was tried already.
fn observers() -> Result<(), String> {
    let (object, _) = load(OBSERVERS.get(1..).unwrap_or(&OBSERVERS))?;
    for program in object.progs_mut().filter(|program| program.autoload()) {
        let name = program.name().to_string_lossy().into_owned();
        drop(program.attach().map_err(|error| format!("the kernel does not attach {name}: {error}"))?);
    }
    Ok(())
}

/// Whether this kernel lets the programs keep by process which container it belongs to (Linux 5.13), tried once.
///
/// # Errors
/// A sentence, when it does not.
pub fn belonging() -> Result<(), String> {
    static FOUND: OnceLock<Result<(), String>> = OnceLock::new();
    FOUND.get_or_init(|| load_with(&["fork_tracepoint"], true).map(drop)).clone()
}

/// Of what does the same, the better one first, the first that works; else the best one, and why it does not.
pub(crate) fn first(
    same: &[&'static str],
    mut attempt: impl FnMut(&str) -> Result<(), String>,
) -> Result<&'static str, (&'static str, String)> {
    let mut refused = None;
    for one in same.iter().copied() {
        match attempt(one) {
            Ok(()) => return Ok(one),
            Err(reason) => {
                tracing::debug!(one, reason, "cannot be used");
                refused.get_or_insert((one, reason));
            }
        }
    }
    Err(refused.unwrap_or_default())
}

/// Loads `programs` with small tables.
pub(crate) fn load(programs: &[&str]) -> Result<(libbpf_rs::Object, Tables), String> {
    load_with(programs, belonging().is_ok())
}

fn load_with(programs: &[&str], keeps_by_task: bool) -> Result<(libbpf_rs::Object, Tables), String> {
    let refused = |error: libbpf_rs::Error| refusal(&error);
    let mut object = open(programs, Constants { keeps_by_task, ..Constants::default() }).map_err(refused)?;
    for mut map in object.maps_mut() {
        let entries = match map.name().to_string_lossy().as_ref() {
            "ring" | "cgroup_ring" => 4096,
            "cgroups" | "profiles" | "exact" | "patterns" | "file_profiles" | "files" | "applications"
            | "conditions" | "callers" | "limits" | "roots" | "mounters" | "starters" => 16,
            _ => continue,
        };
        map.set_max_entries(entries).map_err(refused)?;
    }
    let object = object.load().map_err(refused)?;
    let descriptors = crate::load::descriptors(&object).map_err(|error| error.to_string())?;
    let tables = Tables::from_descriptors(descriptors).map_err(|error| error.to_string())?;
    Ok((object, tables))
}

/// The kernel's refusal in one sentence.
fn refusal(error: &libbpf_rs::Error) -> String {
    let detail = match error.kind() {
        ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => "this is not root".to_owned(),
        ErrorKind::PermissionDenied => {
            let lockdown = security("lockdown");
            let state = if lockdown.is_empty() { String::new() } else { format!(", lockdown is {lockdown}") };
            format!(
                "it forbids this kind of program even to root, as kernels do that never change their own code{state}"
            )
        }
        _ => complaint(),
    };
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    format!("the kernel does not load it ({error}){detail}")
}

fn security(file: &str) -> String {
    fs::read_to_string(format!("/sys/kernel/security/{file}")).unwrap_or_default().trim().to_owned()
}

/// A cgroup for the trial's child alone; removed at the end.
struct Arena {
    path: PathBuf,
    id: u64,
}

impl Arena {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nv-trial-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = cgroup::unified_root()?.join(name);
        fs::create_dir(&path)?;
        let id = cgroup::id(&path)?;
        Ok(Self { path, id })
    }

    fn start(&self, trial: &Trial) -> Outcome {
        let procs = match OpenOptions::new().write(true).open(self.path.join("cgroup.procs")) {
            Ok(procs) => procs,
            Err(error) => return Outcome::Other(format!("cannot open its cgroup: {error}")),
        };
        let mut command = Command::new(&trial.exe);
        command.args(&trial.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let join = move || join(&procs);
        // SAFETY: between fork and exec the closure makes one write(2) to an open descriptor, and allocates nothing.
        unsafe { command.pre_exec(join) };
        match command.spawn() {
            Ok(child) => wait(child),
            Err(error) if error.raw_os_error() == Some(1) => Outcome::Refused,
            Err(error) => Outcome::Other(format!("cannot start {}: {error}", trial.exe.display())),
        }
    }
}

/// Moves the calling process into the cgroup whose `cgroup.procs` is open.
fn join(mut procs: &File) -> io::Result<()> {
    procs.write_all(b"0")
}

fn wait(mut child: Child) -> Outcome {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.signal() == Some(9) => return Outcome::Killed,
            Ok(Some(status)) if status.code() == Some(RAN.into()) => return Outcome::Ran,
            Ok(Some(status)) => return Outcome::Other(format!("its program ended with {status}")),
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            Ok(None) => {
                let ended = child.kill().and_then(|()| child.wait());
                return Outcome::Other(format!("its program did not end in time: {ended:?}"));
            }
            Err(error) => return Outcome::Other(format!("cannot wait for its program: {error}")),
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // A killed child leaves its cgroup a moment after it is waited for.
        for _ in 0..50 {
            match fs::remove_dir(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => {
                    return tracing::warn!(%error, path = %self.path.display(), "cannot remove a cgroup");
                }
                Ok(()) => return,
            }
        }
        tracing::warn!(path = %self.path.display(), "a cgroup of the trial is still in use");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_tier_loses_nothing() {
        assert!(lost(Some(Mechanism::BpfLsm), None).is_empty());
        for weaker in [Some(Mechanism::FmodRet), Some(Mechanism::TracepointKill), None] {
            assert!(!lost(weaker, None).is_empty(), "{weaker:?}");
        }
        let blind = "the kernel does not load it".to_owned();
        assert!(lost(Some(Mechanism::BpfLsm), Some(&blind)).iter().any(|line| line.contains("not seen")));
    }
}
