//! Databases: building them of feeds, and looking into them.

use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nv_layer::{Content, Entry, MappedFile, Visit, walk_archive, walk_tree};
use nv_package::Ecosystem;
use nv_package::java::zip;
use nv_package::purl::parse_purl;
use nv_package::{BZIP2, unbzipped, unzipped};
use nv_telemetry::{Clock as _, SystemClock};
use nv_vulnerability::feed::MAX_FEED_FILE;
use nv_vulnerability::{
    ArchiveIndex, Database, Feed, Format, Identity, Import, Signature, SigningKey, VerifyingKey, build,
    is_packed, unpack, verify,
};

use crate::error::ScannerError;
use crate::remark::Remarks;

/// A database: its file is mapped, or its compressed file was unpacked into memory.
pub struct OpenedDatabase {
    bytes: Bytes,
    path: PathBuf,
}

enum Bytes {
    Mapped(MappedFile),
    Unpacked(Vec<u8>),
}

impl OpenedDatabase {
    /// Maps a database's file; one that is compressed is unpacked.
    ///
    /// # Errors
    /// [`ScannerError::Map`], or [`ScannerError::Pack`] when a compressed file is damaged.
    pub fn open(path: &Path) -> Result<Self, ScannerError> {
        let file = MappedFile::open(path).map_err(ScannerError::Map)?;
        let bytes = if is_packed(file.bytes()) {
            let refused = |source| ScannerError::Pack { path: path.to_owned(), source };
            Bytes::Unpacked(unpack(file.bytes()).map_err(refused)?)
        } else {
            Bytes::Mapped(file)
        };
        Ok(Self { bytes, path: path.to_owned() })
    }

    /// Whether it is read in place; a compressed file is not.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.bytes, Bytes::Mapped(_))
    }

    /// The file's bytes, unpacked.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(file) => file.bytes(),
            Bytes::Unpacked(bytes) => bytes,
        }
    }

    /// The database in it.
    ///
    /// # Errors
    /// [`ScannerError::Database`] when it is none, was cut or has another format.
    pub fn database(&self) -> Result<Database<'_>, ScannerError> {
        Database::open(self.bytes())
            .map_err(|source| ScannerError::Database { path: self.path.clone(), source })
    }
}

/// What a database is built of.
#[derive(Debug, Default)]
pub struct BuildOptions {
    /// A folder with one folder a feed, named after it.
    pub feeds: Option<PathBuf>,
    /// Single feeds: format and path.
    pub single: Vec<(Format, PathBuf)>,
    /// The file to write.
    pub out: PathBuf,
    /// The version in thousandths; by default one thousandth for each day from 2014 to the newest date in the feeds.
    pub version: Option<u32>,
    /// Whether a database may replace one that has twice its rows.
    pub allow_shrink: bool,
}

/// Feeds are read by this many threads.
const READERS: usize = 2;
/// 2014-01-01, from where versions count days.
const FIRST_DAY: u32 = 16_071;

