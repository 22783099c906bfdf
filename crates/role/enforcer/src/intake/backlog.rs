//! Records between the kernel's ring and the agent.
//!
//! The ring drops whatever comes when it is full, be it a fork or a denial. So it is emptied always, and what the agent
//! is too slow for waits here, where it can be told apart: the least worth goes first, and every drop is counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nv_model::vitals::Drops;
use nv_probe::Event;
use nv_probe::events::Reading;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::uplink::worth::{Kind, Worth};

/// Most records that wait. At about 400 bytes each this is 6 MiB.
const MAX_WAITING: usize = 16_384;

/// What went on between reader and agent, read by the agent.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    waiting: AtomicUsize,
    exec: AtomicU64,
    lifecycle: AtomicU64,
    file: AtomicU64,
    behaviour: AtomicU64,
    read: AtomicU64,
    missing: AtomicU64,
    malformed: AtomicU64,
}

impl Tally {
    /// How full it is, 1.0 for full.
    pub(crate) fn fill(&self) -> f64 {
        let waiting = u32::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        f64::from(waiting) / MAX_WAITING as f64
    }
    /// What the ring's reader has seen, told by it after each batch.
    pub(crate) fn tell(&self, seen: Reading) {
        self.read.store(seen.read, Ordering::Relaxed);
        self.missing.store(seen.missing, Ordering::Relaxed);
        self.malformed.store(seen.malformed, Ordering::Relaxed);
    }
    /// What the ring's reader has seen since it began.
    pub(crate) fn seen(&self) -> Reading {
        Reading {
            read: self.read.load(Ordering::Relaxed),
            missing: self.missing.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
        }
    }
    /// What was dropped since the start.
    pub(crate) fn drops(&self) -> Drops {
        Drops {
            exec: self.exec.load(Ordering::Relaxed),
            lifecycle: self.lifecycle.load(Ordering::Relaxed),
            file: self.file.load(Ordering::Relaxed),
            behaviour: self.behaviour.load(Ordering::Relaxed),
            ..Drops::default()
        }
    }
}

/// Hands records on, and holds what does not fit.
#[derive(Debug)]
pub(crate) struct Backlog {
    waiting: Vec<Event>,
    agent: mpsc::Sender<Vec<Event>>,
    tally: std::sync::Arc<Tally>,
}

impl Backlog {
    /// In front of the agent's queue.
    pub(crate) fn new(agent: mpsc::Sender<Vec<Event>>, tally: std::sync::Arc<Tally>) -> Self {
        Self { waiting: Vec::new(), agent, tally }
    }

    /// Takes what came, and hands on what the agent takes. False when the agent is gone.
    pub(crate) fn hand_on(&mut self, mut came: Vec<Event>) -> bool {
        self.waiting.append(&mut came);
        if self.waiting.is_empty() {
            return !self.agent.is_closed();
        }
        if self.waiting.len() > MAX_WAITING {
            self.shed();
        }
        let open = match self.agent.try_send(std::mem::take(&mut self.waiting)) {
            Ok(()) => true,
            Err(TrySendError::Full(back)) => {
                self.waiting = back;
                true
            }
            Err(TrySendError::Closed(_)) => false,
        };
        self.tally.waiting.store(self.waiting.len(), Ordering::Relaxed);
        open
    }

    /// Drops the least worth, until half is free or nothing is left but what nothing else tells.
    fn shed(&mut self) {
        for (kind, worth) in [
            (Kind::Lifecycle, Worth::Activity),
            (Kind::Exec, Worth::Activity),
            (Kind::Exec, Worth::Learning),
            (Kind::File, Worth::Learning),
            (Kind::Behaviour, Worth::Violation),
            (Kind::File, Worth::Violation),
            (Kind::Exec, Worth::Violation),
        ] {
            let before = self.waiting.len();
            let mut excess = before.saturating_sub(MAX_WAITING / 2);
            self.waiting.retain(|event| {
                let goes = excess > 0 && of(event) == (kind, worth);
                excess -= usize::from(goes);
                !goes
            });
            let gone = u64::try_from(before - self.waiting.len()).unwrap_or(u64::MAX);
            let counter = match kind {
                Kind::Lifecycle => &self.tally.lifecycle,
                Kind::File => &self.tally.file,
                Kind::Behaviour => &self.tally.behaviour,
                _ => &self.tally.exec,
            };
            counter.fetch_add(gone, Ordering::Relaxed);
            if self.waiting.len() <= MAX_WAITING / 2 {
                return;
            }
        }
    }
}

/// What a record is about, and its worth. New and gone cgroups are state: by them everything else has its owner.
fn of(event: &Event) -> (Kind, Worth) {
    match event {
        Event::Exec(exec) => (Kind::Exec, Worth::of(exec.verdict)),
        Event::File(file) => (Kind::File, Worth::of(file.verdict)),
        Event::Deed(_) => (Kind::Behaviour, Worth::Violation),
        Event::Fork { .. } | Event::Exit { .. } => (Kind::Lifecycle, Worth::Activity),
        Event::CgroupMade { .. } | Event::CgroupGone { .. } => (Kind::State, Worth::State),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn fork(pid: u32) -> Event {
        Event::Fork { at: Duration::ZERO, cgroup: 1, pid, parent_pid: 1 }
    }
    fn cgroup(id: u64) -> Event {
        Event::CgroupGone { at: Duration::ZERO, id, path: String::new() }
    }

    #[test]
    fn a_slow_agent_gets_what_is_worth_most_and_the_rest_is_counted() {
        let (agent, mut records) = mpsc::channel(1);
        let tally = Arc::new(Tally::default());
        let mut backlog = Backlog::new(agent, Arc::clone(&tally));
        assert!(backlog.hand_on(vec![fork(1)]), "this one fills the queue");
        assert!(backlog.hand_on(vec![cgroup(7)]));
        for pid in 0..100_000 {
            assert!(backlog.hand_on(vec![fork(pid)]));
        }
        assert!(tally.fill() <= 1.0 && tally.drops().lifecycle > 80_000, "{tally:?}");
        drop(records.try_recv());
        assert!(backlog.hand_on(Vec::new()));
        let came = records.try_recv().unwrap();
        assert!(came.contains(&cgroup(7)), "a cgroup's end is never dropped for forks");
        assert_eq!(came.len() as u64 - 1 + tally.drops().lifecycle, 100_000, "nothing is lost uncounted");
        drop(records);
        assert!(!backlog.hand_on(vec![fork(1)]), "the reader ends with the agent");
    }
}
