//! What there is to know of a program that is about to run: who runs it, and which file it is. Read from `/proc` while the
//! kernel waits for an answer, so that nothing of it changes meanwhile but by other threads of the same process.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nv_model::behaviour::Stdio;
use nv_probe::fanotify::Inode;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};

use super::super::guard::who;
use super::super::mounts::{Mount, Mounts, host};

/// Deepest cgroup that is looked at.
const MAX_DEPTH: usize = 32;
/// Longest path of an interpreter in an ELF file.
const MAX_INTERPRETER: usize = 256;
/// Most program headers that are looked at.
const MAX_HEADERS: usize = 64;
/// Most bytes of a table of sockets that are read.
const MAX_SOCKETS: u64 = 1024 * 1024;

/// Who runs a program.
#[derive(Debug, Default)]
pub(super) struct Runner {
    pub(super) pid: u32,
    /// Inode of its mount namespace.
    pub(super) mounts: u32,
    /// Numbers of its cgroup and of those above it.
    pub(super) cgroups: Vec<u64>,
    pub(super) facts: who::Facts,
}

/// `None` when it is gone.
pub(super) fn runner(pid: u32, root: &Path) -> Option<Runner> {
    let mounts = nv_probe::cgroup::mount_namespace(Some(pid)).ok()?;
    Some(Runner { pid, mounts, cgroups: cgroups(pid, root), facts: who::facts(pid) })
}

/// Numbers of a process's cgroup and of those above it, the nearest first.
pub(super) fn cgroups(pid: u32, root: &Path) -> Vec<u64> {
    let Some(path) = who::unified(pid) else { return Vec::new() };
    let own = root.join(path.trim_start_matches('/'));
    own.ancestors()
        .take(MAX_DEPTH)
        .take_while(|folder| folder.starts_with(root))
        .filter_map(|folder| nv_probe::cgroup::id(folder).ok())
        .collect()
}

/// Which file it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Program {
    /// Where it is in the container's image, whatever is mounted where; of a file that is not of the container's root file
    /// system, and on the host, by the mounts.
    pub(super) path: String,
    /// The path is known whole.
    pub(super) whole: bool,
    /// New or changed since the image.
    pub(super) changed: bool,
    /// It has no name any more.
    pub(super) fileless: bool,
    /// On another file system than the container's root.
    pub(super) other_mount: bool,
    /// Nothing tells whether it is from the image.
    pub(super) origin_unknown: bool,
    /// On a mount that the container has made itself.
    pub(super) foreign: bool,
    /// Device of the file system that it is on; `None` for one of another mount namespace.
    pub(super) device: Option<u32>,
}

/// Looks at an open file. `root` is the device of the container's root file system; `None` on the host.
pub(super) fn program(file: BorrowedFd<'_>, mounts: &Mounts, root: Option<u32>) -> io::Result<Program> {
    let (_, names) = Inode::with_links(file)?;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let link = link.to_string_lossy().into_owned();
    let fileless = names == 0;
    let seen = if fileless { link.trim_end_matches(" (deleted)").to_owned() } else { link };
    let mount = mounts.on(file);
    let of_root = root.is_none_or(|root| mount.is_some_and(|mount| mount.device == root));
    let mut program = Program {
        path: seen.clone(),
        whole: mount.is_some() || root.is_none(),
        fileless,
        other_mount: !of_root,
        device: mount.map(|mount| mount.device),
        ..Program::default()
    };
    let (Some(mount), Some(_), true) = (mount, root, of_root) else { return Ok(program) };
    match inside(mount, &seen) {
        Some(path) => program.path = path,
        None => program.whole = false,
    }
    match &mount.upper {
        Some(upper) if program.whole && !fileless => program.changed = is_in(upper, &program.path),
        Some(_) => {}
        // An overlay without such a layer never changes.
        None => program.origin_unknown = mount.kind != "overlay",
    }
    Ok(program)
}

