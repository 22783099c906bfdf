//! Over the network, as clients do.

use std::time::Duration;

use nv_model::verdict::Verdict;
use reqwest::{Certificate, Client, Response, StatusCode, Version};
use serde_json::json;

use crate::fixture::{Fixture, each};
use crate::node::{Reporter, ran, workload};

pub(crate) struct Server {
    pub(crate) fixture: Fixture,
    pub(crate) admin: String,
    pub(crate) base: String,
    client: Client,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (mut fixture, admin) = Fixture::started().await;
        let api = fixture.api.take().unwrap();
        let base = format!("https://127.0.0.1:{}", api.address().port());
        tokio::spawn(api.run());
        let root =
            Certificate::from_pem(fixture.controller.authority().certificate_pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([root]).build().unwrap();
        Self { fixture, admin, base, client }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.get(format!("{}{path}", self.base)).header("X-Auth-Token", &self.admin);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

/// Reads a stream until it has what is wanted.
async fn read_until(stream: &mut Response, text: &mut String, wanted: impl Fn(&str) -> bool) {
    while !wanted(text) {
        let chunk =
            tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.expect("nothing came");
        text.push_str(std::str::from_utf8(&chunk.unwrap().expect("the stream ended")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_trusts_the_root_gets_http_1_1_and_compression_when_it_asks() {
    let server = Server::start().await;
    let plain = server.get("/v1/user_role_permission/options", &[]).await;
    assert_eq!((plain.status(), plain.version()), (StatusCode::OK, Version::HTTP_11));
    assert!(plain.headers().get("content-encoding").is_none());
    let packed = server.get("/v1/user_role_permission/options", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let small = server.get("/v1/eula", &[("Accept-Encoding", "gzip")]).await;
    assert!(small.headers().get("content-encoding").is_none(), "short answers are not compressed");
    let redirected = server.get("/v1//user_role/", &[]).await;
    assert_eq!(redirected.status(), StatusCode::OK, "clients follow to the right path");
    let stranger = Client::builder().build().unwrap();
    assert!(stranger.get(&server.base).send().await.is_err(), "the certificate is the cluster's own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_shows_records_as_they_come_and_resumes_where_it_ended() {
    let server = Server::start().await;
    let mut reporter =
        Reporter::link(&server.fixture.controller, vec![workload("web-1", "web", "shop", 10)]).await;
    server
        .fixture
        .until("/v1/group", &server.admin, |groups| each(&groups["groups"], "name").contains(&"nv.web.shop"))
        .await;

    let mut stream = server.get("/v1/stream?topics=incident,group", &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(stream.headers().get("content-encoding").is_none());
    let mut text = String::new();
    read_until(&mut stream, &mut text, |text| text.contains(": connected")).await;
    reporter.tell(ran("web-1", "nv.web.shop", "/tmp/one", Verdict::Deny)).await;
    read_until(&mut stream, &mut text, |text| text.contains("/tmp/one") && text.ends_with("\n\n")).await;
    let event = text.split("\n\n").find(|event| event.contains("/tmp/one")).unwrap().to_owned();
    assert!(event.contains("event: incident\n"), "{event}");
    let id: u64 = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().parse().unwrap();
    let data: serde_json::Value =
        serde_json::from_str(event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap()).unwrap();
    assert_eq!(data["action"], "deny");

    let change = json!({"config": {"services": ["web.shop"], "policy_mode": "Monitor"}});
    server.fixture.done(axum::http::Method::PATCH, "/v1/service/config", &server.admin, change).await;
    read_until(&mut stream, &mut text, |text| text.contains("event: group")).await;
    assert!(!text.contains("event: event"), "topics that were not asked for do not come");
    drop(stream);

    reporter.tell(ran("web-1", "nv.web.shop", "/tmp/two", Verdict::Deny)).await;
    reporter.tell(ran("web-1", "nv.web.shop", "/tmp/three", Verdict::Deny)).await;
    let mut stream = server.get("/v1/stream?topics=incident", &[("Last-Event-ID", &id.to_string())]).await;
    let mut text = String::new();
    read_until(&mut stream, &mut text, |text| text.contains("/tmp/three")).await;
    assert!(
        text.contains("/tmp/two") && !text.contains("/tmp/one"),
        "nothing is lost and nothing repeated: {text}"
    );

    let refused = server.client.get(format!("{}/v1/stream", server.base)).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
}
