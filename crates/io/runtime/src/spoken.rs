//! A runtime at a socket, whichever API it speaks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use crate::Api;
use crate::containerd::{self, Containerd};
use crate::cri::{self, Cri};
use crate::docker::{self, Docker, Found, Looks};
use crate::error::RuntimeError;
use crate::identify::Asked;
use crate::track::Tracker;
use crate::watch::{CALL, Hint, WatcherConfig};

/// How long a daemon may take to tell its storage driver, while its containers wait to be listed.
const STORAGE: Duration = Duration::from_secs(2);

/// A runtime that answers.
pub(crate) enum Runtime {
    Containerd(Containerd, Channel),
    Cri(Cri, Channel),
    Docker(Docker, Looks),
}

impl Runtime {
    pub(crate) const fn api(&self) -> Api {
        match self {
            Self::Containerd(..) => Api::Containerd,
            Self::Cri(..) => Api::Cri,
            Self::Docker(..) => Api::Docker,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Containerd(..) => containerd::NAME,
            Self::Cri(cri, _) => cri.name(),
            Self::Docker(..) => docker::NAME,
        }
    }

    /// Follows its events.
    pub(crate) fn listen(&self, hints: mpsc::Sender<Hint>) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(match self {
            Self::Containerd(_, channel) => tokio::spawn(containerd::follow(channel.clone(), hints)),
            Self::Cri(_, channel) => tokio::spawn(cri::follow(channel.clone(), hints)),
            Self::Docker(docker, _) => tokio::spawn(docker::follow(docker.client(), hints)),
        })
    }

    /// Descriptions of containers that could not be had or read.
    pub(crate) const fn unreadable(&self) -> u64 {
        match self {
            Self::Containerd(containerd, _) => containerd.unreadable,
            Self::Cri(cri, _) => cri.unreadable,
            Self::Docker(docker, looks) => docker.unreadable.saturating_add(looks.unanswered),
        }
    }

    /// What it keeps its containers' root file systems by; empty where it does not say, or not soon.
    pub(crate) async fn storage(&self) -> String {
        match self {
            Self::Docker(docker, _) => timeout(STORAGE, docker.storage()).await.unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// The next answer about a container of Docker's; never where nothing was asked.
    pub(crate) async fn answer(&mut self, tracker: &Tracker) -> Result<(String, Found), RuntimeError> {
        if let Self::Docker(_, looks) = self {
            while !looks.is_empty() {
                if let Some(answer) = looks.next(|id| tracker.known().get(id).cloned()).await {
                    return answer;
                }
            }
        }
        std::future::pending().await
    }
}

/// The runtime and its version.
pub(crate) async fn connect(
    config: &WatcherConfig,
    asked: &watch::Sender<Option<Asked>>,
) -> Result<(Runtime, String), RuntimeError> {
    let socket = &config.socket;
    let over_grpc = match config.api {
        Some(Api::Docker) => return docker_at(config, asked).await,
        _ => Box::pin(grpc_at(config, asked)).await,
    };
    match over_grpc {
        // Nobody is there, or not in time: nothing else answers either.
        Err(error @ (RuntimeError::Connect { .. } | RuntimeError::Timeout { .. })) => Err(error),
        Err(error) if config.api.is_some() => Err(error),
        Err(error) => docker_at(config, asked).await.map_err(|_not_docker| RuntimeError::NotARuntime {
            socket: socket.clone(),
            message: error.to_string(),
        }),
        connected => connected,
    }
}

async fn docker_at(
    config: &WatcherConfig,
    asked: &watch::Sender<Option<Asked>>,
) -> Result<(Runtime, String), RuntimeError> {
    let (runtime, version) = Docker::connect(Arc::clone(&config.host), &config.socket).await?;
    asked.send_replace(Some(Asked::Docker(runtime.client())));
    let looks = runtime.looks();
    Ok((Runtime::Docker(runtime, looks), version))
}

async fn grpc_at(
    config: &WatcherConfig,
    asked: &watch::Sender<Option<Asked>>,
) -> Result<(Runtime, String), RuntimeError> {
    let socket = &config.socket;
    let connecting = containerd_client::connect(socket);
    let late =
        |_| RuntimeError::Timeout { doing: "connect to the container runtime", seconds: CALL.as_secs() };
    let channel = timeout(CALL, Box::pin(connecting)).await.map_err(late)?;
    let channel = channel.map_err(|error| RuntimeError::connect(socket, source_of(&error)))?;
    let host = Arc::clone(&config.host);
    if config.api != Some(Api::Cri)
        && let Ok((runtime, version)) = Containerd::connect(Arc::clone(&host), channel.clone()).await
    {
        asked.send_replace(Some(Asked::Containerd(channel.clone())));
        return Ok((Runtime::Containerd(runtime, channel), version));
    }
    match Cri::connect(host, channel.clone()).await {
        Ok((runtime, version)) => Ok((Runtime::Cri(runtime, channel), version)),
        Err(RuntimeError::Call { code: tonic::Code::Unimplemented, message, .. }) => {
            Err(RuntimeError::NotARuntime { socket: socket.clone(), message })
        }
        Err(error) => Err(error),
    }
}

/// Which process listens at a socket; `None` where the kernel does not say, or names one outside of these namespaces.
pub(crate) async fn listener(socket: &Path) -> Option<u32> {
    let stream = timeout(CALL, UnixStream::connect(socket)).await.ok()?.ok()?;
    let pid = stream.peer_cred().ok()?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid != 0)
}

/// The innermost reason: tonic's own says "transport error".
fn source_of(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
