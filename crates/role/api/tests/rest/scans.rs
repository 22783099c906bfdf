//! Scans of what runs: findings page by page, counts without what is accepted, the platform.

use axum::http::{Method, StatusCode};
use nv_model::scan::ScanSubject;
use nv_model::scan_report::{ScanReport, Vulnerability};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::node::{Reporter, workload};
use crate::registry_scan::scanner;

fn found(name: &str, severity: &str, package: &str, file: &str, score: f64) -> Vulnerability {
    Vulnerability {
        name: name.to_owned(),
        severity: severity.to_owned(),
        package_name: package.to_owned(),
        file_name: file.to_owned(),
        score_v3: score,
        ..Vulnerability::default()
    }
}

/// Two containers of one image in two namespaces, and their node, with reports.
async fn scanned() -> (Fixture, String, Reporter) {
    let (fixture, admin) = Fixture::started().await;
    let workloads = vec![workload("web-1", "web", "shop", 10), workload("web-2", "web", "bank", 11)];
    let reporter = Reporter::link(&fixture.controller, workloads).await;
    fixture.until("/v1/workload", &admin, |list| list["workloads"].as_array().unwrap().len() == 2).await;
    let vulnerabilities = vec![
        found("CVE-3", "High", "zlib", "lib/dpkg", 7.5),
        found("CVE-1", "High", "openssl", "a.jar", 8.0),
        found("CVE-1", "High", "openssl", "b.jar", 8.0),
        found("CVE-2", "Medium", "tar", "lib/dpkg", 5.0),
    ];
    let report = ScanReport { vulnerabilities, base_os: "debian:12".to_owned(), ..ScanReport::default() };
    for id in ["web-1", "web-2"] {
        let subject = ScanSubject::Workload(id.parse().unwrap());
        fixture.controller.scans().submit(subject, report.clone()).await.unwrap();
    }
    let subject = ScanSubject::Node("n1".parse().unwrap());
    fixture.controller.scans().submit(subject, report).await.unwrap();
    (fixture, admin, reporter)
}

fn rows(page: &Value) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = page["scan_data"].as_array().unwrap();
    rows.iter().map(|row| (text(row, "workload_name"), text(row, "name"))).collect()
}

#[tokio::test]
async fn findings_of_all_containers_come_page_by_page_each_once() {
    const PATH: &str = "/v1/scan/workloads/scan_report";
    let (fixture, admin, _reporter) = scanned().await;
    let mut all = Vec::new();
    let mut query = json!({"max_cve_records": 2, "cursor": {}});
    for _ in 0..10 {
        let page = fixture.done(Method::POST, PATH, &admin, query.clone()).await;
        all.extend(rows(&page));
        if page["cursor"]["cve_name"] == "" {
            break;
        }
        query["cursor"] = page["cursor"].clone();
    }
    let of = |workload: &str| {
        ["CVE-1", "CVE-1", "CVE-2", "CVE-3"].map(|name| (workload.to_owned(), name.to_owned()))
    };
    assert_eq!(all, [of("web-1"), of("web-2")].concat());

    for (query, want) in [
        (json!({}), 8),
        (json!({"filters": [{"name": "domain", "op": "eq", "value": ["shop"]}]}), 4),
        (json!({"filters": [{"name": "domain", "op": "notin", "value": ["shop", "bank"]}]}), 0),
        (json!({"severity_filter": "medium"}), 2),
        (json!({"vul_score_filter": {"score_version": "v3", "score_bottom": 7.6, "score_top": 10.0}}), 4),
    ] {
        let page = fixture.done(Method::POST, PATH, &admin, query.clone()).await;
        assert_eq!(rows(&page).len(), want, "{query}");
    }
    for wrong in [
        json!({"filters": [{"name": "domain", "op": "like", "value": ["x"]}]}),
        json!({"vul_score_filter": {"score_version": "v4"}}),
        json!({"vul_score_filter": {"score_version": "v3", "score_bottom": 9.0, "score_top": 1.0}}),
    ] {
        let answer = fixture.call(Method::POST, PATH, &admin, Some(wrong.clone())).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::BAD_REQUEST, &json!(6)), "{wrong}");
    }
    let hosts = fixture.done(Method::POST, "/v1/scan/hosts/scan_report", &admin, json!({})).await;
    assert_eq!((hosts["scan_data"][0]["host_name"].as_str(), rows(&hosts).len()), (Some("host-n1"), 4));
    let own = fixture.user(&admin, "own", "", json!({"reader": ["bank"]})).await;
    assert_eq!(rows(&fixture.done(Method::POST, PATH, &own, json!({})).await), of("web-2"));
    let none = fixture.done(Method::POST, "/v1/scan/hosts/scan_report", &own, json!({})).await;
    assert_eq!(rows(&none), []);
}

