//! Threads that answer, and others in the place of those that hang: the kernel opens a file for whoever reads a question, and
//! a file system may let it wait for as long as it likes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who works on one question for longer is stuck.
const STUCK: Duration = Duration::from_millis(100);
/// Most threads of a crew with those that are stuck.
const MOST: usize = 16;

/// One thread, by what it says of itself.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// Since when it works on one question, or reads it.
    busy: Mutex<Option<Instant>>,
    /// Another one works in its place, and it is to end.
    replaced: AtomicBool,
}

impl Member {
    /// It begins with a question, or a look for one.
    pub(super) fn begins(&self) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
    /// It is done.
    pub(super) fn rests(&self) {
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    /// Whether it is to end.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Relaxed)
    }
    fn busy_for(&self) -> Option<Duration> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).map(|since| since.elapsed())
    }
    fn is_stuck(&self) -> bool {
        self.busy_for().is_some_and(|busy| busy > STUCK)
    }
}

/// Some threads.
#[derive(Debug, Default)]
pub(super) struct Crew(Vec<Arc<Member>>);

impl Crew {
    /// To be called now and then: has `wanted` threads that are not stuck, as far as there may be so many. `start` starts
    /// one, which holds its [`Member`] for as long as it runs. Whether one is there that is not stuck.
    pub(super) fn tend(
        &mut self,
        wanted: usize,
        mut start: impl FnMut(Arc<Member>) -> std::io::Result<()>,
    ) -> bool {
        // One that has ended is held here alone.
        self.0.retain(|one| Arc::strong_count(one) > 1);
        for one in self.0.iter().filter(|one| !one.is_replaced() && one.is_stuck()) {
            tracing::warn!("a thread that answers is stuck on a question, and another one takes its place");
            one.replaced.store(true, Ordering::Relaxed);
        }
        let working = self.0.iter().filter(|one| !one.is_replaced()).count();
        for _ in 0..wanted.saturating_sub(working).min(MOST.saturating_sub(self.0.len())) {
            let one = Arc::new(Member::default());
            match start(Arc::clone(&one)) {
                Ok(()) => self.0.push(one),
                Err(error) => tracing::error!(%error, "a thread for answers"),
            }
        }
        self.0.iter().any(|one| !one.is_replaced())
    }

    /// Whether one of them is at work that is not stuck.
    pub(super) fn is_busy(&self) -> bool {
        self.0.iter().any(|one| one.busy_for().is_some_and(|busy| busy <= STUCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members that run no thread, and hold on until they are dropped.
    fn tend(crew: &mut Crew, wanted: usize, threads: &mut Vec<Arc<Member>>) -> bool {
        crew.tend(wanted, |one| {
            threads.push(one);
            Ok(())
        })
    }

    fn hang(member: &Member) {
        *member.busy.lock().unwrap() = Instant::now().checked_sub(2 * STUCK);
    }

    #[test]
    fn who_is_stuck_is_replaced_and_ends_when_it_can_and_there_is_an_end_to_that() {
        let (mut crew, mut threads) = (Crew::default(), Vec::new());
        assert!(tend(&mut crew, 2, &mut threads) && threads.len() == 2);
        hang(&threads[0]);
        assert!(tend(&mut crew, 2, &mut threads) && threads.len() == 3);
        assert!(threads[0].is_replaced() && !threads[1].is_replaced());
        // It was not for ever.
        drop(threads.remove(0));
        assert!(tend(&mut crew, 2, &mut threads) && crew.0.len() == 2);
        while crew.0.len() < MOST {
            threads.iter().for_each(|one| hang(one));
            tend(&mut crew, 2, &mut threads);
        }
        threads.iter().for_each(|one| hang(one));
        assert!(!tend(&mut crew, 2, &mut threads), "all are stuck, and there are no more");
        assert!(!crew.is_busy(), "nobody is to be waited for");
    }
}
