//! The kernel's BPF calls that the rest of the crate needs, with owned descriptors and `io::Error`.
#![expect(unsafe_code, reason = "calls into libbpf's C interface")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libbpf_sys::{
    BPF_F_BEFORE, BPF_TC_EGRESS, BPF_TC_F_REPLACE, BPF_TC_INGRESS, BPF_TCX_EGRESS, BPF_TCX_INGRESS,
    bpf_link_create_opts, bpf_link_info, bpf_map_info, bpf_prog_info, bpf_tc_hook, bpf_tc_opts,
};
use zerocopy::{FromBytes, IntoBytes};

/// A direction as the host end of a veth sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    /// What the pod sends: ingress of the host end.
    FromPod,
    /// What the pod is sent: egress of the host end.
    ToPod,
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::FromPod, Self::ToPod];

    /// Name of the program, and part of the names of pins.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
        }
    }
}

/// libbpf answers with a negative errno.
fn check(code: i32) -> io::Result<i32> {
    if code < 0 { Err(io::Error::from_raw_os_error(code.saturating_neg())) } else { Ok(code) }
}

fn own(code: i32) -> io::Result<OwnedFd> {
    let fd: RawFd = check(code)?;
    // SAFETY: the kernel has just handed out this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn length_of<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(0)
}

/// Pins an object into a BPF file system.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe { libbpf_sys::bpf_obj_pin(fd.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Opens a pinned object.
pub(crate) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    own(unsafe { libbpf_sys::bpf_obj_get(path.as_ptr()) })
}

/// Attaches to an interface by tcx, in front of the programs of others. Needs kernel 6.6.
pub(crate) fn link_tcx(program: BorrowedFd<'_>, ifindex: i32, direction: Direction) -> io::Result<OwnedFd> {
    let kind = match direction {
        Direction::FromPod => BPF_TCX_INGRESS,
        Direction::ToPod => BPF_TCX_EGRESS,
    };
    let options = bpf_link_create_opts {
        sz: size_of::<bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: BPF_F_BEFORE,
        ..Default::default()
    };
    // SAFETY: the options are zeroed but for the fields set, and outlive the call.
    own(unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, kind, &raw const options) })
}

/// Attaches to a cgroup beside the programs of others.
pub(crate) fn link_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    kind: libbpf_sys::bpf_attach_type,
) -> io::Result<OwnedFd> {
    // SAFETY: no options are given.
    own(unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), cgroup.as_raw_fd(), kind, std::ptr::null())
    })
}

/// Replaces the program of a link; no packet is left without one.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no options are given.
    check(unsafe { libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null()) })
        .map(drop)
}

/// Takes a link away from what it is attached to, at once, whoever holds it.
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes an integer.
    check(unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// Interface of a tcx link; 0 when the interface is gone, `None` for another kind of link.
pub(crate) fn tcx_interface(link: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut info = bpf_link_info::default();
    let mut length = length_of::<bpf_link_info>();
    // SAFETY: the kernel writes at most `length` bytes into the structure.
    check(unsafe { libbpf_sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut length) })?;
    if info.type_ != libbpf_sys::BPF_LINK_TYPE_TCX {
        return Ok(None);
    }
    // SAFETY: every member of the union is plain integers, and the kernel has filled in this one.
    Ok(Some(unsafe { info.__bindgen_anon_1.tcx.ifindex }))
}

/// Cgroup of a cgroup link; 0 when the cgroup is gone, `None` for another kind of link.
pub(crate) fn linked_cgroup(link: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut info = bpf_link_info::default();
    let mut length = length_of::<bpf_link_info>();
    // SAFETY: the kernel writes at most `length` bytes into the structure.
    check(unsafe { libbpf_sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut length) })?;
    if info.type_ != libbpf_sys::BPF_LINK_TYPE_CGROUP {
        return Ok(None);
    }
    // SAFETY: every member of the union is plain integers, and the kernel has filled in this one.
    Ok(Some(unsafe { info.__bindgen_anon_1.cgroup.cgroup_id }))
}

