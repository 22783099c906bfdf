//! Housekeeping: timeouts, folded records, checkpoints, aging; and what a start takes up again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{GroupName, NodeId};
use nv_model::record::Level;
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;
use nv_policy::identity::Identities;
use nv_policy::membership;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Hub;
use super::learn::Lesson;
use super::nodes::Position;
use crate::change::Edit;
use crate::journal::Entry;
use crate::records::{Category, common, event};
use crate::view::RuleMatch;
use crate::writer::Request;

/// A checkpoint is written this often, when something came.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(30);
/// Or when the journal is this long, in bytes.
const CHECKPOINT_BYTES: u64 = 64 * 1024 * 1024;
/// Unused groups are looked for this often.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// What wall time and time that passed may differ by in that time, before the wall clock counts as set.
const WITHOUT_JUMP: Duration = Duration::from_secs(5);
/// Groups removed in one transaction.
const MAX_PRUNED: usize = 256;

/// What memory holds, on disk.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Checkpoint {
    positions: BTreeMap<NodeId, Position>,
    workloads: Vec<Workload>,
    identities: Identities,
    matches: BTreeMap<RuleId, RuleMatch>,
    unused_since: BTreeMap<GroupName, Timestamp>,
    lesson: Lesson,
    graph: nv_graph::graph::Checkpoint,
}

impl Hub {
    /// Takes up a checkpoint and replays the batches behind it.
    pub(crate) fn recover(
        &mut self,
        checkpoint: Option<&[u8]>,
        entries: Vec<Entry>,
    ) -> Result<(), serde_json::Error> {
        let now = Instant::now();
        if let Some(bytes) = checkpoint {
            let held: Checkpoint = serde_json::from_slice(bytes)?;
            self.positions = held.positions;
            self.identities = held.identities;
            self.matches = Arc::new(held.matches);
            self.unused_since = held.unused_since;
            self.state.workloads = held
                .workloads
                .into_iter()
                .map(|workload| (workload.id.clone(), Arc::new(workload)))
                .collect();
            self.parts.graph.restore(held.graph);
            self.learner.resume(held.lesson, now);
        }
        self.replaying = true;
        for entry in entries {
            self.replay(entry);
        }
        self.replaying = false;
        for enforcer in self.enforcers.values_mut() {
            enforcer.state = nv_model::node::ConnectionState::Disconnected;
            if enforcer.disconnected == Timestamp::NEVER {
                enforcer.disconnected = self.parts.clock.now();
            }
        }
        self.state_changed = true;
        Ok(())
    }

    fn replay(&mut self, entry: Entry) {
        let (Ok(node), Some(batch)) = (entry.node.parse::<NodeId>(), entry.batch) else { return };
        let at = Timestamp::from_nanos(entry.at);
        let position = Position { stream: entry.stream, taken: entry.taken };
        if batch.first_sequence == 0 {
            // A greeting: the node's whole inventory.
            self.positions.insert(node.clone(), position);
            let workloads = batch.observations.into_iter().filter_map(|raw| raw.try_into().ok());
            let workloads: Vec<Workload> = workloads
                .filter_map(|observation| match observation {
                    nv_model::observation::Observation::Workload(workload) => Some(*workload),
                    _ => None,
                })
                .collect();
            self.state.workloads.retain(|_, workload| workload.node != node);
            for workload in workloads {
                self.workload_seen(&node, Arc::new(workload), at);
            }
            return;
        }
        match nv_wire::batch(batch) {
            Ok(observations) => drop(self.take_in(&node, observations)),
            Err(error) => tracing::error!(%error, "a batch of the journal cannot be read"),
        }
    }