/// Builds a database and writes it in place of `out`. The same feeds give the same bytes.
///
/// # Errors
/// [`ScannerError`] when no feed can be read, or the file can not be written.
pub fn build_database(
    options: &BuildOptions,
    key: Option<&SigningKey>,
    out: &mut dyn Write,
    remarks: &mut Remarks<'_>,
) -> Result<(), ScannerError> {
    let mut wanted: Vec<(Format, String, PathBuf)> = Vec::new();
    if let Some(folder) = &options.feeds {
        wanted.extend(feeds_in(folder, remarks)?);
    }
    for (format, path) in &options.single {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        wanted.push((*format, name, path.clone()));
    }
    // Facts of the CVE's own record stand before what others say of it.
    let rank = |format: Format| match format {
        Format::Nvd => 0,
        Format::CveRecord => 1,
        _ => 2,
    };
    wanted.sort_by(|a, b| (rank(a.0), &a.1).cmp(&(rank(b.0), &b.1)));
    // Of an index of archives those are taken that an advisory speaks of: it is read when all advisories are.
    let (indexes, wanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|(format, ..)| *format == Format::JavaIndex);
    let mut feeds = read_feeds(&wanted, &ArchiveIndex::of([]), remarks);
    if !indexes.is_empty() {
        let of = Ecosystem::Maven.purl_type();
        let rows = feeds.iter().flat_map(|feed| &feed.import.affected).filter(|row| &*row.namespace == of);
        let artifacts = ArchiveIndex::of(rows.map(|row| &*row.package));
        feeds.extend(read_feeds(&indexes, &artifacts, remarks));
    }
    for feed in &feeds {
        let import = &feed.import;
        writeln!(
            out,
            "{:<32} {:>7} files {:>8} advisories {:>8} rows {:>6} skipped{}",
            feed.name,
            import.files,
            import.facts.len(),
            import.affected.len(),
            import.skipped,
            shown_archives(import.archives.len() as u64)
        )
        .map_err(ScannerError::Output)?;
    }
    if feeds.iter().any(|feed| feed.import.skipped > 0) {
        writeln!(
            out,
            "skipped: withdrawn, or without a vulnerability, a package or a release that a database could hold; of VEX, statements \
             on images"
        )
        .map_err(ScannerError::Output)?;
    }
    let newest = newest_date(&feeds);
    let version = options.version.unwrap_or((newest / 86_400).saturating_sub(FIRST_DAY).max(1));
    let identity = Identity { version, created: u64::from(newest) };
    let bytes = build(feeds, identity, key).map_err(ScannerError::Build)?;
    let fresh = Database::open(&bytes)
        .map_err(|source| ScannerError::Database { path: options.out.clone(), source })?;
    let [namespaces, packages, rows, facts] = fresh.counts();
    if let Ok(present) = OpenedDatabase::open(&options.out)
        && let Ok(present) = present.database()
        && !options.allow_shrink
    {
        refuse_shrunk(present, fresh)?;
    }
    replace(&options.out, &bytes)?;
    writeln!(
        out,
        "{}: version {}, {rows} rows of {packages} packages in {namespaces} namespaces, {facts} vulnerabilities, {} bytes{}",
        options.out.display(),
        shown_version(version),
        bytes.len(),
        if key.is_some() { ", signed" } else { ", unsigned" }
    )
    .map_err(ScannerError::Output)
}

/// How many Java archives a feed gave; nothing where it is no index of them.
fn shown_archives(count: u64) -> String {
    if count > 0 { format!(" {count:>8} archives") } else { String::new() }
}

/// The date of the feeds: the tenth newest in them, because a slip in one advisory should not date a database into the
/// future.
fn newest_date(feeds: &[Feed]) -> u32 {
    let facts = feeds.iter().flat_map(|feed| &feed.import.facts);
    let mut dates: Vec<u32> = facts.filter_map(|facts| facts.modified.max(facts.published)).collect();
    let place = dates.len().saturating_sub(10);
    if dates.is_empty() { 0 } else { *dates.select_nth_unstable(place).1 }
}

/// Seconds by which a database may be dated after this machine's clock.
const AHEAD: u64 = 86_400;

/// Refuses a database that is dated into the future: its feeds or this machine's clock are wrong.
pub(crate) fn refuse_future(path: &Path, database: Database<'_>) -> Result<(), ScannerError> {
    let now = u64::try_from(SystemClock::new().now().seconds()).unwrap_or(0);
    if database.created() > now.saturating_add(AHEAD) {
        return Err(ScannerError::Future { path: path.to_owned(), created: database.created(), now });
    }
    Ok(())
}

/// Refuses a database with less than half of the rows of the one that it would replace.
pub(crate) fn refuse_shrunk(present: Database<'_>, fresh: Database<'_>) -> Result<(), ScannerError> {
    let ([_, _, before, _], [_, _, rows, _]) = (present.counts(), fresh.counts());
    if rows < before / 2 { Err(ScannerError::Shrunk { rows, before }) } else { Ok(()) }
}

/// `4196` → `4.196`.
pub(crate) fn shown_version(thousandths: u32) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Writes a file beside its place, and puts it there when it is on the disk as a whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ScannerError> {
    let error = |source| ScannerError::Write { path: path.to_owned(), source };
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = File::create(&beside).map_err(error)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What could not be put in its place is of no use; the first fault is what is told.
        let _removed = fs::remove_file(&beside);
    }
    written.map_err(error)
}

/// Feeds in a folder: each of its folders that is named after one.
fn feeds_in(
    folder: &Path,
    remarks: &mut Remarks<'_>,
) -> Result<Vec<(Format, String, PathBuf)>, ScannerError> {
    let error = |source| ScannerError::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        if !entry.file_type().map_err(error)?.is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        match Format::of_folder(&name) {
            Some(format) => found.push((format, name, entry.path())),
            None if name.starts_with(Format::Roave.name()) => remarks.add(&format!(
                "{name} repeats without ids what other feeds say, skipped; --feed roave:{} takes it",
                entry.path().display()
            )),
            None => remarks.add(&format!("{name} is no feed that goes into a database, skipped")),
        }
    }
    Ok(found)
}

