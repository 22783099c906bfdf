//! An image of a registry from its configuration over REST to its report: a scanner, joined over mTLS, pulls it.

use std::collections::BTreeMap;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nv_role_scanner::{BuildOptions, JoinToken, Remarks, ServiceConfig, build_database};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::Fixture;
use crate::registries::{digest, serve};

const DSA: &str =
    "[29 Mar 2023] DSA-1-1 openssl - security update\n\t{CVE-2023-1}\n\t[bookworm] - openssl 3.0.9-1\n";

fn layer(path: &str, content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut head = tar::Header::new_gnu();
    head.set_size(content.len().try_into().unwrap());
    head.set_mode(0o644);
    builder.append_data(&mut head, path, content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// A registry with `shop/web:1` of two layers, signed; its public key as PEM.
pub(crate) async fn signed_registry() -> (String, String) {
    let (has, pem) = signed_image();
    (serve(has).await, pem)
}

/// What such a registry has.
pub(crate) fn signed_image() -> (BTreeMap<String, Vec<u8>>, String) {
    let mut has = BTreeMap::new();
    let mut put = |path: &str, bytes: &[u8]| drop(has.insert(format!("/v2/shop/web/{path}"), bytes.to_vec()));
    let describe =
        |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let layers = [
        layer("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
        layer(
            "var/lib/dpkg/status",
            "Package: libssl3\nStatus: install ok installed\nSource: openssl\nVersion: 3.0.8-1\n",
        ),
    ];
    let marks: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": marks},
        "history": [{"created_by": "ADD rootfs.tar / # buildkit"}, {"created_by": "RUN apt-get install libssl3"}],
        "config": {"User": "", "Env": ["MODE=live"], "Labels": {"tier": "web"}}})
    .to_string();
    let described: Vec<Value> =
        layers.iter().map(|layer| describe("application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let manifest = json!({"schemaVersion": 2, "layers": described,
        "config": describe("application/vnd.oci.image.config.v1+json", config.as_bytes())})
    .to_string();
    let image = digest(manifest.as_bytes());
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let payload = json!({"critical": {"image": {"docker-manifest-digest": image},
        "type": "cosign container image signature"}})
    .to_string();
    let by = BASE64_STANDARD.encode(key.sign(&SystemRandom::new(), payload.as_bytes()).unwrap());
    let mut beside = describe("application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes());
    beside["annotations"] = json!({"dev.cosignproject.cosign/signature": by});
    let signature = json!({"schemaVersion": 2, "layers": [beside],
        "config": describe("application/vnd.oci.image.config.v1+json", b"{}")})
    .to_string();
    let tag = format!("{}.sig", image.replace(':', "-"));

    for bytes in layers.iter().map(Vec::as_slice).chain([config.as_bytes(), payload.as_bytes()]) {
        put(&format!("blobs/{}", digest(bytes)), bytes);
    }
    put("tags/list", json!({"tags": ["1", tag]}).to_string().as_bytes());
    put("manifests/1", manifest.as_bytes());
    put(&format!("manifests/{image}"), manifest.as_bytes());
    put(&format!("manifests/{tag}"), signature.as_bytes());
    let info = BASE64_STANDARD.encode(key.public_key().as_der().unwrap().as_ref());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{info}\n-----END PUBLIC KEY-----\n");
    (has, pem)
}

/// A scanner with a database in which openssl before 3.0.9-1 and Kubernetes before 1.28.12 are vulnerable.
pub(crate) async fn scanner(fixture: &Fixture) -> TempDir {
    let folder = TempDir::new().unwrap();
    let list = folder.path().join("feeds/debian-dsa/data/DSA/list");
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    std::fs::write(&list, DSA).unwrap();
    let kubernetes = json!({"schema_version": "1.3.1", "id": "CVE-2024-10220",
        "affected": [{"package": {"ecosystem": "kubernetes", "name": "k8s.io/apiserver"},
            "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.28.12"}]}]}]});
    std::fs::create_dir_all(folder.path().join("feeds/k8s-osv")).unwrap();
    std::fs::write(folder.path().join("feeds/k8s-osv/CVE-2024-10220.json"), kubernetes.to_string()).unwrap();
    let options = BuildOptions {
        feeds: Some(folder.path().join("feeds")),
        out: folder.path().join("cvedb"),
        ..BuildOptions::default()
    };
    let mut errors = Vec::new();
    build_database(&options, None, &mut Vec::new(), &mut Remarks::new(&mut errors)).unwrap();
    let token = fixture.controller.scanner_token(std::time::Duration::from_secs(600)).await.unwrap();
    let config = ServiceConfig {
        controller: fixture.controller.address().to_string(),
        join: JoinToken::Text(token),
        state_dir: folder.path().to_owned(),
        database: Some(options.out),
        trusted: None,
        credits: 2,
        server: "scanner-a".to_owned(),
        secrets: true,
        layer_process: false,
        runtime_sockets: Vec::new(),
    };
    let (clock, shutdown) = (fixture.clock.clone(), fixture.shutdown.clone());
    tokio::spawn(async move { nv_role_scanner::serve(config, clock, shutdown).await.unwrap() });
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_a_registry_is_scanned_layer_by_layer_and_its_signature_is_told() {
    const ROOTS: &str = "/v1/scan/sigstore/root_of_trust";
    let (fixture, admin) = Fixture::started().await;
    let (url, pem) = signed_registry().await;
    fixture.done(Method::POST, ROOTS, &admin, json!({"name": "team", "rootless_keypairs_only": true})).await;
    let release = json!({"name": "release", "verifier_type": "keypair", "public_key": pem});
    fixture.done(Method::POST, &format!("{ROOTS}/team/verifier"), &admin, release).await;
    let config = json!({"name": "hub", "registry_type": "Docker Registry", "registry": url,
        "filters": ["shop/web"], "scan": {"scan_layers": true}});
    fixture.done(Method::POST, "/v2/scan/registry", &admin, json!({"config": config})).await;
    let _folder = scanner(&fixture).await;
    fixture.done(Method::POST, "/v1/scan/registry/hub/scan", &admin, json!({})).await;

    let done = fixture
        .until("/v1/scan/registry/hub", &admin, |seen| {
            let summary = &seen["summary"];
            assert_eq!((&summary["failed"], &summary["error_message"]), (&json!(0), &json!("")), "{seen:#}");
            summary["scanned"] == 1 && summary["status"] == "idle"
        })
        .await;
    assert_ne!(done["summary"]["cvedb_version"], "");
    let images = fixture.get("/v1/scan/registry/hub/images", &admin).await;
    let image = &images["images"][0];
    assert_eq!(images["images"].as_array().unwrap().len(), 1, "the signature's tag is no image");
    assert_eq!((&image["status"], &image["base_os"]), (&json!("finished"), &json!("debian:12")), "{image:#}");
    let id = image["image_id"].as_str().unwrap();
    let report = fixture.get(&format!("/v1/scan/registry/hub/image/{id}"), &admin).await;
    let report = &report["report"];
    assert_eq!(report["vulnerabilities"][0]["name"], "CVE-2023-1", "{report:#}");
    assert_eq!(report["signature_data"]["verifiers"], json!(["team/release"]));
    let warned: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["level"] == "WARN")
        .map(|check| check["test_number"].as_str().unwrap())
        .collect();
    assert_eq!(warned, ["I.4.1", "I.4.6"], "as root, without a health check");
    assert_eq!((&report["envs"], &report["labels"]), (&json!(["MODE=live"]), &json!({"tier": "web"})));

    let layers = fixture.get(&format!("/v1/scan/registry/hub/layers/{id}"), &admin).await;
    let layers = layers["report"]["layers"].as_array().unwrap();
    let found: Vec<usize> =
        layers.iter().map(|layer| layer["vulnerabilities"].as_array().unwrap().len()).collect();
    assert_eq!((found, &layers[1]["cmds"]), (vec![0, 1], &json!("RUN apt-get install libssl3")));

    assets_of_registries(&fixture, &admin, id).await;
    layers_of_the_scanner(&fixture, &admin).await;

    // The same image, asked for by its place as a build does.
    let ci = fixture.user(&admin, "ci", "ciops", json!({})).await;
    let request = json!({"request": {"registry": url, "repository": "shop/web", "tag": "1"}});
    let answer = fixture.call(Method::POST, "/v1/scan/repository", &ci, Some(request)).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let built = &answer.body["report"];
    assert_eq!((&built["base_os"], &built["repository"]), (&json!("debian:12"), &json!("shop/web")));
    assert_eq!(built["vulnerabilities"][0]["name"], "CVE-2023-1");
    let missing = json!({"request": {"registry": url, "repository": "shop/web", "tag": "2"}});
    let answer = fixture.call(Method::POST, "/v1/scan/repository", &ci, Some(missing)).await;
    assert_eq!(answer.body["code"], 26, "{answer:?}");
}

