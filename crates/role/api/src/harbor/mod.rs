//! The adapter by which a Harbor registry has its images scanned: Harbor's pluggable scanner API, versions 1.0 to 1.2, at
//! the paths where NeuVector's registry adapter has it.
//!
//! ```text
//! Harbor ─► POST …/scan (where the image is, a robot's credentials) ─► a scan like a build's ─► 202, an id
//!        ─► GET …/scan/ID/report ─► 302, Refresh-After ─► … ─► 200: vulnerabilities, or a bill of materials
//! ```
//!
//! Nothing is kept here: the id says whose report is meant, so that every controller that has it answers, also after a
//! restart.

mod dto;
mod report;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use nv_model::scan::{
    BlobId, RegistryAccess, RegistryImage, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
};
use nv_registry::{Options, Registry};
use nv_role_controller::Controller;
use nv_role_controller::registry::Reach;
use nv_telemetry::Clock;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::dto::{Artifact, ErrorResponse, Fault, Metadata, Order, ScanId, Wanted};
use crate::query::Query;
use crate::server::{self, Answering, ServerCounters};

/// Port of the adapter with TLS.
pub const TLS_PORT: u16 = 9443;
/// Port of the adapter without.
pub const PLAIN_PORT: u16 = 8090;

/// Where NeuVector's registry adapter has the API; without it in front, it is answered too.
const PREFIX: &str = "/endpoint";
/// Seconds after which Harbor asks again for a report.
const REFRESH: HeaderValue = HeaderValue::from_static("10");
/// Largest request.
const MAX_BODY: usize = 64 * 1024;
/// Longest part of an image's place.
const MAX_TEXT: usize = 4_096;
/// What a wrong password has to wait for.
const WRONG: Duration = Duration::from_millis(500);

const ERROR: &str = "application/vnd.scanner.adapter.error+json; version=1.0";
const METADATA: &str = "application/vnd.scanner.adapter.metadata+json; version=1.1";
const ACCEPTED: &str = "application/vnd.scanner.adapter.scan.response+json; version=1.0";
/// What of images is taken.
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// Settings of the adapter.
pub struct HarborConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Certificate and key; none for plain HTTP, in which Harbor's password can be read on the way.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// By which name Harbor shows itself (HTTP basic authentication, RFC 7617).
    pub user: String,
    /// With which password.
    pub password: SecretString,
}

/// The adapter cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the adapter for Harbor cannot listen on {address}")]
pub struct HarborError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// An adapter that listens but does not answer yet.
pub struct Harbor {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    adapter: Arc<Adapter>,
}

impl Harbor {
    /// Takes the port.
    ///
    /// # Errors
    /// [`HarborError`].
    pub async fn bind(
        config: HarborConfig,
        controller: Controller,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HarborError> {
        let address = config.address;
        let fault = |source| HarborError { address, source };
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let adapter = Adapter { controller, clock, key: key(&config.user, config.password.expose_secret()) };
        Ok(Self { listener, address, tls: config.tls, adapter: Arc::new(adapter) })
    }

    /// The address that was taken.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        tracing::info!(address = %self.address, tls = self.tls.is_some(), "the adapter for Harbor is listening");
        server::run(self.listener, self.tls, self.adapter, Arc::<ServerCounters>::default(), shutdown).await;
    }
}

/// Mark of a user and a password: marks are compared, so that the time it takes tells nothing of them.
fn key(user: &str, password: &str) -> BlobId {
    BlobId::of(format!("{user}:{password}").as_bytes())
}

struct Adapter {
    controller: Controller,
    clock: Arc<dyn Clock>,
    key: BlobId,
}

