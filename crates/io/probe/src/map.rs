//! A BPF map by its descriptor alone. The agent holds no capability, so it cannot look maps up by id as libbpf's
//! wrappers do; reading and writing through a descriptor needs none.

#![expect(unsafe_code, reason = "the map calls of libbpf take raw pointers")]

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// A map whose keys and values have the sizes that it was opened with; every call checks them.
#[derive(Debug)]
pub(crate) struct RawMap {
    fd: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
    capacity: u32,
}

impl RawMap {
    /// Takes a descriptor, when it is of a map with these sizes.
    pub(crate) fn new(fd: OwnedFd, key_bytes: usize, value_bytes: usize) -> io::Result<Self> {
        let mut info = MaybeUninit::<libbpf_sys::bpf_map_info>::zeroed();
        let mut bytes = size_of::<libbpf_sys::bpf_map_info>() as u32;
        // SAFETY: `info` is as long as `bytes` says, and the kernel writes at most that much.
        let answer =
            unsafe { libbpf_sys::bpf_map_get_info_by_fd(fd.as_raw_fd(), info.as_mut_ptr(), &raw mut bytes) };
        check(answer)?;
        // SAFETY: plain numbers, zeroed before; every bit pattern is valid.
        let info = unsafe { info.assume_init() };
        if (info.key_size as usize, info.value_size as usize) != (key_bytes, value_bytes) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "map has keys of {} and values of {} bytes, expected {key_bytes} and {value_bytes}",
                    info.key_size, info.value_size
                ),
            ));
        }
        Ok(Self { fd, key_bytes, value_bytes, capacity: info.max_entries })
    }

    /// Most entries that the map holds.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Sets the value of `key`.
    pub(crate) fn write(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.update(key, value, libbpf_sys::BPF_ANY)
    }

    /// Gives `key` a value; false when it has one, which stays.
    pub(crate) fn add(&self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        match self.update(key, value, libbpf_sys::BPF_NOEXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u32) -> io::Result<()> {
        self.fits(key, value.len())?;
        // SAFETY: key and value have the map's sizes, checked above.
        check(unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.fd.as_raw_fd(),
                pointer(key),
                pointer(value),
                u64::from(flags),
            )
        })
    }

    /// Removes `key`; false when it was not there.
    pub(crate) fn remove(&self, key: &[u8]) -> io::Result<bool> {
        self.fits(key, self.value_bytes)?;
        // SAFETY: the key has the map's size, checked above.
        found(check(unsafe { libbpf_sys::bpf_map_delete_elem(self.fd.as_raw_fd(), pointer(key)) }))
    }

    /// Reads the value of `key`. Values of a per-CPU map follow one another, one for each of `copies` CPUs.
    pub(crate) fn read(&self, key: &[u8], copies: usize) -> io::Result<Option<Vec<u8>>> {
        self.fits(key, self.value_bytes)?;
        let each = if copies > 1 { self.value_bytes.next_multiple_of(8) } else { self.value_bytes };
        let mut value = vec![0_u8; each.saturating_mul(copies.max(1))];
        // SAFETY: the key has the map's size, and the caller names the CPUs of a per-CPU map, so the value fits.
        let answer = check(unsafe {
            libbpf_sys::bpf_map_lookup_elem(self.fd.as_raw_fd(), pointer(key), value.as_mut_ptr().cast())
        });
        Ok(found(answer)?.then_some(value))
    }

    /// Every key. When others remove keys meanwhile the kernel may start again, so twice the capacity bounds it.
    pub(crate) fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut next = vec![0_u8; self.key_bytes];
        while keys.len() < (self.capacity as usize).saturating_mul(2) {
            let before = keys.last().map_or(std::ptr::null(), |key| pointer(key));
            // SAFETY: `before` is null or a key of the map's size, and `next` has that size.
            let answer = check(unsafe {
                libbpf_sys::bpf_map_get_next_key(self.fd.as_raw_fd(), before, next.as_mut_ptr().cast())
            });
            if !found(answer)? {
                break;
            }
            keys.push(next.clone());
        }
        Ok(keys)
    }

    fn fits(&self, key: &[u8], value_bytes: usize) -> io::Result<()> {
        if key.len() == self.key_bytes && value_bytes == self.value_bytes {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "key or value has not the map's size"))
    }
}

/// Number of CPUs that a per-CPU map has values for.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    libbpf_rs::num_possible_cpus().map_err(io::Error::other)
}

fn pointer(bytes: &[u8]) -> *const c_void {
    bytes.as_ptr().cast()
}

/// libbpf answers with a negative error number.
fn check(answer: i32) -> io::Result<()> {
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(()) }
}

/// "No such key" is an answer, not an error.
fn found(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
