//! Which system calls are left.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::{ConfineError, failed};

/// Where a panic is told.
const STDERR: u64 = 2;

/// What is asked of an argument.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// It is this number.
    Is(u64),
    /// It is a larger number.
    Above(u64),
    /// It has none of these bits.
    Lacks(u64),
}

/// Without a condition: memory, threads, the clock, chance, the end.
const COMPUTING: &[i64] = &[
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

/// System calls that are allowed, each without a condition or under some of which one has to hold.
#[derive(Debug)]
pub struct Calls {
    rules: BTreeMap<i64, Vec<SeccompRule>>,
}

impl Calls {
    /// What every program needs to compute and to tell a panic. Memory that can be run cannot be had.
    ///
    /// # Errors
    /// [`ConfineError`].
    pub fn of_computing() -> Result<Self, ConfineError> {
        let calls = Self { rules: COMPUTING.iter().map(|number| (*number, Vec::new())).collect() };
        let executable = u64::try_from(libc::PROT_EXEC).map_err(failed("system calls"))?;
        let get_flags = u64::try_from(libc::F_GETFD).map_err(failed("system calls"))?;
        calls
            .allow_if(libc::SYS_mmap, 2, Test::Lacks(executable))?
            .allow_if(libc::SYS_mprotect, 2, Test::Lacks(executable))?
            // With assertions the standard library asks whether what it closes is open.
            .allow_if(libc::SYS_fcntl, 1, Test::Is(get_flags))?
            .allow_if(libc::SYS_write, 0, Test::Is(STDERR))
    }

    /// This one too, whatever its arguments.
    #[must_use]
    pub fn allow(mut self, call: i64) -> Self {
        self.rules.insert(call, Vec::new());
        self
    }

    /// This one too, where its argument at a place passes; of several conditions of one call one is enough.
    ///
    /// # Errors
    /// [`ConfineError`].
    pub fn allow_if(mut self, call: i64, argument: u8, test: Test) -> Result<Self, ConfineError> {
        let (how, value) = match test {
            Test::Is(value) => (SeccompCmpOp::Eq, value),
            Test::Above(value) => (SeccompCmpOp::Gt, value),
            Test::Lacks(bits) => (SeccompCmpOp::MaskedEq(bits), 0),
        };
        let rule = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(failed("system calls"))?;
        self.rules.entry(call).or_default().push(rule);
        Ok(self)
    }

    /// From now on any other call ends the process.
    ///
    /// # Errors
    /// [`ConfineError`].
    pub fn enforce(self) -> Result<(), ConfineError> {
        let arch = std::env::consts::ARCH.try_into().map_err(failed("system calls of this machine"))?;
        let filter = SeccompFilter::new(self.rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
            .map_err(failed("system calls"))?;
        let program: BpfProgram = filter.try_into().map_err(failed::<BackendError>("system calls"))?;
        seccompiler::apply_filter(&program).map_err(failed("system calls"))
    }
}
