//! Connections where no BPF program sees them: as the inspector tells of the first packet of each, at the queue of a pod.
//!
//! They take the place of the flows that the kernel's tables would hold, so that everything else is the same: what is
//! against the rules is told at once, the rest by the next sweep.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use nv_capture::{Ends, Flow, FlowChange, FlowEvent, Session};
use nv_model::policy::IdentityId;
use nv_model::verdict::{Mechanism, Verdict};

use super::Agent;
use crate::inspector::{Connection, by_ends};

/// Most open connections; those beyond are told, and remembered no further.
const MAX_OPEN: usize = 65_536;
/// Most that begin between two sweeps.
const MAX_NEW: usize = 16_384;

/// Connections that were told of.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Each with when it began, by the monotonic clock. A connection between two pods of the node is seen at both.
    open: HashMap<Connection, Vec<(Flow, Duration)>>,
    /// For the next sweep.
    new: Vec<Flow>,
    overflow: u64,
}

impl Opened {
    fn put(&mut self, connection: Connection, flow: Flow, now: Duration) {
        if self.new.len() < MAX_NEW {
            self.new.push(flow);
        } else {
            self.overflow = self.overflow.saturating_add(1);
        }
        let key = connection.sorted();
        let is_full = self.open.len() >= MAX_OPEN && !self.open.contains_key(&key);
        if is_full && flow.verdict != Verdict::Deny {
            self.overflow = self.overflow.saturating_add(1);
        }
        let held = if is_full { None } else { Some(self.open.entry(key).or_default()) };
        if let Some(held) = held {
            let mut since = now;
            held.retain(|(other, began)| {
                let same = other.ends.ifindex == flow.ends.ifindex;
                if same {
                    // It is judged anew, and no younger for that.
                    since = *began;
                }
                !same
            });
            // What is stopped is not open.
            if flow.verdict != Verdict::Deny {
                held.push((flow, since));
            }
            if held.is_empty() {
                self.open.remove(&key);
            }
        }
    }
    /// A connection is over.
    pub(super) fn over(&mut self, connection: Connection) {
        self.open.remove(&connection.sorted());
    }
    /// Whoever has told of those at these interfaces is gone: what goes on is told anew.
    pub(super) fn forget(&mut self, is_over: impl Fn(u32) -> bool) {
        self.open.retain(|_, flows| {
            flows.retain(|(flow, _)| !is_over(flow.ends.ifindex));
            !flows.is_empty()
        });
    }
    /// Those that began since the last sweep.
    pub(super) fn take(&mut self) -> Vec<Flow> {
        std::mem::take(&mut self.new)
    }
    /// What is counted, by name.
    pub(super) fn counters(&self) -> [(&'static str, u64); 2] {
        let open = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        [("inspection.opened", open), ("inspection.opened_overflow", self.overflow)]
    }
}

impl Agent {
    /// Whether connections are judged by the inspector, in the queues of pods, as no BPF program does it.
    pub(super) fn by_queue(&self) -> bool {
        self.setup.kernel.is_none() && self.setup.capabilities.network == Some(Mechanism::Nfqueue)
    }

    /// Open connections: those of the kernel's tables, or those that the inspector told of.
    pub(super) fn open_flows(&self) -> Box<dyn Iterator<Item = Flow> + '_> {
        match &self.setup.kernel {
            Some(kernel) => Box::new(kernel.flows.sessions().map(|session| session.flow)),
            None => Box::new(self.opened.open.values().flatten().map(|(flow, _)| *flow)),
        }
    }

    /// The latter with their age.
    pub(super) fn opened_sessions(&self) -> impl Iterator<Item = Session> {
        let now = self.setup.clock.monotonic();
        self.opened.open.values().flatten().map(move |(flow, began)| {
            let mut hasher = DefaultHasher::new();
            flow.ends.hash(&mut hasher);
            let age = now.saturating_sub(*began);
            Session { id: hasher.finish(), flow: *flow, age, idle: age }
        })
    }

