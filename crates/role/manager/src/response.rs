//! Answers that the manager gives itself, and the headers that every answer carries.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// No inline script or style, nothing from elsewhere, no framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
connect-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'";

/// Header that names a request in logs and in error messages on screen.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An error in the contract's shape `{code, error, message}`.
pub(crate) fn error(status: StatusCode, code: u32, error: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "code": code, "error": error, "message": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The controller did not answer, or not in a way that can be passed on.
pub(crate) fn bad_gateway(message: &str) -> Response<Body> {
    error(StatusCode::BAD_GATEWAY, 55, "Server Error", message)
}

/// A body beyond the bound.
pub(crate) fn too_large(limit: usize) -> Response<Body> {
    let message = format!("request body is larger than {limit} bytes");
    error(StatusCode::PAYLOAD_TOO_LARGE, 6, "Request in wrong format", &message)
}

/// A body that did not come.
pub(crate) fn too_slow() -> Response<Body> {
    error(
        StatusCode::REQUEST_TIMEOUT,
        6,
        "Request in wrong format",
        "the request's body did not arrive in time",
    )
}

/// Sets what every answer must carry. `secure`: TLS ends here, so browsers are told to keep to it.
pub(crate) fn harden(headers: &mut HeaderMap, secure: bool, request_id: &str) {
    let fixed: [(HeaderName, &'static str); 7] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if secure {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000; includeSubDomains"),
        );
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
}
