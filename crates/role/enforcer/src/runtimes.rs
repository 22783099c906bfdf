//! The container runtimes of this machine, each followed by a watcher of its own.

use std::path::PathBuf;
use std::sync::Arc;

use nv_telemetry::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::EnforcerConfig;

/// Follows the runtime that was named, or every one whose socket is there; without any, containerd's until it comes.
pub(crate) fn watch(
    config: &EnforcerConfig,
    node: &nv_model::node::Node,
    clock: &Arc<dyn Clock>,
    events: &mpsc::Sender<nv_runtime::RuntimeEvent>,
    shutdown: &CancellationToken,
) -> Vec<nv_runtime::Identifier> {
    let host = Arc::new(nv_runtime::Host::of_this_machine(node.id.clone(), node.name.clone()));
    let mut sockets = match &config.runtime_socket {
        Some(socket) => vec![socket.clone()],
        None => nv_runtime::sockets::detect(std::path::Path::new("/")),
    };
    if sockets.is_empty() {
        sockets.push(PathBuf::from("/run/containerd/containerd.sock"));
    }
    let mut identifiers = Vec::new();
    for socket in sockets {
        let mut watch = nv_runtime::WatcherConfig::new(socket, Arc::clone(&host), Arc::clone(clock));
        watch.state_dirs.extend(config.runtime_state_dir.clone());
        let watcher = nv_runtime::Watcher::spawn(watch, shutdown.child_token());
        identifiers.push(watcher.identifier.clone());
        let events = events.clone();
        tokio::spawn(async move {
            // All of it moves in here: it follows the runtime for as long as it lives.
            let mut watcher = watcher;
            while let Some(event) = watcher.events.recv().await {
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
    identifiers
}
