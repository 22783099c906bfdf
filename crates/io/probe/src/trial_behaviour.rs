//! Which hooks for suspicious behaviour this kernel has, found by doing something that they should tell of.

use std::os::fd::OwnedFd;
use std::time::Duration;

use nv_model::behaviour::DeedKind;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::events::{Event, Events};
use crate::object::{CAPABILITY_PROGRAMS, PTRACE_PROGRAMS};
use crate::tables::CgroupRow;
use crate::trial::{PROFILE, belonging, first, load};
use crate::trial_files::{attach, own_cgroup};

/// What can be told of suspicious behaviour here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BehaviourHooks {
    /// Programs to load.
    pub works: Vec<&'static str>,
    /// What cannot be told, a sentence each.
    pub lost: Vec<String>,
}

/// Longest wait for what should be told.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries the hooks for suspicious behaviour. Needs root, and never fails.
#[must_use]
pub fn behaviour() -> BehaviourHooks {
    let mut hooks = BehaviourHooks::default();
    // Whose doing it is follows from where a process belongs. Without that the trial of programs says what is lost.
    if belonging().is_err() {
        return hooks;
    }
    match first(&CAPABILITY_PROGRAMS, fire) {
        Ok(program) => hooks.works.push(program),
        Err((_, reason)) => hooks.lost.push(format!(
            "Mounts, namespaces, kernel modules, BPF programs and the rights of root that containers ask for are not \
             told: {reason}"
        )),
    }
    match first(&PTRACE_PROGRAMS, |program| {
        let (object, _) = load(&[program])?;
        attach(&object, program).map(drop)
    }) {
        Ok("ptrace_tracepoint") => {
            hooks.works.push("ptrace_tracepoint");
            hooks.lost.push(
                "That a process takes hold of another one is told when it stops it, or when that one is another \
                 user's, runs a program or makes a process: a quiet look into the memory of a process of the same \
                 user is not."
                    .to_owned(),
            );
        }
        Ok(program) => hooks.works.push(program),
        Err((_, reason)) => {
            hooks.lost.push(format!("That a process takes hold of another one is not told: {reason}"));
        }
    }
    hooks
}

/// Asks for a namespace of its own, and looks whether that is told.
fn fire(program: &str) -> Result<(), String> {
    let (object, tables) = load(&[program])?;
    let link = attach(&object, program)?;
    let own = own_cgroup().map_err(|error| format!("this process's cgroup cannot be read: {error}"))?;
    tables
        .set_cgroup(own, CgroupRow { profile: PROFILE, container: true })
        .map_err(|error| format!("cannot write its tables: {error}"))?;
    let mut descriptors = crate::load::descriptors(&object).map_err(|error| error.to_string())?.into_iter();
    let ring: Option<OwnedFd> = descriptors.find(|(name, _)| name == "ring").map(|(_, ring)| ring);
    let mut events = Events::from_descriptor(ring.ok_or("the object has no ring")?)
        .map_err(|error| format!("its records cannot be read: {error}"))?;
    unshare()?;
    let told = events.poll(PATIENCE).map_err(|error| format!("its records cannot be read: {error}"))?;
    drop(link);
    let is_it = |event: &Event| matches!(event, Event::Deed(did) if did.deed.kind == DeedKind::NewNamespace);
    if told.iter().any(is_it) {
        return Ok(());
    }
    Err("it loads and attaches, but a new namespace is not told".to_owned())
}

/// A host name of its own for a thread that ends with it.
#[expect(unsafe_code, reason = "a thread leaves the host name of its process")]
fn unshare() -> Result<(), String> {
    // SAFETY: the thread gets a host name of its own and nothing else, and ends.
    let asked = std::thread::spawn(|| unsafe { unshare_unsafe(UnshareFlags::NEWUTS) });
    match asked.join() {
        Ok(done) => done.map_err(|error| format!("no namespace can be made to try it with: {error}")),
        Err(_panic) => Err("the thread that makes a namespace ended".to_owned()),
    }
}
