//! The keeper's side: loads programs and tables, attaches them, and leaves them pinned.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore as _, Object, ObjectBuilder, OpenObject, PrintLevel};

use crate::attach::{AttachError, Attachments, Hook, Programs};
use crate::bpffs;
use crate::detour;
use crate::map::name;
use crate::sockets::{self, Sockets, SocketsError};
use crate::sys::{self, Direction};

/// The object that the build has compiled, aligned as an ELF file wants it.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/network.bpf.o")));

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of a BPF file system that programs and tables stay in. `None`: they end with the process.
    pub pin_dir: Option<PathBuf>,
    /// Root of the cgroup v2 hierarchy; `None`: where it is mounted.
    pub cgroup_root: Option<PathBuf>,
    /// Attach to cgroups for the process behind a connection.
    pub attribution: bool,
    /// Use clsact even where the kernel has tcx.
    pub only_clsact: bool,
    /// Flows that are kept; the ones that were idle longest give way.
    pub flows: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pin_dir: Some(PathBuf::from("/sys/fs/bpf/neuvector/v1/network")),
            cgroup_root: None,
            attribution: true,
            only_clsact: false,
            flows: 65_536,
        }
    }
}

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The folder for pins cannot be used.
    #[error("cannot use {path} for pinned programs and tables")]
    PinDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not take the object. Loading needs root, or `CAP_BPF` and `CAP_NET_ADMIN`.
    #[error("the kernel does not take the network programs: {detail}")]
    Object {
        /// What it said last.
        detail: String,
        /// libbpf's error.
        #[source]
        source: libbpf_rs::Error,
    },
    /// The object lacks a part: it was built of other sources.
    #[error("the network object has no {part}")]
    Part {
        /// The program or table.
        part: &'static str,
    },
    /// A descriptor cannot be duplicated.
    #[error("cannot duplicate a descriptor")]
    Descriptor(#[source] io::Error),
}

