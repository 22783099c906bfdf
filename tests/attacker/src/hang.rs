//! A file system by FUSE (`include/uapi/linux/fuse.h`, version 7.31) that lets whoever opens its one file wait for ever, and
//! whoever asks whether there is a file `never`.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use rustix::mount::{MountFlags, mount};

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const OPEN: u32 = 14;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

/// Node number of the root, and of the program.
const ROOT: u64 = 1;
const PROGRAM: u64 = 2;
/// Seconds for which the kernel may keep what it was told.
const VALID: u64 = 3600;

/// Mounts it and answers everything else.
pub(crate) fn serve(folder: &str) -> io::Result<()> {
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = CString::new(options)?;
    mount("hang", folder, "fuse", MountFlags::empty(), Some(options.as_c_str()))?;
    let mut request = vec![0_u8; 256 * 1024];
    loop {
        let bytes = device.read(&mut request)?;
        let request = request.get(..bytes).unwrap_or_default();
        let Some((_, [o0, o1, o2, o3, rest @ ..])) = request.split_at_checked(4) else { continue };
        let Some((unique, rest)) = rest.split_first_chunk::<8>() else { continue };
        let Some((node, _)) = rest.split_first_chunk::<8>() else { continue };
        let answer = match u32::from_ne_bytes([*o0, *o1, *o2, *o3]) {
            INIT => Ok(init()),
            // Behind the head, `struct fuse_in_header`, is the name.
            LOOKUP if request.get(40..) == Some(b"never\0") => continue,
            LOOKUP => Ok(entry()),
            GETATTR => Ok(attributes(u64::from_ne_bytes(*node))),
            STATFS => Ok(system()),
            OPEN | FORGET | BATCH_FORGET | INTERRUPT => continue,
            // ENOSYS: the kernel does without.
            _ => Err(-38_i32),
        };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (error, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        device.write_all(&[&length.to_ne_bytes()[..], &error.to_ne_bytes(), unique, &body].concat())?;
    }
}

/// `struct fuse_init_out`.
fn init() -> Vec<u8> {
    let mut body = Vec::new();
    for word in [7_u32, 31, 0, 0] {
        body.extend(word.to_ne_bytes());
    }
    body.extend([0; 4]);
    for word in [4096_u32, 1] {
        body.extend(word.to_ne_bytes());
    }
    body.resize(64, 0);
    body
}

/// `struct fuse_statfs_out`.
fn system() -> Vec<u8> {
    let mut body = vec![0; 40];
    for word in [4096_u32, 255, 4096] {
        body.extend(word.to_ne_bytes());
    }
    body.resize(80, 0);
    body
}

/// `struct fuse_entry_out` of the program, whatever name is looked up.
fn entry() -> Vec<u8> {
    let mut body = Vec::new();
    for word in [PROGRAM, 0, VALID, VALID] {
        body.extend(word.to_ne_bytes());
    }
    body.extend([0; 8]);
    body.extend(node(PROGRAM));
    body
}

/// `struct fuse_attr_out`.
fn attributes(number: u64) -> Vec<u8> {
    let mut body = VALID.to_ne_bytes().to_vec();
    body.extend([0; 8]);
    body.extend(node(number));
    body
}

/// `struct fuse_attr`: a folder, or a program that everybody may run.
fn node(number: u64) -> Vec<u8> {
    let mode = if number == ROOT { 0o040_755 } else { 0o100_755 };
    let mut body = Vec::new();
    for word in [number, 4096, 8, 0, 0, 0] {
        body.extend(word.to_ne_bytes());
    }
    for word in [0_u32, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        body.extend(word.to_ne_bytes());
    }
    body
}
