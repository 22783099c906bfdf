//! Whether a program may run, by `nv_policy`'s own judge.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::profile::EffectiveProfile;
use nv_model::verdict::{Mechanism, Verdict};
use nv_policy::decide::{self, Arguments, Call, Caller, ProgramFacts};
use nv_probe::events::Exec;
use nv_probe::fanotify::Inode;

use super::super::mounts::Mounts;
use super::kin::{Kin, Proc};
use super::look::{self, Program, Runner};
use super::seats::{self, Found, Seats};
use super::{First, Rows, Warden, held};

/// A program that was judged, until it runs.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) file: Inode,
    pub(super) exec: Box<Exec>,
}

/// Where a program belongs.
pub(super) enum Belongs {
    /// Nobody has said anything of it.
    Nowhere,
    /// It is not told yet, and may be soon.
    Soon,
    /// The runtime itself, in a container's cgroup, before it enters the container.
    Runtime(Found),
    /// Under a profile.
    Under(Found),
}

impl Warden {
    /// Where a program belongs by its process. With `last` whoever is not known is nobody's.
    pub(super) fn belongs(&self, runner: &Runner, seats: &Seats, last: bool) -> Belongs {
        let found = self.seat_of(&runner.cgroups, seats);
        let on_host = runner.mounts == self.host_mounts;
        match found {
            None if on_host || last => Belongs::Nowhere,
            None => Belongs::Soon,
            Some(found) if on_host && found.seat.container => Belongs::Runtime(found),
            Some(found) if on_host || !found.open => Belongs::Under(found),
            Some(_) if !last => Belongs::Soon,
            // A mount namespace of its own, in a cgroup that nobody claims: a container that is not identified.
            Some(found) => {
                let seat = seats::Seat::new(seats.nobody, true);
                Belongs::Under(Found { seat, ..found })
            }
        }
    }

    pub(super) fn seat_of(&self, cgroups: &[u64], seats: &Seats) -> Option<Found> {
        match &self.rows {
            Rows::Told(_) => seats.find(cgroups),
            Rows::Kernel(_, tables) => seats::in_kernel(tables, cgroups),
        }
    }

    /// Whether a process is in a container that is known.
    pub(super) fn is_in_container(&self, pid: u32, seats: &Seats) -> bool {
        let cgroups = look::cgroups(pid, self.cgroup_root());
        self.seat_of(&cgroups, seats).is_some_and(|found| found.seat.container && !found.open)
    }

    /// What the container had at first: what the first of its programs that is judged has.
    fn first_of(&self, found: &Found, pid: u32, mounts: &Mounts) -> Arc<First> {
        let mut roots = held(&self.roots);
        if let Some(first) = roots.get(&found.cgroup) {
            return Arc::clone(first);
        }
        let root = match found.seat.root {
            0 => look::root_device(pid, mounts).unwrap_or(0),
            told => told,
        };
        let first = Arc::new(First { root, devices: mounts.all().map(|mount| mount.device).collect() });
        if root != 0 && !found.open && roots.len() < super::MAX_PROCESSES {
            roots.insert(found.cgroup, Arc::clone(&first));
        }
        first
    }

    /// Judges a file that a process is about to run, or runs. `None` where no profile holds. `late`: it runs already.
    ///
    /// # Errors
    /// The file, or the process's mounts, cannot be looked at.
    pub(super) fn judge(
        &self,
        runner: &Runner,
        found: &Found,
        seats: &Seats,
        file: BorrowedFd<'_>,
        how: How,
    ) -> std::io::Result<Option<Judged>> {
        let Some(profile) = seats.profiles.get(&found.seat.profile) else { return Ok(None) };
        let mounts = Mounts::of(runner.pid)?;
        let container = found.seat.container && runner.mounts != self.host_mounts;
        let first = container.then(|| self.first_of(found, runner.pid, &mounts));
        let root = first.as_ref().map(|first| first.root);
        let mut program = look::program(file, &mounts, root)?;
        program.foreign = program.other_mount
            && first
                .is_some_and(|first| program.device.is_none_or(|device| !first.devices.contains(&device)));
        if program.changed || program.other_mount {
            tracing::debug!(
                pid = runner.pid,
                cgroup = found.cgroup,
                ?root,
                told = found.seat.root,
                ?program,
                "not from the image"
            );
        }
        let caller = if how.late { KnownCaller::Unknown } else { self.caller(runner, &mounts, root) };
        let stranger = container && self.is_stranger(runner.pid, found, seats);
        let verdict = verdict(profile, &program, runner, caller.as_caller(), (how.script, stranger));
        let mut exec = self.exec(runner, found, profile, program, verdict, how);
        exec.stranger = stranger;
        Ok(Some(Judged { file: Inode::of(file)?, exec: Box::new(exec) }))
    }

