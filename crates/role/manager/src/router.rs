//! Which part answers a request: the API by proxy, the login, a file, or the console's page.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};

use crate::assets::{self, Page};
use crate::branding::Branding;
use crate::proxy::{self, Upstream};
use crate::{login, response, session};

/// Everything that an answer is made of; shared by all connections.
pub(crate) struct Router {
    pub(crate) upstream: Upstream,
    pub(crate) page: Page,
    pub(crate) branding: Branding,
    /// Without a slash at its end; empty for the root.
    pub(crate) prefix: String,
    /// TLS ends here.
    pub(crate) secure: bool,
}

impl Router {
    /// Answers one request from `peer`.
    pub(crate) async fn answer(&self, request: Request<Body>, peer: SocketAddr) -> Response<Body> {
        let request_id = uuid::Uuid::now_v7().to_string();
        let head = *request.method() == Method::HEAD;
        let mut answer = self.route(request, peer.ip().to_canonical(), &request_id).await;
        response::harden(answer.headers_mut(), self.secure, &request_id);
        if head {
            *answer.body_mut() = Body::empty();
        }
        answer
    }

    async fn route(&self, request: Request<Body>, peer: IpAddr, request_id: &str) -> Response<Body> {
        let full = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let Some(local) = self.below_prefix(&full) else {
            return to_prefix(&self.prefix);
        };
        let path = local.split_once('?').map_or(local, |(path, _)| path);
        if path == "/healthz" {
            return Response::new(Body::from("ok\n"));
        }
        if is_api(path) {
            return self.api(request, local, path, peer, request_id).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = response::error(
                StatusCode::METHOD_NOT_ALLOWED,
                2,
                "Method not allowed",
                "only GET is allowed here",
            );
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        self.file(path, request.headers())
    }

    async fn api(
        &self,
        request: Request<Body>,
        local: &str,
        path: &str,
        peer: IpAddr,
        request_id: &str,
    ) -> Response<Body> {
        let method = request.method().clone();
        let incoming = request.headers();
        let is_login = method == Method::POST && (path == "/v1/auth" || path.starts_with("/v1/auth/"));
        let is_api_client = incoming.contains_key(session::TOKEN) || incoming.contains_key(session::API_KEY);
        let from_console = incoming.contains_key(session::CONSOLE);
        let by_cookie = !is_api_client && session::token(incoming).is_some();
        let host = host(&request).map(str::to_owned);
        if (by_cookie || (is_login && from_console))
            && !session::is_own_page(&method, request.headers(), host.as_deref())
        {
            return response::error(
                StatusCode::FORBIDDEN,
                25,
                "Object access denied",
                "the request does not come from the console's own pages",
            );
        }
        let headers = proxy::request_headers(request.headers(), peer, request_id);
        if is_login && from_console {
            let body = axum::body::to_bytes(request.into_body(), login::MAX_BYTES);
            let body = match tokio::time::timeout(proxy::BODY_TIMEOUT, body).await {
                Ok(Ok(body)) => body,
                Ok(Err(_beyond)) => return response::too_large(login::MAX_BYTES),
                Err(_elapsed) => return response::too_slow(),
            };
            return login::login(&self.upstream, local, headers, body, peer, &self.prefix).await;
        }
        let ends_session = by_cookie && method == Method::DELETE && path == "/v1/auth";
        let mut answer = self.upstream.forward(request, local, headers, &self.prefix).await;
        if ends_session && let Some(cookie) = session::end(&self.prefix) {
            // Even if the controller is away: whoever logs out is out of this browser.
            answer.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        answer
    }

    fn file(&self, path: &str, headers: &axum::http::HeaderMap) -> Response<Body> {
        let name = path.trim_start_matches('/');
        if name == "brand/logo" {
            return match &self.branding.logo {
                Some((kind, bytes)) => {
                    let mut answer = Response::new(Body::from(bytes.clone()));
                    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                    answer
                }
                None => not_found(),
            };
        }
        if name.is_empty() || name == "index.html" {
            return self.page.respond(headers);
        }
        match assets::respond(name, headers) {
            Some(answer) => answer,
            // A name of a file that is not there must not get a page, or a stale console would load it as a script.
            None if name.starts_with("assets/") => not_found(),
            None => self.page.respond(headers),
        }
    }

    /// The part of a path below the prefix, beginning with a slash.
    fn below_prefix<'a>(&self, full: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(full);
        }
        full.strip_prefix(self.prefix.as_str()).filter(|rest| rest.starts_with('/'))
    }
}

fn is_api(path: &str) -> bool {
    ["/v1", "/v2"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

fn host<B>(request: &Request<B>) -> Option<&str> {
    let from_header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    from_header.or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str))
}

fn not_found() -> Response<Body> {
    response::error(StatusCode::NOT_FOUND, 1, "URL not found", "there is no such file")
}

fn to_prefix(prefix: &str) -> Response<Body> {
    let target = Uri::try_from(format!("{prefix}/")).unwrap_or_default();
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::FOUND;
    if let Ok(value) = HeaderValue::from_str(&target.to_string()) {
        answer.headers_mut().insert(header::LOCATION, value);
    }
    answer
}