/// What the scanner keeps of the image's two layers.
async fn layers_of_the_scanner(fixture: &Fixture, admin: &str) {
    let scanners = fixture.get("/v1/scan/scanner", admin).await;
    let id = scanners["scanners"][0]["id"].as_str().unwrap();
    let stat = fixture.get(&format!("/v1/scan/cache_stat/{id}"), admin).await;
    let of = |key: &str| stat[key].as_u64().unwrap();
    assert_eq!((of("record_count"), of("cache_misses"), of("cache_hits")), (2, 2, 0), "{stat}");
    let data = fixture.get(&format!("/v1/scan/cache_data/{id}"), admin).await;
    let records = data["cache_records"].as_array().unwrap();
    let sizes: u64 = records.iter().map(|record| record["size"].as_u64().unwrap()).sum();
    assert_eq!((records.len(), sizes), (2, of("record_total_size")));
    assert!(records.iter().all(|record| record["layer_id"].as_str().unwrap().starts_with("sha256:")));
    let unknown = fixture.call(Method::GET, "/v1/scan/cache_stat/nobody", admin, None).await;
    assert_eq!((unknown.status, &unknown.body["code"]), (StatusCode::NOT_FOUND, &json!(7)));
}

/// Images of registries are among what has vulnerabilities, until those are accepted.
async fn assets_of_registries(fixture: &Fixture, admin: &str, id: &str) {
    let all = fixture.get("/v1/scan/asset", admin).await;
    assert_eq!(all["vulnerabilities"][0]["images"], json!([id]), "{all:#}");
    assert!(all["images"][id][0]["display_name"].as_str().unwrap().ends_with("/shop/web:1"), "{all:#}");
    let query = json!({"viewType": "registry", "severityType": "all"});
    let stats = fixture.done(Method::POST, "/v1/vulasset", admin, query).await;
    assert_eq!(
        (&stats["total_matched_records"], &stats["summary"]["count_distribution"]["image"]),
        (&json!(1), &json!(1))
    );
    let token = stats["query_id"].as_str().unwrap();
    let path = format!("/v1/assetvul?token={token}");
    let view = fixture.call(Method::POST, &path, admin, None).await.body;
    let image = &view["images"][0];
    assert_eq!((&image["id"], &view["vulnerabilities"][0]["name"]), (&json!(id), &json!("CVE-2023-1")));
    let marked = image["vulnerabilities"][0].as_str().unwrap();
    assert!(marked.ends_with("_CVE-2023-1") && marked.len() == "H_CVE-2023-1".len(), "{marked}");
    let nodes = json!({"viewType": "infrastructure"});
    let none = fixture.done(Method::POST, "/v1/vulasset", admin, nodes).await;
    assert_eq!(none["total_matched_records"], 0);

    let asked = json!({"type": "image", "quickFilter": "SHOP", "orderbyColumn": "high", "orderby": "desc"});
    let asked = fixture.done(Method::POST, "/v1/scan/asset/images", admin, asked).await;
    let token = asked["query_id"].as_str().unwrap();
    let page = fixture.get(&format!("/v1/scan/asset/images?token={token}&start=0&row=10"), admin).await;
    assert_eq!((&page["type"], &page["qf_matched_records"]), (&json!("image"), &json!(1)));
    assert_eq!((&page["data"][0]["image_id"], &page["data"][0]["reg_name"]), (&json!(id), &json!("hub")));

    // What is accepted counts no more, in reports, summaries and what has it; it is shown where it is asked for.
    let count = |images: &Value| {
        let image = &images["images"][0];
        ["critical", "high", "medium"].iter().filter_map(|key| image[*key].as_u64()).sum::<u64>()
    };
    let before = count(&fixture.get("/v1/scan/registry/hub/images", admin).await);
    let entry = json!({"config": {"name": "CVE-2023-1", "images": ["*/shop/web:1"]}});
    fixture.done(Method::POST, "/v1/vulnerability/profile/default/entry", admin, entry).await;
    let report = format!("/v1/scan/registry/hub/image/{id}");
    assert_eq!(fixture.get(&report, admin).await["report"]["vulnerabilities"], json!([]));
    let shown = fixture.get(&format!("{report}?show=accepted"), admin).await;
    assert_eq!(shown["report"]["vulnerabilities"][0]["tags"], json!(["accepted"]));
    let layers = fixture.get(&format!("/v1/scan/registry/hub/layers/{id}"), admin).await;
    assert_eq!(layers["report"]["layers"][1]["vulnerabilities"], json!([]));
    let after = count(&fixture.get("/v1/scan/registry/hub/images", admin).await);
    assert!(after == 0 && before <= 1, "{before} before, {after} after");
    assert_eq!(fixture.get("/v1/scan/asset", admin).await["vulnerabilities"], json!([]));
    fixture
        .done(Method::PATCH, "/v1/vulnerability/profile/default", admin, json!({"config": {"entries": []}}))
        .await;
}

