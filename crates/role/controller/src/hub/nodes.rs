//! Links come, live and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{EnforcerId, NodeId};
use nv_model::node::{ConnectionState, Enforcer};
use nv_model::observation::Observation;
use nv_model::time::Timestamp;
use nv_model::vitals::Vitals;
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::to_enforcer::Message as To;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Hub;
use super::ask::Asked;
use super::message::SessionId;
use super::publish::{PUBLISH_LATER, PUBLISH_SOON};
use super::push::Sent;
use crate::change::Edit;
use crate::journal::Entry;
use crate::link::Outbound;
use crate::writer::Request;

/// An open link.
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) outbound: Outbound,
    pub(super) close: CancellationToken,
    /// When it was last heard of, on the clock that never jumps.
    pub(super) seen: Duration,
    pub(super) sent: Sent,
    /// An acknowledgement found the link's queue full.
    pub(super) ack_due: bool,
    /// Questions that are not answered yet; with the link they are gone, and whoever waits is told.
    pub(super) asked: Asked,
}

/// Where a node's numbered observations are.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Position {
    /// The stream.
    pub(crate) stream: String,
    /// The last one that is taken in.
    pub(crate) taken: u64,
}

/// A node that said nothing for this long is disconnected.
const SILENCE: Duration = Duration::from_secs(15);

impl Hub {
    pub(super) fn hello(
        &mut self,
        id: SessionId,
        greeting: Greeting,
        address: Option<SocketAddr>,
        outbound: Outbound,
        close: CancellationToken,
    ) {
        let node = greeting.node.id.clone();
        if let Some(foreign) = greeting.workloads.iter().find(|workload| self.is_foreign(&node, &workload.id))
        {
            tracing::warn!(%node, workload = %foreign.id, "a node claims a workload of another node");
            self.refuse(&outbound, &close, Status::permission_denied("a workload of another node"));
            return;
        }
        if let Some(old) = self.sessions.remove(&node) {
            self.refuse(
                &old.outbound,
                &old.close,
                Status::aborted("a newer link of this node replaced this one"),
            );
        }
        let position = self.position(&node, &greeting);
        self.remember(&node, &greeting, address);
        let entry = Entry {
            node: node.to_string(),
            stream: position.stream.clone(),
            batch: Some(proto::Batch {
                first_sequence: 0,
                observations: greeting
                    .workloads
                    .iter()
                    .map(|workload| Observation::Workload(Box::new(workload.clone())).into())
                    .collect(),
            }),
            at: self.parts.clock.now().nanos(),
            taken: position.taken,
        };
        self.entries.push(entry);
        self.inventory(&node, greeting.workloads);
        self.positions.insert(node.clone(), position.clone());
        let welcome = proto::Welcome {
            controller_id: self.parts.controller.id.to_string(),
            cluster_name: self.parts.stored.config.cluster_name.clone(),
            acknowledged: position.taken,
        };
        if outbound.try_send(Ok(proto::ToEnforcer { message: Some(To::Welcome(welcome)) })).is_err() {
            close.cancel();
            return;
        }
        let sent = Sent::held(greeting.held_revision, greeting.held_digest);
        let seen = self.parts.clock.monotonic();
        let asked = super::ask::Asked::default();
        self.sessions
            .insert(node.clone(), Session { id, outbound, close, seen, sent, ack_due: false, asked });
        self.node_event(&node, "Enforcer.Connect", false, "connected");
        self.push_at = Some(Instant::now());
        self.publish_within(PUBLISH_SOON);
    }

    /// Where the node's stream goes on. A gap between what we have and what the node still has is counted.
    fn position(&mut self, node: &NodeId, greeting: &Greeting) -> Position {
        let before_oldest = greeting.oldest_sequence.0.saturating_sub(1);
        let taken = match self.positions.get(node) {
            Some(held) if held.stream == greeting.stream_id => {
                let missing = before_oldest.saturating_sub(held.taken);
                if missing > 0 {
                    let losses = self.losses.entry(node.clone()).or_default();
                    losses.missing = losses.missing.saturating_add(missing);
                    self.parts.counters.missing(missing);
                }
                held.taken.max(before_oldest)
            }
            _ => before_oldest,
        };
        Position { stream: greeting.stream_id.clone(), taken }
    }

