//! A container without a runtime: a cgroup, a mount namespace, an overlay of a small image, and programs that prove
//! that they ran by a file that their first instructions make.

#![expect(unsafe_code, reason = "namespaces and exec are set up between fork and exec")]

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::Action;
use nv_probe::events::Exec;
use nv_probe::file::{KernelInode, Mounts};
use nv_probe::tables::{CgroupRow, ExactKey, ProfileRow, RuleRow};
use nv_probe::{Event, Events, Loaded, Options, Tables, cgroup};
use rustix::fs::{MemfdFlags, OFlags, memfd_create};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A static program of a few bytes: it makes the file named by its first argument, then ends with 0.
pub(crate) fn marker() -> Vec<u8> {
    const { assert!(cfg!(target_arch = "x86_64"), "the marker program is written for x86_64") };
    let code: [u8; 37] = [
        0x48, 0x8b, 0x7c, 0x24, 0x10, // mov rdi, [rsp+16]: argv[1]
        0xb8, 2, 0, 0, 0, // mov eax, 2: open
        0xbe, 0x41, 0, 0, 0, // mov esi, O_WRONLY|O_CREAT
        0xba, 0xa4, 1, 0, 0, // mov edx, 0644
        0x0f, 0x05, // syscall
        0x31, 0xff, // xor edi, edi
        0xb8, 60, 0, 0, 0, // mov eax, 60: exit
        0x0f, 0x05, // syscall
        0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
    ];
    const BASE: u64 = 0x40_0000;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(2_u16.to_le_bytes()); // executable
    elf.extend(62_u16.to_le_bytes()); // x86_64
    elf.extend(1_u32.to_le_bytes());
    elf.extend((BASE + 120).to_le_bytes()); // entry, behind both headers
    elf.extend(64_u64.to_le_bytes()); // program headers
    elf.extend(0_u64.to_le_bytes());
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes()); // load
    elf.extend(5_u32.to_le_bytes()); // read, execute
    let size = 120 + code.len() as u64;
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
    Refused,
}

