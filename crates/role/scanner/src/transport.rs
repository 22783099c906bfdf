//! Databases on their way: from elsewhere into place, from here to elsewhere, and what two differ in.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use nv_layer::MappedFile;
use nv_vulnerability::{
    Change, Database, VerifyingKey, apply_delta, archive_changes, changes, is_delta, is_packed, make_delta,
    pack, unpack, verify,
};

use crate::database::{
    OpenedDatabase, refuse_future, refuse_shrunk, replace, shown_signature, shown_version,
};
use crate::error::ScannerError;

/// How a database is put in place.
#[derive(Debug, Default)]
pub struct ImportOptions {
    /// The key by which it must be signed; none takes any database that is whole.
    pub trusted: Option<[u8; 32]>,
    /// Whether it may be older than the one that it replaces.
    pub allow_downgrade: bool,
    /// Whether it may have less than half of the rows of the one that it replaces.
    pub allow_shrink: bool,
}

/// Puts a database in place of another: a whole one, a compressed one, or the delta from the one that is there. It is
/// verified first, and the file is replaced at once: who has the old one open keeps it.
///
/// # Errors
/// [`ScannerError`] says why it is refused: changed, of another signer, older, from the future, far smaller.
pub fn import_database(
    from: &Path,
    into: &Path,
    options: &ImportOptions,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let file = MappedFile::open(from).map_err(ScannerError::Map)?;
    let present = OpenedDatabase::open(into).ok();
    let present = present.as_ref().and_then(|opened| opened.database().ok());
    let made: Vec<u8>;
    let bytes = if is_delta(file.bytes()) {
        let base =
            present.ok_or_else(|| ScannerError::NoBase { path: from.to_owned(), base: into.to_owned() })?;
        made = apply_delta(base, file.bytes())
            .map_err(|source| ScannerError::Delta { path: from.to_owned(), source })?;
        made.as_slice()
    } else if is_packed(file.bytes()) {
        made = unpack(file.bytes()).map_err(|source| ScannerError::Pack { path: from.to_owned(), source })?;
        made.as_slice()
    } else {
        file.bytes()
    };
    let refused = |source| ScannerError::Database { path: from.to_owned(), source };
    let trusted =
        options.trusted.map(|key| VerifyingKey::from_bytes(&key)).transpose().map_err(|_no_key| {
            ScannerError::Argument("the trusted key is no Ed25519 public key".to_owned())
        })?;
    let signature = verify(bytes, trusted.as_ref()).map_err(refused)?;
    let fresh = Database::open(bytes).map_err(refused)?;
    refuse_future(from, fresh)?;
    if let Some(present) = present {
        if fresh.version() < present.version() && !options.allow_downgrade {
            return Err(ScannerError::Downgrade {
                fresh: shown_version(fresh.version()),
                present: shown_version(present.version()),
            });
        }
        if !options.allow_shrink {
            refuse_shrunk(present, fresh)?;
        }
        if fresh.content_hash() == present.content_hash() && fresh.signature() == present.signature() {
            let version = shown_version(fresh.version());
            return writeln!(out, "{}: has version {version} already", into.display())
                .map_err(ScannerError::Output);
        }
    }
    replace(into, bytes)?;
    writeln!(
        out,
        "{}: version {}, {} bytes; signature: {}",
        into.display(),
        shown_version(fresh.version()),
        bytes.len(),
        shown_signature(signature)
    )
    .map_err(ScannerError::Output)
}

/// Writes a database to be sent: compressed, or what changes `base` into it where one is given.
///
/// # Errors
/// [`ScannerError`] when a database can not be opened, or the file can not be written.
pub fn export_database(
    database: &Path,
    to: &Path,
    base: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let opened = OpenedDatabase::open(database)?;
    let bytes = match base {
        Some(base) => {
            let old = OpenedDatabase::open(base)?;
            make_delta(old.database()?, opened.database()?)
                .map_err(|source| ScannerError::Delta { path: to.to_owned(), source })?
        }
        None => {
            opened.database()?;
            pack(opened.bytes()).map_err(|source| ScannerError::Pack { path: to.to_owned(), source })?
        }
    };
    replace(to, &bytes)?;
    writeln!(
        out,
        "{}: version {}, {} bytes of {}",
        to.display(),
        shown_version(opened.database()?.version()),
        bytes.len(),
        opened.bytes().len()
    )
    .map_err(ScannerError::Output)
}

/// Under what archives that are known by their hashes are told among namespaces.
const ARCHIVES: &str = "java-archive";

/// Prints what a newer database says that an older does not, and the other way round: a line a change, then counts.
///
/// # Errors
/// [`ScannerError`] when a database can not be opened, or the result not written.
pub fn diff_databases(old: &Path, new: &Path, out: &mut dyn Write) -> Result<(), ScannerError> {
    let (old, new) = (OpenedDatabase::open(old)?, OpenedDatabase::open(new)?);
    let (old, new) = (old.database()?, new.database()?);
    let mut counts: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    let mut fault = None;
    changes(old, new, &mut |change| {
        let (mark, place, (namespace, package, id)) = match change {
            Change::Added(namespace, package, id) => ('+', 0, (namespace, package, id)),
            Change::Removed(namespace, package, id) => ('-', 1, (namespace, package, id)),
            Change::Changed(namespace, package, id) => ('~', 2, (namespace, package, id)),
        };
        if let Some(count) = counts.entry(namespace.to_owned()).or_default().get_mut(place) {
            *count += 1;
        }
        if fault.is_none() {
            fault = writeln!(out, "{mark} {namespace} {package} {id}").err();
        }
    });
    archive_changes(old, new, &mut |before, after| {
        let (mark, place) = match (before, after) {
            (None, _) => ('+', 0),
            (_, None) => ('-', 1),
            _ => ('~', 2),
        };
        let Some(archive) = after.or(before) else { return };
        if let Some(count) = counts.entry(ARCHIVES.to_owned()).or_default().get_mut(place) {
            *count += 1;
        }
        if fault.is_none() {
            let (name, version) = (&archive.name, &archive.version);
            fault = writeln!(out, "{mark} {ARCHIVES} {} {name}:{version}", archive.sha1).err();
        }
    });
    if let Some(fault) = fault {
        return Err(ScannerError::Output(fault));
    }
    let mut lines = vec![format!(
        "version {} of {} rows, version {} of {} rows",
        shown_version(old.version()),
        old.counts()[2],
        shown_version(new.version()),
        new.counts()[2]
    )];
    lines.extend(counts.iter().map(|(namespace, [added, removed, changed])| {
        format!("  {namespace:<24} {added:>8} added {removed:>8} removed {changed:>8} changed")
    }));
    writeln!(out, "{}", lines.join("\n")).map_err(ScannerError::Output)
}

/// Where a database is by a folder's name: the file `cvedb` in it.
pub fn database_in(place: &Path) -> PathBuf {
    if place.is_dir() { place.join("cvedb") } else { place.to_owned() }
}
