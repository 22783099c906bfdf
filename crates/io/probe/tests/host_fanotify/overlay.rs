//! Permission and notification on an overlay, as a container's root file system is one.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nv_probe::fanotify::{self, Ask, Asking, Done, Inode, Notice, Telling, Whole};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// An overlay with `etc/shadow` from its lower layer, unmounted at the end.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lower/etc", "upper", "work", "root"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("lower/etc/shadow"), "secret").unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        let options = CString::new(options).unwrap();
        mount("overlay", dir.path().join("root"), "overlay", MountFlags::empty(), Some(options.as_c_str()))
            .unwrap();
        Self(dir)
    }
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join("root").join(name)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        unmount(self.0.path().join("root"), UnmountFlags::DETACH).unwrap();
    }
}

fn named(path: &Path) -> OwnedFd {
    open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).unwrap()
}

/// Opens the file on another thread, and answers the questions that come meanwhile.
fn open_while(asking: &Asking, path: &Path, allow: bool) -> (io::Result<File>, Vec<Inode>) {
    let path = path.to_owned();
    let opener = std::thread::spawn(move || File::open(path));
    let mut asked = Vec::new();
    while !opener.is_finished() {
        while let Some(question) = asking.take().unwrap() {
            assert_eq!(question.pid, std::process::id());
            asked.push(Inode::of(&question.file).unwrap());
            asking.answer(question, allow).unwrap();
        }
    }
    (opener.join().unwrap(), asked)
}

#[test]
fn a_marked_file_is_asked_about_by_every_name_and_after_it_was_copied_up() {
    let overlay = Overlay::new();
    let shadow = overlay.path("etc/shadow");
    let asking = Asking::new().unwrap();
    let target = named(&shadow);
    let inode = Inode::of(&target).unwrap();
    asking.add(Ask::Open, target.as_fd(), false).unwrap();
    let refused = open_while(&asking, &shadow, false);
    assert_eq!(refused.0.unwrap_err().raw_os_error(), Some(1), "EPERM");
    assert_eq!(refused.1, [inode]);
    assert!(open_while(&asking, &shadow, true).0.is_ok());
    fs::set_permissions(&shadow, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::hard_link(&shadow, overlay.path("link")).unwrap();
    let linked = open_while(&asking, &overlay.path("link"), false);
    assert!(linked.0.is_err());
    assert_eq!(linked.1, [inode], "the copy in the upper layer is the same file");
    asking.remove(Ask::Open, target.as_fd()).unwrap();
    assert_eq!(open_while(&asking, &shadow, false).1, []);
}

#[test]
fn whoever_waits_goes_on_when_the_group_is_gone() {
    let overlay = Overlay::new();
    let shadow = overlay.path("etc/shadow");
    let asking = Asking::new().unwrap();
    asking.add(Ask::Open, named(&shadow).as_fd(), false).unwrap();
    let opener = std::thread::spawn(move || File::open(shadow));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!opener.is_finished());
    drop(asking);
    assert!(opener.join().unwrap().is_ok());
}

fn wait_for(telling: &Telling, wanted: impl Fn(&Notice) -> bool) -> Notice {
    let end = Instant::now() + Duration::from_secs(5);
    let mut seen = Vec::new();
    while Instant::now() < end {
        assert_eq!(telling.read(&mut seen).unwrap(), 0);
        if let Some(found) = seen.iter().find(|notice| wanted(notice)) {
            return found.clone();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not told: {seen:?}");
}

#[test]
fn what_is_done_in_a_marked_folder_is_told_with_folder_name_and_process() {
    let overlay = Overlay::new();
    let telling = Telling::new().unwrap();
    let added = telling.add(named(&overlay.path("etc")).as_fd());
    // The trial's answer is what an operator is told.
    assert_eq!(added.is_ok(), fanotify::tells_of_overlay().is_ok());
    let folder = match added {
        Ok(folder) => folder,
        // Before Linux 6.6 an overlay has no handles.
        Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
    };
    let told = |name: &'static str, has: fn(&Done) -> bool| {
        let notice = wait_for(&telling, |notice| notice.name == name.as_bytes() && has(&notice.done));
        assert_eq!((&notice.folder, notice.pid), (&folder, std::process::id()));
    };
    fs::write(overlay.path("etc/new"), "x").unwrap();
    told("new", |done| done.created);
    fs::write(overlay.path("etc/shadow"), "x").unwrap();
    told("shadow", |done| done.modified);
    fs::rename(overlay.path("etc/shadow"), overlay.path("etc/moved")).unwrap();
    told("shadow", |done| done.moved_from);
    fs::remove_file(overlay.path("etc/moved")).unwrap();
    told("moved", |done| done.deleted);
}

#[test]
fn the_trial_refuses_an_open_here() {
    let trial = fanotify::trial();
    assert!(trial.works, "{trial:?}");
}

#[test]
fn whoever_was_answered_finds_nobody_on_the_mount_that_he_is_about_to_end() {
    let place = tempfile::tempdir().unwrap();
    let asking = Asking::new().unwrap();
    for round in 0..100 {
        mount("tmpfs", place.path(), "tmpfs", MountFlags::empty(), None).unwrap();
        let path = place.path().join("file");
        fs::write(&path, "text").unwrap();
        asking.add_whole(Ask::Open, named(&path).as_fd(), Whole::FileSystem).unwrap();
        let folder = place.path().to_owned();
        let opener = std::thread::spawn(move || {
            drop(File::open(path));
            let ended = unmount(&folder, UnmountFlags::empty());
            ended.inspect_err(|_| unmount(&folder, UnmountFlags::DETACH).unwrap())
        });
        while !opener.is_finished() {
            while let Some(question) = asking.take().unwrap() {
                asking.answer(question, round % 2 == 0).unwrap();
            }
        }
        opener.join().unwrap().unwrap_or_else(|error| panic!("round {round}: {error}"));
    }
}
