//! Scans, by what they do: one process that asks for many ports of one address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use nv_model::behaviour::Behaviour;

use super::Finding;

/// Ports of one address within [`WINDOW`] that make a scan.
const PORTS: usize = 20;
/// How long asked ports count.
const WINDOW: Duration = Duration::from_secs(10);
/// Pairs of process and address that are followed; beyond it new ones are not.
const MAX_FOLLOWED: usize = 4096;

#[derive(Clone, Debug)]
struct Asked {
    since: Duration,
    ports: BTreeSet<u16>,
    told: bool,
}

/// Who asks for which ports.
#[derive(Clone, Debug, Default)]
pub struct Scans {
    followed: BTreeMap<(u32, IpAddr), Asked>,
    /// Connections that found no room.
    overflow: u64,
}

impl Scans {
    /// Process `pid` asks for `port` of `address` at `now`, on a clock that never jumps. A scan is told once.
    pub fn asked(&mut self, pid: u32, address: IpAddr, port: u16, now: Duration) -> Option<Finding> {
        if self.followed.len() >= MAX_FOLLOWED && !self.followed.contains_key(&(pid, address)) {
            self.followed.retain(|_, asked| now.saturating_sub(asked.since) <= WINDOW);
            if self.followed.len() >= MAX_FOLLOWED {
                self.overflow = self.overflow.saturating_add(1);
                return None;
            }
        }
        let fresh = || Asked { since: now, ports: BTreeSet::new(), told: false };
        let asked = self.followed.entry((pid, address)).or_insert_with(fresh);
        if now.saturating_sub(asked.since) > WINDOW {
            *asked = fresh();
        }
        asked.ports.insert(port);
        if asked.told || asked.ports.len() < PORTS {
            return None;
        }
        asked.told = true;
        // What was counted is no longer needed.
        asked.ports = BTreeSet::from([port]);
        let what = format!("{PORTS} ports of {address} were asked for within {} seconds", WINDOW.as_secs());
        Some(Finding::new(Behaviour::NetworkScan, what))
    }

    /// How many connections were not looked at for want of room.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn many_ports_of_one_address_are_a_scan_and_told_once() {
        let mut scans = Scans::default();
        let at = Duration::from_secs(100);
        let told: Vec<u16> =
            (1..200).filter(|port| scans.asked(7, address(1), *port, at).is_some()).collect();
        assert_eq!(told, [20]);
    }

    #[test]
    fn a_client_of_many_servers_or_a_slow_one_is_no_scanner() {
        let mut scans = Scans::default();
        for last in 0..200 {
            assert_eq!(scans.asked(7, address(last), 443, Duration::from_secs(1)), None);
            assert_eq!(scans.asked(8, address(1), 443, Duration::from_secs(1)), None, "one port, again");
        }
        for port in 0..200_u16 {
            assert_eq!(scans.asked(9, address(1), port, Duration::from_secs(u64::from(port))), None);
        }
    }

    #[test]
    fn what_is_followed_is_bounded_and_what_is_old_makes_room() {
        let mut scans = Scans::default();
        for pid in 0..10_000 {
            scans.asked(pid, address(1), 1, Duration::from_secs(1));
        }
        assert_eq!((scans.followed.len(), scans.overflow()), (MAX_FOLLOWED, 10_000 - MAX_FOLLOWED as u64));
        scans.asked(20_000, address(1), 1, Duration::from_secs(60));
        assert_eq!(scans.followed.len(), 1);
    }
}
