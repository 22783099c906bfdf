//! Names of hosts: what servers of the DNS answer to the workloads of this node gives addresses the identities of the
//! groups that rules by name speak of, and keeps them over a restart.

use std::collections::HashSet;
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nv_model::policy::NodePolicy;
use nv_policy::address::host_net;
use nv_policy::layer7::{Judgement, Layer7, Seen};
use nv_policy::names::{NamedIdentities, Names, Wanted, expand, host};
use nv_telemetry::Clock;
use serde::{Deserialize, Serialize};

use super::Agent;
use crate::inspector::Connection;
use crate::policy::kernel::KernelError;

/// Least and longest time that a name holds, in seconds, whatever its answer says: programs keep addresses for longer
/// than they were told to.
const LEAST: u32 = 60;
const LONGEST: u32 = 86_400;
/// What is added to it.
const GRACE: u64 = 60;
/// Multicast and link-local names (RFC 6762, RFC 4795): everybody may answer.
const NOT_ASKED: [u16; 2] = [5353, 5355];
/// How long what is against the rules waits for the name of its server: the answer with it was told a moment before.
const PATIENCE: Duration = Duration::from_millis(300);
/// Most that wait.
const MAX_HELD: usize = 1024;
/// Largest file of names that is read back, in bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// What is on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    names: Names,
    identities: NamedIdentities,
    /// When it was written, by the time of the names and by the wall clock, in nanoseconds since 1970.
    #[serde(default)]
    written: (u64, u64),
}

/// The time of names, in nanoseconds since 1970: the wall clock's when the agent began, and what has passed since. When
/// somebody sets the wall clock, no name is over sooner for it, and none holds longer.
#[derive(Clone, Copy, Debug, Default)]
struct Steady {
    began: u64,
    /// By the clock that never jumps.
    monotonic: Duration,
}

impl Steady {
    /// Goes on where the time of names was when they were written, after what the wall clock says has passed since.
    fn after(written: (u64, u64), clock: &dyn Clock) -> Self {
        let wall = wall(clock);
        let (at, at_wall) = written;
        let began = if at == 0 { wall } else { at.saturating_add(wall.saturating_sub(at_wall)) };
        Self { began, monotonic: clock.monotonic() }
    }
    fn now(self, clock: &dyn Clock) -> u64 {
        let passed = clock.monotonic().saturating_sub(self.monotonic).as_nanos();
        self.began.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }
}

fn wall(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.now().nanos()).unwrap_or(0)
}

/// Names of addresses, and what was made of them.
#[derive(Debug, Default)]
pub(super) struct HostNames {
    kept: Kept,
    steady: Steady,
    wanted: Wanted,
    /// The policy that holds, without rows for names; empty while no rule is by name.
    policy: NodePolicy,
    path: PathBuf,
    changed: bool,
    /// Flows against the rules whose server may have a name.
    held: Vec<(Duration, nv_capture::FlowEvent)>,
    excused: u64,
    /// Answers that no workload of this node had asked for.
    strange: u64,
    /// Rows that the kernel did not take.
    failed: u64,
}

impl HostNames {
    /// With the names that were known before a restart.
    pub(super) fn load(path: PathBuf, clock: &dyn Clock) -> Self {
        let kept = match read(&path) {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "names of hosts are learned anew");
                Kept::default()
            }
        };
        let steady = Steady::after(kept.written, clock);
        Self { kept, steady, path, ..Self::default() }
    }
    /// The policy with rows for the addresses that have names.
    pub(super) fn expand(&mut self, policy: &NodePolicy, at: u64) -> NodePolicy {
        self.wanted = Wanted::of(policy);
        self.policy = if self.wanted.is_empty() { NodePolicy::default() } else { policy.clone() };
        expand(policy, &self.kept.names, at, &mut self.kept.identities)
    }
    /// What is counted, by name.
    pub(super) fn counters(&self) -> [(&'static str, u64); 6] {
        [
            ("names.known", u64::try_from(self.kept.names.len()).unwrap_or(u64::MAX)),
            ("names.dropped", self.kept.names.dropped()),
            ("names.identities_refused", self.kept.identities.refused()),
            ("names.strange", self.strange),
            ("names.rows_failed", self.failed),
            ("names.excused", self.excused),
        ]
    }
    fn store(&mut self, clock: &dyn Clock) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.kept.written = (self.steady.now(clock), wall(clock));
        let next = self.path.with_extension("next");
        let written = serde_json::to_vec(&self.kept)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&next, bytes))
            .and_then(|()| fs::rename(&next, &self.path));
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "names of hosts would be learned anew after a restart");
        }
    }
}

