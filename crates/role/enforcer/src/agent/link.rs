//! The link to a controller: greeting, acknowledgements, batches of observations.

use nv_model::node::Node;
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;

use super::Agent;
use crate::uplink::link::LinkEvent;

impl Agent {
    /// Something happened on the link.
    pub(crate) fn link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Open(outgoing) => {
                self.link = Some(outgoing);
                self.greeted = false;
                self.greet();
            }
            LinkEvent::Welcome { acknowledged } => {
                self.outbox.rewind();
                self.outbox.acknowledge(acknowledged);
                self.welcomed = true;
                // Who asks for this node's figures need not wait for the next one.
                self.tell_alive(self.setup.clock.now());
                self.pump();
            }
            LinkEvent::Acknowledged(through) => {
                self.outbox.acknowledge(through);
                self.pump();
            }
            LinkEvent::Policy(delta) => self.policy(&delta),
            LinkEvent::Ask { id, question } => self.question(id, question),
            LinkEvent::Closed => {
                self.link = None;
                self.welcomed = false;
            }
        }
    }

    /// Says who this node is and what runs here, as soon as the runtime has told that: a controller that hears of no
    /// workload takes their policy away.
    pub(super) fn greet(&mut self) {
        let patience = self.setup.clock.monotonic() >= self.greet_at;
        if self.link.is_none() || self.greeted || !(self.listed || patience) {
            return;
        }
        self.greeted = true;
        let greeting = Greeting {
            version: nv_telemetry::VERSION.to_owned(),
            node: self.setup.node.clone(),
            capabilities: self.setup.capabilities.clone(),
            started: self.setup.started,
            held_revision: self.setup.held.policy.revision,
            held_digest: self.setup.held.policy.digest(),
            workloads: self
                .workloads
                .all()
                .filter(|local| local.is_told())
                .map(|local| local.workload.clone())
                .collect(),
            oldest_sequence: self.outbox.oldest(),
            stream_id: self.stream.clone(),
        };
        self.send(proto::from_enforcer::Message::Hello(greeting.into()));
    }

    /// What this node is has changed: what was said of it in the greeting is said anew, on a link of its own.
    pub(super) fn introduce_again(&mut self, before: &Node) {
        if self.greeted && self.setup.node != *before {
            self.link = None;
            self.welcomed = false;
        }
    }

    /// Sends what waits, as far as the network takes it now.
    pub(super) fn pump(&mut self) {
        if !self.welcomed {
            return;
        }
        while let Some(link) = &self.link {
            // Some places stay free for acknowledgements and signs of life, which do not wait.
            if link.capacity() <= crate::uplink::link::RESERVED {
                return;
            }
            // A place in the queue first: what was taken out of the outbox must not be lost.
            let Ok(place) = link.try_reserve() else { return };
            let Some((first, observations)) = self.outbox.next_batch() else { return };
            let batch = proto::Batch {
                first_sequence: first.0,
                observations: observations.into_iter().map(Into::into).collect(),
            };
            place.send(proto::FromEnforcer { message: Some(proto::from_enforcer::Message::Batch(batch)) });
        }
    }

    pub(super) fn send(&mut self, message: proto::from_enforcer::Message) {
        if let Some(link) = &self.link
            && let Err(error) = link.try_send(proto::FromEnforcer { message: Some(message) })
        {
            // Greeting, acknowledgements and signs of life are few; a full queue means that the link is stuck, and
            // a new one starts over.
            tracing::warn!(%error, "the link does not take a message and is dropped");
            self.link = None;
            self.welcomed = false;
        }
    }
}
