//! Connections: what is against the rules at once, everything else by a sweep.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::observation::{ConnectionObservation, Observation, Peer};
use nv_model::policy::IdentityId;
use nv_model::time::Timestamp;
use nv_model::verdict::{Mechanism, Verdict};
use nv_model::workload::InterfaceAddress;

use super::Agent;
use super::inspection::connection_of;
use crate::identity::attribution::{Destination, Opener};
use crate::identity::workloads::Owner;
use crate::policy::kernel;

/// Most stopped connects of containers that are not told yet that wait for the next sweep.
const MAX_EARLY: usize = 1024;
/// How long they wait for the runtime's word.
const PATIENCE: Duration = Duration::from_secs(10);

impl Agent {
    /// Records of the network programs.
    pub(crate) fn network_events(&mut self, events: Vec<nv_capture::Event>) {
        for event in events {
            match event {
                nv_capture::Event::Flow(flow) => self.flow(&flow),
                nv_capture::Event::Connect(connect) => self.connect(&connect),
            }
        }
        self.pump();
    }

    pub(super) fn flow(&mut self, flow: &nv_capture::FlowEvent) {
        // Only what is against the rules cannot wait for the next sweep.
        if !flow.verdict.is_violation() || matches!(flow.change, nv_capture::FlowChange::Turned) {
            return;
        }
        *self.reported.entry(flow.ends).or_insert(0) += 1;
        if !self.waits_for_name(flow) {
            self.tell_flow(flow);
        }
    }

    pub(super) fn tell_flow(&mut self, flow: &nv_capture::FlowEvent) {
        let seen = self.connection(&flow.ends, flow.endpoint, (flow.client, flow.server), flow.verdict);
        let seen = ConnectionObservation {
            rule: flow.rule,
            application: self.inspection.applications.get(connection_of(&flow.ends)),
            sessions: 1,
            decision_nanos: flow.decision_nanos.into(),
            first: flow.at,
            last: flow.at,
            ..seen
        };
        self.tell(Observation::Connection(Box::new(seen)));
    }

    pub(super) fn connection(
        &self,
        ends: &nv_capture::Ends,
        endpoint: u32,
        identities: (IdentityId, IdentityId),
        verdict: Verdict,
    ) -> ConnectionObservation {
        let local = self.workloads.endpoint(endpoint).cloned();
        let other = |address: IpAddr| self.workloads.by_address(address).cloned();
        let (client, server) =
            if ends.ingress { (other(ends.client), local) } else { (local, other(ends.server)) };
        // What the program asked for may be a service, and the server who is behind it.
        let asked = match ends.translated {
            Some(asked) if !ends.ingress => asked,
            _ => (ends.server, ends.server_port),
        };
        let opener = self
            .attribution
            .opener(
                &Destination {
                    from: client.as_ref().map(|id| self.workloads.sender(id)),
                    protocol: ends.protocol,
                    address: asked.0,
                    port: asked.1,
                },
                self.setup.clock.monotonic(),
            )
            .cloned()
            .unwrap_or_default();
        ConnectionObservation {
            client: Peer { workload: client, identity: identities.0, address: ends.client },
            server: Peer { workload: server, identity: identities.1, address: ends.server },
            ingress: ends.ingress,
            protocol: ends.protocol,
            port: ends.server_port,
            application: None,
            bytes: 0,
            sessions: 0,
            verdict,
            rule: Default::default(),
            process: opener.name,
            process_path: opener.path,
            container: opener.container,
            host: String::new(),
            forwarded: false,
            mechanism: (verdict == Verdict::Deny && self.by_queue()).then_some(Mechanism::Nfqueue),
            decision_nanos: 0,
            first: Timestamp::NEVER,
            last: Timestamp::NEVER,
        }
    }

    /// A program asked for a destination. For pods this says who opened what the veth will show; for the host's
    /// network, which has no veth, it is the connection itself.
    pub(super) fn connect(&mut self, connect: &nv_capture::ConnectEvent) {
        // It was judged by its cgroup's row, so that it is a container's; its news may be behind.
        if connect.verdict.is_violation()
            && !self.is_sender_told(connect)
            && self.early_connects.len() < MAX_EARLY
        {
            let now = self.setup.clock.monotonic();
            return self.early_connects.push((now, connect.clone()));
        }
        self.connect_of(connect);
    }