/// A path by the mounts as a path in the file system.
fn inside(mount: &Mount, seen: &str) -> Option<String> {
    let below = seen.strip_prefix(mount.point.trim_end_matches('/'))?;
    if !below.is_empty() && !below.starts_with('/') {
        return None;
    }
    let path = format!("{}{below}", mount.root.trim_end_matches('/'));
    Some(if path.is_empty() { "/".to_owned() } else { path })
}

/// Whether a layer has a file under a path. No link is followed: the layer's content is the container's.
fn is_in(layer: &str, path: &str) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let folder = format!("/proc/{}/root{layer}", host());
    let Ok(folder) = rustix::fs::open(folder, flags | OFlags::DIRECTORY, Mode::empty()) else { return true };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let relative = path.trim_start_matches('/');
    match rustix::fs::openat2(&folder, relative, flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
        Ok(file) => rustix::fs::fstat(&file)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => false,
        // What cannot be looked at is not taken for the image's.
        Err(_) => true,
    }
}

/// Device of the root file system of a process.
pub(super) fn root_device(pid: u32, mounts: &Mounts) -> Option<u32> {
    let root = open_path(&format!("/proc/{pid}/root"))?;
    mounts.on(root.as_fd()).map(|mount| mount.device)
}

/// The executable of a process, open without being asked about.
pub(super) fn executable(pid: u32) -> Option<OwnedFd> {
    open_path(&format!("/proc/{pid}/exe"))
}

/// Which file a process runs.
pub(super) fn runs(pid: u32) -> Option<Inode> {
    Inode::at(&format!("/proc/{pid}/exe")).ok()
}

fn open_path(path: &str) -> Option<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// What a file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Script,
    /// With the path of the dynamic loader that it names.
    Elf(Option<String>),
    Other,
}

/// Reads how a file begins; it is to be open to read.
pub(super) fn kind(file: BorrowedFd<'_>) -> io::Result<Kind> {
    let mut file = File::from(file.try_clone_to_owned()?);
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(64);
    file.by_ref().take(64).read_to_end(&mut head)?;
    if head.starts_with(b"#!") {
        return Ok(Kind::Script);
    }
    if !head.starts_with(b"\x7fELF") {
        return Ok(Kind::Other);
    }
    Ok(Kind::Elf(interpreter(&mut file, &head)))
}

/// The text of `PT_INTERP` of a 64-bit little-endian file (elf(5)); `None` for a static one and for what is not understood.
fn interpreter(file: &mut File, head: &[u8]) -> Option<String> {
    const PT_INTERP: u32 = 3;
    if head.get(4..6)? != [2, 1] {
        return None;
    }
    let at = u64::from_le_bytes(head.get(32..40)?.try_into().ok()?);
    let size = usize::from(u16::from_le_bytes(head.get(54..56)?.try_into().ok()?));
    let count = usize::from(u16::from_le_bytes(head.get(56..58)?.try_into().ok()?)).min(MAX_HEADERS);
    if size < 56 {
        return None;
    }
    let mut headers = Vec::new();
    file.seek(SeekFrom::Start(at)).ok()?;
    file.by_ref().take(u64::try_from(size.checked_mul(count)?).ok()?).read_to_end(&mut headers).ok()?;
    let header = headers
        .chunks_exact(size)
        .find(|header| header.first_chunk().is_some_and(|kind| u32::from_le_bytes(*kind) == PT_INTERP))?;
    let offset = u64::from_le_bytes(header.get(8..16)?.try_into().ok()?);
    let length = u64::from_le_bytes(header.get(32..40)?.try_into().ok()?);
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.by_ref().take(length.min(MAX_INTERPRETER as u64)).read_to_end(&mut text).ok()?;
    let text = text.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok().filter(|path| path.starts_with('/'))
}

/// The file that a path leads to for a process.
pub(super) fn resolve(pid: u32, path: &str) -> Option<Inode> {
    let root = open_path(&format!("/proc/{pid}/root"))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    Inode::of(found).ok()
}

