//! Workloads come, change and go.

use nv_model::name::WorkloadId;
use nv_model::observation::{Observation, ProcessObservation};
use nv_model::profile::EffectiveProfile;
use nv_model::verdict::Verdict;
use nv_model::workload::Workload;
use nv_runtime::{Api, RuntimeEvent};
use nv_telemetry::chain;

use super::interfaces::with_mapped;
use super::{Agent, Later, MAX_RUNNING, RETIRE_AFTER_LIST};
use crate::activity::processes::last_part;

/// The contract's name of a platform that is Docker and nothing above it.
const DOCKER_PLATFORM: &str = "Docker";

impl Agent {
    /// Something happened at a runtime.
    pub(crate) fn runtime(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Workload(workload) => self.workload(*workload, false),
            RuntimeEvent::Stopped { id, exit_code, at } => {
                if let Some(local) = self.workloads.get_mut(&id) {
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
                self.leaving.workload(id, self.setup.clock.monotonic());
            }
            other => self.runtime_state(other),
        }
    }

    /// Every second: forgets what ended a moment ago.
    pub(super) fn let_go(&mut self) {
        let (cgroups, workloads) = self.leaving.due(self.setup.clock.monotonic());
        for cgroup in cgroups {
            self.workloads.cgroup_gone(cgroup);
            // The programs have removed its row. One that was written after that would stay.
            if let Some(kernel) = &self.setup.kernel
                && let Err(error) = kernel.process.remove_cgroup(cgroup)
            {
                tracing::warn!(error = chain(&error), cgroup, "the row of a cgroup that is gone stays");
            }
        }
        for id in workloads {
            self.gone(id);
        }
    }

    fn gone(&mut self, id: WorkloadId) {
        self.unscanned.remove(&id);
        self.placed.remove(&id);
        self.apart.remove(&id);
        self.history.forget(&id);
        self.hashes.forget(&id);
        self.captures.end_of(&id);
        self.setup.placement.service(&id, None);
        if self.workloads.remove(&id).is_some() {
            self.usage.forget(&id);
            self.attribution.forget(&id);
            self.tell(Observation::WorkloadGone { id, at: self.setup.clock.now() });
        }
    }

    pub(super) fn workload(&mut self, mut workload: Workload, provisional: bool) {
        self.leaving.is_back(&workload.id);
        workload.node = self.setup.node.id.clone();
        workload.host_name.clone_from(&self.setup.node.name);
        let id = workload.id.clone();
        let running = workload.running;
        let known = self.workloads.get(&id).map(|local| local.workload.clone());
        if let Some(known) = &known {
            // What this node found out itself is not in what the runtime tells.
            workload.ports = with_mapped(&known.ports, &workload.ports);
            if workload.cgroup_id == 0 && !workload.running {
                // The runtime told of it before it had a cgroup, and that was heard of first.
                workload.cgroup.clone_from(&known.cgroup);
                workload.cgroup_id = known.cgroup_id;
            }
            if !known.interfaces.is_empty() {
                workload.interfaces.clone_from(&known.interfaces);
            }
            workload.secured = known.secured;
        }
        self.setup.placement.service(&id, Some(workload.learned_group()));
        self.workloads.put(workload, provisional);
        let Some(local) = self.workloads.get(&id) else { return };
        let current = local.workload.clone();
        if provisional || known.is_none() {
            self.unscanned.insert(id.clone());
        }
        // A runtime may tell of it before it runs. Its first programs may have been told before it was known whose they are.
        let first = !provisional && running && self.unscanned.remove(&id);
        if known.as_ref() != Some(&current) && !provisional {
            self.tell(Observation::Workload(Box::new(current.clone())));
        }
        self.place_workload(&id);
        self.watch_files();
        if first {
            self.learn_running(&current);
        }
        if running {
            self.look_for_interfaces(&id);
        }
    }

