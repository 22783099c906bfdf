//! A build's scanner that hands its result in, and registries whose certificates are of an authority of their own.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{Method, StatusCode};
use nv_role_scanner::{
    ImageChoice, ImagePlace, ImageReading, OpenedDatabase, RegistryImages, RegistryOptions, Remarks,
    Submission, read_image, submit_report,
};
use nv_telemetry::{Clock as _, SystemClock};
use serde_json::json;

use crate::fixture::{Fixture, PASSWORD};
use crate::registries::serve_over_tls;
use crate::registry_scan::{scanner, signed_image, signed_registry};
use crate::tls::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_a_builds_scanner_hands_in_is_the_report_of_its_image() {
    let server = Server::start().await;
    let fixture = &server.fixture;
    fixture.user(&server.admin, "ci", "ciops", json!({})).await;
    fixture.user(&server.admin, "eye", "reader", json!({})).await;
    let (registry, _) = signed_registry().await;
    let folder = scanner(fixture).await;
    let database = folder.path().join("cvedb");
    let place = ImagePlace {
        registry: registry.clone(),
        repository: "shop/web".to_owned(),
        reference: "1".to_owned(),
    };
    let good = Submission {
        url: server.base.clone(),
        user: "ci".to_owned(),
        password: PASSWORD.to_owned().into(),
        roots: vec![fixture.controller.authority().certificate().to_vec()],
        accept_any_certificate: false,
    };
    let submit = |to: Submission| {
        let (registry, database, place) = (registry.clone(), database.clone(), place.clone());
        tokio::task::spawn_blocking(move || {
            let options = RegistryOptions { url: registry, ..RegistryOptions::default() };
            let images = RegistryImages::new(options, "shop/web:1").unwrap();
            let image = images.image(&ImageChoice::default()).unwrap();
            let mut errors = Vec::new();
            let mut remarks = Remarks::new(&mut errors);
            let mut report = read_image(&images, &image, &ImageReading::default(), &mut remarks);
            let opened = OpenedDatabase::open(&database).unwrap();
            report.judge(opened.database().unwrap(), &mut remarks);
            let submitted = submit_report(&to, opened.database().unwrap(), &report, &place);
            submitted.map_err(|error| nv_telemetry::chain(&error))
        })
    };
    for (to, why) in [
        (Submission { roots: Vec::new(), ..good.clone() }, "log in failed"),
        (Submission { password: "wrong".to_owned().into(), ..good.clone() }, "log in failed: it answers 401"),
        (Submission { user: "eye".to_owned(), ..good.clone() }, "hand the result in failed: it answers 403"),
        (Submission { url: "https://127.0.0.1:1".to_owned(), ..good.clone() }, "log in failed"),
    ] {
        let error = submit(to).await.unwrap().unwrap_err();
        assert!(error.contains(why) && !error.contains(PASSWORD), "{why}: {error}");
    }
    submit(good).await.unwrap().unwrap();
    let subject = nv_model::scan::ScanSubject::Repository {
        registry: registry.clone(),
        repository: "shop/web".to_owned(),
        reference: "1".to_owned(),
    };
    let kept = fixture.controller.scans().status(&subject).report.unwrap();
    assert_eq!(kept.base_os, "debian:12");
    let report = fixture.controller.scans().report(kept.report).await.unwrap().unwrap();
    let found = &report.vulnerabilities[0];
    assert_eq!((found.name.as_str(), found.package_name.as_str()), ("CVE-2023-1", "libssl3"));
    assert_eq!((found.fixed_version.as_str(), found.status.as_str()), ("3.0.9-1", "fix exists"));
    assert_eq!((report.layers.len(), report.envs.as_slice()), (2, &["MODE=live".to_owned()][..]));
    assert_eq!(report.modules[0].cves[0].name, "CVE-2023-1");

    // It is shown as an image of the registry that the contract has for such.
    let images = fixture.get("/v1/scan/registry/_repo_scan/images", &server.admin).await;
    let [shown] = images["images"].as_array().unwrap().as_slice() else { panic!("{images}") };
    assert_eq!(
        json!([shown["domain"], shown["repository"], shown["tag"], shown["status"], shown["result"]]),
        json!([registry, "shop/web", "1", "finished", "succeeded"])
    );
    let id = shown["image_id"].as_str().unwrap();
    for id in [id.to_owned(), format!("sha256:{id}")] {
        let path = format!("/v1/scan/registry/_repo_scan/image/{id}");
        let report = fixture.get(&path, &server.admin).await;
        assert_eq!(report["report"]["vulnerabilities"][0]["name"], "CVE-2023-1", "{path}");
    }
    let layers = fixture.get(&format!("/v1/scan/registry/_repo_scan/layers/{id}"), &server.admin).await;
    assert_eq!(layers["report"]["layers"].as_array().unwrap().len(), 2, "{layers}");
    let none =
        fixture.call(Method::GET, "/v1/scan/registry/_repo_scan/image/none", &server.admin, None).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    // Who sees some namespaces alone does not see what is in none.
    let own = fixture.user(&server.admin, "own", "", json!({"reader": ["shop"]})).await;
    let refused = fixture.call(Method::GET, "/v1/scan/registry/_repo_scan/images", &own, None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_with_an_authority_of_its_own_is_reached_once_that_is_trusted() {
    const CONFIG: &str = "/v2/system/config";
    let (fixture, admin) = Fixture::started().await;
    let folder = tempfile::tempdir().unwrap();
    let now = SystemClock::new().now();
    let authority = nv_pki::Authority::open(folder.path(), now).unwrap();
    let certificate =
        authority.issue_server(&["localhost".to_owned()], &[IpAddr::V4(Ipv4Addr::LOCALHOST)], now).unwrap();
    let url = serve_over_tls(signed_image().0, &certificate).await;
    let _folder = scanner(&fixture).await;
    let ci = fixture.user(&admin, "ci", "ciops", json!({})).await;
    let request = json!({"request": {"registry": url, "repository": "shop/web", "tag": "1"}});
    let answer = fixture.call(Method::POST, "/v1/scan/repository", &ci, Some(request.clone())).await;
    assert!(
        answer.status != StatusCode::OK && answer.body["message"].to_string().contains("certificate"),
        "{answer:?}"
    );

    for wrong in [
        json!({"tls_cfg": {"cacerts": ["x"]}}),
        json!({"tls_cfg": {"enable_tls_verification": false}}),
        json!({"proxy_cfg": {"registry_https_proxy": {"url": "no proxy"}}}),
    ] {
        let body = json!({ "config_v2": wrong });
        let answer = fixture.call(Method::PATCH, CONFIG, &admin, Some(body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let trusted = json!({"config_v2": {"tls_cfg": {"cacerts": [authority.certificate_pem()]}}});
    fixture.done(Method::PATCH, CONFIG, &admin, trusted).await;
    let shown = fixture.get(CONFIG, &admin).await["config"]["tls_cfg"].clone();
    assert_eq!(shown["cacerts"][0], authority.certificate_pem(), "{shown}");
    let answer = fixture.call(Method::POST, "/v1/scan/repository", &ci, Some(request)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body["report"]["vulnerabilities"][0]["name"], "CVE-2023-1");

    // A proxy's password is kept and not shown.
    let proxy = json!({"url": "http://127.0.0.1:9", "username": "me", "password": "hush"});
    let change = json!({"config_v2": {"proxy_cfg": {"registry_https_proxy_status": true, "registry_https_proxy": proxy}}});
    fixture.done(Method::PATCH, CONFIG, &admin, change).await;
    let part = json!({"config_v2": {"proxy_cfg": {"registry_https_proxy_cfg": {"username": "you"}}}});
    fixture.done(Method::PATCH, CONFIG, &admin, part).await;
    let held = fixture.controller.view().config.registry_https_proxy.clone();
    assert_eq!((held.username.as_str(), held.password.as_str()), ("you", "hush"));
    assert!(!fixture.get(CONFIG, &admin).await.to_string().contains("hush"));
    let other = json!({"request": {"registry": url, "repository": "shop/web", "tag": "none"}});
    let answer = fixture.call(Method::POST, "/v1/scan/repository", &ci, Some(other.clone())).await;
    assert!(
        !answer.body["message"].to_string().contains("has no manifest"),
        "nobody is at the proxy: {answer:?}"
    );
    let mut direct = other;
    direct["request"]["ignore_proxy"] = json!(true);
    direct["request"]["tag"] = json!("none-either");
    let answer = fixture.call(Method::POST, "/v1/scan/repository", &ci, Some(direct)).await;
    assert!(answer.body["message"].to_string().contains("has no manifest"), "{answer:?}");
}
