//! Attacks of one kind, told once in a while.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Connection, Told};

/// How long repeats are counted before they are told, in nanoseconds.
const WINDOW: u64 = 5_000_000_000;
/// Most kinds at one time; what comes beyond is told one by one.
const MAX_KINDS: usize = 1024;

/// An attack by whom on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind {
    threat: u32,
    ends: Option<(IpAddr, IpAddr, u16)>,
    stopped: bool,
}

#[derive(Debug)]
struct Open {
    since: u64,
    /// The last repeat, and how many there were.
    repeat: Option<Told>,
    repeats: u32,
}

/// Tells the first of a kind at once, and its repeats of the next five seconds as one.
#[derive(Debug, Default)]
pub(super) struct Fold {
    open: HashMap<Kind, Open>,
}

impl Fold {
    /// Takes an attack at `at`; gives it back when it is to be told now. `attack` is made only when it is kept.
    pub(super) fn take(
        &mut self,
        threat: u32,
        connection: Option<&Connection>,
        stopped: bool,
        at: u64,
        attack: impl FnOnce() -> Told,
    ) -> Option<Told> {
        let ends = connection.map(|one| (one.client.ip(), one.server.ip(), one.server.port()));
        let kind = Kind { threat, ends, stopped };
        if let Some(open) = self.open.get_mut(&kind) {
            open.repeats = open.repeats.saturating_add(1);
            if open.repeat.is_none() {
                open.repeat = Some(attack());
            }
            return None;
        }
        if self.open.len() < MAX_KINDS {
            self.open.insert(kind, Open { since: at, repeat: None, repeats: 0 });
        }
        Some(attack())
    }

    /// The repeats whose time is over at `now`.
    pub(super) fn due(&mut self, now: u64) -> Vec<Told> {
        let mut due = Vec::new();
        self.open.retain(|_, open| {
            if now.saturating_sub(open.since) < WINDOW {
                return true;
            }
            if let Some(mut told) = open.repeat.take() {
                if let Told::Attack { count, .. } | Told::Match { count, .. } = &mut told {
                    *count = open.repeats;
                }
                due.push(told);
            }
            false
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attack(at: u64) -> Told {
        Told::Attack {
            threat: 2022,
            connection: None,
            by_client: true,
            application: 0,
            packet: vec![],
            packet_bytes: 0,
            stopped: false,
            count: 1,
            at,
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_its_repeats_later_with_their_number() {
        let mut fold = Fold::default();
        assert_eq!(fold.take(2022, None, false, 1, || attack(1)), Some(attack(1)));
        for at in [2, 3, 4] {
            assert_eq!(fold.take(2022, None, false, at, || attack(at)), None);
        }
        assert!(fold.take(2008, None, false, 4, || attack(4)).is_some(), "another kind");
        assert_eq!(fold.due(WINDOW), []);
        let due = fold.due(WINDOW + 4);
        let [Told::Attack { count: 3, at: 2, .. }] = due.as_slice() else { panic!("{due:?}") };
        assert!(
            fold.take(2022, None, false, WINDOW + 5, || attack(5)).is_some(),
            "and then it is the first again"
        );
    }

    #[test]
    fn kinds_beyond_the_bound_are_told_one_by_one() {
        let mut fold = Fold::default();
        for threat in 0..2000 {
            assert!(fold.take(threat, None, false, 0, || attack(0)).is_some());
        }
        assert!(fold.take(1999, None, false, 0, || attack(0)).is_some());
        assert!(fold.take(0, None, false, 0, || attack(0)).is_none());
    }
}
