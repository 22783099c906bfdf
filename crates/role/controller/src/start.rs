//! Start: read what is kept, recover what was under way, then open the port.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use nv_model::name::ControllerId;
use nv_model::node::{ConnectionState, Controller as ControllerInfo};
use nv_model::policy::NodeSettings;
use nv_model::record::{Record, Topic};
use nv_model::system::SystemConfig;
use nv_pki::{Authority, CONTROLLER_NAME, PkiError, accept, tls};
use nv_store::{EventLog, Store, StoreError};
use nv_telemetry::{Clock, VERSION};
use nv_vulnerability::VerifyingKey;
use nv_wire::bounds::MAX_MESSAGE_BYTES;
use nv_wire::enforcer::v1::enforcer_service_server::EnforcerServiceServer;
use nv_wire::scanner::v1::scanner_service_server::ScannerServiceServer;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::change::Edit;
use crate::counters::Counters;
use crate::graph::SharedGraph;
use crate::hub::{Hub, INBOX, Parts};
use crate::journal::{Journal, JournalError};
use crate::link::LinkService;
use crate::registry::Registries;
use crate::scan::{BlobError, ScanLinkService, Scans};
use crate::stored::Stored;
use crate::view::View;
use crate::writer::{self, Writer};
use crate::{Controller, Inner, follow, keys, lead, scan};

/// How long a start waits to lead and to have its defaults stored; another controller may lead.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the server's certificate is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60 * 60);
/// HTTP/2 pings to enforcers, and how long they may take.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(10));
/// Records of the log that a start looks at, so that none is written twice.
const RECENT: usize = 4096;

/// What a controller is told at its start.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    /// Where enforcers dial; port 0 takes any free one.
    pub grpc_bind: SocketAddr,
    /// Folder of its own files, mode 0700: `ca.pem` and `controller/`.
    pub state_dir: PathBuf,
    /// Name of the cluster until an operator gives another.
    pub cluster_name: String,
    /// Host name of this machine.
    pub host_name: String,
    /// Public key (Ed25519) that a database of vulnerabilities has to be signed with; without one, any whole one is taken.
    pub database_key: Option<[u8; 32]>,
}

