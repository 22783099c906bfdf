//! Which pods' packets wait for inspection before they go on: those in Protect, where the kernel can hold packets back; all of
//! them, where no BPF program judges connections.
//!
//! What is wanted is compared with what the keeper was asked for last, every second and when a policy comes, so that a
//! keeper that was started anew, a pod that came and a mode that changed are all the same case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nv_model::mode::{Fault, Mode};
use nv_model::name::WorkloadId;
use nv_model::policy::IdentityId;
use nv_model::verdict::Mechanism;

use super::{Agent, Later};
use crate::identity::workloads::is_link_local;
use crate::keeper::{Keeper, QueueCounts, Wanted};

/// What the keeper was asked for, by interface.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// `None`: no packet is to wait there.
    asked: BTreeMap<u32, Option<Wanted>>,
    /// The keeper is being asked.
    busy: bool,
    /// Interfaces whose last request failed, so that it is logged once.
    failed: BTreeSet<u32>,
    counts: QueueCounts,
}

impl Queues {
    /// A new keeper has been asked for nothing.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
        self.counts = QueueCounts::default();
    }
    /// What is counted, by name.
    pub(super) fn counters(&self) -> [(&'static str, u64); 5] {
        let QueueCounts { queues, answers, by_policy, strange } = self.counts;
        let failed = u64::try_from(self.failed.len()).unwrap_or(u64::MAX);
        [
            ("inspection.queues", queues),
            ("inspection.queues_failed", failed),
            ("inspection.queue_answers", answers),
            ("inspection.queue_answers_by_policy", by_policy),
            ("inspection.queue_answers_strange", strange),
        ]
    }
}

/// One request and what came of it.
#[derive(Debug)]
pub(crate) struct Asked {
    queue: u32,
    /// A process of the pod, for what an earlier keeper has left.
    pid: Option<u32>,
    wanted: Option<Wanted>,
    /// The interface is gone.
    over: bool,
    outcome: Result<(), String>,
}

