//! fanotify: asks before a file is opened, and tells what was done to files in a folder. For kernels on which BPF cannot
//! refuse, and for what the kernel lets happen and is to be reported.
//!
//! Two kinds of groups, each with marks on single inodes, so that only what is marked costs anything:
//!
//! * [`Asking`] (`FAN_CLASS_CONTENT`): every open of a marked file, or of a file in a marked folder, waits for
//!   [`Asking::answer`]. When the group's last descriptor closes, whoever waits goes on.
//! * [`Telling`] (`FAN_CLASS_NOTIF` with `FAN_REPORT_DFID_NAME`, Linux 5.9; on overlay from 6.6): what was made, changed,
//!   renamed or deleted in a marked folder, with the folder's handle, the name, and the process.

#![expect(
    unsafe_code,
    reason = "fanotify has no safe wrapper: marks, handles and records are the kernel's raw forms"
)]

mod ask;
mod tell;
mod trial;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, StatxFlags};

pub use self::ask::{Ask, Asking, Question, Whole};
pub use self::tell::{Done, Handle, Notice, Telling, handle_of};
pub(crate) use self::trial::fire;
pub use self::trial::{tells_of_overlay, trial};

/// Bytes that one read takes: some hundred records.
const BUFFER: usize = 32 * 1024;

/// A file or folder on this machine, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub number: u64,
}

impl Inode {
    /// Of an open descriptor.
    ///
    /// # Errors
    /// `statx` failed.
    pub fn of(descriptor: impl AsFd) -> io::Result<Self> {
        Ok(Self::with_links(descriptor)?.0)
    }

    /// Of what a path leads to, links of `/proc` included. Nothing is opened, so that its mount can be unmounted meanwhile.
    ///
    /// # Errors
    /// `statx` failed.
    pub fn at(path: &str) -> io::Result<Self> {
        let stat = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
        Ok(Self { device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), number: stat.stx_ino })
    }

    /// The same, and how many names it has. As the kernel knows them: a file system that a process serves is not asked, as it
    /// may never answer.
    ///
    /// # Errors
    /// `statx` failed.
    pub fn with_links(descriptor: impl AsFd) -> io::Result<(Self, u32)> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let stat = rustix::fs::statx(descriptor, "", flags, StatxFlags::INO | StatxFlags::NLINK)?;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok((Self { device, number: stat.stx_ino }, stat.stx_nlink))
    }
}

fn init(flags: libc::c_uint) -> io::Result<OwnedFd> {
    let events = libc::O_RDONLY | libc::O_LARGEFILE | libc::O_CLOEXEC;
    // SAFETY: takes two numbers; the descriptor that it returns is new and nobody else's.
    let raw = unsafe {
        libc::fanotify_init(flags | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK, events as libc::c_uint)
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: see above.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sets or removes a mark on what `target` is open on. A descriptor of `O_PATH` is enough, and opening one asks nobody.
fn mark(group: &OwnedFd, change: libc::c_uint, mask: u64, target: BorrowedFd<'_>) -> io::Result<()> {
    // Through the descriptor's own link: an O_PATH descriptor itself is not taken.
    let path = CString::new(format!("/proc/self/fd/{}", target.as_raw_fd()))?;
    // SAFETY: `path` is NUL-terminated and lives during the call; the kernel keeps no pointer.
    let done = unsafe { libc::fanotify_mark(group.as_raw_fd(), change, mask, libc::AT_FDCWD, path.as_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads what is there into `buffer`; `None` when there is nothing.
fn read(group: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::io::read(group, &mut *buffer) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The head of the record at the beginning of `bytes`, and all of that record.
fn head(bytes: &[u8]) -> Option<(libc::fanotify_event_metadata, &[u8])> {
    let whole = bytes.get(..size_of::<libc::fanotify_event_metadata>())?;
    // SAFETY: the struct is numbers only, and as many bytes as it has are there.
    let head: libc::fanotify_event_metadata = unsafe { std::ptr::read_unaligned(whole.as_ptr().cast()) };
    let length = usize::try_from(head.event_len).ok().filter(|length| *length >= whole.len())?;
    if head.vers != libc::FANOTIFY_METADATA_VERSION {
        return None;
    }
    Some((head, bytes.get(..length)?))
}
