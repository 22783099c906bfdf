//! Which pods' packets wait for inspection before they go on: those in Protect, on a detour that the kernel leads them by; all of
//! them, in queues, where no BPF program judges connections.
//!
//! What is wanted is compared with what the keeper was asked for last, every second and when a policy comes, so that a
//! keeper that was started anew, a pod that came and a mode that changed are all the same case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nv_capture::{Endpoint, Waits};
use nv_model::mode::{Fault, Mode};
use nv_model::name::WorkloadId;
use nv_model::policy::IdentityId;
use nv_model::verdict::Mechanism;

use super::{Agent, Later};
use crate::identity::workloads::{Attached, is_link_local};
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
        let by = self.holds_back();
        let works = |trial: &nv_model::node::Capability| trial.mechanism == by && trial.works;
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
                    self.place_waits(one.queue);
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
        for queue in &queues {
            self.queues.asked.insert(*queue, None);
            self.place_waits(*queue);
        }
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

    /// What packets are held back by until they are judged.
    pub(super) fn holds_back(&self) -> Mechanism {
        if self.by_queue() { Mechanism::Nfqueue } else { Mechanism::Detour }
    }

    /// Whether packets of a workload with this address wait: a verdict on them can be one that was carried out.
    pub(super) fn waits(&self, address: std::net::IpAddr) -> bool {
        self.queues.asked.values().flatten().any(|wanted| wanted.addresses.contains(&address))
    }

    /// Whether packets of an interface wait on a detour: as the keeper was asked last. Of one that it was asked nothing of yet it
    /// stays as it is, also from before this agent.
    pub(super) fn row_of_interface(&self, id: &WorkloadId, one: Attached) -> Endpoint {
        let row = Endpoint { number: one.endpoint, ..self.endpoint_row(id) };
        let held = || self.setup.kernel.as_ref()?.network.endpoints().get(&one.ifindex).copied();
        match self.queues.asked.get(&one.ifindex) {
            _ if one.cgroup.is_some() => row,
            Some(Some(wanted)) if wanted.detour => {
                // Each half says that it is another policy.
                let judging = (wanted.judging ^ (wanted.judging >> 32)) & 0xffff_ffff;
                let judging = u32::try_from(judging).unwrap_or(0);
                Endpoint { waits: Waits::or(wanted.on_fault()), judging, ..row }
            }
            Some(_) => row,
            None => held().map_or(row, |Endpoint { waits, judging, .. }| Endpoint { waits, judging, ..row }),
        }
    }

    /// The keeper was asked: the kernel leads packets of an interface accordingly.
    fn place_waits(&mut self, ifindex: u32) {
        let attached = self.workloads.all().find_map(|local| {
            let one = local.attached.iter().find(|one| one.ifindex == ifindex && one.cgroup.is_none())?;
            Some((local.workload.id.clone(), *one))
        });
        let Some((id, one)) = attached else { return };
        let row = self.row_of_interface(&id, one);
        if let Some(kernel) = &mut self.setup.kernel
            && let Err(error) = kernel.network.set_endpoint(ifindex, row)
        {
            tracing::error!(%error, workload = %id, ifindex, "whether packets of a pod wait is not said to the kernel");
        }
    }

    /// Each interface of a pod with a process of it, and what is wanted there.
    fn queues_wanted(&self) -> BTreeMap<u32, (u32, Option<Wanted>)> {
        let (mut wanted, everywhere) = (BTreeMap::new(), self.by_queue());
        for local in self.workloads.all().filter(|local| local.workload.running) {
            let id = &local.workload.id;
            let pid = self.workloads.network_process(id);
            let mut interfaces: Vec<u32> =
                local.attached.iter().filter(|one| one.cgroup.is_none()).map(|one| one.ifindex).collect();
            if everywhere {
                // One queue is in the way of all packets of a network, also where it has several veths.
                interfaces.sort_unstable();
                interfaces.truncate(1);
            }
            let stops = self.is_protected(id);
            for queue in interfaces {
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
                    detour: !everywhere,
                });
                wanted.insert(queue, (pid, want));
            }
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
