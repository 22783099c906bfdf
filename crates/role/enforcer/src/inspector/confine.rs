//! What an inspector gives away before it reads the first packet: user, groups, every capability, files, networks,
//! and all system calls but the few that reading and telling take.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::privileges::{self, PrivilegesError, failed};

/// User and group that own nothing (`nobody`).
const NOBODY: u32 = 65_534;
/// The socket to the agent.
const CONTROL: u64 = 0;
/// Where a panic is told.
const STDERR: u64 = 2;

/// For good, and for the calling thread alone: each thread of the process begins with it. Takes root. `relay` is the socket
/// through which the keeper is answered, for the thread that answers.
///
/// # Errors
/// [`PrivilegesError`]: then no packet may be read.
pub(super) fn confine(relay: Option<BorrowedFd<'_>>) -> Result<(), PrivilegesError> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    privileges::empty_bounding_set()?;
    set_thread_groups(&[]).map_err(failed("groups"))?;
    set_thread_res_gid(gid, gid, gid).map_err(failed("group"))?;
    set_thread_res_uid(uid, uid, uid).map_err(failed("user"))?;
    privileges::keep_only(&[])?;
    // Where the kernel has no Landlock, or less of it, the system calls below are what is left.
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V5)))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(failed("files and networks"))?;
    allow_system_calls(relay)
}

/// System calls without a condition. Memory that can be run cannot be had: `mmap` and `mprotect` have one.
const ALLOWED: &[i64] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_getsockopt,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn allow_system_calls(relay: Option<BorrowedFd<'_>>) -> Result<(), PrivilegesError> {
    let arch = std::env::consts::ARCH.try_into().map_err(failed("system calls of this machine"))?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|number| (*number, Vec::new())).collect();
    let relay = relay.map(|relay| u64::try_from(relay.as_raw_fd())).transpose();
    let relay = relay.map_err(failed("system calls"))?;
    // A packet socket, and a queue's, sends as well as it receives: only those to the agent and the keeper may be written to.
    let compares = |how, descriptor| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, how, descriptor)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(failed("system calls"))
    };
    let on = |descriptor| compares(SeccompCmpOp::Eq, descriptor);
    // Rules come from the agent as files, queues come through the relay.
    let sockets: Vec<SeccompRule> =
        [CONTROL].into_iter().chain(relay).map(on).collect::<Result<_, PrivilegesError>>()?;
    rules.insert(libc::SYS_sendmsg, sockets.clone());
    rules.insert(libc::SYS_recvmsg, sockets);
    // Queues are read.
    rules.insert(libc::SYS_recvfrom, Vec::new());
    // Before a descriptor is closed, the standard library asks in builds with assertions whether it is open.
    let get_flags = u64::try_from(libc::F_GETFD).unwrap_or(1);
    let asks = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, get_flags)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(failed("system calls"))?;
    rules.insert(libc::SYS_fcntl, vec![asks]);
    // Nothing that is open can be read at a place but the rules.
    rules.insert(libc::SYS_pread64, vec![compares(SeccompCmpOp::Gt, STDERR)?]);
    rules.insert(libc::SYS_write, vec![on(STDERR)?]);
    // With assertions the standard library asks whether what it closes is open.
    let asks = u64::try_from(libc::F_GETFD).map_err(failed("system calls"))?;
    let asks = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, asks)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(failed("system calls"))?;
    rules.insert(libc::SYS_fcntl, vec![asks]);
    let executable = u64::try_from(libc::PROT_EXEC).unwrap_or(4);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable =
            SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0)
                .and_then(|condition| SeccompRule::new(vec![condition]))
                .map_err(failed("system calls"))?;
        rules.insert(call, vec![not_executable]);
    }
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
        .map_err(failed("system calls"))?;
    let program: BpfProgram =
        filter.try_into().map_err(failed::<seccompiler::BackendError>("system calls"))?;
    seccompiler::apply_filter(&program).map_err(failed("system calls"))
}
