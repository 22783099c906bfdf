//! Verdicts on sessions by a policy: by addresses, ports, application and name of the host, with the rule and the reason.
//!
//! A name holds for the addresses that answers of the DNS gave for it, as long as their time to live says. Where a session
//! says itself which host it means (Host, SNI), that counts, and not what else lives at the address.

use std::net::IpAddr;

use nv_dpi::event::Summary;
use nv_dpi::key::Transport;
use nv_model::application::ApplicationId;
use nv_model::port::Protocol;
use nv_policy::layer7::forwarded_client;
use nv_policy::names::{Names, is_meant};

use super::policy::{Action, Place, Policy, Rule};

/// What is known of a session.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    /// Programs of the server.
    pub(crate) software: &'a [&'static str],
    /// Hosts that the client named.
    pub(crate) hosts: Vec<String>,
    /// Lists of addresses that proxies say to have forwarded for.
    pub(crate) forwarded: Vec<String>,
}

/// A verdict.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) action: Action,
    /// The rule that says so, 0 for none.
    pub(crate) rule: u32,
    pub(crate) reason: String,
}

/// Judges a session: of each host that it named and each client that it was forwarded for, and the strictest counts.
pub(crate) fn judge(policy: &Policy, names: &Names, summary: &Summary, facts: &Facts<'_>) -> Verdict {
    let ends = &summary.endpoints;
    let mut clients: Vec<IpAddr> =
        facts.forwarded.iter().filter_map(|list| forwarded_client(list, policy.trusted_hops)).collect();
    if clients.is_empty() {
        clients.push(ends.client.address);
    }
    let hosts: Vec<Option<&str>> = if facts.hosts.is_empty() {
        vec![None]
    } else {
        facts.hosts.iter().map(|host| Some(host.as_str())).collect()
    };
    let mut strictest: Option<Verdict> = None;
    for client in &clients {
        for host in &hosts {
            let verdict = one(policy, names, summary, facts.software, *client, *host);
            if strictest
                .as_ref()
                .is_none_or(|known| known.action == Action::Allow && verdict.action == Action::Deny)
            {
                strictest = Some(verdict);
            }
        }
    }
    strictest.unwrap_or(Verdict {
        action: policy.default,
        rule: 0,
        reason: "no rule speaks of it".to_owned(),
    })
}

fn one(
    policy: &Policy,
    names: &Names,
    summary: &Summary,
    software: &[&'static str],
    client: IpAddr,
    host: Option<&str>,
) -> Verdict {
    let ends = &summary.endpoints;
    let protocol = match ends.transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        Transport::Icmp => Protocol::Icmp,
    };
    let is_place = |place: &Place, address: IpAddr, host: Option<&str>| match place {
        Place::Any => true,
        Place::Range(low, high) => *low <= address && address <= *high && low.is_ipv4() == address.is_ipv4(),
        Place::Name(name) => match host {
            Some(host) => is_meant(name, host),
            None => names.of(address, summary.started).any(|known| is_meant(name, known)),
        },
    };
    let application = summary.application;
    let speaks = |rule: &Rule| {
        rule.applications.is_empty()
            || rule
                .applications
                .iter()
                .any(|of| application == Some(*of) || of.name().is_some_and(|name| software.contains(&name)))
    };
    let reaches = |rule: &&Rule| {
        rule.ports.contains(protocol, ends.server.port)
            && rule.from.iter().any(|place| is_place(place, client, None))
            && rule.to.iter().any(|place| is_place(place, ends.server.address, host))
    };
    let mut passed = None;
    for rule in policy.rules.iter().filter(reaches) {
        if speaks(rule) {
            let what =
                application.and_then(ApplicationId::name).unwrap_or("an application that is not known");
            let whom = host.map_or_else(String::new, |host| format!(" with {host}"));
            let reason = format!("rule {} speaks of it: {what}{whom}", rule.id);
            return Verdict { action: rule.action, rule: rule.id, reason };
        }
        passed.get_or_insert(rule.id);
    }
    let reason = match (passed, application) {
        (Some(rule), Some(_)) => format!("no rule speaks of it; rule {rule} would, of another application"),
        (Some(rule), None) => format!("no rule speaks of it; rule {rule} would, were its application known"),
        (None, _) => "no rule speaks of it".to_owned(),
    };
    Verdict { action: policy.default, rule: 0, reason }
}

/// Whether a host is named by a name of the policy.
#[cfg(test)]
mod tests {
    use nv_dpi::event::{End, Volume};
    use nv_dpi::key::{Endpoint, Endpoints};

    use super::super::policy;
    use super::*;

