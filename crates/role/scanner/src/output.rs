//! A report as JSON in the shapes of the REST contract, and as a table.

use std::io::Write;

use nv_vulnerability::{Database, Severity};
use serde::Serialize;

use crate::database::tenths;
use crate::error::ScannerError;
use crate::report::{Installed, Report};

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
    file_name: &'a str,
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
    file: &'a str,
    version: &'a str,
    source: &'a str,
}

#[derive(Serialize)]
struct Printed<'a> {
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

/// Prints a report, the same for the same input.
///
/// # Errors
/// [`ScannerError::Output`] when the result can not be written.
pub fn write_report(
    database: Database<'_>,
    report: &Report,
    format: OutputFormat,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let count =
        |wanted: &str| report.findings.iter().filter(|(_, finding)| word(finding.severity) == wanted).count();
    let base_os = report.distribution.as_ref().map(|d| format!("{}:{}", d.id, d.version)).unwrap_or_default();
    let mut printed = Printed {
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
        return write_table(&printed, report, out);
    }
    for (place, finding) in &report.findings {
        let Some(installed) = report.packages.get(*place) else { continue };
        let facts = database.facts(finding.facts);
        printed.vulnerabilities.push(Vulnerability {
            name: &finding.id,
            score: facts.score(2).map_or(0.0, tenths),
            severity: word(finding.severity),
            vectors: facts.vector(2),
            description: facts.description(),
            file_name: &installed.file,
            package_name: &installed.package.name,
            package_version: &installed.package.version,
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
    printed.modules = report
        .packages
        .iter()
        .map(|installed| Module {
            name: &installed.package.name,
            file: &installed.file,
            version: &installed.package.version,
            source: installed.package.source.as_ref().map_or("", |source| &source.name),
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &printed).map_err(ScannerError::Json)?;
    writeln!(out).map_err(ScannerError::Output)
}

fn write_table(printed: &Printed<'_>, report: &Report, out: &mut dyn Write) -> Result<(), ScannerError> {
    let mut lines = vec![
        format!("Base OS: {}", printed.base_os),
        format!("CVE database version: {}", printed.cvedb_version),
        format!(
            "Vulnerabilities: {}, CRITICAL: {}, HIGH: {}, MEDIUM: {}, LOW: {}, UNKNOWN: {}",
            report.findings.len(),
            printed.critical,
            printed.high,
            printed.medium,
            printed.low,
            printed.unknown
        ),
    ];
    let mut rows: Vec<[String; 6]> = report
        .findings
        .iter()
        .filter_map(|(place, finding)| {
            let Installed { file, package, .. } = report.packages.get(*place)?;
            Some([
                file.clone(),
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
