//! `POST /v1/auth` from the console: the token goes into a cookie, everything else to the page.

use std::net::IpAddr;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::proxy::{self, Upstream};
use crate::{response, session};

/// Largest login request or answer, in bytes; an administrator of many namespaces has a long list of permissions.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// Logs in at the controller and starts the browser's session. `path` is `/v1/auth` or `/v1/auth/<server>`.
pub(crate) async fn login(
    upstream: &Upstream,
    path: &str,
    mut headers: HeaderMap,
    body: Bytes,
    peer: IpAddr,
    cookie_path: &str,
) -> Response<Body> {
    let Some(body) = with_client(&body, peer) else {
        return response::error(
            StatusCode::BAD_REQUEST,
            6,
            "Request in wrong format",
            "the login is not a JSON object",
        );
    };
    // The answer is read here, so it must not come compressed; a former session has no say in a new one.
    headers.remove(header::ACCEPT_ENCODING);
    headers.remove(session::TOKEN);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let answer = match upstream.send(axum::http::Method::POST, path, headers, body.into()).await {
        Ok(answer) => answer,
        Err(error) => return proxy::unreachable_controller(&error),
    };
    if answer.status() != reqwest::StatusCode::OK {
        return proxy::pass_back(answer, cookie_path);
    }
    let Some(mut document) = read(answer).await else {
        return response::bad_gateway("the controller's answer to the login cannot be read");
    };
    let token = document
        .get_mut("token")
        .and_then(Value::as_object_mut)
        .and_then(|token| token.remove("token"))
        .and_then(|token| token.as_str().map(str::to_owned));
    let mut reply = Response::new(Body::from(document.to_string()));
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // No token: the password must be changed first.
    if let Some(token) = token {
        let Some(cookie) = session::start(&token, cookie_path) else {
            return response::bad_gateway("the controller's session token cannot be kept in a cookie");
        };
        reply.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    reply
}

/// The body with `client_ip` set to the browser's address; `None` if it is not a JSON object.
fn with_client(body: &[u8], peer: IpAddr) -> Option<String> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    document.as_object_mut()?.insert("client_ip".to_owned(), Value::String(peer.to_string()));
    Some(document.to_string())
}

async fn read(mut answer: reqwest::Response) -> Option<Value> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        if bytes.len().saturating_add(chunk.len()) > MAX_BYTES {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).ok()
}