impl Agent {
    /// Has packets wait where they are to, and nowhere else.
    pub(super) fn look_after_queues(&mut self) {
        let works = |trial: &nv_model::node::Capability| trial.mechanism == Mechanism::Nfqueue && trial.works;
        if self.queues.busy || !self.setup.capabilities.trials.iter().any(works) {
            return;
        }
        let Some(keeper) = self.setup.keeper.clone() else { return };
        let present = self.queues_wanted();
        let mut due: Vec<Asked> = Vec::new();
        for (queue, (pid, wanted)) in &present {
            if self.queues.asked.get(queue) != Some(wanted) {
                let (pid, wanted) = ((*pid != 0).then_some(*pid), wanted.clone());
                due.push(Asked { queue: *queue, pid, wanted, over: false, outcome: Ok(()) });
            }
        }
        for queue in self.queues.asked.keys().filter(|queue| !present.contains_key(queue)) {
            due.push(Asked { queue: *queue, pid: None, wanted: None, over: true, outcome: Ok(()) });
        }
        if due.is_empty() && self.queues.asked.values().all(Option::is_none) {
            return;
        }
        self.queues.busy = true;
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let counts = ask(&keeper, &mut due);
            drop(later.blocking_send(Later::Queues(due, counts)));
        });
    }

    /// The keeper was asked.
    pub(super) fn queues_asked(&mut self, asked: Vec<Asked>, counts: Option<QueueCounts>) {
        self.queues.busy = false;
        if let Some(counts) = counts {
            self.queues.counts = counts;
        }
        for one in asked {
            match one.outcome {
                Ok(()) if one.over => {
                    self.queues.asked.remove(&one.queue);
                    self.queues.failed.remove(&one.queue);
                }
                Ok(()) => {
                    if let Some(wanted) = &one.wanted {
                        tracing::info!(
                            ifindex = one.queue,
                            closed = wanted.closed,
                            "packets of a pod wait for inspection"
                        );
                    }
                    self.queues.asked.insert(one.queue, one.wanted);
                    self.queues.failed.remove(&one.queue);
                }
                Err(reason) => {
                    // It is asked again with the next second, unless the pod is gone by then.
                    if self.queues.failed.insert(one.queue) {
                        tracing::error!(
                            ifindex = one.queue,
                            reason,
                            "whether packets of a pod wait for inspection cannot be set: attacks on it are told alone"
                        );
                    }
                }
            }
        }
    }

    /// Nothing is to stay behind an enforcer that ends by itself, but for the quarantine of pods.
    pub(crate) async fn leave_queues(&mut self) {
        let Some(keeper) = self.setup.keeper.clone() else { return };
        let queues: Vec<u32> = std::mem::take(&mut self.queues.asked)
            .into_iter()
            .filter_map(|(queue, wanted)| wanted.filter(|wanted| !wanted.sealed).map(|_| queue))
            .collect();
        let left = tokio::task::spawn_blocking(move || {
            for queue in queues {
                if let Err(error) = keeper.unqueue(queue, None) {
                    tracing::warn!(%error, ifindex = queue, "rules of a queue stay behind");
                }
            }
        });
        if let Err(error) = left.await {
            tracing::warn!(%error, "rules of queues stay behind");
        }
    }

    /// Whether packets of a workload with this address wait: a verdict on them can be one that was carried out.
    pub(super) fn waits(&self, address: std::net::IpAddr) -> bool {
        self.queues.asked.values().flatten().any(|wanted| wanted.addresses.contains(&address))
    }

    /// Each interface of a pod with a process of it, and what is wanted there.
    fn queues_wanted(&self) -> BTreeMap<u32, (u32, Option<Wanted>)> {
        let mut wanted = BTreeMap::new();
        for local in self.workloads.all().filter(|local| local.workload.running) {
            let id = &local.workload.id;
            let pid = self.workloads.network_process(id);
            // One queue is in the way of all packets of a network, also where it has several veths.
            let interface =
                local.attached.iter().filter(|one| one.cgroup.is_none()).map(|one| one.ifindex).min();
            let Some(queue) = interface else { continue };
            let (stops, everywhere) = (self.is_protected(id), self.by_queue());
            let want = (pid != 0 && (stops || everywhere)).then(|| Wanted {
                queue,
                pid,
                addresses: (local.workload.interfaces.iter())
                    .map(|held| held.address.addr())
                    .filter(|address| !address.is_loopback() && !is_link_local(*address))
                    .collect(),
                closed: stops && self.fails_closed(id),
                stops,
                sealed: everywhere && self.endpoint_row(id).quarantined != 0,
                judging: self.inspection.judging(queue),
            });
            wanted.insert(queue, (pid, want));
        }
        wanted
    }

    /// Whether connections of a workload are stopped at all: its own mode says so.
    fn is_protected(&self, id: &WorkloadId) -> bool {
        let held = &self.setup.held.policy;
        if held.settings.network_policy_disabled {
            return false;
        }
        let identity = IdentityId(self.endpoint_row(id).identity);
        let mode = match held.identities.get(&identity) {
            Some(identity) => identity.mode,
            None => (identity == IdentityId::NEW).then_some(held.settings.new_service.network),
        };
        mode == Some(Mode::Protect)
    }

    fn fails_closed(&self, id: &WorkloadId) -> bool {
        let held = &self.setup.held.policy;
        let told = held.workloads.get(id).map(|workload| workload.group.clone());
        let Some(group) = told.or_else(|| self.workloads.group(id)) else { return false };
        let profile = held.profiles.get(&group).or_else(|| self.kept.get(&group));
        profile.map_or(held.settings.new_service.fault, |profile| profile.fault) == Fault::Closed
    }
}

/// Asks one after the other, and what became of answers.
fn ask(keeper: &Arc<Keeper>, due: &mut [Asked]) -> Option<QueueCounts> {
    for one in due {
        let done = match &one.wanted {
            Some(wanted) => keeper.queue(wanted.clone()),
            None => keeper.unqueue(one.queue, one.pid),
        };
        one.outcome = done.map_err(|error| error.to_string());
    }
    keeper.queues().ok()
}
