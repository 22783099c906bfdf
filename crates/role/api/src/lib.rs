//! The REST API of a controller: the contract's routes and protocol, and a live stream.
//!
//! ```text
//! TLS 1.3 ─► server ─► app: route ─► caller ─► right ─► body ─► handler ─► event of a write
//!            (bounds)       (route)  (accounts, nv-identity)    (routes)
//!                                                                  │ reads an immutable view of the controller
//!                                                                  └ changes go through the controller or accounts
//! ```
//!
//! [`routes::table`] is the one list of what is served. Without a permission category a route cannot be written down,
//! and the OpenAPI document is made from the same list. [`json`] reads bodies as the contract's clients write them,
//! [`query`] has the query language, [`answer`] writes answers (long lists piece by piece), [`dto`] has the shapes.

pub mod accounts;
pub mod answer;
mod app;
mod ask;
mod asset_view;
mod assets;
mod call;
mod change;
pub mod dto;
pub mod error;
mod events;
pub mod harbor;
mod imports;
pub mod json;
mod openapi;
mod private;
pub mod probe;
pub mod query;
pub mod route;
pub mod routes;
mod scanned;
mod server;
pub mod start;
mod stream;
pub mod table;
mod upload;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nv_identity::password::{Cost, PasswordError, Passwords};
use nv_role_controller::Controller;
use nv_store::Store;
use nv_telemetry::Clock;
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use app::{API_KEY, App, TOKEN};
pub use call::{Call, Caller};
pub use openapi::{openapi, openapi_json};

use crate::accounts::{Accounts, AccountsError};

/// What the API is told at its start.
#[derive(Clone)]
pub struct ApiConfig {
    /// Where it listens; port 0 takes any free one.
    pub address: SocketAddr,
    /// Certificate and key. TLS 1.3 and HTTP/1.1 are what the contract promises.
    pub tls: Arc<rustls::ServerConfig>,
    /// What hashing a password costs.
    pub password_cost: Cost,
    /// The log filter that the process was started with, to be shown.
    pub log_level: String,
}

/// What the API works with.
#[derive(Clone)]
pub struct Deps {
    /// The controller whose view it shows and whose changes it asks for.
    pub controller: Controller,
    /// Where users are kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The port is taken, or the address is not this machine's.
    #[error("the REST API cannot listen on {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Passwords cannot be hashed.
    #[error("passwords cannot be hashed")]
    Passwords(#[from] PasswordError),
    /// Users cannot be read or the first one not made.
    #[error("users cannot be prepared")]
    Accounts(#[from] AccountsError),
}

/// An API that listens but does not answer yet.
pub struct Api {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    app: Arc<App>,
    one_time_password: Option<SecretString>,
    shutdown: CancellationToken,
}

impl Api {
    /// Takes the address, reads the users and makes the first one where there is none.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn bind(config: ApiConfig, deps: Deps, shutdown: CancellationToken) -> Result<Self, ApiError> {
        let bind_error = |source| ApiError::Bind { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let passwords = Arc::new(Passwords::new(config.password_cost)?);
        let accounts = Accounts::open(Arc::clone(&deps.store)).await?;
        let one_time_password = accounts.bootstrap(&passwords, deps.clock.now()).await?;
        let app = App::new(deps, accounts, passwords, config.log_level, shutdown.clone());
        Ok(Self { listener, address, tls: config.tls, app: Arc::new(app), one_time_password, shutdown })
    }

    /// The address that was taken.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The password of `admin` for the first login, which must change it. Given once, and only while no one has
    /// logged in as `admin` yet; only its hash is kept.
    pub const fn take_one_time_password(&mut self) -> Option<SecretString> {
        self.one_time_password.take()
    }

    /// What answers requests, without the network: for tests of handlers.
    #[must_use]
    pub fn app(&self) -> Arc<App> {
        Arc::clone(&self.app)
    }

    /// Answers until the shutdown, then gives requests in flight a few seconds.
    pub async fn run(self) {
        tracing::info!(address = %self.address, "rest api is listening");
        let sweep = tokio::spawn(Arc::clone(&self.app).sweep());
        let app = Arc::clone(&self.app);
        let shutdown = self.shutdown.clone();
        let follow = tokio::spawn(async move { app.accounts.follow(shutdown).await });
        let counters = Arc::<server::ServerCounters>::default();
        server::run(self.listener, Some(self.tls), self.app, Arc::clone(&counters), self.shutdown).await;
        for task in [sweep, follow] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the rest api failed");
            }
        }
        let turned_away = counters.turned_away.load(Ordering::Relaxed);
        if turned_away > 0 {
            tracing::warn!(turned_away, "connections were turned away because there were too many");
        }
    }
}
