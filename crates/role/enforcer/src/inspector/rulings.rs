//! What the policy's rules say of connections whose packets wait, by what these have said of themselves: their application,
//! the server's software and the hosts that the client means.

use std::collections::HashMap;
use std::net::IpAddr;

use nv_dpi::event::{Current, Event, Field, Kind, SessionId, Value};
use nv_dpi::key::Transport;
use nv_model::application::ApplicationId;
use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::verdict::Verdict;
use nv_policy::layer7::{Judgement, Layer7, Seen};
use nv_policy::names::{self, FIRST_NAMED};

use super::Connection;
use super::forwarded::Lists;

/// Most connections of which it is remembered what they said; others are judged by their ends and application alone.
const MAX_SESSIONS: usize = 16_384;
/// How often it is asked who serves a connection. The first time, with a SYN, nobody does yet.
const MAX_QUESTIONS: u8 = 8;
/// Most hosts of one connection; with another one it is denied, as it could not be judged by it.
const MAX_HOSTS: usize = 64;

/// What rules say of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ruling {
    /// It depends on who serves it, which is to be asked ([`Rulings::served`] takes the answer).
    Asks,
    /// It may go on, whatever else it says, unless that is another application or host.
    Passes,
    /// It depends on what it has yet to say.
    Waits,
    /// It has to end.
    Denied,
}

#[derive(Debug, Default)]
struct Said {
    application: Option<ApplicationId>,
    software: Option<ApplicationId>,
    hosts: Vec<String>,
    /// Who asked through trusted proxies, and in which request that was said last.
    forwarded: Vec<IpAddr>,
    request: Option<u32>,
    ended: bool,
    /// Who serves it, as the kernel has judged it, behind an address that may be a service's.
    served: Option<(IdentityId, IpAddr)>,
    /// How often that was asked.
    questions: u8,
    /// What was judged of it, until it says something more.
    ruling: Option<Ruling>,
}

/// The rules, and what connections have said.
#[derive(Debug, Default)]
pub(super) struct Rulings {
    rules: Layer7,
    said: HashMap<SessionId, Said>,
    /// Connections of which it is asked who serves them.
    asked: HashMap<Connection, SessionId>,
    lists: Lists,
    /// Of the connection of the present packet: who asks through proxies now.
    asker: Option<IpAddr>,
    /// Connections that found no room.
    overflow: u64,
}

impl Rulings {
    /// Other rules hold from now on.
    pub(super) fn replace(&mut self, rules: Layer7) {
        self.rules = rules;
        if self.rules.asks() {
            self.said.values_mut().for_each(|said| said.ruling = None);
        } else {
            self.said.clear();
            self.asked.clear();
        }
    }

    /// Who serves a connection, for which it was asked.
    pub(super) fn served(&mut self, connection: Connection, identity: IdentityId, address: IpAddr) {
        let session = self.asked.remove(&connection);
        if let Some(said) = session.and_then(|session| self.said.get_mut(&session)) {
            (said.served, said.ruling) = (Some((identity, address)), None);
        }
    }

    /// Nobody knows who serves a connection.
    pub(super) fn ask_no_more(&mut self, session: SessionId) {
        self.asked.retain(|_, asked| *asked != session);
        if let Some(said) = self.said.get_mut(&session) {
            (said.questions, said.ruling) = (MAX_QUESTIONS, None);
        }
    }

    /// Whether a connection has said something that it is judged by.
    pub(super) fn has_said(&self, session: SessionId) -> bool {
        self.said.get(&session).is_some_and(|said| {
            said.application.is_some() || said.software.is_some() || !said.hosts.is_empty()
        })
    }

    /// Those that hold.
    pub(super) fn rules(&self) -> &Layer7 {
        &self.rules
    }