/// Reads feeds, several at a time; the result is in the order of `wanted`. `archives` are those to be taken of indexes.
fn read_feeds(
    wanted: &[(Format, String, PathBuf)],
    archives: &ArchiveIndex,
    remarks: &mut Remarks<'_>,
) -> Vec<Feed> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Import, Vec<String>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                while let Some((place, (format, _, path))) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    wanted.get(place).map(|feed| (place, feed))
                } {
                    let mut import = Import { archives: archives.clone(), ..Import::default() };
                    let mut faults = Vec::new();
                    read_feed(*format, path, &mut import, &mut faults);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, import, faults));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(place, ..)| *place);
    done.into_iter()
        .filter_map(|(place, import, faults)| {
            let (_, name, _) = wanted.get(place)?;
            for fault in faults {
                remarks.add(&format!("{name}: {fault}"));
            }
            Some(Feed { name: name.clone(), import })
        })
        .collect()
}

/// Most faults kept of one feed.
const MAX_FAULTS: usize = 50;

fn read_feed(format: Format, path: &Path, import: &mut Import, faults: &mut Vec<String>) {
    let mut faulty = 0_usize;
    let mut fault = |text: String| {
        faulty += 1;
        if faulty <= MAX_FAULTS {
            faults.push(text);
        }
    };
    let mut take = |name: &str, content: Content<'_>, fault: &mut dyn FnMut(String)| match content {
        Ok(bytes) => {
            if let Err(error) = format.import(name, bytes, import) {
                fault(format!("{name}: {error}"));
            }
        }
        Err(size) => fault(format!("{name} has {size} bytes, at most {MAX_FEED_FILE} are read")),
    };
    // An index of archives has some gigabytes, of which most pages are looked at once.
    let mut read = |path: &Path, name: &str, fault: &mut dyn FnMut(String)| {
        if format != Format::JavaIndex {
            return read_file(path, name, &mut take, fault);
        }
        match MappedFile::open(path) {
            Ok(file) => take(name, Ok(file.bytes()), fault),
            Err(error) => fault(nv_telemetry::chain(&error)),
        }
    };
    if path.is_file() && path.extension().is_none_or(|kind| kind != "zst" && kind != "zip") {
        read(path, &path.to_string_lossy(), &mut fault);
        return;
    }
    // Files in the order of their names, so that the same feed gives the same database on any file system.
    let mut files = Vec::new();
    let mut archives = Vec::new();
    if path.is_dir() {
        let mut faulty = Vec::new();
        let mut visit = |entry: &Entry<'_>| {
            let name = entry.path.to_string_lossy().into_owned();
            if entry.is_folder {
                return if name.starts_with('.') { Visit::Skip } else { Visit::On };
            }
            if name.ends_with(".tar.zst") || name.ends_with(".zip") {
                archives.push(path.join(entry.path));
            } else if format.wants(unpacked_name(&name)) {
                files.push(name);
            }
            Visit::On
        };
        let walked = walk_tree(path, &mut visit, &mut |error| faulty.push(nv_telemetry::chain(&error)));
        faulty.extend(walked.err().map(|error| nv_telemetry::chain(&error)));
        faulty.into_iter().for_each(&mut fault);
    } else {
        archives.push(path.to_owned());
    }
    files.sort();
    archives.sort();
    for name in files {
        read(&path.join(&name), &name, &mut fault);
    }
    for archive in archives {
        let mut faulty = Vec::new();
        let mut each = |name: &str, content: Content<'_>| {
            let fault = &mut |text| faulty.push(text);
            match content {
                Ok(bytes) => take_unpacked(name, bytes, &mut take, fault),
                Err(size) => take(name, Err(size), fault),
            }
        };
        let wants = |name: &str| format.wants(unpacked_name(name));
        let walked = if archive.extension().is_some_and(|kind| kind == "zip") {
            walk_zip(&archive, &wants, &mut each).map_err(|error| nv_telemetry::chain(&error))
        } else {
            walk_archive(&archive, MAX_FEED_FILE, &wants, &mut each)
                .map_err(|error| nv_telemetry::chain(&error))
        };
        faulty.extend(walked.err());
        faulty.into_iter().for_each(&mut fault);
    }
    if faulty > MAX_FAULTS {
        faults.push(format!("{} more files could not be read", faulty - MAX_FAULTS));
    }
}

