//! Which report there is of what: a list in memory, and a file of lines that it is read from at the start.
//!
//! A line says that a subject has a report now, or none any more; the last line of a subject counts. The start writes the
//! file anew, so that it does not grow beyond what is kept and what came since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use nv_model::scan::{BlobId, ScanSubject};
use nv_model::scan_report::{ScanReport, ScannedImage, Vulnerability};
use nv_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::blobs::BlobError;

/// Most reports.
const MAX_REPORTS: usize = 10_000;
/// Most bytes of reports and inventories.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// How long a report is kept that no scan renews.
const MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Longest line that is read.
const MAX_LINE: u64 = 8 * 1024 * 1024;

/// A report that is kept, without its lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptReport {
    /// What it is about.
    pub subject: ScanSubject,
    /// The report.
    pub report: BlobId,
    /// What it was made of; matched again when there is a newer database.
    pub inventory: Option<BlobId>,
    /// Bytes of both.
    pub bytes: u64,
    /// When it was made.
    pub at: Timestamp,
    /// `debian:12`.
    pub base_os: String,
    /// Version of the database, `4.196`.
    pub database_version: String,
    /// When that was built, RFC 3339.
    pub database_created: String,
    /// Hash of its content.
    pub database_content: String,
    /// Why packages of the distribution were not judged; empty where they were.
    pub os_scan_status: String,
    /// Critical findings.
    pub critical: u32,
    /// High findings.
    pub high: u32,
    /// Medium findings.
    pub medium: u32,
    /// Low findings.
    pub low: u32,
    /// Facts of an image; none for a container or a node, and of reports that an older program wrote.
    #[serde(default)]
    pub image: Option<ScannedImage>,
    /// Mark of what was found in what: two reports with the same one say the same.
    #[serde(default)]
    pub findings: u64,
    /// What a vulnerability profile is asked of.
    #[serde(default)]
    pub(crate) kinds: Vec<super::tally::Kind>,
    /// Hashes of the names under which advisories may speak of what is installed: 8 bytes a name, base64.
    names: String,
}

