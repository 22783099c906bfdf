//! The accepting side: TCP, TLS, then a stream of connections that gRPC serves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Handshakes that may run at one time; further clients wait in the listener's backlog.
const MAX_HANDSHAKES: usize = 64;
/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after `accept` failed (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What was refused before gRPC saw it.
#[derive(Debug, Default)]
pub struct AcceptCounters {
    /// Handshakes that failed: wrong certificate, no TLS at all.
    pub failed: AtomicU64,
    /// Handshakes that took too long.
    pub timed_out: AtomicU64,
}

/// Connections of `listener` whose handshake is done, until `shutdown`. The configuration is read for each connection,
/// so that a renewed certificate is used from the next one on.
pub fn incoming(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
    counters: Arc<AcceptCounters>,
    shutdown: CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (ready, stream) = mpsc::channel(MAX_HANDSHAKES);
    tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(MAX_HANDSHAKES));
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
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let (acceptor, ready) = (TlsAcceptor::from(config.load_full()), ready.clone());
            let counters = Arc::clone(&counters);
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(error) = tcp.set_nodelay(true) {
                    tracing::debug!(%error, %peer, "TCP_NODELAY");
                }
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
                    Ok(Ok(stream)) => drop(ready.send(Ok(stream)).await),
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
