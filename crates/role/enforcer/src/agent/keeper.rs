//! What the keeper is asked for, and a new one in the place of one that was killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nv_model::name::WorkloadId;

use super::{Agent, Later, Renewed, Seating};
use crate::identity::workloads::Attached;
use crate::intake::records::{self, Readers};
use crate::keeper::Keeper;

impl Agent {
    /// Has the keeper put the network programs on an interface.
    pub(super) fn attach(&self, id: &WorkloadId, ifindex: u32) {
        if self.setup.kernel.is_none() {
            return;
        }
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
            tracing::error!(keeper = keeper.pid(), "the keeper has ended; a new one is started");
            self.setup.keeper = None;
            self.keeper_due = true;
        }
        if !std::mem::take(&mut self.keeper_due) {
            return;
        }
        let (launcher, dir) = (Arc::clone(&self.setup.launcher), self.setup.bpf_dir.clone());
        let (later, told) = (self.setup.later.clone(), self.setup.programs_told.clone());
        let without_tables = self.setup.kernel.is_none();
        let readers =
            self.setup.readers.take().filter(|_| !self.setup.pinned && !without_tables).map(|old| {
                // The old rings are written to no more.
                old.alive.store(false, Ordering::Relaxed);
                Readers { alive: Arc::new(AtomicBool::new(true)), ..old }
            });
        if readers.is_some() {
            tracing::error!("nothing is enforced until there is a new keeper, as nothing could be pinned");
            self.setup.readers.clone_from(&readers);
        }
        tokio::task::spawn_blocking(move || {
            let started = Keeper::start(&launcher, &dir).map_err(|error| error.to_string());
            let outcome = started.and_then(|(keeper, handed)| {
                let seating = handed.programs.map(|socket| Seating::start(socket, told)).transpose();
                let seating = seating.map_err(|error| error.to_string())?;
                let kernel = match (handed.tables, readers) {
                    (Err(_), _) if without_tables => None,
                    (Err(reason), _) => return Err(reason),
                    (Ok((process, network)), Some(readers)) => {
                        let kernel = records::open(process, &network, readers);
                        Some(Box::new(kernel.map_err(|error| error.to_string())?))
                    }
                    // The tables are the pinned ones that this agent holds already.
                    (Ok(_), None) => None,
                };
                Ok((keeper, Renewed { kernel, files: handed.files, seating }))
            });
            drop(later.blocking_send(Later::Keeper(outcome)));
        });
    }

    pub(super) fn new_keeper(&mut self, keeper: Keeper, renewed: Renewed) {
        tracing::info!(keeper = keeper.pid(), "a new keeper holds the kernel");
        self.setup.keeper = Some(Arc::new(keeper));
        self.queues.forget();
        if let Some(kernel) = renewed.kernel {
            self.setup.kernel = Some(*kernel);
            self.end_inspection(None);
            self.guarded.clear();
            self.sockets.clear();
            if let Err(error) = self.enforce() {
                tracing::error!(%error, "the held policy is not enforced");
            }
            self.placed.clear();
            self.parents.clear();
            self.place_cgroups();
            self.place_workloads();
        }
        if let (Some(seating), Some(new)) = (&mut self.setup.seating, renewed.seating) {
            seating.renew(new);
        }
        if let Some(files) = renewed.files
            && let Err(error) = crate::intake::records::read_files(files, self.setup.file_records.clone())
        {
            tracing::error!(%error, "what happens to files is not reported");
        }
        self.files.watched = None;
        self.watch_files();
        let attached: Vec<(WorkloadId, Attached)> = self
            .workloads
            .all()
            .flat_map(|local| local.attached.iter().map(|one| (local.workload.id.clone(), *one)))
            .collect();
        for (id, one) in attached {
            match one.cgroup {
                Some(cgroup) => self.attach_sockets(&id, cgroup),
                None => self.attach(&id, one.ifindex),
            }
        }
        // What was to be looked up while there was no keeper.
        let networks: Vec<WorkloadId> = self
            .workloads
            .all()
            .filter(|local| local.workload.running && local.attached.is_empty())
            .map(|local| local.workload.id.clone())
            .collect();
        for id in networks {
            self.look_for_interfaces(&id);
        }
    }

    pub(super) fn detach(&mut self, id: &WorkloadId) {
        let Some(local) = self.workloads.get_mut(id) else { return };
        let attached = std::mem::take(&mut local.attached);
        self.guarded.remove(id);
        for one in attached {
            if let Some(kernel) = &mut self.setup.kernel
                && let Err(error) = kernel.network.remove_endpoint(one.ifindex)
            {
                tracing::warn!(%error, ifindex = one.ifindex, "an interface's row stays");
            }
            if let Some(cgroup) = one.cgroup {
                self.sockets.remove(&cgroup);
            }
            if let Some(keeper) = self.setup.keeper.clone().filter(|_| self.setup.kernel.is_some()) {
                // The veth, or the cgroup, is usually gone already, and its programs with it.
                tokio::task::spawn_blocking(move || {
                    let done = match one.cgroup {
                        Some(cgroup) => keeper.detach_sockets(cgroup),
                        None => keeper.detach(one.ifindex),
                    };
                    if let Err(error) = done {
                        tracing::debug!(%error, ifindex = one.ifindex, "nothing to detach");
                    }
                });
            }
        }
    }

    /// What earlier versions have pinned goes at the latest then.
    pub(super) fn retire_within(&mut self, delay: Duration) {
        let at = self.setup.clock.monotonic().saturating_add(delay);
        self.retire_at = Some(self.retire_at.map_or(at, |planned| planned.min(at)));
    }

    /// Every second: lets earlier versions go when this one has taken over. Until then both judge, so that there is no
    /// moment without any.
    pub(super) fn retire_earlier_versions(&mut self) {
        let due = self.retire_at.is_some_and(|at| at <= self.setup.clock.monotonic());
        let Some(keeper) = self.setup.keeper.clone().filter(|_| due) else { return };
        self.retire_at = None;
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let done = keeper.retire().map_err(|error| error.to_string());
            drop(later.blocking_send(Later::Retired(done)));
        });
    }
}
