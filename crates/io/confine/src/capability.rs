//! Capabilities of a thread.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::{ConfineError, failed};

/// Capabilities that the kernel may know; today there are 41.
const MAX_CAPABILITIES: u32 = 64;

/// Keeps these of the capabilities that it has, for good, here and in programs that it runs; nothing may trace or dump the
/// process any more but root with `CAP_SYS_PTRACE`.
///
/// # Errors
/// [`ConfineError`].
pub fn keep_only(wanted: CapabilitySet) -> Result<(), ConfineError> {
    bound(wanted)?;
    match clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(failed("ambient set")(error)),
    }
    let held = capabilities(None).map_err(failed("capabilities"))?;
    let left = held.permitted & wanted;
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed("capabilities"))?;
    set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("dumpable"))
}

/// No program that this process runs will ever have a capability. It keeps its own for the moment.
///
/// # Errors
/// [`ConfineError`].
pub fn empty_bounding_set() -> Result<(), ConfineError> {
    bound(CapabilitySet::empty())
}

fn bound(wanted: CapabilitySet) -> Result<(), ConfineError> {
    for number in 0..MAX_CAPABILITIES {
        let one = CapabilitySet::from_bits_retain(1_u64 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) if !wanted.contains(one) => match remove_capability_from_bounding_set(one) {
                // Without CAP_SETPCAP the set stays, and no_new_privs keeps programs from gaining what is in it.
                Ok(()) | Err(Errno::PERM) => {}
                Err(error) => return Err(failed("bounding set")(error)),
            },
            Ok(_) => {}
            Err(Errno::INVAL) => break, // The kernel knows no more.
            Err(error) => return Err(failed("bounding set")(error)),
        }
    }
    Ok(())
}
