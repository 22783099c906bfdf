//! SARIF 2.1.0 (OASIS), as code hosts take it.

use std::collections::BTreeMap;

use nv_vulnerability::{Database, Finding, Severity};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::database::tenths;
use crate::report::{Installed, Report};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// The level of a result.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Negligible | Severity::Unknown => "note",
    }
}

/// The number by which code hosts order: the score, or one of the middle of its severity where nobody gives a score.
fn security_severity(database: Database<'_>, finding: &Finding) -> String {
    let facts = database.facts(finding.facts);
    let score = [4, 3, 2].into_iter().find_map(|version| facts.score(version)).map(tenths);
    let score = score.unwrap_or(match finding.severity {
        Severity::Critical => 9.5,
        Severity::High => 8.0,
        Severity::Medium => 5.5,
        Severity::Low => 2.0,
        Severity::Negligible | Severity::Unknown => 0.0,
    });
    format!("{score:.1}")
}

/// A path as a reference in a URI.
fn uri(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b'/' | b'+' | b'@' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

fn location(file: &str, line: usize) -> Value {
    let artifact = json!({ "uri": uri(file), "uriBaseId": "ROOT" });
    json!([{ "physicalLocation": { "artifactLocation": artifact, "region": { "startLine": line.max(1) } } }])
}

fn fingerprint(parts: &[&str]) -> Value {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let text: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    json!({ "finding/v1": text })
}

/// A vulnerability as a rule.
fn rule(database: Database<'_>, finding: &Finding) -> Value {
    let facts = database.facts(finding.facts);
    let description = facts.description();
    let short = description.lines().next().unwrap_or_default();
    let short: String =
        if short.is_empty() { facts.id().to_owned() } else { short.chars().take(200).collect() };
    let full = if description.is_empty() { facts.id() } else { description.as_str() };
    let mut tags =
        vec!["security".to_owned(), "vulnerability".to_owned(), finding.severity.name().to_owned()];
    tags.extend(facts.cwes().map(|number| format!("external/cwe/cwe-{number:03}")));
    let mut rule = json!({
        "id": facts.id(),
        "shortDescription": { "text": short },
        "fullDescription": { "text": full },
        "defaultConfiguration": { "level": level(finding.severity) },
        "properties": { "tags": tags, "precision": "very-high", "security-severity": security_severity(database, finding) },
    });
    if facts.link().starts_with("https://")
        && let Some(fields) = rule.as_object_mut()
    {
        fields.insert("helpUri".to_owned(), json!(facts.link()));
    }
    rule
}

pub(super) fn document(database: Database<'_>, report: &Report) -> Value {
    let mut rules: BTreeMap<String, Value> = BTreeMap::new();
    let silenced = report.silenced.iter().map(|silenced| (&silenced.package, &silenced.finding));
    for (_, finding) in report.findings.iter().map(|(place, finding)| (place, finding)).chain(silenced) {
        rules.entry(finding.id(database).to_owned()).or_insert_with(|| rule(database, finding));
    }
    for secret in &report.secrets {
        rules.entry(format!("secret/{}", secret.rule)).or_insert_with(|| {
            json!({
                "id": format!("secret/{}", secret.rule),
                "shortDescription": { "text": secret.description },
                "defaultConfiguration": { "level": "error" },
                "properties": { "tags": ["security", "secret"] },
            })
        });
    }
    let place_of: BTreeMap<String, usize> = rules.keys().cloned().zip(0..).collect();
    let index = |id: &str| place_of.get(id).copied().unwrap_or_default();
    let result = |installed: &Installed, finding: &Finding| {
        let package = &installed.package;
        let id = finding.id(database);
        let remedy = match finding.fixed(database) {
            "" => format!("({})", finding.status.name()),
            fixed => format!("(fixed in {fixed})"),
        };
        json!({
            "ruleId": id,
            "ruleIndex": index(id),
            "level": level(finding.severity),
            "message": { "text": format!("{} {} has {id} {remedy}", package.name, package.version) },
            "locations": location(&installed.file, 1),
            "partialFingerprints": fingerprint(&[id, &installed.file, &package.name, &package.version]),
        })
    };
    let mut results: Vec<Value> = report
        .findings
        .iter()
        .filter_map(|(place, finding)| {
            report.packages.get(*place).map(|installed| result(installed, finding))
        })
        .collect();
    for silenced in &report.silenced {
        let Some(installed) = report.packages.get(silenced.package) else { continue };
        let mut value = result(installed, &silenced.finding);
        if let Some(fields) = value.as_object_mut() {
            let why = format!("{}: {}", silenced.by.name(), silenced.reason);
            let suppression = json!([{ "kind": "external", "status": "accepted", "justification": why }]);
            fields.insert("suppressions".to_owned(), suppression);
        }
        results.push(value);
    }
    for secret in &report.secrets {
        let id = format!("secret/{}", secret.rule);
        results.push(json!({
            "ruleId": id,
            "ruleIndex": index(&id),
            "level": "error",
            "message": { "text": format!("{}: {}", secret.description, secret.evidence) },
            "locations": location(&secret.file, secret.line),
            "partialFingerprints": fingerprint(&[&id, &secret.file, &secret.line.to_string()]),
        }));
    }
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "NeuVector scanner",
                "version": nv_telemetry::VERSION,
                "informationUri": "https://github.com/neuvector/neuvector",
                "rules": rules.into_values().collect::<Vec<_>>(),
            } },
            "originalUriBaseIds": { "ROOT": { "description": { "text": report.subject } } },
            "columnKind": "utf16CodeUnits",
            "results": results,
        }],
    })
}
