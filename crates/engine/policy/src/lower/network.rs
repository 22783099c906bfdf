//! Rows for connections: ordered rules folded into disjoint port intervals, intervals into prefixes.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use nv_model::policy::{Identity, IdentityId, IdentityKind, NodePolicy, ResolvedRule};
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::verdict::Action;

use super::process::mode_number;

/// Bit of [`ModeRow`]: the end is never cut off.
pub const NEVER_BLOCK: u8 = 0x80;

/// Mode of an identity: 0 for none, 1 Discover, 2 Monitor, 3 Protect, with [`NEVER_BLOCK`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeRow(pub u8);

impl From<&Identity> for ModeRow {
    fn from(identity: &Identity) -> Self {
        let mode = identity.mode.map_or(0, mode_number);
        Self(if identity.kind == IdentityKind::Node { mode | NEVER_BLOCK } else { mode })
    }
}

/// Key of a rule row. The longest prefix that fits counts; `client` and `server` are always matched whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleKey {
    /// Who opens the connection.
    pub client: IdentityId,
    /// Who accepts it.
    pub server: IdentityId,
    /// IP protocol number: 6, 17, 1 or 0 for others; 0 where the prefix ends before it.
    pub protocol: u8,
    /// Destination port; bits behind the prefix are 0.
    pub port: u16,
    /// Length of the key in bits: 64 for any protocol, 80 for any port, up to 96.
    pub prefix_bits: u32,
}

/// What a rule row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleRow {
    /// 1 allow, 2 deny, 3 allow that was learned.
    pub action: u8,
    /// Id of the rule.
    pub rule: RuleId,
}

/// Node-wide settings for connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// The stricter mode of two ends counts.
    pub strict: bool,
    /// No verdicts.
    pub disabled: bool,
}

/// All rows for connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkTables {
    /// Modes by identity.
    pub modes: BTreeMap<IdentityId, ModeRow>,
    /// Identities by address.
    pub addresses: BTreeMap<IpNet, IdentityId>,
    /// Rules.
    pub rules: BTreeMap<RuleKey, RuleRow>,
    /// Settings.
    pub settings: NetworkSettings,
}

/// The rules do not fit into the kernel's table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("network rules make more than {max} rows for this node; join groups or use fewer ports")]
pub struct TooManyRows {
    /// How many fit.
    pub max: usize,
}

/// Rows for the node. `max_rules` is the size of the kernel's table of rules.
///
/// # Errors
/// [`TooManyRows`]; the node keeps the policy it has then.
pub fn network(policy: &NodePolicy, max_rules: usize) -> Result<NetworkTables, TooManyRows> {
    Ok(NetworkTables {
        modes: policy.identities.iter().map(|(id, identity)| (*id, ModeRow::from(identity))).collect(),
        addresses: policy.addresses.clone(),
        rules: rules(policy, max_rules)?,
        settings: NetworkSettings {
            strict: policy.settings.strict_group_mode,
            disabled: policy.settings.network_policy_disabled,
        },
    })
}

type Pair = (IdentityId, IdentityId);

fn rules(policy: &NodePolicy, max: usize) -> Result<BTreeMap<RuleKey, RuleRow>, TooManyRows> {
    let mut pairs: BTreeMap<Pair, Vec<&ResolvedRule>> = BTreeMap::new();
    for rule in &policy.rules {
        for client in &rule.from {
            for server in &rule.to {
                let list = pairs.entry((*client, *server)).or_default();
                // Behind a rule for everything nothing is asked any more.
                if !list.last().is_some_and(|last| is_catch_all(last)) {
                    list.push(rule);
                }
            }
        }
        if pairs.len() > max {
            return Err(TooManyRows { max });
        }
    }
    let mut rows = BTreeMap::new();
    // Many pairs have the same list of rules, so each list is folded once.
    let mut folded: BTreeMap<Vec<RuleId>, Vec<Span>> = BTreeMap::new();
    for ((client, server), list) in &pairs {
        let key: Vec<RuleId> = list.iter().map(|rule| rule.id).collect();
        for span in folded.entry(key).or_insert_with(|| fold(list)) {
            let key = RuleKey {
                client: *client,
                server: *server,
                protocol: span.protocol,
                port: span.port,
                prefix_bits: span.prefix_bits,
            };
            rows.insert(key, span.row);
        }
        if rows.len() > max {
            return Err(TooManyRows { max });
        }
    }
    Ok(rows)
}

