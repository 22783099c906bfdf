//! The listening side: TLS 1.3 (without it only where somebody says so), HTTP/1.1, bounded connections and waits, and the
//! way to an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};
use tower_http::compression::{Compression, CompressionLevel};

use crate::app::App;

/// Most connections at one time.
const MAX_CONNECTIONS: usize = 1_024;
/// Most bytes of a request's head.
const MAX_HEAD: usize = 64 * 1_024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte of a head, or from the last answer, to the end of the head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time that requests in flight get at the end.
const GRACE: Duration = Duration::from_secs(3);
/// Pause after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Answers above this many bytes are compressed for who asks for it.
const COMPRESS_ABOVE: u64 = 1_200;

/// Connections that were turned away because there were too many.
#[derive(Debug, Default)]
pub(crate) struct ServerCounters {
    /// How many.
    pub(crate) turned_away: AtomicU64,
}

/// What answers requests.
pub(crate) trait Answering: Send + Sync + 'static {
    /// The answer to one.
    fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Body>> + Send;
}

impl Answering for App {
    fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        peer: IpAddr,
    ) -> impl Future<Output = Response<Body>> + Send {
        Self::answer(self, request, peer)
    }
}

/// Answers connections of `listener` until `shutdown`; `tls` is none for plain HTTP.
pub(crate) async fn run<A: Answering>(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Arc<A>,
    counters: Arc<ServerCounters>,
    shutdown: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Too many: this one is closed at once, so that the client sees it rather than waits.
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            counters.turned_away.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, "connection turned away, there are too many");
            continue;
        };
        let (acceptor, app, shutdown) = (acceptor.clone(), Arc::clone(&app), shutdown.clone());
        connections.spawn(async move {
            connection(stream, peer, acceptor, app, shutdown).await;
            drop(permit);
        });
    }
    connections.close();
    if tokio::time::timeout(GRACE.saturating_mul(2), connections.wait()).await.is_err() {
        tracing::warn!("connections were still open at the end");
    }
}

async fn connection<A: Answering>(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    app: Arc<A>,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "small packets may be delayed");
    }
    let Some(acceptor) = acceptor else { return conversation(stream, peer, app, shutdown).await };
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %peer, "tls handshake failed"),
        Err(_elapsed) => return tracing::debug!(%peer, "tls handshake took too long"),
    };
    conversation(stream, peer, app, shutdown).await;
}

async fn conversation<A: Answering>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    app: Arc<A>,
    shutdown: CancellationToken,
) {
    let service = service(app, peer.ip());
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEAD);
    let conversation = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut conversation = pin!(conversation);
    let ended = tokio::select! {
        ended = conversation.as_mut() => ended,
        () = shutdown.cancelled() => {
            conversation.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, conversation).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

/// The app behind compression, for one client.
fn service<A: Answering>(
    app: Arc<A>,
    peer: IpAddr,
) -> impl tower::Service<
    Request<Incoming>,
    Response = axum::http::Response<tower_http::compression::CompressionBody<Body>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let inner = tower::service_fn(move |request: Request<Incoming>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request.map(Body::new), peer).await) }
    });
    Compression::new(inner)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(COMPRESS_ABOVE).and(NotForContentType::SSE))
}
