//! A policy comes: enforced whole or not at all, kept on disk, acknowledged.

use std::time::Instant;

use nv_model::policy::{DeltaError, PolicyDelta};
use nv_wire::enforcer::v1 as proto;

use super::Agent;
use crate::kernel;

impl Agent {
    /// Writes the held policy to the kernel.
    pub(super) fn enforce(&mut self) -> Result<(), kernel::KernelError> {
        match &mut self.setup.kernel {
            Some(kernel) => {
                kernel.apply(&self.setup.held.policy, &self.inventory, &mut self.setup.held.numbers)?;
                self.setup.placement.set(&self.setup.held.numbers);
                Ok(())
            }
            None => Ok(()),
        }
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
                    self.watch_files();
                    ack.apply_micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
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
}
