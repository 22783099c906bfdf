//! Records of the logs: the product's own types, which have the contract's shapes already.

use nv_model::record::{Audit, Event, Incident, Threat, Violation};
use serde::Serialize;
use utoipa::ToSchema;

use super::workload::WorkloadBrief;
use crate::answer::Named;

impl Named for Threat {
    const ONE: &'static str = "threat";
    const MANY: &'static str = "threats";
}
impl Named for Violation {
    const ONE: &'static str = "violation";
    const MANY: &'static str = "violations";
}
impl Named for Incident {
    const ONE: &'static str = "incident";
    const MANY: &'static str = "incidents";
}
impl Named for Event {
    const ONE: &'static str = "event";
    const MANY: &'static str = "events";
}
impl Named for Audit {
    const ONE: &'static str = "audit";
    const MANY: &'static str = "audits";
}

/// Threats, incidents and violations together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SecurityLog {
    /// Threats.
    pub threats: Vec<Threat>,
    /// Incidents.
    pub incidents: Vec<Incident>,
    /// Violations.
    pub violations: Vec<Violation>,
}

/// How many violations a workload has.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ViolationWorkload {
    /// The workload.
    pub workload: WorkloadBrief,
    /// How many.
    pub count: i64,
}
impl Named for ViolationWorkload {
    const ONE: &'static str = "violation_workload";
    const MANY: &'static str = "violation_workloads";
}
