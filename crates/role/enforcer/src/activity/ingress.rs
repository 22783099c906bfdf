//! What is asked of each workload: connections that it accepts, over a minute in steps of five seconds.

use std::collections::{HashMap, VecDeque};

use nv_model::name::WorkloadId;
use nv_model::observation::Ingress;

/// Steps of a minute.
const STEPS: usize = 12;
/// Most workloads.
const MAX_WORKLOADS: usize = 8192;

#[derive(Debug, Default)]
struct Minute {
    /// Connections opened and bytes, step by step; the last one goes on.
    steps: VecDeque<(u32, u64)>,
    told: bool,
}

/// Sums of the last minute.
#[derive(Debug, Default)]
pub(crate) struct IngressMeter {
    workloads: HashMap<WorkloadId, Minute>,
}

impl IngressMeter {
    /// A workload was asked for so many connections more, and was sent so many bytes.
    pub(crate) fn add(&mut self, workload: &WorkloadId, opened: u32, bytes: u64) {
        if (opened == 0 && bytes == 0)
            || (self.workloads.len() >= MAX_WORKLOADS && !self.workloads.contains_key(workload))
        {
            return;
        }
        let minute = self.workloads.entry(workload.clone()).or_default();
        match minute.steps.back_mut() {
            Some(step) => {
                *step = (step.0.saturating_add(opened), step.1.saturating_add(bytes));
            }
            None => minute.steps.push_back((opened, bytes)),
        }
    }

    /// Ends a step: what each workload did in the last twelve; once more for one that does nothing now. `open` counts the
    /// connections of each that are open.
    pub(crate) fn step(&mut self, mut open: HashMap<WorkloadId, u32>) -> Vec<(WorkloadId, Ingress)> {
        let mut told = Vec::new();
        for (id, minute) in &mut self.workloads {
            let sum = |minute: &Minute| {
                let steps = minute.steps.iter();
                steps.fold((0_u32, 0_u64), |(opened, bytes), step| {
                    (opened.saturating_add(step.0), bytes.saturating_add(step.1))
                })
            };
            let (opened, bytes) = sum(minute);
            let ingress = Ingress { sessions: open.remove(id).unwrap_or(0), opened, bytes };
            if ingress != Ingress::default() || minute.told {
                told.push((id.clone(), ingress));
            }
            minute.told = ingress != Ingress::default();
            minute.steps.push_back((0, 0));
            while minute.steps.len() > STEPS {
                minute.steps.pop_front();
            }
        }
        for (id, sessions) in open {
            if self.workloads.len() < MAX_WORKLOADS {
                told.push((id.clone(), Ingress { sessions, ..Ingress::default() }));
                self.workloads.insert(id, Minute { told: true, ..Minute::default() });
            }
        }
        self.workloads.retain(|_, minute| minute.told || minute.steps.iter().any(|step| *step != (0, 0)));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> WorkloadId {
        "web".parse().unwrap()
    }

    #[test]
    fn a_minute_is_summed_and_its_end_is_told_once() {
        let mut meter = IngressMeter::default();
        meter.add(&id(), 2, 100);
        let open = || HashMap::from([(id(), 1)]);
        let want = |sessions, opened, bytes| vec![(id(), Ingress { sessions, opened, bytes })];
        assert_eq!(meter.step(open()), want(1, 2, 100));
        meter.add(&id(), 1, 50);
        for _ in 0..11 {
            assert_eq!(meter.step(HashMap::new()), want(0, 3, 150));
        }
        assert_eq!(meter.step(HashMap::new()), want(0, 1, 50));
        assert_eq!(meter.step(HashMap::new()), want(0, 0, 0));
        assert_eq!(meter.step(HashMap::new()), []);
        // One that is open and silent counts as well.
        assert_eq!(meter.step(open()), want(1, 0, 0));
    }
}
