//! What a parser answers.

use serde::{Deserialize, Serialize};

use crate::ecosystem::Ecosystem;
use crate::sha1::Sha1;

/// Most packages that are read from one file; what is beyond is a fault.
pub const MAX_PACKAGES: usize = 200_000;

/// Most faults that are told of one file.
const MAX_FAULTS: usize = 100;

/// Longest name and longest version, in bytes.
const MAX_TEXT: usize = 1024;

/// The package that a binary package was built from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: Box<str>,
    /// Its version, where it is known to differ in form from the binary package's.
    pub version: Option<Box<str>>,
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Where it comes from.
    pub ecosystem: Ecosystem,
    /// Its name, as the ecosystem writes it.
    pub name: Box<str>,
    /// Its whole version, with epoch and release.
    pub version: Box<str>,
    /// What it was built from; none where that has the same name and version.
    pub source: Option<Source>,
    /// The architecture that it was built for.
    pub arch: Option<Box<str>>,
    /// The module of Red Hat's module system that it belongs to, as `name:stream`.
    pub module: Option<Box<str>>,
    /// Its licence, as its maker writes it.
    #[serde(default)]
    pub licence: Option<Box<str>>,
    /// The SHA-1 of the archive that it is, where nothing inside tells what it is: name and version are then those of its
    /// manifest and file, and the version may be empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha1: Option<Sha1>,
}

impl Package {
    /// A package of which only name and version are known.
    pub fn new(ecosystem: Ecosystem, name: impl Into<Box<str>>, version: impl Into<Box<str>>) -> Self {
        let (name, version) = (name.into(), version.into());
        Self { ecosystem, name, version, source: None, arch: None, module: None, licence: None, sha1: None }
    }
}

/// One item that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{format}, {place}: {why}")]
pub struct Fault {
    /// The format that was expected.
    pub format: &'static str,
    /// Where in the file: a line, an offset, a page, a record.
    pub place: String,
    /// What was wrong.
    pub why: String,
}

/// What was found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Packages in the order of the file.
    pub packages: Vec<Package>,
    /// Items that could not be read, at most the first hundred.
    pub faults: Vec<Fault>,
    /// How many faults there were.
    pub fault_count: usize,
}

/// Longest licence, in bytes.
pub(crate) const MAX_LICENCE: usize = 256;

/// A licence as a package says it: none where it is empty, unknown, or as long as a licence's own text.
pub(crate) fn licence(text: &str) -> Option<Box<str>> {
    let text = text.trim();
    let said = !text.is_empty() && text.len() <= MAX_LICENCE && !text.eq_ignore_ascii_case("unknown");
    said.then(|| text.into())
}

impl Inventory {
    /// Takes a package, unless there are too many or its name or version is empty or too long. The version may be empty
    /// where a hash tells what the package is.
    pub(crate) fn add(&mut self, format: &'static str, place: impl FnOnce() -> String, package: Package) {
        let fits = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT;
        let unknown = package.version.is_empty() && package.sha1.is_some();
        if !fits(&package.name) || (!fits(&package.version) && !unknown) {
            self.fault(
                format,
                place(),
                format!("a package needs a name and a version of 1 to {MAX_TEXT} bytes"),
            );
        } else if self.packages.len() >= MAX_PACKAGES {
            self.fault(format, place(), format!("more than {MAX_PACKAGES} packages"));
        } else {
            self.packages.push(package);
        }
    }

    pub(crate) fn fault(&mut self, format: &'static str, place: impl Into<String>, why: impl Into<String>) {
        self.fault_count += 1;
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault { format, place: place.into(), why: why.into() });
        }
    }
}
