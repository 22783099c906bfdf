//! The scanner as a service: it dials the controller, takes as many tasks as it has credits, and hands reports in.
//!
//! ```text
//! Hello (credits, database) ─► Welcome, tasks ─► a thread a task: pull or match ─► Report (inventory, report)
//! UseDatabase, or another file in place ─► verify ─► swap ─► DatabaseInUse (which packages changed)
//! ```
//!
//! One direction of dialling is enough: the scanner needs no open port, and a controller that is lost is found again by
//! the one who needs it. When a link ends, the controller gives the tasks to others; what is found for them afterwards is
//! thrown away there.

mod held;
mod join;
mod link;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use nv_model::name::ScannerId;
use nv_pki::{Credential, PkiError};
use nv_secret::SecretRules;
use nv_telemetry::Clock;
use nv_vulnerability::VerifyingKey;
use nv_wire::DatabaseChange;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub use join::JoinToken;
pub use link::offer_database;

use self::held::{Held, look};
use self::work::Tools;
use crate::cache::LayerCache;
use crate::error::ScannerError;
use crate::local::{LocalKind, LocalSearch};

/// First and longest pause between attempts to join or to link.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How often it is looked whether another file lies in the database's place.
const LOOK: Duration = Duration::from_millis(250);

/// What a scanner is told at its start.
#[derive(Debug)]
pub struct ServiceConfig {
    /// `host:port` of the controller's gRPC server.
    pub controller: String,
    /// What a certificate is bought with.
    pub join: JoinToken,
    /// Folder of its own files, mode 0700: key, layers, the database that the controller hands it.
    pub state_dir: PathBuf,
    /// A database's file, or the folder of `cvedb`; used while it is newer than the one of the controller. A file that is
    /// put in its place is taken into use.
    pub database: Option<PathBuf>,
    /// The key by which databases must be signed; none takes any that is whole.
    pub trusted: Option<[u8; 32]>,
    /// Tasks at one time, 1 to 64.
    pub credits: u32,
    /// How it is called in lists of scanners: this host's name or address.
    pub server: String,
    /// Whether files are searched for secrets.
    pub secrets: bool,
    /// Whether layers are read by a process of their own, which this binary must have as [`LAYER_READER`](crate::LAYER_READER).
    pub layer_process: bool,
    /// Sockets of runtimes whose images are scanned where a task names no registry; empty for those that are known and exist.
    pub runtime_sockets: Vec<PathBuf>,
}

/// Why a scanner does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// A file or folder of its own.
    #[error("{} cannot be used", .path.display())]
    State {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Key, certificate or connection.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Neither certificate nor token.
    #[error(
        "this scanner has no certificate in {} and was given no join token for scanners; hand one in with --join-token-file",
        .folder.display()
    )]
    NoToken {
        /// Where a certificate would be.
        folder: PathBuf,
    },
    /// The controller said no.
    #[error("the controller refused: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The trusted key is none.
    #[error("the trusted key is no Ed25519 public key")]
    Key,
    /// Rules for secrets, or the database.
    #[error(transparent)]
    Scanner(#[from] ScannerError),
    /// Rules for secrets.
    #[error("the rules for secrets cannot be used: {0}")]
    Rules(String),
}

/// What the parts of a scanner share.
struct Service {
    config: ServiceConfig,
    id: ScannerId,
    folder: PathBuf,
    held: Held,
    tools: Arc<Tools>,
    /// Tells an open link of each database that is taken into use.
    changed: broadcast::Sender<DatabaseChange>,
}

/// Serves until `shutdown`. An absent controller or database is no error: it waits for them.
///
/// # Errors
/// [`ServiceError`] when it cannot start.
pub fn serve(
    config: ServiceConfig,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), ServiceError>> {
    // In a box: it is compiled here, and not anew in each program that starts one.
    Box::pin(serve_until(config, clock, shutdown))
}

async fn serve_until(
    config: ServiceConfig,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<(), ServiceError> {
    let folder = config.state_dir.join("scanner");
    let fault = |source| ServiceError::State { path: folder.clone(), source };
    make_private(&folder).map_err(fault)?;
    let id = join::identity(&folder)?;
    let key = config.trusted.map(|key| VerifyingKey::from_bytes(&key)).transpose();
    let rules = config.secrets.then(SecretRules::built_in).transpose();
    let tools = Tools {
        cache: Some(LayerCache::open(&folder).map_err(fault)?),
        rules: rules.map_err(|error| ServiceError::Rules(error.to_string()))?,
        layer_process: config.layer_process,
        local: LocalSearch { kind: LocalKind::Any, sockets: config.runtime_sockets.clone() },
    };
    let (changed, _) = broadcast::channel(16);
    let service = Arc::new(Service {
        held: Held::new(key.map_err(|_no_key| ServiceError::Key)?),
        config,
        id,
        folder,
        tools: Arc::new(tools),
        changed,
    });
    // The database is there before the first Hello, where there is one.
    service.take(service.folder.join("cvedb")).await;
    if let Some(place) = service.config.database.clone() {
        service.take(place).await;
    }
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = Arc::clone(&service).watch() => {}
        () = service.keep_linked(&*clock) => {}
    }
    Ok(())
}

/// A folder for this user alone.
fn make_private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

impl Service {
    /// Takes a database into use where it is newer, and tells of it.
    async fn take(self: &Arc<Self>, place: PathBuf) -> Option<String> {
        look(&place)?;
        let service = Arc::clone(self);
        let shown = place.display().to_string();
        let taken = tokio::task::spawn_blocking(move || service.held.take(&place)).await;
        match taken {
            Ok(Ok(Some(change))) => {
                let changed = change.changed.as_ref().map(Vec::len);
                tracing::info!(database = change.database.shown_version(), changed, "a database is in use");
                // Without a link nobody is to be told: the next Hello says it.
                drop(self.changed.send(change));
                None
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => {
                let reason = nv_telemetry::chain(&error);
                tracing::warn!(place = shown, reason, "a database is refused");
                Some(reason)
            }
            Err(_panicked) => Some("the database could not be read".to_owned()),
        }
    }

    /// Looks whether another file lies in the database's place, until the end.
    async fn watch(self: Arc<Self>) {
        let Some(place) = self.config.database.clone() else { return std::future::pending().await };
        let mut seen = look(&place);
        loop {
            tokio::time::sleep(LOOK).await;
            let now = look(&place);
            if now != seen {
                seen = now;
                self.take(place.clone()).await;
            }
        }
    }

    async fn keep_linked(self: &Arc<Self>, clock: &dyn Clock) {
        let mut pause = PAUSE.0;
        loop {
            let outcome = match self.credential(clock).await {
                Ok(credential) => link::run(self, &credential, &mut pause).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                let reason = nv_telemetry::chain(&error);
                let retry_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(reason, retry_ms, "no link to the controller");
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE.1);
        }
    }

    async fn credential(&self, clock: &dyn Clock) -> Result<Credential, ServiceError> {
        let config = &self.config;
        join::credential(&self.folder, &self.id, &config.controller, &config.join, clock.now()).await
    }
}
