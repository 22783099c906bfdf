//! File rules in the kernel, where it can refuse.

#![expect(unsafe_code, reason = "truncate(2) by path has no safe wrapper")]

use std::fs::{self, File, OpenOptions};
use std::io;

use nv_model::file::FileOperation;
use nv_model::mode::{Baseline, Mode};
use nv_model::verdict::{Mechanism, Verdict};
use nv_probe::events::FileEvent;
use nv_probe::file::{FileRow, Rows, Tables, scope};
use nv_probe::{Event, FileHooks, Options, cgroup, try_files};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::lab::{Bench, Container, inode_of_this_program, mechanism};

const PROFILE: u32 = 4;
const SECRET: &str = "/etc/secret";
const KEY: &str = "/vault/sub/key";

/// What the trial finds, or `None` on a kernel that refuses no call of this kind: fanotify does what can be done there.
fn hooks() -> Option<FileHooks> {
    match mechanism() {
        Some(refusing @ (Mechanism::BpfLsm | Mechanism::FmodRet)) => Some(try_files(refusing).unwrap()),
        other => {
            assert_eq!(other, Some(Mechanism::TracepointKill));
            let refused = try_files(Mechanism::BpfLsm).unwrap_err();
            assert!(refused.contains("the kernel does not load it"), "{refused}");
            None
        }
    }
}

/// A container with a rule on a file and one on a folder, in this mode.
struct Scene {
    bench: Bench,
    container: Container,
    tables: Tables,
    rows: Rows,
}

impl Scene {
    fn new(hooks: FileHooks, mode: Mode, blocks: bool) -> Self {
        let container = Container::new(&[SECRET, KEY, "/bin/other"]);
        let bench = Bench::load(&Options {
            pin_dir: None,
            mechanism: None,
            files: Some((hooks.mechanism, hooks.works)),
            behaviour: Vec::new(),
            host_mount_namespace: cgroup::mount_namespace(None).unwrap(),
            belonging: nv_probe::trial::belonging().is_ok(),
            records_per_second: nv_probe::RECORDS_PER_SECOND,
        });
        bench.profile(PROFILE, mode, Baseline::Basic);
        bench.cover(&container, PROFILE);
        let mut tables =
            Tables::from_descriptors(bench.loaded.as_ref().unwrap().descriptors().unwrap()).unwrap();
        let mut rows = Rows::default();
        let mut add = |path: &str, rule: u32, scope: u8| {
            rows.add(PROFILE, container.inode(path), FileRow { rule, blocks, scope });
        };
        add(SECRET, 0, scope::ITSELF);
        add("/etc", 0, scope::ABOVE);
        add("/vault", 1, scope::IN | scope::BELOW);
        assert_eq!(tables.replace(&rows).unwrap().refused, 0);
        Self { bench, container, tables, rows }
    }

    fn event(&mut self, operation: FileOperation, path: &str) -> FileEvent {
        let is = |event: &Event| matches!(event, Event::File(file) if file.operation == operation && file.path == path);
        match self.bench.until(is).pop() {
            Some(Event::File(file)) => *file,
            other => panic!("not a file: {other:?}"),
        }
    }
}

fn refused(done: io::Result<()>) -> bool {
    match done {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => true,
        Err(error) => panic!("another error: {error}"),
        Ok(()) => false,
    }
}

type Deed = fn() -> io::Result<()>;

