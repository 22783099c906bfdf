use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nv_model::time::Timestamp;
use nv_model::workload::Workload;
use nv_telemetry::Clock;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Response, Status};

use crate::assemble::workload_id;
use crate::backoff::Backoff;
use crate::bundle::Bundles;
use crate::docker::{Found, Named};
use crate::error::RuntimeError;
use crate::identify::Asked;
use crate::spoken::{Runtime, connect, listener};
use crate::track::Tracker;
use crate::{Host, Identifier, RuntimeEvent, sockets};

/// How long a call may take. A runtime that is slower is treated as one that does not answer.
pub(crate) const CALL: Duration = Duration::from_secs(10);
/// Events of the runtime that wait to be looked at. When they are more, the runtime waits.
const HINTS: usize = 1024;
/// When the second list is made: an event between the first and the subscription would be missed by both.
const SECOND_LIST: Duration = Duration::from_secs(1);
/// How long changes are gathered before a runtime that only says "something changed" is listed.
const GATHER: Duration = Duration::from_millis(20);
/// A connection that held this long was a good one: the next pause is short again.
const STABLE: Duration = Duration::from_secs(10);

/// The API of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// containerd's own, and CRI where the same socket speaks that too.
    Containerd,
    /// CRI v1 only.
    Cri,
    /// Docker Engine's.
    Docker,
}

/// What a [`Watcher`] is to do.
#[derive(Clone)]
pub struct WatcherConfig {
    /// The runtime's socket; it need not exist yet.
    pub socket: PathBuf,
    /// Where the runtime keeps its bundles; empty for a guess from the socket ([`sockets::state_dirs`]).
    pub state_dirs: Vec<PathBuf>,
    /// Which API to speak; `None` for the first of containerd's, CRI and Docker's that is answered.
    pub api: Option<Api>,
    /// The machine.
    pub host: Arc<Host>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Pause between two full lists; 30 s is usual.
    pub list_every: Duration,
    /// Pause between two short lists of a runtime that speaks CRI only; 2 s is usual.
    pub poll_every: Duration,
    /// Events that wait to be taken. When they are more, the watcher waits; nothing is lost.
    pub queue: usize,
}

impl WatcherConfig {
    /// The usual values for a socket.
    #[must_use]
    pub fn new(socket: PathBuf, host: Arc<Host>, clock: Arc<dyn Clock>) -> Self {
        Self {
            socket,
            state_dirs: Vec::new(),
            api: None,
            host,
            clock,
            list_every: Duration::from_secs(30),
            poll_every: Duration::from_secs(2),
            queue: 1024,
        }
    }
}

/// What a watcher counts; each only grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Times the runtime answered after it had not.
    pub connected: AtomicU64,
    /// Times everything was listed.
    pub lists: AtomicU64,
    /// Events of the runtime.
    pub hints: AtomicU64,
    /// Containers that were not taken because there are more than 10,000.
    pub refused: AtomicU64,
    /// Specifications that could not be read.
    pub unreadable: AtomicU64,
}

/// Follows one runtime until it is dropped or shut down.
#[derive(Debug)]
pub struct Watcher {
    /// What it tells, see [`RuntimeEvent`]. It ends at shutdown.
    pub events: mpsc::Receiver<RuntimeEvent>,
    /// Identity for new cgroups.
    pub identifier: Identifier,
    /// What it counts.
    pub counters: Arc<Counters>,
    _task: AbortOnDropHandle<()>,
}

/// What an event of a runtime says is worth looking at.
#[derive(Debug)]
pub(crate) enum Hint {
    /// Something about this container changed.
    Look { namespace: String, id: String },
    /// This container of Docker's was made.
    Created(Named),
    /// Its first process ended.
    Exited { namespace: String, id: String, pid: u32, exit_code: i32, at: Timestamp },
    /// Something changed.
    List,
    /// There will be no more; why.
    Ended(String),
}

impl Watcher {
    /// Starts to follow a runtime on the current tokio runtime.
    #[must_use]
    pub fn spawn(config: WatcherConfig, shutdown: CancellationToken) -> Self {
        let (events, receiver) = mpsc::channel(config.queue.max(1));
        let (asked, asked_receiver) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let state_dirs = if config.state_dirs.is_empty() {
            sockets::state_dirs(&config.socket)
        } else {
            config.state_dirs.clone()
        };
        let identifier = Identifier {
            host: Arc::clone(&config.host),
            bundles: Bundles::new(Arc::clone(&config.host), state_dirs),
            asked: asked_receiver,
        };
        let task = Task {
            config,
            events,
            asked,
            counters: Arc::clone(&counters),
            tracker: Tracker::default(),
            unreadable: 0,
            has_listed: false,
        };
        let run = async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = Box::pin(task.run()) => {}
            }
        };
        let _task = AbortOnDropHandle::new(tokio::spawn(run));
        Self { events: receiver, identifier, counters, _task }
    }
}

