//! What is installed in a container or on a node: its enforcer reads the files, and hands the list over in pieces.

use std::sync::Arc;
use std::time::Duration;

use nv_model::name::{NodeId, WorkloadId};
use nv_model::question::{Answer, AnswerError, Question};
use nv_model::scan::{BlobId, ScanFailure, ScanSource};
use nv_wire::bounds::MAX_REPORT_BYTES;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Scans;
use super::blobs::BlobError;
use super::queue::{Holder, Stage, Task};
use crate::Controller;
use crate::ask::AskError;

/// Lists that are gathered at one time.
const AT_ONCE: usize = 4;
/// Pause before a node is asked again whether it has read its files.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(2);
/// How long a node may read.
const DEADLINE: Duration = Duration::from_secs(10 * 60);
/// How often what waits is looked at, besides when something comes.
const LOOK: Duration = Duration::from_secs(5);

/// Until `shutdown`.
pub(crate) async fn run(scans: Scans, controller: Controller, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let task = loop {
            let now = scans.inner.clock.monotonic();
            let task = scans.state().queue.lease(Stage::Gather, &Holder::Gatherer, now);
            if let Some(task) = task {
                break task;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = scans.inner.gather.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        };
        scans.changed();
        let (scans, controller, ended) = (scans.clone(), controller.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = gather(&scans, &controller, &task) => {}
            }
            drop(place);
        });
    }
}

async fn gather(scans: &Scans, controller: &Controller, task: &Task) {
    let outcome = match tokio::time::timeout(DEADLINE, list(scans, controller, &task.request.source)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            Err(ScanFailure { message: "the node took too long to read its files".to_owned(), retry: false })
        }
    };
    match outcome {
        Ok(inventory) => {
            let mut state = scans.state();
            state.queue.gathered(task.id, inventory);
            state.dispatch(scans.inner.clock.monotonic());
            drop(state);
            scans.changed();
        }
        Err(failure) => scans.failed(&Holder::Gatherer, task.id, &failure),
    }
}

fn final_failure(message: impl Into<String>) -> ScanFailure {
    ScanFailure { message: message.into(), retry: false }
}

fn of_disk(error: &BlobError) -> ScanFailure {
    final_failure(format!("the list cannot be kept: {error}"))
}

fn of_ask(error: &AskError) -> ScanFailure {
    let retry = !matches!(
        error,
        AskError::Node { source: AnswerError::UnknownWorkload | AnswerError::UnknownQuestion, .. }
    );
    ScanFailure { message: error.to_string(), retry }
}

/// Whom to ask and of what.
fn place(controller: &Controller, source: &ScanSource) -> Result<(NodeId, Option<WorkloadId>), ScanFailure> {
    match source {
        ScanSource::Node(node) => Ok((node.clone(), None)),
        ScanSource::Workload(id) => {
            let view = controller.view();
            let workload = view.state.workloads.get(id).filter(|workload| workload.running);
            let workload = workload.ok_or_else(|| final_failure("the container does not run any more"))?;
            Ok((workload.node.clone(), Some(id.clone())))
        }
        ScanSource::Image(_) | ScanSource::Inventory(_) => Err(final_failure("nothing is to be listed")),
    }
}

async fn list(scans: &Scans, controller: &Controller, source: &ScanSource) -> Result<BlobId, ScanFailure> {
    let (node, workload) = place(controller, source)?;
    let most = u64::try_from(MAX_REPORT_BYTES).unwrap_or(u64::MAX);
    let mut writer = None;
    let (mut position, mut pause) = (0_u64, PAUSE);
    loop {
        let question = Question::Inventory { workload: workload.clone(), position };
        match controller.ask(&node, question).await.map_err(|error| of_ask(&error))? {
            Answer::InventoryReading => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            Answer::InventoryPiece { total, position: at, bytes } => {
                if at != position || total > most || (bytes.is_empty() && total > position) {
                    return Err(final_failure("the node sent another piece than it was asked for"));
                }
                position = position.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
                let blobs = scans.clone();
                // Half a megabyte to the disk at a time, on a thread for that.
                let written = tokio::task::spawn_blocking(move || {
                    let mut open = match writer {
                        Some(open) => open,
                        None => blobs.inner.blobs.writer(most)?,
                    };
                    open.write(&bytes)?;
                    Ok::<_, BlobError>(open)
                });
                let open = written
                    .await
                    .map_err(|_stopping| final_failure("the controller is stopping"))?
                    .map_err(|error| of_disk(&error))?;
                if position < total {
                    writer = Some(open);
                    continue;
                }
                let finished = tokio::task::spawn_blocking(move || open.finish());
                let (id, _) = finished
                    .await
                    .map_err(|_stopping| final_failure("the controller is stopping"))?
                    .map_err(|error| of_disk(&error))?;
                return Ok(id);
            }
            _ => return Err(final_failure("the node answered another question")),
        }
    }
}