#[tokio::test]
async fn what_is_accepted_in_a_namespace_counts_no_more_there_and_counts_elsewhere() {
    let (fixture, admin, _reporter) = scanned().await;
    let entry = json!({"config": {"name": "CVE-1", "domains": ["shop"]}});
    fixture.done(Method::POST, "/v1/vulnerability/profile/default/entry", &admin, entry).await;
    for (path, at, high) in [
        ("/v1/workload/web-1", "/workload/scan_summary", 1),
        ("/v1/workload/web-2", "/workload/scan_summary", 3),
        ("/v1/host/n1", "/host/scan_summary", 3),
    ] {
        let shown = fixture.get(path, &admin).await;
        let summary = shown.pointer(at).unwrap();
        assert_eq!((&summary["high"], &summary["medium"]), (&json!(high), &json!(1)), "{path}");
    }
    let stats = fixture.done(Method::POST, "/v1/vulasset", &admin, json!({})).await;
    let node = &stats["summary"]["top_nodes"][0];
    assert_eq!((&node["id"], &node["high"], &node["medium"]), (&json!("n1"), &json!(3), &json!(1)));
    let data = fixture.done(Method::POST, "/v1/scan/workloads/scan_report", &admin, json!({})).await;
    assert_eq!(rows(&data).iter().filter(|(_, name)| name == "CVE-1").count(), 2, "of web-2 alone");
    let shown = json!({"show_accepted": true});
    let data = fixture.done(Method::POST, "/v1/scan/workloads/scan_report", &admin, shown).await;
    assert_eq!(rows(&data).iter().filter(|(_, name)| name == "CVE-1").count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_platform_is_judged_by_the_versions_of_its_components() {
    const PATH: &str = "/v1/scan/platform/platform";
    let (fixture, admin) = Fixture::started().await;
    let missing = fixture.call(Method::POST, PATH, &admin, None).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND, "nothing of a platform runs here");
    let mut server = workload("api-1", "kube-apiserver", "kube-system", 10);
    server.image = "registry.k8s.io/kube-apiserver:v1.28.3".to_owned();
    let _reporter = Reporter::link(&fixture.controller, vec![server]).await;
    let seen = |list: &Value| list["platforms"][0]["kube_version"] == "v1.28.3";
    let platforms = fixture.until("/v1/scan/platform", &admin, seen).await;
    assert_eq!(platforms["platforms"][0]["status"], "");
    let _folder = scanner(&fixture).await;
    let begun = fixture.call(Method::POST, PATH, &admin, None).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let finished = |list: &Value| list["platforms"][0]["status"] == "finished";
    fixture.until("/v1/scan/platform", &admin, finished).await;
    let report = fixture.get(PATH, &admin).await;
    let found = &report["report"]["vulnerabilities"][0];
    assert_eq!(
        (&found["package_name"], &found["package_version"], &found["file_name"]),
        (&json!("k8s.io/apiserver"), &json!("v1.28.3"), &json!("registry.k8s.io/kube-apiserver:v1.28.3")),
        "{report:#}"
    );
    let assets = fixture.get("/v1/scan/asset", &admin).await;
    assert_eq!(assets["vulnerabilities"][0]["platforms"], json!(["Kubernetes"]), "{assets:#}");
    let log = fixture.get("/v1/log/audit?f_name=Platform.Scan.Report", &admin).await;
    assert_eq!(
        (&log["audits"][0]["platform"], &log["audits"][0]["platform_version"]),
        (&json!("Kubernetes"), &json!("v1.28.3"))
    );
}
