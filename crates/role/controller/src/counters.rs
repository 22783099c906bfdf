//! What the controller counts; every bound that was hit is one of these.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $bump:ident;)*) => {
        /// Totals since the start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $field: AtomicU64,)*
            /// Observations whose numbers never came.
            pub missing: AtomicU64,
            /// Records written to the log.
            pub logged: AtomicU64,
            /// Changes that learning planned.
            pub learned: AtomicU64,
        }
        impl Counters {
            /// All of them, by name.
            #[must_use]
            pub fn by_name(&self) -> Vec<(&'static str, u64)> {
                vec![
                    $((stringify!($field), self.$field.load(Ordering::Relaxed)),)*
                    ("missing", self.missing.load(Ordering::Relaxed)),
                    ("logged", self.logged.load(Ordering::Relaxed)),
                    ("learned", self.learned.load(Ordering::Relaxed)),
                ]
            }
            $(pub(crate) fn $bump(&self) {
                self.$field.fetch_add(1, Ordering::Relaxed);
            })*
        }
    };
}

counters! {
    /// Observations taken in.
    observations => observed;
    /// Observations and records that came twice and counted once.
    duplicates => duplicate;
    /// Messages of a node about what is another node's; its link was closed.
    overstepped => overstepped;
    /// Rounds that could not be made durable; their batches were not acknowledged.
    not_stored => not_stored;
    /// Programs and links that found the learner full, or that the store did not take.
    learning_dropped => learning_dropped;
    /// Internal writes that found the writer's queue full.
    writes_refused => writes_refused;
    /// Policies compiled.
    compiled => compiled;
    /// Policies and deltas sent.
    pushed => pushed;
    /// Questions to nodes that were turned away: too many waited, or the link's queue was full.
    asks_refused => ask_refused;
    /// Checkpoints written.
    checkpoints => checkpointed;
}

impl Counters {
    pub(crate) fn missing(&self, count: u64) {
        self.missing.fetch_add(count, Ordering::Relaxed);
    }
    pub(crate) fn logged(&self, count: usize) {
        self.logged.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    pub(crate) fn learned(&self, count: usize) {
        self.learned.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
