//! How the enforcer itself fares: what it uses, what it leaves out, what was dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use nv_model::observation::Observation;
use nv_model::port::Protocol;
use nv_model::time::Timestamp;
use nv_model::vitals::{Drops, Vitals};
use nv_telemetry::ProcessUse;
use nv_wire::enforcer::v1 as proto;

use super::Agent;
use crate::uplink::load::Sample;
use crate::uplink::outbox::MAX_WAITING;

impl Agent {
    /// Every second: whether more or less has to be left out.
    pub(super) fn weigh_load(&mut self) {
        self.measure();
        let budget = self.setup.budget;
        let waiting = f64::from(u32::try_from(self.outbox.len()).unwrap_or(u32::MAX)) / MAX_WAITING as f64;
        let sample = Sample {
            cpu: self.own_use.2 / budget.cpu.max(f64::MIN_POSITIVE),
            memory: self.memory as f64 / budget.memory.max(1) as f64,
            // At half of it there is still room for what is worth more.
            waiting: 2.0 * waiting.max(self.setup.tally.fill()),
        };
        if self.load.second(sample) {
            let shedding = self.load.shedding();
            tracing::warn!(
                shedding = shedding.as_str(),
                cpu = sample.cpu,
                memory = sample.memory,
                waiting = sample.waiting,
                "what is left out has changed; the figures are shares of the budget"
            );
            self.tell_dropped();
        }
    }

    fn measure(&mut self) {
        let now = self.setup.clock.monotonic();
        let keeper = self.setup.keeper.as_ref().map(|keeper| keeper.pid());
        let Some(own) = ProcessUse::of(None) else { return };
        let others = keeper.into_iter().chain(self.inspection.pids());
        // They run the same program, whose pages are there once.
        let both = (others.filter_map(|pid| ProcessUse::of(Some(pid))))
            .map(|other| ProcessUse { memory: other.anonymous, ..other })
            .fold(own, ProcessUse::plus);
        let (cpu, then, last) = self.own_use;
        let passed = now.saturating_sub(then).as_secs_f64();
        let first = then == Duration::ZERO;
        // A keeper that was started anew has used less than the one before.
        let used = both.cpu.saturating_sub(cpu).as_secs_f64();
        let share = if first || passed <= 0.0 { 0.0 } else { used / passed };
        // Over some seconds: a burst is no load.
        let share = if first { share } else { last + (share - last) / 4.0 };
        self.own_use = (both.cpu, now, share);
        self.memory = both.memory;
    }

    /// Every five seconds: drops when there are new ones, and a sign of life.
    pub(super) fn tell_vitals(&mut self, at: Timestamp) {
        if self.drops() != self.told_dropped {
            self.tell_dropped();
        }
        self.tell_alive(at);
    }

    /// A sign of life, if a controller hears it.
    pub(super) fn tell_alive(&mut self, at: Timestamp) {
        if !self.welcomed {
            return;
        }
        let vitals = self.vitals();
        self.send(proto::from_enforcer::Message::Heartbeat(nv_wire::heartbeat(at, vitals)));
    }

    fn tell_dropped(&mut self) {
        let drops = self.drops();
        self.told_dropped = drops;
        let (kernel, queue, shedding) = (self.kernel_dropped(), self.outbox.dropped(), self.load.shedding());
        self.tell(Observation::Dropped { kernel, queue, drops, shedding });
    }

    /// Everything that was not told, wherever it was dropped.
    pub(super) fn drops(&self) -> Drops {
        let mut drops = self.outbox.drops().plus(&self.gate.drops()).plus(&self.setup.tally.drops());
        let overflow = Drops {
            lifecycle: self.processes.overflow().saturating_add(self.programs_lost),
            file: self.files.lost,
            ..Drops::default()
        };
        drops = drops.plus(&overflow);
        let Some(kernel) = &self.setup.kernel else { return drops };
        if let Ok(counters) = kernel.process.counters() {
            drops = drops.plus(&Drops {
                exec: counters.dropped_exec.saturating_add(counters.limited_exec),
                file: counters.dropped_file.saturating_add(counters.limited_file),
                lifecycle: [
                    counters.dropped_fork,
                    counters.limited_fork,
                    counters.dropped_exit,
                    counters.limited_exit,
                ]
                .into_iter()
                .fold(0, u64::saturating_add),
                behaviour: counters.dropped_deed.saturating_add(counters.limited_deed),
                ..Drops::default()
            });
        }
        if let Ok(totals) = kernel.counters.read() {
            drops = drops.plus(&Drops { connection: totals.events_lost, ..Drops::default() });
        }
        drops
    }