impl Answering for Adapter {
    async fn answer(self: Arc<Self>, request: Request<Body>, _peer: IpAddr) -> Response<Body> {
        self.route(request).await.unwrap_or_else(Fault::response)
    }
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn document(status: StatusCode, kind: &'static str, value: &impl Serialize) -> Result<Response<Body>, Fault> {
    let body = serde_json::to_vec(value).map_err(|error| Fault::internal(error.to_string()))?;
    Ok(response(status, kind, body))
}

impl Fault {
    fn response(self) -> Response<Body> {
        let unauthorised = self.status == StatusCode::UNAUTHORIZED;
        let body = serde_json::to_vec(&ErrorResponse::of(self.message)).unwrap_or_default();
        let mut response = response(self.status, ERROR, body);
        if unauthorised {
            let asked = HeaderValue::from_static("Basic realm=\"neuvector\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, asked);
        }
        response
    }
}

impl Adapter {
    async fn route(&self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let path = request.uri().path().to_owned();
        let path = path.strip_prefix(PREFIX).unwrap_or(&path);
        if path.is_empty() || path == "/" {
            // Whoever looks whether it lives.
            return Ok(Response::new(Body::empty()));
        }
        if !self.knows(request.headers()) {
            tokio::time::sleep(WRONG).await;
            return Err(Fault::new(StatusCode::UNAUTHORIZED, "user or password are wrong"));
        }
        let method = request.method().clone();
        let parts: Vec<&str> = path.trim_end_matches('/').split('/').skip(1).take(6).collect();
        match (&method, parts.as_slice()) {
            (&Method::GET, ["api", "v1", "metadata"]) => self.metadata(),
            (&Method::POST, ["api", "v1", "scan"]) => self.scan(request).await,
            (&Method::GET, ["api", "v1", "scan", id, "report"]) => {
                let query = Query::parse(request.uri().query().unwrap_or_default());
                let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
                self.report(id, accept.unwrap_or_default(), &query, request.uri().path()).await
            }
            (_, ["api", "v1", "metadata" | "scan"] | ["api", "v1", "scan", _, "report"]) => {
                Err(Fault::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not served here"))
            }
            _ => Err(Fault::new(StatusCode::NOT_FOUND, "nothing is served here")),
        }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let pair = given.and_then(basic);
        pair.is_some_and(|(user, password)| key(&user, &password) == self.key)
    }

    fn metadata(&self) -> Result<Response<Body>, Fault> {
        let database = self.controller.scans().database().unwrap_or_default();
        document(StatusCode::OK, METADATA, &Metadata::new(&database.shown_created()))
    }

    async fn scan(&self, request: Request<Body>) -> Result<Response<Body>, Fault> {
        let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
        let body =
            body.map_err(|_too_large| Fault::new(StatusCode::BAD_REQUEST, "the request is too large"))?;
        let order: Order = parse(&body)?;
        let wanted = order.artifact;
        if !wanted.mime_type.is_empty() && !MANIFESTS.contains(&wanted.mime_type.as_str()) {
            let why = format!("artifacts of type {} are not scanned", wanted.mime_type);
            return Err(Fault::new(StatusCode::NOT_IMPLEMENTED, why));
        }
        if order.enabled_capabilities.as_ref().is_some_and(|wanted| !wanted.iter().any(Wanted::is_served)) {
            let why = "none of the capabilities that are asked for is served";
            return Err(Fault::new(StatusCode::NOT_IMPLEMENTED, why));
        }
        let id = ScanId { url: order.registry.url, artifact: wanted };
        let source = source(&id, &order.registry.authorization, &self.controller)?;
        let request = ScanRequest {
            subject: id.subject(),
            source: ScanSource::Image(Box::new(source)),
            priority: ScanPriority::OnDemand,
        };
        let scans = self.controller.scans();
        scans.enqueue(request).map_err(|full| Fault::internal(full.to_string()))?;
        document(StatusCode::ACCEPTED, ACCEPTED, &serde_json::json!({ "id": id.encode()? }))
    }

    async fn report(
        &self,
        id: &str,
        accept: &str,
        query: &Query,
        path: &str,
    ) -> Result<Response<Body>, Fault> {
        let unknown = || Fault::new(StatusCode::NOT_FOUND, "there is no such scan");
        let id = ScanId::decode(id).ok_or_else(unknown)?;
        let kind = report::Kind::of(accept, query)?;
        let status = self.controller.scans().status(&id.subject());
        match status.state {
            ScanState::Scheduled | ScanState::Scanning => {
                let mut later = Response::new(Body::empty());
                *later.status_mut() = StatusCode::FOUND;
                later.headers_mut().insert("refresh-after", REFRESH);
                if let Ok(place) = HeaderValue::from_str(path) {
                    later.headers_mut().insert(header::LOCATION, place);
                }
                Ok(later)
            }
            ScanState::Idle => Err(unknown()),
            ScanState::Failed => {
                let why = status.failure.map(|failure| failure.message).unwrap_or_default();
                Err(Fault::internal(format!("the scan failed: {why}")))
            }
            ScanState::Finished => {
                let kept = status.report.ok_or_else(unknown)?;
                report::answer(&self.controller, self.clock.now().seconds(), &id.artifact, &kept, kind).await
            }
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    use serde_json::error::Category;
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        // It is JSON, but a field is missing or of another type.
        Category::Data => Fault::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
        Category::Io | Category::Syntax | Category::Eof => {
            Fault::new(StatusCode::BAD_REQUEST, "the request is no JSON")
        }
    })
}

/// User and password of `Basic …`.
fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, given) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(given.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// How a scanner gets at the image. Harbor gives the credentials of a robot that is good for this scan alone.
fn source(id: &ScanId, authorization: &str, controller: &Controller) -> Result<RegistryImage, Fault> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        Fault::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{what}: {error}"))
    };
    let ScanId { url, artifact: Artifact { repository, digest, tag, .. } } = id;
    for (what, text) in [("registry.url", url), ("artifact.repository", repository), ("artifact.tag", tag)] {
        if text.len() > MAX_TEXT {
            return Err(wrong(what, &format!("longer than {MAX_TEXT} bytes")));
        }
    }
    let (username, password, token) = match (basic(authorization), authorization.split_once(' ')) {
        (Some((user, password)), _) => (user, password, String::new()),
        (None, Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => {
            (String::new(), String::new(), token.trim().to_owned())
        }
        (None, None) if authorization.is_empty() => Default::default(),
        (None, _) => return Err(wrong("registry.authorization", &"neither Basic nor Bearer")),
    };
    Registry::new(Options { url: url.clone(), ..Options::default() })
        .map_err(|error| wrong("registry.url", &error))?;
    repository.parse::<nv_registry::Repository>().map_err(|error| wrong("artifact.repository", &error))?;
    digest.parse::<nv_registry::Digest>().map_err(|error| wrong("artifact.digest", &error))?;
    let reach = Reach::of(&controller.view().config, url, false);
    let access = RegistryAccess { url: url.clone(), username, password, token, ..RegistryAccess::default() };
    Ok(RegistryImage {
        access: reach.access(access),
        repository: repository.clone(),
        reference: digest.clone(),
        layers: false,
        base_image: String::new(),
        roots_of_trust: controller.registries().roots(),
    })
}

impl ScanId {
    fn subject(&self) -> ScanSubject {
        ScanSubject::Repository {
            registry: self.url.clone(),
            repository: self.artifact.repository.clone(),
            reference: self.artifact.digest.clone(),
        }
    }

