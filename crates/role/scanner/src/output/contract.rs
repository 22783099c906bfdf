//! JSON in the shapes of the REST contract.

use std::collections::BTreeMap;

use nv_compliance::Judged;
use nv_vulnerability::{Database, Finding};
use serde::Serialize;

use super::{date_text, version_text, word};
use crate::database::tenths;
use crate::report::{Installed, Report};

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
    #[serde(skip_serializing_if = "Option::is_none")]
    in_base_image: Option<bool>,
    /// Ours: whether there is a remedy, whether it is exploited, and how likely that is.
    status: &'static str,
    exploited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    epss: Option<f64>,
}

/// `ScanModule` of the REST contract.
#[derive(Serialize)]
struct Module<'a> {
    name: &'a str,
    file: &'a str,
    version: &'a str,
    source: &'a str,
}

/// What was found and is not counted.
#[derive(Serialize)]
struct Silenced<'a> {
    name: &'a str,
    file_name: &'a str,
    package_name: &'a str,
    package_version: &'a str,
    by: &'static str,
    reason: &'a str,
}

/// `ScanSecret` and `ScanSetIdPerm` of the REST contract.
#[derive(Serialize)]
struct Evidence<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    evidence: String,
    path: &'a str,
}

/// `ScanSignatureInfo` of the REST contract, and why others do not count.
#[derive(Serialize)]
struct SignatureData<'a> {
    verifiers: &'a [String],
    verification_timestamp: String,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    reasons: &'a [String],
}

/// `BenchItem` of the REST contract.
#[derive(Serialize)]
struct Check<'a> {
    test_number: &'static str,
    category: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    profile: &'static str,
    scored: bool,
    automated: bool,
    level: &'static str,
    description: &'static str,
    remediation: &'static str,
    message: &'a [String],
}

/// What the contract's `ScanRepoReport` has of an image beside what was found in it.
#[derive(Serialize)]
struct Image<'a> {
    image_id: &'a str,
    digest: &'a str,
    author: &'a str,
    created_at: &'a str,
    size: u64,
    envs: &'a [String],
    labels: &'a BTreeMap<String, String>,
    cmds: &'a [String],
    checks: Vec<Check<'a>>,
    layers: Vec<Layer<'a>>,
}

/// `ScanLayer` of the REST contract.
#[derive(Serialize)]
struct Layer<'a> {
    digest: &'a str,
    cmds: &'a str,
    size: u64,
    vulnerabilities: Vec<Vulnerability<'a>>,
}

#[derive(Serialize)]
pub(super) struct Printed<'a> {
    pub(super) base_os: String,
    /// Ours: the last day on which its makers mend the distribution for everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_of_life: Option<&'static str>,
    pub(super) cvedb_version: String,
    pub(super) critical: usize,
    pub(super) high: usize,
    pub(super) medium: usize,
    pub(super) low: usize,
    pub(super) unknown: usize,
    vulnerabilities: Vec<Vulnerability<'a>>,
    modules: Vec<Module<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silenced: Vec<Silenced<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Evidence<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    setid_perms: Vec<Evidence<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_data: Option<SignatureData<'a>>,
    #[serde(flatten)]
    image: Option<Image<'a>>,
}

/// What is printed of a report, without its lists.
pub(super) fn counts<'a>(database: Database<'_>, report: &Report) -> Printed<'a> {
    let count =
        |wanted: &str| report.findings.iter().filter(|(_, finding)| word(finding.severity) == wanted).count();
    Printed {
        base_os: report.distribution.as_ref().map(|d| format!("{}:{}", d.id, d.version)).unwrap_or_default(),
        end_of_life: report.distribution.as_ref().and_then(nv_package::end_of_life),
        cvedb_version: version_text(database),
        critical: count("Critical"),
        high: count("High"),
        medium: count("Medium"),
        low: count("Low"),
        unknown: count("Unknown"),
        vulnerabilities: Vec::new(),
        modules: Vec::new(),
        silenced: Vec::new(),
        secrets: Vec::new(),
        setid_perms: Vec::new(),
        signature_data: None,
        image: None,
    }
}

