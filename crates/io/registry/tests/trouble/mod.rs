//! A registry with troubles; the first part of the path says which.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use futures::StreamExt as _;

pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    address: Mutex<String>,
    /// Tokens that are good.
    tokens: Mutex<HashSet<String>>,
    given: Mutex<usize>,
    asked: Mutex<usize>,
    ranges: Mutex<Vec<String>>,
}

/// What the blob of `busy` is.
pub(crate) fn blob() -> Vec<u8> {
    (0..2_500_u32).map(|at| (at % 253) as u8).collect()
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        *seen.address.lock().unwrap() = address.to_string();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&seen));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen }
    }

    pub(crate) fn url(&self, trouble: &str) -> String {
        format!("http://{}/{trouble}", self.address)
    }

    /// How many tokens were given.
    pub(crate) fn tokens(&self) -> usize {
        *self.seen.given.lock().unwrap()
    }

    pub(crate) fn forget_tokens(&self) {
        self.seen.tokens.lock().unwrap().clear();
    }

    pub(crate) fn ranges(&self) -> Vec<String> {
        self.seen.ranges.lock().unwrap().clone()
    }
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

async fn answer(State(seen): State<Arc<Seen>>, request: Request) -> Response<Body> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (trouble, rest) = path.split_once('/').unwrap();
    let tags = |link: &str| reply(200, &[("link", link)], r#"{"name":"a","tags":["1"]}"#);
    match trouble {
        "authority" => {
            let query = request.uri().query().unwrap_or_default();
            if header("authorization").is_none() {
                return reply(401, &[], "");
            }
            assert!(query.contains("service=lab"), "{query}");
            assert!(query.contains("scope=repository%3Aa%3Apull"), "{query}");
            let mut given = seen.given.lock().unwrap();
            *given += 1;
            let token = format!("token-{given}");
            seen.tokens.lock().unwrap().insert(token.clone());
            reply(200, &[], format!(r#"{{"access_token":"{token}","expires_in":300}}"#))
        }
        "tokens" => {
            let token =
                header("authorization").and_then(|value| value.strip_prefix("Bearer ").map(str::to_owned));
            if token.is_some_and(|token| seen.tokens.lock().unwrap().contains(&token)) {
                return reply(200, &[], r#"{"name":"a","tags":["1"]}"#);
            }
            let realm = format!(
                "Bearer realm=\"http://{}/authority/token\",service=\"lab\"",
                seen.address.lock().unwrap()
            );
            reply(401, &[("www-authenticate", &realm)], "")
        }
        "busy" if rest.contains("/blobs/") => {
            let from = match header("range") {
                Some(range) => {
                    let from: usize =
                        range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                    seen.ranges.lock().unwrap().push(range);
                    from
                }
                None => 0,
            };
            // A thousand bytes of what it promises, then the connection ends.
            let all = blob();
            let piece = all[from..].iter().copied().take(1_000).collect::<Vec<u8>>();
            let left = (all.len() - from).to_string();
            let body = Body::from_stream(breaking(piece));
            let status = if from == 0 { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
            reply(status.as_u16(), &[("content-length", &left)], body)
        }
        "busy" => {
            let mut asked = seen.asked.lock().unwrap();
            *asked += 1;
            match *asked {
                1 => reply(429, &[("retry-after", "0")], ""),
                2 => reply(503, &[], ""),
                _ => tags("<x>"),
            }
        }
        "endless" => tags("</endless/v2/a/tags/list?n=1000>; rel=\"next\""),
        "elsewhere" => tags("<http://elsewhere.example/v2/a/tags/list?last=1>; rel=\"next\""),
        "huge" => reply(200, &[], vec![b' '; 5 * 1024 * 1024]),
        "strange" => reply(200, &[], "<html>"),
        "patient" => reply(429, &[("retry-after", "3600")], ""),
        _ => reply(400, &[], r#"{"errors":[{"code":"NAME_INVALID","message":"no\u0007"}]}"#),
    }
}

/// The piece, and then an error: the connection breaks when less was sent than promised.
fn breaking(piece: Vec<u8>) -> impl futures::Stream<Item = Result<Vec<u8>, std::io::Error>> {
    let broken = async {
        // Not before the piece is on its way.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        Err(std::io::Error::other("the connection breaks"))
    };
    futures::stream::once(async { Ok(piece) }).chain(futures::stream::once(broken))
}
