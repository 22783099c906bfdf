//! What the kernel does of it, found by trying.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nv_model::node::Capability;
use nv_model::verdict::Mechanism;

use super::ask::{Ask, Asking};
use super::tell::Telling;

/// Longest wait for the trial's opener.
const PATIENCE: Duration = Duration::from_secs(3);

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
        while let Some(question) =
            asking.take().map_err(|error| format!("questions cannot be read: {error}"))?
        {
            asked = true;
            asking.answer(question, false).map_err(|error| format!("an answer is not taken: {error}"))?;
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
