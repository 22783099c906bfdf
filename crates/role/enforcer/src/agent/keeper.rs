//! What the keeper is asked for, and a new one in the place of one that was killed.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nv_model::name::WorkloadId;

use super::{Agent, Later};
use crate::keeper::Keeper;

impl Agent {
    /// Has the keeper put the network programs on an interface.
    pub(super) fn attach(&self, id: &WorkloadId, ifindex: u32) {
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
                Ok(_tables) => Ok((keeper, handed.files)),
                Err(reason) => Err(reason),
            });
            drop(later.blocking_send(Later::Keeper(outcome)));
        });
    }

    pub(super) fn new_keeper(&mut self, keeper: Keeper, files: Option<OwnedFd>) {
        tracing::info!(keeper = keeper.pid(), "a new keeper holds the kernel");
        self.setup.keeper = Some(Arc::new(keeper));
        if let Some(files) = files
            && let Err(error) = crate::records::read_files(files, self.setup.file_records.clone())
        {
            tracing::error!(%error, "what happens to files is not reported");
        }
        self.files.watched = None;
        self.watch_files();
        let attached: Vec<(WorkloadId, u32)> = self
            .inventory
            .all()
            .flat_map(|local| local.attached.iter().map(|one| (local.workload.id.clone(), one.ifindex)))
            .collect();
        for (id, ifindex) in attached {
            self.attach(&id, ifindex);
        }
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
}
