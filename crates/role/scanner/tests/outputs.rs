//! What other programs read: each format by the rules of its own schema, VEX and accepted vulnerabilities in each.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use nv_role_scanner::*;
use serde_json::{Value, json};

const DSA: &str = "[29 Mar 2023] DSA-1-1 openssl - security update\n\t{CVE-2023-1 CVE-2023-2}\n\t[bookworm] - openssl 3.0.9-1\n\
    [30 Mar 2023] DSA-2-1 bash - security update\n\t{CVE-2023-3}\n\t[bookworm] - bash 6\n";
const RECORD: &str = r#"{"cveMetadata":{"cveId":"CVE-2023-1","state":"PUBLISHED","datePublished":"2023-03-05T00:00:00"},
    "containers":{"cna":{"descriptions":[{"lang":"en","value":"what <it> & \"is\""}],"references":[{"url":"https://example.org/1"}],
    "problemTypes":[{"descriptions":[{"cweId":"CWE-79"}]}],"metrics":[{"cvssV3_1":
    {"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":9.8}}]}}}"#;
const VEX: &str = r#"{"@context":"https://openvex.dev/ns/v0.2.0","statements":[{"vulnerability":{"name":"CVE-2023-2"},
    "products":[{"@id":"pkg:deb/debian/openssl?distro=debian-12"}],"status":"not_affected","justification":"component_not_present"}]}"#;
const PROFILE: &str = r#"{"entries":[{"id":1000,"name":"CVE-2023-3","comment":"no shell is reachable"}]}"#;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A scanned root with three findings, and what each format says of it, with the rules or without.
struct Scan {
    folder: tempfile::TempDir,
    opened: OpenedDatabase,
    report: Report,
}

impl Scan {
    fn new(ruled: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "feeds/debian-dsa/data/DSA/list", DSA);
        put(root, "feeds/vulnrichment/CVE-2023-1.json", RECORD);
        put(root, "root/etc/os-release", "ID=debian\nVERSION_ID=12\n");
        put(
            root,
            "root/var/lib/dpkg/status",
            "Package: libssl3\nStatus: install ok installed\nSource: openssl\nVersion: 3.0.8-1\n\n\
             Package: bash\nStatus: install ok installed\nVersion: 5.2-1\n",
        );
        put(root, "vex.json", VEX);
        put(root, "profile.json", PROFILE);
        let options = BuildOptions {
            feeds: Some(root.join("feeds")),
            out: root.join("cvedb"),
            ..BuildOptions::default()
        };
        let mut errors = Vec::new();
        let mut remarks = Remarks::new(&mut errors);
        build_database(&options, None, &mut Vec::new(), &mut remarks).unwrap();
        let opened = OpenedDatabase::open(&options.out).unwrap();
        let mut report = read_root(&root.join("root"), None, &mut remarks).unwrap();
        report.subject = "a root".to_owned();
        let database = opened.database().unwrap();
        report.judge(database, &mut remarks);
        if ruled {
            let rules = read_rules(&[root.join("vex.json")], &[root.join("profile.json")], &[]).unwrap();
            report.apply(database, &rules);
        }
        Self { folder, opened, report }
    }

    fn text(&self, format: &OutputFormat) -> String {
        let mut out = Vec::new();
        write_report(self.opened.database().unwrap(), &self.report, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn json(&self, format: &OutputFormat) -> Value {
        serde_json::from_str(&self.text(format)).unwrap()
    }
}

fn strings<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[test]
fn vex_and_the_profile_take_findings_out_and_say_why() {
    assert_eq!(strings(&Scan::new(false).json(&OutputFormat::Json)["vulnerabilities"], "name").len(), 3);
    let scan = Scan::new(true);
    let printed = scan.json(&OutputFormat::Json);
    assert_eq!(strings(&printed["vulnerabilities"], "name"), ["CVE-2023-1"]);
    let mut silenced = strings(&printed["silenced"], "reason");
    silenced.sort_unstable();
    assert_eq!(silenced, ["component_not_present", "no shell is reachable"]);
    assert!(scan.text(&OutputFormat::Table { commands: false, modules: false }).contains("accepted: 2"));
    fs::write(scan.folder.path().join("vex.json"), "{}").unwrap();
    let error = read_rules(&[scan.folder.path().join("vex.json")], &[], &[]).unwrap_err();
    assert!(matches!(error, ScannerError::Vex { .. }), "{error}");
}

#[test]
fn every_format_is_the_same_for_the_same_input() {
    let template = "{% for v in vulnerabilities %}{{ v.name }} {{ v.severity }}\n{% endfor %}".to_owned();
    for format in [
        OutputFormat::Table { commands: false, modules: false },
        OutputFormat::Json,
        OutputFormat::Sarif,
        OutputFormat::CycloneDx,
        OutputFormat::Spdx,
        OutputFormat::Junit,
        OutputFormat::Template(template),
    ] {
        assert_eq!(Scan::new(true).text(&format), Scan::new(true).text(&format), "{format:?}");
    }
}

#[test]
fn sarif_names_a_rule_a_place_and_a_level_for_each_result() {
    let document = Scan::new(true).json(&OutputFormat::Sarif);
    assert_eq!(document["version"], "2.1.0");
    let run = &document["runs"][0];
    let rules = strings(&run["tool"]["driver"]["rules"], "id");
    assert_eq!(rules.iter().collect::<HashSet<_>>().len(), 3, "ids of rules are unique");
    for result in run["results"].as_array().unwrap() {
        let place = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], rules[place]);
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["artifactLocation"]["uri"], "var/lib/dpkg/status");
        assert!(location["region"]["startLine"].as_u64().unwrap() >= 1);
    }
    let first = &run["tool"]["driver"]["rules"][0];
    assert_eq!(
        (&first["properties"]["security-severity"], &first["helpUri"]),
        (&json!("9.8"), &json!("https://example.org/1"))
    );
    let suppressed: Vec<&Value> = run["results"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|result| result["suppressions"].is_array())
        .collect();
    assert_eq!(suppressed.len(), 2);
    for result in suppressed {
        let suppression = &result["suppressions"][0];
        assert!(["inSource", "external"].contains(&suppression["kind"].as_str().unwrap()));
        assert!(["accepted", "underReview", "rejected"].contains(&suppression["status"].as_str().unwrap()));
    }
}