/// Everything that reaches a protected file, and what it is reported as.
const DEEDS: [(&str, FileOperation, &str, Deed); 12] = [
    ("read", FileOperation::Open, SECRET, || File::open(SECRET).map(drop)),
    ("read below a folder", FileOperation::Open, KEY, || File::open(KEY).map(drop)),
    ("write", FileOperation::Modify, SECRET, || OpenOptions::new().append(true).open(SECRET).map(drop)),
    ("chmod", FileOperation::Attribute, SECRET, || Ok(rustix::fs::chmod(SECRET, 0o777.into())?)),
    ("chown", FileOperation::Attribute, KEY, || std::os::unix::fs::chown(KEY, Some(7), None)),
    ("truncate", FileOperation::Truncate, SECRET, || {
        let path = c"/etc/secret";
        // SAFETY: a NUL-terminated literal.
        if unsafe { libc::truncate(path.as_ptr(), 0) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }),
    ("hard link", FileOperation::Link, SECRET, || fs::hard_link(SECRET, "/etc/other-name")),
    ("create in a folder", FileOperation::Create, "/vault/new", || File::create("/vault/new").map(drop)),
    ("mount over a file", FileOperation::MountOver, SECRET, || Ok(mount_bind("/bin/other", SECRET)?)),
    ("mount over a folder above", FileOperation::MountOver, "/etc", || {
        Ok(mount("tmpfs", "/etc", "tmpfs", MountFlags::empty(), None)?)
    }),
    ("rename", FileOperation::Rename, SECRET, || fs::rename(SECRET, "/tmp/elsewhere")),
    ("delete", FileOperation::Delete, KEY, || fs::remove_file(KEY)),
];

#[test]
fn what_a_rule_blocks_can_be_neither_opened_nor_changed() {
    let Some(hooks) = hooks() else { return };
    assert_eq!(hooks.lost, [], "hooks that this kernel does not have");
    let mut scene = Scene::new(hooks, Mode::Protect, true);
    for (name, operation, path, deed) in DEEDS {
        assert!(refused(scene.container.act(deed)), "{name} went through");
        let event = scene.event(operation, path);
        assert_eq!((event.verdict, event.mechanism.is_some()), (Verdict::Deny, true), "{name}: {event:?}");
    }
    assert!(!refused(scene.container.act(|| File::open("/bin/other").map(drop))), "another file");
}

#[test]
fn no_other_name_leads_around_a_rule_and_applications_are_known_by_their_inode() {
    let Some(hooks) = hooks() else { return };
    let mut scene = Scene::new(hooks, Mode::Monitor, true);
    assert!(!refused(scene.container.act(|| fs::hard_link(SECRET, "/tmp/link"))));
    assert!(
        !refused(scene.container.act(|| rustix::fs::chmod(SECRET, 0o755.into()).map_err(Into::into))),
        "copied up"
    );
    assert!(!refused(scene.container.act(|| std::os::unix::fs::symlink(SECRET, "/tmp/symlink"))));
    assert_eq!(scene.event(FileOperation::Link, SECRET).verdict, Verdict::Violate);
    scene.bench.profile(PROFILE, Mode::Protect, Baseline::Basic);
    for name in [|| File::open("/tmp/link").map(drop), || File::open("/tmp/symlink").map(drop)] {
        assert!(refused(scene.container.act(name)), "another name");
    }
    let bound: Deed = || {
        File::create("/tmp/target")?;
        mount_bind("/tmp/link", "/tmp/target")?;
        File::open("/tmp/target").map(drop)
    };
    assert!(refused(scene.container.act(bound)), "a bind mount");
    // The deeds are this program's.
    let own = inode_of_this_program();
    scene.rows.applications.insert((PROFILE, 0, own));
    scene.tables.replace(&scene.rows).unwrap();
    assert!(!refused(scene.container.act(|| File::open(SECRET).map(drop))), "its application");
    assert!(refused(scene.container.act(|| File::open(KEY).map(drop))), "an application of another rule");
}

#[test]
fn a_watched_file_is_read_in_silence_and_its_change_reported() {
    let Some(hooks) = hooks() else { return };
    let mut scene = Scene::new(hooks, Mode::Protect, false);
    assert!(!refused(scene.container.act(|| File::open(SECRET).map(drop))));
    assert!(!refused(scene.container.act(|| OpenOptions::new().append(true).open(SECRET).map(drop))));
    let event = scene.event(FileOperation::Modify, SECRET);
    assert_eq!(
        (event.verdict, event.mechanism, event.rule, event.profile),
        (Verdict::Violate, None, 0, PROFILE)
    );
    assert!(!refused(scene.container.act(|| fs::remove_file(KEY))));
    assert_eq!(scene.event(FileOperation::Delete, KEY).rule, 1);
}

#[test]
fn in_discover_whoever_opens_is_reported_to_be_learned() {
    let Some(hooks) = hooks() else { return };
    let mut scene = Scene::new(hooks, Mode::Discover, true);
    assert!(!refused(scene.container.act(|| File::open(SECRET).map(drop))));
    assert_eq!(scene.event(FileOperation::Open, SECRET).verdict, Verdict::Learn);
}
