//! Attaches the two programs to a host end of a veth and keeps them there.
//!
//! tcx where the kernel has it: two links, pinned, whose program is replaced in one step. Else a filter in the clsact
//! qdisc at a fixed place, replaced in one step as well; a folder beside the links remembers it. The qdisc is never
//! deleted, and the interface is never touched in any other way.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::bpffs;
use crate::sys::{self, Direction};

/// Where in the path of a packet the programs sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A tcx link (kernel 6.6).
    Tcx,
    /// A filter in the clsact qdisc.
    Clsact,
}

impl Hook {
    /// Word for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Why an interface cannot be attached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no such interface (any more).
    #[error("interface {ifindex} is gone")]
    Gone {
        /// Its index.
        ifindex: u32,
    },
    /// Somebody else's filter sits where ours would.
    #[error("interface {ifindex} has the filter {program} of somebody else in the place of ours; remove it")]
    Occupied {
        /// Its index.
        ifindex: u32,
        /// Name of the other program.
        program: String,
    },
    /// The kernel has refused.
    #[error("the kernel refused to {act} interface {ifindex} by {hook}", hook = hook.as_str())]
    Kernel {
        /// Its index.
        ifindex: u32,
        /// What was tried.
        act: &'static str,
        /// How.
        hook: Hook,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// The pin cannot be made or removed.
    #[error("cannot keep track of interface {ifindex} at {path}")]
    Pin {
        /// Its index.
        ifindex: u32,
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The programs of one direction each.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) from_pod: OwnedFd,
    pub(crate) to_pod: OwnedFd,
}

impl Programs {
    fn of(&self, direction: Direction) -> BorrowedFd<'_> {
        match direction {
            Direction::FromPod => self.from_pod.as_fd(),
            Direction::ToPod => self.to_pod.as_fd(),
        }
    }
}

/// How one interface is held.
#[derive(Debug)]
enum Hold {
    Tcx { from_pod: OwnedFd, to_pod: OwnedFd },
    Clsact,
}

/// The attached interfaces.
#[derive(Debug)]
pub(crate) struct Attachments {
    /// Where links are pinned; without it they end with the process.
    folder: Option<PathBuf>,
    holds: BTreeMap<u32, Hold>,
    /// tcx was refused once, or is not wanted.
    only_clsact: bool,
}

const CLSACT_PREFIX: &str = "clsact_";
const TCX_PREFIX: &str = "tcx_";

