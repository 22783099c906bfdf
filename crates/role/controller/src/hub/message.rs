//! What the hub is told, by links, the store and itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use nv_model::name::NodeId;
use nv_model::observation::{Observation, Sequence};
use nv_model::question::{Answer, AnswerError, Question};
use nv_model::vitals::Vitals;
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use tokio_util::sync::CancellationToken;

use super::{ask, learn};
use crate::follow::StoreNews;
use crate::link::Outbound;

/// Messages that may wait; behind that, links are held back.
pub(crate) const INBOX: usize = 1024;

/// Number of a link, unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionId(u64);

impl SessionId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// What the hub is told.
pub(crate) enum Message {
    /// The store changed.
    Store(StoreNews),
    /// A node got its certificate.
    Joined { node: NodeId },
    /// A link is open.
    Hello {
        session: SessionId,
        greeting: Box<Greeting>,
        address: Option<SocketAddr>,
        outbound: Outbound,
        close: CancellationToken,
    },
    /// Observations came.
    Batch {
        session: SessionId,
        node: NodeId,
        batch: proto::Batch,
        observations: Vec<(Sequence, Observation)>,
    },
    /// A node took its policy, or did not.
    PolicyAck { session: SessionId, node: NodeId, ack: proto::PolicyAck },
    /// A node lives.
    Heartbeat { session: SessionId, node: NodeId, beat: Box<Vitals> },
    /// Someone wants to know something of a node.
    Ask { node: NodeId, question: Question, reply: ask::Reply },
    /// A node answers.
    Answer { session: SessionId, node: NodeId, id: u64, answer: Result<Answer, AnswerError> },
    /// A link is closed.
    Closed { session: SessionId, node: NodeId },
    /// What was to be learned is in the store, or is not.
    Learned { outcome: learn::LearnOutcome },
}
