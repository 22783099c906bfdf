//! Watchers, and all that they told.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nv_lab::{Container, Lab};
use nv_model::workload::Workload;
use nv_runtime::{Api, Host, Identifiers, Merge, RuntimeEvent, Watcher, WatcherConfig};
use nv_telemetry::SystemClock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Watched {
    events: mpsc::Receiver<(usize, RuntimeEvent)>,
    told: mpsc::Sender<(usize, RuntimeEvent)>,
    /// Makes one story of what several tell; `None` when one alone is listened to.
    merge: Option<Merge>,
    pub(crate) identifiers: Identifiers,
    pub(crate) workloads: BTreeMap<String, Workload>,
    /// One word an event: `up <runtime>`, `down`, `listed`, `+<id>`, `stopped <id> <code>`, `-<id>`.
    pub(crate) log: Vec<String>,
}

impl Watched {
    /// The lab's containerd alone.
    pub(crate) fn of(lab: &Lab, api: Option<Api>) -> Self {
        let mut watched = Self::new(None);
        watched.add(0, lab.socket(), lab, api);
        watched
    }

    /// One socket alone that runs its containers on the lab's containerd.
    pub(crate) fn one(lab: &Lab, socket: &Path) -> Self {
        let mut watched = Self::new(None);
        watched.add(0, socket, lab, None);
        watched
    }

    /// Several sockets, as one story.
    pub(crate) fn all(lab: &Lab, sockets: &[&Path]) -> Self {
        let mut watched = Self::new(Some(Merge::default()));
        for socket in sockets {
            let number = watched.merge.as_mut().unwrap().add();
            watched.add(number, socket, lab, None);
        }
        watched
    }

    fn new(merge: Option<Merge>) -> Self {
        let (told, events) = mpsc::channel(64);
        let (identifiers, workloads) = (Identifiers::default(), BTreeMap::new());
        Self { events, told, merge, identifiers, workloads, log: Vec::new() }
    }

    fn add(&mut self, number: usize, socket: &Path, lab: &Lab, api: Option<Api>) {
        let host = Host::of_this_machine("node-under-test".parse().unwrap(), "node-1".into());
        let config = WatcherConfig {
            api,
            poll_every: Duration::from_millis(200),
            state_dirs: vec![lab.state_dir().to_path_buf()],
            ..WatcherConfig::new(socket.to_path_buf(), Arc::new(host), Arc::new(SystemClock::new()))
        };
        let watcher = Watcher::spawn(config, CancellationToken::new());
        self.identifiers.add(watcher.identifier.clone());
        let told = self.told.clone();
        // All of it moves in here: it follows the runtime for as long as it lives.
        tokio::spawn(async move {
            let mut watcher = watcher;
            while let Some(event) = watcher.events.recv().await {
                if told.send((number, event)).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(crate) async fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let waiting = async {
            while !done(self) {
                let event = self.events.recv().await.unwrap();
                self.take(event);
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("waited for {what}; told so far: {:#?}\n{:#?}", self.log, self.workloads);
        }
    }

    /// Takes what else is told within `time`.
    pub(crate) async fn for_a_while(&mut self, time: Duration) {
        while let Ok(event) = tokio::time::timeout(time, self.events.recv()).await {
            self.take(event.unwrap());
        }
    }

    fn take(&mut self, (number, event): (usize, RuntimeEvent)) {
        let events = match &mut self.merge {
            Some(merge) => merge.take(number, event),
            None => vec![event],
        };
        for event in events {
            self.log.push(match event {
                RuntimeEvent::Up { runtime, .. } => format!("up {runtime}"),
                RuntimeEvent::Listener { pid } => {
                    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
                    format!("listener {}", name.trim())
                }
                RuntimeEvent::Down { .. } => "down".to_owned(),
                RuntimeEvent::Listed => "listed".to_owned(),
                RuntimeEvent::Workload(workload) => {
                    let id = workload.id.to_string();
                    self.workloads.insert(id.clone(), *workload);
                    format!("+{id}")
                }
                RuntimeEvent::Stopped { id, exit_code, .. } => {
                    if let Some(workload) = self.workloads.get_mut(id.as_str()) {
                        workload.running = false;
                    }
                    format!("stopped {id} {exit_code}")
                }
                RuntimeEvent::Removed { id } => {
                    self.workloads.remove(id.as_str());
                    format!("-{id}")
                }
            });
        }
    }

    pub(crate) fn is_told(&self, word: &str) -> bool {
        self.log.iter().any(|told| told == word)
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.log.iter().filter(|told| told.starts_with(word)).count()
    }

    /// Waits until a container runs with its present process.
    pub(crate) async fn running(&mut self, container: &Container) -> Workload {
        let is_running = |seen: &Self| {
            let workload = seen.workloads.get(&container.id);
            workload.is_some_and(|workload| workload.running && workload.pid == container.pid)
        };
        self.until(&container.name, is_running).await;
        self.workloads.get(&container.id).unwrap().clone()
    }
}

pub(crate) fn cgroup_id(path: &str) -> u64 {
    let root = Host::of_this_machine("n".parse().unwrap(), String::new()).cgroup_root.unwrap();
    inode(&format!("{}{path}", root.display()))
}

pub(crate) fn inode(path: &str) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(0, |data| data.ino())
}
