//! When to leave things out, and how much: the budget of CPU, memory and queue.

use nv_model::vitals::Shedding;

/// Seconds of calm after which one level less is left out.
const CALM: u32 = 5;

/// One second of the enforcer, each as a share of what it may be: 1.0 and more is too much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// CPU time of agent and keeper.
    pub(crate) cpu: f64,
    /// Their resident memory.
    pub(crate) memory: f64,
    /// What waits: for the agent, and for the controller.
    pub(crate) waiting: f64,
}

/// Decides by what the last seconds were.
#[derive(Debug, Default)]
pub(crate) struct Load {
    shedding: Shedding,
    calm: u32,
}

impl Load {
    /// What is left out now.
    pub(crate) fn shedding(&self) -> Shedding {
        self.shedding
    }

    /// Takes a sample each second: under pressure one level more is left out, after some calm seconds one less.
    /// Whether that changed anything.
    pub(crate) fn second(&mut self, sample: Sample) -> bool {
        let pressure = sample.cpu.max(sample.memory).max(sample.waiting);
        let place = Shedding::ALL.iter().position(|level| *level == self.shedding).unwrap_or(0);
        let next = if pressure >= 1.0 {
            self.calm = 0;
            Shedding::ALL.get(place.saturating_add(1)).copied()
        } else if pressure >= 0.7 {
            // Neither more nor less, so that it does not swing.
            self.calm = 0;
            None
        } else {
            self.calm = self.calm.saturating_add(1);
            let less =
                (self.calm >= CALM).then(|| Shedding::ALL.get(place.checked_sub(1)?).copied()).flatten();
            if less.is_some() {
                self.calm = 0;
            }
            less
        };
        let changed = next.is_some();
        self.shedding = next.unwrap_or(self.shedding);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_sheds_one_level_a_second_and_calm_takes_it_back_slowly() {
        let mut load = Load::default();
        let mut after = |pressure: f64, seconds: u32| {
            let sample = Sample { cpu: pressure, ..Sample::default() };
            let changes = (0..seconds).filter(|_| load.second(sample)).count();
            (load.shedding(), changes)
        };
        assert_eq!(after(0.9, 10), (Shedding::Nothing, 0), "busy is not too much");
        assert_eq!(after(1.0, 1), (Shedding::Activity, 1));
        assert_eq!(after(2.0, 9), (Shedding::Learning, 2), "there is nothing more to leave out");
        assert_eq!(after(0.8, 60), (Shedding::Learning, 0));
        assert_eq!(after(0.1, CALM - 1), (Shedding::Learning, 0));
        assert_eq!(after(0.1, 1), (Shedding::Usage, 1));
        assert_eq!(after(0.1, 2 * CALM), (Shedding::Nothing, 2));
    }

    #[test]
    fn any_of_the_three_is_pressure() {
        for sample in [
            Sample { cpu: 1.0, ..Sample::default() },
            Sample { memory: 1.0, ..Sample::default() },
            Sample { waiting: 1.0, ..Sample::default() },
        ] {
            let mut load = Load::default();
            assert!(load.second(sample), "{sample:?}");
        }
    }
}