/// What standard input and output of a process are.
pub(super) fn stdio(pid: u32) -> [Stdio; 2] {
    [0, 1].map(|number| descriptor(pid, number))
}

fn descriptor(pid: u32, number: u32) -> Stdio {
    let path = format!("/proc/{pid}/fd/{number}");
    let Ok(link) = std::fs::read_link(&path) else { return Stdio::Unknown };
    let link = link.to_string_lossy();
    if let Some(inode) = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
        return if is_internet(pid, inode) { Stdio::InternetSocket } else { Stdio::OtherSocket };
    }
    if link.starts_with("/dev/pts/") || link.starts_with("/dev/tty") || link == "/dev/console" {
        return Stdio::Terminal;
    }
    // Not opened, so that what it is on can be unmounted; a file system that a process serves is not asked.
    let Ok(stat) = rustix::fs::statx(rustix::fs::CWD, &path, AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE)
    else {
        return Stdio::Unknown;
    };
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Fifo => Stdio::Pipe,
        FileType::RegularFile => Stdio::File,
        FileType::CharacterDevice | FileType::BlockDevice => Stdio::Device,
        _ => Stdio::Unknown,
    }
}

/// Whether a socket is an IPv4 or IPv6 one, by the tables of the process's network namespace.
fn is_internet(pid: u32, inode: &str) -> bool {
    ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| {
        let mut text = String::new();
        let read = File::open(format!("/proc/{pid}/net/{table}"))
            .and_then(|file| file.take(MAX_SOCKETS).read_to_string(&mut text));
        read.is_ok() && text.lines().any(|line| line.split_whitespace().nth(9) == Some(inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_by_the_mounts_is_one_in_the_file_system() {
        let mount = |root: &str, point: &str| Mount {
            device: 1,
            root: root.to_owned(),
            point: point.to_owned(),
            kind: "overlay".to_owned(),
            upper: None,
            runs: true,
        };
        for (root, point, seen, want) in [
            ("/", "/", "/bin/sh", Some("/bin/sh")),
            ("/usr/bin/unlisted", "/usr/bin/report", "/usr/bin/report", Some("/usr/bin/unlisted")),
            ("/srv", "/mnt", "/mnt/a", Some("/srv/a")),
            ("/srv", "/mnt", "/mnt2/a", None),
            ("/", "/mnt", "/elsewhere", None),
        ] {
            assert_eq!(inside(&mount(root, point), seen).as_deref(), want, "{root} {point} {seen}");
        }
    }

    #[test]
    fn this_program_is_looked_at() {
        let file = File::open("/proc/self/exe").unwrap();
        let mounts = Mounts::of(std::process::id()).unwrap();
        let found = program(file.as_fd(), &mounts, None).unwrap();
        assert_eq!(found.path, std::env::current_exe().unwrap().display().to_string());
        assert!(found.whole && !found.fileless && !found.other_mount);
        let Kind::Elf(loader) = kind(file.as_fd()).unwrap() else { panic!("no ELF file") };
        if let Some(loader) = loader {
            let inode = Inode::of(File::open(&loader).unwrap()).unwrap();
            assert_eq!(resolve(std::process::id(), &loader), Some(inode));
        }
        assert!(root_device(std::process::id(), &mounts).is_some());
    }

    #[test]
    fn files_are_told_apart_by_how_they_begin() {
        use std::io::Write as _;
        for (text, want) in [
            (&b"#!/bin/sh\n"[..], Kind::Script),
            (b"\x7fELF\x02\x01", Kind::Elf(None)),
            (b"text", Kind::Other),
            (b"", Kind::Other),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text).unwrap();
            assert_eq!(kind(file.as_fd()).unwrap(), want, "{text:?}");
        }
    }

    #[test]
    fn standard_input_and_output_are_told() {
        use std::process::{Command, Stdio as Given};
        let mut child =
            Command::new("sleep").arg("10").stdin(Given::piped()).stdout(Given::null()).spawn().unwrap();
        assert_eq!(stdio(child.id()), [Stdio::Pipe, Stdio::Device]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