/// What is done with the content of a file, and with what is wrong with it.
type TakeFile<'t> = dyn FnMut(&str, Content<'_>, &mut dyn FnMut(String)) + 't;

/// Hands a file to `take`, unpacked where it is compressed.
fn read_file(path: &Path, name: &str, take: &mut TakeFile<'_>, fault: &mut dyn FnMut(String)) {
    let read = File::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        let mut bytes = Vec::new();
        if size <= MAX_FEED_FILE {
            file.take(MAX_FEED_FILE + 1).read_to_end(&mut bytes)?;
        }
        Ok((size.max(bytes.len() as u64), bytes))
    });
    match read {
        Ok((size, _)) if size > MAX_FEED_FILE => take(name, Err(size), fault),
        Ok((_, bytes)) => take_unpacked(name, &bytes, take, fault),
        Err(error) => fault(format!("{name}: {error}")),
    }
}

/// Hands a file's bytes to `take`, unpacked where they are compressed with gzip or bzip2.
fn take_unpacked(name: &str, bytes: &[u8], take: &mut TakeFile<'_>, fault: &mut dyn FnMut(String)) {
    let (kind, content) = if bytes.starts_with(&GZIP) {
        ("gzip", unzipped(bytes, MAX_FEED_FILE))
    } else if bytes.starts_with(BZIP2) {
        ("bzip2", unbzipped(bytes, MAX_FEED_FILE))
    } else if bytes.starts_with(LFS_POINTER) {
        return fault(format!(
            "{name}: a pointer of Git LFS, not the file itself; fetch that with git lfs pull"
        ));
    } else {
        return take(name, Ok(bytes), fault);
    };
    match content {
        Some(content) => take(name, Ok(&content), fault),
        None => fault(format!(
            "{name}: a damaged or cut {kind} file, or one of more than {MAX_FEED_FILE} bytes unpacked; fetch it again"
        )),
    }
}

/// How a file begins that stands in a repository of Git for a large one.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// A file's name without what says that it is compressed.
fn unpacked_name(name: &str) -> &str {
    name.strip_suffix(".gz").or_else(|| name.strip_suffix(".bz2")).unwrap_or(name)
}

