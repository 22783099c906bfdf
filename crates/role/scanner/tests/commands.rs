//! From feeds and root file systems on disk to what a user reads.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]
use std::fs;
use std::path::{Path, PathBuf};

use nv_role_scanner::*;
use nv_vulnerability::Format;
use serde_json::Value;

const DSA: &str =
    "[29 Mar 2023] DSA-5380-1 openssl - security update\n\t{CVE-2023-1}\n\t[bookworm] - openssl 3.0.9-1\n";
const RECORD: &str = r#"{"cveMetadata":{"cveId":"CVE-2023-1","state":"PUBLISHED","datePublished":"2023-03-05T00:00:00"},
    "containers":{"cna":{"descriptions":[{"lang":"en","value":"what it is"}],"metrics":[{"cvssV3_1":
    {"vectorString":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H","baseScore":9.8}}]}}}"#;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A folder with feeds, one of them damaged in one file, and the database built of them.
fn database(folder: &Path) -> (PathBuf, String, String) {
    put(folder, "feeds/debian-dsa/data/DSA/list", DSA);
    put(folder, "feeds/vulnrichment/2023/CVE-2023-1.json", RECORD);
    put(folder, "feeds/vulnrichment/2023/CVE-2023-2.json", "{");
    put(folder, "feeds/pictures/a.png", "");
    let out = folder.join("cvedb");
    let options =
        BuildOptions { feeds: Some(folder.join("feeds")), out: out.clone(), ..BuildOptions::default() };
    let (mut text, mut errors) = (Vec::new(), Vec::new());
    build_database(&options, None, &mut text, &mut Remarks::new(&mut errors)).unwrap();
    (out, String::from_utf8(text).unwrap(), String::from_utf8(errors).unwrap())
}

#[test]
fn a_database_is_built_of_every_feed_and_what_is_none_or_damaged_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (out, text, errors) = database(folder.path());
    assert!(text.contains("1 rows of 1 packages"), "{text}");
    assert!(errors.contains("pictures is no feed"), "{errors}");
    assert!(errors.contains("CVE-2023-2.json"), "{errors}");
    let first = fs::read(&out).unwrap();
    database(folder.path());
    assert!(first == fs::read(&out).unwrap(), "built twice, the bytes are the same");
    let mut shown = Vec::new();
    print_version(folder.path(), &mut shown).unwrap();
    // The newest day in the feeds, counted from 2014.
    assert_eq!(String::from_utf8(shown).unwrap(), "CVE database version: 3.350\n");
    assert!(print_version(&folder.path().join("feeds"), &mut Vec::new()).is_err());
}

#[test]
fn a_changed_byte_is_refused_and_a_shrunken_database_replaces_none() {
    let folder = tempfile::tempdir().unwrap();
    let (out, ..) = database(folder.path());
    verify_database(&out, None, &mut Vec::new()).unwrap();
    let mut bytes = fs::read(&out).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let changed = folder.path().join("changed");
    fs::write(&changed, bytes).unwrap();
    assert!(matches!(verify_database(&changed, None, &mut Vec::new()), Err(ScannerError::Database { .. })));

    let many: String = (0..9).map(|n| DSA.replace("CVE-2023-1", &format!("CVE-2022-{n}"))).collect();
    put(folder.path(), "feeds/debian-dsa/data/DSA/list", &many);
    let options = BuildOptions {
        feeds: Some(folder.path().join("feeds")),
        out: out.clone(),
        ..BuildOptions::default()
    };
    let mut errors = Vec::new();
    build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut errors)).unwrap();
    put(folder.path(), "feeds/debian-dsa/data/DSA/list", DSA);
    let refused = build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut errors));
    assert!(matches!(refused, Err(ScannerError::Shrunk { rows: 1, before: 9 })), "{refused:?}");
    let options = BuildOptions { allow_shrink: true, ..options };
    build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut errors)).unwrap();
}