    /// Keeps what a node says of itself, here and in the store.
    fn remember(&mut self, node: &NodeId, greeting: &Greeting, address: Option<SocketAddr>) {
        let Ok(id) = node.as_str().parse::<EnforcerId>() else { return };
        let now = self.parts.clock.now();
        let joined = self.enforcers.get(&id).map_or(now, |held| held.joined);
        let enforcer = Enforcer {
            id: id.clone(),
            node: node.clone(),
            host_name: greeting.node.name.clone(),
            version: greeting.version.clone(),
            address: address.map(|address| address.ip().to_canonical().to_string()).unwrap_or_default(),
            started: greeting.started,
            joined,
            state: ConnectionState::Connected,
            disconnected: Timestamp::NEVER,
            capabilities: greeting.capabilities.clone(),
        };
        self.enforcers.insert(id, enforcer.clone());
        self.live_nodes.insert(node.clone(), greeting.node.clone());
        if self.state.nodes.get(node) != Some(&greeting.node) {
            self.state.nodes.insert(node.clone(), greeting.node.clone());
            self.workloads_changed();
        }
        let node = Box::new(greeting.node.clone());
        let plan = Box::new(move |view: &crate::View| {
            let mut edits = Vec::new();
            if view.state.nodes.get(&node.id) != Some(&*node)
                || !view.modified.contains_key(&crate::keys::node(&node.id))
            {
                edits.push(Edit::Node(node.clone()));
            }
            edits.push(Edit::Enforcer(Box::new(enforcer.clone())));
            Ok(edits)
        });
        let (reply, _nobody_waits) = oneshot::channel();
        if self.parts.writer.try_send(Request { plan, reply }).is_err() {
            self.parts.counters.writes_refused();
        }
    }

    /// Closes a link with a reason.
    pub(super) fn refuse(&self, outbound: &Outbound, close: &CancellationToken, status: Status) {
        // With its queue full the enforcer sees the end of the stream without the reason.
        drop(outbound.try_send(Err(status)));
        close.cancel();
    }

    /// The link of a node, when the message came over the one that counts.
    pub(super) fn session(&mut self, id: SessionId, node: &NodeId) -> Option<&mut Session> {
        self.sessions.get_mut(node).filter(|session| session.id == id)
    }

    pub(super) fn heartbeat(&mut self, id: SessionId, node: &NodeId, beat: Vitals) {
        let seen = self.parts.clock.monotonic();
        let Some(session) = self.session(id, node) else { return };
        session.seen = seen;
        let losses = self.losses.entry(node.clone()).or_default();
        (losses.kernel, losses.queue) = (beat.kernel_dropped, beat.queue_dropped);
        let presses = |vitals: &Vitals| vitals.memory_budget > 0 && vitals.memory > vitals.memory_budget;
        if presses(&beat) && !self.vitals.get(node).is_some_and(presses) {
            let what = format!(
                "uses {} MiB of memory, more than its budget of {} MiB",
                beat.memory >> 20,
                beat.memory_budget >> 20
            );
            self.node_event(node, "Agent.Memory.Pressure", true, &what);
        }
        self.vitals.insert(node.clone(), beat);
        self.publish_within(PUBLISH_LATER);
    }

    pub(super) fn closed(&mut self, id: SessionId, node: &NodeId) {
        if self.session(id, node).is_some() {
            self.disconnect(node);
        }
    }

    /// Takes note that a node is out of touch; it goes on with the policy that it has.
    pub(super) fn disconnect(&mut self, node: &NodeId) {
        let Some(session) = self.sessions.remove(node) else { return };
        session.close.cancel();
        let now = self.parts.clock.now();
        for enforcer in self.enforcers.values_mut().filter(|enforcer| enforcer.node == *node) {
            enforcer.state = ConnectionState::Disconnected;
            enforcer.disconnected = now;
        }
        self.node_event(
            node,
            "Enforcer.Disconnect",
            true,
            "is out of touch and goes on with the policy that it has",
        );
        self.publish_within(PUBLISH_SOON);
    }

    /// Disconnects nodes that say nothing.
    pub(super) fn find_silent(&mut self) {
        let now = self.parts.clock.monotonic();
        let silent = self.sessions.iter().filter(|(_, session)| now.saturating_sub(session.seen) > SILENCE);
        let silent: Vec<NodeId> = silent.map(|(node, _)| node.clone()).collect();
        for node in silent {
            if let Some(session) = self.sessions.get(&node) {
                self.refuse(
                    &session.outbound,
                    &session.close,
                    Status::deadline_exceeded("nothing was heard for 15 seconds"),
                );
            }
            self.disconnect(&node);
        }
    }

    /// Replaces the workloads of a node: what is missing is gone.
    fn inventory(&mut self, node: &NodeId, workloads: Vec<nv_model::workload::Workload>) {
        let kept: std::collections::BTreeSet<_> =
            workloads.iter().map(|workload| workload.id.clone()).collect();
        let gone: Vec<_> = self
            .state
            .workloads
            .values()
            .filter(|workload| workload.node == *node && !kept.contains(&workload.id))
            .map(|workload| workload.id.clone())
            .collect();
        let now = self.parts.clock.now();
        for id in gone {
            self.workload_gone(node, &id, now);
        }
        for workload in workloads {
            self.workload_seen(node, Arc::new(workload), now);
        }
    }
}
