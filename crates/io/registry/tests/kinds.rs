//! Each kind of registry against a server that speaks its API as its maker documents it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use nv_registry::{
    AwsKey, Catalog, Credentials, Filter, JFrogMode, Kind, KindOptions, Options, Proxy, RegistryError,
};
use serde_json::{Value, json};

/// What a request was: method, path with query, `Authorization` or `account`, body.
type Asked = (String, String, String, String);

struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

type Speak = fn(&Asked) -> (u16, Value);

impl Server {
    async fn start(speak: Speak) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(answer).with_state((speak, Arc::clone(&asked)));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn paths(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(_, path, _, _)| path.clone()).collect()
    }
}

async fn answer(
    State((speak, asked)): State<(Speak, Arc<Mutex<Vec<Asked>>>)>,
    request: Request,
) -> Response<Body> {
    let who = {
        let header = |name: &str| {
            request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        [header("authorization"), header("account")].join(" ").trim().to_owned()
    };
    let (method, path) = (request.method().to_string(), request.uri().to_string());
    let mut body = Vec::new();
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.unwrap());
    }
    let one: Asked = (method, path, who, String::from_utf8(body).unwrap());
    let (status, value) = speak(&one);
    asked.lock().unwrap().push(one);
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("www-authenticate", "Basic realm=\"x\"")
        .body(Body::from(value.to_string()))
        .unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn reader() -> Option<Credentials> {
    Some(Credentials::Password { user: "reader".to_owned(), password: "secret".to_owned().into() })
}

fn kind(server: &Server, kind: Kind) -> KindOptions {
    let options = Options { url: server.url(), credentials: reader(), ..Options::default() };
    KindOptions { kind, options, ..KindOptions::default() }
}

async fn names(kind: KindOptions, filters: &[&str]) -> Result<Vec<String>, RegistryError> {
    let filters: Vec<Filter> = filters.iter().map(|filter| filter.parse().unwrap()).collect();
    let catalog = Catalog::open(kind, "20261126T060000Z").await?;
    let found = catalog.repositories(&filters, usize::MAX).await?;
    Ok(found.into_iter().map(|one| one.repository.to_string()).collect())
}

fn unauthorised() -> (u16, Value) {
    (401, json!({}))
}

fn catalog_of(list: &[&str]) -> (u16, Value) {
    (200, json!({ "repositories": list }))
}

#[tokio::test]
async fn docker_azure_and_nexus_list_by_the_catalogue_and_a_named_repository_needs_none() {
    for one in [Kind::Docker, Kind::Acr, Kind::Nexus] {
        let server = Server::start(|(_, path, who, _)| match path.as_str() {
            _ if *who != basic("reader", "secret") => unauthorised(),
            "/v2/_catalog?n=1000" => catalog_of(&["shop/web", "shop/db", "Bad Name", "tools"]),
            _ => (404, json!({})),
        })
        .await;
        assert_eq!(names(kind(&server, one), &["shop/*"]).await.unwrap(), ["shop/db", "shop/web"], "{one:?}");
        assert_eq!(names(kind(&server, one), &["a/b:1", "tools"]).await.unwrap(), ["a/b", "tools"]);
        assert_eq!(
            server.paths().len(),
            2,
            "{one:?}: once without and once with the password, and not again"
        );
    }
}

#[tokio::test]
async fn amazons_token_is_bought_with_a_signed_request() {
    let server = Server::start(|(method, path, who, body)| match (method.as_str(), path.as_str()) {
        ("POST", "/") => {
            assert!(
                who.starts_with("AWS4-HMAC-SHA256 Credential=AKID/20261126/eu-central-1/ecr/aws4_request")
            );
            assert_eq!(body, r#"{"registryIds":["123456789012"]}"#);
            let token = BASE64_STANDARD.encode("AWS:bought");
            (200, json!({"authorizationData": [{"authorizationToken": token, "proxyEndpoint": "x"}]}))
        }
        _ if *who != basic("AWS", "bought") => unauthorised(),
        ("GET", "/v2/_catalog?n=1000") => catalog_of(&["web"]),
        _ => (404, json!({})),
    })
    .await;
    let key = AwsKey {
        account: "123456789012".to_owned(),
        region: "eu-central-1".to_owned(),
        access_key: "AKID".to_owned(),
        secret_key: "hidden".to_owned().into(),
    };
    let with = || KindOptions { aws: Some(key.clone()), api: server.url(), ..kind(&server, Kind::Ecr) };
    assert_eq!(names(with(), &["*"]).await.unwrap(), ["web"]);
    let refusing = Server::start(|_| (400, json!({"__type": "UnrecognizedClientException"}))).await;
    let error = names(KindOptions { api: refusing.url(), ..with() }, &["*"]).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { status: 400, .. }), "{error}");
}

