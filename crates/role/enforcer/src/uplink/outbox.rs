//! What waits for the controller: numbered observations, bounded, kept until they are acknowledged.

use std::collections::VecDeque;

use nv_model::observation::{Observation, Sequence};
use nv_model::vitals::Drops;

use crate::uplink::worth::{self, Worth};

/// Most observations that wait. At about 500 bytes each this is 16 MiB.
pub(crate) const MAX_WAITING: usize = 32_768;
/// How many go at once when it is full, at most.
const BUNDLE: usize = 256;
/// Most observations in one message.
pub(crate) const MAX_BATCH: usize = 512;

/// Observations in order, each with its number.
///
/// When it is full, what is least worth goes first ([`Worth`]), the oldest before others; a number is given only to what
/// is kept, so that numbers have no gap, and every drop is counted.
#[derive(Debug)]
pub(crate) struct Outbox {
    waiting: VecDeque<Observation>,
    /// Number of the first one in `waiting`.
    first: u64,
    /// How many of `waiting` were sent on this connection.
    sent: usize,
    /// How many of `waiting` were ever sent: their numbers are given and must stay.
    numbered: usize,
    dropped: u64,
    drops: Drops,
}

impl Outbox {
    /// Empty; the next observation gets the number `next`.
    pub(crate) fn new(next: Sequence) -> Self {
        Self {
            waiting: VecDeque::new(),
            first: next.0.max(1),
            sent: 0,
            numbered: 0,
            dropped: 0,
            drops: Drops::default(),
        }
    }
    /// Takes an observation.
    pub(crate) fn push(&mut self, observation: Observation) {
        if self.waiting.len() >= MAX_WAITING && !self.make_room(worth::of(&observation).1) {
            self.count(&observation);
            return;
        }
        self.waiting.push_back(observation);
    }

    /// Drops what is least worth and not worth more than `worth`, a bundle at a time: looking for each single one
    /// through the whole queue would cost more than it saves. Only what was never sent may go: the rest has numbers.
    fn make_room(&mut self, worth: Worth) -> bool {
        for least in Worth::ALL.into_iter().filter(|least| *least <= worth) {
            let (mut at, mut gone) = (0_usize, Vec::new());
            let numbered = self.numbered;
            self.waiting.retain(|held| {
                let stays = at < numbered || gone.len() >= BUNDLE || worth::of(held).1 != least;
                if !stays {
                    gone.push(worth::of(held).0);
                }
                at += 1;
                stays
            });
            if !gone.is_empty() {
                for kind in gone {
                    self.dropped += 1;
                    worth::count(&mut self.drops, kind, 1);
                }
                return true;
            }
        }
        false
    }

    fn count(&mut self, observation: &Observation) {
        self.dropped += 1;
        worth::count(&mut self.drops, worth::of(observation).0, 1);
    }
    /// The next ones to send and the number of the first, at most [`MAX_BATCH`].
    pub(crate) fn next_batch(&mut self) -> Option<(Sequence, Vec<Observation>)> {
        let batch: Vec<Observation> = self.waiting.iter().skip(self.sent).take(MAX_BATCH).cloned().collect();
        if batch.is_empty() {
            return None;
        }
        let first = Sequence(self.first + self.sent as u64);
        self.sent += batch.len();
        self.numbered = self.numbered.max(self.sent);
        Some((first, batch))
    }
    /// Everything up to `through` is stored at the controller.
    pub(crate) fn acknowledge(&mut self, through: Sequence) {
        while self.first <= through.0 && self.waiting.pop_front().is_some() {
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
            self.numbered = self.numbered.saturating_sub(1);
        }
    }
    /// A new connection: everything that is not acknowledged is sent again.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }
    /// Number of the oldest observation held; the next one to be given when none is.
    pub(crate) fn oldest(&self) -> Sequence {
        Sequence(self.first)
    }
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }
    /// How many were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
    /// The same by what they were about.
    pub(crate) fn drops(&self) -> Drops {
        self.drops
    }
}

#[cfg(test)]
mod tests {
    use nv_model::time::Timestamp;
    use nv_model::verdict::Verdict;

    use super::*;
    use crate::testing::ran;

    fn gone(n: usize) -> Observation {
        Observation::WorkloadGone { id: format!("w{n}").parse().unwrap(), at: Timestamp::NEVER }
    }
    fn usage() -> Observation {
        Observation::Usage { workload: None, usage: Default::default(), at: Timestamp::NEVER }
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_on_a_new_connection() {
        let mut outbox = Outbox::new(Sequence(5));
        for n in 0..3 {
            outbox.push(gone(n));
        }
        let (first, batch) = outbox.next_batch().unwrap();
        assert_eq!((first, batch.len()), (Sequence(5), 3));
        assert!(outbox.next_batch().is_none(), "nothing is sent twice on one connection");
        outbox.acknowledge(Sequence(6));
        outbox.rewind();
        assert_eq!(outbox.next_batch().unwrap(), (Sequence(7), vec![gone(2)]));
    }

    #[test]
    fn a_number_stays_with_its_observation() {
        let mut outbox = Outbox::new(Sequence(1));
        outbox.push(usage());
        outbox.push(gone(1));
        assert_eq!(outbox.next_batch().unwrap().1.len(), 2);
        outbox.rewind();
        for n in 0..MAX_WAITING {
            outbox.push(gone(n));
        }
        assert_eq!(outbox.next_batch().unwrap().1.first(), Some(&usage()), "a sent one is not dropped");
    }

    #[test]
    fn a_full_queue_drops_the_least_worth_first_and_counts_it() {
        let mut outbox = Outbox::new(Sequence(1));
        outbox.push(usage());
        outbox.push(ran("/bin/known", Verdict::Allow));
        outbox.push(ran("/bin/new", Verdict::Learn));
        for _ in 3..MAX_WAITING {
            outbox.push(ran("/tmp/evil", Verdict::Deny));
        }
        let left =
            |outbox: &Outbox, worth| outbox.waiting.iter().filter(|held| worth::of(held).1 == worth).count();
        for (times, gone) in [(1, Worth::Activity), (2, Worth::Usage), (3, Worth::Learning)] {
            outbox.push(ran("/tmp/evil", Verdict::Deny));
            assert_eq!((left(&outbox, gone), outbox.dropped()), (0, times), "{gone:?}");
        }
        outbox.push(ran("/bin/new", Verdict::Learn));
        assert_eq!(left(&outbox, Worth::Learning), 0, "what is worth less than all that waits is not taken");
        assert_eq!(outbox.drops(), Drops { exec: 3, usage: 1, ..Drops::default() });
        outbox.push(gone(1));
        assert_eq!(left(&outbox, Worth::State), 1, "a workload's end is told at the cost of old violations");
        assert!(outbox.len() <= MAX_WAITING);
    }

    #[test]
    fn an_acknowledgement_beyond_the_end_is_harmless() {
        let mut outbox = Outbox::new(Sequence(1));
        outbox.push(gone(1));
        outbox.acknowledge(Sequence(99));
        assert_eq!((outbox.len(), outbox.oldest()), (0, Sequence(2)));
    }
}
