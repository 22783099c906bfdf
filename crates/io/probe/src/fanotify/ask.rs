//! Groups that ask.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::DupFlags;

use super::{head, init, mark, read};

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Any open (`FAN_OPEN_PERM`).
    Open,
    /// An open to run it (`FAN_OPEN_EXEC_PERM`, Linux 5.0).
    Exec,
}

impl Ask {
    const fn mask(self) -> u64 {
        match self {
            Self::Open => libc::FAN_OPEN_PERM,
            Self::Exec => libc::FAN_OPEN_EXEC_PERM,
        }
    }
}

/// How much one mark covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// A file system (Linux 4.20).
    FileSystem,
    /// One mount of it; copies of the mount in other namespaces are others.
    Mount,
}

impl Whole {
    const fn flag(self) -> libc::c_uint {
        match self {
            Self::FileSystem => libc::FAN_MARK_FILESYSTEM,
            Self::Mount => libc::FAN_MARK_MOUNT,
        }
    }
}

/// A group that is asked. A process is to have one alone: the kernel ends a group when nobody waits any more who came by one
/// of its marks, even if that one waits for the answer of another group (`fsnotify_prepare_user_wait` holds the marks of
/// all), so that two that end with one process can wait for one another for ever.
#[derive(Debug)]
pub struct Asking {
    group: OwnedFd,
}

/// Somebody wants to open a file, and waits.
#[derive(Debug)]
pub struct Question {
    /// The file, open to read. Dropping it answers nothing.
    pub file: OwnedFd,
    /// Who, in the host's numbering.
    pub pid: u32,
    /// It is opened to be run.
    pub exec: bool,
}

impl Asking {
    /// A new group. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// The kernel has no permission events, forbids them, or the user has too many groups.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_UNLIMITED_QUEUE | libc::FAN_UNLIMITED_MARKS;
        Ok(Self { group: init(flags)? })
    }

    /// The same group by another descriptor, for another process: it goes on as long as one of them is open.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.group.try_clone()
    }
    /// A group that another process has made.
    #[must_use]
    pub fn from_descriptor(group: OwnedFd) -> Self {
        Self { group }
    }

    /// Asks about a file from now on; about every file in a folder, when it is one.
    ///
    /// # Errors
    /// The file system takes no marks.
    pub fn add(&self, ask: Ask, target: BorrowedFd<'_>, folder: bool) -> io::Result<()> {
        let children = if folder { libc::FAN_EVENT_ON_CHILD } else { 0 };
        mark(&self.group, libc::FAN_MARK_ADD, ask.mask() | children, target)
    }
    /// Asks about it no longer.
    ///
    /// # Errors
    /// There was no such mark.
    pub fn remove(&self, ask: Ask, target: BorrowedFd<'_>) -> io::Result<()> {
        mark(&self.group, libc::FAN_MARK_REMOVE, ask.mask() | libc::FAN_EVENT_ON_CHILD, target)
    }

    /// Asks about every file of a file system, in whatever mount namespace and by whatever path it is opened, or of one
    /// mount. `target` is anything on it.
    ///
    /// # Errors
    /// The kernel takes no such mark (it has none for its own internal file systems), or there are too many.
    pub fn add_whole(&self, ask: Ask, target: BorrowedFd<'_>, whole: Whole) -> io::Result<()> {
        mark(&self.group, libc::FAN_MARK_ADD | whole.flag(), ask.mask(), target)
    }
    /// Asks about a file no longer, as long as it is not changed. Where the kernel can (Linux 5.19) it forgets that when
    /// it needs the memory.
    ///
    /// # Errors
    /// The file system takes no marks.
    pub fn pass(&self, ask: Ask, target: BorrowedFd<'_>) -> io::Result<()> {
        let ignore = libc::FAN_MARK_ADD | libc::FAN_MARK_IGNORED_MASK;
        mark(&self.group, ignore | libc::FAN_MARK_EVICTABLE, ask.mask(), target)
            .or_else(|_| mark(&self.group, ignore, ask.mask(), target))
    }

    /// Takes the next question, if there is one. One at a time, so that a thread that hangs on one keeps no others; several
    /// threads and processes may call it, each question comes to one of them.
    ///
    /// # Errors
    /// The group cannot be read any more, or there is no descriptor left, and then the kernel has refused the open.
    pub fn take(&self) -> io::Result<Option<Question>> {
        let mut record = [0_u8; size_of::<libc::fanotify_event_metadata>()];
        let Some(bytes) = read(&self.group, &mut record)? else { return Ok(None) };
        let Some((head, _)) = head(record.get(..bytes).unwrap_or_default()) else { return Ok(None) };
        if head.fd < 0 {
            return Ok(None);
        }
        // SAFETY: the kernel has opened it for the reader of this record alone.
        let file = unsafe { OwnedFd::from_raw_fd(head.fd) };
        let exec = head.mask & libc::FAN_OPEN_EXEC_PERM != 0;
        Ok(Some(Question { file, pid: head.pid.unsigned_abs(), exec }))
    }

    /// Lets whoever asked go on, or fails their call with EPERM. When they do, the file is open here no more: an open file
    /// keeps the mount that it is on from being unmounted, and they may be about to do that.
    ///
    /// # Errors
    /// It was answered already, or whoever asked is gone.
    pub fn answer(&self, mut question: Question, allow: bool) -> io::Result<()> {
        // The kernel knows the question by this number, which is therefore not free for another one yet.
        if let Err(error) = rustix::io::dup3(&self.group, &mut question.file, DupFlags::CLOEXEC) {
            tracing::debug!(%error, "a file stays open until its question is answered");
        }
        self.answer_beside(&question, allow)
    }

    /// The same for a question that somebody else still looks at. A second answer is refused by the kernel and harmless.
    ///
    /// # Errors
    /// As for [`Self::answer`].
    pub fn answer_beside(&self, question: &Question, allow: bool) -> io::Result<()> {
        self.answer_number(question.file.as_raw_fd(), allow)
    }

    /// Answers what a process has read and left behind, which may have ended: the kernel knows a question by the number
    /// that its file had there. Numbers up to `below` are tried; how many questions there were.
    pub fn settle(&self, below: i32, allow: bool) -> usize {
        (0..below).filter(|number| self.answer_number(*number, allow).is_ok()).count()
    }

    fn answer_number(&self, number: i32, allow: bool) -> io::Result<()> {
        let response = if allow { libc::FAN_ALLOW } else { libc::FAN_DENY };
        let answer = libc::fanotify_response { fd: number, response };
        // SAFETY: the struct is two numbers without padding, and lives during the call.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const answer).cast::<u8>(), size_of::<libc::fanotify_response>())
        };
        rustix::io::write(&self.group, bytes)?;
        Ok(())
    }
}

impl AsFd for Asking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}