/// Opens a cgroup by its number: the inode of its folder in the v2 hierarchy that `root` is in. Needs
/// `CAP_DAC_READ_SEARCH`, and a 64-bit kernel of 5.5 or later, where the number is the file handle.
pub(crate) fn open_cgroup(root: BorrowedFd<'_>, cgroup: u64) -> io::Result<OwnedFd> {
    /// `struct file_handle` with a kernfs id (`FILEID_KERNFS` of linux/exportfs.h).
    #[repr(C)]
    struct Handle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        id: [u8; 8],
    }
    let mut handle = Handle { bytes: 8, kind: 0xfe, id: cgroup.to_ne_bytes() };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the handle is laid out as the kernel wants it, says its length, and outlives the call.
    let fd = unsafe { libc::open_by_handle_at(root.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just handed out this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Name of a program, at most 15 bytes.
pub(crate) fn program_name(id: u32) -> io::Result<String> {
    // SAFETY: takes an integer, answers with a descriptor.
    let program = own(unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) })?;
    let mut info = bpf_prog_info::default();
    let mut length = length_of::<bpf_prog_info>();
    // SAFETY: the kernel writes at most `length` bytes into the structure, and all its pointers are null.
    check(unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut length)
    })?;
    let name: Vec<u8> =
        info.name.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Where a classic filter of ours sits: before the filters without a priority of their own, and at a handle
/// that others are unlikely to use.
const FILTER_PRIORITY: u32 = 7;
const FILTER_HANDLE: u32 = 0x4e56;

fn tc_hook(ifindex: i32, direction: Direction) -> bpf_tc_hook {
    bpf_tc_hook {
        sz: size_of::<bpf_tc_hook>() as libbpf_sys::size_t,
        ifindex,
        attach_point: match direction {
            Direction::FromPod => BPF_TC_INGRESS,
            Direction::ToPod => BPF_TC_EGRESS,
        },
        ..Default::default()
    }
}

fn tc_options() -> bpf_tc_opts {
    bpf_tc_opts {
        sz: size_of::<bpf_tc_opts>() as libbpf_sys::size_t,
        handle: FILTER_HANDLE,
        priority: FILTER_PRIORITY,
        ..Default::default()
    }
}

/// Id of the program in our place of the clsact qdisc; `None` when there is none.
pub(crate) fn filter(ifindex: i32, direction: Direction) -> io::Result<Option<u32>> {
    let hook = tc_hook(ifindex, direction);
    let mut options = tc_options();
    // SAFETY: both structures are zeroed but for the fields set, and outlive the call.
    match check(unsafe { libbpf_sys::bpf_tc_query(&raw const hook, &raw mut options) }) {
        Ok(_) => Ok(Some(options.prog_id)),
        // No filter, or no qdisc yet.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts a program into our place of the clsact qdisc, in one step if there was one before. Makes the qdisc if need be.
pub(crate) fn set_filter(program: BorrowedFd<'_>, ifindex: i32, direction: Direction) -> io::Result<()> {
    let mut hook = tc_hook(ifindex, direction);
    // SAFETY: the structure is zeroed but for the fields set, and outlives the call.
    match check(unsafe { libbpf_sys::bpf_tc_hook_create(&raw mut hook) }) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error),
    }
    let mut options = tc_options();
    options.prog_fd = program.as_raw_fd();
    options.flags = BPF_TC_F_REPLACE;
    // SAFETY: both structures are zeroed but for the fields set, and outlive the call.
    check(unsafe { libbpf_sys::bpf_tc_attach(&raw const hook, &raw mut options) }).map(drop)
}

/// Takes our filter away; the qdisc stays, others may use it.
pub(crate) fn remove_filter(ifindex: i32, direction: Direction) -> io::Result<()> {
    let hook = tc_hook(ifindex, direction);
    let options = tc_options();
    // SAFETY: both structures are zeroed but for the fields set, and outlive the call.
    check(unsafe { libbpf_sys::bpf_tc_detach(&raw const hook, &raw const options) }).map(drop)
}

/// Sizes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapShape {
    pub(crate) kind: u32,
    pub(crate) key: u32,
    pub(crate) value: u32,
    pub(crate) entries: u32,
    pub(crate) flags: u32,
}

/// What the kernel says of a table; fails on a descriptor of something else.
pub(crate) fn map_shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let mut info = bpf_map_info::default();
    let mut length = length_of::<bpf_map_info>();
    // SAFETY: the kernel writes at most `length` bytes into the structure.
    check(unsafe { libbpf_sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &raw mut info, &raw mut length) })?;
    Ok(MapShape {
        kind: info.type_,
        key: info.key_size,
        value: info.value_size,
        entries: info.max_entries,
        flags: info.map_flags,
    })
}

