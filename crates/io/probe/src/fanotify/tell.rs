//! Groups that tell.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{BUFFER, head, init, mark, read};

/// Longest file handle (`MAX_HANDLE_SZ`).
const HANDLE_BYTES: usize = 128;

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
