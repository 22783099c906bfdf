//! Looks into containers, each on a thread of its own: a file system that a container serves itself (FUSE) may let whoever
//! looks a name up wait for ever. Such a thread is left behind, and everybody else goes on.

use std::collections::HashSet;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::names::Key;

/// Longest look. Rules may mean tens of thousands of files.
const LONGEST: Duration = Duration::from_secs(5);
/// Most containers whose looks are left behind. With so many nothing is looked at any more until one of them comes back.
const MOST: usize = 16;

/// Whose looks were left behind: one of each, so that a container takes no more than its own.
#[derive(Debug, Default)]
pub(super) struct Apart(Arc<Mutex<HashSet<Key>>>);

impl Apart {
    /// Does it; `None` when it did not end in time, or one before it still hangs.
    pub(super) fn look<T: Send + 'static>(
        &self,
        whose: &Key,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.within(LONGEST, whose, look)
    }

    fn within<T: Send + 'static>(
        &self,
        longest: Duration,
        whose: &Key,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        {
            let mut left = lock(&self.0);
            if left.contains(whose) {
                return None;
            }
            if left.len() >= MOST {
                tracing::error!(most = MOST, "files of no container are looked up: every look before hangs");
                return None;
            }
            left.insert(whose.clone());
        }
        let (ends, ended) = sync_channel(1);
        let (left, key) = (Arc::clone(&self.0), whose.clone());
        let started = std::thread::Builder::new().name("file-look".to_owned()).spawn(move || {
            let found = look();
            lock(&left).remove(&key);
            // Nobody waits any more where it took too long.
            drop(ends.send(found));
        });
        if let Err(error) = started {
            lock(&self.0).remove(whose);
            tracing::error!(%error, "a thread for files");
            return None;
        }
        ended.recv_timeout(longest).ok()
    }
}

fn lock(left: &Mutex<HashSet<Key>>) -> MutexGuard<'_, HashSet<Key>> {
    left.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use nv_model::name::WorkloadId;

    use super::*;

    fn container(number: usize) -> Key {
        Some(format!("{number:064x}").parse::<WorkloadId>().unwrap())
    }

    #[test]
    fn what_hangs_is_left_behind_once_a_container_and_there_is_an_end_to_that() {
        let apart = Apart::default();
        assert_eq!(apart.look(&None, || 7), Some(7));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for number in 0..MOST {
            assert_eq!(apart.look(&None, || 7), Some(7), "{number} others hang");
            let wait = Arc::clone(&wait);
            let hangs = move || wait.lock().unwrap().recv().is_err();
            assert_eq!(apart.within(Duration::from_millis(1), &container(number), hangs), None);
            assert_eq!(apart.look(&container(number), || 7), None, "its look before hangs");
        }
        assert_eq!(apart.look(&None, || 7), None, "too many hang");
        drop(go);
        while !lock(&apart.0).is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(apart.look(&container(0), || 7), Some(7));
    }
}