fn check(judged: &Judged) -> Check<'_> {
    let item = judged.item;
    Check {
        test_number: item.number,
        category: item.category,
        kind: item.kind,
        profile: item.profile,
        scored: item.scored,
        automated: item.automated,
        level: judged.level.name(),
        description: item.description,
        remediation: item.remediation,
        message: &judged.evidence,
    }
}

fn vulnerabilities<'a>(
    database: Database<'a>,
    report: &Report,
    packages: &'a [Installed],
    findings: &'a [(usize, Finding)],
) -> Vec<Vulnerability<'a>> {
    let base = report.of_base();
    let found = findings.iter().filter_map(|(place, finding)| Some((packages.get(*place)?, finding)));
    found
        .map(|(installed, finding)| {
            let facts = database.facts(finding.facts);
            Vulnerability {
                name: facts.id(),
                score: facts.score(2).map_or(0.0, tenths),
                severity: word(finding.severity),
                vectors: facts.vector(2),
                description: facts.description(),
                file_name: &installed.file,
                package_name: &installed.package.name,
                package_version: &installed.package.version,
                fixed_version: finding.fixed(database),
                link: facts.link(),
                score_v3: facts.score(3).map_or(0.0, tenths),
                vectors_v3: facts.vector(3),
                published_timestamp: facts.published(),
                last_modified_timestamp: facts.modified(),
                cves: finding.aliases(database).into_iter().filter(|id| id.starts_with("CVE-")).collect(),
                feed_rating: finding.severity.name(),
                in_base_image: base.as_ref().map(|base| base.contains(&installed.package)),
                status: finding.status.name(),
                exploited: facts.exploited(),
                epss: facts.epss().map(|epss| f64::from(epss) / 10_000.0),
            }
        })
        .collect()
}

/// What is printed of a report.
pub(super) fn printed<'a>(database: Database<'a>, report: &'a Report) -> Printed<'a> {
    let mut printed = counts(database, report);
    printed.vulnerabilities = vulnerabilities(database, report, &report.packages, &report.findings);
    printed.image = report.image.as_ref().map(|image| Image {
        image_id: &image.id,
        digest: &image.digest,
        author: &image.author,
        created_at: &image.created,
        size: image.layers.iter().map(|layer| layer.size).sum(),
        envs: &image.environment,
        labels: &image.labels,
        cmds: &image.history,
        checks: image.checks.iter().map(check).collect(),
        layers: image
            .layers
            .iter()
            .map(|layer| Layer {
                digest: &layer.digest,
                cmds: &layer.command,
                size: layer.size,
                vulnerabilities: vulnerabilities(database, report, &layer.packages, &layer.findings),
            })
            .collect(),
    });
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
    printed.silenced = report
        .silenced
        .iter()
        .filter_map(|silenced| {
            let installed = report.packages.get(silenced.package)?;
            Some(Silenced {
                name: silenced.finding.id(database),
                file_name: &installed.file,
                package_name: &installed.package.name,
                package_version: &installed.package.version,
                by: silenced.by.name(),
                reason: &silenced.reason,
            })
        })
        .collect();
    let secrets = report.secrets.iter();
    printed.secrets = secrets
        .map(|found| Evidence { kind: &found.rule, evidence: found.evidence.clone(), path: &found.file })
        .collect();
    printed.signature_data = report.signed.as_ref().map(|signed| SignatureData {
        verifiers: &signed.verifiers,
        verification_timestamp: date_text(signed.judged),
        reasons: &signed.reasons,
    });
    let set_ids = report.set_ids.iter();
    printed.setid_perms = set_ids
        .map(|found| {
            let kind = match (found.mode & 0o4000 != 0, found.mode & 0o2000 != 0) {
                (true, true) => "setuid,setgid",
                (true, false) => "setuid",
                _ => "setgid",
            };
            Evidence { kind, evidence: format!("{:o}", found.mode), path: &found.file }
        })
        .collect();
    printed
}
