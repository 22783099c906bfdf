//! What connections say of their application and of the host that they mean, judged by the policy's rules for it: what
//! turns out to be against them is told.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use nv_capture::Flow;
use nv_model::application::ApplicationId;
use nv_model::observation::{ConnectionObservation, Observation, Peer};
use nv_model::policy::IdentityId;
use nv_model::verdict::Verdict;
use nv_policy::decide::Decision;
use nv_policy::layer7::{Judgement, Layer7, Seen};

use super::Agent;
use super::inspection::connection_of;
use crate::inspector::Connection;

/// Most connections of which it is remembered what they said.
const MAX_CONNECTIONS: usize = 16_384;
/// Most hosts of one connection.
const MAX_HOSTS: usize = 16;
/// Most clients behind proxies of one connection, of which it is remembered what was told.
const MAX_FORWARDED: usize = 64;
/// Sweeps that a connection is looked for among the kernel's flows; then it is judged by its addresses.
const PATIENCE: u8 = 2;

/// What connections have said.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// What the policy says of it.
    pub(super) rules: Layer7,
    said: HashMap<Connection, Said>,
    overflow: u64,
    violations: u64,
}

#[derive(Debug)]
struct Said {
    /// With its ends as inspection has told them.
    connection: Connection,
    application: Option<ApplicationId>,
    software: Option<ApplicationId>,
    hosts: Vec<String>,
    /// Who asked through trusted proxies, the last one at the end, with what was told of him.
    forwarded: Vec<(IpAddr, Option<Decision>)>,
    ended: bool,
    over: bool,
    /// It was cut for it: its packets waited.
    refused: bool,
    /// It said something since it was judged.
    due: bool,
    waited: u8,
    /// What was told of it.
    told: Option<Decision>,
}