#[test]
fn cyclonedx_refers_to_its_own_components_and_speaks_in_its_schemas_words() {
    let document = Scan::new(true).json(&OutputFormat::CycloneDx);
    assert_eq!(
        (&document["bomFormat"], &document["specVersion"], &document["version"]),
        (&json!("CycloneDX"), &json!("1.6"), &json!(1))
    );
    let serial = document["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    let groups: Vec<usize> = serial.split('-').map(str::len).collect();
    assert_eq!(groups, [8, 4, 4, 4, 12]);
    assert!(serial.bytes().all(|byte| byte == b'-' || matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    let references = strings(&document["components"], "bom-ref");
    let mut all: HashSet<&str> = references.iter().copied().collect();
    assert!(all.contains("pkg:deb/debian/bash@5.2-1?distro=debian-12"), "{references:?}");
    all.insert(document["metadata"]["component"]["bom-ref"].as_str().unwrap());
    assert_eq!(all.len(), references.len() + 1, "references are unique");
    let kinds = ["application", "library", "container", "operating-system", "file"];
    for component in document["components"].as_array().unwrap() {
        assert!(kinds.contains(&component["type"].as_str().unwrap()));
    }
    let vulnerabilities = document["vulnerabilities"].as_array().unwrap();
    assert_eq!(vulnerabilities.len(), 3);
    for vulnerability in vulnerabilities {
        for affected in vulnerability["affects"].as_array().unwrap() {
            assert!(references.contains(&affected["ref"].as_str().unwrap()));
            assert!(
                ["affected", "unaffected"].contains(&affected["versions"][0]["status"].as_str().unwrap())
            );
        }
        let severities = ["critical", "high", "medium", "low", "info", "none", "unknown"];
        for rating in vulnerability["ratings"].as_array().unwrap() {
            assert!(severities.contains(&rating["severity"].as_str().unwrap()));
        }
        assert!(vulnerability["cwes"].as_array().unwrap().iter().all(|number| number.as_u64() >= Some(1)));
    }
    let states: Vec<&Value> = vulnerabilities.iter().map(|found| &found["analysis"]["state"]).collect();
    assert_eq!(states, [&Value::Null, &json!("not_affected"), &json!("exploitable")]);
    assert_eq!(vulnerabilities[0]["published"], "2023-03-05T00:00:00Z");
}

#[test]
fn what_is_written_as_cyclonedx_is_read_as_vex() {
    let scan = Scan::new(true);
    let path = scan.folder.path().join("bom.json");
    fs::write(&path, scan.text(&OutputFormat::CycloneDx)).unwrap();
    let rules = read_rules(&[path], &[], &[]).unwrap();
    let mut report = Scan::new(false).report;
    let database = scan.opened.database().unwrap();
    report.apply(database, &rules);
    let left: Vec<&str> = report.findings.iter().map(|(_, finding)| finding.id(database)).collect();
    assert_eq!(left, ["CVE-2023-3", "CVE-2023-1"], "what is only accepted is affected nevertheless");
}

#[test]
fn spdx_describes_one_subject_that_contains_every_package() {
    let document = Scan::new(true).json(&OutputFormat::Spdx);
    assert_eq!(
        (&document["spdxVersion"], &document["dataLicense"], &document["SPDXID"]),
        (&json!("SPDX-2.3"), &json!("CC0-1.0"), &json!("SPDXRef-DOCUMENT"))
    );
    assert!(document["documentNamespace"].as_str().unwrap().starts_with("https://"));
    assert!(document["creationInfo"]["creators"][0].as_str().unwrap().starts_with("Tool: "));
    assert_eq!(document["creationInfo"]["created"].as_str().unwrap().len(), "2023-03-05T00:00:00Z".len());
    let ids = strings(&document["packages"], "SPDXID");
    let unique: HashSet<&&str> = ids.iter().collect();
    assert_eq!((unique.len(), ids.len()), (3, 3));
    let word = |id: &str| {
        id.strip_prefix("SPDXRef-").unwrap().chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
    };
    assert!(ids.iter().all(|id| word(id)));
    for package in document["packages"].as_array().unwrap() {
        assert_eq!(
            (&package["downloadLocation"], &package["filesAnalyzed"]),
            (&json!("NOASSERTION"), &json!(false))
        );
    }
    let relationships = document["relationships"].as_array().unwrap();
    let contained: Vec<&Value> = relationships
        .iter()
        .filter(|found| found["relationshipType"] == "CONTAINS")
        .map(|found| &found["relatedSpdxElement"])
        .collect();
    assert_eq!(contained.len(), 2);
    let purl = &document["packages"][2]["externalRefs"][0];
    assert_eq!(
        (&purl["referenceCategory"], &purl["referenceType"]),
        (&json!("PACKAGE-MANAGER"), &json!("purl"))
    );
}

#[test]
fn junit_counts_its_failures_and_escapes_what_advisories_write() {
    let text = Scan::new(false).text(&OutputFormat::Junit);
    assert!(text.contains("tests=\"3\" failures=\"3\""), "{text}");
    assert_eq!(text.matches("<testcase ").count(), 3);
    assert!(text.contains("what &lt;it&gt; &amp; &quot;is&quot;"), "{text}");
    assert!(text.contains("name=\"[Critical] CVE-2023-1\""), "{text}");
}

#[test]
fn a_template_sees_what_json_prints_and_its_faults_are_told() {
    let scan = Scan::new(true);
    let template =
        "{{ base_os }}: {% for v in vulnerabilities %}{{ v.name }}={{ v.fixed_version }}{% endfor %}";
    assert_eq!(scan.text(&OutputFormat::Template(template.to_owned())), "debian:12: CVE-2023-1=3.0.9-1");
    for wrong in [
        "{{ nothing.here }}",
        "{% for %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
    ] {
        let database = scan.opened.database().unwrap();
        let result =
            write_report(database, &scan.report, &OutputFormat::Template(wrong.to_owned()), &mut Vec::new());
        assert!(matches!(result, Err(ScannerError::Template(_))), "{wrong}");
    }
}
