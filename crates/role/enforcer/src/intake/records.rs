//! The kernel's records: a thread a ring, which hands batches to the agent.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::EnforcerError;
use crate::identity::desk::Desk;
use crate::identity::nri::Nri;
use crate::identity::placer::{CgroupNews, Placement, Placer};
use crate::intake::backlog::{Backlog, Tally};
use crate::intake::cgroup_watch::CgroupWatch;
use crate::keeper::{KeeperError, Named, ProtocolError, Seen, Told, receive};
use crate::policy::kernel::Kernel;

/// Where records go.
#[derive(Clone)]
pub(crate) struct Readers {
    /// Whether the rings are still written to: with false their readers end.
    pub(crate) alive: Arc<AtomicBool>,
    pub(crate) process: mpsc::Sender<Vec<nv_probe::Event>>,
    /// What the reader of these had to drop.
    pub(crate) tally: Arc<Tally>,
    pub(crate) network: mpsc::Sender<Vec<nv_capture::Event>>,
    pub(crate) cgroups: mpsc::Sender<CgroupNews>,
    pub(crate) identifiers: nv_runtime::Identifiers,
    pub(crate) placement: Arc<Placement>,
    pub(crate) cgroup_root: Option<PathBuf>,
    /// Where the OCI hook asks.
    pub(crate) hook: PathBuf,
    /// Where the runtime takes plug-ins of NRI, if it shall be answered there.
    pub(crate) nri: Option<Nri>,
    /// Networks that only services have addresses of.
    pub(crate) service_ranges: Vec<ipnet::IpNet>,
}

/// Opens the tables and starts a reader a ring.
pub(crate) fn open(mut process: Named, network: &Named, to: Readers) -> Result<Kernel, EnforcerError> {
    let strange = |error: String| EnforcerError::Keeper(KeeperError::Talk(error));
    let mut events = ring(&mut process, "ring")?;
    let mut cgroup_events = ring(&mut process, "cgroup_ring")?;
    let copies: std::io::Result<Named> =
        process.iter().map(|(name, table)| Ok((name.clone(), table.try_clone()?))).collect();
    let copies = copies.map_err(|error| strange(error.to_string()))?;
    let placer = Placer {
        tables: Some(Arc::new(
            nv_probe::Tables::from_descriptors(copies).map_err(|error| strange(error.to_string()))?,
        )),
        places: Some(Arc::new(
            nv_capture::Places::from_descriptors(network).map_err(|error| strange(error.to_string()))?,
        )),
        tasks: tokio::runtime::Handle::current(),
        identifiers: to.identifiers,
        placement: to.placement,
        cgroup_root: to.cgroup_root,
        agent: to.cgroups,
        alive: Arc::clone(&to.alive),
    };
    let desk =
        Desk { identifiers: placer.identifiers.clone(), rows: placer.rows(), alive: Arc::clone(&to.alive) };
    if let Some(nri) = to.nri {
        tokio::spawn(nri.serve(desk.clone()));
    }
    tokio::spawn(desk.serve_hook(to.hook));
    spawn("new-cgroups", move || placer.run(|patience| cgroup_events.poll(patience)))?;
    let (process_records, tally, network_records) = (to.process, to.tally, to.network);
    let alive = Arc::clone(&to.alive);
    let mut backlog = Backlog::new(process_records, Arc::clone(&tally));
    spawn("process-records", move || {
        loop {
            match events.poll(Duration::from_millis(100)) {
                Ok(batch) => {
                    tally.tell(events.reading());
                    if !backlog.hand_on(batch) || !alive.load(Ordering::Relaxed) {
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
            if !to.alive.load(Ordering::Relaxed)
                || (batch.is_empty() && network_records.is_closed())
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
    let places = nv_capture::Places::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    let tap = nv_capture::Tap::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    let network =
        nv_capture::Tables::from_descriptors(network).map_err(|error| strange(error.to_string()))?;
    network.set_service_ranges(&to.service_ranges).map_err(|error| strange(error.to_string()))?;
    Ok(Kernel::new(tables, network, places, flows, counters, tap))
}

/// Where there are no rings: new cgroups are heard of by inotify.
pub(crate) fn without_kernel(to: Readers) -> Result<(), EnforcerError> {
    if to.nri.is_some() {
        tracing::warn!("NRI is left aside: it takes BPF to put a container in its place before it starts");
    }
    let Some(root) = &to.cgroup_root else { return Ok(()) };
    let mut watch = CgroupWatch::new(root).map_err(EnforcerError::Thread)?;
    let placer = Placer {
        tables: None,
        places: None,
        tasks: tokio::runtime::Handle::current(),
        identifiers: to.identifiers,
        placement: to.placement,
        cgroup_root: to.cgroup_root,
        agent: to.cgroups,
        alive: to.alive,
    };
    spawn("new-cgroups", move || placer.run(|patience| watch.poll(patience)))
}

/// Reads what the keeper tells of programs, until it ends.
pub(crate) fn read_programs(socket: OwnedFd, told: mpsc::Sender<Told>) -> Result<(), EnforcerError> {
    spawn("programs", move || {
        loop {
            match receive::<Told>(socket.as_fd()) {
                Ok((one, _)) => {
                    if told.blocking_send(one).is_err() {
                        return;
                    }
                }
                Err(ProtocolError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "what runs is not told any more");
                    return;
                }
            }
        }
    })
}

fn ring(process: &mut Named, name: &str) -> Result<nv_probe::Events, EnforcerError> {
    let strange = |error: String| EnforcerError::Keeper(KeeperError::Talk(error));
    let at = process.iter().position(|(held, _)| held == name);
    let at = at.ok_or_else(|| strange(format!("the {name} of the process programs is missing")))?;
    let (_, ring) = process.remove(at);
    nv_probe::Events::from_descriptor(ring).map_err(|error| strange(error.to_string()))
}

/// Reads what the keeper reports on files, until it ends.
pub(crate) fn read_files(socket: OwnedFd, records: mpsc::Sender<Seen>) -> Result<(), EnforcerError> {
    spawn("file-records", move || {
        loop {
            match receive::<Seen>(socket.as_fd()) {
                Ok((seen, _)) => {
                    if records.blocking_send(seen).is_err() {
                        return;
                    }
                }
                Err(ProtocolError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "what happens to files is not reported any more");
                    return;
                }
            }
        }
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), EnforcerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(EnforcerError::Thread)
}
