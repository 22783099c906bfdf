//! The manager: serves the console on 8443 and stands between browsers and the controller's REST API.
//!
//! ```text
//! browser ── TLS ──▶ server ──▶ router ─┬─▶ assets   embedded console, strict CSP, ETag, pre-compressed
//!                                       ├─▶ login    POST /v1/auth: the token moves into an HttpOnly cookie
//!                                       └─▶ proxy    /v1, /v2: streamed to the controller over verified TLS
//! ```
//!
//! The manager keeps no state: a browser's session token lives in a cookie that scripts cannot read, so that any
//! replica serves any browser and a restart logs nobody out. Clients of the API that send `X-Auth-Token` or
//! `X-Auth-Apikey` themselves pass through unchanged. Every body, wait and number of connections is bounded.

mod assets;
mod branding;
mod login;
mod proxy;
mod response;
mod router;
mod server;
mod session;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

pub use branding::{Branding, BrandingError};
pub use server::{Manager, serve};
pub use tls::{TlsError, certificates_from_pem, server_config_from_pem};

/// Default port of the console.
pub const DEFAULT_PORT: u16 = 8443;

/// The controller that requests are sent on to.
#[derive(Clone, Debug)]
pub struct ControllerEndpoint {
    /// Scheme, host and port (`https://127.0.0.1:10443`); a path is not allowed.
    pub url: String,
    /// Certificates that the controller's must chain to. No other root is trusted. Empty is refused for `https`.
    pub roots: Vec<rustls_pki_types::CertificateDer<'static>>,
}

/// What the manager needs to run; immutable.
#[derive(Clone, Debug)]
pub struct ManagerConfig {
    /// Address and port to listen on; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Where the REST API is.
    pub controller: ControllerEndpoint,
    /// Certificate and key; `None` serves plain HTTP (`MANAGER_SSL=off`), for a mesh or an ingress that ends TLS.
    /// [`server_config_from_pem`] makes one.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Path under which the console is reached (`PATH_PREFIX`), for instance `/neuvector`; empty for the root.
    pub path_prefix: String,
    /// Name, logo, banners and terms.
    pub branding: Branding,
}

/// Why the manager could not start or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// The address is taken or not allowed.
    #[error("console cannot listen on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The controller's URL is not one.
    #[error("controller url {url:?} is not of the form https://host:port")]
    Controller {
        /// What was given.
        url: String,
    },
    /// An https controller without a root certificate could not be verified.
    #[error("no root certificate was given to verify the controller at {url}")]
    NoRoot {
        /// The controller.
        url: String,
    },
    /// The HTTP client could not be made of the given certificates.
    #[error("http client for the controller cannot be set up")]
    Client(#[source] reqwest::Error),
    /// The prefix has characters that cannot stand in a path.
    #[error("path prefix {prefix:?} must be empty or / followed by letters, digits, '-', '_', '.' or '/'")]
    Prefix {
        /// What was given.
        prefix: String,
    },
}
