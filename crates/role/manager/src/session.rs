//! Browser sessions: the cookie that holds the controller's token, and the checks against requests forged by other sites.
//!
//! The cookie is `HttpOnly; Secure; SameSite=Strict`, so scripts never see the token and other sites never send it.
//! `SameSite` counts sibling hosts as one site and old browsers ignore it; therefore a request that relies on the
//! cookie must also come from this origin (`Sec-Fetch-Site`, else `Origin` against `Host`), and one that changes
//! something must carry a header that a form or a plain cross-site request cannot set.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// Name of the session cookie.
const COOKIE: &str = "nv_session";
/// Sent by the console with every request that changes something, with any value.
pub(crate) const CONSOLE: HeaderName = HeaderName::from_static("x-nv-console");
/// The contract's header for a session token.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// The contract's header for an API key.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-auth-apikey");
/// Browsers drop cookies beyond 4 KiB, name and attributes included.
const MAX_TOKEN_BYTES: usize = 3800;

/// The token in the request's cookie, if there is one.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, value)| *name == COOKIE && is_cookie_safe(value))
        .map(|(_, value)| value)
}

/// The cookie that starts a session; `None` if the token cannot be kept in one.
pub(crate) fn start(token: &str, path: &str) -> Option<HeaderValue> {
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || !is_cookie_safe(token) {
        return None;
    }
    let path = if path.is_empty() { "/" } else { path };
    let mut value =
        HeaderValue::from_str(&format!("{COOKIE}={token}; Path={path}; HttpOnly; Secure; SameSite=Strict"))
            .ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The cookie that ends it.
pub(crate) fn end(path: &str) -> Option<HeaderValue> {
    let path = if path.is_empty() { "/" } else { path };
    HeaderValue::from_str(&format!("{COOKIE}=; Path={path}; Max-Age=0; HttpOnly; Secure; SameSite=Strict"))
        .ok()
}

/// Whether a request that relies on the cookie, or sets it, may be trusted to come from the console.
/// `host`: the host that the browser asked for.
pub(crate) fn is_own_page(method: &Method, headers: &HeaderMap, host: Option<&str>) -> bool {
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && !headers.contains_key(CONSOLE) {
        return false;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("invalid"));
    match text("sec-fetch-site") {
        // `none`: typed or bookmarked by the user; only reads come that way.
        Some(site) => site == "same-origin" || (site == "none" && !changes),
        None => match text("origin") {
            Some(origin) => origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == host),
            None => true,
        },
    }
}

/// RFC 6265 §4.1.1 cookie-octet.
fn is_cookie_safe(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_the_console_itself_may_use_its_cookie() {
        let own = ("x-nv-console", "1");
        for (method, sent, want) in [
            (Method::GET, vec![("sec-fetch-site", "same-origin")], true),
            (Method::GET, vec![("sec-fetch-site", "none")], true),
            (Method::GET, vec![("sec-fetch-site", "same-site")], false),
            (Method::GET, vec![("sec-fetch-site", "cross-site")], false),
            (Method::GET, vec![], true),
            (Method::POST, vec![("sec-fetch-site", "same-origin")], false),
            (Method::POST, vec![own, ("sec-fetch-site", "same-origin")], true),
            (Method::POST, vec![own, ("sec-fetch-site", "none")], false),
            (Method::POST, vec![own, ("sec-fetch-site", "cross-site")], false),
            (Method::DELETE, vec![own, ("origin", "https://console:8443")], true),
            (Method::DELETE, vec![own, ("origin", "https://console:9443")], false),
            (Method::DELETE, vec![own, ("origin", "null")], false),
            (Method::PATCH, vec![own], true),
        ] {
            assert_eq!(
                is_own_page(&method, &headers(&sent), Some("console:8443")),
                want,
                "{method} {sent:?}"
            );
        }
    }

    #[test]
    fn a_token_that_would_break_out_of_the_cookie_is_refused() {
        for bad in ["", "a;b", "a b", "a\"b", "a,b", "a\\b", "a\r\nSet-Cookie: x", &"x".repeat(3801)] {
            assert!(start(bad, "").is_none(), "{bad:?}");
        }
        let cookie = start("abc.DEF-123_~=", "/nv").unwrap();
        assert_eq!(
            cookie.to_str().unwrap(),
            "nv_session=abc.DEF-123_~=; Path=/nv; HttpOnly; Secure; SameSite=Strict"
        );
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        assert_eq!(token(&headers(&[("cookie", "a=1; nv_session=t0k; b=2")])), Some("t0k"));
        assert_eq!(token(&headers(&[("cookie", "xnv_session=t0k")])), None);
        assert_eq!(token(&headers(&[])), None);
    }
}