    /// Tells the kernel of a runtime, by whose doing a process is of a container's family.
    fn tell_runtime(&mut self, pid: u32) {
        if let (Some(seating), Some(program)) = (&mut self.setup.seating, super::seats::program_of(pid)) {
            seating.tell_runtime(program);
        }
        let Some(kernel) = &self.setup.kernel else { return };
        let told = match nv_probe::file::program_of(pid) {
            Ok(program) => kernel.process.tell_runtime(program).map_err(|error| chain(&error)),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = told {
            tracing::warn!(error, pid, "what the runtime runs in containers is taken for strange");
        }
    }

    /// Tells the kernel that a process that ran before is the container's.
    fn adopt(&self, pid: u32, cgroup: u64) {
        let Some(kernel) = &self.setup.kernel else { return };
        // The runtime on its way into the container is still the host's; one that has ended is nobody's.
        let host = nv_probe::cgroup::mount_namespace(Some(1)).ok();
        if nv_probe::cgroup::mount_namespace(Some(pid)).ok().is_none_or(|own| Some(own) == host) {
            return;
        }
        if let Err(error) = kernel.process.adopt(pid, cgroup) {
            tracing::debug!(error = chain(&error), pid, "whose a process is cannot be told");
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
            files: Vec::new(),
            alert_disabled: false,
            fault: self.setup.held.policy.settings.new_service.fault,
        };
        let profile = self.setup.held.policy.profiles.get(&group).unwrap_or(&unknown);
        let members = root.join(workload.cgroup.trim_start_matches('/')).join("cgroup.procs");
        let at = self.setup.clock.now();
        let mut seen = Vec::new();
        let pids = crate::node::read_small(members);
        for pid in pids.lines().take(MAX_RUNNING).filter_map(|line| line.trim().parse::<u32>().ok()) {
            self.adopt(pid, workload.cgroup_id);
            // It may have ended since; then the next one of its kind tells.
            let Ok(path) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
            let path = path.to_string_lossy().into_owned();
            let facts = nv_policy::decide::ProgramFacts::default();
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
            Later::Hashed(hashed) => self.hashed(*hashed),
            Later::Answer(id, answer) => self.answer(id, answer),
            Later::Packets(id, plan, socket) => self.packets(id, *plan, socket),
            Later::Interfaces(id, interfaces) => self.interfaces(&id, &interfaces),
            Later::Ports(network, ports) => self.ports(&network, &ports),
            Later::Keeper(Ok((keeper, renewed))) => self.new_keeper(keeper, renewed),
            Later::Watched(watch, done) => self.files_watched(*watch, done),
            Later::Retired(Ok(())) => {
                tracing::debug!("of earlier versions nothing is in the kernel any more");
            }
            Later::Retired(Err(reason)) => {
                tracing::error!(reason, "an earlier version's programs still judge beside these");
            }
            Later::Keeper(Err(reason)) => {
                tracing::error!(
                    reason,
                    "no new keeper: what is in the kernel goes on, new pods' connections are not judged"
                );
                self.keeper_due = true;
            }
            Later::Inspector(share, started) => self.inspector_started(share, started),
            Later::Queues(asked, counts) => self.queues_asked(asked, counts),
            Later::Sockets(id, cgroup, done) => self.sockets_attached(&id, cgroup, done),
            Later::Attached(id, ifindex, Ok(())) => {
                tracing::debug!(workload = %id, ifindex, "network programs attached");
                self.guard(&id);
                self.look_after_queues();
            }
            Later::Attached(id, ifindex, Err(reason)) => {
                tracing::error!(workload = %id, ifindex, reason, "network programs not attached: its connections are not judged");
            }
        }
    }

    pub(super) fn runtime_state(&mut self, event: RuntimeEvent) {
        match event {
            RuntimeEvent::Up { runtime, version, api, storage } => {
                tracing::info!(runtime, version, "container runtime");
                let before = self.setup.node.clone();
                if api == Api::Docker && self.setup.node.platform.is_empty() {
                    DOCKER_PLATFORM.clone_into(&mut self.setup.node.platform);
                }
                if !storage.is_empty() {
                    self.setup.node.storage_driver = storage;
                }
                self.setup.node.runtime = runtime;
                self.setup.node.runtime_version = version;
                self.introduce_again(&before);
            }
            // Process 1 listens in the place of a daemon that it starts with the first connection.
            RuntimeEvent::Listener { pid } if pid > 1 => self.tell_runtime(pid),
            RuntimeEvent::Listener { .. } => {}
            RuntimeEvent::Down { reason } => {
                tracing::warn!(
                    reason,
                    "the container runtime does not answer; its containers stay protected"
                );
            }
            RuntimeEvent::Listed => {
                self.listed = true;
                self.retire_within(RETIRE_AFTER_LIST);
                self.greet();
            }
            RuntimeEvent::Workload(_) | RuntimeEvent::Stopped { .. } | RuntimeEvent::Removed { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nv_model::time::Timestamp;
    use nv_telemetry::ManualClock;

    use super::*;
    use crate::testing::{agent, workload_at};

    #[test]
    fn what_runs_in_a_container_is_looked_at_once_it_runs_though_it_was_told_of_before() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("w")).unwrap();
        std::fs::write(root.path().join("w/cgroup.procs"), std::process::id().to_string()).unwrap();
        let mut agent = agent(Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000))));
        agent.setup.cgroup_root = Some(root.path().to_path_buf());
        let learned = |agent: &mut Agent| {
            let batch = agent.outbox.next_batch().map(|(_, batch)| batch).unwrap_or_default();
            batch.into_iter().filter(|one| matches!(one, Observation::Process(_))).count()
        };
        let created = Workload { cgroup: "/w".to_owned(), running: false, ..workload_at("192.0.2.1") };
        agent.workload(created.clone(), false);
        assert_eq!(learned(&mut agent), 0, "nothing runs yet");
        let runs = Workload { running: true, ..created };
        agent.workload(runs.clone(), false);
        assert_eq!(learned(&mut agent), 1, "its program is looked at");
        agent.workload(runs, false);
        assert_eq!(learned(&mut agent), 0, "once");
    }
}