    fn encode(&self) -> Result<String, Fault> {
        let text = serde_json::to_vec(self).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(text))
    }

    fn decode(text: &str) -> Option<Self> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_a_password_are_taken_apart_at_the_first_colon() {
        for (given, want) in [
            ("Basic cm9ib3Q6YTpi", Some(("robot", "a:b"))),
            ("basic cm9ib3Q6", Some(("robot", ""))),
            ("Bearer cm9ib3Q6YTpi", None),
            ("Basic cm9ib3Q", None),
            ("Basic ?", None),
            ("", None),
        ] {
            let found = basic(given);
            assert_eq!(found.as_ref().map(|(user, password)| (&**user, &**password)), want, "{given}");
        }
    }

    #[test]
    fn an_id_says_whose_report_is_meant() {
        let artifact = Artifact {
            repository: "shop/web".to_owned(),
            digest: format!("sha256:{}", "a".repeat(64)),
            tag: "1.0".to_owned(),
            mime_type: MANIFESTS[0].to_owned(),
        };
        let id = ScanId { url: "https://core.harbor.example".to_owned(), artifact };
        let text = id.encode().unwrap();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
        assert_eq!(ScanId::decode(&text), Some(id));
        assert_eq!(ScanId::decode("3fa85f64-5717-4562-b3fc-2c963f66afa6"), None);
    }
}