/// Number of CPUs that a per-CPU table has values for.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    // SAFETY: takes nothing, answers with a number.
    check(unsafe { libbpf_sys::libbpf_num_possible_cpus() }).map(|count| usize::try_from(count).unwrap_or(1))
}

/// The five map calls. `K` and `V` are as large as [`map_shape`] has said: `Map` checks that once.
pub(crate) fn update<K: IntoBytes + zerocopy::Immutable, V: IntoBytes + zerocopy::Immutable>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    // SAFETY: the kernel reads as many bytes as the map's key and value have, which are as long as these.
    check(unsafe {
        libbpf_sys::bpf_map_update_elem(map.as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), 0)
    })
    .map(drop)
}

pub(crate) fn lookup<K: IntoBytes + zerocopy::Immutable>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut [u8],
) -> io::Result<bool> {
    let key = key.as_bytes();
    // SAFETY: the kernel writes one value, which is as long as the caller's buffer.
    present(unsafe {
        libbpf_sys::bpf_map_lookup_elem(map.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast())
    })
}

pub(crate) fn take<K: IntoBytes + zerocopy::Immutable>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut [u8],
) -> io::Result<bool> {
    let key = key.as_bytes();
    // SAFETY: the kernel writes one value, which is as long as the caller's buffer.
    present(unsafe {
        libbpf_sys::bpf_map_lookup_and_delete_elem(
            map.as_raw_fd(),
            key.as_ptr().cast(),
            value.as_mut_ptr().cast(),
        )
    })
}

pub(crate) fn delete<K: IntoBytes + zerocopy::Immutable>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let key = key.as_bytes();
    // SAFETY: the kernel reads one key, which is as long as this.
    present(unsafe { libbpf_sys::bpf_map_delete_elem(map.as_raw_fd(), key.as_ptr().cast()) })
}

/// The key behind `key`, or the first one; `false` at the end.
pub(crate) fn next_key<K>(map: BorrowedFd<'_>, key: Option<&K>, next: &mut K) -> io::Result<bool>
where
    K: IntoBytes + FromBytes + zerocopy::Immutable,
{
    let key = key.map_or(std::ptr::null(), |key| key.as_bytes().as_ptr());
    // SAFETY: the kernel reads one key unless the pointer is null, and writes one of the same length.
    present(unsafe {
        libbpf_sys::bpf_map_get_next_key(map.as_raw_fd(), key.cast(), next.as_mut_bytes().as_mut_ptr().cast())
    })
}

/// One step through a hash table, some buckets at a time.
#[derive(Debug)]
pub(crate) struct Batch {
    /// How many of the slots were filled.
    pub(crate) filled: usize,
    /// The whole table was gone through.
    pub(crate) end: bool,
    /// The slots cannot hold the next bucket: come again with more.
    pub(crate) more_space: bool,
}

/// Reads the next entries into `keys` and `values`; `cursor` is the kernel's, `begin` starts at the front.
pub(crate) fn lookup_batch<K, V>(
    map: BorrowedFd<'_>,
    begin: bool,
    cursor: &mut u64,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<Batch>
where
    K: IntoBytes + FromBytes,
    V: IntoBytes + FromBytes,
{
    let mut count = u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX);
    let from: *mut u64 = if begin { std::ptr::null_mut() } else { &raw mut *cursor };
    // SAFETY: the kernel fills at most `count` keys and values, and both slices have that many. The cursor of a hash
    // table is a 32-bit bucket number, for which eight bytes are given.
    let code = unsafe {
        libbpf_sys::bpf_map_lookup_batch(
            map.as_raw_fd(),
            from.cast(),
            (&raw mut *cursor).cast(),
            keys.as_mut_bytes().as_mut_ptr().cast(),
            values.as_mut_bytes().as_mut_ptr().cast(),
            &raw mut count,
            std::ptr::null(),
        )
    };
    let filled = usize::try_from(count).unwrap_or(0);
    match check(code) {
        Ok(_) => Ok(Batch { filled, end: false, more_space: false }),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT) => Ok(Batch { filled, end: true, more_space: false }),
            Some(libc::ENOSPC) => Ok(Batch { filled: 0, end: false, more_space: true }),
            _ => Err(error),
        },
    }
}

fn present(code: i32) -> io::Result<bool> {
    match check(code) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
