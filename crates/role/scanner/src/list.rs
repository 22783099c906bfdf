//! Packages from a list, one JSON object a line, to findings, one JSON object a line.

use std::collections::HashMap;
use std::io::{BufRead, Read as _, Write};

use nv_package::distribution::Distribution;
use nv_package::purl::{Purl, parse_purl};
use nv_package::{Ecosystem, Package, Source};
use nv_vulnerability::{Database, Finding, Matcher, SourceCount};
use serde::{Deserialize, Serialize};

use crate::error::ScannerError;
use crate::remark::Remarks;
use crate::report::{Installed, Report};

/// Longest line, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// Most distributions in one list.
const MAX_DISTRIBUTIONS: usize = 1024;

/// A line of the list: a package URL, or a distribution or ecosystem with name and version.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    purl: String,
    os: String,
    release: String,
    ecosystem: String,
    name: String,
    version: String,
    source: Option<String>,
    source_version: Option<String>,
    arch: Option<String>,
    module: Option<String>,
}

/// A finding as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    aliases: Vec<&'a str>,
    name: &'a str,
    version: &'a str,
    fixed_version: &'a str,
    status: &'static str,
    severity: &'static str,
    source: &'a str,
}

/// Matches every package of a list. A line that can not be read is remarked with its number.
///
/// # Errors
/// [`ScannerError`] when the list itself or the result breaks off.
pub fn match_list(
    database: Database<'_>,
    list: &mut dyn BufRead,
    out: &mut dyn Write,
    remarks: &mut Remarks<'_>,
) -> Result<(), ScannerError> {
    let sources = database.sources();
    each(database, list, remarks, &mut |_, package, findings| {
        print(database, &sources, &findings, package, out)
    })
}

/// Most packages of a list that is judged as a whole.
const MAX_PACKAGES: usize = 2_000_000;

/// Matches a list as one report. The report has a distribution where all packages of distributions are of the same.
///
/// # Errors
/// [`ScannerError`] when the list itself breaks off, or has too many packages.
pub fn report_list(
    database: Database<'_>,
    subject: &str,
    list: &mut dyn BufRead,
    remarks: &mut Remarks<'_>,
) -> Result<Report, ScannerError> {
    let mut report = Report { subject: subject.to_owned(), ..Report::default() };
    let mut mixed = false;
    each(database, list, remarks, &mut |distribution, package, findings| {
        if package.ecosystem.is_distribution() {
            mixed |= report.distribution.get_or_insert_with(|| distribution.clone()) != distribution;
        }
        if report.packages.len() >= MAX_PACKAGES {
            return Err(ScannerError::Argument(format!("the list has more than {MAX_PACKAGES} packages")));
        }
        let place = report.packages.len();
        report.findings.extend(findings.into_iter().map(|finding| (place, finding)));
        report.packages.push(Installed {
            file: subject.to_owned(),
            package: package.clone(),
            layer: None,
            held: false,
        });
        Ok(())
    })?;
    if mixed {
        report.distribution = None;
    }
    Ok(report)
}

/// What is done with a package of a list and its findings.
type Take<'t> = dyn FnMut(&Distribution, &Package, Vec<Finding>) -> Result<(), ScannerError> + 't;

