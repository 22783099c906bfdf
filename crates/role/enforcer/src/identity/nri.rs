//! The plug-in of NRI: a runtime asks before it starts a container, and waits until that is in its place.
//!
//! By itself the enforcer is in time for as long as it gets the CPU, see [`super::placer`]; with NRI it is at any load.
//! What cannot be placed starts or does not as the group's `fail_mode` says; while there is no connection the runtime
//! starts everything without asking.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nv_model::name::GroupName;
use nv_runtime::cgroup;
use nv_runtime::nri::{self, Told};
use tokio_util::sync::CancellationToken;

use crate::identity::desk::{Desk, NotPlaced};

/// How long a container may wait here: runtimes give a plug-in up that does not answer within two seconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// What came of being asked, since the enforcer's start.
#[derive(Debug, Default)]
struct Counts {
    /// 1 while a runtime asks.
    connected: AtomicU64,
    asked: AtomicU64,
    not_placed: AtomicU64,
    refused: AtomicU64,
}

/// Where a runtime takes plug-ins.
#[derive(Clone, Debug)]
pub(crate) struct Nri {
    socket: PathBuf,
    counts: Arc<Counts>,
}

impl Nri {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket, counts: Arc::default() }
    }

    /// Answers the runtime, until the desk's rows are others.
    pub(crate) async fn serve(self, desk: Desk) {
        let plugin = Plugin { desk: &desk, counts: &self.counts };
        tokio::select! {
            () = nri::serve(self.socket.clone(), plugin, CancellationToken::new()) => {}
            () = desk.closed() => self.counts.connected.store(0, Ordering::Relaxed),
        }
    }

    pub(crate) fn counters(&self) -> [(&'static str, u64); 4] {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("nri.connected", read(&self.counts.connected)),
            ("nri.asked", read(&self.counts.asked)),
            ("nri.not_placed", read(&self.counts.not_placed)),
            ("nri.refused", read(&self.counts.refused)),
        ]
    }
}

struct Plugin<'a> {
    desk: &'a Desk,
    counts: &'a Counts,
}

impl Plugin<'_> {
    async fn place(&self, container: &Told) -> Result<GroupName, NotPlaced> {
        // Its process tells where it is in the host's eyes, also where the runtime itself runs in a container.
        let by_process = match container.pid {
            0 => Err(NotPlaced::unknown("the runtime names no process".to_owned())),
            pid => self.desk.place_process(pid).await,
        };
        match (by_process, cgroup::from_spec(&container.cgroups_path)) {
            (Err(NotPlaced { group: None, .. }), Some(path)) => self.desk.place(&path).await,
            (by_process, _) => by_process,
        }
    }
}

impl nri::Desk for Plugin<'_> {
    async fn starting(&self, container: Told) -> Result<(), String> {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        let placed = tokio::time::timeout(PATIENCE, self.place(&container)).await;
        let missing = match placed {
            Ok(Ok(group)) => {
                tracing::debug!(container = container.id, %group, "a container that starts is in its place");
                return Ok(());
            }
            Ok(Err(missing)) => missing,
            Err(_late) => NotPlaced::unknown("its runtime does not tell what it is".to_owned()),
        };
        self.counts.not_placed.fetch_add(1, Ordering::Relaxed);
        let closed = self.desk.rows.fails_closed(missing.group.as_ref());
        tracing::warn!(
            container = container.id, reason = %missing, starts = !closed,
            "a container is not in its place before it starts"
        );
        if closed {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            Err(format!("the enforcer has not placed the container, and its group fails closed: {missing}"))
        } else {
            Ok(())
        }
    }

    async fn present(&self, container: Told) {
        if let Err(missing) = self.place(&container).await {
            tracing::debug!(container = container.id, reason = %missing, "a container of the runtime's list");
        }
    }

    fn asked(&self, by_runtime: bool) {
        self.counts.connected.store(u64::from(by_runtime), Ordering::Relaxed);
    }
}