#[tokio::test]
async fn what_a_builds_scanner_found_is_kept_under_its_images_place() {
    const PATH: &str = "/v1/scan/result/repository";
    let (fixture, admin) = Fixture::started().await;
    let ci = fixture.user(&admin, "ci", "ciops", json!({})).await;
    let result = json!({
        "Version": "4.196", "Error": 0, "Namespace": "debian:12", "CVEDBCreateTime": "2026-11-01T00:00:00Z",
        "Registry": "https://hub.example", "Repository": "shop/web", "Tag": "7",
        "Digest": "sha256:aa", "ImageID": "sha256:bb", "Author": "team", "Size": 5,
        "Vuls": [{"Name": "CVE-2024-1", "Severity": "High", "ScoreV3": 7.5, "PackageName": "openssl",
            "PackageVersion": "1", "FixedVersion": "2", "PublishedDate": "2024-01-02T03:04:05Z", "FileName": ""}],
        "Modules": [{"Name": "openssl", "Version": "1", "Source": "openssl", "Vuls": [{"Name": "CVE-2024-1", "Status": 1}]}],
        "Secrets": {"Error": 0, "Logs": [{"Type": "file", "Text": "AKIAIOSFODNN7EXAMPLE", "File": "/key", "RuleDesc": "AWS"}]},
        "Layers": [{"Digest": "sha256:cc", "Cmds": "RUN x", "Size": 5}], "Envs": ["A=b"], "Labels": {"tier": "web"},
        "SetIdPerms": [{"Type": "setuid", "File": "/bin/su", "Evidence": "-rwsr-xr-x"}],
    });
    fixture.done(Method::POST, PATH, &ci, json!({ "result": result })).await;
    let subject = nv_model::scan::ScanSubject::Repository {
        registry: "https://hub.example".to_owned(),
        repository: "shop/web".to_owned(),
        reference: "7".to_owned(),
    };
    let scans = fixture.controller.scans();
    let kept = scans.status(&subject).report.unwrap();
    assert_eq!((kept.high, kept.base_os.as_str(), kept.database_version.as_str()), (1, "debian:12", "4.196"));
    let report = scans.report(kept.report).await.unwrap().unwrap();
    assert_eq!(report.vulnerabilities[0].published_timestamp, 1_704_164_645);
    assert_eq!((report.secrets[0].kind.as_str(), report.secrets[0].evidence.as_str()), ("AWS", "AKIA***"));
    assert_eq!((report.layers[0].size, report.modules[0].cves[0].status.as_str()), (5, "fix exists"));

    for (key, value) in
        [("ImageID", json!("")), ("Digest", json!("")), ("Tag", json!("")), ("Error", json!(8))]
    {
        let mut wrong = result.clone();
        wrong[key] = value;
        let answer = fixture.call(Method::POST, PATH, &ci, Some(json!({ "result": wrong }))).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::BAD_REQUEST, &json!(6)), "{key}");
    }
    let reader = fixture.user(&admin, "r", "reader", json!({})).await;
    let denied = fixture.call(Method::POST, PATH, &reader, Some(json!({ "result": result }))).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
}
