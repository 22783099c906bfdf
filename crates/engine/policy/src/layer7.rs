//! Verdicts on connections by what they say themselves: their application, and the host that they mean (Host, SNI).
//!
//! The kernel judges a connection by its ends before anything was said ([`crate::decide`]). What rules say of
//! applications and of hosts at a shared address shows only later: [`Layer7::needs`] tells which connections have to be
//! looked at for it, [`Layer7::judge`] what is to be done once something is known. What the kernel has denied is never
//! allowed here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use nv_model::application::ApplicationId;
use nv_model::policy::{Identity, IdentityId, IdentityKind, NodePolicy, NodeSettings, ResolvedRule};
use nv_model::port::Protocol;
use nv_model::verdict::Action;
use serde::{Deserialize, Serialize};

use crate::address::host_net;
use crate::decide::{self, Decision};
use crate::names::{FIRST_NAMED, Named, host, is_meant, longest, may_be_named};

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Who opened it.
    pub client: IdentityId,
    /// Who accepted it, as the kernel's row says.
    pub server: IdentityId,
    /// IP protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
    /// The application, once it is known.
    pub application: Option<ApplicationId>,
    /// The server's software, once it is known: rules may name it like an application.
    pub software: Option<ApplicationId>,
    /// Hosts that the client named, as it wrote them: each is judged, and the strictest verdict counts.
    pub names: &'a [&'a str],
    /// Nothing more will become known.
    pub ended_probing: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It depends on what the connection has yet to say; until then what the kernel says holds.
    Wait,
    /// This, whatever else it says: with another application, software or name, ask again.
    Decided(Decision),
}

/// What a node's policy says of connections that are looked into. Data: it can be handed to another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer7 {
    /// A rule speaks of applications or names, or proxies are trusted to say who asks.
    asks: bool,
    settings: NodeSettings,
    identities: BTreeMap<IdentityId, Identity>,
    addresses: BTreeMap<IpNet, IdentityId>,
    named: BTreeMap<IdentityId, Named>,
    rules: Vec<ResolvedRule>,
}

/// HTTP, and what goes through it: a rule may name what shows after HTTP itself is known.
const HTTP: ApplicationId = ApplicationId(1001);
const WITHIN_HTTP: &[u32] = &[2008, 2009, 2011, 2012, 2017, 2019, 2021, 2022, 2023, 2028];
/// Applications whose clients say which host they mean: HTTP, TLS, QUIC, gRPC, etcd.
const NAMING: &[u32] = &[1001, 1002, 3001, 2028, 2019];

/// Whether a rule speaks of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Speaks {
    No,
    /// It shows later.
    Maybe,
    Yes,
}

impl From<bool> for Speaks {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl Layer7 {
    /// Of a policy whose rules are as the controllers wrote them. `named` says what the identities stand for that names
    /// made of addresses ([`crate::names::expand`]), `addresses` are the rows that the kernel has.
    #[must_use]
    pub fn new(
        policy: &NodePolicy,
        named: BTreeMap<IdentityId, Named>,
        addresses: BTreeMap<IpNet, IdentityId>,
    ) -> Self {
        let by_name = |id: &IdentityId| policy.identities.get(id).is_some_and(|held| !held.names.is_empty());
        let says_more = |rule: &ResolvedRule| !rule.applications.is_empty() || rule.to.iter().any(by_name);
        Self {
            asks: !policy.settings.network_policy_disabled
                && (policy.settings.forwarded_hops.is_some() || policy.rules.iter().any(says_more)),
            settings: policy.settings,
            identities: policy.identities.clone(),
            addresses,
            named,
            rules: policy.rules.clone(),
        }
    }

    /// Whether any connection may have to be looked into.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// The identity that an address has.
    #[must_use]
    pub fn identity_of(&self, address: IpAddr) -> IdentityId {
        longest(&self.addresses, address).unwrap_or(IdentityId::EXTERNAL)
    }

