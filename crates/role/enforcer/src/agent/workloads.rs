//! Workloads come, change and go.

use super::*;

impl Agent {
    /// Something happened at a runtime.
    pub(crate) fn runtime(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Workload(workload) => self.workload(*workload, false),
            RuntimeEvent::Stopped { id, exit_code, at } => {
                if let Some(local) = self.inventory.get_mut(&id) {
                    local.workload.running = false;
                    local.workload.exit_code = exit_code;
                    local.workload.finished = at;
                    let workload = local.workload.clone();
                    self.detach(&id);
                    self.tell(Observation::Workload(Box::new(workload)));
                }
            }
            RuntimeEvent::Removed { id } => {
                self.detach(&id);
                self.unscanned.remove(&id);
                self.placed.remove(&id);
                if self.inventory.remove(&id).is_some() {
                    self.usage.forget(&id);
                    self.attribution.forget(&id);
                    self.tell(Observation::WorkloadGone { id, at: self.setup.clock.now() });
                }
            }
            other => self.runtime_state(other),
        }
    }

    pub(super) fn workload(&mut self, mut workload: Workload, provisional: bool) {
        workload.node = self.setup.node.id.clone();
        workload.host_name.clone_from(&self.setup.node.name);
        let id = workload.id.clone();
        let running = workload.running;
        let known = self.inventory.get(&id).map(|local| local.workload.clone());
        if let Some(known) = &known {
            // What this node found out itself is not in what the runtime tells.
            workload.ports.clone_from(&known.ports);
            if !known.interfaces.is_empty() {
                workload.interfaces.clone_from(&known.interfaces);
            }
            workload.secured = known.secured;
        }
        self.inventory.put(workload, provisional);
        let Some(local) = self.inventory.get(&id) else { return };
        let current = local.workload.clone();
        let first = !provisional && known.as_ref().is_none_or(|_| self.unscanned.remove(&id));
        if provisional {
            self.unscanned.insert(id.clone());
        }
        if known.as_ref() != Some(&current) && !provisional {
            self.tell(Observation::Workload(Box::new(current.clone())));
        }
        self.place_workload(&id);
        if first && running {
            self.learn_running(&current);
        }
        if running && owns_network(&current) && current.pid != 0 && self.setup.kernel.is_some() {
            let (later, pid) = (self.setup.later.clone(), current.pid);
            tokio::task::spawn_blocking(move || match nv_capture::netns::interfaces(pid) {
                Ok(interfaces) => drop(later.blocking_send(Later::Interfaces(id, interfaces))),
                Err(error) => {
                    tracing::warn!(%error, workload = %id, pid, "the network of a workload cannot be looked up");
                }
            });
        }
    }

    /// What ran before this enforcer watched is learned too, as far as the profile learns.
    pub(super) fn learn_running(&mut self, workload: &Workload) {
        let Some(root) = &self.setup.cgroup_root else { return };
        let group = workload.learned_group();
        let unknown = EffectiveProfile {
            group: group.clone(),
            mode: self.setup.held.policy.settings.new_service.profile,
            baseline: self.setup.held.policy.settings.new_service.baseline,
            rules: Vec::new(),
            alert_disabled: false,
            fault: self.setup.held.policy.settings.new_service.fault,
        };
        let profile = self.setup.held.policy.profiles.get(&group).unwrap_or(&unknown);
        let members = root.join(workload.cgroup.trim_start_matches('/')).join("cgroup.procs");
        let at = self.setup.clock.now();
        let mut seen = Vec::new();
        let pids = crate::node::read_small(members);
        for pid in pids.lines().take(MAX_RUNNING).filter_map(|line| line.trim().parse::<u32>().ok()) {
            // It may have ended since; then the next one of its kind tells.
            let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let path = path.to_string_lossy().into_owned();
            let facts = nv_policy::decide::ProgramFacts { drifted: false };
            if path.ends_with(" (deleted)")
                || nv_policy::decide::process(profile, &path, facts).verdict != Verdict::Learn
            {
                continue;
            }
            seen.push((pid, path));
        }
        seen.sort_by(|left, right| left.1.cmp(&right.1));
        seen.dedup_by(|left, right| left.1 == right.1);
        for (pid, path) in seen {
            tracing::debug!(path, %group, "program that runs already");
            self.tell(Observation::Process(Box::new(ProcessObservation {
                workload: Some(workload.id.clone()),
                group: group.clone(),
                rule_group: group.clone(),
                rule_uuid: String::new(),
                pid,
                parent_pid: 0,
                name: last_part(&path),
                path,
                command: String::new(),
                real_uid: 0,
                effective_uid: 0,
                user: String::new(),
                parent_name: String::new(),
                parent_path: String::new(),
                drifted: false,
                fileless: false,
                verdict: Verdict::Learn,
                mechanism: None,
                decision_nanos: 0,
                count: 1,
                at,
            })));
        }
    }

    /// Work elsewhere is done.
    pub(crate) fn later(&mut self, done: Later) {
        match done {
            Later::Identified(workload, cgroup_id) => {
                if self.inventory.get(&workload.id).is_none_or(|local| local.provisional) {
                    self.workload(Workload { cgroup_id, ..*workload }, true);
                }
            }
            Later::Interfaces(id, interfaces) => self.interfaces(&id, &interfaces),
            Later::Ports(network, ports) => self.ports(&network, &ports),
            Later::Keeper(Ok(keeper)) => self.new_keeper(keeper),
            Later::Keeper(Err(reason)) => {
                tracing::error!(
                    reason,
                    "no new keeper: what is in the kernel goes on, new pods' connections are not judged"
                );
                self.keeper_due = true;
            }
            Later::Attached(id, ifindex, Ok(())) => {
                tracing::debug!(workload = %id, ifindex, "network programs attached");
            }
            Later::Attached(id, ifindex, Err(reason)) => {
                tracing::error!(workload = %id, ifindex, reason, "network programs not attached: its connections are not judged");
            }
        }
    }

    pub(super) fn interfaces(&mut self, id: &WorkloadId, interfaces: &[nv_capture::netns::Interface]) {
        let Some(local) = self.inventory.get_mut(id) else { return };
        let found = crate::node::addresses(interfaces);
        if !found.is_empty() && local.workload.interfaces != found {
            local.workload.interfaces = found;
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
            // The kernel must know its addresses before its first packet is judged.
            if let Err(error) = self.enforce() {
                tracing::error!(%error, workload = %id, "the addresses of a workload are not in the kernel");
            }
        }
        for peer in interfaces.iter().filter_map(|interface| interface.peer) {
            let Some(attached) = self.inventory.attach(id, peer) else { continue };
            let row = nv_capture::Endpoint { number: attached.endpoint, ..self.endpoint_row(id) };
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.set_endpoint(peer, row)
            {
                tracing::error!(%error, workload = %id, ifindex = peer, "an interface is without its identity");
            }
            self.attach(id, peer);
        }
    }

    /// Has the keeper put the network programs on an interface.
    fn attach(&self, id: &WorkloadId, ifindex: u32) {
        let Some(keeper) = self.setup.keeper.clone() else { return };
        let (later, id) = (self.setup.later.clone(), id.clone());
        tokio::task::spawn_blocking(move || {
            let done = keeper.attach(ifindex).map_err(|error| error.to_string());
            drop(later.blocking_send(Later::Attached(id, ifindex, done)));
        });
    }

    /// Starts a new keeper when the last one was killed. Meanwhile the kernel goes on judging by the same tables.
    pub(super) fn look_after_keeper(&mut self) {
        if let Some(keeper) = &self.setup.keeper
            && keeper.has_ended()
        {
            tracing::error!(keeper = keeper.pid(), "the keeper was killed; a new one is started");
            self.setup.keeper = None;
            self.keeper_due = true;
        }
        if !std::mem::take(&mut self.keeper_due) {
            return;
        }
        let (command, dir) = (self.setup.keeper_command.clone(), self.setup.bpf_dir.clone());
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let started = Keeper::start(&command, &dir).map_err(|error| error.to_string());
            let outcome = started.and_then(|(keeper, handed)| match handed.tables {
                // The tables are the pinned ones that this agent holds already.
                Ok(_tables) => Ok(keeper),
                Err(reason) => Err(reason),
            });
            drop(later.blocking_send(Later::Keeper(outcome)));
        });
    }

    fn new_keeper(&mut self, keeper: Keeper) {
        tracing::info!(keeper = keeper.pid(), "a new keeper holds the kernel");
        self.setup.keeper = Some(Arc::new(keeper));
        let attached: Vec<(WorkloadId, u32)> = self
            .inventory
            .all()
            .flat_map(|local| local.attached.iter().map(|one| (local.workload.id.clone(), one.ifindex)))
            .collect();
        for (id, ifindex) in attached {
            self.attach(&id, ifindex);
        }
    }

    /// A pod's ports are those of all its containers: their sockets are in one namespace.
    pub(super) fn ports(&mut self, network: &WorkloadId, ports: &[ListeningPort]) {
        let members: Vec<WorkloadId> = self
            .inventory
            .all()
            .map(|local| &local.workload)
            .filter(|workload| workload.id == *network || workload.pod_sandbox.as_ref() == Some(network))
            .map(|workload| workload.id.clone())
            .collect();
        for id in members {
            let Some(local) = self.inventory.get_mut(&id) else { continue };
            if local.provisional || local.workload.ports == ports {
                continue;
            }
            local.workload.ports = ports.to_vec();
            let workload = local.workload.clone();
            self.tell(Observation::Workload(Box::new(workload)));
        }
    }

    /// Looks up who listens where, away from this task.
    pub(super) fn look_for_ports(&self) {
        let networks: Vec<(WorkloadId, u32)> = self
            .inventory
            .all()
            .map(|local| &local.workload)
            .filter(|workload| workload.running && owns_network(workload) && workload.pid != 0)
            .map(|workload| (workload.id.clone(), workload.pid))
            .collect();
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            for (id, pid) in networks {
                // A process that has just ended has no ports any more, which is no news.
                let Ok(found) = nv_capture::netns::listening(pid) else { continue };
                let mut ports: Vec<ListeningPort> = found
                    .iter()
                    .filter(|socket| !socket.address.is_loopback())
                    .map(|socket| ListeningPort {
                        protocol: socket.protocol,
                        port: socket.port,
                        host_ip: None,
                        host_port: 0,
                    })
                    .collect();
                ports.sort_unstable();
                ports.dedup();
                if later.blocking_send(Later::Ports(id, ports)).is_err() {
                    return;
                }
            }
        });
    }

    pub(super) fn detach(&mut self, id: &WorkloadId) {
        let Some(local) = self.inventory.get_mut(id) else { return };
        let attached = std::mem::take(&mut local.attached);
        for one in attached {
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.remove_endpoint(one.ifindex)
            {
                tracing::warn!(%error, ifindex = one.ifindex, "an interface's row stays");
            }
            if let Some(keeper) = self.setup.keeper.clone() {
                // The veth is usually gone already, and its programs with it.
                tokio::task::spawn_blocking(move || {
                    if let Err(error) = keeper.detach(one.ifindex) {
                        tracing::debug!(%error, ifindex = one.ifindex, "nothing to detach");
                    }
                });
            }
        }
    }

    pub(super) fn runtime_state(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Up { runtime, version } => {
                tracing::info!(runtime, version, "container runtime");
                self.setup.node.runtime = runtime;
                self.setup.node.runtime_version = version;
            }
            RuntimeEvent::Down { reason } => {
                tracing::warn!(
                    reason,
                    "the container runtime does not answer; its containers stay protected"
                );
            }
            RuntimeEvent::Listed
            | RuntimeEvent::Workload(_)
            | RuntimeEvent::Stopped { .. }
            | RuntimeEvent::Removed { .. } => {}
        }
    }
}
