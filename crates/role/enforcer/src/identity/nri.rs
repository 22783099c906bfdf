//! The plug-in of NRI: a runtime asks before it starts a container, and waits until that is in its place.
//!
//! By itself the enforcer is in time for as long as it gets the CPU, see [`super::placer`]; with NRI it is at any load.
//! What cannot be placed starts or does not as the group's `fail_mode` says; while there is no connection the runtime
//! starts everything without asking.

use std::path::PathBuf;
use std::time::Duration;

use nv_model::name::GroupName;
use nv_runtime::cgroup;
use nv_runtime::nri::{self, Told};
use tokio_util::sync::CancellationToken;

use crate::identity::desk::{Desk, NotPlaced};

/// How long a container may wait here: runtimes give a plug-in up that does not answer within two seconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers the runtime at this socket, until the desk's rows are others.
pub(crate) async fn serve(desk: Desk, socket: PathBuf) {
    let shutdown = CancellationToken::new();
    tokio::select! {
        () = nri::serve(socket, Plugin(&desk), shutdown) => {}
        () = desk.closed() => {}
    }
}

struct Plugin<'a>(&'a Desk);

impl Plugin<'_> {
    async fn place(&self, container: &Told) -> Result<GroupName, NotPlaced> {
        // Its process tells where it is in the host's eyes, also where the runtime itself runs in a container.
        let by_process = match container.pid {
            0 => Err(NotPlaced::unknown("the runtime names no process".to_owned())),
            pid => self.0.place_process(pid).await,
        };
        match (by_process, cgroup::from_spec(&container.cgroups_path)) {
            (Err(NotPlaced { group: None, .. }), Some(path)) => self.0.place(&path).await,
            (by_process, _) => by_process,
        }
    }
}

impl nri::Desk for Plugin<'_> {
    async fn starting(&self, container: Told) -> Result<(), String> {
        let placed = tokio::time::timeout(PATIENCE, self.place(&container)).await;
        let missing = match placed {
            Ok(Ok(group)) => {
                tracing::debug!(container = container.id, %group, "a container that starts is in its place");
                return Ok(());
            }
            Ok(Err(missing)) => missing,
            Err(_late) => NotPlaced::unknown("its runtime does not tell what it is".to_owned()),
        };
        let closed = self.0.rows.fails_closed(missing.group.as_ref());
        tracing::warn!(
            container = container.id, reason = %missing, starts = !closed,
            "a container is not in its place before it starts"
        );
        if closed {
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
}
