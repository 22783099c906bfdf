//! Questions on their way to a node and back.

use std::collections::BTreeMap;

use nv_model::name::NodeId;
use nv_model::question::{Answer, AnswerError, Question};
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::to_enforcer::Message as To;
use tokio::sync::oneshot;

use super::{Hub, SessionId};
use crate::ask::AskError;

/// Questions of one link that may wait for their answers.
const MAX_WAITING: usize = 32;

/// Where an answer is waited for.
pub(crate) type Reply = oneshot::Sender<Result<Answer, AskError>>;

/// The questions of one link that wait for their answers.
#[derive(Default)]
pub(super) struct Asked {
    last: u64,
    waiting: BTreeMap<u64, Reply>,
}

impl Asked {
    /// A number for a question, while there is room. Those that nobody waits for any more make room.
    fn place(&mut self) -> Option<u64> {
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.retain(|_, reply| !reply.is_closed());
        }
        if self.waiting.len() >= MAX_WAITING {
            return None;
        }
        self.last = self.last.wrapping_add(1);
        Some(self.last)
    }
}

impl Hub {
    pub(super) fn ask(&mut self, node: &NodeId, question: Question, reply: Reply) {
        // Whoever asked may have given up; then nobody reads the refusal.
        let refuse = |reply: Reply, error| drop(reply.send(Err(error)));
        let Some(session) = self.sessions.get_mut(node) else {
            return refuse(reply, AskError::NotConnected { node: node.clone() });
        };
        let Some(id) = session.asked.place() else {
            self.parts.counters.ask_refused();
            return refuse(reply, AskError::Busy { node: node.clone() });
        };
        let ask = proto::Ask { id, question: Some(question.into()) };
        if session.outbound.try_send(Ok(proto::ToEnforcer { message: Some(To::Ask(ask)) })).is_err() {
            self.parts.counters.ask_refused();
            return refuse(reply, AskError::Busy { node: node.clone() });
        }
        session.asked.waiting.insert(id, reply);
    }

    pub(super) fn answer(
        &mut self,
        session: SessionId,
        node: &NodeId,
        id: u64,
        answer: Result<Answer, AnswerError>,
    ) {
        let seen = self.parts.clock.monotonic();
        let Some(session) = self.session(session, node) else { return };
        session.seen = seen;
        // One that came too late, or that was never asked for, has nowhere to go.
        let Some(reply) = session.asked.waiting.remove(&id) else { return };
        drop(reply.send(answer.map_err(|source| AskError::Node { node: node.clone(), source })));
    }
}