    /// Whether the controller has heard of whose connection it is: a record of one that it does not know names nobody.
    fn is_sender_told(&self, connect: &nv_capture::ConnectEvent) -> bool {
        let Owner::Workload(id) = self.workloads.owner(connect.cgroup) else { return false };
        self.workloads.get(&self.workloads.sender(&id)).is_some_and(|local| !local.provisional)
    }

    /// Tells the stopped connects of containers that are told by now, those that have waited long enough, and those that no
    /// container claims.
    fn connects_of_newcomers(&mut self) {
        let now = self.setup.clock.monotonic();
        for (since, connect) in std::mem::take(&mut self.early_connects) {
            let is_containers = self.workloads.owner(connect.cgroup) != Owner::Host;
            if is_containers && now.saturating_sub(since) < PATIENCE && !self.is_sender_told(&connect) {
                self.early_connects.push((since, connect));
            } else {
                self.connect_of(&connect);
            }
        }
    }

    fn connect_of(&mut self, connect: &nv_capture::ConnectEvent) {
        self.scanned(connect);
        let path =
            self.processes.get(connect.pid).map(|process| process.program.path.clone()).unwrap_or_default();
        let workload = match self.workloads.owner(connect.cgroup) {
            Owner::Host => None,
            Owner::Workload(id) => Some(id),
        };
        let opener = Opener { name: connect.command.clone(), path, container: workload.clone() };
        let network = workload.as_ref().and_then(|id| self.workloads.network_of(id));
        let sender = workload.as_ref().map(|id| self.workloads.sender(id));
        let destination = Destination {
            from: sender.clone(),
            protocol: connect.protocol,
            address: connect.address,
            port: connect.port,
        };
        self.attribution.note(destination, opener.clone(), self.setup.clock.monotonic());
        if let Some(sender) = &sender
            && connect.verdict.is_violation()
        {
            return self.stopped_connect(connect, sender, opener);
        }
        let told_as_flow = workload.as_ref().is_some_and(|id| self.is_seen_at_sockets(id));
        if network.is_some()
            || told_as_flow
            || connect.address.is_loopback()
            || connect.address.is_unspecified()
        {
            return;
        }
        let Some(own) = self.own_address(connect.address) else { return };
        if own == connect.address {
            return;
        }
        let identity = match &workload {
            Some(id) => IdentityId(self.endpoint_row(id).identity),
            None => IdentityId::NODES,
        };
        let seen = self.dialled(connect, Peer { workload, identity, address: own }, opener);
        self.connections.add(ConnectionObservation {
            // The host's own programs are never stopped.
            verdict: match (connect.verdict, seen.verdict) {
                (Verdict::Deny, _) => Verdict::Deny,
                (_, Verdict::Deny) => Verdict::Violate,
                (_, decided) => decided,
            },
            ..seen
        });
    }

    /// A connection of which only the program's asking is seen, with what the policy says to it.
    fn dialled(
        &self,
        connect: &nv_capture::ConnectEvent,
        client: Peer,
        opener: Opener,
    ) -> ConnectionObservation {
        let policy = &self.setup.held.policy;
        let server = Peer {
            workload: self.workloads.by_address(connect.address).cloned(),
            identity: kernel::identity_of(policy, connect.address),
            address: connect.address,
        };
        let decision = nv_policy::decide::connection(
            policy,
            nv_policy::decide::Flow {
                client: client.identity,
                server: server.identity,
                protocol: connect.protocol,
                port: connect.port,
                application: None,
                quarantined: false,
            },
        );
        ConnectionObservation {
            client,
            server,
            ingress: false,
            protocol: connect.protocol,
            port: connect.port,
            application: None,
            bytes: 0,
            sessions: 1,
            verdict: decision.verdict,
            rule: decision.rule,
            process: opener.name,
            process_path: opener.path,
            container: opener.container,
            host: String::new(),
            forwarded: false,
            mechanism: None,
            decision_nanos: connect.decision_nanos.into(),
            first: connect.at,
            last: connect.at,
        }
    }

