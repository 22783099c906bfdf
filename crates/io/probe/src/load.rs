//! The keeper's side: load the programs, attach them, and pin them so that they outlive it.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{Link, MapCore as _, Object};
use nv_model::verdict::Mechanism;
use rustix::mount::{FsOpenFlags, fsopen};

use crate::object::{Constants, OBSERVERS, SHARED_MAPS, complaint, file_program, open};
use crate::{bpffs, cgroup};

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where maps and links are pinned, in a folder `process` of it ([`bpffs::default_pin_dir`]); `None` pins nothing,
    /// so that everything ends with the [`Loaded`].
    pub pin_dir: Option<PathBuf>,
    /// What stops programs besides the exec tracepoint, which always runs: [`Mechanism::BpfLsm`] or
    /// [`Mechanism::FmodRet`], as the trial found.
    pub mechanism: Option<Mechanism>,
    /// What stops opens and changes of files, as the trial found: [`Mechanism::BpfLsm`] or [`Mechanism::FmodRet`]; and the
    /// hooks that it found to work.
    pub files: Option<(Mechanism, Vec<&'static str>)>,
    /// Programs that tell of suspicious behaviour, as the trial found ([`crate::BehaviourHooks`]).
    pub behaviour: Vec<&'static str>,
    /// Inode of the host's mount namespace, by which a runtime's own exec in a container's cgroup is told apart.
    pub host_mount_namespace: u32,
    /// Whether a process is judged by the container that it belongs to, wherever it goes ([`crate::trial::belonging`]);
    /// else by the cgroup that it is in.
    pub belonging: bool,
    /// Records of a kind (programs, processes made and ended, files) that a cgroup may make in a second; what is against
    /// the rules has as many of its own. More are counted.
    pub records_per_second: u32,
}

/// [`Options::records_per_second`] where nobody says otherwise: more than a busy container makes, less than fills the ring
/// before it is read.
pub const RECORDS_PER_SECOND: u32 = 5_000;

impl Options {
    /// Pins under `pin_dir`, or not at all.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn new(pin_dir: Option<PathBuf>, mechanism: Option<Mechanism>) -> io::Result<Self> {
        let host = cgroup::host_mount_namespace()?;
        Ok(Self {
            pin_dir,
            mechanism,
            files: None,
            behaviour: Vec::new(),
            host_mount_namespace: host,
            belonging: crate::trial::belonging().is_ok(),
            records_per_second: RECORDS_PER_SECOND,
        })
    }
}

impl Options {
    fn constants(&self) -> Constants {
        Constants {
            host_mount_namespace: self.host_mount_namespace,
            keeps_by_task: self.belonging,
            records_per_second: self.records_per_second,
        }
    }
}

