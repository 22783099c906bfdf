//! Thresholds of groups: how many connections their workloads accept, how fast, and how much comes over them.

use std::fmt;

use nv_model::group::{Group, GroupKind};
use nv_model::observation::Ingress;

/// Seconds over which rates are taken.
const SECONDS: u64 = 60;

/// A threshold that is exceeded, with what was measured. Its text is the contract's word for it, with the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Open connections.
    Sessions(u64),
    /// New connections a second.
    Rate(u64),
    /// Megabits a second.
    Bandwidth(u64),
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sessions(count) => write!(f, "IngressActiveSessionViolation({count} active sessions)"),
            Self::Rate(rate) => write!(f, "IngressSessionRateViolation({rate} cps)"),
            Self::Bandwidth(rate) => write!(f, "IngressBandwidthViolation({rate} Mbps)"),
        }
    }
}

/// Whether a group has thresholds: groups of containers may, but for the built-in ones.
#[must_use]
pub fn is_watched(group: &Group) -> bool {
    group.monitor_metric
        && group.kind == GroupKind::Container
        && !group.name.is_reserved()
        && (group.session_limit > 0 || group.session_rate_limit > 0 || group.bandwidth_limit_mbps > 0)
}

/// The thresholds of a group that its workloads exceed together.
pub fn exceeded(group: &Group, members: impl IntoIterator<Item = Ingress>) -> Vec<Exceeded> {
    let (mut sessions, mut opened, mut bytes) = (0_u64, 0_u64, 0_u64);
    for one in members {
        sessions = sessions.saturating_add(one.sessions.into());
        opened = opened.saturating_add(one.opened.into());
        bytes = bytes.saturating_add(one.bytes);
    }
    let is_above = |measured: u64, limit: u32| limit > 0 && measured > u64::from(limit);
    let (rate, bandwidth) = (opened / SECONDS, bytes.saturating_mul(8) / SECONDS / 1_000_000);
    [
        is_above(sessions, group.session_limit).then_some(Exceeded::Sessions(sessions)),
        is_above(rate, group.session_rate_limit).then_some(Exceeded::Rate(rate)),
        is_above(bandwidth, group.bandwidth_limit_mbps).then_some(Exceeded::Bandwidth(bandwidth)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::group;

    fn limited(sessions: u32, rate: u32, mbps: u32) -> Group {
        Group {
            monitor_metric: true,
            session_limit: sessions,
            session_rate_limit: rate,
            bandwidth_limit_mbps: mbps,
            ..group("g", &[("service", "=", "web")])
        }
    }

    #[test]
    fn what_all_workloads_of_a_group_do_together_is_measured_over_a_minute() {
        let one = Ingress { sessions: 6, opened: 330, bytes: 30_000_000 };
        for (group, want) in [
            (limited(11, 0, 0), vec![Exceeded::Sessions(12)]),
            (limited(12, 0, 0), vec![]),
            (limited(0, 10, 0), vec![Exceeded::Rate(11)]),
            (limited(0, 11, 0), vec![]),
            (limited(0, 0, 7), vec![Exceeded::Bandwidth(8)]),
            (limited(0, 0, 8), vec![]),
            (limited(1, 1, 1), vec![Exceeded::Sessions(12), Exceeded::Rate(11), Exceeded::Bandwidth(8)]),
        ] {
            assert_eq!(exceeded(&group, [one, one]), want);
        }
    }

    #[test]
    fn only_groups_of_containers_that_ask_for_it_are_watched() {
        assert!(is_watched(&limited(1, 0, 0)));
        assert!(!is_watched(&limited(0, 0, 0)));
        assert!(!is_watched(&Group { monitor_metric: false, ..limited(1, 1, 1) }));
        assert!(!is_watched(&Group { kind: GroupKind::Address, ..limited(1, 1, 1) }));
        assert!(!is_watched(&Group { name: "containers".parse().unwrap(), ..limited(1, 1, 1) }));
    }
}
