//! The accepting side: TCP, TLS, then a stream of connections that gRPC serves.
//!
//! Clients with a certificate of the cluster and strangers (who may only join) have budgets of their own, so that
//! strangers cannot keep a node out; a stranger's connection is closed after a minute.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

/// Handshakes that may run at one time; further clients wait in the listener's backlog.
const MAX_HANDSHAKES: usize = 64;
/// Open connections of clients with a certificate.
const MAX_KNOWN: usize = 8192;
/// Open connections of clients without one.
const MAX_STRANGERS: usize = 128;
/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client without a certificate may stay.
const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// How long to wait after `accept` failed (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What was refused before gRPC saw it.
#[derive(Debug, Default)]
pub struct AcceptCounters {
    /// Handshakes that failed: wrong certificate, no TLS at all.
    pub failed: AtomicU64,
    /// Handshakes that took too long.
    pub timed_out: AtomicU64,
    /// Connections beyond the budget.
    pub refused: AtomicU64,
}

struct Budget {
    handshakes: Arc<Semaphore>,
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// Connections of `listener` whose handshake is done, until `shutdown`. The configuration is read for each connection,
/// so that a renewed certificate is used from the next one on.
pub fn incoming(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    counters: Arc<AcceptCounters>,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, stream) = mpsc::channel(MAX_HANDSHAKES);
    let budget = Arc::new(Budget {
        handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
        known: Arc::new(Semaphore::new(MAX_KNOWN)),
        strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
    });
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&budget.handshakes).acquire_owned().await else { return };
            let (acceptor, ready) = (TlsAcceptor::from(config.load_full()), ready.clone());
            let (counters, budget) = (Arc::clone(&counters), Arc::clone(&budget));
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(error) = tcp.set_nodelay(true) {
                    tracing::debug!(%error, %peer, "TCP_NODELAY");
                }
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                    Ok(Ok(stream)) => match Connection::admit(stream, &budget) {
                        // gRPC is gone when nobody takes it.
                        Some(connection) => drop(ready.send(Ok(connection)).await),
                        None => {
                            counters.refused.fetch_add(1, Ordering::Relaxed);
                            tracing::warn!(%peer, "too many connections: one is refused");
                        }
                    },
                    Ok(Err(error)) => {
                        counters.failed.fetch_add(1, Ordering::Relaxed);
                        tracing::info!(%error, %peer, "TLS handshake refused");
                    }
                    Err(_elapsed) => {
                        counters.timed_out.fetch_add(1, Ordering::Relaxed);
                        tracing::info!(%peer, "TLS handshake took too long");
                    }
                }
            });
        }
    });
    ReceiverStream::new(stream)
}

/// One connection, with its place in the budget.
#[derive(Debug)]
pub struct Connection {
    stream: TlsStream<TcpStream>,
    /// When a stranger has to go.
    end: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn admit(stream: TlsStream<TcpStream>, budget: &Budget) -> Option<Self> {
        let known = stream.get_ref().1.peer_certificates().is_some();
        let places = if known { &budget.known } else { &budget.strangers };
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        let end = (!known).then(|| Box::pin(tokio::time::sleep(STRANGER_LIFE)));
        Some(Self { stream, end, _place: place })
    }

    /// Certificates that the client showed, verified, leaf first.
    #[must_use]
    pub fn peer_certificates(&self) -> Option<&[rustls_pki_types::CertificateDer<'static>]> {
        self.stream.get_ref().1.peer_certificates()
    }
}

impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;
    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
