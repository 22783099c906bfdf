//! A policy comes: enforced whole or not at all, kept on disk, acknowledged.

use std::collections::BTreeSet;
use std::time::Instant;

use nv_model::name::GroupName;
use nv_model::policy::{DeltaError, IdentityId, IdentityKind, NodePolicy, PolicyDelta};
use nv_wire::enforcer::v1 as proto;

use super::Agent;
use crate::policy::held::Held;
use crate::policy::kernel;

impl Agent {
    /// Writes the held policy to the kernel.
    pub(super) fn enforce(&mut self) -> Result<(), kernel::KernelError> {
        let mut policy = self.setup.held.policy.clone();
        for (group, profile) in &self.kept {
            policy.profiles.entry(group.clone()).or_insert_with(|| profile.clone());
        }
        if self.setup.kernel.is_none() && self.setup.seating.is_none() {
            return Ok(());
        }
        let judges_connections = self.setup.kernel.is_some() || self.by_queue();
        if judges_connections {
            // The host's own addresses may be newer than what the controllers know of it: then they take one for a
            // workload that nobody manages.
            for own in self.setup.node.interfaces.iter().map(|held| held.address.addr()) {
                let held = policy.addresses.get(&own.into()).and_then(|id| policy.identities.get(id));
                if held.is_none_or(|held| held.kind != IdentityKind::Node) {
                    policy.addresses.insert(own.into(), IdentityId::NODES);
                }
            }
        }
        let completed = kernel::complete(policy, &self.workloads);
        if judges_connections {
            self.apply(&completed)?;
        }
        if self.setup.kernel.is_none() {
            for line in nv_policy::lower::processes(&completed, &mut self.setup.held.numbers).left_out {
                tracing::debug!(group = %line.group, rule = %line.uuid, "a process rule's prefix is too long for kernel tables");
            }
        }
        if let Some(seating) = &mut self.setup.seating {
            seating.enforce(completed, &self.setup.held.numbers);
        }
        self.setup.placement.set(&self.setup.held.numbers, &self.setup.held.policy);
        Ok(())
    }

    /// A policy came: enforce it, keep it, say so. Whole or not at all.
    pub(super) fn policy(&mut self, delta: &PolicyDelta) {
        let begin = Instant::now();
        let before = self.setup.held.clone();
        let mut ack = proto::PolicyAck { revision: delta.revision.0, ..proto::PolicyAck::default() };
        match before.policy.apply(delta) {
            Err(error) => {
                ack.resend_whole = matches!(error, DeltaError::Base { .. });
                ack.error = error.to_string();
            }
            Ok(next) => {
                self.keep_what_runs(&before, &next);
                self.inspection.changed(&before.policy, &next);
                self.setup.held.policy = next;
                if let Err(error) = self.enforce() {
                    ack.error = error.to_string();
                    tracing::error!(%error, revision = delta.revision.0, "a policy cannot be enforced, the one before stays");
                    self.setup.held = before;
                    if let Err(error) = self.enforce() {
                        tracing::error!(%error, "the policy before cannot be enforced either");
                    }
                } else {
                    self.place_workloads();
                    // That was the last of the kernel's tables.
                    ack.apply_micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.watch_files();
                    self.tell_rules();
                    self.look_after_queues();
                    if let Err(error) = self.setup.held.store(&self.setup.held_path) {
                        // It is enforced, but a restart would not have it: the controller must know.
                        tracing::error!(%error, "the policy is enforced but not kept");
                        ack.error = error.to_string();
                    }
                    tracing::debug!(
                        revision = delta.revision.0,
                        micros = ack.apply_micros,
                        "policy enforced"
                    );
                }
            }
        }
        ack.digest = self.setup.held.policy.digest();
        self.send(proto::from_enforcer::Message::PolicyAck(ack));
    }

    /// A policy can come without the profile of what runs here: after a restart the controller hears of the workloads
    /// only when the runtime tells of them. Their last profile stays then, else they would be judged by none.
    fn keep_what_runs(&mut self, before: &Held, next: &NodePolicy) {
        let mut running: BTreeSet<GroupName> =
            self.workloads.all().map(|local| local.workload.learned_group()).collect();
        if !self.listed
            && let Some(kernel) = &self.setup.kernel
        {
            let rows = kernel.process.cgroups().unwrap_or_default();
            let used: BTreeSet<u32> = rows.values().map(|row| row.profile).collect();
            let groups = before.policy.profiles.keys().chain(self.kept.keys());
            running.extend(
                groups
                    .filter(|group| before.numbers.get(group).is_some_and(|number| used.contains(&number)))
                    .cloned(),
            );
        }
        let old = std::mem::take(&mut self.kept);
        let held = before.policy.profiles.iter().chain(&old);
        self.kept = held
            .filter(|(group, _)| running.contains(*group) && !next.profiles.contains_key(*group))
            .map(|(group, profile)| (group.clone(), profile.clone()))
            .collect();
    }
}
