//! The scanners' gRPC service: joining, one link a scanner, blobs out, reports and databases in.

use std::sync::Arc;
use std::time::Duration;

use nv_model::name::ScannerId;
use nv_model::scan::{BlobId, ScanFailure, ScanSource, ScanTaskId};
use nv_model::scan_report::ScanReport;
use nv_pki::{Authority, scanner_id_of, token};
use nv_store::Store;
use nv_telemetry::Clock;
use nv_wire::bounds::{MAX_DATABASE_BYTES, MAX_PIECE_BYTES, MAX_REPORT_BYTES};
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::from_scanner::Message as From;
use nv_wire::scanner::v1::report_piece::Piece as Part;
use nv_wire::scanner::v1::scanner_service_server::ScannerService;
use nv_wire::scanner::v1::to_scanner::Message as To;
use nv_wire::{DatabaseChange, ScannerGreeting, ScannerJoin};
use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::blobs::{BlobError, BlobWriter};
use super::kept::KeptReport;
use super::queue::Holder;
use super::{OfferError, Scans, tell};
use crate::keys;

/// Messages to one scanner that may wait: its tasks, and a few besides.
const OUTBOUND: usize = 80;
/// How long a scanner may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces of a blob or report that may wait for the disk or the network.
const PIECES: usize = 4;

/// The service.
pub(crate) struct ScanLinkService {
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) scans: Scans,
    pub(crate) controller_id: String,
    pub(crate) shutdown: CancellationToken,
}

