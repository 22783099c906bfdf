//! Rows of file rules, for kernels on which BPF refuses: files, folders and executables by what the kernel knows them as.
//!
//! The keeper writes them, as it alone looks into containers' root file systems.

mod filter;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use zerocopy::{FromBytes as _, IntoBytes as _};

use self::filter::Filter;
use crate::layout::{self, files_flag};
use crate::map::RawMap;
use crate::tables::{Replaced, Table, TableError};

pub use crate::layout::scope;

/// A file as its super block and inode are numbered in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelInode {
    /// Device of the super block.
    pub device: u32,
    /// Inode number.
    pub number: u64,
}

/// Devices of mounts by the number of the mount, of the mount namespace of one process. An overlay shows other devices
/// for its files than the kernel has for it, so that `stat` is no help.
#[derive(Clone, Debug, Default)]
pub struct Mounts(HashMap<u64, u32>);

impl Mounts {
    /// Of a process's mount namespace.
    ///
    /// # Errors
    /// Its `mountinfo` cannot be read.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))?))
    }

    /// `36 35 98:0 / /mnt …`: number, parent, major:minor.
    fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let number = words.next()?.parse().ok()?;
            let (major, minor) = words.nth(1)?.split_once(':')?;
            let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
            Some((number, major << 20 | minor & 0xF_FFFF))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// What the kernel knows an open file as; a descriptor of `O_PATH` is enough.
    ///
    /// # Errors
    /// Its `fdinfo` cannot be read, or it lies on a mount of another namespace.
    pub fn inode(&self, file: BorrowedFd<'_>) -> io::Result<KernelInode> {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        let mount = field("mnt_id:").ok_or(io::ErrorKind::InvalidData)?;
        let device = self.0.get(&mount).copied().ok_or(io::ErrorKind::NotFound)?;
        let number = match field("ino:") {
            Some(number) => number,
            // Before Linux 5.14.
            None => rustix::fs::fstat(file)?.st_ino,
        };
        Ok(KernelInode { device, number })
    }
}

/// What the kernel knows the executable of a process as.
///
/// # Errors
/// The process is gone, or may not be looked at.
pub fn program_of(pid: u32) -> io::Result<KernelInode> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let program = rustix::fs::open(format!("/proc/{pid}/exe"), flags, Mode::empty())?;
    Mounts::of(pid)?.inode(program.as_fd())
}

/// What a file, or a folder, is to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileRow {
    /// Index of the rule in the profile.
    pub rule: u32,
    /// Only its applications may; else changes are reported.
    pub blocks: bool,
    /// [`scope`].
    pub scope: u8,
}

/// Every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// By number of the profile and file.
    pub files: BTreeMap<(u32, KernelInode), FileRow>,
    /// Number of the profile, index of the rule, executable.
    pub applications: BTreeSet<(u32, u32, KernelInode)>,
}

impl Rows {
    /// Adds what a file is to a rule. The first rule keeps it; what later ones say of a folder is added to its scope.
    pub fn add(&mut self, profile: u32, inode: KernelInode, row: FileRow) {
        self.files.entry((profile, inode)).and_modify(|held| held.scope |= row.scope).or_insert(row);
    }
}

/// The tables. Writing needs no capability, only their descriptors.
#[derive(Debug)]
pub struct Tables {
    profiles: Table,
    files: Table,
    applications: Table,
    filter: Filter,
    /// What the array of profiles says: it has every number, so that it is not listed but remembered.
    flags: BTreeMap<u32, u32>,
}

