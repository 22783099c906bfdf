//! CycloneDX 1.6 as JSON: what is installed, and what is vulnerable in it.

use std::collections::{BTreeMap, HashMap};

use nv_package::purl::write_purl;
use nv_vulnerability::{Database, Finding, Severity, SourceCount};
use serde_json::{Value, json};

use super::{date_text, version_text};
use crate::database::tenths;
use crate::report::Report;
use crate::rules::SilencedBy;

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Negligible => "info",
        other => other.name(),
    }
}

/// Names of components: their package URL, with the file behind it where another has the same.
fn references(report: &Report) -> Vec<String> {
    let mut known: HashMap<String, usize> = HashMap::new();
    let purls = report.packages.iter().map(|found| write_purl(&found.package, report.distribution.as_ref()));
    purls
        .zip(&report.packages)
        .map(|(purl, installed)| {
            let seen = known.entry(purl.clone()).or_default();
            *seen += 1;
            match *seen {
                1 => purl,
                2 => format!("{purl}#{}", installed.file),
                more => format!("{purl}#{}:{more}", installed.file),
            }
        })
        .collect()
}

/// A serial number of what is in the document, so that the same content has the same (RFC 9562 §5.8).
fn serial(components: &Value) -> String {
    let hash = super::hash(components);
    let mut hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    hex.replace_range(12..13, "8");
    hex.replace_range(16..17, "8");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    format!("urn:uuid:{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

pub(super) fn document(database: Database<'_>, report: &Report) -> Value {
    let references = references(report);
    let mut document = bill_with(report, &references);
    if let Some(metadata) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        let version = json!([{ "name": "neuvector:database", "value": version_text(database) }]);
        metadata.insert("properties".to_owned(), version);
    }
    let found = Value::Array(vulnerabilities(database, report, &references));
    super::put(&mut document, [("vulnerabilities", found)]);
    document
}

/// What is installed alone.
pub(super) fn bill(report: &Report) -> Value {
    bill_with(report, &references(report))
}

fn bill_with(report: &Report, references: &[String]) -> Value {
    let mut components: Vec<Value> = Vec::new();
    if let Some(found) = &report.distribution {
        components.push(json!({
            "type": "operating-system",
            "bom-ref": format!("os:{}-{}", found.id, found.version),
            "name": found.id,
            "version": found.version,
        }));
    }
    for (installed, reference) in report.packages.iter().zip(references) {
        let mut component = json!({
            "type": "library",
            "bom-ref": reference,
            "name": installed.package.name,
            "version": installed.package.version,
            "purl": write_purl(&installed.package, report.distribution.as_ref()),
            "properties": [{ "name": "neuvector:file", "value": installed.file }],
        });
        if let (Some(licence), Some(fields)) = (&installed.package.licence, component.as_object_mut()) {
            fields.insert("licenses".to_owned(), json!([{ "license": { "name": licence } }]));
        }
        components.push(component);
    }
    let components = Value::Array(components);
    let kind = if report.image.is_some() { "container" } else { "file" };
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial(&components),
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "neuvector-scanner", "version": nv_telemetry::VERSION }] },
            "component": { "type": kind, "bom-ref": "subject", "name": report.subject },
        },
    });
    super::put(&mut document, [("components", components)]);
    document
}

/// One entry a vulnerability and what is said of it, with every package that has it.
fn vulnerabilities(database: Database<'_>, report: &Report, references: &[String]) -> Vec<Value> {
    let sources = database.sources();
    let mut found: BTreeMap<(&str, &str), Entry<'_>> = BTreeMap::new();
    for (place, finding) in &report.findings {
        let new = || Entry { finding, said: None, places: Vec::new() };
        found.entry((finding.id(database), "")).or_insert_with(new).places.push(*place);
    }
    for silenced in &report.silenced {
        let said = Some((silenced.by, silenced.reason.as_str()));
        let key = (silenced.finding.id(database), silenced.by.name());
        let new = || Entry { finding: &silenced.finding, said, places: Vec::new() };
        found.entry(key).or_insert_with(new).places.push(silenced.package);
    }
    found.into_values().map(|found| entry(database, &sources, report, references, &found)).collect()
}

/// A vulnerability, what is said of it, and the places of the packages that have it.
struct Entry<'a> {
    finding: &'a Finding,
    said: Option<(SilencedBy, &'a str)>,
    places: Vec<usize>,
}

fn entry(
    database: Database<'_>,
    sources: &[SourceCount],
    report: &Report,
    references: &[String],
    found: &Entry<'_>,
) -> Value {
    let Entry { finding, said, places } = found;
    let facts = database.facts(finding.facts);
    let source = sources.get(usize::from(finding.feed)).map_or("", |source| &source.name);
    let mut ratings = vec![json!({ "source": { "name": source }, "severity": severity(finding.severity) })];
    for version in [2, 3, 4] {
        let (Some(score), vector) = (facts.score(version), facts.vector(version)) else { continue };
        let method = match (version, vector) {
            (2, _) => "CVSSv2",
            (4, _) => "CVSSv4",
            (_, vector) if vector.starts_with("CVSS:3.0") => "CVSSv3",
            _ => "CVSSv31",
        };
        let mut rating = json!({
            "score": tenths(score),
            "severity": severity(Severity::from_score(score)),
            "method": method,
        });
        if let (false, Some(fields)) = (vector.is_empty(), rating.as_object_mut()) {
            fields.insert("vector".to_owned(), json!(vector));
        }
        ratings.push(rating);
    }
    let affects: Vec<Value> = places
        .iter()
        .filter_map(|place| {
            let version = &report.packages.get(*place)?.package.version;
            let status = if said.is_some_and(|(by, _)| by != SilencedBy::Accepted) { "unaffected" } else { "affected" };
            Some(json!({ "ref": references.get(*place)?, "versions": [{ "version": version, "status": status }] }))
        })
        .collect();
    let mut value = json!({
        "bom-ref": match said {
            Some((by, _)) => format!("{}:{}", facts.id(), by.name().replace(' ', "-")),
            None => facts.id().to_owned(),
        },
        "id": facts.id(),
        "source": { "name": source },
        "ratings": ratings,
        "cwes": facts.cwes().filter(|number| *number > 0).collect::<Vec<_>>(),
        "description": facts.description(),
        "affects": affects,
    });
    let Some(fields) = value.as_object_mut() else { return value };
    let fixed = finding.fixed(database);
    if !fixed.is_empty() {
        let advice = format!("Install version {fixed} or a later one.");
        fields.insert("recommendation".to_owned(), json!(advice));
    }
    if facts.link().starts_with("http") {
        fields.insert("advisories".to_owned(), json!([{ "url": facts.link() }]));
    }
    let others: Vec<Value> =
        facts.aliases().map(|id| json!({ "id": id, "source": { "name": source } })).collect();
    if !others.is_empty() {
        fields.insert("references".to_owned(), json!(others));
    }
    for (field, seconds) in [("published", facts.published()), ("updated", facts.modified())] {
        if seconds > 0 {
            fields.insert(field.to_owned(), json!(date_text(u64::from(seconds))));
        }
    }
    if let Some((by, reason)) = said {
        let analysis = match by {
            SilencedBy::NotAffected => json!({ "state": "not_affected", "detail": reason }),
            SilencedBy::Fixed => json!({ "state": "resolved", "detail": reason }),
            SilencedBy::Accepted => {
                json!({ "state": "exploitable", "response": ["will_not_fix"], "detail": reason })
            }
        };
        fields.insert("analysis".to_owned(), analysis);
    }
    value
}
