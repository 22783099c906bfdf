//! From what nodes saw to what the logs say: names, levels and sentences of the contract.

mod connection;
mod incident;

use std::collections::BTreeMap;
use std::sync::Arc;

use nv_model::name::{NodeId, WorkloadId};
use nv_model::node::Controller;
use nv_model::record::{Event, Level, LogCommon, Record};
use nv_model::time::Timestamp;
use nv_model::verdict::{Mechanism, Verdict};
use nv_model::workload::Workload;
use nv_policy::state::State;

pub(crate) use connection::{threat, violation};
pub(crate) use incident::{Told, incident};

/// What a record is made from: the hub's state as it is now, which the published view follows a little later.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a State,
    pub(crate) removed: &'a BTreeMap<WorkloadId, Arc<Workload>>,
    pub(crate) cluster_name: &'a str,
    pub(crate) controller: &'a Controller,
}

impl<'a> Scene<'a> {
    fn workload(&self, id: &WorkloadId) -> Option<&'a Arc<Workload>> {
        self.state.workloads.get(id).or_else(|| self.removed.get(id))
    }
}

/// Events of a category; the names are the contract's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Category {
    Workload,
    Enforcer,
    Controller,
    Group,
}

impl Category {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "WORKLOAD",
            Self::Enforcer => "ENFORCER",
            Self::Controller => "CONTROLLER",
            Self::Group => "GROUP",
        }
    }
}

/// What every record of a node begins with.
pub(crate) fn common(
    scene: Scene<'_>,
    node: Option<&NodeId>,
    name: &str,
    level: Level,
    at: Timestamp,
) -> LogCommon {
    let host =
        node.and_then(|id| scene.state.nodes.get(id)).map(|node| node.name.clone()).unwrap_or_default();
    let id = node.map(ToString::to_string).unwrap_or_default();
    LogCommon {
        name: name.to_owned(),
        level,
        reported_at: at.rfc3339(),
        reported_timestamp: at.seconds(),
        cluster_name: scene.cluster_name.to_owned(),
        host_id: id.clone(),
        host_name: host.clone(),
        enforcer_id: id,
        enforcer_name: host,
        response_rule_id: None,
    }
}

/// An event of this controller or one of its nodes. Container events go to the activity log.
pub(crate) fn event(
    scene: Scene<'_>,
    category: Category,
    common: LogCommon,
    workload: Option<&Workload>,
    message: String,
) -> Record {
    let mut event = Event {
        common,
        controller_id: scene.controller.id.to_string(),
        controller_name: scene.controller.host_name.clone(),
        category: category.as_str().to_owned(),
        message,
        ..Event::default()
    };
    let Some(workload) = workload else { return Record::Event(Box::new(event)) };
    event.workload_id = workload.id.to_string();
    event.workload_name = workload.display_name().to_owned();
    event.workload_domain = domain(workload);
    event.workload_image.clone_from(&workload.image);
    event.workload_service = workload.learned_group().to_string();
    Record::Activity(Box::new(event))
}

fn domain(workload: &Workload) -> String {
    workload.domain.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Stopped is critical, reported is a warning.
const fn level(verdict: Verdict) -> Level {
    match verdict {
        Verdict::Deny => Level::Critical,
        Verdict::Open | Verdict::Learn | Verdict::Allow | Verdict::Violate => Level::Warning,
    }
}

fn mechanism(mechanism: Option<Mechanism>) -> String {
    mechanism.map(Mechanism::as_str).unwrap_or_default().to_owned()
}