/// Hands each package of a list with its distribution and findings to `take`.
fn each(
    database: Database<'_>,
    list: &mut dyn BufRead,
    remarks: &mut Remarks<'_>,
    take: &mut Take<'_>,
) -> Result<(), ScannerError> {
    let mut matchers: HashMap<(String, String), Matcher<'_>> = HashMap::new();
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        line.clear();
        let fault = |source| ScannerError::Read { path: "the list of packages".into(), source };
        let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 1;
        let read = (&mut *list).take(most).read_until(b'\n', &mut line).map_err(fault)?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        if line.len() <= MAX_LINE && line.trim_ascii().is_empty() {
            continue;
        }
        if line.len() > MAX_LINE {
            remarks.add(&format!("line {number}: more than {MAX_LINE} bytes, passed over"));
            if !line.ends_with(b"\n") {
                list.skip_until(b'\n').map_err(fault)?;
            }
            continue;
        }
        let read =
            serde_json::from_slice::<Item>(&line).map_err(|error| error.to_string()).and_then(read_item);
        let (distribution, mut package) = match read {
            Ok(read) => read,
            Err(why) => {
                remarks.add(&format!("line {number}: {why}"));
                continue;
            }
        };
        if matchers.len() >= MAX_DISTRIBUTIONS {
            matchers.clear();
        }
        let matcher = matchers
            .entry((distribution.id.clone(), distribution.version.clone()))
            .or_insert_with(|| Matcher::new(database, Some(&distribution)));
        if package.ecosystem.is_distribution() && matcher.system_namespace().is_none() {
            remarks.add(&format!(
                "line {number}: the database knows nothing of {} {}",
                distribution.id, distribution.version
            ));
        }
        matcher.identify(&mut package);
        take(&distribution, &package, matcher.findings(&package))?;
    }
}

/// Matches the package of a URL.
pub(crate) fn match_purl(
    database: Database<'_>,
    purl: &Purl,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    let (id, version) = purl.distribution.clone().unwrap_or_default();
    let distribution = Distribution { id, version, ..Distribution::default() };
    let matcher = Matcher::new(database, Some(&distribution));
    let mut package = purl.package.clone();
    matcher.identify(&mut package);
    print(database, &database.sources(), &matcher.findings(&package), &package, out)
}

fn print(
    database: Database<'_>,
    sources: &[SourceCount],
    findings: &[Finding],
    package: &Package,
    out: &mut dyn Write,
) -> Result<(), ScannerError> {
    for finding in findings {
        let line = Line {
            id: finding.id(database),
            aliases: finding.aliases(database),
            name: &package.name,
            version: &package.version,
            fixed_version: finding.fixed(database),
            status: finding.status.name(),
            severity: finding.severity.name(),
            source: sources.get(usize::from(finding.feed)).map_or("", |source| &source.name),
        };
        let text = serde_json::to_string(&line).map_err(ScannerError::Json)?;
        writeln!(out, "{text}").map_err(ScannerError::Output)?;
    }
    Ok(())
}

/// The system of packages of a distribution.
fn ecosystem_of(os: &str) -> Ecosystem {
    match os {
        "debian" | "ubuntu" | "raspbian" => Ecosystem::Deb,
        "alpine" | "wolfi" | "chainguard" => Ecosystem::Apk,
        _ => Ecosystem::Rpm,
    }
}

fn read_item(item: Item) -> Result<(Distribution, Package), String> {
    let of = |id: &str, version: &str| Distribution {
        id: id.to_ascii_lowercase(),
        version: version.to_owned(),
        ..Distribution::default()
    };
    if !item.purl.is_empty() {
        let purl = parse_purl(&item.purl).map_err(|error| error.to_string())?;
        if purl.package.version.is_empty() && purl.package.sha1.is_none() {
            return Err(format!("{:?} has no version", item.purl));
        }
        let (id, version) = purl.distribution.unwrap_or_default();
        return Ok((of(&id, &version), purl.package));
    }
    if item.name.is_empty() || item.version.is_empty() {
        return Err("a package needs a purl, or a name and a version".to_owned());
    }
    let distribution = of(&item.os, &item.release);
    let ecosystem = if !item.os.is_empty() {
        ecosystem_of(&distribution.id)
    } else {
        Ecosystem::from_name(&item.ecosystem)
            .ok_or_else(|| format!("{:?} is no known ecosystem", item.ecosystem))?
    };
    let source = match (item.source, item.source_version) {
        (Some(name), version) if !name.is_empty() => {
            Some(Source { name: name.into(), version: version.filter(|v| !v.is_empty()).map(Into::into) })
        }
        _ => None,
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty()).map(Into::into);
    let package = Package {
        source,
        arch: filled(item.arch),
        module: filled(item.module),
        ..Package::new(ecosystem, item.name, item.version)
    };
    Ok((distribution, package))
}
