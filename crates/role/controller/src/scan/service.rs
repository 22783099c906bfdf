//! The scanners' gRPC service: joining, one link a scanner, blobs out, reports and databases in.

use std::sync::Arc;

use nv_model::name::ScannerId;
use nv_model::scan::{BlobId, ScanTaskId};
use nv_pki::{Authority, scanner_id_of, token};
use nv_store::Store;
use nv_telemetry::Clock;
use nv_wire::ScannerJoin;
use nv_wire::bounds::{MAX_DATABASE_BYTES, MAX_PIECE_BYTES};
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::report_piece::Piece as Part;
use nv_wire::scanner::v1::scanner_service_server::ScannerService;
use secrecy::SecretString;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::arrive::Documents;
use super::blobs::BlobError;
use super::link::Session;
use super::queue::Holder;
use super::{OfferError, Scans};
use crate::keys;

/// Messages to one scanner that may wait: its tasks, and a few besides.
const OUTBOUND: usize = 80;
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

pub(super) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(super) fn disk(error: BlobError) -> Status {
    match error {
        BlobError::TooLarge { .. } => Status::resource_exhausted(error.to_string()),
        error => {
            tracing::error!(%error, "the disk of reports");
            Status::internal("the disk failed")
        }
    }
}

pub(super) fn stopping<T>(_gone: T) -> Status {
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
