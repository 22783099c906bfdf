//! What was found, as JSON in the shapes of the REST contract, and as a table.

use std::io::Write;

use nv_vulnerability::{Database, Finding, Severity};
use serde::Serialize;

use crate::database::tenths;
use crate::error::ScannerError;
use crate::root::RootInventory;

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFormat {
    /// One JSON object.
    Json,
    /// Counts and a table.
    Table,
}

/// `Vulnerability` of the REST contract.
#[derive(Serialize)]
struct Vulnerability<'a> {
    name: &'a str,
    score: f64,
    severity: &'static str,
    vectors: &'a str,
    description: String,
    file_name: String,
    package_name: &'a str,
    package_version: &'a str,
    fixed_version: &'a str,
    link: &'a str,
    score_v3: f64,
    vectors_v3: &'a str,
    published_timestamp: u32,
    last_modified_timestamp: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cves: Vec<&'a str>,
    feed_rating: &'static str,
}

/// `ScanModule` of the REST contract.
#[derive(Serialize)]
struct Module<'a> {
    name: &'a str,
    file: String,
    version: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
struct Report<'a> {
    base_os: String,
    cvedb_version: String,
    critical: usize,
    high: usize,
    medium: usize,
    low: usize,
    unknown: usize,
    vulnerabilities: Vec<Vulnerability<'a>>,
    modules: Vec<Module<'a>>,
}

/// The contract's word for a severity; what is below low is low there.
fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "Critical",
        Severity::High => "High",
        Severity::Medium => "Medium",
        Severity::Low | Severity::Negligible => "Low",
        Severity::Unknown => "Unknown",
    }
}

/// Prints findings of a root file system, the same for the same input.
///
/// # Errors
/// [`ScannerError::Output`] when the result can not be written.
pub fn write_report(
    database: Database<'_>,
    inventory: &RootInventory,
    findings: &[(usize, Finding)],
    format: OutputFormat,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let count =
        |wanted: &str| findings.iter().filter(|(_, finding)| word(finding.severity) == wanted).count();
    let base_os =
        inventory.distribution.as_ref().map(|d| format!("{}:{}", d.id, d.version)).unwrap_or_default();
    let mut report = Report {
        base_os,
        cvedb_version: format!("{}.{:03}", database.version() / 1000, database.version() % 1000),
        critical: count("Critical"),
        high: count("High"),
        medium: count("Medium"),
        low: count("Low"),
        unknown: count("Unknown"),
        vulnerabilities: Vec::new(),
        modules: Vec::new(),
    };
    if format == OutputFormat::Table {
        return write_table(&report, inventory, findings, out);
    }
    for (place, finding) in findings {
        let Some((path, package)) = inventory.packages.get(*place) else { continue };
        let facts = database.facts(finding.facts);
        report.vulnerabilities.push(Vulnerability {
            name: &finding.id,
            score: facts.score(2).map_or(0.0, tenths),
            severity: word(finding.severity),
            vectors: facts.vector(2),
            description: facts.description(),
            file_name: path.display().to_string(),
            package_name: &package.name,
            package_version: &package.version,
            fixed_version: &finding.fixed,
            link: facts.link(),
            score_v3: facts.score(3).map_or(0.0, tenths),
            vectors_v3: facts.vector(3),
            published_timestamp: facts.published(),
            last_modified_timestamp: facts.modified(),
            cves: finding.aliases.iter().map(String::as_str).filter(|id| id.starts_with("CVE-")).collect(),
            feed_rating: finding.severity.name(),
        });
    }
    report.modules = inventory
        .packages
        .iter()
        .map(|(path, package)| Module {
            name: &package.name,
            file: path.display().to_string(),
            version: &package.version,
            source: package.source.as_ref().map_or("", |source| &source.name),
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &report).map_err(ScannerError::Json)?;
    writeln!(out).map_err(ScannerError::Output)
}

fn write_table(
    report: &Report<'_>,
    inventory: &RootInventory,
    findings: &[(usize, Finding)],
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let mut lines = vec![
        format!("Base OS: {}", report.base_os),
        format!("CVE database version: {}", report.cvedb_version),
        format!(
            "Vulnerabilities: {}, CRITICAL: {}, HIGH: {}, MEDIUM: {}, LOW: {}, UNKNOWN: {}",
            findings.len(),
            report.critical,
            report.high,
            report.medium,
            report.low,
            report.unknown
        ),
    ];
    let mut rows: Vec<[String; 6]> = findings
        .iter()
        .filter_map(|(place, finding)| {
            let (path, package) = inventory.packages.get(*place)?;
            Some([
                path.display().to_string(),
                package.name.to_string(),
                finding.id.clone(),
                word(finding.severity).to_owned(),
                package.version.to_string(),
                if finding.fixed.is_empty() {
                    finding.status.name().to_owned()
                } else {
                    finding.fixed.clone()
                },
            ])
        })
        .collect();
    rows.sort();
    let titles = ["Package", "Vulnerability", "Severity", "Version", "Fixed Version"];
    let mut file = "";
    for row in &rows {
        let [path, ..] = row;
        let width = |column: usize| {
            rows.iter()
                .filter(|other| other.first() == Some(path))
                .filter_map(|other| other.get(column + 1))
                .map(|cell| cell.chars().count())
                .chain(titles.get(column).map(|title| title.len()))
                .max()
                .unwrap_or(0)
        };
        let line = |cells: &mut dyn Iterator<Item = &str>, widths: &[usize]| {
            let padded: Vec<String> =
                cells.zip(widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
            padded.join("  ").trim_end().to_owned()
        };
        if path != file {
            file = path;
            lines.push(format!("\nFile: {path}"));
            let widths: Vec<usize> = (0..titles.len()).map(width).collect();
            lines.push(line(&mut titles.into_iter(), &widths));
            let of_file = rows.iter().filter(|other| other.first() == Some(path));
            lines.extend(of_file.map(|[_, cells @ ..]| line(&mut cells.iter().map(String::as_str), &widths)));
        }
    }
    writeln!(out, "{}", lines.join("\n")).map_err(ScannerError::Output)
}
