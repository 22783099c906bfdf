//! What a process gives away for good before it reads what strangers wrote: user, groups, every capability, files, networks,
//! and all system calls but a few.
//!
//! ```text
//! leave_user   nobody, where the process may become it
//! leave_all    capabilities; Landlock: no file is opened, no network reached, nobody signalled
//! Calls        seccomp: memory, threads, the clock, and what the reader names; any other ends the process
//! ```
//!
//! Linux keeps all of it a thread: to be called before there are others, or by each.

mod calls;
mod capability;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

pub use calls::{Calls, Test};
pub use capability::{empty_bounding_set, keep_only};

/// User and group that own nothing (`nobody`).
const NOBODY: u32 = 65_534;

/// Why something could not be given away.
#[derive(Debug, thiserror::Error)]
#[error("privileges cannot be given away: {what}")]
pub struct ConfineError {
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Makes a [`ConfineError`] of what the kernel said.
pub fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl Fn(E) -> ConfineError {
    move |error| ConfineError { what, source: error.into() }
}

/// Becomes nobody, with the last of what that takes. Takes root.
///
/// # Errors
/// [`ConfineError`].
pub fn leave_user() -> Result<(), ConfineError> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[]).map_err(failed("groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(failed("group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(failed("user"))
}

/// As [`leave_user`], where the process may; else it stays who it is.
///
/// # Errors
/// [`ConfineError`].
pub fn leave_user_if_possible() -> Result<(), ConfineError> {
    let held = capabilities(None).map_err(failed("capabilities"))?;
    let needed = CapabilitySet::SETUID | CapabilitySet::SETGID;
    if held.effective.contains(needed) { leave_user() } else { Ok(()) }
}

/// Gives every capability away, and has Landlock refuse every file, network and signal. Where the kernel has no Landlock, or
/// less of it, system calls are what is left to be refused.
///
/// # Errors
/// [`ConfineError`].
pub fn leave_all() -> Result<(), ConfineError> {
    keep_only(CapabilitySet::empty())?;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map(|_status| ())
        .map_err(failed("files and networks"))
}
