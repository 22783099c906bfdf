//! The listening side: connections, TLS, and the way to an orderly end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::assets::Page;
use crate::proxy::Upstream;
use crate::router::Router;
use crate::{ManagerConfig, ManagerError};

const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Time that requests in flight get at the end; streams are cut after it.
const GRACE: Duration = Duration::from_secs(3);
/// Pause after a failed accept, so that running out of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A console that listens but does not answer yet.
pub struct Manager {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Arc<Router>,
}

/// Listens and answers until `shutdown`.
///
/// # Errors
/// [`ManagerError`] when the configuration is not usable or the address is taken.
pub async fn serve(config: ManagerConfig, shutdown: CancellationToken) -> Result<(), ManagerError> {
    Manager::bind(config).await?.run(shutdown).await;
    Ok(())
}

impl Manager {
    /// Checks the configuration and takes the address.
    ///
    /// # Errors
    /// [`ManagerError`] says which part is wrong.
    pub async fn bind(config: ManagerConfig) -> Result<Self, ManagerError> {
        let prefix = config.path_prefix.trim_end_matches('/').to_owned();
        let is_path = prefix.is_empty() || (prefix.starts_with('/') && !prefix.starts_with("//"));
        if !is_path || !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte)) {
            return Err(ManagerError::Prefix { prefix: config.path_prefix });
        }
        let upstream = Upstream::new(&config.controller)?;
        let bind_error = |source| ManagerError::Bind { address: config.bind, source };
        let listener = TcpListener::bind(config.bind).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let router = Arc::new(Router {
            upstream,
            page: Page::new(&prefix, &config.branding),
            branding: config.branding,
            prefix,
            secure: config.tls.is_some(),
        });
        Ok(Self { listener, address, acceptor: config.tls.map(TlsAcceptor::from), router })
    }

    /// The address that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown`, then gives requests in flight a few seconds.
    pub async fn run(self, shutdown: CancellationToken) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let connections = TaskTracker::new();
        tracing::info!(address = %self.address, tls = self.acceptor.is_some(), "console is listening");
        loop {
            let permit = tokio::select! {
                () = shutdown.cancelled() => break,
                permit = Arc::clone(&permits).acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (acceptor, router, shutdown) =
                (self.acceptor.clone(), Arc::clone(&self.router), shutdown.clone());
            connections.spawn(async move {
                connection(stream, peer, acceptor, router, shutdown).await;
                drop(permit);
            });
        }
        connections.close();
        if tokio::time::timeout(GRACE.saturating_mul(2), connections.wait()).await.is_err() {
            tracing::warn!("connections were still open at the end");
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    router: Arc<Router>,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "small packets may be delayed");
    }
    let Some(acceptor) = acceptor else { return converse(stream, peer, router, shutdown).await };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, peer, router, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "tls handshake failed"),
        Err(_elapsed) => tracing::debug!(%peer, "tls handshake took too long"),
    }
}

async fn converse<S>(stream: S, peer: SocketAddr, router: Arc<Router>, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(router.answer(request.map(Body::new), peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(HEADER_TIMEOUT))
        .max_concurrent_streams(100);
    let mut conversation = pin!(builder.serve_connection(TokioIo::new(stream), service));
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
