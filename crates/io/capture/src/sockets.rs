//! Attaches to the cgroups of containers whose packets pass no veth, and keeps the programs there.
//!
//! A link of each direction a cgroup, pinned, whose program is replaced in one step. A cgroup takes its links along when
//! it goes; their pins are removed when they are found empty.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::bpffs;
use crate::sys;

/// Why the sockets of a cgroup cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketsError {
    /// The kernel does not take the programs, or there is no cgroup v2.
    #[error("sockets are not judged on this node: {reason}")]
    Unable {
        /// Why, a sentence.
        reason: String,
    },
    /// There is no such cgroup (any more), or it cannot be opened.
    #[error("cgroup {cgroup} cannot be opened")]
    Open {
        /// Its number.
        cgroup: u64,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel has refused.
    #[error("the kernel refused to {act} cgroup {cgroup}")]
    Kernel {
        /// Its number.
        cgroup: u64,
        /// What was tried.
        act: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The pin cannot be made or removed.
    #[error("cannot keep track of cgroup {cgroup} at {path}")]
    Pin {
        /// Its number.
        cgroup: u64,
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A program of each direction, with its name and where it goes.
pub(crate) const PROGRAMS: [(&str, libbpf_sys::bpf_attach_type); 2] =
    [("from_socket", libbpf_sys::BPF_CGROUP_INET_EGRESS), ("to_socket", libbpf_sys::BPF_CGROUP_INET_INGRESS)];
const PREFIX: &str = "socket_";

/// The attached cgroups.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// In the order of [`PROGRAMS`].
    programs: [OwnedFd; 2],
    /// Root of the v2 hierarchy.
    root: File,
    /// Where links are pinned; without it they end with the process.
    folder: Option<PathBuf>,
    holds: BTreeMap<u64, [OwnedFd; 2]>,
}

impl Sockets {
    /// Takes over what an earlier process has pinned; what belongs to cgroups that are gone is cleaned up.
    pub(crate) fn adopt(programs: [OwnedFd; 2], root: &Path, folder: Option<PathBuf>) -> io::Result<Self> {
        let root = File::open(root)?;
        let mut found = Self { programs, root, folder, holds: BTreeMap::new() };
        let Some(folder) = found.folder.clone() else { return Ok(found) };
        for name in bpffs::names(&folder)? {
            let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split('_').next()?.parse().ok());
            let Some(cgroup) = number else { continue };
            match live_links(&folder, cgroup) {
                Some(links) => drop(found.holds.insert(cgroup, links)),
                None => bpffs::remove(&folder.join(&name))?,
            }
        }
        Ok(found)
    }
    /// Attaches, or replaces the programs of what is attached.
    pub(crate) fn attach(&mut self, cgroup: u64) -> Result<(), SocketsError> {
        let failed = |act| move |source| SocketsError::Kernel { cgroup, act, source };
        if let Some(links) = self.holds.get(&cgroup) {
            for (link, program) in links.iter().zip(&self.programs) {
                sys::update_link(link.as_fd(), program.as_fd()).map_err(failed("replace the programs of"))?;
            }
            return Ok(());
        }
        let folder = sys::open_cgroup(self.root.as_fd(), cgroup)
            .map_err(|source| SocketsError::Open { cgroup, source })?;
        let [out, into] = &self.programs;
        let out = self.link(out.as_fd(), folder.as_fd(), cgroup, 0)?;
        let into = self.link(into.as_fd(), folder.as_fd(), cgroup, 1)?;
        self.holds.insert(cgroup, [out, into]);
        Ok(())
    }
    fn link(
        &self,
        program: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        cgroup: u64,
        which: usize,
    ) -> Result<OwnedFd, SocketsError> {
        let Some((name, kind)) = PROGRAMS.get(which).copied() else {
            return Err(SocketsError::Unable { reason: "there is no such program".to_owned() });
        };
        let link = sys::link_cgroup(program, folder, kind).map_err(|source| SocketsError::Kernel {
            cgroup,
            act: "attach to",
            source,
        })?;
        if let Some(pins) = &self.folder {
            let path = pin(pins, cgroup, name);
            bpffs::remove(&path)
                .and_then(|()| sys::pin(link.as_fd(), &path))
                .map_err(|source| SocketsError::Pin { cgroup, path, source })?;
        }
        Ok(link)
    }
    /// Detaches; answers whether it was attached. A cgroup that is gone needs this too, for its pins.
    pub(crate) fn detach(&mut self, cgroup: u64) -> Result<bool, SocketsError> {
        let Some(links) = self.holds.remove(&cgroup) else { return Ok(false) };
        for link in &links {
            // A cgroup that is gone has let go already.
            if let Err(error) = sys::detach_link(link.as_fd()) {
                tracing::debug!(cgroup, %error, "a link is without its cgroup");
            }
        }
        for (name, _) in PROGRAMS {
            let Some(folder) = &self.folder else { break };
            let path = pin(folder, cgroup, name);
            bpffs::remove(&path).map_err(|source| SocketsError::Pin { cgroup, path, source })?;
        }
        Ok(true)
    }
    pub(crate) fn cgroups(&self) -> Vec<u64> {
        self.holds.keys().copied().collect()
    }
}

fn pin(folder: &Path, cgroup: u64, name: &str) -> PathBuf {
    folder.join(format!("{PREFIX}{cgroup}_{name}"))
}

/// The pinned links, if both still are at their cgroup.
fn live_links(folder: &Path, cgroup: u64) -> Option<[OwnedFd; 2]> {
    let open = |name: &str| {
        let link = sys::open_pinned(&pin(folder, cgroup, name)).ok()?;
        (sys::linked_cgroup(link.as_fd()).ok()? == Some(cgroup)).then_some(link)
    };
    let [(out, _), (into, _)] = PROGRAMS;
    Some([open(out)?, open(into)?])
}
