//! The scanner's own program where NeuVector's was: what is written for other programs to read.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

const SCANNER: &str = env!("CARGO_BIN_EXE_scanner");
const DSA: &str = "[29 Mar 2023] DSA-5380-1 openssl - security update\n\t{CVE-2023-1}\n\t[bullseye] - openssl 1.1.1n-0\n\t[bookworm] - openssl 3.0.9-1\n";
const RECORD: &str = r#"{"cveMetadata":{"cveId":"CVE-2023-1","state":"PUBLISHED","datePublished":"2023-03-05T00:00:00"},
    "containers":{"cna":{"descriptions":[{"lang":"en","value":"what it is"}],"metrics":[{"cvssV3_1":
    {"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":9.8}}]}}}"#;
const STATUS: &str = "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.8-1\n\n";

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn scanner(arguments: &[&str]) -> Output {
    Command::new(SCANNER).args(arguments).output().unwrap()
}

/// A folder with the database `cvedb`.
fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "feeds/debian-dsa/data/DSA/list", DSA);
    put(folder.path(), "feeds/vulnrichment/2023/CVE-2023-1.json", RECORD);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let built = scanner(&["db", "build", "--feeds", &path("feeds"), "--out", &path("cvedb")]);
    assert!(built.status.success(), "{built:?}");
    folder
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn all_that_a_database_knows_is_written_to_a_file() {
    let folder = desk();
    let (from, to) = (folder.path().display().to_string(), folder.path().join("all.json"));
    // With the slash behind it and flags besides, as it is called where NeuVector's was.
    let written = scanner(&["-d", &format!("{from}/"), "-x", "-o", &to.display().to_string()]);
    assert!(written.status.success() && written.stdout.is_empty(), "{written:?}");
    let all = read(&to);
    assert_eq!(all["Version"], "3.350");
    assert_eq!(all["Vulnerabilities"].as_array().unwrap().len(), 1, "{all}");
    let entry = |version: &str, fixed: &str| {
        json!({"OSApp": "Debian", "OSAppVersion": version, "PublishedDate": "2023-03-05", "LastModifiedDate": "",
            "Packages": [{"Package": "openssl", "FixedVersion": fixed}]})
    };
    let want = json!({"Name": "CVE-2023-1", "Severity": "Critical", "Score": 0.0, "Vectors": "", "ScoreV3": 9.8,
        "VectorsV3": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        "Entries": [entry("11", "1.1.1n-0"), entry("12", "3.0.9-1")]});
    assert_eq!(all["Vulnerabilities"][0], want);

    let elsewhere = folder.path().join("none").display().to_string();
    let none = folder.path().join("none.json");
    let failed = scanner(&["-d", &elsewhere, "-o", &none.display().to_string()]);
    assert!(!failed.status.success() && !failed.stderr.is_empty() && !none.exists(), "{failed:?}");
}

#[test]
fn a_result_is_written_with_its_report_or_with_why_there_is_none() {
    let folder = desk();
    let path = |name: &str| folder.path().join(name).display().to_string();
    put(folder.path(), "root/etc/os-release", "ID=debian\nVERSION_ID=12\n");
    put(folder.path(), "root/var/lib/dpkg/status", STATUS);
    let result = path("out/scan_result.json");
    let scanned = scanner(&["fs", &path("root"), "--db", &path("cvedb"), "--result-file", &result]);
    assert!(scanned.status.success(), "{scanned:?}");
    let found = read(Path::new(&result));
    assert_eq!(found["error_message"], "");
    let report = &found["report"];
    assert_eq!((&report["base_os"], &report["cvedb_version"]), (&json!("debian:12"), &json!("3.350")));
    assert!(report["cvedb_create_time"].as_str().unwrap().ends_with('Z'), "{report}");
    let vulnerability = &report["vulnerabilities"][0];
    assert_eq!(
        (&vulnerability["name"], &vulnerability["severity"]),
        (&json!("CVE-2023-1"), &json!("Critical"))
    );

    // For those to whom high is the worst, as the flags of NeuVector's scanner mean without `-cap_critical`.
    let arguments = ["fs", &path("root"), "--db", &path("cvedb"), "--result-file", &result, "--no-critical"];
    let scanned = scanner(&[&arguments[..], &["--fail-on", "high"]].concat());
    assert_eq!(scanned.status.code(), Some(3), "{scanned:?}");
    assert_eq!(read(Path::new(&result))["report"]["vulnerabilities"][0]["severity"], "High");
    let never = scanner(&[&arguments[..], &["--fail-on", "critical"]].concat());
    assert!(
        !never.status.success() && String::from_utf8_lossy(&never.stderr).contains("--fail-on high"),
        "{never:?}"
    );

    // The old result does not stay where there is none.
    let failed = scanner(&["image", &path("no-image.tar"), "--db", &path("cvedb"), "--result-file", &result]);
    assert!(!failed.status.success(), "{failed:?}");
    let found = read(Path::new(&result));
    assert_eq!(found["report"], Value::Null);
    assert!(found["error_message"].as_str().unwrap().contains("no-image.tar"), "{found}");
}