    /// Ids of records that are in the log already.
    pub(crate) fn remember_records(&mut self, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            self.remember_record(id);
        }
    }

    pub(super) async fn keep_house(&mut self) {
        let now = Instant::now();
        self.find_silent();
        self.close_folds(false);
        self.acknowledge_late();
        self.measure_groups();
        let ticks = self.parts.clock.monotonic();
        if ticks.saturating_sub(self.pruned) >= PRUNE_EVERY {
            let passed = ticks.saturating_sub(self.pruned);
            self.pruned = ticks;
            self.follow_wall_clock(passed);
            self.prune();
        }
        let bytes = self.journal.as_ref().map_or(0, crate::journal::Journal::bytes);
        let due = now.duration_since(self.checkpointed) >= CHECKPOINT_EVERY && bytes > 0;
        if due || bytes >= CHECKPOINT_BYTES {
            // What this round took in is in the journal first.
            self.commit().await;
            self.checkpoint().await;
        }
    }

    async fn checkpoint(&mut self) {
        self.checkpointed = Instant::now();
        let graph = self.parts.graph.read().checkpoint();
        let content = Checkpoint {
            positions: self.positions.clone(),
            workloads: self.state.workloads.values().map(|workload| (**workload).clone()).collect(),
            identities: self.identities.clone(),
            matches: (*self.matches).clone(),
            unused_since: self.unused_since.clone(),
            lesson: self.learner.waiting(),
            graph,
        };
        let Some(mut journal) = self.journal.take() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let outcome = serde_json::to_vec(&content)
                .map_err(|error| error.to_string())
                .and_then(|bytes| journal.checkpoint(&bytes).map_err(|error| error.to_string()));
            (journal, outcome)
        });
        match written.await {
            Ok((journal, outcome)) => {
                self.journal = Some(journal);
                match outcome {
                    Ok(()) => self.parts.counters.checkpointed(),
                    Err(why) => tracing::error!(why, "a checkpoint cannot be written; the journal grows"),
                }
            }
            Err(error) => tracing::error!(%error, "the checkpoint's task failed"),
        }
    }

    /// Where somebody has set the wall clock, groups are unused for no longer and no shorter than before.
    fn follow_wall_clock(&mut self, passed: Duration) {
        let now = self.parts.clock.now();
        let expected = self.pruned_at.after(passed);
        self.pruned_at = now;
        let set_by = now.nanos().saturating_sub(expected.nanos());
        if set_by.unsigned_abs() < WITHOUT_JUMP.as_nanos().try_into().unwrap_or(u64::MAX) {
            return;
        }
        tracing::warn!(seconds = set_by / 1_000_000_000, "the wall clock was set");
        for since in self.unused_since.values_mut() {
            *since = Timestamp::from_nanos(since.nanos().saturating_add(set_by));
        }
    }

    /// Removes learned groups that nobody was in for the configured time.
    fn prune(&mut self) {
        let now = self.parts.clock.now();
        let unused = membership::unused(&self.state);
        self.unused_since.retain(|name, _| unused.contains(name));
        for name in &unused {
            self.unused_since.entry(name.clone()).or_insert(now);
        }
        let hours = self.parts.stored.config.unused_group_aging;
        if hours == 0 || self.parts.lead.borrow().is_none() {
            return;
        }
        let age = Duration::from_secs(u64::from(hours) * 3600);
        let old: Vec<GroupName> = self
            .unused_since
            .iter()
            .filter(|(_, since)| now.since(**since) >= age)
            .map(|(name, _)| name.clone())
            .take(MAX_PRUNED)
            .collect();
        if old.is_empty() {
            return;
        }
        for name in &old {
            let scene = self.scene();
            let begin = common(scene, None, "Group.Auto.Remove", Level::Info, now);
            let message = format!("Group {name} was removed: nothing ran in it for {hours} hours");
            self.records.push(event(scene, Category::Group, begin, None, message));
            self.unused_since.remove(name);
        }
        let plan = Box::new(move |view: &crate::View| {
            let mut edits = Vec::new();
            for name in &old {
                // One that is in use again, or that a user's rule names, stays.
                if let Ok(changes) = crate::plan::delete_group(&view.state, name) {
                    edits.extend(changes.into_iter().map(Edit::Policy));
                }
            }
            Ok(edits)
        });
        let (reply, _nobody_waits) = oneshot::channel();
        if self.parts.writer.try_send(Request { plan, reply }).is_err() {
            self.parts.counters.writes_refused();
        }
    }

    /// Writes what is left, at the end.
    pub(super) async fn stop(&mut self) {
        self.close_folds(true);
        self.controller_event("Controller.Stop", "stopped");
        self.commit().await;
        self.checkpoint().await;
        if let Err(error) = self.parts.events.flush().await {
            tracing::error!(%error, "the event log could not be written at the end");
        }
    }
}
