//! What inspection says: which application a connection is, and which attacks there were.

use nv_capture::Share;
use nv_dpi::threat::Threat;
use nv_model::application::ApplicationId;
use nv_model::name::SensorName;
use nv_model::observation::{ConnectionObservation, Observation, Peer};
use nv_model::sensor::SensorId;
use nv_model::threat::{MAX_MESSAGE_BYTES, MAX_PACKET_BYTES, Sensed, Severity, ThreatObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;

use super::Agent;
use crate::inspector::{self, Connection, Heard};
use crate::policy::kernel;

/// What a threat is.
struct What {
    threat: u32,
    name: String,
    severity: Severity,
    sensed: Option<Box<Sensed>>,
}

/// How a threat showed itself.
struct Proof {
    by_client: bool,
    application: u32,
    packet: Vec<u8>,
    packet_bytes: u32,
    stopped: bool,
    count: u32,
    at: u64,
}

impl Agent {
    /// What the reader of an inspector has heard.
    pub(crate) fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Told(share, words) => words.into_iter().for_each(|word| self.told(share, word)),
            Heard::Ended(share, reason) => self.inspector_ended(share, &reason),
        }
        self.pump();
    }

    fn told(&mut self, share: Share, word: inspector::Told) {
        match word {
            inspector::Told::Alive(counts) => self.inspection.lives(share, counts),
            inspector::Told::Application { connection, application } => {
                let application = ApplicationId(application);
                if application == ApplicationId::ANY || application.name().is_none() {
                    return self.strange();
                }
                self.inspection.applications.learn(connection, application);
                self.spoken.application(connection, application);
            }
            inspector::Told::Software { connection, application } => {
                let software = ApplicationId(application);
                if software.name().is_none() {
                    return self.strange();
                }
                self.spoken.software(connection, software);
            }
            inspector::Told::Host { connection, name } => match nv_policy::names::host(&name) {
                Some(host) => self.spoken.host(connection, host),
                None => self.strange(),
            },
            inspector::Told::Forwarded { connection, client } => self.spoken.forwarded(connection, client),
            inspector::Told::Name { connection, name, addresses } => {
                self.name_answered(connection, &name, &addresses);
            }
            // Answered where it was heard.
            inspector::Told::Asks { .. } => {}
            inspector::Told::Refused(connection) => self.spoken.refused(connection),
            inspector::Told::Opened { connection, queue, ingress, denied } => {
                if !self.by_queue() || !self.connection_opened(connection, queue, ingress, denied) {
                    self.strange();
                }
            }
            inspector::Told::Over(connection) => {
                self.opened.over(connection);
                self.inspection.applications.over(connection);
                self.spoken.ended(connection, true);
            }
            // The reader has told the kernel.
            inspector::Told::Settled(connection) | inspector::Told::Known(connection) => {
                self.spoken.ended(connection, false);
            }
            inspector::Told::Attack {
                threat,
                connection,
                by_client,
                application,
                packet,
                packet_bytes,
                stopped,
                count,
                at,
            } => {
                let Some(threat) = Threat::ALL.iter().copied().find(|known| known.id() == threat) else {
                    return self.strange();
                };
                // A packet that belongs to no connection has nobody to be told of.
                let Some(connection) = connection else { return };
                let what = What {
                    threat: threat.id(),
                    name: threat.name().to_owned(),
                    severity: threat.severity(),
                    sensed: None,
                };
                let proof = Proof { by_client, application, packet, packet_bytes, stopped, count, at };
                self.tell_threat(what, connection, proof);
            }
            inspector::Told::Match {
                kind,
                sensor,
                rule,
                id,
                group,
                message,
                variable,
                severity,
                connection,
                by_client,
                application,
                packet,
                packet_bytes,
                stopped,
                count,
                at,
            } => {
                let fits = |text: &str| text.len() <= MAX_MESSAGE_BYTES && !text.contains(char::is_control);
                if !fits(&message) || !fits(&variable) {
                    return self.strange();
                }
                let (Ok(sensor), Ok(rule)) = (sensor.parse::<SensorName>(), rule.parse::<SensorName>())
                else {
                    return self.strange();
                };
                let held = &self.setup.held.policy;
                let known = held.sensors.contains_key(&SensorId { kind, name: sensor.clone() });
                if !known || !held.sensor_groups.contains_key(&group) {
                    // It was taken away meanwhile, or never there.
                    return self.strange();
                }
                let sensed = Sensed { kind, sensor, rule, group, message, variable };
                let what =
                    What { threat: id, name: sensed.threat(), severity, sensed: Some(Box::new(sensed)) };
                let proof = Proof { by_client, application, packet, packet_bytes, stopped, count, at };
                self.tell_threat(what, connection, proof);
            }
            inspector::Told::Meters { ask, meters, more } => {
                if !self.metered(ask, meters, more) {
                    self.strange();
                }
            }
            inspector::Told::Rules { revision, refused } => {
                if !self.inspection.answered(share, revision, refused.as_deref()) {
                    return self.strange();
                }
                // They may have changed meanwhile.
                self.tell_rules();
                self.look_after_queues();
            }
        }
    }

    /// Tells a threat of a connection, as far as it makes sense.
    fn tell_threat(&mut self, what: What, connection: Connection, proof: Proof) {
        let Proof { by_client, application, packet, packet_bytes, stopped, count, at } = proof;
        if packet.len() > MAX_PACKET_BYTES || count == 0 {
            return self.strange();
        }
        let Some((client, server, ingress)) = self.ends_of(connection) else { return self.strange() };
        let application = ApplicationId(application);
        // It can have been stopped where packets wait, and nowhere else.
        let stopped =
            stopped && [connection.client, connection.server].iter().any(|end| self.waits(end.ip()));
        let known = self.inspection.applications.get(connection);
        self.tell(Observation::Threat(Box::new(ThreatObservation {
            threat: what.threat,
            name: what.name,
            severity: what.severity,
            ingress,
            client,
            server,
            protocol: connection.protocol,
            client_port: connection.client.port(),
            server_port: connection.server.port(),
            application: known.or_else(|| {
                let named = application != ApplicationId::ANY && application.name().is_some();
                named.then_some(application)
            }),
            by_client,
            verdict: if stopped { Verdict::Deny } else { Verdict::Violate },
            packet,
            packet_bytes,
            count,
            at: Timestamp::from_nanos(i64::try_from(at).unwrap_or(i64::MAX)),
            sensed: what.sensed,
            mechanism: stopped.then(|| self.holds_back()),
        })));
    }

    fn strange(&mut self) {
        self.inspection.strange = self.inspection.strange.saturating_add(1);
    }

    /// Who a connection is between, and whether it was seen at the server's end: as the kernel knows it, since a sender
    /// may claim any address; of one that it has forgotten already, by its addresses. `None` when it is nobody's here.
    fn ends_of(&self, connection: Connection) -> Option<(Peer, Peer, bool)> {
        let flow = self.open_flows().find(|flow| connection_of(&flow.ends).sorted() == connection.sorted());
        if let Some(flow) = flow {
            let seen = self.connection(&flow.ends, flow.endpoint, (flow.client, flow.server), flow.verdict);
            return Some((seen.client, seen.server, seen.ingress));
        }
        self.ends_by_address(connection)
    }

    /// The same by its addresses alone.
    pub(super) fn ends_by_address(&self, connection: Connection) -> Option<(Peer, Peer, bool)> {
        let (client, server) = (self.peer(connection.client.ip()), self.peer(connection.server.ip()));
        let ingress = server.workload.is_some();
        (ingress || client.workload.is_some()).then_some((client, server, ingress))
    }

    fn peer(&self, address: std::net::IpAddr) -> Peer {
        Peer {
            workload: self.workloads.by_address(address).cloned(),
            identity: kernel::identity_of(&self.setup.held.policy, address),
            address,
        }
    }

    /// At the end of a sweep: connections that moved nothing since their application became known are told with it all
    /// the same, so that it is learned.
    pub(super) fn tell_applications(&mut self) {
        if !self.inspection.applications.swept() {
            return;
        }
        let untold: Vec<nv_capture::Flow> = self
            .open_flows()
            .filter(|flow| self.inspection.applications.is_untold(connection_of(&flow.ends)))
            .collect();
        for flow in untold {
            let application = self.inspection.applications.tell(connection_of(&flow.ends));
            let identities = (flow.client, flow.server);
            let seen = self.connection(&flow.ends, flow.endpoint, identities, flow.verdict);
            self.tell(Observation::Connection(Box::new(ConnectionObservation {
                rule: flow.rule,
                application,
                first: flow.first,
                last: flow.last,
                ..seen
            })));
        }
    }
}

/// A flow of the kernel as inspection names it: by what its packets say, whoever is behind it.
pub(super) fn connection_of(ends: &nv_capture::Ends) -> Connection {
    let (client, server) = ((ends.client, ends.client_port), (ends.server, ends.server_port));
    let (client, server) = match ends.translated {
        Some(said) if ends.ingress => (said, server),
        Some(said) => (client, said),
        None => (client, server),
    };
    Connection::ends(ends.protocol, client, server)
}
