//! The embedded console: which file answers a path, in which encoding, and how long it may be kept.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;

use crate::branding::Branding;

/// One embedded file. `brotli` and `gzip` are the same bytes, compressed when the console was built.
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    /// ETag with its quotes.
    pub(crate) tag: &'static str,
    pub(crate) plain: &'static [u8],
    pub(crate) brotli: Option<&'static [u8]>,
    pub(crate) gzip: Option<&'static [u8]>,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The entry page with this installation's prefix, name and branding written into it.
#[derive(Clone)]
pub(crate) struct Page {
    html: Bytes,
    tag: HeaderValue,
}

impl Page {
    /// `prefix` without a slash at its end.
    pub(crate) fn new(prefix: &str, branding: &Branding) -> Self {
        let template =
            find("index.html").map(|asset| String::from_utf8_lossy(asset.plain)).unwrap_or_default();
        let config = serde_json::json!({ "prefix": prefix, "brand": branding.to_json() }).to_string();
        let title = escape(&branding.name);
        let html = template
            .replace("<base href=\"/\"", &format!("<base href=\"{}/\"", escape(prefix)))
            .replace("<title>Console</title>", &format!("<title>{title}</title>"))
            .replace("content=\"nv-config\"", &format!("content=\"{}\"", escape(&config)));
        // FNV-1a: tells one page from another, guards nothing.
        let hash = html.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let tag = HeaderValue::from_str(&format!("\"{hash:016x}\""))
            .unwrap_or(HeaderValue::from_static("\"page\""));
        Self { html: Bytes::from(html), tag }
    }

    /// Answers with the page; a browser always asks whether it changed.
    pub(crate) fn respond(&self, request: &HeaderMap) -> Response<Body> {
        let unchanged = request.get(header::IF_NONE_MATCH).is_some_and(|known| *known == self.tag);
        let mut response =
            Response::new(if unchanged { Body::empty() } else { Body::from(self.html.clone()) });
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::ETAG, self.tag.clone());
        response
    }
}

/// Answers with the file of that name (without a leading slash), or `None` if there is none.
pub(crate) fn respond(name: &str, request: &HeaderMap) -> Option<Response<Body>> {
    let asset = find(name)?;
    let accepted =
        request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepts = |wanted: &str| {
        accepted.split(',').any(|entry| {
            let (coding, weight) = entry.split_once(';').unwrap_or((entry, ""));
            coding.trim().eq_ignore_ascii_case(wanted) && weight.trim() != "q=0"
        })
    };
    let (coding, bytes) = match (asset.brotli, asset.gzip) {
        (Some(bytes), _) if accepts("br") => (Some("br"), bytes),
        (_, Some(bytes)) if accepts("gzip") => (Some("gzip"), bytes),
        _ => (None, asset.plain),
    };
    let unchanged =
        request.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == asset.tag.as_bytes());
    let mut response = Response::new(if unchanged { Body::empty() } else { Body::from(bytes) });
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::ETAG, HeaderValue::from_static(asset.tag));
    // Names under assets/ carry a hash of their content.
    let keep = if name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    if let (Some(coding), false) = (coding, unchanged) {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    Some(response)
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_markup_stays_text_in_the_page() {
        let branding = Branding { name: "A<script>\"&'".to_owned(), ..Branding::default() };
        let page = Page::new("/nv", &branding);
        let html = String::from_utf8(page.html.to_vec()).unwrap();
        assert!(html.contains("<title>A&lt;script&gt;&quot;&amp;&#39;</title>"), "{html}");
        assert!(html.contains("<base href=\"/nv/\""), "{html}");
        assert!(!html.contains("A<script>"), "{html}");
    }

    #[test]
    fn the_page_is_always_revalidated_and_answers_304_when_it_is_known() {
        let page = Page::new("", &Branding::default());
        let first = page.respond(&HeaderMap::new());
        assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
        let mut again = HeaderMap::new();
        again.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(page.respond(&again).status(), StatusCode::NOT_MODIFIED);
    }
}