impl Spoken {
    fn of(&mut self, connection: Connection) -> Option<&mut Said> {
        let key = connection.sorted();
        if !self.rules.asks() {
            return None;
        }
        if self.said.len() >= MAX_CONNECTIONS && !self.said.contains_key(&key) {
            self.overflow = self.overflow.saturating_add(1);
            return None;
        }
        let said = self.said.entry(key).or_insert_with(|| Said {
            connection,
            application: None,
            software: None,
            hosts: Vec::new(),
            forwarded: Vec::new(),
            ended: false,
            over: false,
            refused: false,
            due: true,
            waited: 0,
            told: None,
        });
        said.due = true;
        Some(said)
    }
    /// Its application is known, or known better.
    pub(super) fn application(&mut self, connection: Connection, application: ApplicationId) {
        if let Some(said) = self.of(connection) {
            said.application = Some(application);
        }
    }
    /// Its server's software is known.
    pub(super) fn software(&mut self, connection: Connection, software: ApplicationId) {
        if let Some(said) = self.of(connection) {
            said.software = Some(software);
        }
    }
    /// The client means this host.
    pub(super) fn host(&mut self, connection: Connection, host: String) {
        let full = self.of(connection).is_some_and(|said| {
            let full = said.hosts.len() >= MAX_HOSTS;
            if !full && !said.hosts.contains(&host) {
                said.hosts.push(host);
            }
            full
        });
        self.overflow = self.overflow.saturating_add(u64::from(full));
    }
    /// Somebody asks through trusted proxies.
    pub(super) fn forwarded(&mut self, connection: Connection, client: IpAddr) {
        let Some(said) = self.of(connection) else { return };
        let known = said.forwarded.iter().position(|(known, _)| *known == client);
        let entry = known.map_or((client, None), |at| said.forwarded.remove(at));
        let full = said.forwarded.len() >= MAX_FORWARDED;
        if full {
            said.forwarded.remove(0);
        }
        said.forwarded.push(entry);
        self.overflow = self.overflow.saturating_add(u64::from(full));
    }
    /// Who asked last through trusted proxies.
    pub(super) fn asker(&self, connection: Connection) -> Option<IpAddr> {
        self.said.get(&connection.sorted())?.forwarded.last().map(|(client, _)| *client)
    }
    /// Nothing more will become known of it; `over`: it has ended.
    pub(super) fn ended(&mut self, connection: Connection, over: bool) {
        // Of what never said anything there is nothing to remember, unless that is itself against a rule.
        if over && !self.said.contains_key(&connection.sorted()) {
            return;
        }
        if let Some(said) = self.of(connection) {
            (said.ended, said.over) = (true, said.over || over);
        }
    }
    /// It was cut for what it said.
    pub(super) fn refused(&mut self, connection: Connection) {
        if let Some(said) = self.of(connection) {
            said.refused = true;
        }
    }
    /// Whoever heard what these ends say is gone: what goes on is heard anew.
    pub(super) fn forget(&mut self, is_over: impl Fn(IpAddr) -> bool) {
        self.said.retain(|ends, _| !is_over(ends.client.ip()) && !is_over(ends.server.ip()));
    }
    /// Another policy holds: what was said is judged again.
    pub(super) fn judge_anew(&mut self, rules: Layer7) {
        self.rules = rules;
        if self.rules.asks() {
            self.said.values_mut().for_each(|said| said.due = true);
        } else {
            self.said.clear();
        }
    }
    /// Whether a flow of the kernel has said something.
    pub(super) fn is_due(&self, flow: &Flow) -> bool {
        !self.said.is_empty()
            && self.said.get(&connection_of(&flow.ends).sorted()).is_some_and(|said| said.due)
    }
    /// What is counted, by name.
    pub(super) fn counters(&self) -> [(&'static str, u64); 3] {
        [
            ("inspection.spoken", u64::try_from(self.said.len()).unwrap_or(u64::MAX)),
            ("inspection.spoken_overflow", self.overflow),
            ("inspection.violations", self.violations),
        ]
    }
    /// The strictest verdict, and the host that it is by.
    fn judge(
        &self,
        said: &Said,
        server: IdentityId,
        of: &ConnectionObservation,
    ) -> Option<(Decision, String)> {
        let seen = Seen {
            client: of.client.identity,
            server,
            protocol: of.protocol,
            port: of.port,
            application: said.application,
            software: said.software,
            names: &[],
            ended_probing: said.ended,
        };
        let by = |host: &String| match self.rules.judge(&Seen { names: &[host], ..seen }) {
            Judgement::Decided(decision) => Some((decision, host.clone())),
            Judgement::Wait => None,
        };
        let judged: Vec<(Decision, String)> = said.hosts.iter().filter_map(by).collect();
        if let Some(against) = judged.iter().find(|(decision, _)| decision.verdict.is_violation()) {
            return Some(against.clone());
        }
        if !said.hosts.is_empty() {
            return judged.into_iter().next();
        }
        match self.rules.judge(&seen) {
            Judgement::Decided(decision) => Some((decision, String::new())),
            Judgement::Wait => None,
        }
    }
}

impl Agent {
    /// At the end of a sweep, of which `flows` are those that have said something: judges these, those that moved
    /// nothing since, and by their addresses those that the kernel knows no more.
    pub(super) fn judge_spoken(&mut self, flows: Vec<Flow>) {
        let due: HashSet<Connection> =
            self.spoken.said.iter().filter(|(_, said)| said.due).map(|(connection, _)| *connection).collect();
        if due.is_empty() {
            return;
        }
        let mut found: HashMap<Connection, Flow> = HashMap::new();
        let is_due = |flow: &Flow| due.contains(&connection_of(&flow.ends).sorted());
        let open: Vec<Flow> = self.open_flows().filter(is_due).collect();
        for flow in flows.into_iter().chain(open) {
            let key = connection_of(&flow.ends).sorted();
            // Of a connection between two pods the client's end tells.
            if found.get(&key).is_none_or(|held| held.ends.ingress && !flow.ends.ingress) {
                found.insert(key, flow);
            }
        }
        for connection in due {
            let seen = match found.get(&connection) {
                Some(flow) => {
                    let identities = (flow.client, flow.server);
                    let seen = self.connection(&flow.ends, flow.endpoint, identities, flow.verdict);
                    Some(ConnectionObservation { first: flow.first, last: flow.last, ..seen })
                }
                None => self.by_addresses(connection),
            };
            let Some(said) = self.spoken.said.get_mut(&connection) else { continue };
            if found.contains_key(&connection) || said.waited >= PATIENCE {
                said.due = false;
            } else {
                said.waited = said.waited.saturating_add(1);
                continue;
            }
            if let Some(seen) = seen {
                self.judge_forwarded(connection, &seen);
                self.judge_one(connection, seen);
            }
        }
        self.spoken.said.retain(|_, said| said.due || !said.over);
    }