/// The scanner of the client's certificate; TLS has verified the certificate.
fn certified<T>(request: &Request<T>) -> Result<ScannerId, Status> {
    let chain = request.peer_certs();
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    let leaf =
        leaf.ok_or_else(|| Status::unauthenticated("this needs a certificate of a scanner; join first"))?;
    scanner_id_of(leaf).map_err(|error| Status::permission_denied(error.to_string()))
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn disk(error: BlobError) -> Status {
    match error {
        BlobError::TooLarge { .. } => Status::resource_exhausted(error.to_string()),
        error => {
            tracing::error!(%error, "the disk of reports");
            Status::internal("the disk failed")
        }
    }
}

fn stopping<T>(_gone: T) -> Status {
    Status::unavailable("the controller is stopping")
}

#[tonic::async_trait]
impl ScannerService for ScanLinkService {
    async fn join(&self, request: Request<proto::JoinRequest>) -> Result<Response<proto::JoinReply>, Status> {
        let address = request.remote_addr();
        let renews = certified(&request).ok();
        let join = ScannerJoin::try_from(request.into_inner()).map_err(invalid)?;
        // A scanner with a valid certificate renews it without a token, for itself alone.
        if renews.as_ref() != Some(&join.scanner) {
            self.check(SecretString::from(join.token)).await.inspect_err(|status| {
                tracing::warn!(scanner = %join.scanner, ?address, reason = status.message(), "a scanner was not let in");
            })?;
        }
        let chain = self
            .authority
            .sign_scanner_request(&join.signing_request, &join.scanner, self.clock.now())
            .map_err(invalid)?;
        Ok(Response::new(proto::JoinReply {
            chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            roots: vec![self.authority.certificate().to_vec()],
        }))
    }

    type LinkStream = ReceiverStream<Result<proto::ToScanner, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<proto::FromScanner>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let scanner = certified(&request)?;
        let (outbound, stream) = mpsc::channel(OUTBOUND);
        let session = Session {
            scanner,
            scans: self.scans.clone(),
            outbound,
            inbound: request.into_inner(),
            close: self.shutdown.child_token(),
            welcome: proto::Welcome {
                controller_id: self.controller_id.clone(),
                cluster_name: self.scans.inner.view.load().config.cluster_name.clone(),
            },
        };
        tokio::spawn(session.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type BlobStream = ReceiverStream<Result<proto::Piece, Status>>;

    async fn blob(&self, request: Request<proto::BlobRequest>) -> Result<Response<Self::BlobStream>, Status> {
        certified(&request)?;
        let id: BlobId = request.into_inner().blob.parse().map_err(invalid)?;
        let mut file = tokio::fs::File::open(self.scans.inner.blobs.path(id))
            .await
            .map_err(|_absent| Status::not_found("there is no such blob any more"))?;
        let (pieces, stream) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            loop {
                let mut bytes = vec![0; MAX_PIECE_BYTES];
                let piece = match file.read(&mut bytes).await {
                    Ok(0) => return,
                    Ok(read) => {
                        bytes.truncate(read);
                        Ok(proto::Piece { bytes })
                    }
                    Err(error) => Err(Status::internal(error.to_string())),
                };
                let broken = piece.is_err();
                if pieces.send(piece).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report(
        &self,
        request: Request<Streaming<proto::ReportPiece>>,
    ) -> Result<Response<proto::ReportReply>, Status> {
        let scanner = certified(&request)?;
        let mut pieces = request.into_inner();
        let Some(proto::ReportPiece { piece: Some(Part::Head(head)) }) = pieces.message().await? else {
            return Err(invalid("the first piece has to be the head"));
        };
        let task = ScanTaskId(head.task);
        let holder = Holder::Scanner(scanner.clone());
        if !self.scans.state().queue.is_leased(task, &holder) {
            return Ok(Response::new(proto::ReportReply { taken: false }));
        }
        // Files are written and documents read on a thread for that.
        let (to_disk, mut from_wire) = mpsc::channel::<Part>(PIECES);
        let scans = self.scans.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut documents = Documents::new(&scans)?;
            while let Some(part) = from_wire.blocking_recv() {
                documents.take(part)?;
            }
            documents.finish()
        });
        while let Some(proto::ReportPiece { piece }) = pieces.message().await? {
            let part = piece.ok_or_else(|| invalid("an empty or unknown piece"))?;
            if to_disk.send(part).await.is_err() {
                break;
            }
        }
        drop(to_disk);
        let taken = written.await.map_err(stopping)??;
        let taken = self.scans.take_report(&scanner, task, taken).await?;
        Ok(Response::new(proto::ReportReply { taken }))
    }

    async fn offer_database(
        &self,
        request: Request<Streaming<proto::Piece>>,
    ) -> Result<Response<proto::OfferReply>, Status> {
        let scanner = certified(&request)?;
        let mut pieces = request.into_inner();
        let (to_disk, mut from_wire) = mpsc::channel::<Vec<u8>>(PIECES);
        let scans = self.scans.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = scans.inner.blobs.writer(MAX_DATABASE_BYTES)?;
            while let Some(piece) = from_wire.blocking_recv() {
                writer.write(&piece)?;
            }
            scans.offer(writer)
        });
        while let Some(piece) = pieces.message().await? {
            if to_disk.send(piece.bytes).await.is_err() {
                break;
            }
        }
        drop(to_disk);
        match written.await.map_err(stopping)? {
            Ok((blob, database)) => Ok(Response::new(proto::OfferReply {
                blob: blob.to_string(),
                version: database.version,
                refused: String::new(),
            })),
            Err(OfferError::Refused(refused)) => {
                tracing::warn!(%scanner, refused, "a database is not handed to scanners");
                Ok(Response::new(proto::OfferReply { refused, ..proto::OfferReply::default() }))
            }
            Err(OfferError::Disk(error)) => Err(disk(error)),
        }
    }
}

impl ScanLinkService {
    /// Checks a token for scanners.
    async fn check(&self, given: SecretString) -> Result<(), Status> {
        // One answer for every reason: whoever guesses learns nothing.
        let refused = || Status::permission_denied("the join token is not valid for a scanner");
        let hash = token::hash(&given).map_err(|_not_a_token| refused())?;
        let entry = self.store.get(&keys::join(&hash)).await.map_err(|error| {
            tracing::error!(%error, "join tokens cannot be read");
            Status::unavailable("the store failed")
        })?;
        let entry = entry.ok_or_else(refused)?;
        let record: token::TokenRecord =
            serde_json::from_slice(&entry.value).map_err(|_damaged| refused())?;
        if record.admits_scanner(self.clock.now()) { Ok(()) } else { Err(refused()) }
    }
}

/// One link.
struct Session {
    scanner: ScannerId,
    scans: Scans,
    outbound: super::state::Outbound,
    inbound: Streaming<proto::FromScanner>,
    close: CancellationToken,
    welcome: proto::Welcome,
}

