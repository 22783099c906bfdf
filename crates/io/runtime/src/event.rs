use nv_model::name::WorkloadId;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;

use crate::Api;

/// What a [`crate::Watcher`] tells, in this order: `Up`, all that runs, `Listed`, changes, `Down`, and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeEvent {
    /// The runtime answers.
    Up {
        /// Its name: `containerd`, `cri-o`, `docker`.
        runtime: String,
        /// Its version.
        version: String,
        /// What it is asked in.
        api: Api,
        /// What it keeps its containers' root file systems by, as Docker names it (`overlay2`); empty where it does not say.
        storage: String,
    },
    /// Which process listens at the socket of a runtime that is spoken to over CRI alone, told after each `Up` of it. Such
    /// a runtime (CRI-O) sends processes into containers by itself, not only by what has started the container.
    Listener {
        /// Its process id, in the numbering of whoever watches.
        pid: u32,
    },
    /// The runtime does not answer (any more). Containers go on, and so does what is known of them; told once, then
    /// the watcher tries until it is `Up` again.
    Down {
        /// Why, for an operator.
        reason: String,
    },
    /// A container that was not known or of which something changed; complete, not a difference.
    Workload(Box<Workload>),
    /// A container's first process ended. The container may still exist.
    Stopped {
        /// Which.
        id: WorkloadId,
        /// Exit code, 128 + signal when it was killed, -1 when nobody knows (it ended and vanished while the
        /// runtime was down).
        exit_code: i32,
        /// When; the time of finding out where the runtime does not tell.
        at: Timestamp,
    },
    /// A container does not exist any more.
    Removed {
        /// Which.
        id: WorkloadId,
    },
    /// All that the runtime has was told since `Up`: what a consumer knows beyond that is gone.
    Listed,
}
