//! How controllers and enforcers themselves fare.

use std::collections::BTreeMap;

use nv_model::vitals::{Drops, Shedding, Vitals};
use nv_role_controller::Counters;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Named;

/// How a process was started.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProcessConfig {
    /// Its log filter.
    pub log_level: String,
}
impl Named for ProcessConfig {
    const ONE: &'static str = "config";
    const MANY: &'static str = "configs";
}

/// What an enforcer counts. The names of the contract where something of ours is the same; what it uses and leaves out
/// beside them.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AgentCounter {
    /// Packets that were dropped by a verdict.
    pub rx_drop_packets: u64,
    /// Frames that could not be judged.
    pub error_packets: u64,
    /// Packets of interfaces without a workload.
    pub no_workload_packets: u64,
    /// Flows begun.
    pub total_sessions: u64,
    /// CPU time of agent and keeper, as a share of one CPU.
    pub cpu: f64,
    /// Their resident memory in bytes; in the all-in-one that of the whole process.
    pub memory: u64,
    /// The memory that it should stay within, in bytes.
    pub memory_budget: u64,
    /// Observations that wait for a controller.
    pub queued: u64,
    /// Records that the kernel could not place in a ring.
    pub kernel_dropped: u64,
    /// Observations that found the queue to the controller full.
    pub queue_dropped: u64,
    /// What was not told, by what it was about.
    pub drops: Drops,
    /// What is left out now.
    pub shedding: Shedding,
    /// What the kernel's programs count, by name.
    pub counters: BTreeMap<String, u64>,
}
impl Named for AgentCounter {
    const ONE: &'static str = "counter";
    const MANY: &'static str = "counters";
}

impl From<&Vitals> for AgentCounter {
    fn from(vitals: &Vitals) -> Self {
        let count = |name: &str| vitals.counters.get(name).copied().unwrap_or(0);
        Self {
            rx_drop_packets: count("network.denied_packets"),
            error_packets: count("network.unparsed"),
            no_workload_packets: count("network.no_endpoint"),
            total_sessions: count("network.flows_created"),
            cpu: vitals.cpu,
            memory: vitals.memory,
            memory_budget: vitals.memory_budget,
            queued: vitals.queued,
            kernel_dropped: vitals.kernel_dropped,
            queue_dropped: vitals.queue_dropped,
            drops: vitals.drops,
            shedding: vitals.shedding,
            counters: vitals.counters.clone(),
        }
    }
}

/// What a controller counts; every one but the first is a total since its start.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ControllerCounter {
    /// Links of the map of connections.
    pub graph_nodes: u32,
    /// By name.
    pub counters: BTreeMap<String, u64>,
}
impl Named for ControllerCounter {
    const ONE: &'static str = "counter";
    const MANY: &'static str = "counters";
}

impl ControllerCounter {
    /// Of a controller whose map has so many links.
    #[must_use]
    pub fn of(counters: &Counters, links: usize) -> Self {
        let counters = counters.by_name().into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        Self { graph_nodes: u32::try_from(links).unwrap_or(u32::MAX), counters }
    }
}