impl Session {
    async fn run(mut self) {
        let mut linked = None;
        if let Err(status) = self.serve(&mut linked).await {
            tracing::info!(scanner = %self.scanner, reason = status.message(), "a scanner's link is closed");
            // The scanner may be gone already.
            drop(self.outbound.try_send(Err(status)));
        }
        if let Some(session) = linked {
            self.scans.unlinked(&self.scanner, session);
        }
    }

    async fn serve(&mut self, linked: &mut Option<u64>) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, self.inbound.message())
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("no Hello came"))??;
        let Some(proto::FromScanner { message: Some(From::Hello(hello)) }) = first else {
            return Err(invalid("the first message has to be Hello"));
        };
        let greeting = ScannerGreeting::try_from(hello).map_err(invalid)?;
        let welcome = proto::ToScanner { message: Some(To::Welcome(self.welcome.clone())) };
        self.outbound.send(Ok(welcome)).await.map_err(stopping)?;
        *linked = Some(self.scans.linked(&self.scanner, greeting, self.outbound.clone(), self.close.clone()));
        loop {
            let message = tokio::select! {
                () = self.close.cancelled() => return Ok(()),
                message = self.inbound.message() => message?,
            };
            let Some(message) = message else { return Ok(()) };
            match message.message {
                Some(From::Failed(failed)) => {
                    let (task, failure) = nv_wire::scan_failed(failed).map_err(invalid)?;
                    self.scans.failed(&Holder::Scanner(self.scanner.clone()), task, &failure);
                }
                Some(From::Database(change)) => {
                    let change = DatabaseChange::try_from(change).map_err(invalid)?;
                    self.scans.database_in_use(&self.scanner, &change);
                }
                Some(From::DatabaseRefused(refused)) => {
                    tracing::warn!(scanner = %self.scanner, blob = refused.blob, reason = refused.reason, "a scanner refused a database");
                }
                Some(From::Cache(facts)) => {
                    let id = facts.id;
                    let facts = facts.try_into().map_err(invalid)?;
                    self.scans.cache_told(&self.scanner, id, facts);
                }
                Some(From::Hello(_)) => return Err(invalid("a second Hello")),
                // A later scanner may say more than this controller knows.
                None => {}
            }
        }
    }
}

/// The documents of a report, as they come.
struct Documents {
    inventory: Option<BlobWriter>,
    report: BlobWriter,
    bytes: Vec<u8>,
    scans: Scans,
}

/// What came whole.
struct Taken {
    inventory: Option<(BlobId, u64)>,
    id: BlobId,
    bytes: u64,
    report: ScanReport,
}

fn most() -> u64 {
    u64::try_from(MAX_REPORT_BYTES).unwrap_or(u64::MAX)
}

impl Documents {
    fn new(scans: &Scans) -> Result<Self, Status> {
        let report = scans.inner.blobs.writer(most()).map_err(disk)?;
        Ok(Self { inventory: None, report, bytes: Vec::new(), scans: scans.clone() })
    }