fn is_catch_all(rule: &ResolvedRule) -> bool {
    rule.ports == nv_model::port::Ports::Any && counts(rule)
}

/// While the application is unknown, an allowance of some applications holds and a denial of some does not; the
/// kernel never knows it.
fn counts(rule: &ResolvedRule) -> bool {
    rule.applications.is_empty() || rule.action == Action::Allow
}

#[derive(Clone, Copy)]
struct Span {
    protocol: u8,
    port: u16,
    prefix_bits: u32,
    row: RuleRow,
}

/// What the protocols whose ports the kernel tells apart lead to; ICMP is never asked.
const ASKED: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Other];

fn fold(rules: &[&ResolvedRule]) -> Vec<Span> {
    let intervals: Vec<(Protocol, Vec<Interval>)> =
        ASKED.iter().map(|protocol| (*protocol, disjoint(rules, *protocol))).collect();
    // One row for any protocol, where every protocol and port leads somewhere; what differs from it goes on top.
    let whole = intervals.iter().all(|(_, list)| list.iter().all(|interval| interval.row.is_some()));
    let base = if whole { most_common(intervals.iter().flat_map(|(_, list)| list)) } else { None };
    let mut spans: Vec<Span> =
        base.map(|row| Span { protocol: 0, port: 0, prefix_bits: 64, row }).into_iter().collect();
    for (protocol, list) in &intervals {
        let mut below = base;
        if base.is_none() && list.iter().all(|interval| interval.row.is_some()) {
            below = most_common(list);
            let row = below.map(|row| Span { protocol: protocol.number(), port: 0, prefix_bits: 80, row });
            spans.extend(row);
        }
        for interval in list.iter().filter(|interval| interval.row != below) {
            let Some(row) = interval.row else { continue };
            for (port, bits) in prefixes(interval.low, interval.high) {
                spans.push(Span { protocol: protocol.number(), port, prefix_bits: 80 + bits, row });
            }
        }
    }
    spans
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Interval {
    low: u16,
    high: u16,
    row: Option<RuleRow>,
}

fn most_common<'a>(list: impl IntoIterator<Item = &'a Interval>) -> Option<RuleRow> {
    let mut counts: BTreeMap<RuleRow, u32> = BTreeMap::new();
    for interval in list {
        let Some(row) = interval.row else { continue };
        *counts.entry(row).or_default() += 1;
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(row, _)| row)
}

/// All ports, cut where the first matching rule changes; neighbours with the same row are joined.
fn disjoint(rules: &[&ResolvedRule], protocol: Protocol) -> Vec<Interval> {
    let mut cuts: BTreeSet<u32> = BTreeSet::from([0]);
    let mut spans: Vec<(u16, u16, RuleRow)> = Vec::new();
    for rule in rules.iter().filter(|rule| counts(rule)) {
        let action = match (rule.action, rule.learned) {
            (Action::Allow, false) => 1,
            (Action::Deny, _) => 2,
            (Action::Allow, true) => 3,
        };
        for range in rule.ports.ranges().iter().filter(|range| range.protocol == protocol) {
            cuts.extend([u32::from(range.low), u32::from(range.high) + 1]);
            spans.push((range.low, range.high, RuleRow { action, rule: rule.id }));
        }
    }
    let cuts: Vec<u32> = cuts.into_iter().collect();
    let ends = cuts.iter().skip(1).copied().chain([u32::from(u16::MAX) + 1]);
    let mut list: Vec<Interval> = Vec::new();
    for (low, end) in cuts.iter().zip(ends) {
        let (Ok(low), Ok(high)) = (u16::try_from(*low), u16::try_from(end.saturating_sub(1))) else {
            continue;
        };
        let row = spans.iter().find(|(a, b, _)| *a <= low && low <= *b).map(|(_, _, row)| *row);
        match list.last_mut() {
            Some(last) if last.row == row => last.high = high,
            _ => list.push(Interval { low, high, row }),
        }
    }
    list
}

