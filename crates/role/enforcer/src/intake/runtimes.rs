//! The container runtimes of this machine: each followed by a watcher of its own, their stories merged into one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nv_runtime::{Api, Host, Identifiers, Merge, RuntimeEvent, Watcher, WatcherConfig, sockets};
use nv_telemetry::Clock;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::EnforcerConfig;

/// How often is looked for sockets that were not there before.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Where the usual sockets are looked for.
const ROOT: &str = "/";
/// Events of all watchers that may wait to be merged.
const MAX_WAITING: usize = 64;

/// Follows the runtimes that were named, or every one whose socket is there, from when it is there.
pub(crate) fn follow(
    config: &EnforcerConfig,
    node: &nv_model::node::Node,
    clock: &Arc<dyn Clock>,
    events: &mpsc::Sender<RuntimeEvent>,
    shutdown: &CancellationToken,
) -> Identifiers {
    let (told, telling) = mpsc::channel(MAX_WAITING);
    let mut runtimes = Runtimes {
        host: Arc::new(Host::of_this_machine(node.id.clone(), node.name.clone())),
        clock: Arc::clone(clock),
        state_dir: config.runtime_state_dir.clone(),
        shutdown: shutdown.clone(),
        identifiers: Identifiers::default(),
        followed: BTreeSet::new(),
        merge: Merge::default(),
        told,
    };
    let docker = config.docker_socket.iter().map(|socket| (socket.clone(), Some(Api::Docker)));
    let named: Vec<_> =
        config.runtime_socket.iter().map(|socket| (socket.clone(), None)).chain(docker).collect();
    let looks = named.is_empty();
    for (socket, api) in named {
        runtimes.watch(socket, api);
    }
    if looks {
        runtimes.look(Path::new(ROOT));
        if runtimes.followed.is_empty() {
            tracing::info!("no container runtime is there; one that comes is found");
        }
    }
    let identifiers = runtimes.identifiers.clone();
    tokio::spawn(runtimes.run(looks, telling, events.clone()));
    identifiers
}

struct Runtimes {
    host: Arc<Host>,
    clock: Arc<dyn Clock>,
    state_dir: Option<PathBuf>,
    shutdown: CancellationToken,
    identifiers: Identifiers,
    followed: BTreeSet<PathBuf>,
    merge: Merge,
    /// Where watchers' events come together, each with the number of its watcher.
    told: mpsc::Sender<(usize, RuntimeEvent)>,
}

impl Runtimes {
    async fn run(
        mut self,
        looks: bool,
        mut telling: mpsc::Receiver<(usize, RuntimeEvent)>,
        events: mpsc::Sender<RuntimeEvent>,
    ) {
        let mut every = interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let merged = tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = every.tick(), if looks => {
                    self.look(Path::new(ROOT));
                    continue;
                }
                Some((number, event)) = telling.recv() => self.merge.take(number, event),
            };
            for event in merged {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Follows what is there and is not followed yet. One whose socket goes stays followed: it may return.
    fn look(&mut self, root: &Path) {
        for socket in sockets::detect(root) {
            if !self.followed.contains(&socket) {
                let is_docker = socket == root.join(sockets::DOCKER.trim_start_matches('/'));
                let api = is_docker.then_some(Api::Docker);
                self.watch(socket, api);
            }
        }
    }

    fn watch(&mut self, socket: PathBuf, api: Option<Api>) {
        self.followed.insert(socket.clone());
        let mut config = WatcherConfig::new(socket, Arc::clone(&self.host), Arc::clone(&self.clock));
        config.api = api;
        config.state_dirs.extend(self.state_dir.clone());
        let watcher = Watcher::spawn(config, self.shutdown.child_token());
        self.identifiers.add(watcher.identifier.clone());
        let (number, told) = (self.merge.add(), self.told.clone());
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[tokio::test]
    async fn a_socket_that_appears_is_followed_once_and_one_that_goes_stays_followed() {
        let root = tempfile::tempdir().unwrap();
        let (told, _telling) = mpsc::channel(MAX_WAITING);
        let mut runtimes = Runtimes {
            host: Arc::new(Host::of_this_machine("n1".parse().unwrap(), String::new())),
            clock: Arc::new(nv_telemetry::SystemClock::new()),
            state_dir: None,
            shutdown: CancellationToken::new(),
            identifiers: Identifiers::default(),
            followed: BTreeSet::new(),
            merge: Merge::default(),
            told,
        };
        runtimes.look(root.path());
        assert!(runtimes.followed.is_empty());
        let socket = root.path().join("var/run/docker.sock");
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        runtimes.look(root.path());
        runtimes.look(root.path());
        drop(listener);
        std::fs::remove_file(&socket).unwrap();
        runtimes.look(root.path());
        assert_eq!(runtimes.followed, BTreeSet::from([socket]));
        assert_eq!(runtimes.merge.add(), 1, "one watcher before this one");
    }
}
