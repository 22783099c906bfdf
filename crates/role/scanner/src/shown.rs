//! A report in the contract's shapes, as the controller keeps it.

use std::collections::{BTreeSet, HashSet};

use nv_model::scan::DatabaseInfo;
use nv_model::scan_report::{
    BenchItem, ModuleCve, ScanLayer, ScanModule, ScanReport, ScanSecret, ScanSetIdPerm, ScanSignatureInfo,
    ScannedImage, Vulnerability,
};
use nv_model::time::Timestamp;
use nv_package::Package;
use nv_vulnerability::{Database, Finding, Matcher};

use crate::database::tenths;
use crate::output::word;
use crate::report::{ImageFacts, Installed, Report, SignatureFacts};

/// What a database says of itself.
pub(crate) fn database_info(database: Database<'_>) -> DatabaseInfo {
    DatabaseInfo {
        version: database.version(),
        created: Timestamp::from_seconds(i64::try_from(database.created()).unwrap_or(i64::MAX)),
        content: database.content_hash().iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Items of the benchmark on images, judged.
pub(crate) fn bench_items(report: &Report) -> Vec<BenchItem> {
    let judged = report.image.iter().flat_map(|image| &image.checks);
    judged
        .map(|judged| BenchItem {
            test_number: judged.item.number.to_owned(),
            category: judged.item.category.to_owned(),
            kind: judged.item.kind.to_owned(),
            profile: judged.item.profile.to_owned(),
            scored: judged.item.scored,
            automated: judged.item.automated,
            level: judged.level.name().to_owned(),
            description: judged.item.description.to_owned(),
            remediation: judged.item.remediation.to_owned(),
            message: judged.evidence.clone(),
        })
        .collect()
}

fn signature(facts: &SignatureFacts) -> ScanSignatureInfo {
    ScanSignatureInfo {
        verifiers: facts.verifiers.clone(),
        verification_timestamp: Timestamp::from_seconds(i64::try_from(facts.judged).unwrap_or(i64::MAX))
            .rfc3339(),
        reasons: facts.reasons.clone(),
    }
}

fn vulnerability(
    database: Database<'_>,
    base: Option<&HashSet<&Package>>,
    installed: &Installed,
    finding: &Finding,
) -> Vulnerability {
    let facts = database.facts(finding.facts);
    Vulnerability {
        name: facts.id().to_owned(),
        score: facts.score(2).map_or(0.0, tenths),
        severity: word(finding.severity).to_owned(),
        vectors: facts.vector(2).to_owned(),
        description: facts.description(),
        file_name: installed.file.clone(),
        package_name: installed.package.name.to_string(),
        package_version: installed.package.version.to_string(),
        fixed_version: finding.fixed(database).to_owned(),
        link: facts.link().to_owned(),
        score_v3: facts.score(3).map_or(0.0, tenths),
        vectors_v3: facts.vector(3).to_owned(),
        published_timestamp: i64::from(facts.published()),
        last_modified_timestamp: i64::from(facts.modified()),
        feed_rating: finding.severity.name().to_owned(),
        cves: finding
            .aliases(database)
            .into_iter()
            .filter(|id| id.starts_with("CVE-"))
            .map(str::to_owned)
            .collect(),
        tags: Vec::new(),
        in_base_image: base.is_some_and(|base| base.contains(&installed.package)),
        status: finding.status.name().to_owned(),
        exploited: facts.exploited(),
        epss: facts.epss().map(|epss| f64::from(epss) / 10_000.0),
    }
}

fn vulnerabilities(
    database: Database<'_>,
    base: Option<&HashSet<&Package>>,
    packages: &[Installed],
    findings: &[(usize, Finding)],
) -> Vec<Vulnerability> {
    let found = findings
        .iter()
        .filter_map(|(place, finding)| Some(vulnerability(database, base, packages.get(*place)?, finding)));
    found.collect()
}

fn modules(database: Database<'_>, report: &Report) -> Vec<ScanModule> {
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
            module.cves.push(ModuleCve { name: finding.id(database).to_owned(), status });
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

fn layers(database: Database<'_>, base: Option<&HashSet<&Package>>, image: &ImageFacts) -> Vec<ScanLayer> {
    let shown = image.layers.iter().map(|layer| ScanLayer {
        digest: layer.digest.clone(),
        cmds: layer.command.clone(),
        vulnerabilities: vulnerabilities(database, base, &layer.packages, &layer.findings),
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
pub(crate) fn scan_report(
    database: Database<'_>,
    report: &Report,
    checks: Vec<BenchItem>,
    remarks: Vec<String>,
) -> ScanReport {
    let base = report.of_base();
    let base = base.as_ref();
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
        vulnerabilities: vulnerabilities(database, base, &report.packages, &report.findings),
        modules: modules(database, report),
        layers: report.image.iter().flat_map(|image| layers(database, base, image)).collect(),
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
        checks,
        signature_data: report.signed.as_ref().map(signature),
        image: report.image.as_ref().map(image),
        package_names: names.into_iter().collect(),
        remarks,
    }
}
