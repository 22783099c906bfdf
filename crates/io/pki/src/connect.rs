//! The dialing side.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::error::PkiError;
use crate::name::CONTROLLER_NAME;

/// How long dialing may take, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings keep a link alive through middle boxes, and find a peer that is gone.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How long a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A gRPC channel to a controller at `address` (`host:port`). The certificate has to name [`CONTROLLER_NAME`].
///
/// # Errors
/// [`PkiError::Connect`] with the reason: nobody listens, or TLS was refused.
pub async fn channel(address: &str, config: ClientConfig) -> Result<Channel, PkiError> {
    let connector = TlsConnector::from(Arc::new(config));
    let target = address.to_owned();
    let dial = tower::service_fn(move |_uri: Uri| {
        let (connector, target) = (connector.clone(), target.clone());
        async move {
            let name = ServerName::try_from(CONTROLLER_NAME).map_err(std::io::Error::other)?;
            let tcp = TcpStream::connect(&target).await?;
            tcp.set_nodelay(true)?;
            let tls = connector.connect(name, tcp).await?;
            Ok::<_, std::io::Error>(TokioIo::new(tls))
        }
    });
    // The scheme is for the HTTP/2 requests alone: TLS is below, by the connector, always.
    let endpoint = Endpoint::from_shared(format!("http://{CONTROLLER_NAME}"))
        .map_err(|error| PkiError::Connect(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect_with_connector(dial).await.map_err(|error| {
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            reason = format!("{reason}: {inner}");
            source = inner.source();
        }
        PkiError::Connect(format!("{address}: {reason}"))
    })
}