    /// The identity of a server that the kernel has judged by `id`: what names make of an address changes with them.
    #[must_use]
    pub fn identity_now(&self, id: IdentityId, address: IpAddr) -> IdentityId {
        let is_old = id.0 >= FIRST_NAMED && !self.named.contains_key(&id);
        if is_old { self.identity_of(address) } else { id }
    }

    /// An address has another identity from now on.
    pub fn set_address(&mut self, address: IpAddr, id: IdentityId) {
        self.addresses.insert(host_net(address), id);
    }

    /// Whether a rule would allow the connection if the server's address were that of a name.
    #[must_use]
    pub fn may_be_allowed_by_name(
        &self,
        client: IdentityId,
        server: IdentityId,
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let kind = self.identity(server).map_or(IdentityKind::External, |identity| identity.kind);
        let by_name = |id: &IdentityId| {
            let names = self.identities.get(id).map_or(&[][..], |identity| &identity.names);
            names.iter().any(|name| !name.starts_with("vh:"))
        };
        self.asks
            && may_be_named(kind)
            && self.rules.iter().any(|rule| {
                rule.action == Action::Allow
                    && rule.from.binary_search(&client).is_ok()
                    && rule.ports.contains(protocol, port)
                    && rule.to.iter().any(by_name)
            })
    }

    /// Whether a connection has to be looked into: the verdict depends on more than its ends.
    #[must_use]
    pub fn needs(&self, client: IdentityId, server: IdentityId, protocol: Protocol, port: u16) -> bool {
        let (application, software, ended_probing) = (None, None, false);
        let seen = Seen { client, server, protocol, port, application, software, names: &[], ended_probing };
        self.asks && self.judge(&seen) == Judgement::Wait
    }

    /// Whoever asked the outermost proxy that is trusted, out of an `X-Forwarded-For`.
    #[must_use]
    pub fn forwarded_client(&self, list: &str) -> Option<IpAddr> {
        forwarded_client(list, usize::from(self.settings.forwarded_hops?))
    }

    /// Judges a connection by what is known of it.
    #[must_use]
    pub fn judge(&self, seen: &Seen<'_>) -> Judgement {
        let hosts: Vec<String> = seen.names.iter().filter_map(|raw| host(raw)).collect();
        // Whoever names an address names no host.
        let unnamed = seen.ended_probing || !seen.names.is_empty();
        if hosts.is_empty() {
            return self.judge_one(seen, None, unnamed);
        }
        let mut strictest: Option<Judgement> = None;
        for name in &hosts {
            let judgement = self.judge_one(seen, Some(name), true);
            if strictest.is_none_or(|held| severity(judgement) > severity(held)) {
                strictest = Some(judgement);
            }
        }
        strictest.unwrap_or(Judgement::Wait)
    }

    /// By one host, or none. `named`: no other host will be named.
    fn judge_one(&self, seen: &Seen<'_>, host: Option<&str>, named: bool) -> Judgement {
        let ends = [self.identities.get(&seen.client), self.identity(seen.server)];
        let mode = match decide::above_rules(&self.settings, ends, seen.protocol, false) {
            Ok(mode) => mode,
            Err(decision) => return Judgement::Decided(decision),
        };
        let mut open = Vec::new();
        let mut matched = None;
        for rule in &self.rules {
            match self.speaks(rule, seen, host, named) {
                Speaks::No => {}
                Speaks::Maybe => open.push(decide::by_rules(Some(rule), ends, mode).verdict),
                Speaks::Yes => {
                    matched = Some(rule);
                    break;
                }
            }
        }
        let decision = decide::by_rules(matched, ends, mode);
        // Where every outcome is the same nothing has to be waited for.
        if open.iter().all(|verdict| *verdict == decision.verdict) {
            Judgement::Decided(decision)
        } else {
            Judgement::Wait
        }
    }

    fn identity(&self, id: IdentityId) -> Option<&Identity> {
        self.identities.get(self.named.get(&id).map_or(&id, |named| &named.base))
    }

