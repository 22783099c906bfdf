//! Requests under `/v1` and `/v2`, streamed to the controller and back.

use std::net::IpAddr;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;

use crate::{ControllerEndpoint, ManagerError, response, session};

/// Largest request body, in bytes. Imports of a whole configuration are the largest legitimate ones.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the controller. Streams have a heartbeat every 15 s, so this bounds them too without ending them.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest silence of a browser within a request's body.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 64;

/// RFC 9110 §7.6.1, plus what is the manager's own business on either side.
const REQUEST_DROPPED: [&str; 13] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "cookie",
    "content-length",
    "x-nv-console",
];
const RESPONSE_DROPPED: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "set-cookie",
];

/// The way to the controller.
#[derive(Clone)]
pub(crate) struct Upstream {
    client: reqwest::Client,
    /// Scheme and authority, no slash at the end.
    origin: String,
}

impl Upstream {
    pub(crate) fn new(endpoint: &ControllerEndpoint) -> Result<Self, ManagerError> {
        let url = endpoint.url.trim_end_matches('/');
        let parsed =
            reqwest::Url::parse(url).map_err(|_invalid| ManagerError::Controller { url: url.to_owned() })?;
        if !matches!(parsed.scheme(), "https" | "http") || parsed.path() != "/" || parsed.host().is_none() {
            return Err(ManagerError::Controller { url: url.to_owned() });
        }
        if parsed.scheme() == "https" && endpoint.roots.is_empty() {
            return Err(ManagerError::NoRoot { url: url.to_owned() });
        }
        let roots: Result<Vec<_>, _> =
            endpoint.roots.iter().map(|root| reqwest::Certificate::from_der(root.as_ref())).collect();
        let client = reqwest::Client::builder()
            .tls_certs_only(roots.map_err(ManagerError::Client)?)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build()
            .map_err(ManagerError::Client)?;
        Ok(Self { client, origin: url.to_owned() })
    }

    /// Sends a request with a body that is already in memory.
    pub(crate) async fn send(
        &self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: reqwest::Body,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let url = format!("{}{path_and_query}", self.origin);
        self.client.request(method, url).headers(headers).body(body).send().await
    }

    /// Passes a request on and its answer back, without holding either in memory. `path_and_query` begins with `/v1` or
    /// `/v2`; `prefix` is put before the path of a redirect.
    pub(crate) async fn forward(
        &self,
        request: Request<Body>,
        path_and_query: &str,
        headers: HeaderMap,
        prefix: &str,
    ) -> Response<Body> {
        let method = request.method().clone();
        let size = request.body().size_hint();
        if size.lower() > MAX_BODY_BYTES.try_into().unwrap_or(u64::MAX) {
            return response::too_large(MAX_BODY_BYTES);
        }
        let mut headers = headers;
        let body = match size.exact() {
            Some(0) => reqwest::Body::default(),
            exact => {
                if let Some(length) = exact {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
                }
                reqwest::Body::wrap_stream(paced(request.into_body()))
            }
        };
        match self.send(method, path_and_query, headers, body).await {
            Ok(answer) => pass_back(answer, prefix),
            Err(error) if is_too_large(&error) => response::too_large(MAX_BODY_BYTES),
            Err(error) => unreachable_controller(&error),
        }
    }
}

/// What of a request's headers the controller is given. A browser's cookie becomes the token's header.
pub(crate) fn request_headers(incoming: &HeaderMap, peer: IpAddr, request_id: &str) -> HeaderMap {
    let mut headers = without(incoming, &REQUEST_DROPPED);
    let is_api_client = headers.contains_key(session::TOKEN) || headers.contains_key(session::API_KEY);
    if !is_api_client
        && let Some(token) = session::token(incoming)
        && let Ok(mut value) = HeaderValue::from_str(token)
    {
        value.set_sensitive(true);
        headers.insert(session::TOKEN, value);
    }
    if let Ok(value) = HeaderValue::from_str(&peer.to_string()) {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value);
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(response::REQUEST_ID, value);
    }
    headers
}

/// Turns the controller's answer into ours; the body stays a stream.
pub(crate) fn pass_back(answer: reqwest::Response, prefix: &str) -> Response<Body> {
    let status = answer.status();
    let mut headers = without(answer.headers(), &RESPONSE_DROPPED);
    if !prefix.is_empty()
        && let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok())
        && location.starts_with('/')
        && let Ok(value) = HeaderValue::from_str(&format!("{prefix}{location}"))
    {
        headers.insert(header::LOCATION, value);
    }
    let is_stream = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if is_stream {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Ingresses that buffer by default must not hold events back.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    }
    let mut response = Response::new(Body::from_stream(answer.bytes_stream().map_err(std::io::Error::other)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The answer when the controller gave none.
pub(crate) fn unreachable_controller(error: &reqwest::Error) -> Response<Body> {
    tracing::warn!(%error, "the controller did not answer");
    if error.is_timeout() && !error.is_connect() {
        return response::error(
            StatusCode::GATEWAY_TIMEOUT,
            55,
            "Server Error",
            "the controller did not answer in time; try again",
        );
    }
    response::bad_gateway("the controller cannot be reached; it may be starting. Try again in a moment")
}

/// The body's bytes, up to the bound, ended with an error when the browser sends nothing for a while.
fn paced(body: Body) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let bytes = Limited::new(body, MAX_BODY_BYTES).into_data_stream();
    futures::stream::unfold(Some(bytes), |bytes| async move {
        let mut bytes = bytes?;
        match tokio::time::timeout(BODY_TIMEOUT, bytes.next()).await {
            Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(bytes))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
            Ok(None) => None,
            Err(elapsed) => Some((Err(elapsed.into()), None)),
        }
    })
}

fn is_too_large(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<LengthLimitError>() {
            return true;
        }
        cause = current.source();
    }
    false
}

fn without(incoming: &HeaderMap, dropped: &[&str]) -> HeaderMap {
    let named: Vec<String> = incoming
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut headers = HeaderMap::with_capacity(incoming.len());
    for (name, value) in incoming {
        if !dropped.contains(&name.as_str()) && !named.iter().any(|other| other == name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}