    fn kernel_dropped(&self) -> u64 {
        let Some(kernel) = &self.setup.kernel else { return 0 };
        let process = kernel.process.counters().map(|counters| counters.dropped()).unwrap_or(0);
        let network = kernel.counters.read().map(|totals| totals.events_lost).unwrap_or(0);
        process.saturating_add(network)
    }

    /// How the enforcer fares now.
    pub(super) fn vitals(&self) -> Vitals {
        Vitals {
            kernel_dropped: self.kernel_dropped(),
            queue_dropped: self.outbox.dropped(),
            queued: u64::try_from(self.outbox.len()).unwrap_or(u64::MAX),
            drops: self.drops(),
            shedding: self.load.shedding(),
            cpu: self.own_use.2,
            memory: self.memory,
            memory_budget: self.setup.budget.memory,
            log_level: self.setup.log_level.clone(),
            counters: self.counters(),
        }
    }

    /// What the kernel's programs count, by name.
    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        let mut named: Vec<(&str, u64)> = vec![
            ("agent.hashes_skipped", self.hashes.skipped()),
            ("agent.scans_overflow", self.scans.overflow()),
        ];
        named.extend(self.inspection.counters());
        named.extend(self.queues.counters());
        named.extend(self.spoken.counters());
        named.extend(self.names.counters());
        named.extend(self.opened.counters());
        let seen = self.setup.tally.seen();
        named.extend([
            ("process.records_read", seen.read),
            ("process.records_missing", seen.missing),
            ("process.records_malformed", seen.malformed),
        ]);
        let kernel = self.setup.kernel.as_ref();
        if let Some(Ok(process)) = kernel.map(|kernel| kernel.process.counters()) {
            named.extend(process.named());
        }
        if let Some(nri) = self.setup.readers.as_ref().and_then(|readers| readers.nri.as_ref()) {
            named.extend(nri.counters());
        }
        if let Some(Ok(network)) = kernel.map(|kernel| kernel.counters.read()) {
            named.extend([
                ("network.denied_packets", network.denied_packets),
                ("network.flows_created", network.flows_created),
                ("network.flows_reevaluated", network.flows_reevaluated),
                ("network.flows_not_stored", network.flows_not_stored),
                ("network.events_lost", network.events_lost),
                ("network.unparsed", network.unparsed),
                ("network.fragments_alone", network.fragments_alone),
                ("network.no_endpoint", network.no_endpoint),
                ("network.connects", network.connects),
                ("network.connects_folded", network.connects_folded),
                ("network.connects_denied", network.connects_denied),
                ("network.tapped", network.tapped),
                ("network.tap_failed", network.tap_failed),
                ("network.waited", network.waited),
                ("network.waited_for_nobody", network.waited_for_nobody),
                ("network.cut_packets", network.cut_packets),
                ("network.not_come_back", network.not_come_back),
            ]);
        }
        let mut open = [0_u64; 4];
        for flow in self.open_flows() {
            let kind = match flow.ends.protocol {
                Protocol::Tcp => 0,
                Protocol::Udp => 1,
                Protocol::Icmp => 2,
                Protocol::Other => 3,
            };
            if let Some(count) = open.get_mut(kind) {
                *count = count.saturating_add(1);
            }
        }
        let [tcp, udp, icmp, other] = open;
        named.extend([
            ("sessions.tcp", tcp),
            ("sessions.udp", udp),
            ("sessions.icmp", icmp),
            ("sessions.other", other),
        ]);
        named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
    }
}
