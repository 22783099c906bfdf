//! One link to the controller.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nv_model::scan::{BlobId, LayerCacheFacts, ScanFailure, ScanTaskId};
use nv_pki::Credential;
use nv_telemetry::Clock;
use nv_wire::bounds::{MAX_DATABASE_BYTES, MAX_MESSAGE_BYTES, MAX_PIECE_BYTES, MAX_REPORT_BYTES};
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::from_scanner::Message as From;
use nv_wire::scanner::v1::report_piece::Piece as Part;
use nv_wire::scanner::v1::scanner_service_client::ScannerServiceClient;
use nv_wire::scanner::v1::to_scanner::Message as To;
use nv_wire::{ScanTask, ScanWork, ScannerGreeting};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;

use super::work::{Input, Output, work};
use super::{JoinToken, Service, ServiceError, join, make_private};
use crate::transport::database_in;

/// Messages that may wait for the network.
const OUTGOING: usize = 128;
/// Pieces of a report or database that may wait for the network.
const PIECES: usize = 4;
/// How long the controller may take to say Welcome.
const WELCOME: Duration = Duration::from_secs(10);

type Client = ScannerServiceClient<Channel>;
type Outgoing = mpsc::Sender<proto::FromScanner>;
/// Tasks of this link that nobody wants any more.
type Cancelled = Arc<Mutex<HashSet<ScanTaskId>>>;

async fn dial(controller: &str, credential: &Credential) -> Result<Client, ServiceError> {
    let config = nv_pki::tls::client(credential)?;
    let channel = nv_pki::connect::channel(controller, config).await?;
    Ok(ScannerServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES))
}

fn refused(status: &Status) -> ServiceError {
    ServiceError::Refused { reason: status.message().to_owned() }
}

/// Serves on one link until it ends.
pub(super) async fn run(
    service: &Arc<Service>,
    credential: &Credential,
    pause: &mut Duration,
) -> Result<(), ServiceError> {
    let mut client = dial(&service.config.controller, credential).await?;
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    // From here on no change of the database is missed: Hello says what is in use now.
    let mut changes = service.changed.subscribe();
    let hello = ScannerGreeting {
        version: nv_telemetry::VERSION.to_owned(),
        server: service.config.server.clone(),
        credits: service.config.credits,
        database: service.held.now().map(|opened| opened.info.clone()),
    };
    say(&outgoing, From::Hello(hello.into())).await;
    let mut incoming =
        client.link(ReceiverStream::new(queue)).await.map_err(|status| refused(&status))?.into_inner();
    let cancelled = Cancelled::default();
    // Tasks of this link end with it.
    let end = CancellationToken::new();
    let _ends = end.clone().drop_guard();
    let mut welcomed = false;
    loop {
        let message = tokio::select! {
            message = incoming.message() => message.map_err(|status| refused(&status))?,
            change = changes.recv() => {
                match change {
                    Ok(change) => say(&outgoing, From::Database(change.into())).await,
                    // Too many changes at once: a new Hello says what holds now.
                    Err(broadcast::error::RecvError::Lagged(_)) => return Ok(()),
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                }
                continue;
            }
            () = tokio::time::sleep(WELCOME), if !welcomed => {
                return Err(ServiceError::Refused { reason: "no Welcome came".to_owned() });
            }
        };
        let Some(message) = message else { return Ok(()) };
        match message.message {
            Some(To::Welcome(welcome)) => {
                welcomed = true;
                *pause = super::PAUSE.0;
                tracing::info!(controller = welcome.controller_id, cluster = welcome.cluster_name, "linked");
            }
            Some(To::Task(task)) => {
                let id = ScanTaskId(task.id);
                let task = match ScanTask::try_from(task) {
                    Ok(task) => task,
                    Err(error) => {
                        // One task that a later controller words otherwise does not end the others.
                        fail(&outgoing, id, ScanFailure { message: error.to_string(), retry: false }).await;
                        continue;
                    }
                };
                let (service, client) = (Arc::clone(service), client.clone());
                let (outgoing, cancelled, end) = (outgoing.clone(), Arc::clone(&cancelled), end.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = end.cancelled() => {}
                        () = carry_out(&service, client, &outgoing, task, &cancelled) => {}
                    }
                });
            }
            Some(To::Cancel(cancel)) => {
                lock(&cancelled).insert(ScanTaskId(cancel.task));
            }
            Some(To::UseDatabase(wanted)) => {
                let (service, client, outgoing) = (Arc::clone(service), client.clone(), outgoing.clone());
                tokio::spawn(async move {
                    let blob = wanted.blob.clone();
                    if let Err(reason) = fetch_database(&service, client, wanted).await {
                        tracing::warn!(blob, reason, "the controller's database is not used");
                        say(&outgoing, From::DatabaseRefused(proto::DatabaseRefused { blob, reason })).await;
                    }
                });
            }
            Some(To::AskCache(asked)) => {
                let (tools, outgoing) = (Arc::clone(&service.tools), outgoing.clone());
                tokio::spawn(async move {
                    let list = move || tools.cache.as_ref().map(|cache| cache.facts(asked.records));
                    let facts = match tokio::task::spawn_blocking(list).await {
                        Ok(Some(Ok(facts))) => facts,
                        // Without a cache there is nothing in it.
                        Ok(None) => LayerCacheFacts::default(),
                        // Whoever asked is told by the controller's own deadline.
                        Ok(Some(Err(error))) => {
                            return tracing::warn!(%error, "the layers kept cannot be listed");
                        }
                        Err(_stopping) => return,
                    };
                    say(&outgoing, From::Cache(nv_wire::layer_cache(asked.id, facts))).await;
                });
            }
            // A later controller may say more than this scanner knows.
            None => {}
        }
    }
}

