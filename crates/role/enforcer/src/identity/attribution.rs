//! Which program opened a connection: the kernel tells at connect time who asked for which destination, and packets
//! of that destination come a moment later.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::port::Protocol;

/// Most destinations that are remembered; the oldest half goes when it is full.
const MAX_REMEMBERED: usize = 16_384;
/// How long a destination stays attributed to the program that last asked for it.
const MEMORY: Duration = Duration::from_secs(60);

/// A program that opened a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opener {
    /// Its name.
    pub(crate) name: String,
    /// Its executable; empty when it is not known.
    pub(crate) path: String,
    /// Its container; `None` for the host's programs.
    pub(crate) container: Option<WorkloadId>,
}

/// Where a connection leads to, and from whose network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    /// The workload whose network it leaves from (a pod's sandbox); `None` for the host's.
    pub(crate) from: Option<WorkloadId>,
    /// IP protocol.
    pub(crate) protocol: Protocol,
    /// Address.
    pub(crate) address: IpAddr,
    /// Port.
    pub(crate) port: u16,
}

/// Remembers who asked for what.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    asked: HashMap<Destination, (Opener, Duration)>,
}

impl Attribution {
    /// A program asked for a destination at `now`.
    pub(crate) fn note(&mut self, destination: Destination, opener: Opener, now: Duration) {
        if self.asked.len() >= MAX_REMEMBERED {
            let mut times: Vec<Duration> = self.asked.values().map(|(_, at)| *at).collect();
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or(now);
            self.asked.retain(|_, (_, at)| *at > median);
        }
        self.asked.insert(destination, (opener, now));
    }
    /// Who asked for it, if that is known and not long ago.
    pub(crate) fn opener(&self, destination: &Destination, now: Duration) -> Option<&Opener> {
        self.asked
            .get(destination)
            .filter(|(_, at)| now.saturating_sub(*at) <= MEMORY)
            .map(|(opener, _)| opener)
    }
    /// Forgets a workload.
    pub(crate) fn forget(&mut self, workload: &WorkloadId) {
        self.asked.retain(|destination, _| destination.from.as_ref() != Some(workload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> Destination {
        Destination {
            from: Some("pod".parse().unwrap()),
            protocol: Protocol::Tcp,
            address: "10.0.0.1".parse().unwrap(),
            port,
        }
    }

    #[test]
    fn a_connection_is_attributed_for_a_while() {
        let mut attribution = Attribution::default();
        let curl = Opener { name: "curl".into(), path: "/usr/bin/curl".into(), container: None };
        attribution.note(to(80), curl.clone(), Duration::from_secs(10));
        assert_eq!(attribution.opener(&to(80), Duration::from_secs(20)), Some(&curl));
        assert_eq!(attribution.opener(&to(81), Duration::from_secs(20)), None);
        assert_eq!(attribution.opener(&to(80), Duration::from_secs(90)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut attribution = Attribution::default();
        for n in 0..200_000_u32 {
            attribution.note(to((n % 65_536) as u16), Opener::default(), Duration::from_millis(u64::from(n)));
        }
        assert!(attribution.asked.len() <= MAX_REMEMBERED);
    }
}
