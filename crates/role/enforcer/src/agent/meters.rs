//! Questions about what the meters of inspection count.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, MAX_METERS, MeterEntry};

use super::Agent;

/// Questions that may wait at one time.
const MAX_WAITING: usize = 32;
/// After which time a question is not answered any more; who asked does not wait longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Questions that wait for the inspectors, by their number.
#[derive(Debug, Default)]
pub(super) struct Metering(BTreeMap<u64, Waiting>);

#[derive(Debug)]
struct Waiting {
    workload: Option<WorkloadId>,
    since: Duration,
    /// Inspectors that have not answered yet.
    asked: usize,
    meters: Vec<MeterEntry>,
}

impl Agent {
    /// Asks the inspectors, each of which has the meters of its share of the pods; `None` when they are to answer.
    pub(super) fn meters(
        &mut self,
        id: u64,
        workload: Option<WorkloadId>,
    ) -> Option<Result<Answer, AnswerError>> {
        if workload.as_ref().is_some_and(|wanted| self.workloads.get(wanted).is_none()) {
            return Some(Err(AnswerError::UnknownWorkload));
        }
        let refused = |why: &str| Some(Err(AnswerError::Failed(why.to_owned())));
        let since = self.setup.clock.monotonic();
        let waiting = &mut self.metering.0;
        waiting.retain(|_, one| since.saturating_sub(one.since) < PATIENCE);
        if waiting.len() >= MAX_WAITING {
            return refused("the inspectors have not answered what they were asked before");
        }
        let asked = self.inspection.running().filter(|inspector| inspector.ask_meters(id)).count();
        if asked == 0 {
            return refused("no packet is inspected, or what was asked before is not answered");
        }
        waiting.insert(id, Waiting { workload, since, asked, meters: Vec::new() });
        None
    }

    /// A piece of an answer. False when nobody has asked for it.
    #[must_use]
    pub(super) fn metered(&mut self, ask: u64, meters: Vec<(IpAddr, MeterEntry)>, more: bool) -> bool {
        let Some(mut waiting) = self.metering.0.remove(&ask) else { return false };
        for (target, meter) in meters {
            let workload = self.workloads.by_address(target).cloned();
            if waiting.workload.is_none() || waiting.workload == workload {
                waiting.meters.push(MeterEntry { workload, tap: !self.waits(target), ..meter });
            }
        }
        // Those nearest to their limit, in thousandths of it.
        let near = |meter: &MeterEntry| u64::from(meter.count) * 1000 / u64::from(meter.upper.max(1));
        waiting.meters.sort_by_key(|meter| Reverse(near(meter)));
        waiting.meters.truncate(MAX_METERS);
        waiting.asked = waiting.asked.saturating_sub(usize::from(!more));
        if waiting.asked > 0 {
            self.metering.0.insert(ask, waiting);
        } else {
            self.answer(ask, Ok(Answer::Meters(waiting.meters)));
        }
        true
    }
}
