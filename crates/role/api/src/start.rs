//! The start of a controller's process: store, event log, controller and REST API, from one set of settings.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use nv_config::{HarborSettings, Settings};
use nv_pki::PkiError;
use nv_role_controller::{Controller, ControllerConfig, ControllerError};
use nv_store::{EventLog, RedbStore, Retention, SealError, SealedStore, SealingKeys, Store, StoreError};
use nv_telemetry::Clock;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harbor::{Harbor, HarborConfig, HarborError};
use crate::{Api, ApiConfig, ApiError, Deps, private};

/// What runs.
pub struct Started {
    /// The controller.
    pub controller: Controller,
    /// Where the REST API listens.
    pub address: SocketAddr,
    /// The password of `admin` for the first login, while there was none.
    pub one_time_password: Option<SecretString>,
    /// Ends when the REST API has.
    pub serving: JoinHandle<()>,
}

/// Why a controller's process does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file or folder of its own.
    #[error("{what} {}", .path.display())]
    File {
        /// What it is, and what to do.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store or the event log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys that secrets are sealed with.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The controller.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The REST API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A token for enforcers.
    #[error(transparent)]
    Token(#[from] nv_role_controller::JoinTokenError),
    /// The adapter for Harbor.
    #[error(transparent)]
    Harbor(#[from] HarborError),
    /// The adapter for Harbor has a user and no password.
    #[error(
        "the adapter for Harbor has a user but no password: name a file with --harbor-password-file, or set {HARBOR_PASSWORD}"
    )]
    HarborPassword,
    /// Certificates of its servers.
    #[error("the certificate of a server")]
    Certificate(#[from] PkiError),
}

/// Starts controller and REST API. The root certificate is in the state directory as `root.pem` afterwards, and the
/// one-time password in the file that the settings name.
///
/// # Errors
/// [`StartError`], with what to do.
pub fn start(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> BoxFuture<'_, Result<Started, StartError>> {
    // In a box: it is compiled here, and not anew in each program that starts one.
    Box::pin(begin(settings, clock, shutdown))
}

async fn begin(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<Started, StartError> {
    let state = &settings.state_dir;
    private::make_folder(state).map_err(|source| StartError::File {
        what: "this state directory cannot be used, name another with --state-dir:",
        path: state.clone(),
        source,
    })?;
    let keys = SealingKeys::open(&settings.secrets_key_file)?;
    let store =
        SealedStore::new(Arc::new(RedbStore::open(state.join("store"))?), keys, nv_role_controller::SECRETS);
    let sealed = store.seal_all().await?;
    if sealed > 0 {
        tracing::info!(sealed, "stored secrets were sealed with the first key of the file");
    }
    let store: Arc<dyn Store> = Arc::new(store);
    let retention = Retention {
        max_age: Duration::from_secs(u64::from(settings.event_log_days) * 24 * 3600),
        max_bytes: settings.event_log_bytes,
    };
    let events = EventLog::open(state.join("events"), retention)?;
    let controller = nv_role_controller::start(
        ControllerConfig {
            grpc_bind: SocketAddr::new(settings.bind, settings.grpc_port),
            state_dir: state.clone(),
            cluster_name: settings.cluster_name.clone(),
            host_name: host_name(),
            database_key: settings.database_key,
        },
        nv_role_controller::Deps { store: Arc::clone(&store), events, clock: Arc::clone(&clock) },
        shutdown.clone(),
    )
    .await?;
    let write = |path: PathBuf, text: &str, mode: u32| {
        private::write(&path, text, mode).map_err(|source| StartError::File {
            what: "this file cannot be written:",
            path,
            source,
        })
    };
    // Clients verify the servers of this machine with this root.
    write(state.join("root.pem"), &controller.authority().certificate_pem(), 0o644)?;
    let mut api = Api::bind(
        ApiConfig {
            address: SocketAddr::new(settings.bind, settings.rest_port),
            tls: Arc::new(web_certificate(&controller, settings, &*clock)?),
            password_cost: Default::default(),
            log_level: settings.log.clone(),
        },
        Deps { controller: controller.clone(), store, clock: Arc::clone(&clock) },
        shutdown.clone(),
    )
    .await?;
    if let Some(wanted) = &settings.harbor {
        let tls = wanted.tls.then(|| web_certificate(&controller, settings, &*clock)).transpose()?;
        let config = HarborConfig {
            address: SocketAddr::new(settings.bind, wanted.port),
            tls: tls.map(Arc::new),
            user: wanted.user.clone(),
            password: harbor_password(wanted)?,
        };
        let harbor = Harbor::bind(config, controller.clone(), clock).await?;
        tokio::spawn(harbor.run(shutdown));
    }
    let address = api.address();
    let one_time_password = api.take_one_time_password();
    if let (Some(password), Some(path)) = (&one_time_password, &settings.bootstrap_password_file) {
        write(path.clone(), &format!("{}\n", password.expose_secret()), 0o600)?;
    }
    let serving = tokio::spawn(api.run());
    Ok(Started { controller, address, one_time_password, serving })
}

/// Name of the environment variable with the password that Harbor shows.
const HARBOR_PASSWORD: &str = "HARBOR_BASIC_AUTH_PASSWORD";

fn harbor_password(wanted: &HarborSettings) -> Result<SecretString, StartError> {
    let password = match &wanted.password_file {
        Some(path) => {
            let read = std::fs::read_to_string(path).map_err(|source| StartError::File {
                what: "the password of the adapter for Harbor cannot be read:",
                path: path.clone(),
                source,
            })?;
            read.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => std::env::var(HARBOR_PASSWORD).unwrap_or_default(),
    };
    if password.is_empty() { Err(StartError::HarborPassword) } else { Ok(password.into()) }
}

/// A certificate for the servers that people and their clients reach: REST and console.
///
/// # Errors
/// [`PkiError`].
pub fn web_certificate(
    controller: &Controller,
    settings: &Settings,
    clock: &dyn Clock,
) -> Result<rustls::ServerConfig, PkiError> {
    let mut names = vec!["localhost".to_owned(), "neuvector-svc-controller-api".to_owned()];
    let host = host_name();
    if !host.is_empty() && host.is_ascii() {
        names.push(host);
    }
    let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()];
    if !settings.bind.is_unspecified() && !settings.bind.is_loopback() {
        addresses.push(settings.bind);
    }
    let credential = controller.authority().issue_server(&names, &addresses, clock.now())?;
    nv_pki::tls::web_server(&credential)
}

/// The address that another part of the same machine dials a server at that listens on `bind`.
#[must_use]
pub fn reachable(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(v4) if v4.is_unspecified() => [127, 0, 0, 1].into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// How long a join token in a file is good.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How long a token for scanners is good; it is made anew in half of that.
const SCANNER_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

impl Started {
    /// Writes a new join token for one enforcer to a file, mode 0600; it is good for an hour.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn write_join_token(&self, path: &std::path::Path) -> Result<(), StartError> {
        let token = self.controller.join_token(None, TOKEN_LIFE).await?;
        private::write(path, &format!("{}\n", token.expose_secret()), 0o600).map_err(|source| {
            StartError::File { what: "this file cannot be written:", path: path.to_owned(), source }
        })
    }

    /// Keeps a token for scanners in a file, mode 0600, until `shutdown`.
    pub async fn keep_scanner_token(controller: Controller, path: PathBuf, shutdown: CancellationToken) {
        loop {
            let written = match controller.scanner_token(SCANNER_TOKEN_LIFE).await {
                Ok(token) => private::write(&path, &format!("{}\n", token.expose_secret()), 0o600)
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = written {
                tracing::error!(path = %path.display(), error, "a token for scanners cannot be written");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(SCANNER_TOKEN_LIFE / 2) => {}
            }
        }
    }

    /// What the operator is told at the start: where the API is, its root, and the one-time password.
    #[must_use]
    pub fn greeting(&self, settings: &Settings, console: Option<&str>) -> String {
        let root = settings.state_dir.join("root.pem");
        let root = std::path::absolute(&root).unwrap_or(root);
        let mut text = format!("\nNeuVector {}\n", nv_telemetry::VERSION);
        if let Some(console) = console {
            text.push_str(&format!("  console   {console}\n"));
        }
        let api = SocketAddr::new(reachable(settings.bind), self.address.port());
        text.push_str(&format!("  REST API  https://{api}\n  root      {}\n", root.display()));
        if let Some(password) = &self.one_time_password {
            text.push_str(&format!(
                "  user      admin\n  password  {}   (for the first login only, which asks for a new one)\n",
                password.expose_secret()
            ));
        }
        text
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