impl Tables {
    /// Takes the tables of files among those that [`crate::Loaded::descriptors`] gave.
    ///
    /// # Errors
    /// One is missing or of another shape.
    pub fn from_descriptors(descriptors: Vec<(String, OwnedFd)>) -> Result<Self, TableError> {
        let mut held: BTreeMap<String, OwnedFd> = descriptors.into_iter().collect();
        let mut take = |table: &'static str, key: usize, value: usize| {
            let fd = held.remove(table).ok_or(TableError::Missing { table })?;
            let map = RawMap::new(fd, key, value).map_err(|source| TableError::Kernel { table, source })?;
            Ok(Table { name: table, map })
        };
        let profiles = take("file_profiles", 4, size_of::<layout::FileProfileRow>())?;
        let mut flags = BTreeMap::new();
        for number in 0..profiles.map.capacity() {
            let held = profiles.map.read(number.as_bytes(), 1).map_err(|source| profiles.error(source))?;
            match held.and_then(|bytes| u32::read_from_bytes(&bytes).ok()) {
                Some(0) | None => {}
                Some(held) => drop(flags.insert(number, held)),
            }
        }
        Ok(Self {
            flags,
            profiles,
            files: take("files", size_of::<layout::FileKey>(), size_of::<layout::FileRow>())?,
            applications: take("applications", size_of::<layout::ApplicationKey>(), 4)?,
            filter: Filter::new(take("file_filter", 4, 8)?)?,
        })
    }

    /// Makes the tables be just `wanted`, writing only what differs: who may before what is blocked, what is blocked
    /// before the profile that says so, and what is gone last.
    ///
    /// # Errors
    /// The kernel refused. A full table is no error: see [`Replaced::refused`].
    pub fn replace(&mut self, wanted: &Rows) -> Result<Replaced, TableError> {
        let applications = wanted.applications.iter().map(|(profile, rule, inode)| {
            let key = layout::ApplicationKey {
                profile: *profile,
                rule: *rule,
                device: inode.device,
                reserved: 0,
                inode: inode.number,
            };
            (key.as_bytes().to_vec(), 1_u32.as_bytes().to_vec())
        });
        let mut flags: BTreeMap<u32, u32> = BTreeMap::new();
        let mut files = BTreeMap::new();
        for ((profile, inode), row) in &wanted.files {
            let flag = flags.entry(*profile).or_default();
            *flag |= if row.blocks { files_flag::BLOCK } else { 0 };
            *flag |= if row.scope & !scope::ITSELF == 0 { 0 } else { files_flag::FOLDERS };
            let key = layout::FileKey { profile: *profile, device: inode.device, inode: inode.number };
            let behavior = if row.blocks { 2 } else { 1 };
            let row = layout::FileRow { rule: row.rule, behavior, scope: row.scope, reserved: 0 };
            files.insert(key.as_bytes().to_vec(), row.as_bytes().to_vec());
        }
        let mut done = Replaced::default();
        let mut gone = Vec::new();
        let inodes = || wanted.files.keys().map(|(_, inode)| *inode);
        self.filter.add(inodes())?;
        for (table, wanted) in
            [(&self.applications, applications.collect::<BTreeMap<_, _>>()), (&self.files, files)]
        {
            gone.extend(table.write_differing(&wanted, &mut done)?.into_iter().map(|key| (table, key)));
        }
        let before = std::mem::replace(&mut self.flags, flags);
        let without =
            before.keys().filter(|number| !self.flags.contains_key(*number)).map(|number| (*number, 0));
        for (number, flags) in self.flags.iter().map(|(number, flags)| (*number, *flags)).chain(without) {
            if before.get(&number) != Some(&flags) {
                self.profiles.write(number.as_bytes(), layout::FileProfileRow { flags }.as_bytes())?;
                done.written += 1;
            }
        }
        for (table, key) in gone.into_iter().rev() {
            done.removed += usize::from(table.remove(&key)?);
        }
        self.filter.keep(inodes())?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_mounts_device_is_read_as_the_kernel_numbers_it() {
        let mounts = Mounts::parse(
            "36 35 98:3 / /mnt rw - ext4 /dev/x rw\nnot a line\n37 35 0:52 / / rw - overlay o rw\n",
        );
        assert_eq!(mounts.0.get(&36), Some(&(98 << 20 | 3)));
        assert_eq!((mounts.0.get(&37), mounts.0.len()), (Some(&52), 2));
    }

    #[test]
    fn an_open_file_is_known_by_its_inode() {
        let file = tempfile::tempfile().unwrap();
        let inode = Mounts::of(std::process::id()).unwrap().inode(file.as_fd()).unwrap();
        assert_eq!(inode.number, rustix::fs::fstat(&file).unwrap().st_ino);
    }

    #[test]
    fn the_first_rule_keeps_a_file_and_a_folder_has_the_scopes_of_all() {
        let (mut rows, inode) = (Rows::default(), KernelInode { device: 1, number: 2 });
        rows.add(1, inode, FileRow { rule: 0, blocks: true, scope: scope::IN });
        rows.add(1, inode, FileRow { rule: 1, blocks: false, scope: scope::ABOVE });
        let want = FileRow { rule: 0, blocks: true, scope: scope::IN | scope::ABOVE };
        assert_eq!(rows.files[&(1, inode)], want);
    }
}
