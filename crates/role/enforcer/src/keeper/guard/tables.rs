//! What the serving threads look up: immutable, replaced whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nv_model::file::{FileBehavior, FileRule};
use nv_model::name::GroupName;
use nv_probe::fanotify::{Handle, Inode};

use super::{Place, Rules};

/// A container, or the host, with its rules as files of this machine.
#[derive(Debug)]
pub(super) struct Ward {
    pub(super) place: Place,
    pub(super) rules: Arc<Rules>,
    /// Rule by file, for rules that block.
    pub(super) files: HashMap<Inode, usize>,
    /// Executables that a rule lets in, by rule.
    pub(super) applications: HashMap<usize, HashSet<Inode>>,
    /// Folders that are heard of: each with its path in the container.
    pub(super) folders: HashMap<Handle, Vec<Folder>>,
}

/// A folder under a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// As the container sees it; `/` for its root.
    pub(super) path: String,
    /// Index of the rule.
    pub(super) rule: usize,
    /// It lies below a folder that matches, so that everything in it is meant; else names have to match.
    pub(super) inside: bool,
}

impl Ward {
    pub(super) fn rule(&self, index: usize) -> Option<&(GroupName, FileRule)> {
        self.rules.rules.get(index)
    }

    /// Whether a rule is for this executable: by what it is, as a file of its name may be another one.
    pub(super) fn lets_in(&self, rule: usize, executable: Option<Inode>) -> bool {
        let list = self.applications.get(&rule);
        executable.is_some_and(|executable| list.is_some_and(|list| list.contains(&executable)))
    }

    /// The rule that blocks the file: by what it is, else by the path that it was opened by.
    pub(super) fn blocking(&self, file: Inode, path: &str) -> Option<usize> {
        if let Some(rule) = self.files.get(&file) {
            return Some(*rule);
        }
        let covering =
            self.rules.rules.iter().position(|(_, rule)| rule.filter.covers(path, rule.recursive))?;
        let blocks = self.rule(covering).is_some_and(|(_, rule)| rule.behavior == FileBehavior::BlockAccess);
        blocks.then_some(covering)
    }
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) wards: Vec<Arc<Ward>>,
    by_cgroup: HashMap<String, usize>,
    by_folder: HashMap<Handle, Vec<usize>>,
}

impl Tables {
    pub(super) fn new(wards: Vec<Arc<Ward>>) -> Self {
        let mut tables = Self::default();
        for (at, ward) in wards.iter().enumerate() {
            if ward.place.workload.is_some() {
                tables.by_cgroup.insert(ward.place.cgroup.clone(), at);
            }
            for folder in ward.folders.keys() {
                tables.by_folder.entry(folder.clone()).or_default().push(at);
            }
        }
        tables.wards = wards;
        tables
    }

    /// The container that a cgroup is, or lies in.
    pub(super) fn by_cgroup(&self, mut cgroup: &str) -> Option<&Arc<Ward>> {
        loop {
            if let Some(at) = self.by_cgroup.get(cgroup) {
                return self.wards.get(*at);
            }
            cgroup = cgroup.rsplit_once('/')?.0;
        }
    }

    /// Where a folder lies; in several containers when they share it.
    pub(super) fn by_folder(&self, folder: &Handle) -> impl Iterator<Item = (&Arc<Ward>, &[Folder])> {
        let wards = self.by_folder.get(folder).map(Vec::as_slice).unwrap_or_default();
        wards.iter().filter_map(|at| {
            let ward = self.wards.get(*at)?;
            Some((ward, ward.folders.get(folder)?.as_slice()))
        })
    }
}
