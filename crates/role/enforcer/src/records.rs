//! The kernel's records: a thread a ring, which hands batches to the agent.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::EnforcerError;
use crate::backlog::{Backlog, Tally};
use crate::keeper::{KeeperError, Named};
use crate::kernel::Kernel;

/// Opens the tables and starts the two readers of the rings.
pub(crate) fn open(
    mut process: Named,
    network: &Named,
    process_records: mpsc::Sender<Vec<nv_probe::Event>>,
    tally: Arc<Tally>,
    network_records: mpsc::Sender<Vec<nv_capture::Event>>,
) -> Result<Kernel, EnforcerError> {
    let strange = |error: String| EnforcerError::Keeper(KeeperError::Talk(error));
    let at = process
        .iter()
        .position(|(name, _)| name == "ring")
        .ok_or_else(|| strange("the ring of the process programs is missing".to_owned()))?;
    let (_, ring) = process.remove(at);
    let mut events = nv_probe::Events::from_descriptor(ring).map_err(|error| strange(error.to_string()))?;
    let mut backlog = Backlog::new(process_records, tally);
    spawn("process-records", move || {
        loop {
            match events.poll(Duration::from_millis(100)) {
                Ok(batch) => {
                    if !backlog.hand_on(batch) {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the process records cannot be read any more");
                    return;
                }
            }
        }
    })?;
    let mut events =
        nv_capture::Events::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    spawn("network-records", move || {
        loop {
            if let Err(error) = events.wait(Duration::from_millis(100)) {
                tracing::error!(%error, "the network records cannot be read any more");
                return;
            }
            let mut batch = Vec::new();
            events.drain(1024, &mut batch);
            if (batch.is_empty() && network_records.is_closed())
                || (!batch.is_empty() && network_records.blocking_send(batch).is_err())
            {
                return;
            }
        }
    })?;
    let tables = nv_probe::Tables::from_descriptors(process).map_err(|error| strange(error.to_string()))?;
    let flows = nv_capture::Flows::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    let counters =
        nv_capture::Counters::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    let network =
        nv_capture::Tables::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    Ok(Kernel::new(tables, network, flows, counters))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), EnforcerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(EnforcerError::Thread)
}
