//! A controller that records what it is asked, over TLS with a root of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use nv_role_manager::{ControllerEndpoint, server_config_from_pem};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The token that a right login gives.
pub(crate) const TOKEN: &str = "eyJhbGciOi.J9-x_y~z=";

/// One request as the controller got it.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Upstream {
    address: SocketAddr,
    root: CertificateDer<'static>,
    seen: Arc<Mutex<Vec<Seen>>>,
    events: broadcast::Sender<String>,
    _stop: DropGuard,
}

/// A root and a certificate for `name` that it signed.
pub(crate) struct Authority {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) tls: rustls::ServerConfig,
}

pub(crate) fn authority(name: &str) -> Authority {
    let root_key = KeyPair::generate().expect("a key");
    let mut root_params = CertificateParams::new(Vec::new()).expect("no names");
    root_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root_params.distinguished_name.push(DnType::CommonName, format!("root of {name}"));
    let root = root_params.self_signed(&root_key).expect("a root").der().clone();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let leaf = params.signed_by(&key, &Issuer::new(root_params, root_key)).expect("a certificate");
    let tls = server_config_from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes()).expect("tls");
    Authority { root, tls }
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let Authority { root, tls } = authority("localhost");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (events, _) = broadcast::channel(16);
        let stop = CancellationToken::new();
        let (log, sender, stopped) = (Arc::clone(&seen), events.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else { return };
                let (acceptor, log, sender, stopped) =
                    (acceptor.clone(), Arc::clone(&log), sender.clone(), stopped.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        let (log, sender) = (Arc::clone(&log), sender.clone());
                        async move { Ok::<_, Infallible>(answer(request, &log, &sender).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    tokio::select! {
                        () = stopped.cancelled() => {}
                        _ended = builder.serve_connection(TokioIo::new(stream), service) => {}
                    }
                });
            }
        });
        Self { address, root, seen, events, _stop: stop.drop_guard() }
    }

    pub(crate) fn endpoint(&self) -> ControllerEndpoint {
        ControllerEndpoint {
            url: format!("https://localhost:{}", self.address.port()),
            roots: vec![self.root.clone()],
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Sends text to every open stream.
    pub(crate) fn emit(&self, text: String) {
        self.events.send(text).expect("a stream is open");
    }
}

async fn answer(
    request: Request<Incoming>,
    log: &Mutex<Vec<Seen>>,
    events: &broadcast::Sender<String>,
) -> Response<Body> {
    let path = request.uri().path_and_query().expect("a path").to_string();
    let headers = request.headers().clone();
    let bytes = axum::body::to_bytes(Body::new(request.into_body()), 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    log.lock().expect("no panic").push(Seen { path: path.clone(), headers, body: body.clone() });
    let json = |status: u16, value: Value| {
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("set-cookie", "upstream=1")
            .body(Body::from(value.to_string()))
            .expect("an answer")
    };
    match (path.as_str(), body["password"]["password"].as_str()) {
        ("/v1/auth", Some("right")) => json(200, json!({ "token": { "token": TOKEN, "fullname": "admin" } })),
        ("/v1/auth", Some("one-time")) => json(200, json!({ "token": null, "need_to_reset_password": true })),
        ("/v1/auth", _) => json(401, json!({ "code": 3, "error": "Authentication failed", "message": "" })),
        ("/v1/redirected", _) => Response::builder()
            .status(301)
            .header("location", "/v1/group")
            .body(Body::empty())
            .expect("an answer"),
        ("/v1/stream", _) => {
            let stream = futures::stream::unfold(events.subscribe(), |mut receiver| async move {
                let text = receiver.recv().await.ok()?;
                Some((Ok::<_, Infallible>(Bytes::from(text)), receiver))
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(stream))
                .expect("an answer")
        }
        _ => json(200, json!({})),
    }
}