impl End {
    /// Stopped by the kernel, whichever way this one has.
    pub(crate) fn stopped(&self) -> bool {
        matches!(self, Self::Signal(9) | Self::Refused)
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The container. Its programs see the merged overlay as their root.
pub(crate) struct Container {
    pub(crate) cgroup: PathBuf,
    pub(crate) id: u64,
    /// Layers of the overlay.
    _dir: tempfile::TempDir,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Container {
    /// With the given marker programs in its image, and a folder `/marks` in it.
    pub(crate) fn new(programs: &[&str]) -> Self {
        Self::with_scripts(programs, &[])
    }

    /// With scripts in its image too.
    pub(crate) fn with_scripts(programs: &[&str], scripts: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("nv-probe-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let cgroup = cgroup::unified_root().unwrap().join(&name);
        fs::create_dir(&cgroup).expect("these tests need root and a writable cgroup tree");
        let id = cgroup::id(&cgroup).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for layer in ["lower/marks", "lower/tmp", "lower/volume", "upper", "work", "merged"] {
            fs::create_dir_all(dir.path().join(layer)).unwrap();
        }
        for program in programs {
            install(&dir.path().join("lower"), program);
        }
        for (path, content) in scripts {
            install_file(&dir.path().join("lower"), path, content.as_bytes());
        }
        let (jobs, inbox) = channel::<Job>();
        let (ready, is_ready) = channel();
        let root = dir.path().to_path_buf();
        let thread = std::thread::spawn(move || {
            ready.send(enter(&root)).unwrap();
            for job in inbox {
                job();
            }
        });
        is_ready.recv().unwrap().expect("cannot mount an overlay in a mount namespace of its own");
        Self { cgroup, id, _dir: dir, jobs: Some(jobs), thread: Some(thread) }
    }

    fn inside<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.jobs.as_ref().unwrap().send(Box::new(move || done.send(job()).unwrap())).unwrap();
        result.recv().unwrap()
    }

    /// A process (of this program, a thread of it) that is in the container's namespaces, as one that runs there is.
    pub(crate) fn pid(&self) -> u32 {
        self.inside(|| rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned())
    }

    /// Runs a program by its path in the container, in cgroup `below` of the container's own, and waits.
    pub(crate) fn run_in(&self, below: &str, path: &str, args: &[&str]) -> (u32, End) {
        let mut command = Command::new(path);
        command.args(args);
        self.start(below, command, None)
    }

    /// Runs a program by its path in the container.
    pub(crate) fn run(&self, path: &str, args: &[&str]) -> (u32, End) {
        self.run_in("", path, args)
    }

    /// Runs a program by its path in the container, with this standard input and output.
    pub(crate) fn run_on(&self, path: &str, args: &[&str], input: OwnedFd, output: OwnedFd) -> (u32, End) {
        let mut command = Command::new(path);
        command.args(args).stdin(input).stdout(output);
        self.start("", command, None)
    }

    /// Runs a program as a user, who may not make marks.
    pub(crate) fn run_as(&self, uid: u32, path: &str, args: &[&str]) -> (u32, End) {
        let mut command = Command::new(path);
        command.args(args).uid(uid);
        self.start("", command, None)
    }

    /// Runs a program by its path in a folder that is made the process' root.
    pub(crate) fn run_chrooted(&self, root: &'static str, path: &str, args: &[&str]) -> (u32, End) {
        let mut command = Command::new(path);
        command.args(args);
        let enter = move || {
            rustix::process::chroot(root)?;
            Ok(rustix::process::chdir("/")?)
        };
        // SAFETY: two system calls.
        unsafe { command.pre_exec(enter) };
        self.start("", command, None)
    }

    /// Runs a program as a process of the container that has done something first.
    pub(crate) fn run_after(
        &self,
        bench: &Bench,
        act: fn() -> io::Result<()>,
        path: &str,
        args: &[&str],
    ) -> (u32, End) {
        let tables = bench.own_tables();
        let cgroup = self.id;
        let mut command = Command::new(path);
        command.args(args);
        let before = move || {
            tables.adopt(std::process::id(), cgroup).map_err(io::Error::other)?;
            act()
        };
        self.start_after("", before, command, None)
    }

    /// Runs a program as a process in cgroup `below` of the container's own that nobody of these tests is an ancestor of:
    /// who made it has ended. Its end is not waited for.
    pub(crate) fn run_orphaned(&self, below: &str, path: &str, args: &[&str]) -> u32 {
        let mut command = Command::new(path);
        command.args(args);
        self.start_after(below, orphan, command, None).0
    }

    /// Runs a program that is nowhere but in memory.
    pub(crate) fn run_memfd(&self, program: &[u8], args: &[&str]) -> (u32, End) {
        let file = File::from(memfd_create("hidden", MemfdFlags::CLOEXEC).unwrap());
        (&file).write_all(program).unwrap();
        self.run_file(file, args)
    }

    /// Runs a program from a mount that is detached while it is open, so that it has no place in the container.
    pub(crate) fn run_detached(&self, path: &str, args: &[&str]) -> (u32, End) {
        self.mount_volume("/volume", path);
        let (volume, program) =
            (PathBuf::from("/volume"), PathBuf::from("/volume").join(path.trim_start_matches('/')));
        let file = self.inside(move || {
            let file = File::open(program).unwrap();
            unmount(volume, UnmountFlags::DETACH).unwrap();
            file
        });
        self.run_file(file, args)
    }

    /// Starts a program by its path in the container.
    pub(crate) fn spawn(&self, path: &str, args: &[&str]) -> Child {
        let procs = OpenOptions::new().write(true).open(self.cgroup.join("cgroup.procs")).unwrap();
        let mut command = Command::new(path);
        command.args(args);
        // SAFETY: the closure makes one write(2) to an open descriptor.
        unsafe { command.pre_exec(move || (&procs).write_all(b"0")) };
        self.inside(move || command.spawn().unwrap())
    }

    fn run_file(&self, file: File, args: &[&str]) -> (u32, End) {
        let argv = ["hidden"].iter().chain(args).map(|arg| CString::new(*arg).unwrap()).collect();
        self.start("", Command::new("/no/path"), Some((file, argv)))
    }

    fn start(&self, below: &str, command: Command, memfd: Option<(File, Vec<CString>)>) -> (u32, End) {
        self.start_after(below, || Ok(()), command, memfd)
    }

    fn start_after(
        &self,
        below: &str,
        before: impl Fn() -> io::Result<()> + Send + Sync + 'static,
        mut command: Command,
        memfd: Option<(File, Vec<CString>)>,
    ) -> (u32, End) {
        let procs =
            OpenOptions::new().write(true).open(self.cgroup.join(below).join("cgroup.procs")).unwrap();
        let (told, tell) = io::pipe().unwrap();
        let setup = move || {
            (&procs).write_all(b"0")?;
            before()?;
            (&tell).write_all(&std::process::id().to_ne_bytes())?;
            let Some((file, argv)) = &memfd else { return Ok(()) };
            let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
            pointers.push(std::ptr::null());
            // SAFETY: both lists end with null and point to strings that outlive the call.
            unsafe { libc::fexecve(file.as_raw_fd(), pointers.as_ptr(), [std::ptr::null()].as_ptr()) };
            Err(io::Error::last_os_error())
        };
        // SAFETY: the closure locks nothing but the allocator, which glibc's fork leaves usable in the child.
        unsafe { command.pre_exec(setup) };
        let end = self.inside(move || match command.status() {
            Ok(status) => status.signal().map_or_else(|| End::Code(status.code().unwrap()), End::Signal),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => End::Refused,
            Err(error) => panic!("cannot start {command:?}: {error}"),
        });
        let mut pid = [0_u8; 4];
        (&told).read_exact(&mut pid).unwrap();
        (u32::from_ne_bytes(pid), end)
    }

    /// Does something as the runtime does that prepares the container: in its cgroup, mount namespace and root.
    pub(crate) fn act(&self, act: fn() -> io::Result<()>) -> io::Result<()> {
        self.act_after(|| Ok(()), act)
    }

    /// Does something as a process that the container has started.
    pub(crate) fn act_own(&self, bench: &Bench, act: fn() -> io::Result<()>) -> io::Result<()> {
        let tables = bench.own_tables();
        let cgroup = self.id;
        self.act_after(move || tables.adopt(std::process::id(), cgroup).map_err(io::Error::other), act)
    }

    fn act_after(
        &self,
        before: impl Fn() -> io::Result<()> + Send + Sync + 'static,
        act: fn() -> io::Result<()>,
    ) -> io::Result<()> {
        /// No error number of the kernel: the deed was done.
        const DONE: i32 = 9999;
        let procs = OpenOptions::new().write(true).open(self.cgroup.join("cgroup.procs")).unwrap();
        let mut command = Command::new("/no/path");
        let child = move || {
            (&procs).write_all(b"0")?;
            before()?;
            act()?;
            Err(io::Error::from_raw_os_error(DONE))
        };
        // SAFETY: the closure locks nothing but the allocator, which glibc's fork leaves usable in the child.
        unsafe { command.pre_exec(child) };
        match self.inside(move || command.status()) {
            Err(error) if error.raw_os_error() == Some(DONE) => Ok(()),
            Err(error) => Err(error),
            Ok(status) => panic!("it ran {status}"),
        }
    }

    /// What the kernel knows a file of the container as.
    pub(crate) fn inode(&self, path: &str) -> KernelInode {
        let path = PathBuf::from(path);
        let (thread, file) = self
            .inside(move || (rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(), named(path)));
        Mounts::of(thread).unwrap().inode(file.as_fd()).unwrap()
    }

    /// Copies a file in the container, as a process in it would.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let (from, to) = (PathBuf::from(from), PathBuf::from(to));
        self.inside(move || {
            drop(fs::remove_file(&to));
            fs::copy(from, to).unwrap();
        });
    }

    /// Appends to a file in place, which copies it to the overlay's upper layer.
    pub(crate) fn modify(&self, path: &str) {
        let path = PathBuf::from(path);
        self.inside(move || OpenOptions::new().append(true).open(path).unwrap().write_all(b"x").unwrap());
    }

    /// Makes an executable file in the container.
    pub(crate) fn write(&self, path: &str, content: Vec<u8>) {
        let path = PathBuf::from(path);
        self.inside(move || {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        });
    }

    /// Puts a shell at this path of the container.
    pub(crate) fn write_shell(&self, path: &str) {
        self.write(path, fs::read("/bin/busybox").expect("busybox is needed: run `make setup`"));
    }

    /// Mounts a tmpfs in the container, with a marker program in it.
    pub(crate) fn mount_volume(&self, path: &str, program: &str) {
        let target = PathBuf::from(path);
        let program = program.to_owned();
        self.inside(move || {
            mount("tmpfs", &target, "tmpfs", MountFlags::empty(), None).unwrap();
            install(&target, &program);
        });
    }

    /// Whether a mark was made.
    pub(crate) fn marked(&self, name: &str) -> bool {
        let mark = Path::new("/marks").join(name);
        self.inside(move || mark.exists())
    }

    /// How many marks were made.
    pub(crate) fn marks(&self) -> usize {
        let marks = PathBuf::from("/marks");
        self.inside(move || fs::read_dir(marks).unwrap().count())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.jobs.take());
        drop(self.thread.take().map(JoinHandle::join));
        for _ in 0..100 {
            let below = cgroup::walk(&self.cgroup).unwrap_or_default();
            if below.iter().rev().all(|(_, path)| fs::remove_dir(path).is_ok()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What the kernel knows the executable of [`Container::act`]'s process as.
pub(crate) fn inode_of_this_program() -> KernelInode {
    nv_probe::file::program_of(std::process::id()).unwrap()
}

/// Goes on as a process whose maker has ended.
fn orphan() -> io::Result<()> {
    let maker = std::process::id();
    // SAFETY: a plain fork, of which the maker ends at once without running anything else.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => return Err(io::Error::last_os_error()),
        // SAFETY: it ends.
        _ => unsafe { libc::_exit(0) },
    }
    while std::os::unix::process::parent_id() == maker {
        std::thread::yield_now();
    }
    Ok(())
}

fn named(path: PathBuf) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).unwrap()
}

fn install(root: &Path, program: &str) {
    install_file(root, program, &marker());
}

fn install_file(root: &Path, file: &str, content: &[u8]) {
    let path = root.join(file.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// Gives the calling thread a mount namespace of its own, with the overlay in it.
fn enter(dir: &Path) -> io::Result<()> {
    // SAFETY: the thread's file descriptors stay shared, and the thread is used for the container alone.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let at = |layer: &str| dir.join(layer).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    let options = CString::new(options).unwrap();
    mount("overlay", dir.join("merged"), "overlay", MountFlags::empty(), options.as_c_str())?;
    // As runtimes do it: the overlay becomes the root of the namespace, and what was there goes.
    rustix::process::chdir(dir.join("merged"))?;
    rustix::process::pivot_root(".", ".")?;
    Ok(unmount(".", UnmountFlags::DETACH)?)
}

/// Loaded programs with their tables and events, judged by the mechanism that this kernel has.
pub(crate) struct Bench {
    pub(crate) loaded: Option<Loaded>,
    pub(crate) tables: Tables,
    pub(crate) events: Events,
    cgroup_events: Events,
    pending: VecDeque<Event>,
}

impl Bench {
    pub(crate) fn load(options: &Options) -> Self {
        let loaded = Loaded::load(options).expect("these tests need root and a kernel with BTF");
        let tables = Tables::from_descriptors(loaded.descriptors().unwrap()).unwrap();
        let events = |ring: &str| {
            let ring = loaded.descriptors().unwrap().into_iter().find(|(name, _)| name == ring).unwrap().1;
            Events::from_descriptor(ring).unwrap()
        };
        Self {
            events: events("ring"),
            cgroup_events: events("cgroup_ring"),
            loaded: Some(loaded),
            tables,
            pending: VecDeque::new(),
        }
    }

    /// Tables for another user of the same rows.
    pub(crate) fn own_tables(&self) -> Tables {
        Tables::from_descriptors(self.loaded.as_ref().unwrap().descriptors().unwrap()).unwrap()
    }

    /// Nothing pinned; by the best mechanism.
    pub(crate) fn new() -> Self {
        Self::load(&Self::options())
    }

    /// As [`Bench::new`] loads.
    pub(crate) fn options() -> Options {
        Options {
            pin_dir: None,
            mechanism: mechanism(),
            files: None,
            behaviour: behaviour().works.clone(),
            host_mount_namespace: cgroup::mount_namespace(None).unwrap(),
            belonging: nv_probe::trial::belonging().is_ok(),
            records_per_second: nv_probe::RECORDS_PER_SECOND,
        }
    }

    /// Events until one satisfies `last`, or 5 seconds. Those behind it are kept for the next call.
    pub(crate) fn until(&mut self, mut last: impl FnMut(&Event) -> bool) -> Vec<Event> {
        let (start, mut seen) = (Instant::now(), Vec::new());
        while start.elapsed() < Duration::from_secs(5) {
            if self.pending.is_empty() {
                self.pending.extend(self.cgroup_events.drain().unwrap());
                self.pending.extend(self.events.poll(Duration::from_millis(50)).unwrap());
            }
            while let Some(event) = self.pending.pop_front() {
                let done = last(&event);
                seen.push(event);
                if done {
                    return seen;
                }
            }
        }
        panic!("the event did not come; seen {seen:#?}");
    }

    /// The exec event of process `pid`.
    pub(crate) fn exec_of(&mut self, pid: u32) -> Exec {
        let seen = self.until(|event| matches!(event, Event::Exec(exec) if exec.pid == pid));
        match seen.into_iter().last() {
            Some(Event::Exec(exec)) => *exec,
            other => panic!("not an exec: {other:?}"),
        }
    }

    pub(crate) fn profile(&self, number: u32, mode: Mode, baseline: Baseline) {
        self.tables.set_profile(number, ProfileRow { mode, baseline, fault: Fault::Open }).unwrap();
    }

    pub(crate) fn cover(&self, container: &Container, profile: u32) {
        self.tables.set_cgroup(container.id, CgroupRow { profile, container: true }).unwrap();
    }

    pub(crate) fn rule(&self, profile: u32, path: &str, action: Action, rule: u32) {
        let key = ExactKey { profile, path: path.to_owned() };
        self.tables
            .set_exact(
                &key,
                RuleRow { action, allow_update: false, learned: false, order: rule, rule, conditional: 0 },
            )
            .unwrap();
    }
}

/// What the trial finds on this kernel, once.
pub(crate) fn mechanism() -> Option<nv_model::verdict::Mechanism> {
    static FOUND: std::sync::OnceLock<Option<nv_model::verdict::Mechanism>> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| nv_probe::trial::run(&trial(), 1).process)
}

/// What the trial finds for suspicious behaviour, once.
pub(crate) fn behaviour() -> &'static nv_probe::BehaviourHooks {
    static FOUND: std::sync::OnceLock<nv_probe::BehaviourHooks> = std::sync::OnceLock::new();
    FOUND.get_or_init(nv_probe::try_behaviour)
}

/// A trial with a shell in the place of a binary of ours.
pub(crate) fn trial() -> nv_probe::Trial {
    let code = nv_probe::trial::child_main();
    nv_probe::Trial { exe: "/bin/sh".into(), args: vec!["-c".into(), format!("exit {code}")] }
}