#[test]
fn a_root_file_system_gives_vulnerabilities_in_the_contracts_shape() {
    let folder = tempfile::tempdir().unwrap();
    let (out, ..) = database(folder.path());
    let root = folder.path().join("root");
    put(&root, "etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
    put(
        &root,
        "var/lib/dpkg/status",
        "Package: libssl3\nStatus: install ok installed\nSource: openssl\nVersion: 3.0.8-1\n\nPackage: bad\nStatus: install ok installed\n",
    );
    put(&root, "proc/var/lib/dpkg/status", "Package: not looked at\n");
    let opened = OpenedDatabase::open(&out).unwrap();
    let database = opened.database().unwrap();
    let mut errors = Vec::new();
    let mut remarks = Remarks::new(&mut errors);
    let mut scanned = read_root(&root, None, &mut remarks).unwrap();
    scanned.judge(database, &mut remarks);
    let mut json = Vec::new();
    write_report(database, &scanned, &OutputFormat::Json, &mut json).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    let found = &report["vulnerabilities"][0];
    for (field, want) in [
        ("name", "CVE-2023-1"),
        ("severity", "Critical"),
        ("package_name", "libssl3"),
        ("package_version", "3.0.8-1"),
        ("fixed_version", "3.0.9-1"),
        ("file_name", "var/lib/dpkg/status"),
        ("description", "what it is"),
    ] {
        assert_eq!(found[field], want, "{field}");
    }
    assert_eq!((found["score_v3"].as_f64(), report["modules"].as_array().unwrap().len()), (Some(9.8), 1));
    let mut table = Vec::new();
    write_report(database, &scanned, &OutputFormat::Table { commands: false, modules: false }, &mut table)
        .unwrap();
    let table = String::from_utf8(table).unwrap();
    assert!(table.contains("Vulnerabilities: 1, CRITICAL: 1"), "{table}");
    assert!(table.contains("File: var/lib/dpkg/status\nPackage  Vulnerability"), "{table}");
    assert!(String::from_utf8(errors).unwrap().contains("no package name or no version"));
}

#[test]
fn a_list_answers_with_a_line_a_finding_and_a_bad_line_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (out, ..) = database(folder.path());
    let list = concat!(
        "{\"os\":\"debian\",\"release\":\"12\",\"name\":\"libssl3\",\"version\":\"3.0.8-1\",\"source\":\"openssl\"}\n",
        "not JSON\n",
        "{\"purl\":\"pkg:deb/debian/libssl3@3.0.8-1?upstream=openssl&distro=debian-12\"}\n",
        "{\"os\":\"debian\",\"release\":\"12\",\"name\":\"openssl\",\"version\":\"3.0.9-1\"}\n",
        "{\"os\":\"plan9\",\"release\":\"4\",\"name\":\"openssl\",\"version\":\"1\"}\n",
    );
    let opened = OpenedDatabase::open(&out).unwrap();
    let (mut text, mut errors) = (Vec::new(), Vec::new());
    let mut remarks = Remarks::new(&mut errors);
    match_list(opened.database().unwrap(), &mut list.as_bytes(), &mut text, &mut remarks).unwrap();
    let lines: Vec<Value> =
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let want = serde_json::json!({"id":"CVE-2023-1","aliases":[],"name":"libssl3","version":"3.0.8-1",
        "fixed_version":"3.0.9-1","status":"fix exists","severity":"critical","source":"debian-dsa"});
    assert_eq!(lines, [want.clone(), want]);
    let errors = String::from_utf8(errors).unwrap();
    assert!(errors.contains("line 2") && errors.contains("line 5"), "{errors}");
    let mut known = Vec::new();
    lookup(&out, "CVE-2023-1", &mut known).unwrap();
    let known: Value = serde_json::from_slice(&known).unwrap();
    assert_eq!(known["affected"][0]["package"], "openssl");
    assert!(lookup(&out, "CVE-1999-1", &mut Vec::new()).is_err());
}