    fn judge_one(&mut self, connection: Connection, seen: ConnectionObservation) {
        // The number of an address with names may be another one since.
        let server = self.spoken.rules.identity_now(seen.server.identity, seen.server.address);
        let Some(said) = self.spoken.said.get(&connection) else { return };
        let Some((decision, host)) = self.spoken.judge(said, server, &seen) else { return };
        let (application, refused) = (said.application, said.refused);
        if !decision.verdict.is_violation() || seen.verdict.is_violation() || said.told == Some(decision) {
            return;
        }
        if let Some(said) = self.spoken.said.get_mut(&connection) {
            said.told = Some(decision);
        }
        self.spoken.violations = self.spoken.violations.saturating_add(1);
        // It can have been stopped where packets wait, and nowhere else.
        let stopped =
            refused && [connection.client, connection.server].iter().any(|end| self.waits(end.ip()));
        tracing::debug!(
            rule = decision.rule.0,
            reason = decision.reason.as_str(),
            host,
            "a connection says what is against the rules"
        );
        self.tell(Observation::Connection(Box::new(ConnectionObservation {
            application,
            host,
            sessions: 1,
            // Where its packets did not wait it was let through until it had said so.
            verdict: if stopped { Verdict::Deny } else { Verdict::Violate },
            mechanism: stopped.then(|| self.holds_back()),
            rule: decision.rule,
            ..seen
        })));
    }

    /// Tells who asked through proxies, as connections of their own: each is judged as if he had asked himself.
    fn judge_forwarded(&mut self, connection: Connection, seen: &ConnectionObservation) {
        let Some(said) = self.spoken.said.get(&connection) else { return };
        let (application, refused, ended) = (said.application, said.refused, said.ended);
        let server = self.spoken.rules.identity_now(seen.server.identity, seen.server.address);
        let mut tell = Vec::new();
        for (at, (client, told)) in said.forwarded.iter().enumerate() {
            let identity = self.spoken.rules.identity_of(*client);
            let judgement = self.spoken.rules.judge(&Seen {
                client: identity,
                server,
                protocol: seen.protocol,
                port: seen.port,
                application,
                software: said.software,
                names: &[],
                ended_probing: ended,
            });
            if let Judgement::Decided(decision) = judgement
                && *told != Some(decision)
            {
                tell.push((at, *client, identity, decision));
            }
        }
        // It can have been stopped where packets wait, and nowhere else.
        let waited = [connection.client, connection.server].iter().any(|end| self.waits(end.ip()));
        for (at, address, identity, decision) in tell {
            let said = self.spoken.said.get_mut(&connection);
            if let Some((_, told)) = said.and_then(|said| said.forwarded.get_mut(at)) {
                *told = Some(decision);
            }
            let stopped = refused && waited && decision.verdict == Verdict::Deny;
            let verdict = match decision.verdict {
                Verdict::Deny if !stopped => Verdict::Violate,
                verdict => verdict,
            };
            self.spoken.violations = self.spoken.violations.saturating_add(u64::from(verdict.is_violation()));
            let workload = self.workloads.by_address(address).cloned();
            self.tell(Observation::Connection(Box::new(ConnectionObservation {
                client: Peer { workload, identity, address },
                forwarded: true,
                application,
                sessions: 1,
                bytes: 0,
                verdict,
                mechanism: stopped.then(|| self.holds_back()),
                rule: decision.rule,
                // What runs at the proxy is not what asks.
                process: String::new(),
                process_path: String::new(),
                container: None,
                ..seen.clone()
            })));
        }
    }

    /// A connection that the kernel knows no more, by what its packets said.
    fn by_addresses(&self, connection: Connection) -> Option<ConnectionObservation> {
        let said = self.spoken.said.get(&connection)?;
        let (connection, application) = (said.connection, said.application);
        let (mut client, mut server, ingress) = self.ends_by_address(connection)?;
        let rules = &self.spoken.rules;
        client.identity = rules.identity_of(client.address);
        server.identity = rules.identity_of(server.address);
        let unspoken = Seen {
            client: client.identity,
            server: server.identity,
            protocol: connection.protocol,
            port: connection.server.port(),
            application: None,
            software: None,
            names: &[],
            ended_probing: false,
        };
        // What its ends alone are against was told when it began.
        let verdict = match rules.judge(&unspoken) {
            Judgement::Decided(decision) if decision.verdict.is_violation() => decision.verdict,
            Judgement::Decided(_) | Judgement::Wait => Verdict::Allow,
        };
        let now = self.setup.clock.now();
        Some(ConnectionObservation {
            client,
            server,
            ingress,
            protocol: connection.protocol,
            port: connection.server.port(),
            application,
            bytes: 0,
            sessions: 0,
            verdict,
            rule: Default::default(),
            process: String::new(),
            process_path: String::new(),
            container: None,
            host: String::new(),
            forwarded: false,
            mechanism: None,
            decision_nanos: 0,
            first: now,
            last: now,
        })
    }
}
