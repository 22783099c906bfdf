//! Registries and whose signatures count, over a registry that speaks the distribution API.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use nv_model::scan::BlobId;
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// What it has, by path.
type Has = Arc<BTreeMap<String, Vec<u8>>>;

async fn answer(State(has): State<Has>, request: Request) -> Response<Body> {
    let found = has.get(request.uri().path());
    let status = if found.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    Response::builder().status(status).body(Body::from(found.cloned().unwrap_or_default())).unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", BlobId::of(bytes))
}

/// A registry with `shop/web` (two images, a chart, a signature) and `shop/db`.
async fn registry() -> String {
    let mut has = BTreeMap::new();
    let mut put = |path: &str, bytes: Vec<u8>| drop(has.insert(format!("/v2/{path}"), bytes));
    put("", b"{}".to_vec());
    put("_catalog", json!({"repositories": ["shop/db", "shop/web", "other/x"]}).to_string().into());
    let signature = format!("sha256-{}.sig", "0a".repeat(32));
    put("shop/web/tags/list", json!({"tags": ["1.10", "1.9", "chart", signature]}).to_string().into());
    put("shop/db/tags/list", json!({"tags": ["latest"]}).to_string().into());
    for (repository, tag, user) in
        [("shop/web", "1.9", ""), ("shop/web", "1.10", "app"), ("shop/db", "latest", "0")]
    {
        let config = json!({"os": "linux", "architecture": "amd64", "author": tag,
            "config": {"User": user, "Labels": {"tier": "web"}}, "rootfs": {"diff_ids": []}})
        .to_string();
        let kind = "application/vnd.oci.image.config.v1+json";
        let manifest = json!({"schemaVersion": 2, "config": {"mediaType": kind,
            "digest": digest(config.as_bytes()), "size": config.len()}, "layers": []})
        .to_string();
        put(&format!("{repository}/blobs/{}", digest(config.as_bytes())), config.into());
        put(&format!("{repository}/manifests/{tag}"), manifest.into());
    }
    let chart = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json",
        "digest": digest(b""), "size": 0}, "layers": []});
    put("shop/web/manifests/chart", chart.to_string().into());
    serve(has).await
}

/// Serves what is there by path; the address.
pub(crate) async fn serve(has: BTreeMap<String, Vec<u8>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::new(has));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// The same over TLS, with this certificate.
pub(crate) async fn serve_over_tls(
    has: BTreeMap<String, Vec<u8>>,
    certificate: &nv_pki::Credential,
) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(nv_pki::tls::web_server(certificate).unwrap()));
    let router = Router::new().fallback(answer).with_state(Arc::new(has));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                // Who does not trust the certificate goes away.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(router);
                let _served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    url
}

fn config(url: &str) -> Value {
    json!({"name": "hub", "registry_type": "Docker Registry", "registry": url, "filters": ["shop/*"],
        "auth": {"username": "reader", "password": "hunter2"},
        "scan": {"scan_layers": true, "schedule": {"schedule": "manual", "interval": 0}}})
}