#[test]
fn one_walk_finds_packages_of_languages_secrets_and_files_that_run_as_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    put(&root, "usr/lib/os-release", "ID=alpine\nVERSION_ID=3.20.3\n");
    put(&root, "etc/redhat-release", "CentOS release 6.10 (Final)\n");
    put(&root, "app/node_modules/@a/b/package.json", r#"{"name":"@a/b","version":"1.0.0"}"#);
    put(&root, "app/requirements.txt", "flask==2.0.1\n");
    put(&root, "app/Cargo.lock", "not TOML");
    put(&root, "bin/su", "x");
    fs::set_permissions(root.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::symlink("..", root.join("app/up")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("app/out")).unwrap();
    put(&root, "app/.env", "A=b\nDB_PASSWORD=h7Gk2pQz9wLm\n");
    put(&root, "usr/share/doc/.env", "DB_PASSWORD=h7Gk2pQz9wLm\n");
    let rules = SecretRules::built_in().unwrap();
    let mut errors = Vec::new();
    let mut remarks = Remarks::new(&mut errors);
    let report = read_root(&root, Some(&rules), &mut remarks).unwrap();
    let packages: Vec<_> =
        report.packages.iter().map(|p| (&*p.file, &*p.package.name, &*p.package.version)).collect();
    assert_eq!(
        packages,
        [("app/node_modules/@a/b/package.json", "@a/b", "1.0.0"), ("app/requirements.txt", "flask", "2.0.1"),]
    );
    assert_eq!(report.distribution.unwrap().id, "alpine");
    assert_eq!(report.set_ids, [SetId { file: "bin/su".to_owned(), mode: 0o4755, layer: None }]);
    let secrets: Vec<_> = report.secrets.iter().map(|s| (&*s.file, s.line, &*s.evidence)).collect();
    assert_eq!(secrets, [("app/.env", 2, "h7Gk****")]);
    assert!(String::from_utf8(errors).unwrap().contains("app/Cargo.lock"));
}

#[test]
fn a_bill_of_materials_is_judged_as_the_distribution_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let (out, ..) = database(folder.path());
    let purl = "pkg:deb/debian/libssl3@3.0.8-1?upstream=openssl";
    let bill = format!(
        r#"{{"bomFormat":"CycloneDX","components":[{{"type":"operating-system","name":"debian","version":"12"}},
        {{"name":"libssl3","purl":"{purl}"}},{{"name":"twice","purl":"{purl}"}},{{"name":"bad","purl":"x"}}]}}"#
    );
    put(folder.path(), "bill.json", &bill);
    let opened = OpenedDatabase::open(&out).unwrap();
    let mut errors = Vec::new();
    let mut remarks = Remarks::new(&mut errors);
    let mut report = read_sbom(&folder.path().join("bill.json"), &mut remarks).unwrap();
    let database = opened.database().unwrap();
    report.judge(database, &mut remarks);
    let found: Vec<_> = report.findings.iter().map(|(place, found)| (*place, found.id(database))).collect();
    assert_eq!(found, [(0, "CVE-2023-1")]);
    assert!(String::from_utf8(errors).unwrap().contains("is no package URL"));
    put(folder.path(), "other.json", "{}");
    let mut errors = Vec::new();
    assert!(read_sbom(&folder.path().join("other.json"), &mut Remarks::new(&mut errors)).is_err());
}

/// A second database: one vulnerability more, and a later date.
fn later(folder: &Path) -> PathBuf {
    let feeds = folder.join("later");
    put(&feeds, "debian-dsa/data/DSA/list", &format!("{DSA}{}", DSA.replace("CVE-2023-1", "CVE-2023-9")));
    put(&feeds, "vulnrichment/2023/CVE-2023-1.json", &RECORD.replace("2023-03-05", "2023-04-05"));
    let out = folder.join("later.db");
    let options = BuildOptions { feeds: Some(feeds), out: out.clone(), ..BuildOptions::default() };
    build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
    out
}

#[test]
fn a_database_travels_compressed_or_as_a_delta_and_arrives_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (old, ..) = database(folder.path());
    let new = later(folder.path());
    let (packed, delta) = (folder.path().join("packed"), folder.path().join("delta"));
    export_database(&new, &packed, None, &mut Vec::new()).unwrap();
    export_database(&new, &delta, Some(&old), &mut Vec::new()).unwrap();
    let mut shown = Vec::new();
    print_status(&packed, &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("compressed") && shown.contains("version          3.381"), "{shown}");
    let options = ImportOptions::default();
    for from in [&packed, &delta, &new] {
        let into = folder.path().join("place");
        fs::copy(&old, &into).unwrap();
        import_database(from, &into, &options, &mut Vec::new()).unwrap();
        assert!(fs::read(&into).unwrap() == fs::read(&new).unwrap(), "{}", from.display());
        let mut again = Vec::new();
        import_database(&packed, &into, &options, &mut again).unwrap();
        assert!(String::from_utf8(again).unwrap().contains("already"));
        // The delta's base is gone.
        assert!(matches!(
            import_database(&delta, &into, &options, &mut Vec::new()),
            Err(ScannerError::Delta { .. })
        ));
    }
    let nowhere = folder.path().join("nowhere");
    assert!(matches!(
        import_database(&delta, &nowhere, &options, &mut Vec::new()),
        Err(ScannerError::NoBase { .. })
    ));
    let mut changes = Vec::new();
    diff_databases(&old, &new, &mut changes).unwrap();
    assert!(String::from_utf8(changes).unwrap().starts_with("+ debian:12 openssl CVE-2023-9\n"));
}

