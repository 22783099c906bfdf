//! NRI, the Node Resource Interface: a runtime asks its plug-ins before it starts a container, and waits for the answer.
//!
//! ```text
//! socket ─ frames (wire) ─┬ connection 2: we ask the runtime     RegisterPlugin
//!                         └ connection 1: the runtime asks us    Configure → Synchronize → StartContainer …
//! ```
//!
//! containerd has it since 1.7 and CRI-O since 1.26, for containers of pods only. At `StartContainer` the container's
//! cgroup, process and bundle are there, and its own program has not run.

mod message;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

pub use session::SessionError;

use crate::backoff::Backoff;
use session::Session;

/// Name that runtimes show the plug-in by.
const NAME: &str = "neuvector";
/// Plug-ins are asked in the order of their indices, 00 to 99: after all that change what a container is.
const INDEX: &str = "99";
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection that held for this long was a good one: the next pause is short again.
const GOOD: Duration = Duration::from_secs(10);

/// A container as NRI tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// Its first process in the host's numbers; 0 when the runtime does not tell.
    pub pid: u32,
    /// `linux.cgroupsPath` of its OCI specification, see [`crate::cgroup::from_spec`].
    pub cgroups_path: String,
}

/// Who answers the runtime.
pub trait Desk: Send + Sync {
    /// A container waits to be started. `Err` has the runtime give it up and show the reason.
    fn starting(&self, container: Told) -> impl Future<Output = Result<(), String>> + Send;
    /// A container that the runtime already had when the plug-in registered.
    fn present(&self, container: Told) -> impl Future<Output = ()> + Send;
    /// A runtime asks from now on, or none does any more.
    fn asked(&self, by_runtime: bool);
}

/// Answers a runtime at its NRI socket until `shutdown`; connects again whenever the connection ends. While there is none,
/// the runtime starts containers without asking.
pub async fn serve(socket: PathBuf, desk: impl Desk, shutdown: CancellationToken) {
    let mut backoff = Backoff::new();
    loop {
        let begun = tokio::time::Instant::now();
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = once(&socket, &desk) => ended,
        };
        desk.asked(false);
        if begun.elapsed() > GOOD {
            backoff = Backoff::new();
        }
        let pause = backoff.pause(getrandom::u32().unwrap_or_default());
        tracing::warn!(
            error = %ended, socket = %socket.display(), retry_ms = pause.as_millis() as u64,
            "the runtime does not ask by NRI before it starts containers"
        );
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One connection; why it ended.
async fn once(socket: &std::path::Path, desk: &impl Desk) -> SessionError {
    let stream = match tokio::time::timeout(CONNECT, UnixStream::connect(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return SessionError::Broken(error),
        Err(_late) => return SessionError::Late("a connection"),
    };
    match Session::new(stream, desk).hold().await {
        Ok(ended) => match ended {},
        Err(error) => error,
    }
}