/// The first bytes of a gzip file (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Hands each wanted file of a zip archive to `take`, in the order of their names.
fn walk_zip(
    path: &Path,
    wants: &dyn Fn(&str) -> bool,
    take: &mut dyn FnMut(&str, Content<'_>),
) -> Result<(), ScannerError> {
    let file = MappedFile::open(path).map_err(ScannerError::Map)?;
    let bytes = file.bytes();
    let mut read = |at: u64, length: usize| {
        let at = usize::try_from(at).ok()?;
        Some(bytes.get(at..at.checked_add(length)?)?.to_vec())
    };
    let damaged =
        || ScannerError::Argument(format!("{} is no zip archive, or a damaged one", path.display()));
    let mut entries = zip::entries(bytes.len() as u64, &mut read, wants).ok_or_else(damaged)?;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for entry in &entries {
        match zip::content(&mut read, entry, MAX_FEED_FILE) {
            Some(content) => take(&entry.name, Ok(&content)),
            None => return Err(damaged()),
        }
    }
    Ok(())
}

/// Prints what upstream's scanner prints of `FOLDER/cvedb`: `CVE database version: N.NNN`.
///
/// # Errors
/// [`ScannerError`] when there is no database in the folder.
pub fn print_version(folder: &Path, out: &mut dyn Write) -> Result<(), ScannerError> {
    let opened = OpenedDatabase::open(&folder.join("cvedb"))?;
    let version = opened.database()?.version();
    writeln!(out, "CVE database version: {}", shown_version(version)).map_err(ScannerError::Output)
}

/// Prints a database's version, signer, and counts by feed and namespace.
///
/// # Errors
/// [`ScannerError`] when the file is no database.
pub fn print_status(path: &Path, out: &mut dyn Write) -> Result<(), ScannerError> {
    let opened = OpenedDatabase::open(path)?;
    let database = opened.database()?;
    let [namespaces, packages, rows, facts] = database.counts();
    let size =
        std::fs::metadata(path).map_err(|source| ScannerError::Read { path: path.to_owned(), source })?.len();
    let unpacked = opened.bytes().len();
    let packed = if matches!(opened.bytes, Bytes::Unpacked(_)) {
        format!(", {size} compressed")
    } else {
        String::new()
    };
    let mut lines = vec![
        format!("version          {}", shown_version(database.version())),
        format!("size             {unpacked} bytes{packed}"),
        format!("content          {}", hex(&database.content_hash())),
        format!("made of feeds to {}", crate::output::date_text(database.created())),
        format!("signature        {}", shown_signature(database.signature())),
        format!("vulnerabilities  {facts}"),
        format!("rows             {rows} of {packages} packages in {namespaces} namespaces"),
    ];
    for source in database.sources() {
        lines.push(format!(
            "  feed {:<32} {:>7} files {:>8} advisories {:>8} rows {:>6} skipped{}",
            source.name,
            source.files,
            source.advisories,
            source.rows,
            source.skipped,
            shown_archives(source.archives)
        ));
    }
    lines.extend(
        database
            .namespaces()
            .map(|(name, packages)| format!("  namespace {name:<24} {packages:>6} packages")),
    );
    writeln!(out, "{}", lines.join("\n")).map_err(ScannerError::Output)
}

pub(crate) fn shown_signature(signature: Signature) -> String {
    match signature {
        Signature::Unsigned => "none".to_owned(),
        Signature::Signed(key) => format!("by {}", hex(&key)),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes a whole database and checks its signature.
///
/// # Errors
/// [`ScannerError::Database`] says what was changed; with a trusted key, also that another signed it.
pub fn verify_database(
    path: &Path,
    trusted: Option<&[u8; 32]>,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let opened = OpenedDatabase::open(path)?;
    let refused = |source| ScannerError::Database { path: path.to_owned(), source };
    let trusted = trusted
        .map(VerifyingKey::from_bytes)
        .transpose()
        .map_err(|_no_key| ScannerError::Argument("the trusted key is no Ed25519 public key".to_owned()))?;
    let signature = verify(opened.bytes(), trusted.as_ref()).map_err(refused)?;
    let version = opened.database()?.version();
    refuse_future(path, opened.database()?)?;
    writeln!(
        out,
        "{}: version {} is whole; signature: {}",
        path.display(),
        shown_version(version),
        shown_signature(signature)
    )
    .map_err(ScannerError::Output)
}

/// Prints what the database knows of a CVE, of another id, or of a package URL.
///
/// # Errors
/// [`ScannerError`] when the database can not be opened, or knows nothing of it.
pub fn lookup(path: &Path, wanted: &str, out: &mut dyn Write) -> Result<(), ScannerError> {
    let opened = OpenedDatabase::open(path)?;
    let database = opened.database()?;
    if wanted.starts_with("pkg:") {
        let purl = parse_purl(wanted).map_err(|error| ScannerError::Argument(error.to_string()))?;
        return crate::list::match_purl(database, &purl, out);
    }
    let places = database.find(wanted);
    if places.is_empty() {
        return Err(ScannerError::Argument(format!("the database knows nothing of {wanted}")));
    }
    for place in places {
        let facts = database.facts(place);
        let rows: Vec<serde_json::Value> = database
            .rows_with(place)
            .into_iter()
            .map(|(namespace, package, row)| {
                serde_json::json!({
                    "namespace": namespace,
                    "package": package,
                    "from": row.lower.map(|(version, _)| version.text),
                    "to": row.upper.map(|(version, _)| version.text),
                    "to_inclusive": row.upper.is_some_and(|(_, inclusive)| inclusive),
                    "fixed_version": row.fixed,
                    "status": row.status.name(),
                    "severity": row.severity.name(),
                    "module": row.module,
                })
            })
            .collect();
        let known = serde_json::json!({
            "id": facts.id(),
            "aliases": facts.aliases().collect::<Vec<_>>(),
            "related": facts.related().collect::<Vec<_>>(),
            "severity": facts.severity().name(),
            "score_v2": facts.score(2).map(tenths),
            "score_v3": facts.score(3).map(tenths),
            "score_v4": facts.score(4).map(tenths),
            "vectors": [facts.vector(2), facts.vector(3), facts.vector(4)],
            "cwes": facts.cwes().collect::<Vec<_>>(),
            "exploited": facts.exploited(),
            "epss": facts.epss().map(|epss| f64::from(epss) / 10_000.0),
            "published": facts.published(),
            "modified": facts.modified(),
            "link": facts.link(),
            "description": facts.description(),
            "affected": rows,
        });
        let text = serde_json::to_string_pretty(&known).map_err(ScannerError::Json)?;
        writeln!(out, "{text}").map_err(ScannerError::Output)?;
    }
    Ok(())
}

/// A score in tenths as a number.
pub(crate) fn tenths(score: u8) -> f64 {
    f64::from(score) / 10.0
}