    /// Takes what a connection says.
    pub(super) fn event(&mut self, event: &Event<'_>) {
        if !self.rules.asks() {
            return;
        }
        match event.kind {
            Kind::Software(application) => {
                if let Some(said) = self.of(event.session) {
                    (said.software, said.ruling) = (Some(application), None);
                }
            }
            Kind::Field { field: Field::Host | Field::Sni, value: Value::Text(raw), .. } => {
                let Some(host) = std::str::from_utf8(raw).ok().and_then(names::host) else { return };
                if let Some(said) = self.of(event.session)
                    && !said.hosts.contains(&host)
                {
                    if said.hosts.len() < MAX_HOSTS {
                        said.hosts.push(host);
                    }
                    said.ruling = None;
                }
            }
            Kind::Field { transaction, field: Field::ForwardedFor, value: Value::Text(raw) } => {
                self.forwarded(event.session, transaction, raw);
            }
            Kind::Closed(summary) => {
                self.lists.over(event.session);
                self.asked.remove(&Connection::of(&summary.endpoints));
                self.said.remove(&event.session);
            }
            _ => {}
        }
    }

    /// A proxy says who asks.
    fn forwarded(&mut self, session: SessionId, request: u32, raw: &[u8]) {
        let Some(list) = self.lists.take(session, request, raw) else { return };
        let Some(client) = self.rules.forwarded_client(list) else { return };
        let Some(said) = self.of(session) else { return };
        // Another field of the same request: the list before was not whole.
        if said.request.replace(request) == Some(request) {
            said.forwarded.pop();
        }
        if !said.forwarded.contains(&client) {
            if said.forwarded.len() < MAX_HOSTS {
                said.forwarded.push(client);
            }
            said.ruling = None;
        }
        self.asker = Some(client);
    }

    /// Who asks through trusted proxies, when the present packet says so.
    pub(super) fn take_asker(&mut self) -> Option<IpAddr> {
        self.asker.take()
    }

    /// Judges the connection of the present packet; `settled`: nothing more is read of it.
    pub(super) fn judge(&mut self, current: &Current, settled: bool) -> Ruling {
        if !self.rules.asks() {
            return Ruling::Passes;
        }
        let questions = MAX_QUESTIONS;
        let mut none =
            Said { application: current.application, ended: settled, questions, ..Said::default() };
        let full = self.said.len() >= MAX_SESSIONS && !self.said.contains_key(&current.session);
        let said = if full {
            self.overflow = self.overflow.saturating_add(1);
            &mut none
        } else {
            self.said.entry(current.session).or_default()
        };
        if said.application != current.application || said.ended != settled {
            (said.application, said.ended, said.ruling) = (current.application, settled, None);
        }
        let ruling = said.ruling.unwrap_or_else(|| rule(&self.rules, current, said));
        if ruling == Ruling::Asks {
            said.questions = said.questions.saturating_add(1);
            self.asked.insert(Connection::of(&current.endpoints), current.session);
            return ruling;
        }
        said.ruling = Some(ruling);
        ruling
    }

    /// Connections that found no room.
    pub(super) fn overflow(&self) -> u64 {
        self.overflow
    }

    fn of(&mut self, session: SessionId) -> Option<&mut Said> {
        if self.said.len() >= MAX_SESSIONS && !self.said.contains_key(&session) {
            self.overflow = self.overflow.saturating_add(1);
            return None;
        }
        Some(self.said.entry(session).or_default())
    }
}

/// What the ends alone decide is the kernel's to judge, which knows who is behind them.
fn rule(rules: &Layer7, current: &Current, said: &Said) -> Ruling {
    let ends = &current.endpoints;
    let client = rules.identity_of(ends.client.address);
    let own = rules.identity_of(ends.server.address);
    let unknown = [IdentityId::EXTERNAL, IdentityId::UNMANAGED].contains(&own);
    let may_be_service = (unknown || own.0 >= FIRST_NAMED) && is_private(ends.server.address);
    let server = match said.served {
        Some((identity, address)) => rules.identity_now(identity, address),
        None if !may_be_service => own,
        None if said.questions < MAX_QUESTIONS => return Ruling::Asks,
        // It is judged at the server's end.
        None if unknown => return Ruling::Passes,
        None => own,
    };
    let protocol = match ends.transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        Transport::Icmp => Protocol::Icmp,
    };
    if said.forwarded.len() >= MAX_HOSTS {
        return Ruling::Denied;
    }
    // Who stands behind a proxy is judged as if he had asked himself, beside the proxy.
    let behind = said.forwarded.iter().map(|address| rules.identity_of(*address));
    let behind =
        behind.map(|client| by_what_was_said(rules, client, server, protocol, ends.server.port, said));
    if let Some(strictest) = behind.max().filter(|ruling| *ruling != Ruling::Passes) {
        return strictest;
    }
    if !rules.needs(client, server, protocol, ends.server.port) {
        return Ruling::Passes;
    }
    by_what_was_said(rules, client, server, protocol, ends.server.port, said)
}