#[test]
fn a_database_that_is_older_of_another_signer_or_from_the_future_is_not_put_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let (old, ..) = database(folder.path());
    let new = later(folder.path());
    let place = folder.path().join("place");
    fs::copy(&new, &place).unwrap();
    let mut options = ImportOptions::default();
    let refused = import_database(&old, &place, &options, &mut Vec::new());
    assert!(matches!(refused, Err(ScannerError::Downgrade { .. })), "{refused:?}");
    assert!(fs::read(&place).unwrap() == fs::read(&new).unwrap());
    options.allow_downgrade = true;
    import_database(&old, &place, &options, &mut Vec::new()).unwrap();
    options.trusted = Some(SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes());
    assert!(matches!(
        import_database(&new, &place, &options, &mut Vec::new()),
        Err(ScannerError::Database { .. })
    ));
    let feeds = folder.path().join("future");
    put(&feeds, "debian-dsa/data/DSA/list", DSA);
    put(&feeds, "vulnrichment/CVE-2023-1.json", &RECORD.replace("2023-03-05", "2099-03-05"));
    let ahead = folder.path().join("ahead");
    let build = BuildOptions { feeds: Some(feeds), out: ahead.clone(), ..BuildOptions::default() };
    build_database(&build, None, &mut Vec::new(), &mut Remarks::new(&mut Vec::new())).unwrap();
    let refused = import_database(&ahead, &place, &ImportOptions::default(), &mut Vec::new());
    assert!(matches!(refused, Err(ScannerError::Future { .. })), "{refused:?}");
    assert!(matches!(verify_database(&ahead, None, &mut Vec::new()), Err(ScannerError::Future { .. })));
}

#[test]
fn a_program_without_a_package_is_found_and_one_of_the_distributions_is_not_told_twice() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    put(
        &root,
        "var/lib/dpkg/status",
        "Package: nginx-core\nStatus: install ok installed\nVersion: 1.22.1-9\n",
    );
    for path in ["usr/sbin/nginx", "opt/nginx/sbin/nginx", "usr/local/bin/openssl"] {
        put(&root, path, "\0nginx version: nginx/1.25.3\0 OpenSSL 3.0.11 19 Sep 2023\0");
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut errors = Vec::new();
    let report = read_root(&root, None, &mut Remarks::new(&mut errors)).unwrap();
    let packages: Vec<_> =
        report.packages.iter().map(|p| (&*p.file, &*p.package.name, &*p.package.version)).collect();
    assert_eq!(
        packages,
        [
            ("opt/nginx/sbin/nginx", "nginx", "1.25.3"),
            ("usr/local/bin/openssl", "openssl", "3.0.11"),
            ("var/lib/dpkg/status", "nginx-core", "1.22.1-9"),
        ]
    );
}

#[test]
fn what_a_package_of_the_distribution_holds_is_judged_by_the_distributions_advisories_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    put(
        &root,
        "var/lib/dpkg/status",
        "Package: python3-django\nStatus: install ok installed\nVersion: 3:3.2\n",
    );
    put(&root, "var/lib/dpkg/info/python3-django.list", "/.\n/lib/python3/Django-3.2.egg-info/PKG-INFO\n");
    put(&root, "usr/lib/python3/Django-3.2.egg-info/PKG-INFO", "Name: Django\nVersion: 3.2\n");
    put(&root, "opt/x/Django-3.2.egg-info/PKG-INFO", "Name: Django\nVersion: 3.2\n");
    put(folder.path(), "feeds/debian-dsa/data/DSA/list", DSA);
    let osv = r#"{"id":"PYSEC-1","aliases":["CVE-2021-9"],"affected":[{"package":{"ecosystem":"PyPI","name":"django"},
        "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.2.1"}]}]}]}"#;
    put(folder.path(), "feeds/pypa/PYSEC-1.json", osv);
    let out = folder.path().join("cvedb");
    let options = BuildOptions {
        feeds: Some(folder.path().join("feeds")),
        out: out.clone(),
        ..BuildOptions::default()
    };
    let mut errors = Vec::new();
    let mut remarks = Remarks::new(&mut errors);
    build_database(&options, None, &mut Vec::new(), &mut remarks).unwrap();
    let opened = OpenedDatabase::open(&out).unwrap();
    for (release, want) in [("12", 1), ("13", 2)] {
        put(&root, "etc/os-release", &format!("ID=debian\nVERSION_ID={release}\n"));
        let mut report = read_root(&root, None, &mut remarks).unwrap();
        report.judge(opened.database().unwrap(), &mut remarks);
        // A release that the database does not know leaves the language's advisories as all there is.
        assert_eq!(report.findings.len(), want, "{release}: {:?}", report.findings);
        assert_eq!(report.packages.len(), 3);
    }
}

