//! Counts and a table a file, as NeuVector's stand-alone scanner prints them.

use std::io::Write;

use nv_compliance::Level;
use nv_vulnerability::Database;

use super::{contract, date_text, word};
use crate::error::ScannerError;
use crate::report::{Installed, Report};

const TITLES: [&str; 6] = ["Package", "Vulnerability", "Severity", "Version", "Fixed Version", "Published"];

pub(super) fn write(
    database: Database<'_>,
    report: &Report,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let printed = contract::counts(database, report);
    let mut lines = vec![format!("Base OS: {}", printed.base_os)];
    let ends = report.distribution.as_ref().and_then(nv_package::end_of_life);
    lines.extend(ends.map(|day| format!("End of life: {day}")));
    lines.extend(report.image.iter().map(|image| format!("Created at: {}", image.created)));
    lines.push(format!("CVE database version: {}", printed.cvedb_version));
    lines.push(format!(
        "Vulnerabilities: {}, CRITICAL: {}, HIGH: {}, MEDIUM: {}, LOW: {}, UNKNOWN: {}",
        report.findings.len(),
        printed.critical,
        printed.high,
        printed.medium,
        printed.low,
        printed.unknown
    ));
    for judged in
        report.image.iter().flat_map(|image| &image.checks).filter(|judged| judged.level == Level::Warn)
    {
        lines.push(format!("{} {}: {}", judged.level.name(), judged.item.number, judged.item.description));
    }
    if let Some(signed) = &report.signed {
        let by = if signed.verifiers.is_empty() { "nobody".to_owned() } else { signed.verifiers.join(", ") };
        lines.push(format!("Signed by: {by}"));
        lines.extend(signed.reasons.iter().map(|reason| format!("  {reason}")));
    }
    if !report.silenced.is_empty() {
        lines.push(format!("Not counted by VEX or because they are accepted: {}", report.silenced.len()));
    }
    let mut rows: Vec<(&str, [String; 6])> = report
        .findings
        .iter()
        .filter_map(|(place, finding)| {
            let Installed { file, package, .. } = report.packages.get(*place)?;
            let facts = database.facts(finding.facts);
            let remedy = match finding.fixed(database) {
                "" => finding.status.name(),
                fixed => fixed,
            };
            let cells = [
                package.name.to_string(),
                facts.id().to_owned(),
                word(finding.severity).to_owned(),
                package.version.to_string(),
                remedy.to_owned(),
                match facts.published() {
                    0 => String::new(),
                    seconds => date_text(u64::from(seconds)).chars().take(10).collect(),
                },
            ];
            Some((file.as_str(), cells))
        })
        .collect();
    rows.sort();
    for of_file in rows.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((file, _)) = of_file.first() else { continue };
        let mut widths = TITLES.map(str::len);
        for (_, cells) in of_file {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> =
                cells.zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        lines.push(format!("\nFile: {file}"));
        lines.push(line(&mut TITLES.into_iter()));
        lines.extend(of_file.iter().map(|(_, cells)| line(&mut cells.iter().map(String::as_str))));
    }
    writeln!(out, "{}", lines.join("\n")).map_err(ScannerError::Output)
}

/// The first digits of a layer's digest, as many as are shown.
const DIGITS: usize = 12;

/// The commands that made an image, each beside the layer that it made, where it made one.
pub(super) fn write_commands(report: &Report, out: &mut dyn Write) -> Result<(), ScannerError> {
    let mut lines = vec!["\nHistory:".to_owned()];
    if let Some(image) = &report.image {
        let mut layers = image.layers.iter().peekable();
        for command in &image.history {
            let made = layers.next_if(|layer| layer.command == *command);
            let digest = made.map_or("", |layer| layer.digest.trim_start_matches("sha256:"));
            let digits: String = digest.chars().take(DIGITS).collect::<String>().to_uppercase();
            lines.push(format!("{digits:>DIGITS$} {command}"));
        }
    }
    writeln!(out, "{}", lines.join("\n")).map_err(ScannerError::Output)
}

/// What is installed.
pub(super) fn write_modules(report: &Report, out: &mut dyn Write) -> Result<(), ScannerError> {
    let packages = report.packages.iter().map(|installed| &installed.package);
    let lines = packages.map(|package| format!("{} {}", package.name, package.version));
    let lines: Vec<String> = std::iter::once("\nModules:".to_owned()).chain(lines).collect();
    writeln!(out, "{}", lines.join("\n")).map_err(ScannerError::Output)
}