/// The beginning of a name's SHA-256. Two names with the same one cost a scan that finds nothing new.
fn hash(name: &str) -> u64 {
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(name.as_bytes());
    sum.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// Mark of what was found in what, whatever the order.
fn mark(found: &[Vulnerability]) -> u64 {
    let one = |found: &Vulnerability| {
        let parts =
            [&found.name, &found.severity, &found.package_name, &found.package_version, &found.file_name];
        hash(&parts.map(String::as_str).join("\n"))
    };
    found.iter().map(one).fold(0, u64::wrapping_add)
}

impl KeptReport {
    /// Of a report.
    pub(crate) fn new(
        subject: ScanSubject,
        report: BlobId,
        inventory: Option<BlobId>,
        bytes: u64,
        at: Timestamp,
        from: &ScanReport,
    ) -> Self {
        let count = |severity: &str| {
            let of = from.vulnerabilities.iter().filter(|found| found.severity == severity).count();
            u32::try_from(of).unwrap_or(u32::MAX)
        };
        let mut hashes: Vec<u64> = from.package_names.iter().map(|name| hash(name)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let bytes_of_names: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        Self {
            subject,
            report,
            inventory,
            bytes,
            at,
            base_os: from.base_os.clone(),
            database_version: from.database_version.clone(),
            database_created: from.database_created.clone(),
            database_content: from.database_content.clone(),
            os_scan_status: from.os_scan_status.clone(),
            critical: count("Critical"),
            high: count("High"),
            medium: count("Medium"),
            low: count("Low"),
            image: from.image.clone(),
            findings: mark(&from.vulnerabilities),
            kinds: super::tally::kinds(&from.vulnerabilities),
            names: STANDARD_NO_PAD.encode(bytes_of_names),
        }
    }

    fn hashes(&self) -> Vec<u64> {
        let bytes = STANDARD_NO_PAD.decode(&self.names).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Kept(Box<KeptReport>),
    Gone(ScanSubject),
}

/// All reports, and which of them a package's name leads to.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    file: fs::File,
    reports: BTreeMap<ScanSubject, Arc<KeptReport>>,
    /// The inverted index: name's hash → subjects.
    by_name: HashMap<u64, Vec<Arc<KeptReport>>>,
    bytes: u64,
    /// Reports that made room for others.
    pub(crate) dropped: u64,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BlobError + '_ {
    |source| BlobError::Io { path: path.to_owned(), source }
}

impl Kept {
    /// Reads the list. Lines that cannot be read, for instance the last one of a crash, count as not there.
    pub(crate) fn open(path: PathBuf) -> Result<Self, BlobError> {
        let mut reports = BTreeMap::new();
        match fs::File::open(&path) {
            Ok(file) => {
                let mut reader = io::BufReader::new(file);
                let mut line = Vec::new();
                loop {
                    line.clear();
                    let read = io::Read::take(&mut reader, MAX_LINE)
                        .read_until(b'\n', &mut line)
                        .map_err(at(&path))?;
                    if read == 0 {
                        break;
                    }
                    match serde_json::from_slice(&line) {
                        Ok(Line::Kept(kept)) => drop(reports.insert(kept.subject.clone(), Arc::from(kept))),
                        Ok(Line::Gone(subject)) => drop(reports.remove(&subject)),
                        Err(error) => tracing::warn!(%error, "a line of the list of reports cannot be read"),
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path)(error)),
        }
        let beside = path.with_extension("new");
        let mut file = fs::File::create(&beside).map_err(at(&beside))?;
        for kept in reports.values() {
            write(&mut file, &Line::Kept(Box::new(KeptReport::clone(kept)))).map_err(at(&beside))?;
        }
        file.sync_all().map_err(at(&beside))?;
        fs::rename(&beside, &path).map_err(at(&path))?;
        let file = fs::OpenOptions::new().append(true).open(&path).map_err(at(&path))?;
        let mut kept =
            Self { path, file, reports: BTreeMap::new(), by_name: HashMap::new(), bytes: 0, dropped: 0 };
        for report in reports.into_values() {
            kept.add(report);
        }
        Ok(kept)
    }

    fn add(&mut self, report: Arc<KeptReport>) {
        self.bytes = self.bytes.saturating_add(report.bytes);
        for hash in report.hashes() {
            self.by_name.entry(hash).or_default().push(Arc::clone(&report));
        }
        self.reports.insert(report.subject.clone(), report);
    }

    fn take_away(&mut self, subject: &ScanSubject) -> Option<Arc<KeptReport>> {
        let report = self.reports.remove(subject)?;
        self.bytes = self.bytes.saturating_sub(report.bytes);
        for hash in report.hashes() {
            if let Some(of_name) = self.by_name.get_mut(&hash) {
                of_name.retain(|other| other.subject != *subject);
                if of_name.is_empty() {
                    self.by_name.remove(&hash);
                }
            }
        }
        Some(report)
    }

    /// Keeps a report in the place of an older one. Gives the blobs that nothing refers to any more.
    pub(crate) fn put(&mut self, report: KeptReport) -> Result<Vec<BlobId>, BlobError> {
        write(&mut self.file, &Line::Kept(Box::new(report.clone()))).map_err(at(&self.path))?;
        let mut gone: Vec<Arc<KeptReport>> = self.take_away(&report.subject).into_iter().collect();
        let now = report.at;
        self.add(Arc::new(report));
        gone.extend(self.make_room(now)?);
        Ok(self.orphans(&gone))
    }

    /// Forgets the report of a subject. Gives the blobs that nothing refers to any more.
    pub(crate) fn remove(&mut self, subject: &ScanSubject) -> Result<Vec<BlobId>, BlobError> {
        let Some(gone) = self.take_away(subject) else { return Ok(Vec::new()) };
        write(&mut self.file, &Line::Gone(subject.clone())).map_err(at(&self.path))?;
        Ok(self.orphans(&[gone]))
    }

    /// Forgets what is too old, and then the oldest while there is too much.
    fn make_room(&mut self, now: Timestamp) -> Result<Vec<Arc<KeptReport>>, BlobError> {
        let mut gone = Vec::new();
        let crowded = |kept: &Self| kept.reports.len() > MAX_REPORTS || kept.bytes > MAX_BYTES;
        let oldest = |kept: &Self| kept.reports.values().min_by_key(|report| report.at).cloned();
        while let Some(report) = oldest(self) {
            // What was just put is the newest, and stays.
            let expired = now.since(report.at) > MAX_AGE;
            if self.reports.len() == 1 || !(expired || crowded(self)) {
                break;
            }
            self.dropped = self.dropped.saturating_add(1);
            write(&mut self.file, &Line::Gone(report.subject.clone())).map_err(at(&self.path))?;
            gone.extend(self.take_away(&report.subject));
        }
        Ok(gone)
    }

    fn orphans(&self, gone: &[Arc<KeptReport>]) -> Vec<BlobId> {
        let mut blobs: HashSet<BlobId> = gone.iter().flat_map(|report| blobs_of(report)).collect();
        if !blobs.is_empty() {
            for kept in self.reports.values().flat_map(|report| blobs_of(report)) {
                blobs.remove(&kept);
            }
        }
        blobs.into_iter().collect()
    }

    /// The newest report of a subject.
    pub(crate) fn get(&self, subject: &ScanSubject) -> Option<&Arc<KeptReport>> {
        self.reports.get(subject)
    }

    /// All of them, by subject.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<KeptReport>> {
        self.reports.values()
    }

    /// Every blob that a report refers to.
    pub(crate) fn blobs(&self) -> HashSet<BlobId> {
        self.reports.values().flat_map(|report| blobs_of(report)).collect()
    }

    /// Reports of what has a package of one of these names: what a change of the database may change.
    pub(crate) fn affected(&self, names: &[String]) -> Vec<Arc<KeptReport>> {
        let mut seen = HashSet::new();
        let mut affected = Vec::new();
        for report in names.iter().filter_map(|name| self.by_name.get(&hash(name))).flatten() {
            if seen.insert(&report.subject) {
                affected.push(Arc::clone(report));
            }
        }
        affected
    }
}

fn blobs_of(report: &KeptReport) -> impl Iterator<Item = BlobId> {
    std::iter::once(report.report).chain(report.inventory)
}

fn write(file: &mut fs::File, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, seconds: i64, packages: &[&str]) -> KeptReport {
        let from = ScanReport {
            package_names: packages.iter().map(|name| (*name).to_owned()).collect(),
            ..ScanReport::default()
        };
        KeptReport::new(
            ScanSubject::RunningImage(name.to_owned()),
            BlobId::of(name.as_bytes()),
            Some(BlobId::of(packages.concat().as_bytes())),
            10,
            Timestamp::from_seconds(seconds),
            &from,
        )
    }

    fn names(reports: &[Arc<KeptReport>]) -> Vec<String> {
        let mut names: Vec<String> = reports.iter().map(|report| report.subject.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_changed_package_leads_to_the_reports_of_what_has_it_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.jsonl");
        let mut list = Kept::open(path.clone()).unwrap();
        list.put(kept("a", 1, &["openssl", "zlib"])).unwrap();
        list.put(kept("b", 2, &["zlib"])).unwrap();
        list.put(kept("c", 3, &["curl"])).unwrap();
        list.put(kept("c", 4, &["wget"])).unwrap();
        list.remove(&kept("b", 2, &[]).subject).unwrap();
        // What a crash leaves of the last line.
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"kept\":{").unwrap();
        let reread = Kept::open(path).unwrap();
        for list in [list, reread] {
            let affected = |names_of: &[&str]| {
                let wanted: Vec<String> = names_of.iter().map(|name| (*name).to_owned()).collect();
                names(&list.affected(&wanted))
            };
            assert_eq!(affected(&["zlib", "openssl"]), ["image a"]);
            assert_eq!(affected(&["wget"]), ["image c"]);
            assert_eq!(affected(&["curl", "tar"]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_blob_is_given_up_when_no_report_refers_to_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut list = Kept::open(folder.path().join("reports.jsonl")).unwrap();
        let (first, second) = (kept("a", 1, &["zlib"]), kept("b", 2, &["zlib"]));
        assert_eq!(list.put(first.clone()).unwrap(), []);
        assert_eq!(list.put(second.clone()).unwrap(), []);
        assert_eq!(list.remove(&first.subject).unwrap(), [first.report], "the inventory is the other's too");
        let mut gone = list.remove(&second.subject).unwrap();
        gone.sort();
        let mut want = [second.report, second.inventory.unwrap()];
        want.sort();
        assert_eq!(gone, want);
    }

    #[test]
    fn reports_that_no_scan_renews_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let mut list = Kept::open(folder.path().join("reports.jsonl")).unwrap();
        list.put(kept("old", 0, &["zlib"])).unwrap();
        let later = i64::try_from(MAX_AGE.as_secs()).unwrap();
        assert_eq!(list.put(kept("young", later, &["tar"])).unwrap(), []);
        assert_eq!(list.put(kept("new", later + 1, &["tar"])).unwrap().len(), 2);
        assert_eq!(names(&list.all().cloned().collect::<Vec<_>>()), ["image new", "image young"]);
        assert_eq!(list.dropped, 1);
    }
}