/// Why the programs are not in the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The folder for pins cannot be used.
    #[error("cannot pin programs in {}", dir.display())]
    PinDir {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the object.
    #[error("the kernel refused to load the process programs ({complaint})")]
    Load {
        /// What libbpf said about it; all of it goes to the log target `libbpf` at level debug.
        complaint: String,
        /// The kernel's answer.
        #[source]
        source: libbpf_rs::Error,
    },
    /// The kernel refused to attach a program.
    #[error("the kernel refused to attach the program {program}")]
    Attach {
        /// Which one.
        program: String,
        /// Its answer.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A link could not be pinned.
    #[error("cannot pin the program {program}")]
    Pin {
        /// Which one.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The loaded programs. When it is dropped, pinned ones go on, others end.
#[derive(Debug)]
pub struct Loaded {
    object: Object,
    links: Vec<Link>,
    dir: Option<PathBuf>,
    adopted: bool,
}

fn refused(source: libbpf_rs::Error) -> LoadError {
    LoadError::Load { complaint: complaint(), source }
}

/// The programs to load for a mechanism.
pub(crate) fn programs(mechanism: Option<Mechanism>) -> Vec<&'static str> {
    let mut programs = OBSERVERS.to_vec();
    match mechanism {
        Some(Mechanism::BpfLsm) => programs.push("exec_lsm"),
        Some(Mechanism::FmodRet) => programs.push("exec_fmod_ret"),
        _ => {}
    }
    programs
}

impl Loaded {
    /// Loads and attaches. Pinned maps of an earlier run are taken over with their rows; its programs are let go only
    /// when the new ones are attached, so there is no moment without judgement (for that moment both report).
    ///
    /// # Errors
    /// [`LoadError`]; what was pinned before still holds then.
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        let mut wanted: Vec<String> = programs(options.mechanism).into_iter().map(str::to_owned).collect();
        if let Some((mechanism, hooks)) = &options.files {
            wanted.extend(hooks.iter().filter_map(|hook| file_program(hook, *mechanism)));
        }
        wanted.extend(options.behaviour.iter().map(|program| (*program).to_owned()));
        let mut object = open(&wanted, options.constants()).map_err(refused)?;
        let dir = options.pin_dir.as_ref().map(|dir| dir.join("process"));
        let mut adopted = false;
        if let Some(dir) = &dir {
            let failed = |source| LoadError::PinDir { dir: dir.clone(), source };
            bpffs::ensure(dir).map_err(failed)?;
            fs::create_dir_all(dir).map_err(failed)?;
            adopted = dir.join("cgroups").exists();
            for mut map in object.maps_mut() {
                let name = map.name().to_string_lossy().into_owned();
                if map.autocreate() && SHARED_MAPS.contains(&name.as_str()) {
                    map.set_pin_path(dir.join(name)).map_err(refused)?;
                }
            }
        }
        load_overlay();
        let object = object.load().map_err(refused)?;
        let mut loaded = Self { object, links: Vec::new(), dir, adopted };
        loaded.attach()?;
        Ok(loaded)
    }

    fn attach(&mut self) -> Result<(), LoadError> {
        let mut attached = Vec::new();
        for program in self.object.progs_mut().filter(|program| program.autoload()) {
            let name = program.name().to_string_lossy().into_owned();
            let link =
                program.attach().map_err(|source| LoadError::Attach { program: name.clone(), source })?;
            attached.push((name, link));
        }
        let Some(dir) = &self.dir else {
            self.links = attached.into_iter().map(|(_, link)| link).collect();
            return Ok(());
        };
        let mut kept = Vec::new();
        for (program, mut link) in attached {
            let pin = dir.join(format!("link_{program}"));
            let fresh = dir.join(format!("new_{program}"));
            let failed = |source| LoadError::Pin { program: program.clone(), source };
            remove(&fresh).map_err(failed)?;
            link.pin(&fresh).map_err(|error| failed(io::Error::other(error)))?;
            // Takes the place of the earlier run's pin; its program ends with it.
            fs::rename(&fresh, &pin).map_err(failed)?;
            kept.push(pin);
            self.links.push(link);
        }
        // Of an earlier run with another mechanism.
        for stale in pins(dir).into_iter().filter(|pin| !kept.contains(pin)) {
            let program = stale.display().to_string();
            remove(&stale).map_err(|source| LoadError::Pin { program, source })?;
        }
        Ok(())
    }

    /// Whether maps of an earlier run were taken over.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Descriptors of the shared maps, for the agent: for [`crate::Tables::from_descriptors`], and `ring` for
    /// [`crate::Events::from_descriptor`].
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn descriptors(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        descriptors(&self.object)
    }

    /// Ends enforcement: removes the pins and detaches everything. For uninstalling and for tests.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn unload(self) -> Result<(), LoadError> {
        let Self { object, links, dir, .. } = self;
        drop(links);
        drop(object);
        dir.map_or(Ok(()), |dir| remove_pins(&dir))
    }
}

/// Descriptors of an object's shared maps.
pub(crate) fn descriptors(object: &Object) -> io::Result<Vec<(String, OwnedFd)>> {
    object
        .maps()
        .filter(|map| map.autocreate() && SHARED_MAPS.iter().any(|name| map.name() == *name))
        .map(|map| Ok((map.name().to_string_lossy().into_owned(), map.as_fd().try_clone_to_owned()?)))
        .collect()
}

/// Removes what [`Loaded::load`] pinned under `pin_dir`, by whichever process: nothing is enforced afterwards.
///
/// # Errors
/// A pin cannot be removed. None being there is no error.
pub fn unpin(pin_dir: &Path) -> Result<(), LoadError> {
    remove_pins(&pin_dir.join("process"))
}

fn remove_pins(dir: &Path) -> Result<(), LoadError> {
    let failed = |source| LoadError::PinDir { dir: dir.to_path_buf(), source };
    // Programs before their maps: rows that vanish one by one would be judged by.
    for pin in pins(dir) {
        remove(&pin).map_err(failed)?;
    }
    for map in SHARED_MAPS {
        remove(&dir.join(map)).map_err(failed)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Pinned links in `dir`.
fn pins(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("link_") || name.starts_with("new_")
        })
        .map(|entry| entry.path())
        .collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Where overlay is a module, its types are known to the kernel only once it is loaded; without them the programs
/// cannot tell an image's file from a changed one. Opening its configuration loads it and mounts nothing.
fn load_overlay() {
    if let Err(error) = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        tracing::debug!(%error, "overlay is not available");
    }
}
