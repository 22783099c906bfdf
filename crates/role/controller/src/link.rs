//! The gRPC service of port 18400: joining, and one link a node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nv_model::name::NodeId;
use nv_pki::{Authority, node_id_of, token};
use nv_store::{Outcome, Store, Transaction};
use nv_telemetry::Clock;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::enforcer_service_server::EnforcerService;
use nv_wire::enforcer::v1::from_enforcer::Message as From;
use nv_wire::{Greeting, JoinRequest};
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::hub::{Message, SessionId};
use crate::keys;

/// Messages to one enforcer that may wait.
const OUTBOUND: usize = 64;
/// How long an enforcer may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// To one enforcer.
pub(crate) type Outbound = mpsc::Sender<Result<proto::ToEnforcer, Status>>;

/// The service.
pub(crate) struct LinkService {
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) hub: mpsc::Sender<Message>,
    pub(crate) shutdown: CancellationToken,
}

/// The node of the client's certificate; TLS has verified the certificate. `None` for a client without one.
fn certified_node<T>(request: &Request<T>) -> Result<Option<NodeId>, Status> {
    let Some(chain) = request.peer_certs() else { return Ok(None) };
    let Some(leaf) = chain.first() else { return Ok(None) };
    node_id_of(leaf).map(Some).map_err(|error| Status::permission_denied(error.to_string()))
}

fn gone<T>(_closed: T) -> Status {
    Status::unavailable("the controller is stopping")
}

#[tonic::async_trait]
impl EnforcerService for LinkService {
    async fn join(&self, request: Request<proto::JoinRequest>) -> Result<Response<proto::JoinReply>, Status> {
        let certified = certified_node(&request)?;
        let address = request.remote_addr();
        let join = JoinRequest::try_from(request.into_inner())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // A node with a valid certificate renews it without a token, for itself alone.
        let renews = certified.as_ref() == Some(&join.node);
        if !renews {
            self.spend(SecretString::from(join.token), &join.node).await.inspect_err(|status| {
                tracing::warn!(node = %join.node, ?address, reason = status.message(), "a node was not let in");
            })?;
        }
        let chain = self
            .authority
            .sign_request(&join.signing_request, &join.node, self.clock.now())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !renews {
            self.hub.send(Message::Joined { node: join.node }).await.map_err(gone)?;
        }
        Ok(Response::new(proto::JoinReply {
            chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
            roots: vec![self.authority.certificate().to_vec()],
        }))
    }

    type LinkStream = ReceiverStream<Result<proto::ToEnforcer, Status>>;

    async fn link(
        &self,
        request: Request<Streaming<proto::FromEnforcer>>,
    ) -> Result<Response<Self::LinkStream>, Status> {
        let node = certified_node(&request)?.ok_or_else(|| {
            Status::unauthenticated("a link needs a certificate of this cluster; join first")
        })?;
        let address = request.remote_addr();
        let (outbound, stream) = mpsc::channel(OUTBOUND);
        let session = Session {
            node,
            address,
            inbound: request.into_inner(),
            outbound,
            hub: self.hub.clone(),
            close: self.shutdown.child_token(),
        };
        tokio::spawn(session.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl LinkService {
    /// Checks a join token, and uses it up when it is for one use.
    async fn spend(&self, given: SecretString, node: &NodeId) -> Result<(), Status> {
        // One answer for every reason: whoever guesses learns nothing.
        let refused = || Status::permission_denied("the join token is not valid for this node");
        let hash = token::hash(&given).map_err(|_not_a_token| refused())?;
        let key = keys::join(&hash);
        let failed = |error: nv_store::StoreError| {
            tracing::error!(%error, "join tokens cannot be read");
            Status::unavailable("the store failed")
        };
        let entry = self.store.get(&key).await.map_err(failed)?.ok_or_else(refused)?;
        let record: token::TokenRecord =
            serde_json::from_slice(&entry.value).map_err(|_damaged| refused())?;
        if !record.admits(node, self.clock.now()) {
            return Err(refused());
        }
        if record.is_single_use() {
            let spend = Transaction::new().expect_modified(key.as_str(), entry.modified).delete(key);
            match self.store.commit(spend).await.map_err(failed)? {
                Outcome::Committed(_) => {}
                Outcome::Conflict { .. } => return Err(refused()),
            }
        }
        Ok(())
    }
}

/// One link.
struct Session {
    node: NodeId,
    address: Option<SocketAddr>,
    inbound: Streaming<proto::FromEnforcer>,
    outbound: Outbound,
    hub: mpsc::Sender<Message>,
    close: CancellationToken,
}

impl Session {
    async fn run(mut self) {
        let id = SessionId::next();
        if let Err(status) = self.serve(id).await {
            tracing::info!(node = %self.node, reason = status.message(), "a link is closed");
            // The enforcer may be gone already.
            drop(self.outbound.try_send(Err(status)));
        }
        drop(self.hub.send(Message::Closed { session: id, node: self.node }).await);
    }

    async fn serve(&mut self, id: SessionId) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, self.inbound.message())
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("no Hello came"))??;
        let Some(proto::FromEnforcer { message: Some(From::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message has to be Hello"));
        };
        let greeting =
            Greeting::try_from(hello).map_err(|error| Status::invalid_argument(format!("hello.{error}")))?;
        if greeting.node.id != self.node {
            return Err(Status::permission_denied("the certificate is of another node"));
        }
        if greeting.workloads.iter().any(|workload| workload.node != self.node) {
            return Err(Status::permission_denied("a workload of another node"));
        }
        let hello = Message::Hello {
            session: id,
            greeting: Box::new(greeting),
            address: self.address,
            outbound: self.outbound.clone(),
            close: self.close.clone(),
        };
        self.hub.send(hello).await.map_err(gone)?;
        loop {
            let message = tokio::select! {
                () = self.close.cancelled() => return Ok(()),
                message = self.inbound.message() => message?,
            };
            let Some(message) = message else { return Ok(()) };
            let message = match message.message {
                Some(From::Batch(batch)) => {
                    let observations = nv_wire::batch(batch.clone())
                        .map_err(|error| Status::invalid_argument(format!("batch.{error}")))?;
                    Message::Batch { session: id, node: self.node.clone(), batch, observations }
                }
                Some(From::PolicyAck(ack)) => {
                    Message::PolicyAck { session: id, node: self.node.clone(), ack }
                }
                Some(From::Heartbeat(beat)) => {
                    let beat = beat
                        .try_into()
                        .map_err(|error| Status::invalid_argument(format!("heartbeat.{error}")))?;
                    Message::Heartbeat { session: id, node: self.node.clone(), beat: Box::new(beat) }
                }
                Some(From::Answer(answer)) => {
                    let (question, answer) = nv_wire::answered(answer)
                        .map_err(|error| Status::invalid_argument(format!("answer.{error}")))?;
                    Message::Answer { session: id, node: self.node.clone(), id: question, answer }
                }
                Some(From::Hello(_)) => return Err(Status::invalid_argument("a second Hello")),
                None => return Err(Status::invalid_argument("an empty or unknown message")),
            };
            // A full hub holds this link back, and no other: the enforcer's own queue is the buffer.
            self.hub.send(message).await.map_err(gone)?;
        }
    }
}
