//! The manager in front of a small controller of these tests' own, over real sockets and real TLS.
#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nv_role_manager::{Branding, ControllerEndpoint, Manager, ManagerConfig, ManagerError};
use reqwest::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, SET_COOKIE, STRICT_TRANSPORT_SECURITY,
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use upstream::{Authority, TOKEN, Upstream, authority};

struct Console {
    address: SocketAddr,
    client: Client,
    _stop: DropGuard,
}

fn config(controller: ControllerEndpoint) -> ManagerConfig {
    ManagerConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        controller,
        tls: None,
        path_prefix: String::new(),
        branding: Branding::default(),
    }
}

async fn start(config: ManagerConfig) -> Console {
    let manager = Manager::bind(config).await.expect("the manager starts");
    let address = manager.address();
    let shutdown = CancellationToken::new();
    tokio::spawn(manager.run(shutdown.clone()));
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(20))
        .build()
        .expect("a client");
    Console { address, client, _stop: shutdown.drop_guard() }
}

async fn console() -> (Console, Upstream) {
    let upstream = Upstream::start().await;
    (start(config(upstream.endpoint())).await, upstream)
}

impl Console {
    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        self.client.request(method, format!("http://{}{path}", self.address))
    }
    async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.expect("an answer")
    }
    /// A login as the console sends it.
    async fn browser_login(&self, path: &str, password: &str) -> Response {
        let login = json!({ "password": { "username": "admin", "password": password } });
        self.request("POST", path).header("x-nv-console", "1").json(&login).send().await.expect("an answer")
    }
}

fn text<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).expect(name).to_str().expect("text")
}

#[tokio::test]
async fn a_browser_gets_its_token_only_in_a_cookie_that_scripts_cannot_read() {
    let (console, upstream) = console().await;
    let answer = console.browser_login("/v1/auth", "right").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let cookie = format!("nv_session={TOKEN}; Path=/; HttpOnly; Secure; SameSite=Strict");
    assert_eq!(answer.headers()[SET_COOKIE], cookie);
    assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
    let body = answer.text().await.expect("a body");
    assert!(!body.contains(TOKEN), "{body}");
    let document: Value = serde_json::from_str(&body).expect("json");
    assert_eq!(document["token"]["fullname"], "admin", "what is not secret reaches the page");
    assert_eq!(upstream.seen()[0].body["client_ip"], "127.0.0.1", "the controller learns who asked");
}

#[tokio::test]
async fn the_cookie_becomes_the_tokens_header_and_goes_no_further() {
    let (console, upstream) = console().await;
    let path = "/v1/workload?start=0&f_domain=in%2Cshop";
    let cookie = format!("other=1; nv_session={TOKEN}");
    let answer = console.request("GET", path).header("cookie", cookie).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key(SET_COOKIE), "the controller sets no cookies here");
    let seen = upstream.seen();
    assert_eq!(seen[0].path, path, "the query arrives as it was sent");
    assert_eq!(seen[0].headers["x-auth-token"], TOKEN);
    assert!(!seen[0].headers.contains_key("cookie"));
}

#[tokio::test]
async fn a_client_of_the_api_passes_through_unchanged() {
    let (console, upstream) = console().await;
    let login = json!({ "password": { "username": "admin", "password": "right" } });
    let answer = console.request("POST", "/v1/auth").json(&login).send().await.expect("an answer");
    assert!(!answer.headers().contains_key(SET_COOKIE));
    assert_eq!(answer.json::<Value>().await.expect("json")["token"]["token"], TOKEN);
    let change = json!({ "config": { "services": ["web"] } });
    let request = console.request("PATCH", "/v1/service/config").header("x-auth-token", "its-own");
    assert_eq!(request.json(&change).send().await.expect("an answer").status(), StatusCode::OK);
    let seen = upstream.seen();
    assert_eq!(
        (&seen[1].headers["x-auth-token"], &seen[1].body),
        (&"its-own".parse().expect("a value"), &change)
    );
}

