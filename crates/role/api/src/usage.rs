//! How much nodes and workloads used over the last five minutes: the view has the last sample only, so each is noted
//! here every five seconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use nv_model::name::{NodeId, WorkloadId};
use nv_model::node::Usage;
use nv_role_controller::View;
use nv_telemetry::ProcessUse;

use crate::dto::infrastructure::{Metry, Stats};

/// Time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// Samples that are kept of one node or workload: five minutes.
const SAMPLES: usize = 60;
/// Most nodes, and most workloads, whose past is kept; of others the last sample alone is known.
const MAX_SERIES: usize = 2_048;

type Series<K> = BTreeMap<K, VecDeque<Usage>>;

/// The last five minutes.
#[derive(Debug, Default)]
pub(crate) struct History {
    nodes: Series<NodeId>,
    workloads: Series<WorkloadId>,
    /// This process' CPU time when it was read last, and its samples.
    own: (Option<Duration>, VecDeque<Usage>),
}

fn note<K: Ord + Clone>(series: &mut Series<K>, now: &BTreeMap<K, Usage>) {
    series.retain(|key, _| now.contains_key(key));
    for (key, usage) in now {
        if !series.contains_key(key) && series.len() >= MAX_SERIES {
            continue;
        }
        let past = series.entry(key.clone()).or_default();
        if past.len() >= SAMPLES {
            past.pop_front();
        }
        past.push_back(*usage);
    }
}

/// Counters are summed, levels averaged, over the last `count` samples.
fn span(past: &VecDeque<Usage>, count: usize) -> Metry {
    let samples: Vec<&Usage> = past.iter().rev().take(count).collect();
    let Some(number) = u32::try_from(samples.len()).ok().filter(|number| *number > 0) else {
        return Metry::default();
    };
    let sum =
        |field: fn(&Usage) -> u64| samples.iter().fold(0_u64, |sum, usage| sum.saturating_add(field(usage)));
    let sessions =
        |field: fn(&Usage) -> u32| samples.iter().fold(0_u32, |sum, usage| sum.saturating_add(field(usage)));
    Metry {
        cpu: samples.iter().map(|usage| usage.cpu).sum::<f64>() / f64::from(number),
        memory: sum(|usage| usage.memory) / u64::from(number),
        session_in: sessions(|usage| usage.sessions_in),
        session_out: sessions(|usage| usage.sessions_out),
        packet_in: sum(|usage| usage.packets_in),
        packet_out: sum(|usage| usage.packets_out),
        byte_in: sum(|usage| usage.bytes_in),
        byte_out: sum(|usage| usage.bytes_out),
    }
}

fn stats(past: Option<&VecDeque<Usage>>, last: Option<&Usage>) -> Option<Stats> {
    let alone: VecDeque<Usage>;
    let past = match (past, last) {
        (Some(past), _) => past,
        (None, Some(last)) => {
            alone = VecDeque::from([*last]);
            &alone
        }
        (None, None) => return None,
    };
    Some(Stats {
        interval: u32::try_from(INTERVAL.as_secs()).unwrap_or(u32::MAX),
        total: Metry::default(),
        span_1: span(past, 1),
        span_12: span(past, 12),
        span_60: span(past, SAMPLES),
    })
}

impl History {
    /// Takes the samples of now.
    pub(crate) fn note(&mut self, view: &View) {
        note(&mut self.nodes, &view.node_usage);
        note(&mut self.workloads, &view.usage);
        self.note_own(ProcessUse::of(None));
    }
    fn note_own(&mut self, now: Option<ProcessUse>) {
        let Some(now) = now else { return };
        let (before, past) = &mut self.own;
        if let Some(before) = before.replace(now.cpu) {
            let cpu = now.cpu.saturating_sub(before).as_secs_f64() / INTERVAL.as_secs_f64();
            if past.len() >= SAMPLES {
                past.pop_front();
            }
            past.push_back(Usage { cpu, memory: now.memory, ..Usage::default() });
        }
    }
    /// Of this process; `None` in its first seconds.
    pub(crate) fn of_own_process(&self) -> Option<Stats> {
        Some(&self.own.1).filter(|past| !past.is_empty()).and_then(|past| stats(Some(past), None))
    }
    /// Of a node; `None` when it has not reported any.
    pub(crate) fn of_node(&self, view: &View, node: &NodeId) -> Option<Stats> {
        stats(self.nodes.get(node), view.node_usage.get(node))
    }
    /// Of a workload; `None` when it has not reported any.
    pub(crate) fn of_workload(&self, view: &View, workload: &WorkloadId) -> Option<Stats> {
        stats(self.workloads.get(workload), view.usage.get(workload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu: f64, bytes_in: u64) -> Usage {
        Usage { cpu, memory: 100, bytes_in, ..Usage::default() }
    }

    #[test]
    fn levels_are_averaged_and_counters_summed_over_each_span() {
        let mut series: Series<u8> = BTreeMap::new();
        for n in 0..80_u32 {
            note(&mut series, &BTreeMap::from([(1, usage(f64::from(n), 1))]));
        }
        let shown = stats(series.get(&1), None).unwrap();
        assert_eq!((shown.span_1.cpu, shown.span_1.byte_in), (79.0, 1));
        assert_eq!((shown.span_12.cpu, shown.span_12.byte_in, shown.span_12.memory), (73.5, 12, 100));
        assert_eq!((shown.span_60.cpu, shown.span_60.byte_in), (49.5, 60));
        note(&mut series, &BTreeMap::new());
        assert!(series.is_empty(), "what is gone is forgotten");
        assert!(stats(None, None).is_none());
    }
}
