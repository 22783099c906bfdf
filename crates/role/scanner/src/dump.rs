//! A whole database as the JSON that upstream's scanner writes with `-o`.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use nv_vulnerability::{Database, FactsView, Row};
use serde::{Serialize, Serializer};

use crate::database::{OpenedDatabase, shown_version, tenths};
use crate::error::ScannerError;
use crate::output::{date_text, word};

/// What distributions are called there; others, and ecosystems, keep their own names.
const NAMES: [(&str, &str); 13] = [
    ("alpine", "Alpine Linux"),
    ("almalinux", "AlmaLinux"),
    ("amzn", "Amazon Linux"),
    ("azurelinux", "Azure Linux"),
    ("debian", "Debian"),
    ("mariner", "CBL-Mariner"),
    ("ol", "Oracle Linux"),
    ("opensuse-leap", "openSUSE Leap"),
    ("photon", "Photon"),
    ("rhel", "Red Hat Linux"),
    ("rocky", "Rocky Linux"),
    ("sles", "SUSE Linux"),
    ("ubuntu", "Ubuntu"),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Dump<'a> {
    version: String,
    create_time: String,
    vulnerabilities: Vulnerabilities<'a>,
}

/// Written one by one: a database has hundreds of thousands.
struct Vulnerabilities<'a>(Database<'a>);

impl Serialize for Vulnerabilities<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.vulnerabilities().map(|(facts, rows)| vulnerability(&facts, &rows)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Vulnerability<'a> {
    name: &'a str,
    severity: &'static str,
    score: f64,
    vectors: &'a str,
    #[serde(rename = "ScoreV3")]
    score_v3: f64,
    #[serde(rename = "VectorsV3")]
    vectors_v3: &'a str,
    entries: Vec<Entry<'a>>,
}

/// What is affected in one distribution or ecosystem.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(rename = "OSApp")]
    os_app: &'a str,
    #[serde(rename = "OSAppVersion")]
    os_app_version: &'a str,
    published_date: String,
    last_modified_date: String,
    packages: Vec<Package<'a>>,
}

#[derive(Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Package<'a> {
    package: &'a str,
    /// Empty where there is none.
    fixed_version: &'a str,
}

fn vulnerability<'a>(facts: &FactsView<'a>, rows: &[(&'a str, &'a str, Row<'a>)]) -> Vulnerability<'a> {
    let mut entries = Vec::new();
    for of_namespace in rows.chunk_by(|(before, ..), (after, ..)| before == after) {
        let Some(&(namespace, ..)) = of_namespace.first() else { continue };
        let (id, version) = namespace.split_once(':').unwrap_or((namespace, ""));
        let packages = of_namespace
            .iter()
            .map(|&(_, package, row)| Package { package, fixed_version: row.fixed.unwrap_or_default() });
        let mut packages: Vec<Package<'_>> = packages.collect();
        packages.dedup();
        entries.push(Entry {
            os_app: NAMES.iter().find(|(known, _)| *known == id).map_or(id, |&(_, name)| name),
            os_app_version: version,
            published_date: day(facts.published()),
            last_modified_date: day(facts.modified()),
            packages,
        });
    }
    Vulnerability {
        name: facts.id(),
        severity: word(facts.severity()),
        score: facts.score(2).map_or(0.0, tenths),
        vectors: facts.vector(2),
        score_v3: facts.score(3).map_or(0.0, tenths),
        vectors_v3: facts.vector(3),
        entries,
    }
}

/// `2023-11-14`; empty where it is not known.
fn day(seconds: u32) -> String {
    match seconds {
        0 => String::new(),
        _ => date_text(seconds.into()).split('T').next().unwrap_or_default().to_owned(),
    }
}

/// Writes all that `FOLDER/cvedb` knows, but for descriptions, as JSON to a file: there as a whole, or not at all.
///
/// # Errors
/// [`ScannerError`] when there is no database in the folder, or the file cannot be written.
pub fn dump_database(folder: &Path, to: &Path) -> Result<(), ScannerError> {
    let opened = OpenedDatabase::open(&folder.join("cvedb"))?;
    let database = opened.database()?;
    let failed = |source| ScannerError::Write { path: to.to_owned(), source };
    let mut beside = to.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut file = BufWriter::new(File::create(&beside).map_err(failed)?);
    let dump = Dump {
        version: shown_version(database.version()),
        create_time: date_text(database.created()),
        vulnerabilities: Vulnerabilities(database),
    };
    let form = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = dump
        .serialize(&mut serde_json::Serializer::with_formatter(&mut file, form))
        .map_err(std::io::Error::from)
        .and_then(|()| file.flush())
        .and_then(|()| fs::rename(&beside, to));
    if written.is_err() {
        // What could not be put in its place is of no use; the first fault is what is told.
        let _removed = fs::remove_file(&beside);
    }
    written.map_err(failed)
}
