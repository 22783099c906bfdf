//! What the store says: policy, settings and who leads become the hub's state.

use std::collections::HashSet;
use std::sync::Arc;

use nv_model::rule::{NetworkRule, RuleId};
use nv_policy::state::State;
use tokio::time::Instant;

use super::Hub;
use crate::follow::StoreNews;
use crate::stored::Stored;

impl Hub {
    pub(super) fn store_changed(&mut self, news: StoreNews) {
        match news {
            StoreNews::All(listing) => self.parts.stored = Stored::from_listing(&listing),
            StoreNews::Commit(revision, changes) => self.parts.stored.commit(revision, &changes),
        }
        let old = std::mem::take(&mut self.state);
        let mut state = State {
            workloads: old.workloads.clone(),
            namespaces: old.namespaces.clone(),
            ..State::default()
        };
        self.parts.stored.write_to(&mut state);
        for (id, node) in &self.live_nodes {
            state.nodes.insert(id.clone(), node.clone());
        }
        for (id, enforcer) in &self.parts.stored.enforcers {
            self.enforcers.entry(id.clone()).or_insert_with(|| enforcer.clone());
        }
        let policy_changed = state != old;
        let quarantine = old.quarantined.symmetric_difference(&state.quarantined).cloned().collect();
        self.state = state;
        self.quarantine_changed(quarantine);
        if policy_changed {
            self.state_changed = true;
            self.directory = None;
            self.push_soon();
            self.forget_rules(&old.rules);
        }
        // At once: whoever wrote waits to read it.
        self.publish_at = Some(Instant::now());
    }

    /// Conversations and counters of rules that are gone say nothing any more.
    fn forget_rules(&mut self, before: &[NetworkRule]) {
        let kept: HashSet<RuleId> = self.state.rules.iter().map(|rule| rule.id).collect();
        let gone: Vec<RuleId> = before.iter().map(|rule| rule.id).filter(|id| !kept.contains(id)).collect();
        if gone.is_empty() {
            return;
        }
        let matches = Arc::make_mut(&mut self.matches);
        let mut graph = self.parts.graph.write();
        for id in gone {
            matches.remove(&id);
            graph.forget_rule(id);
        }
    }

    pub(super) fn lead_changed(&mut self, leads: bool) {
        self.parts.controller.leader = leads;
        let (name, what) = if leads {
            ("Controller.Lead.Elected", "was elected to lead")
        } else {
            ("Controller.Lead.Lost", "does not lead any more")
        };
        self.controller_event(name, what);
        if leads {
            self.learner.groups_wanted(Instant::now());
        }
        self.publish_at = Some(Instant::now());
    }
}