    fn speaks(&self, rule: &ResolvedRule, seen: &Seen<'_>, host: Option<&str>, named: bool) -> Speaks {
        let client = match self.named.get(&seen.client) {
            Some(named) => named.is_in(&rule.from, rule.action),
            None => rule.from.binary_search(&seen.client).is_ok(),
        };
        if !client || !rule.ports.contains(seen.protocol, seen.port) {
            return Speaks::No;
        }
        let application = application(rule, seen);
        if application == Speaks::No {
            return Speaks::No;
        }
        application.min(self.server(rule, seen, host, named))
    }

    fn server(&self, rule: &ResolvedRule, seen: &Seen<'_>, host: Option<&str>, named: bool) -> Speaks {
        let known = self.named.get(&seen.server);
        let base = known.map_or(seen.server, |known| known.base);
        if rule.to.binary_search(&base).is_ok() {
            return Speaks::Yes;
        }
        let kind = self.identities.get(&base).map_or(IdentityKind::External, |identity| identity.kind);
        if !may_be_named(kind) {
            return Speaks::No;
        }
        // Other applications than these never say which host they mean.
        let named = named
            || seen.protocol == Protocol::Other
            || seen.application.is_some_and(|application| !NAMING.contains(&application.0));
        let mut speaks = Speaks::No;
        for id in &rule.to {
            let names = self.identities.get(id).map_or(&[][..], |identity| &identity.names);
            if names.is_empty() {
                continue;
            }
            let some = known.is_some_and(|known| known.some.contains(id));
            let all = known.is_some_and(|known| known.all.contains(id));
            let is = |at_address: bool, host: &str| {
                names.iter().any(|name| match name.strip_prefix("vh:") {
                    Some(name) => is_meant(name, host),
                    None => at_address && is_meant(name, host),
                })
            };
            let virtual_host = names.iter().any(|name| name.starts_with("vh:"));
            let one = match (rule.action, host) {
                // The name alone would be anybody's to write: the address must be one of its.
                (Action::Allow, Some(host)) => is(some, host).into(),
                (Action::Allow, None) if named => some.into(),
                (Action::Allow, None) if some || virtual_host => Speaks::Maybe,
                (Action::Allow, None) => Speaks::No,
                (Action::Deny, Some(host)) => (all || is(true, host)).into(),
                (Action::Deny, None) if named || all => all.into(),
                (Action::Deny, None) => Speaks::Maybe,
            };
            speaks = speaks.max(one);
        }
        speaks
    }
}

/// The client that the outermost of so many trusted proxies was asked by, out of what the last one forwards
/// (`X-Forwarded-For`): who is further to the front could have written anything. `None` without trusted proxies, or where
/// there is no address in that place.
#[must_use]
pub fn forwarded_client(list: &str, trusted_hops: usize) -> Option<IpAddr> {
    let entry = list.split(',').rev().nth(trusted_hops.checked_sub(1)?)?.trim();
    entry.trim_matches(['[', ']']).parse().ok()
}

/// Which of two judgements counts.
fn severity(judgement: Judgement) -> u8 {
    match judgement {
        Judgement::Decided(decision) if decision.verdict.is_violation() => 2,
        Judgement::Wait => 1,
        Judgement::Decided(_) => 0,
    }
}

fn application(rule: &ResolvedRule, seen: &Seen<'_>) -> Speaks {
    let names = |application: &ApplicationId| rule.applications.contains(application);
    if rule.applications.is_empty() || seen.application.iter().chain(&seen.software).any(names) {
        return Speaks::Yes;
    }
    let within_http = || {
        seen.application == Some(HTTP)
            && seen.software.is_none()
            && rule.applications.iter().any(|application| WITHIN_HTTP.contains(&application.0))
    };
    if !seen.ended_probing && (seen.application.is_none() || within_http()) {
        return Speaks::Maybe;
    }
    Speaks::No
}

#[cfg(test)]
mod tests;