    fn take(&mut self, part: Part) -> Result<(), Status> {
        match part {
            Part::Head(_) => Err(invalid("a second head")),
            Part::Inventory(piece) => {
                let writer = match &mut self.inventory {
                    Some(writer) => writer,
                    none => none.insert(self.scans.inner.blobs.writer(most()).map_err(disk)?),
                };
                writer.write(&piece).map_err(disk)
            }
            Part::Report(piece) => {
                self.report.write(&piece).map_err(disk)?;
                self.bytes.extend_from_slice(&piece);
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<Taken, Status> {
        let report =
            serde_json::from_slice(&self.bytes).map_err(|error| invalid(format!("the report: {error}")))?;
        let inventory = self.inventory.map(BlobWriter::finish).transpose().map_err(disk)?;
        let (id, bytes) = self.report.finish().map_err(disk)?;
        Ok(Taken { inventory, id, bytes, report })
    }
}

impl Scans {
    fn linked(
        &self,
        scanner: &ScannerId,
        greeting: ScannerGreeting,
        outbound: super::state::Outbound,
        close: CancellationToken,
    ) -> u64 {
        let at = self.inner.clock.now();
        let shown = greeting.database.as_ref().map(|database| database.shown_version());
        tracing::info!(%scanner, server = greeting.server, database = ?shown, "a scanner is linked");
        let change = greeting.database.clone().map(|database| DatabaseChange {
            database,
            replaced: String::new(),
            changed: None,
        });
        let (session, failed) = self.state().link(scanner.clone(), greeting, at, outbound, close);
        self.give_all_up(failed);
        let with =
            shown.map_or_else(|| "without a database".to_owned(), |shown| format!("with database {shown}"));
        self.tell(&tell::scanner(
            &self.inner.view.load(),
            "Scanner.Join",
            scanner,
            &format!("joined {with}"),
            at,
        ));
        match change {
            Some(change) => self.database_in_use(scanner, &change),
            None => self.changed(),
        }
        session
    }

    fn unlinked(&self, scanner: &ScannerId, session: u64) {
        let (gone, failed) = {
            let mut state = self.state();
            let outcome = state.unlink(scanner, session);
            state.dispatch(self.inner.clock.monotonic());
            outcome
        };
        self.give_all_up(failed);
        if gone {
            let at = self.inner.clock.now();
            self.tell(&tell::scanner(&self.inner.view.load(), "Scanner.Leave", scanner, "left", at));
        }
        self.changed();
    }

    pub(super) fn failed(&self, holder: &Holder, task: ScanTaskId, failure: &ScanFailure) {
        let given_up = {
            let mut state = self.state();
            let given_up = state.failed(task, holder, failure);
            state.dispatch(self.inner.clock.monotonic());
            given_up
        };
        match given_up {
            Some(request) => self.give_up(&request, failure),
            None => self.changed(),
        }
    }

    fn database_in_use(&self, scanner: &ScannerId, change: &DatabaseChange) {
        let view = self.inner.view.load_full();
        let (affected, taken) = {
            let mut state = self.state();
            let affected = state.database_in_use(scanner, change);
            let taken = state.rescan(&affected, |subject| tell::runs(&view, subject));
            state.dispatch(self.inner.clock.monotonic());
            (affected.len(), taken)
        };
        let shown = change.database.shown_version();
        tracing::info!(%scanner, database = shown, affected, taken, "a scanner uses a database");
        if !change.replaced.is_empty() {
            let at = self.inner.clock.now();
            let what = format!("uses database {shown}, which may change {affected} reports");
            self.tell(&tell::scanner(&view, "Scanner.Update", scanner, &what, at));
        }
        self.changed();
    }

    /// Puts a report in its place; `false` when the task is not the scanner's any more.
    async fn take_report(&self, scanner: &ScannerId, task: ScanTaskId, taken: Taken) -> Result<bool, Status> {
        let scans = self.clone();
        let scanner = scanner.clone();
        let work = tokio::task::spawn_blocking(move || scans.keep_report(&scanner, task, &taken));
        work.await.map_err(stopping)?.map_err(disk)
    }

    fn keep_report(&self, scanner: &ScannerId, task: ScanTaskId, taken: &Taken) -> Result<bool, BlobError> {
        let at = self.inner.clock.now();
        let mut state = self.state();
        let Some(request) = state.queue.done(task, &Holder::Scanner(scanner.clone())) else {
            drop(state);
            // Another scanner has it now; what this one found is not referred to, unless it is the same.
            self.sweep(&[Some(taken.id), taken.inventory.map(|(id, _)| id)])?;
            return Ok(false);
        };
        let (inventory, inventory_bytes) = match (taken.inventory, &request.source) {
            (Some((id, bytes)), _) => (Some(id), bytes),
            (None, ScanSource::Inventory(id)) => (Some(*id), self.inner.blobs.size(*id).unwrap_or(0)),
            (None, _) => (None, 0),
        };
        let bytes = taken.bytes.saturating_add(inventory_bytes);
        let kept = KeptReport::new(request.subject.clone(), taken.id, inventory, bytes, at, &taken.report);
        state.freed(scanner, Some(&request.subject));
        self.keep(state, &kept, &taken.report)?;
        Ok(true)
    }

    /// Removes those of these blobs that no report refers to.
    pub(super) fn sweep(&self, blobs: &[Option<BlobId>]) -> Result<(), BlobError> {
        let referred = self.state().kept.blobs();
        let orphans = blobs.iter().flatten().filter(|blob| !referred.contains(blob));
        orphans.into_iter().try_for_each(|blob| self.inner.blobs.remove(*blob))
    }
}
