//! Makes rules ready in a thread of its own, so that packets are read meanwhile.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::confine::confine;
use super::rules::Rules;
use super::sensing::{self, Ready};

/// Longest reason, in bytes.
const MAX_REASON: usize = 1000;

/// Has the allocator ask the kernel what it asks but once, and may not any more afterwards: for the number of processors at a
/// thread's first allocation, and in `/proc/sys/vm/overcommit_memory` when a thread's memory first shrinks (glibc 2.36,
/// `shrink_heap`).
fn settle_memory() {
    // Each below what is mapped by itself, together more than what is kept.
    let pieces: Vec<Vec<u8>> = (0..64).map(|_| Vec::with_capacity(1 << 14)).collect();
    drop(std::hint::black_box(pieces));
}

/// The thread.
#[derive(Debug)]
pub(super) struct Compiler {
    work: SyncSender<(u64, OwnedFd)>,
    done: Receiver<Made>,
}

/// Rules of this number are ready, or refused.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) revision: u64,
    pub(super) made: Result<Ready, String>,
}

impl Compiler {
    /// Starts it. It is confined as the calling thread will be, before it looks at anything.
    pub(super) fn start() -> Result<Self, String> {
        let (work, todo) = sync_channel::<(u64, OwnedFd)>(1);
        let (made, done) = sync_channel(1);
        let (confined, is_confined) = sync_channel(1);
        let run = move || {
            settle_memory();
            // Packets are more urgent than rules. On Linux it is the thread's own.
            let _lower = rustix::process::setpriority_process(None, 0);
            let outcome = confine(None, None).map_err(|error| nv_telemetry::chain(&error));
            let works = outcome.is_ok();
            if confined.send(outcome).is_err() || !works {
                return;
            }
            let mut last = sensing::Made::default();
            for (revision, file) in todo {
                let ready = Rules::read(file.as_fd()).and_then(|rules| Ready::compile(rules, &mut last));
                let ready = ready.map_err(|mut reason| {
                    let end = (0..=MAX_REASON).rev().find(|end| reason.is_char_boundary(*end));
                    reason.truncate(end.unwrap_or(0));
                    reason
                });
                if made.send(Made { revision, made: ready }).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("compiler".to_owned())
            .spawn(run)
            .map_err(|error| format!("a thread for rules: {error}"))?;
        is_confined.recv().map_err(|_gone| "the thread for rules has ended".to_owned())??;
        Ok(Self { work, done })
    }

    /// Has rules made ready. The agent hands over one set at a time; another one is refused meanwhile.
    pub(super) fn make(&self, revision: u64, file: OwnedFd) -> Option<Made> {
        self.work
            .try_send((revision, file))
            .err()
            .map(|_full| Made { revision, made: Err("the set before is still being compiled".to_owned()) })
    }

    /// What is ready since this was asked last.
    pub(super) fn made(&self) -> Option<Made> {
        self.done.try_recv().ok()
    }
}
