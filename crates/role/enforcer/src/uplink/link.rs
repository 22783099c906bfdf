//! The link to a controller: dialled again and again, one at a time.
//!
//! This task only carries messages. What they mean is the agent's business: it is told of each turn by a
//! [`LinkEvent`] and writes to the outgoing half that [`LinkEvent::Open`] hands it.

use std::time::Duration;

use nv_model::observation::Sequence;
use nv_model::policy::PolicyDelta;
use nv_model::question::Question;
use nv_pki::{Credential, PkiError};
use nv_telemetry::chain;
use nv_wire::WireError;
use nv_wire::bounds::MAX_MESSAGE_BYTES;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::enforcer_service_client::EnforcerServiceClient;
use nv_wire::enforcer::v1::to_enforcer::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Messages that may wait for the network; more stay in the outbox.
const MAX_OUTGOING: usize = 20;
/// Places among them that batches of observations leave free.
pub(crate) const RESERVED: usize = 16;
/// First and longest pause between attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// What happened on the link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A connection is there; the first message on it must be the greeting.
    Open(mpsc::Sender<proto::FromEnforcer>),
    /// The controller has taken the greeting.
    Welcome {
        /// What it has of this stream.
        acknowledged: Sequence,
    },
    /// The controller has stored everything up to this number.
    Acknowledged(Sequence),
    /// A policy came.
    Policy(Box<PolicyDelta>),
    /// The controller wants to know something.
    Ask {
        /// Comes back with the answer.
        id: u64,
        /// `None` for a question that only a later version knows.
        question: Option<Question>,
    },
    /// The connection is gone.
    Closed,
}

/// Where the controller is and who this node is.
pub(crate) struct Dial {
    /// `host:port` of the controller's gRPC server.
    pub(crate) controller: String,
    /// The node's key and certificate.
    pub(crate) credential: Credential,
}

/// Dials until `shutdown`.
pub(crate) async fn run(dial: Dial, events: mpsc::Sender<LinkEvent>, shutdown: CancellationToken) {
    let mut pause = PAUSE.0;
    while !shutdown.is_cancelled() {
        let outcome = tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = once(&dial, &events, &mut pause) => outcome,
        };
        match outcome {
            Ok(()) => tracing::info!("the controller has closed the link"),
            Err(LinkError::Agent) => return,
            Err(error) => {
                tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "no link to the controller");
            }
        }
        if events.send(LinkEvent::Closed).await.is_err() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("dialling: {}", chain(.0))]
    Dial(#[source] PkiError),
    #[error("the controller answered: {}", .0.message())]
    Refused(#[source] Box<tonic::Status>),
    #[error("the controller sent what this enforcer does not understand: {0}")]
    Content(#[source] WireError),
    #[error("the agent has ended")]
    Agent,
}

async fn once(dial: &Dial, events: &mpsc::Sender<LinkEvent>, pause: &mut Duration) -> Result<(), LinkError> {
    let config = nv_pki::tls::client(&dial.credential).map_err(LinkError::Dial)?;
    let channel = nv_pki::connect::channel(&dial.controller, config).await.map_err(LinkError::Dial)?;
    let mut client = EnforcerServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (outgoing, queue) = mpsc::channel(MAX_OUTGOING);
    events.send(LinkEvent::Open(outgoing)).await.map_err(|_gone| LinkError::Agent)?;
    let refused = |status| LinkError::Refused(Box::new(status));
    let mut incoming = client.link(ReceiverStream::new(queue)).await.map_err(refused)?.into_inner();
    while let Some(message) = incoming.message().await.map_err(refused)? {
        let event = match message.message {
            Some(Message::Welcome(welcome)) => {
                tracing::info!(controller = %welcome.controller_id, cluster = %welcome.cluster_name, "linked");
                *pause = PAUSE.0;
                LinkEvent::Welcome { acknowledged: Sequence(welcome.acknowledged) }
            }
            Some(Message::BatchAck(ack)) => LinkEvent::Acknowledged(Sequence(ack.acknowledged)),
            Some(Message::Policy(delta)) => {
                LinkEvent::Policy(Box::new(delta.try_into().map_err(LinkError::Content)?))
            }
            Some(Message::Ask(ask)) => {
                let (id, question) = nv_wire::asked(ask).map_err(LinkError::Content)?;
                LinkEvent::Ask { id, question }
            }
            // A later controller may say more than this enforcer knows.
            None => continue,
        };
        events.send(event).await.map_err(|_gone| LinkError::Agent)?;
    }
    Ok(())
}