struct Task {
    config: WatcherConfig,
    events: mpsc::Sender<RuntimeEvent>,
    asked: watch::Sender<Option<Asked>>,
    counters: Arc<Counters>,
    tracker: Tracker,
    unreadable: u64,
    /// Everything was listed since the runtime answers.
    has_listed: bool,
}

/// Why a connection ended.
enum End {
    /// Nobody takes the events any more.
    Unheard,
    /// The runtime.
    Failed(RuntimeError),
}

impl From<RuntimeError> for End {
    fn from(error: RuntimeError) -> Self {
        Self::Failed(error)
    }
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut is_told = false;
        loop {
            let since = Instant::now();
            let end = Box::pin(self.connection(&mut is_told)).await;
            self.asked.send_replace(None);
            let End::Failed(error) = end else { return };
            let socket = self.config.socket.display();
            if is_told {
                tracing::debug!(%socket, %error, "container runtime still does not answer");
            } else {
                tracing::warn!(%socket, %error, "container runtime does not answer; what is known stays in force");
                is_told = true;
                if self.events.send(RuntimeEvent::Down { reason: error.to_string() }).await.is_err() {
                    return;
                }
            }
            if since.elapsed() > STABLE {
                backoff = Backoff::new();
            }
            // A random number that cannot be had only takes the jitter away.
            sleep(backoff.pause(getrandom::u32().unwrap_or(0))).await;
        }
    }

    /// One connection, from `Up` to its end.
    async fn connection(&mut self, is_told: &mut bool) -> End {
        let connected = Box::pin(connect(&self.config, &self.asked)).await;
        let (mut runtime, version) = match connected {
            Ok(connected) => connected,
            Err(error) => return End::Failed(error),
        };
        *is_told = false;
        self.counters.connected.fetch_add(1, Ordering::Relaxed);
        let (name, api) = (runtime.name().to_owned(), runtime.api());
        let storage = runtime.storage().await;
        tracing::info!(socket = %self.config.socket.display(), runtime = name, version, "container runtime answers");
        if self.events.send(RuntimeEvent::Up { runtime: name, version, api, storage }).await.is_err() {
            return End::Unheard;
        }
        if api == Api::Cri
            && let Some(pid) = listener(&self.config.socket).await
            && self.events.send(RuntimeEvent::Listener { pid }).await.is_err()
        {
            return End::Unheard;
        }
        let (sender, mut hints) = mpsc::channel(HINTS);
        let _follower = runtime.listen(sender);
        match Box::pin(self.follow(&mut runtime, &mut hints)).await {
            Ok(()) => End::Unheard,
            Err(end) => end,
        }
    }

    /// Lists and listens. Ends well only when nobody takes the events any more.
    async fn follow(&mut self, runtime: &mut Runtime, hints: &mut mpsc::Receiver<Hint>) -> Result<(), End> {
        let polls = matches!(runtime, Runtime::Cri(..));
        let short = if polls { self.config.poll_every } else { self.config.list_every };
        self.has_listed = false;
        self.list(runtime, true).await?;
        self.has_listed = true;
        self.tell(vec![RuntimeEvent::Listed]).await?;
        let mut next_full = Instant::now() + SECOND_LIST;
        let mut next_short = Instant::now() + short;
        let mut hinting = true;
        loop {
            tokio::select! {
                answer = runtime.answer(&self.tracker) => match answer? {
                    (id, Found::Seen(workload)) => self.look_ended(&id, Some(*workload)).await?,
                    (id, Found::Gone) => self.look_ended(&id, None).await?,
                    (_, Found::Unchanged) => self.count(runtime),
                },
                hint = hints.recv(), if hinting => match hint {
                    Some(Hint::Ended(message)) => return Err(RuntimeError::Ended { message }.into()),
                    // One list answers for all changes of a burst.
                    Some(Hint::List) => next_short = next_short.min(Instant::now() + GATHER),
                    Some(hint) => Box::pin(self.take(runtime, hint)).await?,
                    // A CRI runtime without events; a broken connection shows when it is polled.
                    None => hinting = false,
                },
                () = sleep_until(next_full) => {
                    self.list(runtime, true).await?;
                    next_full = Instant::now() + self.config.list_every;
                    next_short = Instant::now() + short;
                }
                () = sleep_until(next_short) => {
                    self.list(runtime, false).await?;
                    next_short = Instant::now() + short;
                }
            }
        }
    }

    async fn list(&mut self, runtime: &mut Runtime, full: bool) -> Result<(), End> {
        let known = self.tracker.known();
        let all = match runtime {
            Runtime::Containerd(containerd, _) => Box::pin(containerd.list(known)).await?,
            Runtime::Cri(cri, _) => Box::pin(cri.list(known, full)).await?,
            // Those that are known are looked at while other things happen.
            Runtime::Docker(docker, looks) if self.has_listed => {
                let ids: BTreeSet<String> = docker.ids().await?.into_iter().collect();
                let gone = known.keys().filter(|id| !ids.contains(id.as_str())).cloned().collect::<Vec<_>>();
                for id in &ids {
                    looks.add(id, known.get(id.as_str()));
                }
                self.counters.lists.fetch_add(1, Ordering::Relaxed);
                let mut out = Vec::new();
                for id in gone {
                    self.tracker.removed(&id, self.config.clock.now(), &mut out);
                }
                return self.tell(out).await;
            }
            Runtime::Docker(docker, _) => Box::pin(docker.list(known)).await?,
        };
        self.counters.lists.fetch_add(1, Ordering::Relaxed);
        let mut out = Vec::new();
        self.tracker.listed(all, self.config.clock.now(), &mut out);
        self.count(runtime);
        self.tell(out).await
    }

    async fn take(&mut self, runtime: &mut Runtime, hint: Hint) -> Result<(), End> {
        self.counters.hints.fetch_add(1, Ordering::Relaxed);
        let now = self.config.clock.now();
        let mut out = Vec::new();
        match (hint, &mut *runtime) {
            (Hint::Look { namespace, id }, Runtime::Containerd(containerd, _)) => {
                let found = Box::pin(containerd.look(&namespace, &id, self.tracker.known())).await?;
                self.looked(&namespace, &id, found, &mut out);
            }
            (Hint::Look { id, .. }, Runtime::Docker(_, looks)) => {
                looks.add(&id, self.tracker.known().get(id.as_str()));
            }
            (Hint::Created(named), Runtime::Docker(docker, looks)) => {
                looks.add(&named.id, None);
                // All that its service follows from, some hundred milliseconds before its first process.
                let created = docker.created(named);
                if let Some(created) = created.filter(|it| !self.tracker.known().contains_key(&it.id)) {
                    self.tracker.seen(created, now, &mut out);
                }
            }
            (Hint::Exited { namespace, id, pid, exit_code, at }, _) => {
                if let Ok(id) = workload_id(&namespace, &id) {
                    let at = if at == Timestamp::NEVER { now } else { at };
                    self.tracker.exited(&id, pid, exit_code, at, &mut out);
                }
            }
            (Hint::Look { .. } | Hint::Created(_) | Hint::List | Hint::Ended(_), _) => {}
        }
        self.count(runtime);
        self.tell(out).await
    }

    async fn look_ended(&mut self, id: &str, found: Option<Workload>) -> Result<(), End> {
        let mut out = Vec::new();
        self.looked("", id, found, &mut out);
        self.tell(out).await
    }

    fn looked(&mut self, namespace: &str, id: &str, found: Option<Workload>, out: &mut Vec<RuntimeEvent>) {
        let now = self.config.clock.now();
        match (found, workload_id(namespace, id)) {
            (Some(workload), _) => self.tracker.seen(workload, now, out),
            (None, Ok(id)) => self.tracker.removed(&id, now, out),
            (None, Err(_none)) => {}
        }
    }

    async fn tell(&mut self, events: Vec<RuntimeEvent>) -> Result<(), End> {
        for event in events {
            self.events.send(event).await.map_err(|_unheard| End::Unheard)?;
        }
        Ok(())
    }

    fn count(&mut self, runtime: &Runtime) {
        let unreadable = runtime.unreadable();
        self.counters.refused.store(self.tracker.refused, Ordering::Relaxed);
        if unreadable > self.unreadable {
            tracing::warn!(
                unreadable,
                "specifications of containers could not be read; they have no limits or pod"
            );
        }
        self.unreadable = unreadable;
        self.counters.unreadable.fetch_max(unreadable, Ordering::Relaxed);
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn call<T>(
    doing: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RuntimeError> {
    match timeout(CALL, Box::pin(answer)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => {
            Err(RuntimeError::Call { doing, code: status.code(), message: status.message().to_owned() })
        }
        Err(_) => Err(RuntimeError::Timeout { doing, seconds: CALL.as_secs() }),
    }
}

pub(crate) fn timestamp(at: &prost_types::Timestamp) -> Timestamp {
    Timestamp::from_nanos(at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into()))
}