#[tokio::test]
async fn googles_key_is_the_password() {
    let server = Server::start(|(_, path, who, _)| match path.as_str() {
        _ if *who != basic("_json_key", r#"{"type":"service_account"}"#) => unauthorised(),
        "/v2/_catalog?n=1000" => catalog_of(&["project/web"]),
        _ => (404, json!({})),
    })
    .await;
    let json_key = Some(r#"{"type":"service_account"}"#.to_owned().into());
    assert_eq!(
        names(KindOptions { json_key, ..kind(&server, Kind::Gcr) }, &["*"]).await.unwrap(),
        ["project/web"]
    );
}

#[tokio::test]
async fn harbors_projects_are_listed_page_by_page() {
    let server = Server::start(|(_, path, who, _)| match path.as_str() {
        _ if *who != basic("reader", "secret") => unauthorised(),
        "/api/v2.0/projects?page=1&page_size=100" => {
            let many: Vec<Value> = (0..100)
                .map(|n| json!({"name": if n == 0 { "shop".to_owned() } else { format!("../{n}") }}))
                .collect();
            (200, json!(many))
        }
        "/api/v2.0/projects?page=2&page_size=100" => (200, json!([{"name": "tools"}])),
        "/api/v2.0/projects/shop/repositories?page=1&page_size=100" => {
            (200, json!([{"name": "shop/web"}, {"name": "shop/web/sub"}]))
        }
        "/api/v2.0/projects/tools/repositories?page=1&page_size=100" => (200, json!([{"name": "tools/x"}])),
        _ => (404, json!({})),
    })
    .await;
    let found = names(kind(&server, Kind::Harbor), &["*"]).await.unwrap();
    assert_eq!(found, ["shop/web", "shop/web/sub", "tools/x"]);
    assert!(server.paths().iter().all(|path| !path.contains("..")), "{:?}", server.paths());
}

#[tokio::test]
async fn gitlabs_projects_are_asked_with_its_own_token() {
    let server = Server::start(|(_, path, who, _)| match path.as_str() {
        _ if who != "Bearer glpat" => unauthorised(),
        "/api/v4/projects?membership=true&simple=true&page=1&per_page=100" => {
            (200, json!([{"id": 7}, {"id": 8}]))
        }
        "/api/v4/projects/7/registry/repositories?page=1&per_page=100" => {
            (200, json!([{"path": "group/app/web"}]))
        }
        "/api/v4/projects/8/registry/repositories?page=1&per_page=100" => (403, json!({})),
        _ => (404, json!({})),
    })
    .await;
    let api_token = Some("glpat".to_owned().into());
    let with = KindOptions { api: server.url(), api_token, ..kind(&server, Kind::Gitlab) };
    assert_eq!(names(with, &["group/*"]).await.unwrap(), ["group/app/web"]);
    let without = names(kind(&server, Kind::Gitlab), &["*"]).await.unwrap_err();
    assert!(without.to_string().contains("gitlab_external_url"), "{without}");
}

#[tokio::test]
async fn githubs_packages_are_those_of_an_organisation_or_a_user() {
    let server = Server::start(|(_, path, who, _)| match path.as_str() {
        _ if who != "Bearer secret" => unauthorised(),
        "/orgs/shop/packages?package_type=container&page=1&per_page=100" => {
            (200, json!([{"name": "web"}, {"name": "db"}]))
        }
        "/users/jo/packages?package_type=container&page=1&per_page=100" => (200, json!([{"name": "tool"}])),
        _ => (404, json!({})),
    })
    .await;
    let with = || KindOptions { api: server.url(), ..kind(&server, Kind::Github) };
    assert_eq!(names(with(), &["shop/w*", "jo/*"]).await.unwrap(), ["jo/tool", "shop/web"]);
    let error = names(with(), &["*"]).await.unwrap_err();
    assert!(error.to_string().contains("begin each filter with an organisation"), "{error}");
}

#[tokio::test]
async fn ibms_images_are_listed_with_a_token_of_the_account() {
    let server = Server::start(|(method, path, who, body)| match (method.as_str(), path.as_str()) {
        ("POST", "/identity/token/") => {
            assert_eq!(body, "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey=a%26b");
            (200, json!({"access_token": "iam", "expires_in": 3600}))
        }
        ("GET", "/api/v1/images") if who == "Bearer iam acc1" => {
            (200, json!([{"RepoTags": ["us.icr.io/shop/web:1", "us.icr.io/shop/web:2"]}, {"RepoTags": null}]))
        }
        _ => unauthorised(),
    })
    .await;
    let mut with = kind(&server, Kind::Ibm);
    with.options.credentials =
        Some(Credentials::Password { user: "iamapikey".to_owned(), password: "a&b".to_owned().into() });
    with.token_url = format!("{}/identity/token", server.url());
    with.account = "acc1".to_owned();
    assert_eq!(names(with, &["*"]).await.unwrap(), ["shop/web"]);
}

#[tokio::test]
async fn openshifts_image_streams_are_repositories_by_namespace() {
    let server = Server::start(|(_, path, who, _)| match path.as_str() {
        "/apis/image.openshift.io/v1/imagestreams" if who == "Bearer kube" => {
            (200, json!({"items": [{"metadata": {"name": "web", "namespace": "shop"}, "status": {}}]}))
        }
        _ => unauthorised(),
    })
    .await;
    let api_token = Some("kube".to_owned().into());
    let with = KindOptions { api: server.url(), api_token, ..kind(&server, Kind::OpenShift) };
    assert_eq!(names(with, &["shop/*"]).await.unwrap(), ["shop/web"]);
}

#[tokio::test]
async fn jfrogs_repositories_are_registries_of_their_own() {
    let speak: Speak = |(_, path, who, _)| match path.as_str() {
        _ if *who != basic("reader", "secret") => unauthorised(),
        "/artifactory/api/repositories?packageType=docker" => {
            (200, json!([{"key": "docker-local", "type": "LOCAL"}, {"key": "../x"}]))
        }
        "/artifactory/api/docker/docker-local/v2/_catalog?n=1000" => catalog_of(&["web", "shop/db"]),
        "/v2/_catalog?n=1000" => catalog_of(&["by-port"]),
        _ => (404, json!({})),
    };
    let server = Server::start(speak).await;
    let by_path = names(kind(&server, Kind::JFrog), &["docker-local/*"]).await.unwrap();
    assert_eq!(by_path, ["docker-local/shop/db", "docker-local/web"]);
    let port = KindOptions { jfrog: JFrogMode::Port, ..kind(&server, Kind::JFrog) };
    assert_eq!(names(port, &["*"]).await.unwrap(), ["by-port"]);
}

#[tokio::test]
async fn jfrogs_repositories_may_be_in_the_hosts_name() {
    // As a proxy it is asked by whole addresses, and no name has to be known.
    let proxy = Server::start(|(_, address, who, _)| match address.as_str() {
        _ if *who != basic("reader", "secret") => unauthorised(),
        "http://r.example/artifactory/api/repositories?packageType=docker" => {
            (200, json!([{"key": "docker-local"}]))
        }
        "http://docker-local.r.example/v2/_catalog?n=1000" => catalog_of(&["web"]),
        _ => (404, json!({})),
    })
    .await;
    let mut subdomain = KindOptions { jfrog: JFrogMode::Subdomain, ..kind(&proxy, Kind::JFrog) };
    subdomain.options.url = "http://r.example".to_owned();
    subdomain.options.proxy = Some(Proxy { url: proxy.url(), credentials: None });
    let filters: Vec<Filter> = vec!["docker-local/*".parse().unwrap()];
    let catalog = Catalog::open(subdomain, "").await.unwrap();
    let found = catalog.repositories(&filters, 10).await.unwrap();
    let listed: Vec<(&str, &str)> =
        found.iter().map(|one| (one.url.as_str(), one.repository.as_str())).collect();
    assert_eq!(listed, [("http://docker-local.r.example", "web")]);
}

#[tokio::test]
async fn a_registry_that_lists_nothing_says_what_to_do() {
    let server = Server::start(|_| (200, json!({}))).await;
    let error = names(kind(&server, Kind::RedHat), &["*"]).await.unwrap_err();
    assert!(error.to_string().contains("name repositories in the filters"), "{error}");
    assert_eq!(names(kind(&server, Kind::RedHat), &["ubi9/ubi:9*"]).await.unwrap(), ["ubi9/ubi"]);
    for kind in Kind::ALL {
        assert_eq!(Kind::from_name(kind.name()), Some(kind));
    }
}
