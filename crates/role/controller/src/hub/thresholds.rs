//! Thresholds of groups: what nodes report of their workloads, summed by group, and an event where it is too much.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nv_model::name::{GroupName, WorkloadId};
use nv_model::observation::Ingress;
use nv_model::record::Level;
use nv_policy::state::pod_of;
use nv_policy::{membership, threshold};

use super::Hub;
use crate::records::{Category, common, event};

/// How often groups are measured: as often as nodes report.
const EVERY: Duration = Duration::from_secs(5);
/// How long a report counts when no other follows.
const STALE: Duration = Duration::from_secs(15);
/// How often a threshold that stays exceeded is told.
const AGAIN: Duration = Duration::from_secs(60);
/// Most workloads whose reports are held.
const MAX_REPORTS: usize = 65_536;

/// What was reported, and what was told of it.
#[derive(Debug, Default)]
pub(super) struct Thresholds {
    reports: BTreeMap<WorkloadId, (Duration, Ingress)>,
    told: BTreeMap<GroupName, Duration>,
    measured: Duration,
}

impl Hub {
    pub(super) fn ingress_seen(&mut self, workload: WorkloadId, ingress: Ingress) {
        let held = &mut self.thresholds.reports;
        if self.replaying || !self.state.workloads.contains_key(&workload) {
            return;
        }
        if ingress == Ingress::default() {
            held.remove(&workload);
        } else if held.len() < MAX_REPORTS || held.contains_key(&workload) {
            held.insert(workload, (self.parts.clock.monotonic(), ingress));
        }
    }

    /// Every five seconds: tells which groups have more than they may.
    pub(super) fn measure_groups(&mut self) {
        let now = self.parts.clock.monotonic();
        if now.saturating_sub(self.thresholds.measured) < EVERY {
            return;
        }
        self.thresholds.measured = now;
        self.thresholds.reports.retain(|_, (since, _)| now.saturating_sub(*since) < STALE);
        let watched: Vec<GroupName> = self
            .state
            .groups
            .values()
            .filter(|group| threshold::is_watched(group))
            .map(|group| group.name.clone())
            .collect();
        self.thresholds.told.retain(|name, _| watched.contains(name));
        for name in watched {
            let Some(group) = self.state.groups.get(&name) else { continue };
            // A pod's packets are its sandbox's, whichever of its containers is in the group.
            let members = membership::members(&self.state, &name);
            let pods: BTreeSet<&WorkloadId> = members
                .iter()
                .filter_map(|id| self.state.workloads.get(id))
                .map(|held| pod_of(held))
                .collect();
            let reports = &self.thresholds.reports;
            let measured = pods.into_iter().filter_map(|pod| reports.get(pod)).map(|(_, ingress)| *ingress);
            let exceeded = threshold::exceeded(group, measured);
            if exceeded.is_empty() {
                self.thresholds.told.remove(&name);
                continue;
            }
            let told = self.thresholds.told.get(&name);
            if told.is_some_and(|told| now.saturating_sub(*told) < AGAIN) {
                continue;
            }
            let what: Vec<String> = exceeded.iter().map(ToString::to_string).collect();
            let message = format!("Group {name} exceeds its thresholds: {}", what.join(", "));
            let begin =
                common(self.scene(), None, "Group.Metric.Violation", Level::Warning, self.parts.clock.now());
            let record = event(self.scene(), Category::Group, begin, None, message);
            self.records.push(record);
            self.thresholds.told.insert(name, now);
        }
    }
}
