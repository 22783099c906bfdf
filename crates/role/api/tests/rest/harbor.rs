//! Harbor's pluggable scanner API, as its specification 1.2 has it: what is served, a scan, and each form of its report.

use axum::http::Method;
use nv_role_api::harbor::{Harbor, HarborConfig};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::registry_scan::{scanner, signed_registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SECURITY: &str = "application/vnd.security.vulnerability.report; version=1.1";
const HARBOR: &str = "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0";
const RAW: &str = "application/vnd.scanner.adapter.vuln.report.raw";
const SBOM: &str = "application/vnd.security.sbom.report+json; version=1.0";

/// Harbor's side.
struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    async fn start(fixture: &Fixture) -> Self {
        let config = HarborConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            user: "harbor".to_owned(),
            password: "Harbor-Password-1".to_owned().into(),
        };
        let harbor = Harbor::bind(config, fixture.controller.clone(), fixture.clock.clone()).await.unwrap();
        let base = format!("http://{}/endpoint/api/v1", harbor.address());
        tokio::spawn(harbor.run(fixture.shutdown.clone()));
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { base, http }
    }
    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}/{path}", self.base)).basic_auth("harbor", Some("Harbor-Password-1"))
    }
    async fn scan(&self, body: &Value) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}/scan", self.base));
        let request = request
            .basic_auth("harbor", Some("Harbor-Password-1"))
            .header("content-type", "application/vnd.scanner.adapter.scan.request+json; version=1.1")
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }
    /// Asks for a report as often as the adapter says that it is not ready.
    async fn report(&self, id: &str, accept: &str, query: &str) -> Response {
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < 2_000, "the scan never ended");
            let request = self.get(&format!("scan/{id}/report{query}")).header("accept", accept);
            let answer = request.send().await.unwrap();
            if answer.status() != StatusCode::FOUND {
                return answer;
            }
            assert_eq!(answer.headers()["refresh-after"], "10");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

fn kind(answer: &Response) -> &str {
    answer.headers()["content-type"].to_str().unwrap()
}