/// Loaded programs and tables.
#[derive(Debug)]
pub struct Loaded {
    programs: Programs,
    from_detour: OwnedFd,
    tables: Vec<(&'static str, OwnedFd)>,
    attachments: Attachments,
    cgroup_links: Vec<OwnedFd>,
    attribution: Result<(), String>,
    sockets: Result<Sockets, String>,
    translations: Result<(), String>,
    pin_dir: Option<PathBuf>,
    adopted: bool,
}

impl Loaded {
    /// Loads the programs. Tables that an earlier process has pinned are adopted with what they hold; attached
    /// interfaces go on with the earlier programs until [`attach`](Self::attach) replaces them. Tables of another shape
    /// are replaced by empty ones, and the earlier programs go on with theirs: fill the new ones before you attach.
    ///
    /// # Errors
    /// When the folder cannot be used or the kernel does not take the object. A node without cgroup v2 is no error:
    /// see [`attribution`](Self::attribution).
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        libbpf_rs::set_print(Some((PrintLevel::Warn, |_level, text| {
            tracing::warn!(target: "nv_capture::libbpf", message = %text.trim_end());
        })));
        let pin_dir = options.pin_dir.clone();
        let folders = pin_dir.as_ref().map(|dir| (dir.join("tables"), dir.join("links")));
        if let Some((tables, links)) = &folders {
            for path in [tables, links] {
                bpffs::make_folder(path)
                    .map_err(|source| LoadError::PinDir { path: path.clone(), source })?;
            }
        }
        let tables = folders.as_ref().map(|(tables, _)| tables.as_path());
        let mut attribution = if options.attribution { Ok(()) } else { Err("not asked for".to_owned()) };
        let mut at_sockets = attribution.clone();
        let mut wanted = if options.attribution { Wanted::All } else { Wanted::Interfaces };
        let mut translations = Ok(());
        // A kernel that does not take the cgroup programs still gets the verdicts.
        let (object, adopted) = loop {
            match (open_and_load(options.flows, tables, wanted, translations.is_ok()), wanted) {
                (Ok(loaded), _) => break loaded,
                (Err(LoadError::Object { detail, .. }), _) if translations.is_ok() => {
                    translations =
                        Err(format!("the kernel does not let its connection tracking be asked: {detail}"));
                }
                (Err(LoadError::Object { detail, .. }), Wanted::All) => {
                    at_sockets = Err(format!("the kernel does not take the programs of sockets: {detail}"));
                    wanted = Wanted::Connects;
                }
                (Err(LoadError::Object { detail, .. }), Wanted::Connects) => {
                    attribution = Err(format!("the kernel does not take the cgroup programs: {detail}"));
                    wanted = Wanted::Interfaces;
                }
                (Err(error), _) => return Err(error),
            }
        };
        let programs = Programs {
            from_pod: program(&object, Direction::FromPod.as_str())?,
            to_pod: program(&object, Direction::ToPod.as_str())?,
        };
        let from_detour = program(&object, detour::PROGRAM)?;
        let mut tables = Vec::new();
        for table in name::HANDED_OUT {
            let map = object.maps().find(|map| map.name() == table).ok_or(LoadError::Part { part: table })?;
            tables.push((table, map.as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)?));
        }
        let links = folders.map(|(_, links)| links);
        let attachments = Attachments::adopt(links.clone(), options.only_clsact)
            .map_err(|source| LoadError::PinDir { path: links.clone().unwrap_or_default(), source })?;
        let mut cgroup_links = Vec::new();
        if attribution.is_ok() {
            attribution =
                attach_cgroup(&object, options.cgroup_root.as_deref(), links.as_deref(), &mut cgroup_links);
        }
        let sockets = at_sockets.and_then(|()| {
            let [(out, _), (into, _)] = sockets::PROGRAMS;
            let programs = [program(&object, out), program(&object, into)];
            let [Ok(out), Ok(into)] = programs else { return Err("the programs are missing".to_owned()) };
            let root = cgroup_root(options.cgroup_root.as_deref())?;
            Sockets::adopt([out, into], &root, links).map_err(|error| format!("{}: {error}", root.display()))
        });
        Ok(Self {
            programs,
            from_detour,
            tables,
            attachments,
            cgroup_links,
            attribution,
            sockets,
            translations,
            pin_dir,
            adopted,
        })
    }
    /// The tables of an earlier process were adopted, with what they hold.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }
    /// Whether connections are attributed to processes, or why not.
    ///
    /// # Errors
    /// The reason, a sentence.
    pub fn attribution(&self) -> Result<(), &str> {
        self.attribution.as_ref().copied().map_err(String::as_str)
    }
    /// Attaches to the host end of a veth in the network namespace of the calling thread. Replaces the programs when it is
    /// attached already, without a gap. Neither the pod nor the interface notices.
    ///
    /// # Errors
    /// When the interface is gone, the kernel refuses, or the place is taken.
    pub fn attach(&mut self, ifindex: u32) -> Result<Hook, AttachError> {
        self.attachments.attach(&self.programs, ifindex)
    }
    /// Has frames that come in at an interface ([`TapInterface::ifindex`](crate::TapInterface)) go on where they have left
    /// their way, until the answer is dropped.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn attach_detour(&self, ifindex: u32) -> Result<detour::Way, AttachError> {
        detour::Way::open(self.from_detour.as_fd(), ifindex)
    }
    /// Detaches from an interface; its packets pass from now on. Answers whether it was attached. An interface that is gone
    /// needs this too, for its pins.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(&mut self, ifindex: u32) -> Result<bool, AttachError> {
        self.attachments.detach(ifindex)
    }
    /// Whether what the sockets of a container send and are sent can be judged, or why not.
    ///
    /// # Errors
    /// The reason, a sentence.
    pub fn sockets(&self) -> Result<(), &str> {
        self.sockets.as_ref().map(|_| ()).map_err(String::as_str)
    }
    /// Whether ends behind a translation of addresses (services, masquerading) are found, or why not. Needs the functions of
    /// Linux 5.18, and connection tracking that is built in or was loaded before.
    ///
    /// # Errors
    /// The reason, a sentence.
    pub fn translations(&self) -> Result<(), &str> {
        self.translations.as_ref().copied().map_err(String::as_str)
    }
    /// Judges what the sockets of a cgroup, and of all below it, send and are sent, by its row in `places`. Replaces the
    /// programs when they are attached already, without a gap.
    ///
    /// # Errors
    /// When the cgroup is gone or the kernel refuses.
    pub fn attach_sockets(&mut self, cgroup: u64) -> Result<(), SocketsError> {
        match &mut self.sockets {
            Ok(sockets) => sockets.attach(cgroup),
            Err(reason) => Err(SocketsError::Unable { reason: reason.clone() }),
        }
    }
    /// Takes the programs off a cgroup. Answers whether they were on it.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn detach_sockets(&mut self, cgroup: u64) -> Result<bool, SocketsError> {
        match &mut self.sockets {
            Ok(sockets) => sockets.detach(cgroup),
            Err(_unable) => Ok(false),
        }
    }
    /// The attached interfaces, those of an earlier process included.
    #[must_use]
    pub fn attached(&self) -> Vec<u32> {
        self.attachments.interfaces()
    }
    /// Descriptors of the tables, by name, for the agent.
    ///
    /// # Errors
    /// When a descriptor cannot be duplicated.
    pub fn descriptors(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        self.tables.iter().map(|(table, fd)| Ok(((*table).to_owned(), fd.try_clone()?))).collect()
    }
    /// Detaches everything and removes every pin: the node is as before.
    ///
    /// # Errors
    /// The first thing that stays behind; the rest is removed.
    pub fn unload(mut self) -> Result<(), AttachError> {
        let mut first = Ok(());
        for ifindex in self.attached() {
            first = first.and(self.detach(ifindex).map(drop));
        }
        if let Ok(sockets) = &mut self.sockets {
            for cgroup in sockets.cgroups() {
                if let Err(error) = sockets.detach(cgroup) {
                    tracing::warn!(%error, "a socket program stays behind");
                }
            }
        }
        for link in self.cgroup_links.drain(..) {
            // The cgroup root cannot go away, so that this cannot fail; the pin goes with the others.
            if let Err(error) = sys::detach_link(link.as_fd()) {
                tracing::warn!(%error, "a cgroup program stays behind");
            }
        }
        if let Some(dir) = self.pin_dir.take() {
            first = first.and(remove_pins(&dir));
        }
        first
    }
}

