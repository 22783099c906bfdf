//! What readers see: a view is put together and takes the place of the one before.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::Hub;
use crate::view::View;

/// How soon readers see a change of the workloads.
pub(super) const PUBLISH_SOON: Duration = Duration::from_millis(50);
/// How soon readers see counters.
pub(super) const PUBLISH_LATER: Duration = Duration::from_secs(1);

impl Hub {
    /// Plans to replace the view, unless that is planned for earlier.
    pub(super) fn publish_within(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        self.publish_at = Some(self.publish_at.map_or(at, |planned| planned.min(at)));
    }

    /// What runs has changed: it is shown, and may change policies.
    pub(super) fn workloads_changed(&mut self) {
        self.state_changed = true;
        self.directory = None;
        self.push_soon();
        self.publish_within(PUBLISH_SOON);
    }

    /// Replaces the view.
    pub(super) fn publish(&mut self) {
        self.publish_at = None;
        let before = self.parts.view.load();
        let state = if self.state_changed { Arc::new(self.state.clone()) } else { Arc::clone(&before.state) };
        self.state_changed = false;
        let view = View {
            revision: self.parts.stored.revision,
            state,
            config: Arc::clone(&self.parts.stored.config),
            removed: Arc::clone(&self.removed),
            enforcers: self.enforcers.clone(),
            controllers: vec![self.parts.controller.clone()],
            usage: Arc::clone(&self.usage),
            node_usage: Arc::clone(&self.node_usage),
            matches: Arc::clone(&self.matches),
            policies: self.policies.clone(),
            compilation_due: self.push_at.is_some(),
            losses: self.losses.clone(),
            vitals: self.vitals.clone(),
            scans: self.parts.scans.clone(),
            modified: Arc::clone(&self.parts.stored.modified),
            members: OnceLock::new(),
            directory: OnceLock::new(),
        };
        self.parts.view.store(Arc::new(view));
        self.parts.version.send_modify(|version| *version = version.wrapping_add(1));
    }
}
