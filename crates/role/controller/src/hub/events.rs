//! Events of the controller itself and of its nodes.

use nv_model::name::NodeId;
use nv_model::record::Level;

use super::Hub;
use crate::records::{Category, Scene, common, event};

impl Hub {
    /// What records are made from, now.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            state: &self.state,
            removed: &self.removed,
            cluster_name: &self.parts.stored.config.cluster_name,
            controller: &self.parts.controller,
        }
    }

    pub(super) fn controller_event(&mut self, name: &str, what: &str) {
        let at = self.parts.clock.now();
        let scene = self.scene();
        let begin = common(scene, None, name, Level::Info, at);
        let message = format!("Controller {} {what}", self.parts.controller.host_name);
        self.records.push(event(scene, Category::Controller, begin, None, message));
    }

    pub(super) fn node_event(&mut self, node: &NodeId, name: &str, warning: bool, what: &str) {
        let level = if warning { Level::Warning } else { Level::Info };
        let scene = self.scene();
        let begin = common(scene, Some(node), name, level, self.parts.clock.now());
        let host = if begin.host_name.is_empty() { node.to_string() } else { begin.host_name.clone() };
        let message = format!("Enforcer of {host} {what}");
        self.records.push(event(scene, Category::Enforcer, begin, None, message));
    }
}