    /// The host's address of the family of another one.
    fn own_address(&self, other: IpAddr) -> Option<IpAddr> {
        address_for(&self.setup.node.interfaces, other)
    }

    /// A workload's connect was against the rules where no packet of it passes an interface of ours.
    fn stopped_connect(&mut self, connect: &nv_capture::ConnectEvent, sender: &WorkloadId, opener: Opener) {
        let own = self.workloads.get(sender).and_then(|local| {
            if local.workload.host_network {
                return self.own_address(connect.address);
            }
            address_for(&local.workload.interfaces, connect.address)
        });
        let unspecified = match connect.address {
            IpAddr::V4(_) => IpAddr::from([0_u8; 4]),
            IpAddr::V6(_) => IpAddr::from([0_u8; 16]),
        };
        let client = Peer {
            workload: Some(sender.clone()),
            identity: IdentityId(self.endpoint_row(sender).identity),
            // Its address is not known before its interfaces are looked up.
            address: own.unwrap_or(unspecified),
        };
        let seen =
            ConnectionObservation { verdict: connect.verdict, ..self.dialled(connect, client, opener) };
        self.tell(Observation::Connection(Box::new(seen)));
    }

    /// Every five seconds: what was asked of each workload within the last minute.
    pub(super) fn tell_ingress(&mut self, at: Timestamp) {
        let mut open: HashMap<WorkloadId, u32> = HashMap::new();
        let asks = |flow: &nv_capture::Flow| flow.ends.ingress && flow.verdict != Verdict::Deny;
        for flow in self.open_flows().filter(asks) {
            if let Some(id) = self.workloads.endpoint(flow.endpoint) {
                let count = open.entry(id.clone()).or_default();
                *count = count.saturating_add(1);
            }
        }
        for (workload, ingress) in self.ingress.step(open) {
            self.tell(Observation::Ingress { workload, ingress, at });
        }
    }

    /// Every two seconds: what the flows moved since the last time.
    pub(crate) fn sweep(&mut self) {
        self.connects_of_newcomers();
        let swept = match &mut self.setup.kernel {
            Some(kernel) => kernel.flows.sweep(&nv_capture::IdleLimits::default()).map(|swept| swept.flows),
            None => Ok(self.opened.take()),
        };
        let mut spoken = Vec::new();
        match swept {
            Ok(flows) => {
                for flow in flows {
                    if self.spoken.is_due(&flow) {
                        spoken.push(flow);
                    }
                    let told = self.reported.remove(&flow.ends).unwrap_or(0);
                    let seen =
                        self.connection(&flow.ends, flow.endpoint, (flow.client, flow.server), flow.verdict);
                    let application = self.inspection.applications.tell(connection_of(&flow.ends));
                    if let Some(server) = seen.server.workload.as_ref().filter(|_| seen.ingress) {
                        self.ingress.add(server, flow.sessions, flow.bytes_to_server);
                    }
                    self.connections.add(ConnectionObservation {
                        application,
                        rule: flow.rule,
                        bytes: flow.bytes_to_client.saturating_add(flow.bytes_to_server),
                        sessions: flow.sessions.saturating_sub(told),
                        first: flow.first,
                        last: flow.last,
                        ..seen
                    });
                }
            }
            Err(error) => tracing::error!(%error, "the flows cannot be read"),
        }
        self.reported.clear();
        let (seen, dropped) = self.connections.take();
        if dropped > 0 {
            tracing::warn!(dropped, "more different connections than can be reported at once");
        }
        for one in seen.into_iter().filter(|one| one.bytes > 0 || one.sessions > 0) {
            self.tell(Observation::Connection(Box::new(one)));
        }
        self.tell_applications();
        self.judge_spoken(spoken);
        self.pump();
    }
}

/// The first of these addresses from which another one can be reached: of its family, and not the loopback.
fn address_for(held: &[InterfaceAddress], other: IpAddr) -> Option<IpAddr> {
    let own = held.iter().map(|held| held.address.addr());
    own.filter(|own| own.is_ipv4() == other.is_ipv4()).find(|own| !own.is_loopback())
}