#[tokio::test]
async fn another_site_cannot_use_the_cookie() {
    let (console, upstream) = console().await;
    for (method, headers) in [
        ("POST", vec![]),
        ("DELETE", vec![("sec-fetch-site", "same-origin")]),
        ("PATCH", vec![("x-nv-console", "1"), ("sec-fetch-site", "cross-site")]),
        ("PATCH", vec![("x-nv-console", "1"), ("origin", "https://elsewhere.example")]),
        ("GET", vec![("sec-fetch-site", "same-site")]),
    ] {
        let request = console.request(method, "/v1/group").header("cookie", format!("nv_session={TOKEN}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{method} {headers:?}");
    }
    let forged = console
        .request("POST", "/v1/auth")
        .header("x-nv-console", "1")
        .header("sec-fetch-site", "cross-site");
    assert_eq!(forged.body("{}").send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    assert!(upstream.seen().is_empty(), "the controller never hears of it");
}

#[tokio::test]
async fn a_password_that_must_be_changed_starts_no_session() {
    let (console, _upstream) = console().await;
    let answer = console.browser_login("/v1/auth", "one-time").await;
    assert!(!answer.headers().contains_key(SET_COOKIE));
    assert_eq!(answer.json::<Value>().await.expect("json")["need_to_reset_password"], true);
}

#[tokio::test]
async fn a_refused_login_is_passed_on_with_its_reason() {
    let (console, _upstream) = console().await;
    let answer = console.browser_login("/v1/auth", "wrong").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.json::<Value>().await.expect("json")["code"], 3);
    let malformed = console.request("POST", "/v1/auth").header("x-nv-console", "1").body("[1]");
    assert_eq!(malformed.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn logging_out_ends_the_browsers_session_even_when_the_controller_is_away() {
    let (console, upstream) = console().await;
    drop(upstream);
    let request = console.request("DELETE", "/v1/auth").header("x-nv-console", "1");
    let answer = request.header("cookie", format!("nv_session={TOKEN}")).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let cookie = text(&answer, "set-cookie");
    assert!(cookie.starts_with("nv_session=;") && cookie.contains("Max-Age=0"), "{cookie}");
}

#[tokio::test]
async fn events_arrive_one_by_one_and_are_not_held_back() {
    let (console, upstream) = console().await;
    let mut answer = console.get("/v1/stream").await;
    assert_eq!(text(&answer, "x-accel-buffering"), "no");
    for number in 0..3 {
        let event = format!("id: {number}\ndata: {{}}\n\n");
        upstream.emit(event.clone());
        let chunk = tokio::time::timeout(Duration::from_secs(5), answer.chunk()).await.expect("at once");
        assert_eq!(chunk.expect("no error").expect("not the end"), event);
    }
}

#[tokio::test]
async fn a_stream_does_not_hold_up_the_end() {
    let upstream = Upstream::start().await;
    let manager = Manager::bind(config(upstream.endpoint())).await.expect("the manager starts");
    let url = format!("http://{}/v1/stream", manager.address());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(manager.run(shutdown.clone()));
    let _open = Client::new().get(url).send().await.expect("an answer");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(8), running).await.expect("an end in time").expect("no panic");
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused_before_it_is_read() {
    let (console, upstream) = console().await;
    let mut stream = tokio::net::TcpStream::connect(console.address).await.expect("a connection");
    let head =
        "POST /v1/file/config HTTP/1.1\r\nhost: x\r\ncontent-length: 70000000\r\nx-auth-token: t\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0_u8; 64];
    let read = stream.read(&mut answer).await.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 413"), "{}", String::from_utf8_lossy(&answer[..read]));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_controller_with_another_root_is_not_trusted() {
    let upstream = Upstream::start().await;
    let mut endpoint = upstream.endpoint();
    endpoint.roots = vec![authority("another").root];
    let console = start(config(endpoint)).await;
    let answer = console.get("/v1/eula").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(!text(&answer, "x-request-id").is_empty());
    assert_eq!(answer.json::<Value>().await.expect("json")["code"], 55);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn every_answer_forbids_inline_scripts_and_frames() {
    let (console, _upstream) = console().await;
    for path in ["/", "/events/7f3a?q=x", "/assets/none.js", "/v1/eula", "/healthz"] {
        let answer = console.get(path).await;
        let policy = text(&answer, CONTENT_SECURITY_POLICY.as_str());
        assert!(
            policy.contains("default-src 'none'") && policy.contains("script-src 'self';"),
            "{path}: {policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(text(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert!(!answer.headers().contains_key(STRICT_TRANSPORT_SECURITY), "{path}: without tls");
    }
}

#[tokio::test]
async fn an_address_of_the_console_answers_with_the_page_and_a_missing_file_does_not() {
    let (console, _upstream) = console().await;
    for (method, path, status) in [
        ("GET", "/network?level=namespace", 200),
        ("HEAD", "/", 200),
        ("GET", "/assets/gone-1234.js", 404),
        ("POST", "/network", 405),
    ] {
        let answer = console.request(method, path).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn under_a_prefix_pages_cookies_and_redirects_stay_below_it() {
    let upstream = Upstream::start().await;
    let console =
        start(ManagerConfig { path_prefix: "/nv/".to_owned(), ..config(upstream.endpoint()) }).await;
    let answer = console.get("/").await;
    assert_eq!((answer.status(), text(&answer, LOCATION.as_str())), (StatusCode::FOUND, "/nv/"));
    let page = console.get("/nv/groups").await.text().await.expect("a page");
    assert!(page.contains("<base href=\"/nv/\""), "{page}");
    let answer = console.browser_login("/nv/v1/auth", "right").await;
    assert!(text(&answer, "set-cookie").contains("; Path=/nv;"));
    assert_eq!(text(&console.get("/nv/v1/redirected").await, LOCATION.as_str()), "/nv/v1/group");
}

#[tokio::test]
async fn over_tls_browsers_are_told_to_stay_with_it() {
    let upstream = Upstream::start().await;
    let Authority { root, tls } = authority("localhost");
    let console = start(ManagerConfig { tls: Some(Arc::new(tls)), ..config(upstream.endpoint()) }).await;
    let trusted = reqwest::Certificate::from_der(&root).expect("a certificate");
    let client = Client::builder().tls_certs_only([trusted]).build().expect("a client");
    let answer =
        client.get(format!("https://localhost:{}/", console.address.port())).send().await.expect("an answer");
    assert_eq!(answer.version(), reqwest::Version::HTTP_2, "one connection carries streams and requests");
    assert!(text(&answer, STRICT_TRANSPORT_SECURITY.as_str()).contains("max-age=31536000"));
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_with_the_reason() {
    let root = authority("root").root;
    let endpoint = |url: &str| ControllerEndpoint { url: url.to_owned(), roots: vec![root.clone()] };
    for (given, want) in [
        (config(endpoint("localhost:10443")), "https://host:port"),
        (config(endpoint("https://localhost:10443/v1")), "https://host:port"),
        (
            config(ControllerEndpoint { url: "https://localhost".to_owned(), roots: vec![] }),
            "no root certificate",
        ),
        (
            ManagerConfig { path_prefix: "nv".to_owned(), ..config(endpoint("https://localhost")) },
            "path prefix",
        ),
        (
            ManagerConfig { path_prefix: "/a\"b".to_owned(), ..config(endpoint("https://localhost")) },
            "path prefix",
        ),
    ] {
        let error: ManagerError = Manager::bind(given).await.err().expect("refused");
        assert!(error.to_string().contains(want), "{error}");
    }
}