/// What rules say of a client by what the connection has said.
fn by_what_was_said(
    rules: &Layer7,
    client: IdentityId,
    server: IdentityId,
    protocol: Protocol,
    port: u16,
    said: &Said,
) -> Ruling {
    if said.hosts.len() >= MAX_HOSTS {
        return Ruling::Denied;
    }
    let names: Vec<&str> = said.hosts.iter().map(String::as_str).collect();
    let judgement = rules.judge(&Seen {
        client,
        server,
        protocol,
        port,
        application: said.application,
        software: said.software,
        names: &names,
        ended_probing: said.ended,
    });
    match judgement {
        Judgement::Wait if said.ended => Ruling::Passes,
        Judgement::Wait => Ruling::Waits,
        Judgement::Decided(decision) if decision.verdict == Verdict::Deny => Ruling::Denied,
        Judgement::Decided(_) => Ruling::Passes,
    }
}

/// Whether an address may be that of a service within a cluster: who serves it only the kernel knows.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private() || v4.is_link_local() || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nv_dpi::key::{Endpoint, Endpoints};
    use nv_model::mode::Mode;
    use nv_model::policy::{Identity, IdentityKind, NodePolicy, ResolvedRule};
    use nv_model::port::Ports;
    use nv_model::rule::RuleId;
    use nv_model::verdict::Action;

    use super::*;

    const HTTP: ApplicationId = ApplicationId(1001);
    const REDIS: ApplicationId = ApplicationId(2008);

    /// Pod 16 at 10.0.0.1 may speak HTTP with pod 17 at 10.0.0.2, and with whoever is outside.
    fn policy(mode: Mode) -> NodePolicy {
        let identity = |kind| Identity { kind, group: "g".parse().unwrap(), mode: Some(mode), names: vec![] };
        let rule = ResolvedRule {
            id: RuleId(7),
            from: vec![IdentityId(16)],
            to: vec![IdentityId::EXTERNAL, IdentityId(17)],
            ports: Ports::Any,
            applications: vec![HTTP],
            action: Action::Allow,
            learned: false,
        };
        let external = Identity { mode: None, ..identity(IdentityKind::External) };
        NodePolicy {
            identities: BTreeMap::from([
                (IdentityId::EXTERNAL, external),
                (IdentityId(16), identity(IdentityKind::Workload)),
                (IdentityId(17), identity(IdentityKind::Workload)),
            ]),
            addresses: BTreeMap::from([
                ("10.0.0.1/32".parse().unwrap(), IdentityId(16)),
                ("10.0.0.2/32".parse().unwrap(), IdentityId(17)),
            ]),
            rules: vec![rule],
            ..NodePolicy::default()
        }
    }

    fn rulings(mode: Mode) -> Rulings {
        let policy = policy(mode);
        let mut rulings = Rulings::default();
        rulings.replace(Layer7::new(&policy, BTreeMap::new(), policy.addresses.clone()));
        rulings
    }

    fn current(server: [u8; 4], application: Option<ApplicationId>) -> Current {
        let end = |address: [u8; 4], port| Endpoint { address: address.into(), port };
        let (client, server) = (end([10, 0, 0, 1], 40_000), end(server, 80));
        let endpoints = Endpoints { transport: Transport::Tcp, client, server };
        Current { session: SessionId(1), endpoints, application }
    }

    #[test]
    fn another_application_than_the_allowed_one_is_denied_in_protect_and_until_it_shows_the_connection_waits()
    {
        let (pod, outside, service) = ([10, 0, 0, 2], [198, 51, 100, 7], [10, 96, 0, 1]);
        for (mode, server, application, settled, want) in [
            (Mode::Protect, pod, None, false, Ruling::Waits),
            (Mode::Protect, pod, Some(HTTP), false, Ruling::Passes),
            (Mode::Protect, pod, Some(REDIS), false, Ruling::Denied),
            (Mode::Protect, pod, None, true, Ruling::Denied),
            (Mode::Monitor, pod, Some(REDIS), false, Ruling::Passes),
            (Mode::Protect, outside, Some(REDIS), false, Ruling::Denied),
            // It may be a service, and its server one that Redis is allowed with.
            (Mode::Protect, service, Some(REDIS), false, Ruling::Asks),
        ] {
            let ruling = rulings(mode).judge(&current(server, application), settled);
            assert_eq!(ruling, want, "{mode:?} {server:?} {application:?} settled={settled}");
        }
    }

    #[test]
    fn behind_a_private_address_whoever_serves_the_connection_counts_and_nobody_when_nobody_knows() {
        let (pod, outside) = (IdentityId(17), IdentityId::EXTERNAL);
        let service = current([10, 96, 0, 1], Some(REDIS));
        let connection = Connection::of(&service.endpoints);
        let behind = |address: [u8; 4]| IpAddr::from(address);
        for (identity, address, application, want) in [
            (pod, behind([10, 0, 0, 2]), REDIS, Ruling::Denied),
            (pod, behind([10, 0, 0, 2]), HTTP, Ruling::Passes),
            (outside, behind([10, 96, 0, 1]), REDIS, Ruling::Denied),
            // Nothing that a rule speaks of.
            (IdentityId(18), behind([10, 0, 0, 3]), REDIS, Ruling::Passes),
        ] {
            let mut rulings = rulings(Mode::Protect);
            let current = Current { application: Some(application), ..service };
            assert_eq!(rulings.judge(&current, false), Ruling::Asks);
            rulings.served(connection, identity, address);
            assert_eq!(rulings.judge(&current, false), want, "{identity:?} {application:?}");
        }
        let mut rulings = rulings(Mode::Protect);
        for _ in 0..MAX_QUESTIONS {
            assert_eq!(rulings.judge(&service, false), Ruling::Asks);
        }
        assert_eq!(rulings.judge(&service, false), Ruling::Passes);
        let mut rulings = self::rulings(Mode::Protect);
        assert_eq!(rulings.judge(&service, false), Ruling::Asks);
        rulings.ask_no_more(service.session);
        assert_eq!(rulings.judge(&service, false), Ruling::Passes);
    }

    #[test]
    fn other_rules_hold_for_what_was_said_before_and_no_rules_ask_nothing() {
        let mut rulings = rulings(Mode::Protect);
        let redis = current([10, 0, 0, 2], Some(REDIS));
        assert_eq!(rulings.judge(&redis, false), Ruling::Denied);
        rulings.replace(Layer7::default());
        assert_eq!(rulings.judge(&redis, false), Ruling::Passes);
        rulings.replace(self::rulings(Mode::Protect).rules);
        assert_eq!(rulings.judge(&redis, false), Ruling::Denied);
    }

    #[test]
    fn whoever_stands_behind_a_trusted_proxy_is_judged_as_if_he_had_asked_himself() {
        // Pod 16 may ask pod 17; nobody from outside may.
        for (hops, list, want) in [
            (None, "203.0.113.7", Ruling::Passes),
            (Some(1), "10.0.0.1", Ruling::Passes),
            (Some(1), "10.0.0.1, 203.0.113.7", Ruling::Denied),
            (Some(2), "10.0.0.1, 203.0.113.7", Ruling::Passes),
            // What anybody can write in front counts for nothing.
            (Some(1), "203.0.113.7, 10.0.0.1", Ruling::Passes),
        ] {
            let mut rulings = rulings(Mode::Protect);
            let mut policy = policy(Mode::Protect);
            policy.settings.forwarded_hops = hops;
            rulings.replace(Layer7::new(&policy, BTreeMap::new(), policy.addresses.clone()));
            let kind = Kind::Field {
                transaction: 1,
                field: Field::ForwardedFor,
                value: Value::Text(list.as_bytes()),
            };
            rulings.event(&Event { at: 0, session: SessionId(1), kind });
            let ruling = rulings.judge(&current([10, 0, 0, 2], Some(HTTP)), false);
            assert_eq!(ruling, want, "{hops:?} {list}");
        }
    }
}