fn read(path: &Path) -> std::io::Result<Kept> {
    match fs::File::open(path) {
        Ok(file) => Ok(serde_json::from_reader(file.take(MAX_FILE))?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(error),
    }
}

impl Agent {
    fn time_of_names(&self) -> u64 {
        self.names.steady.now(&*self.setup.clock)
    }

    /// Gives the kernel a policy that this node has completed, with rows for names.
    pub(super) fn apply(&mut self, completed: &NodePolicy) -> Result<(), KernelError> {
        let at = self.time_of_names();
        let expanded = self.names.expand(completed, at);
        if let Some(kernel) = &mut self.setup.kernel {
            kernel.apply(&expanded, &mut self.setup.held.numbers)?;
        }
        let named = self.names.kept.identities.all();
        self.spoken.judge_anew(Layer7::new(completed, named, expanded.addresses));
        Ok(())
    }

    /// A server of the DNS has answered.
    pub(super) fn name_answered(&mut self, connection: Connection, name: &str, addresses: &[(IpAddr, u32)]) {
        let names = &mut self.names;
        if names.wanted.is_empty() {
            return;
        }
        let (client, server) = (connection.client, connection.server);
        let asked = self.workloads.by_address(client.ip()).is_some()
            && !server.ip().is_multicast()
            && !NOT_ASKED.contains(&server.port());
        let Some(name) = host(name).filter(|_| asked) else {
            names.strange = names.strange.saturating_add(1);
            return;
        };
        let at = self.time_of_names();
        let names = &mut self.names;
        let wanted = names.wanted.means(&name);
        let mut anew = Vec::new();
        for (address, ttl) in addresses {
            let seconds = u64::from((*ttl).clamp(LEAST, LONGEST)).saturating_add(GRACE);
            names.changed = true;
            if names.kept.names.learn(&name, *address, at, seconds, wanted) {
                anew.push(*address);
            }
        }
        self.place_names(&anew, at);
    }

    /// Addresses have one name more. Where the kernel has all other rows already, this is one more each.
    fn place_names(&mut self, addresses: &[IpAddr], at: u64) {
        for address in addresses {
            let names = &self.names;
            let Some(named) = names.wanted.named(&names.policy, &names.kept.names, *address, at) else {
                continue;
            };
            let Some(id) = names.kept.identities.get(&named) else { return self.place_all_names(at) };
            self.spoken.rules.set_address(*address, id);
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.set_address(host_net(*address), id.0)
            {
                self.name_failed(&error);
            }
        }
    }

    fn place_all_names(&mut self, at: u64) {
        let policy = std::mem::take(&mut self.names.policy);
        let expanded = self.names.expand(&policy, at);
        if let Some(kernel) = &mut self.setup.kernel
            && let Err(error) = kernel.apply_network(&expanded)
        {
            self.name_failed(&error);
        }
        let named = self.names.kept.identities.all();
        self.spoken.judge_anew(Layer7::new(&policy, named, expanded.addresses));
    }

    fn name_failed(&mut self, error: &dyn std::error::Error) {
        self.names.failed = self.names.failed.saturating_add(1);
        tracing::warn!(error = nv_telemetry::chain(error), "an address is not judged by its names");
    }

    /// Whether a flow is against the rules only as long as its server's name is not known.
    pub(super) fn waits_for_name(&mut self, flow: &nv_capture::FlowEvent) -> bool {
        let rules = &self.spoken.rules;
        let (ends, names) = (&flow.ends, &mut self.names);
        if names.held.len() >= MAX_HELD
            || !rules.may_be_allowed_by_name(flow.client, flow.server, ends.protocol, ends.server_port)
        {
            return false;
        }
        names.held.push((self.setup.clock.monotonic(), flow.clone()));
        true
    }

    /// Every second: flows that waited are told, unless a name came that lets them through.
    pub(super) fn tell_nameless(&mut self) {
        let now = self.setup.clock.monotonic();
        let held = std::mem::take(&mut self.names.held);
        let (due, rest): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(since, _)| now.saturating_sub(*since) >= PATIENCE);
        self.names.held = rest;
        for (_, flow) in due {
            let seen = Seen {
                client: flow.client,
                server: self.spoken.rules.identity_of(flow.ends.server),
                protocol: flow.ends.protocol,
                port: flow.ends.server_port,
                application: None,
                software: None,
                names: &[],
                ended_probing: false,
            };
            match self.spoken.rules.judge(&seen) {
                Judgement::Decided(decision) if decision.verdict.is_violation() => self.tell_flow(&flow),
                // What it says is judged like everything else that is said.
                Judgement::Decided(_) | Judgement::Wait => {
                    self.names.excused = self.names.excused.saturating_add(1);
                }
            }
        }
    }

    /// Every five seconds: names whose time is over go, but for those of addresses that somebody talks to.
    pub(super) fn forget_names(&mut self) {
        let at = self.time_of_names();
        if self.names.kept.names.is_due(at) {
            let in_use: HashSet<IpAddr> = self
                .open_flows()
                .flat_map(|flow| [Some(flow.ends.server), flow.ends.translated.map(|(said, _)| said)])
                .flatten()
                .collect();
            let gone = self.names.kept.names.forget(at, |address| in_use.contains(&address));
            self.names.changed = true;
            if gone && !self.names.wanted.is_empty() {
                self.place_all_names(at);
            }
        }
        self.names.store(&*self.setup.clock);
    }
}

