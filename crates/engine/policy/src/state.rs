//! All that policy depends on, in one value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use nv_model::file::FileProfile;
use nv_model::group::{Group, GroupKind, Origin};
use nv_model::mode::{Baseline, Mode, Modes};
use nv_model::name::{Domain, GroupName, NodeId, WorkloadId};
use nv_model::node::Node;
use nv_model::policy::NodeSettings;
use nv_model::profile::ProcessProfile;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::rule_set::RuleSetBlob;
use nv_model::scan::BlobId;
use nv_model::sensor::{self, Sensor, SensorId, SensorProfile};
use nv_model::time::Timestamp;
use nv_model::workload::Workload;

use crate::change::Change;

/// Label of a namespace that keeps its traffic inside of it, with the value `enabled`.
pub const BOUNDARY_LABEL: &str = "NeuvectorNamespaceBoundary";

/// What operators said and what runs. Cheap to clone where it is large: workloads are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Every group, the reserved ones included (see [`State::missing_reserved`]).
    pub groups: BTreeMap<GroupName, Group>,
    /// Network rules in the order of the list: federal, then custom resources', then user's and learned ones.
    pub rules: Vec<NetworkRule>,
    /// Process profiles.
    pub profiles: BTreeMap<GroupName, ProcessProfile>,
    /// File profiles.
    pub files: BTreeMap<GroupName, FileProfile>,
    /// Sensors that somebody made; those that come with the product are not among them.
    pub sensors: BTreeMap<SensorId, Sensor>,
    /// Which sensors groups use.
    pub sensor_profiles: BTreeMap<GroupName, SensorProfile>,
    /// Rule sets of sensors.
    pub rule_sets: BTreeMap<BlobId, RuleSetBlob>,
    /// Every workload of the cluster. Replace the `Arc` to change one: an unchanged pointer means unchanged.
    pub workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    /// Every node with an enforcer.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<Domain, BTreeMap<String, String>>,
    /// What every node is told.
    pub settings: NodeSettings,
    /// Network mode of every group, whatever its own (`net_service_status` with `net_service_policy_mode`).
    pub network_mode: Option<Mode>,
    /// Workloads that are cut off from the network.
    pub quarantined: BTreeSet<WorkloadId>,
    /// Networks inside of the cluster, besides those of the workloads' own interfaces.
    pub internal_subnets: Vec<IpNet>,
}

/// Whether the workload stands for the processes of a node that are in no container.
#[must_use]
pub fn is_host(workload: &Workload) -> bool {
    workload.id.as_str().starts_with("host:")
}

/// Whether the workload takes part in policy: it runs, or is about to.
#[must_use]
pub fn is_live(workload: &Workload) -> bool {
    workload.running || workload.finished == Timestamp::NEVER
}

/// The workload whose network `workload` uses: its pod's sandbox, or itself.
#[must_use]
pub fn pod_of(workload: &Workload) -> &WorkloadId {
    workload.pod_sandbox.as_ref().unwrap_or(&workload.id)
}

/// Pods of exactly one container, by their sandbox: what a pod's connections do is this container's doing.
#[must_use]
pub fn only_containers(state: &State) -> BTreeMap<&WorkloadId, &Arc<Workload>> {
    let mut found: BTreeMap<&WorkloadId, Option<&Arc<Workload>>> = BTreeMap::new();
    for workload in state.workloads.values().filter(|workload| is_live(workload)) {
        if let Some(pod) = &workload.pod_sandbox {
            found.entry(pod).and_modify(|only| *only = None).or_insert(Some(workload));
        }
    }
    found.into_iter().filter_map(|(pod, only)| Some((pod, only?))).collect()
}

/// The group whose modes and profile hold for the workload: the learned one, or `nodes`.
#[must_use]
pub fn home_group(workload: &Workload) -> GroupName {
    if is_host(workload) { GroupName::nodes() } else { workload.learned_group() }
}

impl State {
    /// Rule by id.
    #[must_use]
    pub fn rule(&self, id: RuleId) -> Option<&NetworkRule> {
        self.rules.iter().find(|rule| rule.id == id)
    }

    /// A sensor, one that comes with the product included.
    #[must_use]
    pub fn sensor(&self, id: &SensorId) -> Option<Sensor> {
        sensor::predefined(id).or_else(|| self.sensors.get(id).cloned())
    }

    /// The modes that hold for a group, with the cluster-wide network mode applied. `None` for groups without modes.
    /// A learned group that is not stored yet has those of new services.
    #[must_use]
    pub fn modes_of(&self, name: &GroupName) -> Option<Modes> {
        if !name.has_mode() {
            return None;
        }
        let mut modes =
            self.groups.get(name).and_then(|group| group.modes).unwrap_or(self.settings.new_service);
        if let Some(mode) = self.network_mode {
            modes.network = mode;
        }
        if *name == GroupName::nodes() {
            modes.baseline = Baseline::Basic;
        }
        Some(modes)
    }

    /// Whether the namespace keeps its traffic inside of it.
    #[must_use]
    pub fn is_bounded(&self, domain: &Domain) -> bool {
        self.namespaces
            .get(domain)
            .and_then(|labels| labels.get(BOUNDARY_LABEL))
            .is_some_and(|value| value == "enabled")
    }

    /// What makes the reserved groups `external`, `nodes` and `containers` exist.
    #[must_use]
    pub fn missing_reserved(&self) -> Vec<Change> {
        [
            (GroupName::external(), GroupKind::External),
            (GroupName::nodes(), GroupKind::Node),
            (GroupName::containers(), GroupKind::Container),
        ]
        .into_iter()
        .filter(|(name, _)| !self.groups.contains_key(name))
        .map(|(name, kind)| {
            let mut group = plain_group(name, kind, Origin::SystemDefined);
            if kind == GroupKind::Node {
                group.modes = Some(Modes { baseline: Baseline::Basic, ..self.settings.new_service });
            }
            Change::PutGroup(Box::new(group))
        })
        .collect()
    }
}

/// A group without conditions, modes and limits.
#[must_use]
pub fn plain_group(name: GroupName, kind: GroupKind, origin: Origin) -> Group {
    Group {
        name,
        comment: String::new(),
        origin,
        kind,
        domain: None,
        criteria: Vec::new(),
        modes: None,
        not_scored: false,
        monitor_metric: false,
        session_limit: 0,
        session_rate_limit: 0,
        bandwidth_limit_mbps: 0,
    }
}