/// The fewest aligned blocks that make up `low..=high`, each as its first port and the length of its prefix.
fn prefixes(low: u16, high: u16) -> Vec<(u16, u32)> {
    let (mut at, end) = (u32::from(low), u32::from(high) + 1);
    let mut blocks = Vec::new();
    while at < end {
        let aligned = if at == 0 { 16 } else { at.trailing_zeros().min(16) };
        let fitting = (end - at).ilog2();
        let log = aligned.min(fitting);
        if let Ok(port) = u16::try_from(at) {
            blocks.push((port, 16 - log));
        }
        at += 1 << log;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{self, Flow};
    use crate::testing::name;
    use nv_model::application::ApplicationId;
    use nv_model::mode::Mode;
    use nv_model::policy::NodeSettings;
    use nv_model::port::{PortRange, Ports};
    use nv_model::verdict::Verdict;
    use proptest::prelude::*;

    /// What the kernel does with the rows, in the kernel's words.
    fn kernel(tables: &NetworkTables, flow: Flow) -> (Verdict, RuleId) {
        let none = RuleId::DEFAULT;
        if tables.settings.disabled || flow.protocol == Protocol::Icmp {
            return (Verdict::Open, none);
        }
        let mode = |id| tables.modes.get(&id).copied().unwrap_or_default().0;
        let (a, b) = (mode(flow.client), mode(flow.server));
        let effective = match (a & 3, b & 3) {
            (0, mode) | (mode, 0) => mode,
            (a, b) => {
                if tables.settings.strict {
                    a.max(b)
                } else {
                    a.min(b)
                }
            }
        };
        if effective == 0 {
            return (Verdict::Open, none);
        }
        let wanted = u32::from(flow.protocol.number()) << 24 | u32::from(flow.port);
        let row = tables
            .rules
            .iter()
            .filter(|(key, _)| key.client == flow.client && key.server == flow.server)
            .filter(|(key, _)| {
                let bits = key.prefix_bits - 64;
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                let held = u32::from(key.protocol) << 24 | u32::from(key.port);
                held & mask == wanted & mask
            })
            .max_by_key(|(key, _)| key.prefix_bits)
            .map(|(_, row)| *row);
        let verdict = match (row.map(|row| row.action), effective) {
            (Some(1), _) => Verdict::Allow,
            (Some(3), 1) | (None, 1) => Verdict::Learn,
            (Some(3), _) => Verdict::Allow,
            (_, 3) => Verdict::Deny,
            _ => Verdict::Violate,
        };
        let spared = (a | b) & NEVER_BLOCK != 0 && verdict == Verdict::Deny;
        (if spared { Verdict::Violate } else { verdict }, row.map_or(none, |row| row.rule))
    }

    fn identity() -> impl Strategy<Value = Identity> {
        (
            prop::sample::select(vec![IdentityKind::Workload, IdentityKind::Node, IdentityKind::External]),
            prop::option::of(prop::sample::select(vec![Mode::Discover, Mode::Monitor, Mode::Protect])),
        )
            .prop_map(|(kind, mode)| Identity { kind, group: name("nv.x"), mode, names: Vec::new() })
    }

    fn ports() -> impl Strategy<Value = Ports> {
        let range = (prop::sample::select(Protocol::ALL.to_vec()), 0_u16..20, 0_u16..20, 0_u8..4).prop_map(
            |(protocol, a, b, shape)| match shape {
                0 => PortRange::all(protocol),
                1 => PortRange { protocol, low: a.min(b), high: u16::MAX - b },
                _ => PortRange { protocol, low: a.min(b), high: a.max(b) },
            },
        );
        prop_oneof![Just(Ports::Any), prop::collection::vec(range, 1..4).prop_map(Ports::from_ranges)]
    }

    prop_compose! {
        fn rule()(from in prop::collection::btree_set(16_u32..19, 1..3), to in prop::collection::btree_set(16_u32..19, 1..3),
                  ports in ports(), allow: bool, learned: bool, app: bool) -> ResolvedRule {
            ResolvedRule {
                id: RuleId(0),
                from: from.into_iter().map(IdentityId).collect(),
                to: to.into_iter().map(IdentityId).collect(),
                ports,
                applications: if app { vec![ApplicationId(1001)] } else { vec![] },
                action: if allow { Action::Allow } else { Action::Deny },
                learned,
            }
        }
    }

    prop_compose! {
        fn policy()(rules in prop::collection::vec(rule(), 0..8), identities in prop::collection::vec(identity(), 3),
                    strict: bool, disabled in prop::bool::weighted(0.1)) -> NodePolicy {
            NodePolicy {
                rules: (1..).zip(rules).map(|(id, rule)| ResolvedRule { id: RuleId(id), ..rule }).collect(),
                identities: (16..).map(IdentityId).zip(identities).collect(),
                settings: NodeSettings { strict_group_mode: strict, network_policy_disabled: disabled, ..NodeSettings::default() },
                ..NodePolicy::default()
            }
        }
    }

    proptest! {
        #[test]
        fn a_lookup_as_the_kernel_does_it_equals_the_decision(
            policy in policy(), client in 16_u32..20, server in 16_u32..20,
            protocol in prop::sample::select(Protocol::ALL.to_vec()),
            port in prop_oneof![0_u16..24, any::<u16>()],
        ) {
            let flow = Flow {
                client: IdentityId(client), server: IdentityId(server), protocol, port,
                application: None, quarantined: false,
            };
            let tables = network(&policy, 1 << 20).unwrap();
            let decision = decide::connection(&policy, flow);
            prop_assert_eq!(kernel(&tables, flow), (decision.verdict, decision.rule));
        }

        #[test]
        fn blocks_cover_an_interval_once_and_nothing_else(a: u16, b: u16) {
            let (low, high) = (a.min(b), a.max(b));
            let mut next = u32::from(low);
            for (port, bits) in prefixes(low, high) {
                prop_assert_eq!(u32::from(port), next);
                prop_assert_eq!(u32::from(port) % (1 << (16 - bits)), 0);
                next += 1 << (16 - bits);
            }
            prop_assert_eq!(next, u32::from(high) + 1);
        }
    }

    fn rules_of(specs: &[(&str, Action)]) -> NodePolicy {
        NodePolicy {
            rules: (1..)
                .zip(specs)
                .map(|(id, (ports, action))| ResolvedRule {
                    id: RuleId(id),
                    from: vec![IdentityId(16)],
                    to: vec![IdentityId(17)],
                    ports: ports.parse().unwrap(),
                    applications: vec![],
                    action: *action,
                    learned: false,
                })
                .collect(),
            ..NodePolicy::default()
        }
    }

    #[test]
    fn a_rule_for_everything_is_one_row_and_exceptions_lie_on_top() {
        for (specs, want) in [
            (vec![("any", Action::Allow)], 1),
            (vec![("tcp/80", Action::Deny), ("any", Action::Allow)], 2),
            (vec![("tcp/any", Action::Allow)], 1),
            (vec![("tcp/80", Action::Allow)], 1),
            (vec![("tcp/1024-65535", Action::Allow)], 6),
            (vec![("any", Action::Deny), ("tcp/80", Action::Allow)], 1),
        ] {
            assert_eq!(network(&rules_of(&specs), 100).unwrap().rules.len(), want, "{specs:?}");
        }
    }

    #[test]
    fn more_rows_than_the_kernel_holds_are_refused() {
        let policy = rules_of(&[("tcp/1-65534", Action::Allow)]);
        assert_eq!(network(&policy, 10), Err(TooManyRows { max: 10 }));
    }
}