#[tokio::test]
async fn a_registry_is_looked_at_and_each_of_its_images_is_to_be_scanned() {
    let (fixture, admin) = Fixture::started().await;
    let url = registry().await;
    fixture.done(Method::POST, "/v2/scan/registry", &admin, json!({"config": config(&url)})).await;
    let again =
        fixture.call(Method::POST, "/v2/scan/registry", &admin, Some(json!({"config": config(&url)}))).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::BAD_REQUEST, &json!(13)));

    for (scope, want) in [("", 1), ("local", 1), ("fed", 0)] {
        let list = fixture.get(&format!("/v1/scan/registry?scope={scope}"), &admin).await;
        assert_eq!(list["summarys"].as_array().unwrap().len(), want, "{scope}");
    }
    let shown = fixture.get("/v1/scan/registry/hub", &admin).await;
    let summary = &shown["summary"];
    assert_eq!(
        (&summary["username"], &summary["password"], &summary["status"]),
        (&json!("reader"), &json!(""), &json!("idle"))
    );
    assert_eq!((&summary["scan_layers"], &summary["filters"]), (&json!(true), &json!(["shop/*"])));

    fixture.done(Method::POST, "/v1/scan/registry/hub/scan", &admin, json!({})).await;
    let looked =
        fixture.until("/v1/scan/registry/hub", &admin, |seen| seen["summary"]["scheduled"] == 3).await;
    assert_eq!(
        (&looked["summary"]["status"], &looked["summary"]["error_message"]),
        (&json!("scanning"), &json!(""))
    );
    let images = fixture.get("/v1/scan/registry/hub/images", &admin).await;
    let names: Vec<(&str, &str, bool, &str)> = images["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            let text = |key: &str| image[key].as_str().unwrap();
            (text("repository"), text("tag"), image["run_as_root"].as_bool().unwrap(), text("status"))
        })
        .collect();
    let want = [
        ("shop/db", "latest", true, "scheduled"),
        ("shop/web", "1.9", true, "scheduled"),
        ("shop/web", "1.10", false, "scheduled"),
    ];
    assert_eq!(names, want, "no chart, no signature, nothing of other/x");
    let id = images["images"][0]["image_id"].as_str().unwrap();
    let none = fixture.call(Method::GET, &format!("/v1/scan/registry/hub/image/{id}"), &admin, None).await;
    assert_eq!(
        (none.status, &none.body["code"]),
        (StatusCode::NOT_FOUND, &json!(7)),
        "there is no scanner yet"
    );

    fixture.call(Method::DELETE, "/v1/scan/registry/hub/scan", &admin, None).await;
    fixture.until("/v1/scan/registry/hub", &admin, |seen| seen["summary"]["status"] == "idle").await;
    let patch = json!({"config": {"filters": ["shop/db:latest"], "scan": {"tag_limit": 1}}});
    fixture.done(Method::PATCH, "/v2/scan/registry/hub", &admin, patch).await;
    fixture.done(Method::POST, "/v1/scan/registry/hub/scan", &admin, json!({})).await;
    fixture.until("/v1/scan/registry/hub", &admin, |seen| seen["summary"]["scheduled"] == 1).await;

    let tried = json!({"config": {}});
    let steps = fixture.done(Method::POST, "/v2/scan/registry/hub/test", &admin, tried).await;
    assert_eq!(steps["steps"][0], json!({"step_type": "API V2", "step_content": "ok"}));
    assert_eq!(steps["steps"][1]["step_content"], "1 repositories: shop/db");

    let gone = fixture.call(Method::DELETE, "/v1/scan/registry/hub", &admin, None).await;
    assert_eq!(gone.status, StatusCode::OK);
    assert_eq!(fixture.get("/v1/scan/registry", &admin).await, json!({"summarys": []}));
    assert_eq!(fixture.controller.scans().counts().waiting, 0, "its scans are given up with it");

    let log = fixture.get("/v1/log/event?f_name=RESTful.Write", &admin).await.to_string();
    assert!(log.contains("shop/*") && !log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_registry_that_cannot_be_is_refused_and_one_that_does_not_answer_says_why() {
    let (fixture, admin) = Fixture::started().await;
    let good = config("http://127.0.0.1:1");
    for (key, value) in [
        ("name", json!("a/b")),
        ("name", json!("fed.hub")),
        ("name", json!("_repo_scan")),
        ("registry_type", json!("Quay")),
        ("registry", json!("ftp://x")),
        ("filters", json!([])),
        ("filters", json!(["a b"])),
        ("scan", json!({"schedule": {"schedule": "periodical", "interval": 10}})),
        ("integrations", json!({"jfrog_mode": "Other"})),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        let answer =
            fixture.call(Method::POST, "/v2/scan/registry", &admin, Some(json!({"config": bad}))).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}: {answer:?}");
    }
    fixture.done(Method::POST, "/v2/scan/registry", &admin, json!({"config": good})).await;
    let kinds = fixture.get("/v1/list/registry_type", &admin).await;
    assert_eq!(kinds["list"]["registry_type"].as_array().unwrap().len(), 12);

    let own = fixture.user(&admin, "na", "", json!({"admin": ["shop"]})).await;
    assert_eq!(fixture.get("/v1/scan/registry", &own).await, json!({"summarys": []}));
    let hidden = fixture.call(Method::GET, "/v1/scan/registry/hub", &own, None).await;
    assert_eq!(hidden.status, StatusCode::FORBIDDEN);
    let mut theirs = good;
    theirs["name"] = json!("theirs");
    theirs["domains"] = json!(["shop"]);
    fixture.done(Method::POST, "/v2/scan/registry", &own, json!({"config": theirs})).await;
    let seen = fixture.get("/v1/scan/registry", &own).await;
    assert_eq!(seen["summarys"][0]["name"], "theirs");
}

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr\nkBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==\n-----END PUBLIC KEY-----\n";

