//! Looks into containers, each on a thread of its own: a file system that a container serves itself (FUSE) may let whoever
//! looks a name up wait for ever. Such a thread is left behind, and everybody else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Longest look. Rules may mean tens of thousands of files.
const LONGEST: Duration = Duration::from_secs(5);
/// Most threads that are left behind. With so many nothing is looked at any more until one of them comes back.
const MOST: usize = 16;

/// Threads that were left behind.
#[derive(Debug, Default)]
pub(super) struct Apart(Arc<AtomicUsize>);

impl Apart {
    /// Does it; `None` when it did not end in time.
    pub(super) fn look<T: Send + 'static>(&self, look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.within(LONGEST, look)
    }

    fn within<T: Send + 'static>(
        &self,
        longest: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.0.load(Ordering::Relaxed) >= MOST {
            tracing::error!(most = MOST, "files of no container are looked up: every look before hangs");
            return None;
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        let (ends, ended) = sync_channel(1);
        let left = Arc::clone(&self.0);
        let started = std::thread::Builder::new().name("file-look".to_owned()).spawn(move || {
            let found = look();
            left.fetch_sub(1, Ordering::Relaxed);
            // Nobody waits any more where it took too long.
            drop(ends.send(found));
        });
        if let Err(error) = started {
            self.0.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(%error, "a thread for files");
            return None;
        }
        ended.recv_timeout(longest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_left_behind_and_there_is_an_end_to_that() {
        let apart = Apart::default();
        assert_eq!(apart.look(|| 7), Some(7));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        for _ in 0..MOST {
            let wait = Arc::clone(&wait);
            let hangs = move || wait.lock().unwrap().recv().is_err();
            assert_eq!(apart.within(Duration::from_millis(1), hangs), None);
        }
        assert_eq!(apart.look(|| 7), None, "too many hang");
        drop(go);
        while apart.0.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(apart.look(|| 7), Some(7));
    }
}
