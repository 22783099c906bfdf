//! The enforcer of a node.
//!
//! Its processes: the **agent** (this one: runtimes, policy, the link to the controller, no raw packet), the **keeper**
//! ([`keeper_main`]: small and privileged, loads BPF, attaches it and hands descriptors on), the **inspector**
//! ([`inspector_main`]: reads packets, and may do nothing else) and, while a scan goes on, a **reader** ([`reader_main`]:
//! reads files of containers, likewise). What the keeper pinned goes on judging by the last policy when all are gone.
//!
//! The folders are the way that data goes: `intake` (what the kernel and the runtimes tell) → `identity` (whose it is) →
//! `policy` (what is decided) → `activity` (what goes on, folded) → `uplink` (what is sent). `agent` leads it from
//! one to the next; `keeper` and `inspector` are what the processes of these names run.
//!
//! Follow an exec: `nv_probe` ring → `intake::records` → `Agent::process_events` → `uplink::outbox` → `uplink::link`. Follow
//! a packet: kernel verdict → `nv_capture` ring or sweep → `Agent::network_events` → the same. Follow a policy:
//! `uplink::link` → `Agent::policy` → `policy::kernel::Kernel::apply` → tables, disk, acknowledgement.

mod activity;
mod agent;
pub mod command;
mod config;
mod identity;
mod inspector;
mod intake;
mod keeper;
mod node;
mod policy;
pub mod privileges;
#[cfg(test)]
mod testing;
mod uplink;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use activity::installed::reader_main;
pub use config::{Budget, EnforcerConfig, EnforcerError};
use futures::future::BoxFuture;
pub use inspector::inspector_main;
pub use keeper::{KeeperError, Launcher, Tried, keeper_main, launcher_main, try_each};
use nv_model::node::Capabilities;
use nv_telemetry::Clock;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
pub use uplink::join::{JoinError, JoinToken};

use crate::agent::{Agent, Setup};
use crate::identity::placer::Placement;
use crate::identity::{nri, oci_hook};
use crate::intake::backlog::Tally;
use crate::intake::records::Readers;
use crate::intake::{records, runtimes};
use crate::keeper::Keeper;
use crate::policy::held::Held;
use crate::uplink::link::{Dial, LinkEvent};
use crate::uplink::{join, link};

/// Batches of records that may wait for the agent, for each ring.
const MAX_WAITING: usize = 64;
/// Reports on files that may wait for the agent; the socket before it holds some hundred more.
const MAX_FILE_RECORDS: usize = 1024;
/// Packets of words of the inspector that may wait for the agent.
const MAX_HEARD: usize = 256;
/// Events of programs that the keeper judges that may wait for the agent; the socket before it holds some thousand more.
const MAX_PROGRAMS: usize = 4096;
/// New and removed cgroups that may wait for the agent.
const MAX_CGROUP_NEWS: usize = 1024;

/// What this machine's kernel allows: every mechanism of `from_tier` and later ones is loaded and fired. Needs root; takes about a second.
#[must_use]
pub fn capabilities(trial: &nv_probe::Trial, from_tier: u8) -> Capabilities {
    keeper::try_all(trial, from_tier)
}

/// Runs the enforcer until `shutdown`. Enforcement itself goes on after it. `on_ready` is told once what the kernel
/// allows.
///
/// # Errors
/// [`EnforcerError`] when it cannot start. An absent controller or runtime is no error: it waits for them.
pub fn run(
    config: EnforcerConfig,
    clock: Arc<dyn Clock>,
    on_ready: fn(&Capabilities),
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), EnforcerError>> {
    // In a box: it is compiled here, and not anew in each program that starts one.
    Box::pin(run_until(config, clock, on_ready, shutdown))
}

