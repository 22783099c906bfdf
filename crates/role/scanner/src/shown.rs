//! A report in the contract's shapes, as the controller keeps it.

use std::collections::BTreeSet;

use nv_model::scan::DatabaseInfo;
use nv_model::scan_report::{
    ModuleCve, ScanLayer, ScanModule, ScanReport, ScanSecret, ScanSetIdPerm, ScannedImage, Vulnerability,
};
use nv_model::time::Timestamp;
use nv_vulnerability::{Database, Finding, Matcher};

use crate::database::tenths;
use crate::output::word;
use crate::report::{ImageFacts, Installed, Report};

/// What a database says of itself.
pub(crate) fn database_info(database: Database<'_>) -> DatabaseInfo {
    DatabaseInfo {
        version: database.version(),
        created: Timestamp::from_seconds(i64::try_from(database.created()).unwrap_or(i64::MAX)),
        content: database.content_hash().iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn vulnerability(database: Database<'_>, installed: &Installed, finding: &Finding) -> Vulnerability {
    let facts = database.facts(finding.facts);
    Vulnerability {
        name: finding.id.clone(),
        score: facts.score(2).map_or(0.0, tenths),
        severity: word(finding.severity).to_owned(),
        vectors: facts.vector(2).to_owned(),
        description: facts.description(),
        file_name: installed.file.clone(),
        package_name: installed.package.name.to_string(),
        package_version: installed.package.version.to_string(),
        fixed_version: finding.fixed.clone(),
        link: facts.link().to_owned(),
        score_v3: facts.score(3).map_or(0.0, tenths),
        vectors_v3: facts.vector(3).to_owned(),
        published_timestamp: i64::from(facts.published()),
        last_modified_timestamp: i64::from(facts.modified()),
        feed_rating: finding.severity.name().to_owned(),
        cves: finding.aliases.iter().filter(|id| id.starts_with("CVE-")).cloned().collect(),
        tags: Vec::new(),
        in_base_image: false,
        status: finding.status.name().to_owned(),
        exploited: facts.exploited(),
        epss: facts.epss().map(|epss| f64::from(epss) / 10_000.0),
    }
}

fn vulnerabilities(
    database: Database<'_>,
    packages: &[Installed],
    findings: &[(usize, Finding)],
) -> Vec<Vulnerability> {
    let found = findings
        .iter()
        .filter_map(|(place, finding)| Some(vulnerability(database, packages.get(*place)?, finding)));
    found.collect()
}

fn modules(report: &Report) -> Vec<ScanModule> {
    let mut modules: Vec<ScanModule> = report
        .packages
        .iter()
        .map(|installed| ScanModule {
            name: installed.package.name.to_string(),
            file: installed.file.clone(),
            version: installed.package.version.to_string(),
            source: installed
                .package
                .source
                .as_ref()
                .map(|source| source.name.to_string())
                .unwrap_or_default(),
            cves: Vec::new(),
        })
        .collect();
    for (place, finding) in &report.findings {
        if let Some(module) = modules.get_mut(*place) {
            let status = finding.status.name().to_owned();
            module.cves.push(ModuleCve { name: finding.id.clone(), status });
        }
    }
    modules
}

/// How a file with the set-uid or set-gid bit is called.
pub(crate) const fn set_id_kind(mode: u32) -> &'static str {
    match (mode & 0o4000 != 0, mode & 0o2000 != 0) {
        (true, true) => "setuid,setgid",
        (true, false) => "setuid",
        _ => "setgid",
    }
}

fn layers(database: Database<'_>, image: &ImageFacts) -> Vec<ScanLayer> {
    let shown = image.layers.iter().map(|layer| ScanLayer {
        digest: layer.digest.clone(),
        cmds: layer.command.clone(),
        vulnerabilities: vulnerabilities(database, &layer.packages, &layer.findings),
        size: layer.size,
    });
    shown.collect()
}

fn image(image: &ImageFacts) -> ScannedImage {
    ScannedImage {
        digest: image.digest.clone(),
        id: image.id.clone(),
        created: image.created.clone(),
        author: image.author.clone(),
        size: image.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size)),
        run_as_root: matches!(image.user.split(':').next(), None | Some("" | "0" | "root")),
    }
}

/// A report that was judged, as the controller keeps it.
pub(crate) fn scan_report(database: Database<'_>, report: &Report, remarks: Vec<String>) -> ScanReport {
    let info = database_info(database);
    let distribution = report.distribution.as_ref();
    let judged = Matcher::new(database, distribution).system_namespace().is_some();
    let of_distribution = report.packages.iter().any(|found| found.package.ecosystem.is_distribution());
    let of_layers = report.image.iter().flat_map(|image| &image.layers).flat_map(|layer| &layer.packages);
    let names: BTreeSet<String> = report
        .packages
        .iter()
        .chain(of_layers)
        .flat_map(|installed| nv_vulnerability::names(&installed.package))
        .collect();
    ScanReport {
        base_os: distribution.map(|found| format!("{}:{}", found.id, found.version)).unwrap_or_default(),
        database_version: info.shown_version(),
        database_created: info.shown_created(),
        database_content: info.content,
        os_scan_status: if judged || !of_distribution { String::new() } else { "unsupported".to_owned() },
        vulnerabilities: vulnerabilities(database, &report.packages, &report.findings),
        modules: modules(report),
        layers: report.image.iter().flat_map(|image| layers(database, image)).collect(),
        secrets: report
            .secrets
            .iter()
            .map(|found| ScanSecret {
                kind: found.rule.clone(),
                evidence: found.evidence.clone(),
                path: found.file.clone(),
                suggestion: found.description.clone(),
            })
            .collect(),
        setid_perms: report
            .set_ids
            .iter()
            .map(|found| ScanSetIdPerm {
                kind: set_id_kind(found.mode).to_owned(),
                evidence: format!("{:o}", found.mode),
                path: found.file.clone(),
            })
            .collect(),
        envs: report.image.as_ref().map(|image| image.environment.clone()).unwrap_or_default(),
        cmds: report
            .image
            .iter()
            .flat_map(|image| &image.layers)
            .map(|layer| layer.command.clone())
            .collect(),
        labels: report.image.as_ref().map(|image| image.labels.clone()).unwrap_or_default(),
        image: report.image.as_ref().map(image),
        package_names: names.into_iter().collect(),
        remarks,
    }
}
