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
async fn signed_registry() -> (String, String) {
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
    (serve(has).await, pem)
}

/// A scanner with a database in which openssl before 3.0.9-1 is vulnerable.
async fn scanner(fixture: &Fixture) -> TempDir {
    let folder = TempDir::new().unwrap();
    let list = folder.path().join("feeds/debian-dsa/data/DSA/list");
    std::fs::create_dir_all(list.parent().unwrap()).unwrap();
    std::fs::write(&list, DSA).unwrap();
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