/// The shape of every table, one a line: name, type, sizes of key and value, rows, flags. Programs that were built
/// with another shape must not share tables with these.
///
/// # Errors
/// [`LoadError::Object`] when the object of this build cannot be read.
pub fn shape() -> Result<String, LoadError> {
    let object = ObjectBuilder::default()
        .open_memory(&OBJECT.0)
        .map_err(|source| LoadError::Object { detail: "it cannot be read".to_owned(), source })?;
    let mut lines: Vec<String> = object
        .maps()
        .filter(|map| !is_internal(map.name()))
        .map(|map| {
            let kind = u32::from(map.map_type());
            let (key, value, rows) = (map.key_size(), map.value_size(), map.max_entries());
            format!("{} {kind} {key} {value} {rows} {}", map.name().to_string_lossy(), map.map_flags())
        })
        .collect();
    lines.sort();
    Ok(lines.join("\n"))
}

/// Section of the constant by which programs ask the kernel's connection tracking.
const TRANSLATIONS: &str = ".rodata.nat";

/// Which programs are loaded.
#[derive(Clone, Copy)]
enum Wanted {
    /// Those of interfaces alone.
    Interfaces,
    /// And those that look at connects.
    Connects,
    /// And those of sockets.
    All,
}

impl Wanted {
    fn has(self, program: &OsStr) -> bool {
        let is = |list: &[(&str, libbpf_sys::bpf_attach_type)]| list.iter().any(|(part, _)| program == *part);
        match self {
            Self::All => true,
            Self::Connects => !is(&sockets::PROGRAMS),
            Self::Interfaces => !is(&sockets::PROGRAMS) && !is(&CGROUP_PROGRAMS),
        }
    }
}

/// The loaded object, and whether the tables of an earlier process were adopted.
fn open_and_load(
    flows: u32,
    tables: Option<&Path>,
    wanted: Wanted,
    translations: bool,
) -> Result<(Object, bool), LoadError> {
    let mut open = ObjectBuilder::default()
        .open_memory(&OBJECT.0)
        .map_err(|source| LoadError::Object { detail: "it cannot be read".to_owned(), source })?;
    for mut map in open.maps_mut() {
        if map.name() == name::FLOWS {
            map.set_max_entries(flows).map_err(|source| LoadError::Object {
                detail: format!("the flow table cannot have {flows} rows"),
                source,
            })?;
        }
    }
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with(TRANSLATIONS)
            && let Some(switch) = map.initial_value_mut().and_then(|value| value.first_mut())
        {
            *switch = u8::from(translations);
        }
    }
    for mut program in open.progs_mut() {
        let has = wanted.has(program.name());
        program.set_autoload(has);
    }
    let adopted = match tables {
        Some(tables) => place_tables(&mut open, tables)?,
        None => false,
    };
    let object = open.load().map_err(|source| LoadError::Object { detail: source.to_string(), source })?;
    Ok((object, adopted))
}