impl Attachments {
    /// Takes over what an earlier process has pinned; what belongs to interfaces that are gone is cleaned up.
    pub(crate) fn adopt(folder: Option<PathBuf>, only_clsact: bool) -> io::Result<Self> {
        let mut found = Self { folder, holds: BTreeMap::new(), only_clsact };
        let Some(folder) = found.folder.clone() else { return Ok(found) };
        for name in bpffs::names(&folder)? {
            if let Some(ifindex) = name.strip_prefix(CLSACT_PREFIX).and_then(|number| number.parse().ok()) {
                if holds_filters(ifindex) {
                    found.holds.insert(ifindex, Hold::Clsact);
                } else {
                    bpffs::remove(&folder.join(&name))?;
                }
                continue;
            }
            let Some(ifindex) =
                name.strip_prefix(TCX_PREFIX).and_then(|rest| rest.split('_').next()?.parse::<u32>().ok())
            else {
                continue;
            };
            let links = Direction::BOTH.map(|direction| live_link(&folder, ifindex, direction));
            if let [Some(from_pod), Some(to_pod)] = links {
                found.holds.insert(ifindex, Hold::Tcx { from_pod, to_pod });
            } else if tcx_is_dead(&folder, ifindex) {
                bpffs::remove(&folder.join(&name))?;
            }
        }
        Ok(found)
    }
    pub(crate) fn interfaces(&self) -> Vec<u32> {
        self.holds.keys().copied().collect()
    }
    /// Attaches, or replaces the programs of what is attached.
    pub(crate) fn attach(&mut self, programs: &Programs, ifindex: u32) -> Result<Hook, AttachError> {
        let clsact_before = matches!(self.holds.get(&ifindex), Some(Hold::Clsact));
        if !self.only_clsact && !clsact_before {
            match self.attach_tcx(programs, ifindex) {
                // A kernel before 6.6 does not know the attach type.
                Err(AttachError::Kernel { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {
                    self.only_clsact = true;
                }
                Err(error) => {
                    if !self.holds.contains_key(&ifindex) {
                        self.drop_links(ifindex)?;
                    }
                    return Err(error);
                }
                Ok(()) => return Ok(Hook::Tcx),
            }
        }
        self.attach_clsact(programs, ifindex)?;
        Ok(Hook::Clsact)
    }
    /// Detaches; answers whether it was attached.
    pub(crate) fn detach(&mut self, ifindex: u32) -> Result<bool, AttachError> {
        match self.holds.remove(&ifindex) {
            None => Ok(false),
            Some(Hold::Tcx { from_pod, to_pod }) => {
                for link in [&from_pod, &to_pod] {
                    match sys::detach_link(link.as_fd()) {
                        Ok(()) => {}
                        Err(error) if is_gone(&error) => {}
                        Err(source) => {
                            let hook = Hook::Tcx;
                            return Err(AttachError::Kernel { ifindex, act: "detach from", hook, source });
                        }
                    }
                }
                self.drop_links(ifindex).map(|()| true)
            }
            Some(Hold::Clsact) => {
                for direction in Direction::BOTH {
                    match sys::remove_filter(as_c_int(ifindex), direction) {
                        Ok(()) => {}
                        Err(error) if is_gone(&error) => {}
                        Err(source) => {
                            let hook = Hook::Clsact;
                            return Err(AttachError::Kernel { ifindex, act: "detach from", hook, source });
                        }
                    }
                }
                if let Some(path) = self.clsact_mark(ifindex) {
                    bpffs::remove(&path).map_err(|source| AttachError::Pin { ifindex, path, source })?;
                }
                Ok(true)
            }
        }
    }

    fn attach_tcx(&mut self, programs: &Programs, ifindex: u32) -> Result<(), AttachError> {
        let from_pod = self.link(programs, ifindex, Direction::FromPod)?;
        let to_pod = self.link(programs, ifindex, Direction::ToPod)?;
        self.holds.insert(ifindex, Hold::Tcx { from_pod, to_pod });
        Ok(())
    }
    /// The link of one direction with our program in it: the pinned one if it lives, else a new one.
    fn link(&self, programs: &Programs, ifindex: u32, direction: Direction) -> Result<OwnedFd, AttachError> {
        let program = programs.of(direction);
        let failed = |act| move |source| kernel_or_gone(ifindex, act, Hook::Tcx, source);
        if let Some(folder) = &self.folder
            && let Some(link) = live_link(folder, ifindex, direction)
        {
            sys::update_link(link.as_fd(), program).map_err(failed("replace the programs of"))?;
            return Ok(link);
        }
        if let (None, Some(Hold::Tcx { from_pod, to_pod })) = (&self.folder, self.holds.get(&ifindex)) {
            let link = match direction {
                Direction::FromPod => from_pod,
                Direction::ToPod => to_pod,
            };
            sys::update_link(link.as_fd(), program).map_err(failed("replace the programs of"))?;
            return link.try_clone().map_err(failed("hold"));
        }
        let link = sys::link_tcx(program, as_c_int(ifindex), direction).map_err(failed("attach to"))?;
        if let Some(folder) = &self.folder {
            let path = tcx_pin(folder, ifindex, direction);
            bpffs::remove(&path)
                .and_then(|()| sys::pin(link.as_fd(), &path))
                .map_err(|source| AttachError::Pin { ifindex, path, source })?;
        }
        Ok(link)
    }
    fn attach_clsact(&mut self, programs: &Programs, ifindex: u32) -> Result<(), AttachError> {
        for direction in Direction::BOTH {
            let failed = |act| move |source| kernel_or_gone(ifindex, act, Hook::Clsact, source);
            if let Some(id) = sys::filter(as_c_int(ifindex), direction).map_err(failed("look at"))? {
                let program = sys::program_name(id).map_err(failed("look at"))?;
                if program != direction.as_str() {
                    return Err(AttachError::Occupied { ifindex, program });
                }
            }
            sys::set_filter(programs.of(direction), as_c_int(ifindex), direction)
                .map_err(failed("attach to"))?;
        }
        if let Some(path) = self.clsact_mark(ifindex)
            && !path.exists()
        {
            std::fs::create_dir(&path).map_err(|source| AttachError::Pin { ifindex, path, source })?;
        }
        self.holds.insert(ifindex, Hold::Clsact);
        Ok(())
    }
    fn clsact_mark(&self, ifindex: u32) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{CLSACT_PREFIX}{ifindex}")))
    }
    /// A tcx link ends with its last descriptor and its pin.
    fn drop_links(&self, ifindex: u32) -> Result<(), AttachError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for direction in Direction::BOTH {
            let path = tcx_pin(folder, ifindex, direction);
            bpffs::remove(&path).map_err(|source| AttachError::Pin { ifindex, path, source })?;
        }
        Ok(())
    }
}

impl Drop for Attachments {
    /// Without pins nothing is to stay. tcx links go by themselves, filters have to be taken away.
    fn drop(&mut self) {
        if self.folder.is_some() {
            return;
        }
        for ifindex in self.interfaces() {
            if let Err(error) = self.detach(ifindex) {
                tracing::warn!(ifindex, %error, "a filter stays behind");
            }
        }
    }
}

fn tcx_pin(folder: &Path, ifindex: u32, direction: Direction) -> PathBuf {
    folder.join(format!("{TCX_PREFIX}{ifindex}_{}", direction.as_str()))
}

/// The pinned link, if it still is at the interface.
fn live_link(folder: &Path, ifindex: u32, direction: Direction) -> Option<OwnedFd> {
    let link = sys::open_pinned(&tcx_pin(folder, ifindex, direction)).ok()?;
    (sys::tcx_interface(link.as_fd()).ok()? == Some(ifindex)).then_some(link)
}

/// Neither direction is at the interface: it is gone.
fn tcx_is_dead(folder: &Path, ifindex: u32) -> bool {
    Direction::BOTH.iter().all(|&direction| live_link(folder, ifindex, direction).is_none())
}

fn holds_filters(ifindex: u32) -> bool {
    Direction::BOTH.iter().any(|&direction| matches!(sys::filter(as_c_int(ifindex), direction), Ok(Some(_))))
}

/// Interface indexes are positive `int`s in the kernel.
pub(crate) fn as_c_int(ifindex: u32) -> i32 {
    i32::try_from(ifindex).unwrap_or(0)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::ENOLINK | libc::EINVAL))
}

pub(crate) fn kernel_or_gone(ifindex: u32, act: &'static str, hook: Hook, source: io::Error) -> AttachError {
    match source.raw_os_error() {
        Some(libc::ENODEV | libc::ENOLINK) => AttachError::Gone { ifindex },
        _ => AttachError::Kernel { ifindex, act, hook, source },
    }
}