fn order(registry: &str, digest: &str) -> Value {
    json!({
        "registry": {"url": registry, "authorization": "Basic cm9ib3Q6c2VjcmV0"},
        "artifact": {"repository": "shop/web", "digest": digest, "tag": "1", "mime_type": MANIFEST},
        "enabled_capabilities": [{"type": "vulnerability"}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harbor_has_an_image_scanned_and_gets_its_report_in_each_form() {
    let (fixture, admin) = Fixture::started().await;
    let harbor = Client::start(&fixture).await;
    let (registry, _) = signed_registry().await;
    let manifest = reqwest::get(format!("{registry}/v2/shop/web/manifests/1")).await.unwrap();
    let digest = crate::registries::digest(&manifest.bytes().await.unwrap());

    let metadata = harbor.get("metadata").send().await.unwrap();
    assert_eq!(kind(&metadata), "application/vnd.scanner.adapter.metadata+json; version=1.1");
    let metadata: Value = metadata.json().await.unwrap();
    let capabilities = &metadata["capabilities"];
    assert_eq!(
        (&capabilities[0]["type"], &capabilities[1]["type"]),
        (&json!("vulnerability"), &json!("sbom"))
    );
    assert_eq!(capabilities[0]["produces_mime_types"], json!([SECURITY, HARBOR, RAW]));

    // Not ready while no scanner is there: Harbor is told when to ask again.
    let (status, accepted) = harbor.scan(&order(&registry, &digest)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{accepted}");
    let id = accepted["id"].as_str().unwrap();
    let early = harbor.get(&format!("scan/{id}/report")).send().await.unwrap();
    assert_eq!(
        (early.status(), &early.headers()["refresh-after"]),
        (StatusCode::FOUND, &"10".parse().unwrap())
    );
    let _folder = scanner(&fixture).await;

    for media in [SECURITY, HARBOR] {
        let report = harbor.report(id, media, "").await;
        assert_eq!((report.status(), kind(&report)), (StatusCode::OK, media));
        let report: Value = report.json().await.unwrap();
        assert_eq!(report["artifact"]["digest"], digest.as_str());
        assert_eq!(report["scanner"]["name"], "neuvector");
        let found = &report["vulnerabilities"][0];
        assert_eq!(
            (&found["id"], &found["package"], &found["version"], &found["fix_version"]),
            (&json!("CVE-2023-1"), &json!("libssl3"), &json!("3.0.8-1"), &json!("3.0.9-1")),
            "{report:#}"
        );
        assert_eq!(report["severity"], found["severity"]);
        assert!(report["generated_at"].as_str().unwrap().ends_with('Z'));
    }
    let raw = harbor.report(id, RAW, "").await;
    assert_eq!(kind(&raw), RAW);
    assert_eq!(raw.json::<Value>().await.unwrap()["modules"][0]["name"], "libssl3");
    let spdx = harbor.report(id, SBOM, "?sbom_media_type=application%2Fspdx%2Bjson").await;
    assert_eq!(kind(&spdx), SBOM);
    let spdx: Value = spdx.json().await.unwrap();
    assert_eq!(spdx["media_type"], "application/spdx+json");
    assert_eq!(spdx["sbom"]["packages"][1]["name"], "libssl3", "{spdx:#}");
    let cyclonedx = harbor.report(id, SBOM, "?sbom_media_type=application%2Fvnd.cyclonedx%2Bjson").await;
    let cyclonedx: Value = cyclonedx.json().await.unwrap();
    let components = cyclonedx["sbom"]["components"].as_array().unwrap();
    assert!(components.iter().any(|one| one["name"] == "libssl3"), "{cyclonedx:#}");

    // What the profile accepts is no finding of Harbor's either.
    let entry = json!({"config": {"name": "CVE-2023-1", "images": ["shop/web:*"]}});
    fixture.done(Method::POST, "/v1/vulnerability/profile/default/entry", &admin, entry).await;
    let accepted: Value = harbor.report(id, SECURITY, "").await.json().await.unwrap();
    assert_eq!((&accepted["vulnerabilities"], &accepted["severity"]), (&json!([]), &json!("Unknown")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_harbor_may_not_ask_is_refused_as_the_specification_says() {
    let (fixture, _) = Fixture::started().await;
    let harbor = Client::start(&fixture).await;
    let digest = format!("sha256:{}", "a".repeat(64));
    for wrong in ["no-password", ""] {
        let request = harbor.http.get(format!("{}/metadata", harbor.base));
        let answer = request.basic_auth("harbor", Some(wrong)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    assert_eq!(
        harbor.http.get(format!("{}/metadata", harbor.base)).send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );

    let good = order("http://127.0.0.1:1", &digest);
    for (path, value, want) in [
        ("/registry", json!(null), StatusCode::UNPROCESSABLE_ENTITY),
        ("/registry/url", json!("ftp://x"), StatusCode::UNPROCESSABLE_ENTITY),
        ("/registry/authorization", json!("Digest x"), StatusCode::UNPROCESSABLE_ENTITY),
        ("/artifact/repository", json!("../etc"), StatusCode::UNPROCESSABLE_ENTITY),
        ("/artifact/digest", json!("latest"), StatusCode::UNPROCESSABLE_ENTITY),
        (
            "/artifact/mime_type",
            json!("application/vnd.cncf.helm.config.v1+json"),
            StatusCode::NOT_IMPLEMENTED,
        ),
        ("/enabled_capabilities", json!([{"type": "malware"}]), StatusCode::NOT_IMPLEMENTED),
    ] {
        let mut body = good.clone();
        *body.pointer_mut(path).unwrap() = value;
        let (status, said) = harbor.scan(&body).await;
        assert_eq!(status, want, "{path}: {said}");
        assert!(said["error"]["message"].is_string(), "{said}");
    }
    let broken = harbor
        .http
        .post(format!("{}/scan", harbor.base))
        .body("{")
        .basic_auth("harbor", Some("Harbor-Password-1"));
    assert_eq!(broken.send().await.unwrap().status(), StatusCode::BAD_REQUEST);

    let unknown = harbor.get("scan/3fa85f64-5717-4562-b3fc-2c963f66afa6/report").send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let (_, accepted) = harbor.scan(&good).await;
    let id = accepted["id"].as_str().unwrap();
    let sbom = harbor.get(&format!("scan/{id}/report")).header("accept", SBOM).send().await.unwrap();
    assert_eq!(sbom.status(), StatusCode::BAD_REQUEST, "without sbom_media_type");
    let strange =
        harbor.get(&format!("scan/{id}/report")).header("accept", "text/html").send().await.unwrap();
    assert_eq!(strange.status(), StatusCode::NOT_IMPLEMENTED);
    let put =
        harbor.http.put(format!("{}/scan", harbor.base)).basic_auth("harbor", Some("Harbor-Password-1"));
    assert_eq!(put.send().await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
}