    fn session(application: Option<u32>, server: &str, port: u16, started: u64) -> Summary {
        Summary {
            endpoints: Endpoints {
                transport: Transport::Tcp,
                client: Endpoint { address: "10.0.0.1".parse().unwrap(), port: 40_000 },
                server: Endpoint { address: server.parse().unwrap(), port },
            },
            application: application.map(ApplicationId),
            client: Volume::default(),
            server: Volume::default(),
            started,
            last: started,
            midstream: false,
            end: End::Closed,
        }
    }

    fn decide(policy: &str, names: &Names, summary: &Summary, facts: &Facts<'_>) -> (Action, u32) {
        let verdict = judge(&policy::parse(policy).unwrap(), names, summary, facts);
        (verdict.action, verdict.rule)
    }

    #[test]
    fn a_rule_speaks_of_its_application_ports_and_ends_and_the_first_that_does_counts() {
        let policy = "
groups: [{name: db, criteria: [{key: address, op: '=', value: 10.1.0.0/16}]}]
rules:
  - {id: 1, from: 10.0.0.0/8, to: db, ports: tcp/5432, applications: [PostgreSQL], action: allow}
  - {id: 2, to: db, action: deny}
  - {id: 3, to: 'fd00::/8', applications: [nginx], action: allow}";
        let none = Names::default();
        for (application, server, port, software, want) in [
            (Some(2006), "10.1.2.3", 5432, &[][..], (Action::Allow, 1)),
            (Some(2002), "10.1.2.3", 5432, &[], (Action::Deny, 2)),
            (None, "10.1.2.3", 5432, &[], (Action::Deny, 2)),
            (Some(2006), "10.2.0.1", 5432, &[], (Action::Deny, 0)),
            (Some(1001), "fd00::1", 80, &["nginx"], (Action::Allow, 3)),
            (Some(1001), "fd00::1", 80, &["Apache"], (Action::Deny, 0)),
        ] {
            let facts = Facts { software, ..Facts::default() };
            let got = decide(policy, &none, &session(application, server, port, 0), &facts);
            assert_eq!(got, want, "{application:?} {server} {port} {software:?}");
        }
    }

    #[test]
    fn of_two_hosts_at_one_address_the_one_that_is_named_is_allowed() {
        let policy = "rules: [{id: 7, to: api.example.com, action: allow}, {id: 8, to: '*.cdn.example', action: allow}]";
        let mut names = Names::default();
        names.learn("api.example.com", "192.0.2.1".parse().unwrap(), 1_000_000_000, 60, true);
        let summary = session(Some(1002), "192.0.2.1", 443, 2_000_000_000);
        for (host, want) in [
            (Some("api.example.com"), (Action::Allow, 7)),
            (Some("evil.example.com"), (Action::Deny, 0)),
            (Some("a.cdn.example"), (Action::Allow, 8)),
            (Some("cdn.example"), (Action::Deny, 0)),
            // What names no host is judged by the answers for its address.
            (None, (Action::Allow, 7)),
        ] {
            let facts = Facts { hosts: host.map(str::to_owned).into_iter().collect(), ..Facts::default() };
            assert_eq!(decide(policy, &names, &summary, &facts), want, "{host:?}");
        }
        let both = Facts {
            hosts: vec!["api.example.com".to_owned(), "evil.example.com".to_owned()],
            ..Facts::default()
        };
        assert_eq!(
            decide(policy, &names, &summary, &both),
            (Action::Deny, 0),
            "the strictest of all requests"
        );
        let late = session(Some(1002), "192.0.2.1", 443, 62_000_000_000);
        assert_eq!(
            decide(policy, &names, &late, &Facts::default()),
            (Action::Deny, 0),
            "its time to live is over"
        );
    }

    #[test]
    fn the_client_behind_trusted_proxies_is_judged_and_what_it_writes_itself_is_not_believed() {
        let policy = "trusted_hops: 1\nrules: [{id: 4, from: 203.0.113.7, action: allow}]";
        for (list, want) in [
            ("203.0.113.7", (Action::Allow, 4)),
            ("203.0.113.7, 198.51.100.9", (Action::Deny, 0)),
            ("198.51.100.9, 203.0.113.7", (Action::Allow, 4)),
            ("nonsense", (Action::Deny, 0)),
        ] {
            let facts = Facts { forwarded: vec![list.to_owned()], ..Facts::default() };
            let got = decide(policy, &Names::default(), &session(Some(1001), "10.0.0.2", 80, 0), &facts);
            assert_eq!(got, want, "{list}");
        }
    }
}