async fn run_until(
    config: EnforcerConfig,
    clock: Arc<dyn Clock>,
    on_ready: fn(&Capabilities),
    shutdown: CancellationToken,
) -> Result<(), EnforcerError> {
    let folder = config.state_dir.join("enforcer");
    let fail = |source| EnforcerError::StateDir { path: folder.clone(), source };
    node::make_private(&folder).map_err(fail)?;
    let id = node::node_id().ok_or(EnforcerError::NoNodeId)?;
    let held_path = folder.join("policy.json");
    let held = Held::load(&held_path)?;

    let (launcher, bpf_dir) = (Arc::clone(&config.launcher), config.bpf_dir.clone());
    let (keeper, handed) = tokio::task::spawn_blocking(move || Keeper::start(&launcher, &bpf_dir))
        .await
        .map_err(|error| KeeperError::Talk(error.to_string()))??;
    on_ready(&handed.capabilities);
    tracing::info!(keeper = keeper.pid(), tier = handed.capabilities.tier, "kernel tried");

    let host = nv_capture::netns::host_interfaces().unwrap_or_default();
    let mut node = node::describe(id.clone(), node::addresses(&host));
    node.storage_driver = "overlayfs".to_owned();
    let (later, mut later_done) = mpsc::channel(1024);
    let (runtime_events, mut runtime_turns) = mpsc::channel(MAX_WAITING);
    let identifiers = runtimes::follow(&config, &node, &clock, &runtime_events, &shutdown);
    let (process_records, mut process_events) = mpsc::channel(MAX_WAITING);
    let (network_records, mut network_events) = mpsc::channel(MAX_WAITING);
    let (cgroup_news, mut cgroup_turns) = mpsc::channel(MAX_CGROUP_NEWS);
    let (file_records, mut file_turns) = mpsc::channel(MAX_FILE_RECORDS);
    let (heard, mut heard_turns) = mpsc::channel(MAX_HEARD);
    if let Some(files) = handed.files {
        records::read_files(files, file_records.clone())?;
    }
    let tally = Arc::new(Tally::default());
    let placement = Arc::new(Placement::default());
    let cgroup_root = nv_probe::cgroup::unified_root().ok();
    let readers = Readers {
        alive: Arc::new(AtomicBool::new(true)),
        process: process_records,
        tally: Arc::clone(&tally),
        network: network_records,
        cgroups: cgroup_news,
        identifiers: identifiers.clone(),
        placement: Arc::clone(&placement),
        cgroup_root: cgroup_root.clone(),
        hook: folder.join(oci_hook::SOCKET),
        nri: config.nri_socket.clone().map(nri::Nri::at),
        service_ranges: config.service_ranges.clone(),
    };
    let (programs_told, mut program_turns) = mpsc::channel(MAX_PROGRAMS);
    let seating =
        handed.programs.map(|socket| agent::Seating::start(socket, programs_told.clone())).transpose()?;
    let kernel = match handed.tables {
        Ok((process, network)) => Some(records::open(process, &network, readers.clone())?),
        Err(reason) => {
            if seating.is_some() {
                tracing::warn!(reason, "programs are judged without BPF");
                records::without_kernel(readers.clone())?;
            } else {
                tracing::error!(reason, "nothing can be enforced on this machine");
            }
            None
        }
    };
    let mut agent = Agent::new(Setup {
        clock: Arc::clone(&clock),
        node,
        capabilities: handed.capabilities,
        started: clock.now(),
        held,
        held_path,
        kernel,
        seating,
        programs_told,
        keeper: Some(Arc::new(keeper)),
        launcher: Arc::clone(&config.launcher),
        file_records,
        bpf_dir: config.bpf_dir.clone(),
        budget: config.budget,
        inspectors: config.inspectors,
        secrets: config.secrets,
        log_level: config.log_level.clone(),
        tally,
        placement,
        pinned: handed.pinned,
        readers: Some(readers),
        cgroup_root,
        identifiers,
        heard,
        later,
    });

    let (link_events, mut link_turns) = mpsc::channel(16);
    let linking = tokio::spawn(keep_linked(config, id, folder, clock, link_events, shutdown.child_token()));

    let mut every = Ticks::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(events) = process_events.recv() => {
                // Whose cgroup it is must be known before what runs in it is told.
                while let Ok(news) = cgroup_turns.try_recv() {
                    agent.cgroup(news);
                }
                agent.process_events(events);
            }
            Some(news) = cgroup_turns.recv() => agent.cgroup(news),
            Some(seen) = file_turns.recv() => agent.file(seen),
            Some(words) = heard_turns.recv() => agent.heard(words),
            Some(told) = program_turns.recv() => {
                while let Ok(news) = cgroup_turns.try_recv() {
                    agent.cgroup(news);
                }
                agent.program_told(told);
            }
            Some(events) = network_events.recv() => agent.network_events(events),
            Some(event) = runtime_turns.recv() => agent.runtime(event),
            Some(event) = link_turns.recv() => agent.link(event),
            Some(done) = later_done.recv() => agent.later(done),
            _ = every.sweep.tick() => agent.sweep(),
            _ = every.second.tick() => agent.second(),
            _ = every.five_seconds.tick() => agent.five_seconds(),
        }
        agent.tell_seats();
    }
    agent.leave_queues().await;
    if let Err(error) = linking.await {
        tracing::warn!(%error, "the link's task");
    }
    Ok(())
}

struct Ticks {
    sweep: tokio::time::Interval,
    second: tokio::time::Interval,
    five_seconds: tokio::time::Interval,
}

impl Ticks {
    fn new() -> Self {
        let every = |seconds| {
            let mut ticks = interval(Duration::from_secs(seconds));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        Self { sweep: every(2), second: every(1), five_seconds: every(5) }
    }
}

/// Gets the node's certificate, as long as it takes, then holds the link.
async fn keep_linked(
    config: EnforcerConfig,
    id: nv_model::name::NodeId,
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    events: mpsc::Sender<LinkEvent>,
    shutdown: CancellationToken,
) {
    let mut pause = Duration::from_millis(200);
    let credential = loop {
        match join::credential(&folder, &id, &config.controller, &config.join, clock.now()).await {
            Ok(credential) => break credential,
            Err(error) => {
                tracing::warn!(%error, retry_ms = pause.as_millis() as u64, "this node has no certificate yet");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(10));
    };
    link::run(Dial { controller: config.controller, credential }, events, shutdown).await;
}
