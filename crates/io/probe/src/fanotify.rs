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

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nv_model::node::Capability;
use nv_model::verdict::Mechanism;
use rustix::fs::Stat;

/// Bytes that one read takes: some hundred records.
const BUFFER: usize = 32 * 1024;
/// Longest wait for the trial's opener.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest file handle (`MAX_HANDLE_SZ`).
const HANDLE_BYTES: usize = 128;

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
    /// `fstat` failed.
    pub fn of(descriptor: impl AsFd) -> io::Result<Self> {
        Ok(Self::from(rustix::fs::fstat(descriptor)?))
    }
}

impl From<Stat> for Inode {
    fn from(stat: Stat) -> Self {
        Self { device: stat.st_dev, number: stat.st_ino }
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

/// Whether an open can be refused, found by refusing one of a file made for that.
#[must_use]
pub fn trial() -> Capability {
    let start = Instant::now();
    let reason = crate::trial_files::unnamed()
        .map_err(|error| format!("no file can be made to try it with: {error}"))
        .and_then(|file| {
            // Without a name it is opened again through its descriptor.
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            fire(Ask::Open, file.as_fd(), move || std::fs::File::open(path).map(drop))
        })
        .err()
        .unwrap_or_default();
    let trial_micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Capability { mechanism: Mechanism::Fanotify, works: reason.is_empty(), reason, trial_micros }
}

/// Whether changes of files in containers are told, found on an overlay made for that: their root file systems are of
/// that kind. The error is the reason, in one sentence.
///
/// # Errors
/// The kernel does not tell, or there is no overlay to try it with.
pub fn tells_of_overlay() -> Result<(), String> {
    let telling =
        Telling::new().map_err(|error| format!("the kernel does not tell folder and name: {error}"))?;
    let overlay = overlay().map_err(|error| format!("no overlay can be made to try it with: {error}"))?;
    telling.add(overlay.as_fd()).map(drop).map_err(|error| {
        format!("an overlay's folders have no handles by which the kernel could call them: {error}")
    })
}

/// The root of an overlay that is mounted nowhere and ends with its descriptor. Both layers are folders that every machine
/// has; nothing is looked up in them.
fn overlay() -> io::Result<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    };
    let system = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(system.as_fd(), "lowerdir", "/usr:/etc")?;
    fsconfig_create(system.as_fd())?;
    Ok(fsmount(system.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// Refuses what `act` does with the marked file. The error is the reason, in one sentence.
pub(crate) fn fire(
    ask: Ask,
    file: BorrowedFd<'_>,
    act: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), String> {
    let asking = Asking::new().map_err(|error| format!("the kernel does not ask before opens: {error}"))?;
    asking.add(ask, file, false).map_err(|error| format!("a file takes no mark: {error}"))?;
    let opener = std::thread::spawn(act);
    let end = Instant::now() + PATIENCE;
    let mut asked = false;
    while !opener.is_finished() && Instant::now() < end {
        let mut questions = Vec::new();
        asking.read(&mut questions).map_err(|error| format!("questions cannot be read: {error}"))?;
        for question in questions {
            asked = true;
            asking
                .answer(question.file.as_fd(), false)
                .map_err(|error| format!("an answer is not taken: {error}"))?;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    // Lets the opener go on, should it still wait.
    drop(asking);
    let opened = opener.join().map_err(|_panic| "the opener ended".to_owned())?;
    match opened {
        Err(error) if asked && error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        Err(error) => Err(format!("it was fired, and the open failed otherwise: {error}")),
        Ok(()) if asked => Err("the open that was refused went through".to_owned()),
        Ok(()) => Err("a marked file was opened and nobody was asked".to_owned()),
    }
}

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

/// A group that is asked.
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

    /// Takes the questions that are there. Several threads may call it, each question comes to one of them.
    ///
    /// # Errors
    /// The group cannot be read any more.
    pub fn read(&self, questions: &mut Vec<Question>) -> io::Result<()> {
        let mut buffer = [0_u8; BUFFER];
        let Some(bytes) = read(&self.group, &mut buffer)? else { return Ok(()) };
        let mut rest = buffer.get(..bytes).unwrap_or_default();
        while let Some((head, record)) = head(rest) {
            rest = rest.get(record.len()..).unwrap_or_default();
            if head.fd < 0 {
                continue;
            }
            // SAFETY: the kernel has opened it for the reader of this record alone.
            let file = unsafe { OwnedFd::from_raw_fd(head.fd) };
            questions.push(Question {
                file,
                pid: head.pid.unsigned_abs(),
                exec: head.mask & libc::FAN_OPEN_EXEC_PERM != 0,
            });
        }
        Ok(())
    }

    /// Lets whoever asked go on, or fails their call with EPERM. `file` is [`Question::file`]; a second answer to the same
    /// question is refused by the kernel and harmless.
    ///
    /// # Errors
    /// It was answered already, or whoever asked is gone.
    pub fn answer(&self, file: BorrowedFd<'_>, allow: bool) -> io::Result<()> {
        let response = if allow { libc::FAN_ALLOW } else { libc::FAN_DENY };
        let answer = libc::fanotify_response { fd: file.as_raw_fd(), response };
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

/// A folder by what its file system calls it: equal for the mark and for what is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(Vec<u8>);

/// Something was done in a marked folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The folder.
    pub folder: Handle,
    /// Name in it; `.` for the folder itself.
    pub name: Vec<u8>,
    /// Who, in the host's numbering; may have ended.
    pub pid: u32,
    /// What was done; several when they came one after the other.
    pub done: Done,
    /// It is a folder.
    pub is_folder: bool,
}

/// What a [`Notice`] tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Made under this name.
    pub created: bool,
    /// Moved to this name.
    pub moved_to: bool,
    /// Moved away from it.
    pub moved_from: bool,
    /// Deleted.
    pub deleted: bool,
    /// Content or length changed.
    pub modified: bool,
    /// Mode, owner, times or number of links changed.
    pub attributes: bool,
}

const TOLD: u64 = libc::FAN_CREATE
    | libc::FAN_MOVED_TO
    | libc::FAN_MOVED_FROM
    | libc::FAN_DELETE
    | libc::FAN_MODIFY
    | libc::FAN_ATTRIB
    | libc::FAN_EVENT_ON_CHILD
    | libc::FAN_ONDIR;

/// A group that tells.
#[derive(Debug)]
pub struct Telling {
    group: OwnedFd,
}

impl Telling {
    /// A new group. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// The kernel does not tell folder and name (before 5.9), or forbids it.
    pub fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_NOTIF | libc::FAN_REPORT_DFID_NAME | libc::FAN_UNLIMITED_MARKS;
        Ok(Self { group: init(flags)? })
    }

    /// Tells of what is done in a folder from now on, and gives the handle by which it is called then.
    ///
    /// # Errors
    /// The file system has no handles for its folders (overlay before 6.6), or takes no marks.
    pub fn add(&self, folder: BorrowedFd<'_>) -> io::Result<Handle> {
        let handle = handle_of(folder)?;
        mark(&self.group, libc::FAN_MARK_ADD, TOLD, folder)?;
        Ok(handle)
    }
    /// Tells of it no longer.
    ///
    /// # Errors
    /// There was no such mark.
    pub fn remove(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        mark(&self.group, libc::FAN_MARK_REMOVE, TOLD, folder)
    }

    /// Takes the notices that are there; how many were lost since, as far as the kernel says it: one for an overflow.
    ///
    /// # Errors
    /// The group cannot be read any more.
    pub fn read(&self, notices: &mut Vec<Notice>) -> io::Result<u64> {
        let mut buffer = [0_u8; BUFFER];
        let Some(bytes) = read(&self.group, &mut buffer)? else { return Ok(0) };
        let mut rest = buffer.get(..bytes).unwrap_or_default();
        let mut lost = 0;
        while let Some((head, record)) = head(rest) {
            rest = rest.get(record.len()..).unwrap_or_default();
            if head.mask & libc::FAN_Q_OVERFLOW != 0 {
                lost += 1;
                continue;
            }
            let information = record.get(usize::from(head.metadata_len)..).unwrap_or_default();
            if let Some((folder, name)) = folder_and_name(information) {
                let has = |bit: u64| head.mask & bit != 0;
                notices.push(Notice {
                    folder,
                    name,
                    pid: head.pid.unsigned_abs(),
                    done: Done {
                        created: has(libc::FAN_CREATE),
                        moved_to: has(libc::FAN_MOVED_TO),
                        moved_from: has(libc::FAN_MOVED_FROM),
                        deleted: has(libc::FAN_DELETE),
                        modified: has(libc::FAN_MODIFY),
                        attributes: has(libc::FAN_ATTRIB),
                    },
                    is_folder: has(libc::FAN_ONDIR),
                });
            }
        }
        Ok(lost)
    }
}

impl AsFd for Telling {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// `struct fanotify_event_info_fid` of kind `DFID_NAME`: 4 bytes head, 8 bytes file system id, a `struct file_handle`
/// (length, type, bytes), the name and its NUL.
fn folder_and_name(mut information: &[u8]) -> Option<(Handle, Vec<u8>)> {
    loop {
        let [kind, _, low, high, ..] = *information else { return None };
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let record = information.get(4..length)?;
        if kind == libc::FAN_EVENT_INFO_TYPE_DFID_NAME {
            let (system, handle) = record.split_at_checked(8)?;
            let bytes = usize::try_from(u32::from_ne_bytes(handle.first_chunk().copied()?)).ok()?;
            let named = handle.get(4..)?;
            let (kind_and_bytes, name) = named.split_at_checked(4 + bytes)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            return Some((Handle([system, kind_and_bytes].concat()), name.to_vec()));
        }
        information = information.get(length..)?;
    }
}

/// What `FAN_REPORT_DFID_NAME` will call the folder: the id of its file system, then type and bytes of its handle.
///
/// # Errors
/// Its file system has no handles.
pub fn handle_of(folder: BorrowedFd<'_>) -> io::Result<Handle> {
    #[repr(C)]
    struct FileHandle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        handle: [u8; HANDLE_BYTES],
    }
    // One that names and cannot be opened again is enough (Linux 6.5); older kernels know the openable kind only.
    for flags in [libc::AT_HANDLE_FID, 0] {
        let mut handle =
            FileHandle { bytes: HANDLE_BYTES as libc::c_uint, kind: 0, handle: [0; HANDLE_BYTES] };
        let mut mount: libc::c_int = 0;
        // SAFETY: the path is a NUL-terminated literal; `handle` says how many bytes it has room for; both outlive the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                folder.as_raw_fd(),
                c"".as_ptr(),
                &raw mut handle,
                &raw mut mount,
                libc::AT_EMPTY_PATH | flags,
            )
        };
        if done == 0 {
            // SAFETY: zeroes are a valid `statfs`, which is numbers only.
            let mut system: libc::statfs = unsafe { zeroed() };
            // SAFETY: `system` is a whole `statfs` that outlives the call.
            if unsafe { libc::fstatfs(folder.as_raw_fd(), &raw mut system) } < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: `fsid_t` is two ints; read as the eight bytes that the kernel reports.
            let id: [u8; 8] = unsafe { std::mem::transmute_copy(&system.f_fsid) };
            let used = usize::try_from(handle.bytes).unwrap_or(0).min(HANDLE_BYTES);
            let bytes = handle.handle.get(..used).unwrap_or_default();
            return Ok(Handle([&id[..], &handle.kind.to_ne_bytes(), bytes].concat()));
        }
        let error = io::Error::last_os_error();
        if flags == 0 || error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_record_are_no_notice() {
        for bytes in [&[][..], &[2], &[2, 0, 3, 0], &[2, 0, 40, 0, 1, 2, 3], &[9, 0, 0, 0, 0]] {
            assert_eq!(folder_and_name(bytes), None, "{bytes:?}");
        }
        let mut record = vec![libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 0, 0, 0];
        record.extend([7_u8; 8]);
        record.extend(4_u32.to_ne_bytes());
        record.extend(1_u32.to_ne_bytes());
        record.extend(*b"abcdfile\0\0\0");
        let length = u16::try_from(record.len()).unwrap();
        record[2..4].copy_from_slice(&length.to_ne_bytes());
        let (handle, name) = folder_and_name(&record).unwrap();
        assert_eq!((handle.0.len(), name.as_slice()), (8 + 4 + 4, &b"file"[..]));
        for cut in 0..record.len() {
            let mut short = record[..cut].to_vec();
            if let Some(at) = short.get_mut(2..4) {
                at.copy_from_slice(&u16::try_from(cut).unwrap().to_ne_bytes());
            }
            drop(folder_and_name(&short));
        }
    }
}