/// A zip archive of one empty file, stored: a jar that says nothing of itself.
fn jar(entry: &str) -> Vec<u8> {
    let common =
        [&[10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8], &[entry.len() as u8, 0, 0, 0]].concat();
    let local = [b"PK\x03\x04", &common[..], entry.as_bytes()].concat();
    let central = [b"PK\x01\x02\x0a\0", &common[..], &[0; 14], entry.as_bytes()].concat();
    let sizes = [(central.len() as u32).to_le_bytes(), (local.len() as u32).to_le_bytes()].concat();
    [&local[..], &central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &sizes, &[0, 0]].concat()
}

#[test]
fn a_jar_that_says_nothing_of_itself_is_known_by_an_index_of_the_hashes_of_archives() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let osv = r#"{"id":"GHSA-1","aliases":["CVE-2021-44228"],"affected":[{"package":{"ecosystem":"Maven",
        "name":"org.apache.logging.log4j:log4j-core"},"ranges":[{"type":"ECOSYSTEM","events":
        [{"introduced":"2.0"},{"fixed":"2.15.0"}]}]}]}"#;
    put(folder.path(), "feeds/ghsa/GHSA-1.json", osv);
    for name in ["app.jar", "log4j-core-2.13.3.jar", "other.jar"] {
        fs::create_dir_all(at("root/opt")).unwrap();
        fs::write(at("root/opt").join(name), jar(&format!("{name}.class"))).unwrap();
    }
    let read = || {
        let mut errors = Vec::new();
        let report = read_root(&at("root"), None, &mut Remarks::new(&mut errors)).unwrap();
        assert_eq!(String::from_utf8(errors).unwrap(), "");
        report
    };
    let hash = read().packages.into_iter().find(|found| found.file == "opt/app.jar").unwrap().package.sha1;
    let index = format!(
        "{} org.apache.logging.log4j:log4j-core:2.14.1\n{} org.apache.logging.log4j:log4j-core:2.13.3\n{} a:b:1\n",
        hash.unwrap(),
        "0".repeat(40),
        "1".repeat(40)
    );
    put(folder.path(), "index.txt", &index);
    let found = |single: Vec<(Format, PathBuf)>, out: &str| {
        let options =
            BuildOptions { feeds: Some(at("feeds")), single, out: at(out), ..BuildOptions::default() };
        let mut said = Vec::new();
        build_database(&options, None, &mut said, &mut Remarks::new(&mut Vec::new())).unwrap();
        let opened = OpenedDatabase::open(&at(out)).unwrap();
        let mut report = read();
        let database = opened.database().unwrap();
        report.judge(database, &mut Remarks::new(&mut Vec::new()));
        let mut packages = report.packages.iter();
        let other = packages.find(|found| found.file == "opt/other.jar").unwrap();
        assert_eq!((&*other.package.name, &*other.package.version), ("other", ""));
        let vulnerable = report.findings.iter().map(|(place, finding)| {
            let installed = &report.packages[*place];
            (installed.file.clone(), installed.package.version.to_string(), finding.id(database).to_owned())
        });
        (vulnerable.collect::<Vec<_>>(), String::from_utf8(said).unwrap())
    };
    assert_eq!(found(Vec::new(), "without").0, []);
    let (vulnerable, said) = found(vec![(Format::JavaIndex, at("index.txt"))], "with");
    let log4j =
        |file: &str, version: &str| (file.to_owned(), version.to_owned(), "CVE-2021-44228".to_owned());
    assert_eq!(vulnerable, [log4j("opt/app.jar", "2.14.1"), log4j("opt/log4j-core-2.13.3.jar", "2.13.3")]);
    assert!(said.contains("2 archives"), "{said}");
    // A list may name an archive by its hash alone.
    let opened = OpenedDatabase::open(&at("with")).unwrap();
    let list = format!("{{\"purl\":\"pkg:maven/app?checksum=sha1:{}\"}}\n", hash.unwrap());
    let mut line = Vec::new();
    let mut remarks = Vec::new();
    match_list(opened.database().unwrap(), &mut list.as_bytes(), &mut line, &mut Remarks::new(&mut remarks))
        .unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(
        (&line["name"], &line["version"]),
        (&"org.apache.logging.log4j:log4j-core".into(), &"2.14.1".into())
    );
    let mut difference = Vec::new();
    diff_databases(&at("without"), &at("with"), &mut difference).unwrap();
    let difference = String::from_utf8(difference).unwrap();
    assert!(difference.contains("+ java-archive 0000"), "{difference}");
}