/// Has every table use its pin. Answers whether there were tables of the same shape; those of another are unpinned.
fn place_tables(open: &mut OpenObject, folder: &Path) -> Result<bool, LoadError> {
    let pinned = |source| LoadError::PinDir { path: folder.to_owned(), source };
    let fits = open.maps().filter(|map| !is_internal(map.name())).all(|map| {
        let path = folder.join(map.name());
        sys::open_pinned(&path).and_then(|fd| sys::map_shape(fd.as_fd())).is_ok_and(|shape| {
            (shape.kind, shape.key, shape.value, shape.entries, shape.flags)
                == (
                    map.map_type().into(),
                    map.key_size(),
                    map.value_size(),
                    map.max_entries(),
                    map.map_flags(),
                )
        })
    });
    if !fits {
        for name in bpffs::names(folder).map_err(pinned)? {
            bpffs::remove(&folder.join(name)).map_err(pinned)?;
        }
    }
    for mut map in open.maps_mut() {
        if is_internal(map.name()) {
            continue;
        }
        let path = folder.join(map.name());
        map.set_pin_path(path)
            .map_err(|source| LoadError::Object { detail: "a table cannot be pinned".to_owned(), source })?;
    }
    Ok(fits)
}

/// Tables that the compiler makes of constants (`.rodata`).
fn is_internal(name: &OsStr) -> bool {
    name.to_string_lossy().contains('.')
}

fn program(object: &Object, part: &'static str) -> Result<OwnedFd, LoadError> {
    let program = object.progs().find(|program| program.name() == part).ok_or(LoadError::Part { part })?;
    program.as_fd().try_clone_to_owned().map_err(LoadError::Descriptor)
}

/// Programs that look at connects and sends, and where they go.
const CGROUP_PROGRAMS: [(&str, libbpf_sys::bpf_attach_type); 4] = [
    ("connect_4", libbpf_sys::BPF_CGROUP_INET4_CONNECT),
    ("connect_6", libbpf_sys::BPF_CGROUP_INET6_CONNECT),
    ("sendmsg_4", libbpf_sys::BPF_CGROUP_UDP4_SENDMSG),
    ("sendmsg_6", libbpf_sys::BPF_CGROUP_UDP6_SENDMSG),
];

fn cgroup_root(set: Option<&Path>) -> Result<PathBuf, String> {
    match set {
        Some(root) => Ok(root.to_owned()),
        None => bpffs::cgroup_root()
            .map_err(|error| format!("the mounts cannot be read: {error}"))?
            .ok_or_else(|| "no cgroup v2 hierarchy is mounted".to_owned()),
    }
}

fn attach_cgroup(
    object: &Object,
    root: Option<&Path>,
    links: Option<&Path>,
    held: &mut Vec<OwnedFd>,
) -> Result<(), String> {
    let root = cgroup_root(root)?;
    let cgroup = std::fs::File::open(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    for (part, kind) in CGROUP_PROGRAMS {
        let failed = |error: io::Error| format!("{part} cannot be attached to {}: {error}", root.display());
        let program = program(object, part).map_err(|error| error.to_string())?;
        let pin = links.map(|links| links.join(part));
        if let Some(link) = pin.as_ref().and_then(|pin| sys::open_pinned(pin).ok())
            && sys::update_link(link.as_fd(), program.as_fd()).is_ok()
        {
            held.push(link);
            continue;
        }
        let link = sys::link_cgroup(program.as_fd(), cgroup.as_fd(), kind).map_err(failed)?;
        if let Some(pin) = pin {
            bpffs::remove(&pin).and_then(|()| sys::pin(link.as_fd(), &pin)).map_err(failed)?;
        }
        held.push(link);
    }
    Ok(())
}

fn remove_pins(dir: &Path) -> Result<(), AttachError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AttachError::Pin { ifindex: 0, path, source }
    };
    for folder in ["links", "tables"].map(|folder| dir.join(folder)) {
        for name in bpffs::names(&folder).map_err(failed(&folder))? {
            let path = folder.join(name);
            bpffs::remove(&path).map_err(failed(&path))?;
        }
        bpffs::remove(&folder).map_err(failed(&folder))?;
    }
    bpffs::remove(dir).map_err(failed(dir))
}