    /// A connection begins at the queue of a pod, or is judged otherwise than before. By whom and how is looked up here: what
    /// the inspector says of it is a stranger's word. False when it makes no sense.
    pub(super) fn connection_opened(
        &mut self,
        connection: Connection,
        queue: u32,
        ingress: bool,
        denied: bool,
    ) -> bool {
        let mut all = self.workloads.all();
        let Some((id, endpoint)) = all.find_map(|local| {
            let attached = local.attached.iter().find(|one| one.ifindex == queue && one.cgroup.is_none())?;
            Some((local.workload.id.clone(), attached.endpoint))
        }) else {
            return false;
        };
        drop(all);
        let (client, server, protocol) = (connection.client, connection.server, connection.protocol);
        let own = IdentityId(self.endpoint_row(&id).identity);
        let rules = &self.spoken.rules;
        let (from, to) = if ingress {
            (rules.identity_of(client.ip()), own)
        } else {
            (own, rules.identity_of(server.ip()))
        };
        let (verdict, rule) = by_ends(rules, from, to, protocol, server.port());
        let verdict = match (verdict, denied) {
            // The inspector judged by what held a moment ago.
            (Verdict::Deny, false) => Verdict::Violate,
            (Verdict::Deny, true) => Verdict::Deny,
            (_, true) => return false,
            (other, false) => other,
        };
        let ends = Ends {
            ifindex: queue,
            client: client.ip(),
            client_port: client.port(),
            server: server.ip(),
            server_port: server.port(),
            protocol,
            protocol_number: protocol.number(),
            ingress,
            translated: None,
        };
        let at = self.setup.clock.now();
        self.flow(&FlowEvent {
            at,
            change: FlowChange::New,
            ends,
            endpoint,
            client: from,
            server: to,
            verdict,
            rule,
            generation: 0,
            mid_stream: false,
            quarantined: false,
            decision_nanos: 0,
        });
        let flow = Flow {
            ends,
            endpoint,
            client: from,
            server: to,
            verdict,
            rule,
            bytes_to_server: 0,
            bytes_to_client: 0,
            packets_to_server: 0,
            packets_to_client: 0,
            sessions: 1,
            first: at,
            last: at,
            closed: false,
            mid_stream: false,
            quarantined: false,
        };
        let now = self.setup.clock.monotonic();
        self.opened.put(connection, flow, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use nv_model::port::Protocol;
    use nv_model::rule::RuleId;
    use nv_model::time::Timestamp;

    use super::*;

    fn connection(port: u16) -> Connection {
        let end = |last, port| std::net::SocketAddr::from(([10, 0, 0, last], port));
        Connection { protocol: Protocol::Tcp, client: end(1, port), server: end(2, 80) }
    }

    fn flow(connection: Connection, ifindex: u32, verdict: Verdict) -> Flow {
        let Connection { protocol, client, server } = connection;
        Flow {
            ends: Ends {
                ifindex,
                client: client.ip(),
                client_port: client.port(),
                server: server.ip(),
                server_port: server.port(),
                protocol,
                protocol_number: protocol.number(),
                ingress: false,
                translated: None,
            },
            endpoint: 1,
            client: IdentityId(16),
            server: IdentityId(17),
            verdict,
            rule: RuleId::DEFAULT,
            bytes_to_server: 0,
            bytes_to_client: 0,
            packets_to_server: 0,
            packets_to_client: 0,
            sessions: 1,
            first: Timestamp::NEVER,
            last: Timestamp::NEVER,
            closed: false,
            mid_stream: false,
            quarantined: false,
        }
    }

    #[test]
    fn what_is_stopped_is_not_open_and_what_is_over_is_forgotten_at_both_its_ends() {
        let mut opened = Opened::default();
        let (one, other) = (connection(40_000), connection(40_001));
        opened.put(one, flow(one, 5, Verdict::Allow), Duration::ZERO);
        opened.put(one, flow(one, 6, Verdict::Allow), Duration::ZERO);
        opened.put(other, flow(other, 5, Verdict::Deny), Duration::ZERO);
        assert_eq!(opened.open.values().flatten().count(), 2);
        assert_eq!(opened.take().len(), 3, "a sweep tells all of them");
        assert_eq!(opened.take().len(), 0);
        // Another policy stops it at one of its ends.
        opened.put(one, flow(one, 5, Verdict::Deny), Duration::ZERO);
        assert_eq!(opened.open.values().flatten().count(), 1);
        opened.over(one);
        assert_eq!(opened.counters(), [("inspection.opened", 0), ("inspection.opened_overflow", 0)]);
    }

    #[test]
    fn a_connection_that_is_judged_anew_is_as_old_as_it_was() {
        let (mut opened, one) = (Opened::default(), connection(40_000));
        opened.put(one, flow(one, 5, Verdict::Allow), Duration::from_secs(3));
        opened.put(one, flow(one, 5, Verdict::Violate), Duration::from_secs(9));
        let held: Vec<_> =
            opened.open.values().flatten().map(|(flow, began)| (flow.verdict, *began)).collect();
        assert_eq!(held, [(Verdict::Violate, Duration::from_secs(3))]);
    }

    #[test]
    fn what_begins_beyond_the_bound_is_counted() {
        let mut opened = Opened::default();
        for port in 0..=u16::try_from(MAX_NEW).unwrap() {
            opened.put(connection(port), flow(connection(port), 5, Verdict::Deny), Duration::ZERO);
        }
        assert_eq!(opened.take().len(), MAX_NEW);
        assert_eq!(opened.counters(), [("inspection.opened", 0), ("inspection.opened_overflow", 1)]);
    }
}
