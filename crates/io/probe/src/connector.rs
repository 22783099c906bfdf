//! The proc connector: a netlink socket on which the kernel tells of forks, execs and ends of processes (Linux 2.6.15,
//! `CONFIG_PROC_EVENTS`). For kernels that load no BPF.
//!
//! What it tells has happened already, and it names processes only: who they are is for `/proc` to say. Messages that find
//! the socket's buffer full are lost; the kernel says that some were, not how many.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Bytes that may wait: about 100,000 messages (a socket buffer counts more than a message's own bytes).
const BUFFER: usize = 64 * 1024 * 1024;
/// Group and id of process events (`CN_IDX_PROC`, `CN_VAL_PROC`).
const PROCESSES: u32 = 1;
/// `PROC_CN_MCAST_LISTEN`.
const LISTEN: u32 = 1;
/// `struct nlmsghdr`, then `struct cn_msg`.
const HEAD: usize = 16 + 20;
/// Longest message that is looked at; the kernel's have 76 bytes.
const MESSAGE: usize = 512;

/// What happened to a process, not to a thread. Numbers are the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It was forked.
    Fork {
        /// Who forked.
        parent: u32,
        /// The new process.
        pid: u32,
    },
    /// It runs another program.
    Exec {
        /// Which one.
        pid: u32,
    },
    /// It ended.
    Exit {
        /// Which one.
        pid: u32,
        /// How, as wait(2) gives it.
        code: u32,
    },
    /// Messages were lost: what runs has to be looked up.
    Lost,
}

/// The socket.
#[derive(Debug)]
pub struct Connector {
    socket: OwnedFd,
}

impl Connector {
    /// Begins to listen. Needs `CAP_NET_ADMIN`, and the host's process numbers.
    ///
    /// # Errors
    /// The kernel has no process events, or does not let the caller have them.
    pub fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(CONNECTOR),
        )?;
        // Beyond the usual limit; where that is not allowed the usual size has to do.
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
        }
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, PROCESSES))?;
        let mut request = Vec::with_capacity(HEAD + 4);
        let length = u32::try_from(HEAD + 4).unwrap_or(0);
        request.extend(length.to_ne_bytes());
        request.extend(3_u16.to_ne_bytes()); // NLMSG_DONE
        request.extend([0; 10]); // flags, sequence, port
        request.extend(PROCESSES.to_ne_bytes());
        request.extend(PROCESSES.to_ne_bytes());
        request.extend([0; 8]); // sequence, acknowledgement
        request.extend(4_u16.to_ne_bytes()); // length of what follows
        request.extend([0; 2]); // flags
        request.extend(LISTEN.to_ne_bytes());
        rustix::net::send(&socket, &request, SendFlags::empty())?;
        Ok(Self { socket })
    }

    /// Waits for `patience` at most, then takes at most `limit` messages.
    ///
    /// # Errors
    /// The socket cannot be read any more.
    pub fn read(&self, patience: Duration, limit: usize, notices: &mut Vec<Notice>) -> io::Result<()> {
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&patience)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut message = [0_u8; MESSAGE];
        for _ in 0..limit {
            match rustix::net::recvfrom(&self.socket, &mut message, RecvFlags::DONTWAIT) {
                Ok((bytes, _, from)) => {
                    // Other processes may send to the socket, too; port 0 is the kernel's.
                    let kernel = from
                        .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                        .is_some_and(|from| from.pid() == 0);
                    if kernel {
                        notices.extend(message.get(..bytes).and_then(parse));
                    }
                }
                Err(Errno::NOBUFS) => notices.push(Notice::Lost),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `struct proc_event` behind both heads: what, CPU, time (8 bytes), then numbers.
fn parse(message: &[u8]) -> Option<Notice> {
    let number = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(message.get(at..at.checked_add(4)?)?.try_into().ok()?))
    };
    if (number(16)?, number(20)?) != (PROCESSES, PROCESSES) {
        return None;
    }
    let data = |index: usize| number(HEAD + 16 + 4 * index);
    match number(HEAD)? {
        // parent thread, parent process, child thread, child process
        0x1 if data(2)? == data(3)? => Some(Notice::Fork { parent: data(1)?, pid: data(3)? }),
        0x2 => Some(Notice::Exec { pid: data(1)? }),
        // thread, process, code
        0x8000_0000 if data(0)? == data(1)? => Some(Notice::Exit { pid: data(1)?, code: data(2)? }),
        _ => None,
    }
}

/// Whether the kernel tells of programs, found by running one: `run` starts a program, waits for its end and gives its
/// number. The error is the reason, in one sentence.
pub(crate) fn trial(run: impl FnOnce() -> io::Result<u32>) -> Result<(), String> {
    let connector =
        Connector::open().map_err(|error| format!("the kernel does not tell of processes: {error}"))?;
    let pid = run().map_err(|error| format!("no program can be run to try it with: {error}"))?;
    let mut notices = Vec::new();
    for _ in 0..100 {
        connector
            .read(Duration::from_millis(20), 4096, &mut notices)
            .map_err(|error| format!("the kernel's messages on processes cannot be read: {error}"))?;
        if notices.contains(&Notice::Exec { pid }) {
            return Ok(());
        }
        notices.clear();
    }
    Err("a program was run and the kernel did not tell of it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(what: u32, data: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend([PROCESSES, PROCESSES, 0, 0, 40].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend([what, 1, 7, 7].iter().flat_map(|number| number.to_ne_bytes()));
        bytes.extend(data.iter().flat_map(|number| number.to_ne_bytes()));
        bytes
    }

    #[test]
    fn processes_are_told_and_threads_are_not() {
        for (what, data, want) in [
            (0x1, &[10, 10, 11, 11][..], Some(Notice::Fork { parent: 10, pid: 11 })),
            (0x1, &[10, 10, 12, 10], None),
            (0x2, &[13, 11], Some(Notice::Exec { pid: 11 })),
            (0x8000_0000, &[11, 11, 9], Some(Notice::Exit { pid: 11, code: 9 })),
            (0x8000_0000, &[12, 11, 0], None),
            (0x200, &[11, 11], None),
        ] {
            assert_eq!(parse(&message(what, data)), want, "{what:x}");
        }
        let mut foreign = message(0x2, &[13, 11]);
        foreign[16] = 9;
        assert_eq!(parse(&foreign), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_notice_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(parse(&bytes) != Some(Notice::Lost));
        }
    }
}