fn lock(cancelled: &Cancelled) -> std::sync::MutexGuard<'_, HashSet<ScanTaskId>> {
    cancelled.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn say(outgoing: &Outgoing, message: From) {
    // When the link is gone, the next one starts over.
    drop(outgoing.send(proto::FromScanner { message: Some(message) }).await);
}

async fn fail(outgoing: &Outgoing, task: ScanTaskId, failure: ScanFailure) {
    say(outgoing, From::Failed(nv_wire::failed_scan(task, failure))).await;
}

async fn carry_out(
    service: &Service,
    mut client: Client,
    outgoing: &Outgoing,
    task: ScanTask,
    cancelled: &Cancelled,
) {
    let ScanTask { id, subject, work: wanted } = task;
    tracing::info!(task = %id, subject, "a scan begins");
    let outcome = look_at(service, &mut client, wanted).await;
    if lock(cancelled).remove(&id) {
        return;
    }
    match outcome {
        Ok(output) => match hand_in(&mut client, id, output).await {
            Ok(true) => tracing::info!(task = %id, subject, "a scan is done"),
            Ok(false) => tracing::info!(task = %id, subject, "a scan is another scanner's by now"),
            Err(status) => {
                let message = format!("the report was not taken: {}", status.message());
                fail(outgoing, id, ScanFailure { message, retry: true }).await;
            }
        },
        Err(failure) => {
            tracing::warn!(task = %id, subject, reason = failure.message, "a scan failed");
            fail(outgoing, id, failure).await;
        }
    }
}

async fn look_at(service: &Service, client: &mut Client, wanted: ScanWork) -> Result<Output, ScanFailure> {
    let opened = service
        .held
        .now()
        .ok_or_else(|| ScanFailure { message: "this scanner has no database".to_owned(), retry: true })?;
    let input = match wanted {
        ScanWork::Image(image) => Input::Image(image),
        ScanWork::Inventory(blob) => Input::Inventory(fetch(client, blob).await.map_err(|reason| {
            ScanFailure { message: format!("the inventory did not come: {reason}"), retry: true }
        })?),
    };
    work(Arc::clone(&service.tools), opened, input).await
}

