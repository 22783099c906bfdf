//! Policy down: compile, compare, send the difference.

use std::time::Duration;

use nv_model::name::NodeId;
use nv_model::policy::{NodePolicy, Revision};
use nv_model::time::Timestamp;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::to_enforcer::Message as To;
use tokio::time::Instant;

use super::Hub;
use super::message::SessionId;
use super::publish::PUBLISH_SOON;

/// A change after a quiet time is compiled this soon, so that the rest of its burst goes with it.
const FIRST: Duration = Duration::from_millis(2);
/// Under steady change, policy is compiled this often.
const STEADY: Duration = Duration::from_millis(100);
/// A node that could not take a policy gets the whole one after this.
const RETRY: Duration = Duration::from_secs(5);

/// What the node was sent last.
pub(crate) struct Sent {
    /// The policy; `None` until one was sent or found to be the node's.
    policy: Option<NodePolicy>,
    /// Highest revision that the node is known to have.
    highest: Revision,
    /// Content hash of what the node said it has, until the first comparison.
    held: Option<String>,
    /// The node needs the whole policy, but not before this.
    whole: Option<Instant>,
    /// Something is to be compared, and sent when it differs.
    open: bool,
}

impl Sent {
    pub(crate) fn held(revision: Revision, digest: String) -> Self {
        let held = (revision != Revision(0) && !digest.is_empty()).then_some(digest);
        Self { policy: None, highest: revision, held, whole: None, open: true }
    }
}

impl Hub {
    /// Plans a compilation.
    pub(super) fn push_soon(&mut self) {
        let now = Instant::now();
        let at = self.pushed.map_or(now, |last| last + STEADY).max(now + FIRST);
        self.push_at = Some(self.push_at.map_or(at, |planned| planned.min(at)));
    }

    /// Compiles for every linked node and sends what changed.
    pub(super) fn push(&mut self, now: Instant) {
        self.push_at = None;
        self.pushed = Some(now);
        // Its revisions only tell one compilation from the next; what nodes see is numbered for each of them.
        self.compilation = self.compilation.saturating_add(1);
        let changed = self.compiler.update(&self.state, &mut self.identities, Revision(self.compilation));
        self.parts.counters.compiled();
        for (node, _delta) in &changed {
            if let Some(session) = self.sessions.get_mut(node) {
                session.sent.open = true;
            }
        }
        let open = self.sessions.iter().filter(|(_, session)| session.sent.open);
        let nodes: Vec<NodeId> = open.map(|(node, _)| node.clone()).collect();
        for node in nodes {
            if let Some(policy) = self.compiler.policy(&node) {
                self.send_policy(&node, policy, now);
            }
        }
        // Also where nothing had to be sent: nodes enforce what is shown by now.
        self.publish_within(PUBLISH_SOON);
    }

    fn send_policy(&mut self, node: &NodeId, mut policy: NodePolicy, now: Instant) {
        let at = self.parts.clock.now();
        let Some(session) = self.sessions.get_mut(node) else { return };
        let sent = &mut session.sent;
        sent.open = false;
        if let Some(until) = sent.whole
            && until > now
        {
            sent.open = true;
            self.push_at = Some(self.push_at.map_or(until, |planned| planned.min(until)));
            return;
        }
        if let Some(digest) = sent.held.take()
            && digest == policy.digest()
        {
            policy.revision = sent.highest;
            let state = self.policies.entry(node.clone()).or_default();
            (state.sent, state.enforced) = (policy.revision, policy.revision);
            sent.policy = Some(policy);
            return;
        }
        let base = sent.policy.as_ref().filter(|_| sent.whole.is_none());
        if let Some(base) = base {
            policy.revision = base.revision;
            if policy == *base {
                return;
            }
        }
        policy.revision = Revision(sent.highest.0.saturating_add(1));
        let delta =
            base.map_or_else(|| NodePolicy::default().delta_to(&policy), |base| base.delta_to(&policy));
        let message = proto::ToEnforcer { message: Some(To::Policy(delta.into())) };
        if session.outbound.try_send(Ok(message)).is_err() {
            sent.open = true;
            // The link's queue is full: what has changed by then goes with the next attempt.
            let again = now + STEADY;
            self.push_at = Some(self.push_at.map_or(again, |planned| planned.min(again)));
            return;
        }
        self.parts.counters.pushed();
        sent.highest = policy.revision;
        sent.whole = None;
        let state = self.policies.entry(node.clone()).or_default();
        state.sent = policy.revision;
        if state.waiting_since == Timestamp::NEVER {
            state.waiting_since = at;
        }
        sent.policy = Some(policy);
    }

    pub(super) fn policy_ack(&mut self, id: SessionId, node: &NodeId, ack: &proto::PolicyAck) {
        let now = Instant::now();
        let seen = self.parts.clock.monotonic();
        let Some(session) = self.session(id, node) else { return };
        session.seen = seen;
        let failed = ack.resend_whole || !ack.error.is_empty();
        if failed {
            (session.sent.policy, session.sent.open) = (None, true);
            // Asked for, it goes at once; after a failure the node gets a pause.
            let at = if ack.resend_whole { now } else { now + RETRY };
            session.sent.whole = Some(at);
            self.push_at = Some(self.push_at.map_or(at, |planned| planned.min(at)));
        }
        let state = self.policies.entry(node.clone()).or_default();
        state.error = ack.error.chars().take(512).collect();
        if failed {
            tracing::warn!(%node, revision = ack.revision, error = state.error, "a node did not take its policy");
        } else {
            state.enforced = Revision(ack.revision);
            state.apply_micros = ack.apply_micros;
            if state.enforced == state.sent {
                state.waiting_since = Timestamp::NEVER;
            }
        }
        self.publish_within(PUBLISH_SOON);
    }
}