    /// Whether it was sent into its container by somebody else than the container's runtime. Nobody is taken for that as long
    /// as it is not told who has started the container.
    fn is_stranger(&self, pid: u32, found: &Found, seats: &Seats) -> bool {
        let Some(starter) = found.seat.starter().filter(|_| !self.scripts_only()) else { return false };
        let runtimes =
            seats.runtimes.iter().map(|(device, number)| Inode { device: *device, number: *number });
        held(&self.kinship).decide(pid, starter, &runtimes.collect(), &Proc) == Kin::Stranger
    }

    /// Whether the kernel's word on how a process came to be is still on its way, which its family depends on.
    pub(super) fn awaits_kin(&self, pid: u32, found: &Found, seats: &Seats) -> bool {
        let zero_drift = |profile: &EffectiveProfile| profile.baseline == Baseline::ZeroDrift;
        !self.scripts_only()
            && found.seat.starter.is_some()
            && seats.profiles.get(&found.seat.profile).is_some_and(zero_drift)
            && !held(&self.kinship).knows(pid)
    }

    /// What the process runs until now.
    fn caller(&self, runner: &Runner, mounts: &Mounts, root: Option<u32>) -> KnownCaller {
        let known =
            look::executable(runner.pid).and_then(|file| look::program(file.as_fd(), mounts, root).ok());
        if let Some(known) = known.filter(|known| known.whole && !known.fileless) {
            return KnownCaller::Program(known.path);
        }
        let parent = nv_probe::cgroup::mount_namespace(Some(runner.facts.parent));
        if parent.is_ok_and(|mounts| mounts == self.host_mounts) {
            KnownCaller::Outside
        } else {
            KnownCaller::Unknown
        }
    }

    fn exec(
        &self,
        runner: &Runner,
        found: &Found,
        profile: &EffectiveProfile,
        program: Program,
        (verdict, rule): (Verdict, Option<u32>),
        how: How,
    ) -> Exec {
        let facts = &runner.facts;
        let mechanism = if how.late { Mechanism::UserspaceKill } else { Mechanism::Fanotify };
        Exec {
            at: nv_probe::events::since_boot(),
            cgroup: runner.cgroups.first().copied().unwrap_or(0),
            parent_cgroup: look::cgroups(facts.parent, self.cgroup_root()).first().copied().unwrap_or(0),
            pid: runner.pid,
            parent_pid: facts.parent,
            uid: facts.real_uid,
            euid: facts.effective_uid,
            filename: program.path.clone(),
            name: crate::activity::processes::last_part(&program.path),
            truncated: !program.whole,
            command: if how.late { facts.command.clone() } else { String::new() },
            parent_name: super::super::guard::who::facts(facts.parent).name,
            drifted: program.changed || program.fileless || program.other_mount,
            fileless: program.fileless,
            other_mount: program.other_mount,
            origin_unknown: program.origin_unknown,
            foreign: program.foreign,
            stranger: false,
            host_mounts: runner.mounts == self.host_mounts,
            runtime: false,
            script: how.script,
            stdio: look::stdio(runner.pid),
            parent_stdio: look::stdio(facts.parent),
            profile: found.seat.profile,
            mode: Some(profile.mode),
            baseline: profile.baseline,
            rule,
            verdict,
            mechanism: verdict.is_violation().then_some(mechanism),
            decision_nanos: u32::try_from(how.begin.elapsed().as_nanos()).unwrap_or(u32::MAX),
            path: program.path,
        }
    }
}

/// How a program is judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    pub(super) begin: Instant,
    /// It is a script: its interpreter is judged on its own.
    pub(super) script: bool,
    /// It runs already.
    pub(super) late: bool,
}

enum KnownCaller {
    Unknown,
    Outside,
    Program(String),
}

impl KnownCaller {
    fn as_caller(&self) -> Caller<'_> {
        match self {
            Self::Unknown => Caller::Unknown,
            Self::Outside => Caller::Outside,
            Self::Program(path) => Caller::Program(path),
        }
    }
}

fn verdict(
    profile: &EffectiveProfile,
    program: &Program,
    runner: &Runner,
    caller: Caller<'_>,
    (script, stranger): (bool, bool),
) -> (Verdict, Option<u32>) {
    let call = Call { uid: Some(runner.facts.real_uid), caller, arguments: Arguments::Unknown };
    let drifted = program.changed || program.fileless || program.other_mount;
    // A path that is not known whole is none that a line can speak of.
    let path = if program.whole { program.path.as_str() } else { "" };
    let decision = decide::process(
        profile,
        path,
        ProgramFacts { drifted, foreign: program.foreign, stranger, script, call },
    );
    let rule = decision.rule.and_then(|(place, ..)| u32::try_from(place).ok());
    (decision.verdict, rule)
}

/// What holds where nothing can be told: nothing is stopped but in Protect.
pub(super) fn in_doubt(seats: &Seats, found: &Found) -> Fault {
    let profile = seats.profiles.get(&found.seat.profile).filter(|profile| profile.mode == Mode::Protect);
    profile.map_or(Fault::Open, |profile| profile.fault)
}