/// A whole blob.
async fn fetch(client: &mut Client, blob: BlobId) -> Result<Vec<u8>, String> {
    let request = proto::BlobRequest { blob: blob.to_string() };
    let mut pieces = client.blob(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.message().await.map_err(|status| status.message().to_owned())? {
        if bytes.len().saturating_add(piece.bytes.len()) > MAX_REPORT_BYTES {
            return Err("it is too large".to_owned());
        }
        bytes.extend_from_slice(&piece.bytes);
    }
    if BlobId::of(&bytes) == blob { Ok(bytes) } else { Err("it is not what its name says".to_owned()) }
}

async fn hand_in(client: &mut Client, task: ScanTaskId, output: Output) -> Result<bool, Status> {
    let (pieces, queue) = mpsc::channel(PIECES);
    let send = async move {
        let head = Part::Head(proto::ReportHead { task: task.0 });
        let documents = output
            .inventory
            .iter()
            .flat_map(|document| document.chunks(MAX_PIECE_BYTES))
            .map(|piece| Part::Inventory(piece.to_vec()))
            .chain(output.report.chunks(MAX_PIECE_BYTES).map(|piece| Part::Report(piece.to_vec())));
        for part in std::iter::once(head).chain(documents) {
            // The controller takes no more: its answer says why.
            if pieces.send(proto::ReportPiece { piece: Some(part) }).await.is_err() {
                return;
            }
        }
    };
    let (reply, ()) = tokio::join!(client.report(ReceiverStream::new(queue)), send);
    Ok(reply?.into_inner().taken)
}

/// Fetches a database to the scanner's folder, and takes it into use.
async fn fetch_database(
    service: &Arc<Service>,
    mut client: Client,
    wanted: proto::UseDatabase,
) -> Result<(), String> {
    let blob: BlobId = wanted.blob.parse().map_err(|error: nv_model::scan::BlobIdError| error.to_string())?;
    if wanted.bytes > MAX_DATABASE_BYTES {
        return Err(format!("{} bytes are more than are accepted", wanted.bytes));
    }
    let place = service.folder.join("cvedb");
    let beside = service.folder.join("cvedb.part");
    let disk = |error: std::io::Error| format!("{}: {error}", beside.display());
    let mut file = tokio::fs::File::create(&beside).await.map_err(disk)?;
    let request = proto::BlobRequest { blob: wanted.blob };
    let mut pieces = client.blob(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    let (mut sum, mut bytes) = (Sha256::new(), 0_u64);
    while let Some(piece) = pieces.message().await.map_err(|status| status.message().to_owned())? {
        bytes = bytes.saturating_add(u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX));
        if bytes > wanted.bytes {
            return Err("more bytes came than were told".to_owned());
        }
        sum.update(&piece.bytes);
        file.write_all(&piece.bytes).await.map_err(disk)?;
    }
    file.sync_all().await.map_err(disk)?;
    if BlobId::new(sum.finalize().into()) != blob {
        return Err("it is not what its name says".to_owned());
    }
    tokio::fs::rename(&beside, &place).await.map_err(disk)?;
    match service.take(place).await {
        Some(reason) => Err(reason),
        None => Ok(()),
    }
}

/// Hands a database to the controller, which hands it to every scanner. Gives its version as it is shown.
///
/// # Errors
/// [`ServiceError`] when there is no certificate or no controller, or the database is refused: damaged, not signed as it
/// must be, older than the one in use.
pub async fn offer_database(
    controller: &str,
    token: &JoinToken,
    state_dir: &Path,
    database: &Path,
    clock: &dyn Clock,
) -> Result<String, ServiceError> {
    let folder = state_dir.join("scanner");
    let fault = |source| ServiceError::State { path: folder.clone(), source };
    make_private(&folder).map_err(fault)?;
    let id = join::identity(&folder)?;
    let credential = join::credential(&folder, &id, controller, token, clock.now()).await?;
    let mut client = dial(controller, &credential).await?;
    let path = database_in(database);
    let unread = |source| ServiceError::State { path: path.clone(), source };
    let mut file = tokio::fs::File::open(&path).await.map_err(unread)?;
    let (pieces, queue) = mpsc::channel(PIECES);
    let send = async {
        loop {
            let mut bytes = vec![0; MAX_PIECE_BYTES];
            let read = file.read(&mut bytes).await?;
            bytes.truncate(read);
            // The controller takes no more: its answer says why.
            if read == 0 || pieces.send(proto::Piece { bytes }).await.is_err() {
                drop(pieces);
                return Ok::<(), std::io::Error>(());
            }
        }
    };
    let (reply, sent) = tokio::join!(client.offer_database(ReceiverStream::new(queue)), send);
    sent.map_err(unread)?;
    let reply = reply.map_err(|status| refused(&status))?.into_inner();
    if reply.refused.is_empty() {
        Ok(crate::database::shown_version(reply.version))
    } else {
        Err(ServiceError::Refused { reason: reply.refused })
    }
}