#[tokio::test]
async fn roots_of_trust_and_their_verifiers_are_kept_as_the_contract_has_them() {
    const ROOTS: &str = "/v1/scan/sigstore/root_of_trust";
    let (fixture, admin) = Fixture::started().await;
    let root = json!({"name": "team", "rootless_keypairs_only": true, "comment": "ours"});
    fixture.done(Method::POST, ROOTS, &admin, root.clone()).await;
    let again = fixture.call(Method::POST, ROOTS, &admin, Some(root)).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::BAD_REQUEST, &json!(13)));
    let private = json!({"name": "p", "is_private": true, "root_cert": "no certificate"});
    let bad = fixture.call(Method::POST, ROOTS, &admin, Some(private)).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST, "{bad:?}");

    let verifiers = format!("{ROOTS}/team/verifier");
    let release = json!({"name": "release", "verifier_type": "keypair", "public_key": KEY});
    fixture.done(Method::POST, &verifiers, &admin, release).await;
    for refused in [
        json!({"name": "release", "verifier_type": "keypair", "public_key": KEY}),
        json!({"name": "x", "verifier_type": "keypair", "public_key": "none"}),
        json!({"name": "x", "verifier_type": "keyless", "cert_issuer": "i", "cert_subject": "s"}),
        json!({"name": "x", "verifier_type": "other"}),
    ] {
        let answer = fixture.call(Method::POST, &verifiers, &admin, Some(refused.clone())).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{refused}: {answer:?}");
    }
    let all = fixture.get(&format!("{ROOTS}?with_verifiers=true"), &admin).await;
    let root = &all["roots_of_trust"][0];
    assert_eq!(
        (&root["name"], &root["cfg_type"], &root["verifiers"][0]["name"]),
        (&json!("team"), &json!("user_created"), &json!("release"))
    );
    assert!(fixture.get(ROOTS, &admin).await["roots_of_trust"][0].get("verifiers").is_none());
    let one = format!("{verifiers}/release");
    fixture.done(Method::PATCH, &one, &admin, json!({"comment": "of CI"})).await;
    let shown = fixture.get(&one, &admin).await;
    assert_eq!((&shown["comment"], &shown["public_key"]), (&json!("of CI"), &json!(KEY)));
    assert_eq!(fixture.call(Method::DELETE, &one, &admin, None).await.status, StatusCode::OK);
    assert_eq!(fixture.get(&verifiers, &admin).await, json!({"verifiers": []}));
    let gone = fixture.call(Method::DELETE, &format!("{ROOTS}/team"), &admin, None).await;
    assert_eq!(gone.status, StatusCode::OK);
    let none = fixture.call(Method::GET, &format!("{ROOTS}/team"), &admin, None).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}