/// What a controller works with.
#[derive(Clone)]
pub struct Deps {
    /// Where policy is kept.
    pub store: Arc<dyn Store>,
    /// Where records are kept.
    pub events: EventLog,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why a controller does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllerError {
    /// A folder or file of the state directory.
    #[error("{path}: {source}")]
    State {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {bind}: {source}")]
    Bind {
        /// Where.
        bind: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Certificates.
    #[error("the certificate authority cannot be used")]
    Pki(#[from] PkiError),
    /// The store.
    #[error("the store cannot be read")]
    Store(#[from] StoreError),
    /// The journal.
    #[error("the journal cannot be used")]
    Journal(#[from] JournalError),
    /// Reports of scans.
    #[error("the reports of scans cannot be read")]
    Scans(#[from] BlobError),
    /// A key that databases have to be signed with, and that is none.
    #[error("the key of databases is no public key of Ed25519")]
    DatabaseKey,
    /// A checkpoint of another version, or damaged in a way that its checksum does not show.
    #[error("the checkpoint cannot be read; move the folder controller/journal away to start without it")]
    Checkpoint(#[from] serde_json::Error),
}

/// What the first leader of a cluster stores.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    pub(crate) cluster_name: String,
}

impl Bootstrap {
    fn config(&self) -> SystemConfig {
        let mut config = SystemConfig::default();
        if !self.cluster_name.is_empty() {
            config.cluster_name.clone_from(&self.cluster_name);
        }
        config
    }
    /// The configuration, when none is stored yet.
    pub(crate) fn edits(&self, view: &View) -> Vec<Edit> {
        if view.modified.contains_key(keys::CONFIG) {
            Vec::new()
        } else {
            vec![Edit::Config(Box::new(self.config()))]
        }
    }
    /// The settings that hold once [`Self::edits`] are stored, when they change anything.
    pub(crate) fn settings(&self, view: &View) -> Option<NodeSettings> {
        (!view.modified.contains_key(keys::CONFIG)).then(|| self.config().node_settings())
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ControllerError + '_ {
    |source| ControllerError::State { path: path.to_owned(), source }
}

/// This controller's id: made once, kept in the state directory.
fn identity(folder: &Path) -> Result<ControllerId, ControllerError> {
    let path = folder.join("id");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            if let Ok(id) = text.trim().parse() {
                return Ok(id);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(&path)(error)),
    }
    let id = uuid::Uuid::new_v4().to_string();
    std::fs::write(&path, &id).map_err(at(&path))?;
    id.parse().map_err(|error| at(&path)(io::Error::other(error)))
}

fn certificate(
    authority: &Authority,
    config: &ControllerConfig,
    clock: &dyn Clock,
) -> Result<nv_pki::Credential, PkiError> {
    let mut names = vec![CONTROLLER_NAME.to_owned(), "localhost".to_owned()];
    if !config.host_name.is_empty() && config.host_name.is_ascii() {
        names.push(config.host_name.clone());
    }
    authority.issue_server(&names, &[config.grpc_bind.ip()], clock.now())
}

/// Starts a controller. It runs until `shutdown`; [`Controller::stopped`] waits for its end.
///
/// # Errors
/// [`ControllerError`]; nothing runs then.
pub fn start(
    config: ControllerConfig,
    deps: Deps,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<Controller, ControllerError>> {
    // In a box: it is compiled here, and not anew in each program that starts one.
    Box::pin(begin(config, deps, shutdown))
}

async fn begin(
    config: ControllerConfig,
    deps: Deps,
    shutdown: CancellationToken,
) -> Result<Controller, ControllerError> {
    let Deps { store, events, clock } = deps;
    let folder = config.state_dir.join("controller");
    std::fs::create_dir_all(&folder).map_err(at(&folder))?;
    let authority = Arc::new(Authority::open(&config.state_dir, clock.now())?);
    let id = identity(&folder)?;
    let listener = TcpListener::bind(config.grpc_bind)
        .await
        .map_err(|source| ControllerError::Bind { bind: config.grpc_bind, source })?;
    let address =
        listener.local_addr().map_err(|source| ControllerError::Bind { bind: config.grpc_bind, source })?;
    let listing = store.list("").await?;
    let stored = Stored::from_listing(&listing);
    let recovered = Journal::open(&folder.join("journal"))?;
    if recovered.torn > 0 {
        tracing::info!(bytes = recovered.torn, "a torn end of the journal, never acknowledged, was cut off");
    }

    let info = ControllerInfo {
        id: id.clone(),
        host_name: config.host_name.clone(),
        version: VERSION.to_owned(),
        address: address.ip().to_string(),
        started: clock.now(),
        leader: false,
        state: ConnectionState::Connected,
    };
    let (inbox, received) = mpsc::channel(INBOX);
    let (writer_queue, requests) = mpsc::channel(writer::QUEUE);
    let (version, changes) = watch::channel(0);
    let (lead_here, lead) = watch::channel(None);
    let view = Arc::new(ArcSwap::from_pointee(View::default()));
    let graph = SharedGraph::default();
    let counters = Arc::<Counters>::default();
    let trusted = config.database_key.map(|key| VerifyingKey::from_bytes(&key)).transpose();
    let trusted = trusted.map_err(|_no_point| ControllerError::DatabaseKey)?;
    let scans = Scans::open(
        &folder.join("scans"),
        Arc::clone(&store),
        Arc::clone(&clock),
        events.clone(),
        Arc::clone(&view),
        trusted,
    )?;
    let mut hub = Hub::new(
        Parts {
            controller: info,
            clock: Arc::clone(&clock),
            events: events.clone(),
            view: Arc::clone(&view),
            version,
            stored,
            graph: graph.clone(),
            writer: writer_queue.clone(),
            inbox: inbox.clone(),
            lead: lead.clone(),
            counters: Arc::clone(&counters),
            bootstrap: Bootstrap { cluster_name: config.cluster_name.clone() },
            scans: scans.shared(),
        },
        recovered.journal,
    );
    hub.recover(recovered.checkpoint.as_deref(), recovered.entries)?;
    hub.remember_records(recent(&events).await?);

    let registries = Registries::open(
        Arc::clone(&store),
        scans.clone(),
        Arc::clone(&clock),
        folder.join("registries"),
        shutdown.clone(),
    )
    .await?;
    let tls =
        Arc::new(ArcSwap::from_pointee(tls::server(&certificate(&authority, &config, clock.as_ref())?)?));
    let tasks = TaskTracker::new();
    tasks.spawn(hub.run(received, shutdown.clone()));
    tasks.spawn(follow::run(Arc::clone(&store), listing.revision, inbox.clone(), shutdown.clone()));
    tasks.spawn(lead::run(Arc::clone(&store), id.clone(), lead_here, shutdown.clone()));
    tasks.spawn(registries.clone().run(lead.clone(), shutdown.clone()));
    let writer =
        Writer { store: Arc::clone(&store), view: Arc::clone(&view), changes: changes.clone(), lead };
    tasks.spawn(writer.run(requests, shutdown.clone()));
    let service = LinkService {
        authority: Arc::clone(&authority),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        hub: inbox.clone(),
        shutdown: shutdown.clone(),
    };
    let scan_service = ScanLinkService {
        authority: Arc::clone(&authority),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        scans: scans.clone(),
        controller_id: id.to_string(),
        shutdown: shutdown.clone(),
    };
    tasks.spawn(scans.clone().keep_house(shutdown.clone()));
    tasks.spawn(scans.clone().follow_settings(Arc::clone(&store), shutdown.clone()));
    tasks.spawn(scan::automatic::run(scans.clone(), shutdown.clone()));
    let accepted = Arc::<accept::AcceptCounters>::default();
    let incoming = accept::incoming(listener, Arc::clone(&tls), Arc::clone(&accepted), shutdown.clone());
    tasks.spawn(serve(service, scan_service, incoming, shutdown.clone()));
    tasks.spawn(renew(Arc::clone(&authority), config, Arc::clone(&clock), tls, shutdown.clone()));
    tasks.close();

    let controller = Controller {
        inner: Arc::new(Inner {
            id,
            address,
            authority,
            store,
            events,
            clock,
            view,
            changes,
            writer: writer_queue,
            hub: inbox,
            graph,
            counters,
            scans,
            registries,
            accepted,
            shutdown,
            tasks,
        }),
    };
    controller.inner.tasks.spawn(scan::gather::run(
        controller.scans().clone(),
        controller.clone(),
        controller.inner.shutdown.clone(),
    ));
    if tokio::time::timeout(READY_TIMEOUT, ready(&controller)).await.is_err() {
        tracing::warn!("another controller leads, or the store is slow: starting without its defaults");
    }
    Ok(controller)
}

/// Waits until the defaults are stored: by this controller, or by the one that leads.
async fn ready(controller: &Controller) {
    let mut changes = controller.view_changes();
    let done = |view: &View| {
        view.modified.contains_key(keys::CONFIG)
            && view.state.groups.contains_key("nodes")
            && view.leader().is_some()
    };
    while !done(&controller.view()) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Ids of the newest violations and incidents of the log.
async fn recent(events: &EventLog) -> Result<Vec<String>, StoreError> {
    let mut ids = Vec::new();
    for topic in [Topic::Violation, Topic::Incident] {
        for (_, record) in events.read(topic, None, RECENT).await? {
            match record {
                Record::Violation(record) => ids.push(record.id.clone()),
                Record::Incident(record) => ids.push(record.id.clone()),
                _ => {}
            }
        }
    }
    // Oldest first, so that the newest are remembered longest.
    ids.reverse();
    Ok(ids)
}

async fn serve(
    service: LinkService,
    scan_service: ScanLinkService,
    incoming: tokio_stream::wrappers::ReceiverStream<io::Result<accept::Connection>>,
    shutdown: CancellationToken,
) {
    let service = EnforcerServiceServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let scan_service = ScannerServiceServer::new(scan_service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let served = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING.0))
        .http2_keepalive_timeout(Some(PING.1))
        .max_concurrent_streams(16)
        .add_service(service)
        .add_service(scan_service)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the port of the enforcers is closed");
    }
}

/// Renews the server's certificate long before it ends.
async fn renew(
    authority: Arc<Authority>,
    config: ControllerConfig,
    clock: Arc<dyn Clock>,
    tls: Arc<ArcSwap<ServerConfig>>,
    shutdown: CancellationToken,
) {
    let mut held: Option<nv_pki::Credential> = None;
    loop {
        let due = match &held {
            Some(credential) => credential.renewal_due(clock.now()).unwrap_or(true),
            None => true,
        };
        if due {
            let made = certificate(&authority, &config, clock.as_ref())
                .and_then(|credential| Ok((tls::server(&credential)?, credential)));
            match made {
                Ok((server, credential)) => {
                    tls.store(Arc::new(server));
                    held = Some(credential);
                }
                Err(error) => tracing::error!(%error, "the server's certificate cannot be renewed"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATE_CHECK) => {}
        }
    }
}
