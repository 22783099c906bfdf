//! Which hooks of file rules this kernel has, and whether it refuses an open, found by refusing one.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::Mechanism;
use rustix::fs::{Mode as Permissions, OFlags};

use crate::cgroup;
use crate::file::{FileRow, Mounts, Rows, Tables, scope};
use crate::object::{FILE_HOOKS, file_program};
use crate::tables::{CgroupRow, ProfileRow};
use crate::trial::{PROFILE, first, load};

/// What BPF can do for file rules here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHooks {
    /// How it refuses.
    pub mechanism: Mechanism,
    /// Hooks that load and attach.
    pub works: Vec<&'static str>,
    /// The others, each with the reason in a sentence.
    pub lost: Vec<(&'static str, String)>,
}

/// Tries the hooks of file rules with a mechanism that refuses programs: [`Mechanism::BpfLsm`] or [`Mechanism::FmodRet`].
///
/// # Errors
/// A sentence when an open cannot be refused.
pub fn files(mechanism: Mechanism) -> Result<FileHooks, String> {
    fire(mechanism)?;
    let mut hooks = FileHooks { mechanism, works: Vec::new(), lost: Vec::new() };
    for hooks_for_one in FILE_HOOKS {
        match first(hooks_for_one, |hook| try_hook(hook, mechanism)) {
            Ok(hook) => hooks.works.push(hook),
            Err(lost) => hooks.lost.push(lost),
        }
    }
    Ok(hooks)
}

fn try_hook(hook: &str, mechanism: Mechanism) -> Result<(), String> {
    let program = file_program(hook, mechanism).ok_or("it refuses nothing")?;
    let (object, _) = load(&[program.as_str()])?;
    attach(&object, &program).map(drop)
}

pub(crate) fn attach(object: &libbpf_rs::Object, program: &str) -> Result<libbpf_rs::Link, String> {
    let mut programs = object.progs_mut();
    let found = programs.find(|found| found.name() == program).ok_or("the object has no such program")?;
    found.attach().map_err(|error| format!("the kernel does not attach it: {error}"))
}

/// Opens a file of its own that a rule blocks: in Discover it opens, in Protect not.
fn fire(mechanism: Mechanism) -> Result<(), String> {
    let program = file_program("file_open", mechanism).ok_or("it refuses nothing")?;
    let (object, tables) = load(&[program.as_str()])?;
    let link = attach(&object, &program)?;
    let mut files =
        Tables::from_descriptors(crate::load::descriptors(&object).map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())?;
    let file = unnamed().map_err(|error| format!("no file can be made to try it with: {error}"))?;
    let inode = Mounts::of(std::process::id())
        .and_then(|mounts| mounts.inode(file.as_fd()))
        .map_err(|error| format!("what the kernel knows a file as cannot be read: {error}"))?;
    let mut rows = Rows::default();
    rows.add(PROFILE, inode, FileRow { rule: 0, blocks: true, scope: scope::ITSELF });
    let own = own_cgroup().map_err(|error| format!("this process's cgroup cannot be read: {error}"))?;
    let mut opens = |mode: Mode| -> Result<bool, String> {
        let mut set = || {
            tables
                .set_profile(PROFILE, ProfileRow { mode, baseline: Baseline::Basic, fault: Fault::Open })?;
            files.replace(&rows)?;
            tables.set_cgroup(own, CgroupRow { profile: PROFILE, container: false })
        };
        set().map_err(|error| format!("cannot write its tables: {error}"))?;
        match std::fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
            Err(error) => Err(format!("it was fired, and the open failed otherwise: {error}")),
        }
    };
    let (discover, protect) = (opens(Mode::Discover)?, opens(Mode::Protect)?);
    drop(link);
    match (discover, protect) {
        (true, false) => Ok(()),
        (false, _) => Err("it refuses what it should let pass".to_owned()),
        (true, true) => {
            Err("it loads and attaches, but the open that it should refuse goes through".to_owned())
        }
    }
}

pub(crate) fn own_cgroup() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(io::ErrorKind::NotFound)?;
    cgroup::id(&cgroup::unified_root()?.join(Path::new(path)))
}

/// A file without a name.
pub(crate) fn unnamed() -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let make = |folder: &str| rustix::fs::open(folder, flags, Permissions::from_raw_mode(0o600));
    Ok(make("/run").or_else(|_| make("/tmp"))?)
}

/// A program with a name of its own, removed at the end.
pub(crate) struct OwnProgram {
    /// Its path.
    pub(crate) path: std::path::PathBuf,
    /// It, open.
    pub(crate) file: std::fs::File,
}

impl Drop for OwnProgram {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a program of the trial stays");
        }
    }
}

/// A script that `interpreter` would run.
pub(crate) fn program(interpreter: &Path) -> io::Result<OwnProgram> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let make = |folder: &str| {
        let flags = rustix::fs::statvfs(folder)?.f_flag;
        if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("nothing may be run in {folder}"),
            ));
        }
        let path = Path::new(folder).join(format!("nv-trial-{}", std::process::id()));
        // Anew, whatever is in the folder: it is writable for others.
        let mut made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
        made.write_all(format!("#!{}\n", interpreter.display()).as_bytes())?;
        drop(made);
        Ok(OwnProgram { file: std::fs::File::open(&path)?, path })
    };
    make("/run").or_else(|_| make("/tmp")).or_else(|_| make("/var/tmp"))
}
