//! The OCI hook: lets a runtime wait until a new container is in its place.
//!
//! By itself the enforcer places a container between the making of its cgroup and its first program, which it is in time
//! for as long as it gets the CPU. Who wants no such condition has the runtime call this hook at `createRuntime` (OCI
//! runtime specification 1.0, "POSIX-platform Hooks"): the container does not start before the enforcer has answered, and
//! with `--fail-closed` not without it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nv_model::name::GroupName;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use crate::identity::desk::{Desk, LOOK};

/// Name of the socket in the enforcer's folder of the state directory.
pub(crate) const SOCKET: &str = "oci.sock";
/// Longest state of a container that is read; its annotations are the largest part.
const MAX_STATE: u64 = 1024 * 1024;
/// Longest question or answer on the socket.
const MAX_LINE: u64 = 4096;
/// Containers that may wait at once; more are told so.
const MAX_WAITING: usize = 64;
/// How long a question may take to arrive.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of the hook.
#[derive(Clone, Debug, clap::Args)]
pub struct HookLine {
    /// The enforcer's socket
    #[arg(long, value_name = "FILE", default_value = "/var/neuvector/enforcer/oci.sock")]
    socket: PathBuf,
    /// Longest wait for the enforcer, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
    /// Have the runtime give the container up when the enforcer does not answer that it is in its place
    #[arg(long)]
    fail_closed: bool,
}

/// The part of a container's state (OCI runtime specification 1.0, "State") that matters here.
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    #[serde(default)]
    pid: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    pid: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// It is judged by this group's profile from now on.
    Placed(GroupName),
    /// Why it is not.
    Refused(String),
}

/// Runs the hook: the state of the container is on standard input, as runtimes hand it over.
pub(crate) fn main(line: &HookLine) -> ExitCode {
    let reason = match ask(line) {
        Ok(Answer::Placed(_)) => return ExitCode::SUCCESS,
        Ok(Answer::Refused(reason)) | Err(reason) => reason,
    };
    let consequence =
        if line.fail_closed { "it is not started" } else { "it starts as it would without the hook" };
    // The runtime shows it where the hook fails.
    drop(writeln!(
        std::io::stderr(),
        "oci-hook: the enforcer has not placed the container: {reason}; {consequence}"
    ));
    if line.fail_closed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn ask(line: &HookLine) -> Result<Answer, String> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_STATE)
        .read_to_string(&mut text)
        .map_err(|error| format!("standard input: {error}"))?;
    let state: State = serde_json::from_str(&text)
        .map_err(|error| format!("standard input is no state of an OCI container: {error}"))?;
    if state.pid == 0 {
        return Err(format!(
            "the state of container {} names no process; the hook belongs to createRuntime",
            state.id
        ));
    }
    let socket = line.socket.display();
    let failed = |error: std::io::Error| format!("{socket}: {error}");
    let mut stream = UnixStream::connect(&line.socket).map_err(failed)?;
    let limit = Some(Duration::from_millis(line.timeout_ms));
    stream.set_write_timeout(limit).and_then(|()| stream.set_read_timeout(limit)).map_err(failed)?;
    let mut question = serde_json::to_vec(&Question { pid: state.pid }).map_err(|error| error.to_string())?;
    question.push(b'\n');
    stream.write_all(&question).map_err(failed)?;
    let mut answer = String::new();
    match BufReader::new(stream.take(MAX_LINE)).read_line(&mut answer) {
        Ok(_) => serde_json::from_str(&answer)
            .map_err(|error| format!("{socket}: the answer is not understood: {error}")),
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            Err(format!("{socket}: no answer within {} ms", line.timeout_ms))
        }
        Err(error) => Err(failed(error)),
    }
}

impl Desk {
    /// Answers the hook at a socket, which only its owner may use, until the rows are others.
    pub(crate) async fn serve_hook(self, path: PathBuf) {
        let listener = match listen(&path) {
            Ok(listener) => listener,
            Err(error) => {
                return tracing::warn!(%error, path = %path.display(), "the OCI hook finds no enforcer");
            }
        };
        let free = Arc::new(Semaphore::new(MAX_WAITING));
        while self.alive.load(Ordering::Relaxed) {
            let stream = match tokio::time::timeout(LOOK, listener.accept()).await {
                Ok(Ok((stream, _))) => stream,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a call of the OCI hook is lost");
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Err(_nobody) => continue,
            };
            let (desk, place) = (self.clone(), Arc::clone(&free).try_acquire_owned());
            tokio::spawn(async move {
                let (question, mut answers) = stream.into_split();
                let answer = match place {
                    Ok(_place) => desk.answer(question).await,
                    Err(_full) => Answer::Refused(format!("{MAX_WAITING} containers wait already")),
                };
                let Ok(mut answer) = serde_json::to_vec(&answer) else { return };
                answer.push(b'\n');
                if let Err(error) = answers.write_all(&answer).await {
                    tracing::debug!(%error, "the OCI hook did not wait for its answer");
                }
            });
        }
    }

    async fn answer(&self, question: tokio::net::unix::OwnedReadHalf) -> Answer {
        let mut line = String::new();
        let mut question = tokio::io::BufReader::new(question.take(MAX_LINE));
        let read = tokio::time::timeout(PATIENCE, question.read_line(&mut line));
        if !matches!(read.await, Ok(Ok(_))) {
            return Answer::Refused("no whole question came".to_owned());
        }
        let placed = match serde_json::from_str::<Question>(&line) {
            Ok(question) => self.place_process(question.pid).await.map_err(|missing| missing.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match placed {
            Ok(group) => Answer::Placed(group),
            Err(reason) => {
                tracing::warn!(reason, "a container is not placed for the OCI hook");
                Answer::Refused(reason)
            }
        }
    }
}

/// A socket that takes the place of an earlier run's.
fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_container_is_read_as_runtimes_write_it() {
        let text = r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":4242,"bundle":"/b","annotations":{"a":"b"}}"#;
        let state: State = serde_json::from_str(text).unwrap();
        assert_eq!((state.id.as_str(), state.pid), ("c1", 4242));
        assert!(serde_json::from_str::<State>("{}").is_err());
    }

    #[test]
    fn answers_are_told_apart() {
        for answer in [Answer::Placed("nv.web.shop".parse().unwrap()), Answer::Refused("why".to_owned())] {
            let text = serde_json::to_string(&answer).unwrap();
            assert_eq!(serde_json::from_str::<Answer>(&text).unwrap(), answer);
        }
    }

    #[test]
    fn what_can_be_asked_for_is_bounded() {
        use clap::Args as _;
        let command = HookLine::augment_args(clap::Command::new("oci-hook"));
        for wrong in ["0", "60001", "soon"] {
            assert!(
                command.clone().try_get_matches_from(["oci-hook", "--timeout-ms", wrong]).is_err(),
                "{wrong}"
            );
        }
    }
}