#[cfg(test)]
mod tests {
    use nv_model::time::Timestamp;
    use nv_telemetry::ManualClock;

    use super::*;

    const NOON: i64 = 1_800_000_000;
    const HOUR: u64 = 3600;

    fn server() -> IpAddr {
        [10, 0, 0, 7].into()
    }
    fn named(names: &HostNames, clock: &ManualClock) -> bool {
        let at = names.steady.now(clock);
        names.kept.names.of(server(), at).next().is_some() && !names.kept.names.is_due(at)
    }

    #[test]
    fn a_set_clock_ends_no_name_and_lets_none_hold_longer_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.json");
        for set in [0, NOON - 7200, NOON + 7200, 4_000_000_000] {
            let clock = ManualClock::new(Timestamp::from_seconds(NOON));
            let mut names = HostNames::load(path.clone(), &clock);
            let at = names.steady.now(&clock);
            names.kept.names.learn("shop.example", server(), at, HOUR, true);
            clock.set_wall(Timestamp::from_seconds(set));
            assert!(named(&names, &clock), "the clock is set to {set}");
            clock.advance(Duration::from_secs(HOUR / 2));
            assert!(named(&names, &clock), "half of its time is over, set to {set}");
            names.changed = true;
            names.store(&clock);

            let names = HostNames::load(path.clone(), &clock);
            clock.advance(Duration::from_secs(HOUR / 4));
            assert!(named(&names, &clock), "after a restart, set to {set}");
            clock.advance(Duration::from_secs(HOUR / 2));
            assert!(!named(&names, &clock), "its time is over, set to {set}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
