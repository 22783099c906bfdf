//! What an inspector gives away before it reads the first packet: all but a few system calls.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use nv_confine::{Calls, ConfineError, Test, empty_bounding_set, failed, leave_all, leave_user};

/// The socket to the agent.
const CONTROL: u64 = 0;
/// Where a panic is told.
const STDERR: u64 = 2;

/// For good, and for the calling thread alone: each thread of the process begins with it. Takes root. `relay` is the socket
/// through which the keeper is answered, and `detour` that by which packets go on that have waited, for the thread that answers.
///
/// # Errors
/// [`ConfineError`]: then no packet may be read.
pub(super) fn confine(
    relay: Option<BorrowedFd<'_>>,
    detour: Option<BorrowedFd<'_>>,
) -> Result<(), ConfineError> {
    empty_bounding_set()?;
    leave_user()?;
    leave_all()?;
    let mut calls = Calls::of_computing()?
        .allow(libc::SYS_ppoll)
        .allow(libc::SYS_getsockopt)
        // Queues are read.
        .allow(libc::SYS_recvfrom)
        // Nothing that is open can be read at a place but the rules.
        .allow_if(libc::SYS_pread64, 0, Test::Above(STDERR))?;
    #[cfg(target_arch = "x86_64")]
    {
        calls = calls.allow(libc::SYS_poll);
    }
    // A packet socket, and a queue's, sends as well as it receives: only those to the agent and the keeper may be written to, and
    // that of the detour, behind which the kernel lets nothing but packets of connections pass that wait. Rules come from the
    // agent as files, queues come through the relay.
    let number = |socket: Option<BorrowedFd<'_>>| {
        socket.map(|socket| u64::try_from(socket.as_raw_fd())).transpose().map_err(failed("system calls"))
    };
    if let Some(detour) = number(detour)? {
        calls = calls.allow_if(libc::SYS_sendto, 0, Test::Is(detour))?;
    }
    for socket in [Some(CONTROL), number(relay)?].into_iter().flatten() {
        for call in [libc::SYS_sendmsg, libc::SYS_recvmsg] {
            calls = calls.allow_if(call, 0, Test::Is(socket))?;
        }
    }
    calls.enforce()
}
