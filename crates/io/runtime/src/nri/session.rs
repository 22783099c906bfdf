//! One connection to a runtime: the plug-in registers, and answers one call after the other.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::message::{
    Configure, Configured, Container, PLUGIN_SERVICE, RUNTIME_SERVICE, Register, Request, Response,
    START_CONTAINER, StartContainer, StateChange, Status, Synchronize, Synchronized,
};
use super::wire::{
    FRAME_HEADER, Message, REQUEST, RESPONSE, Streams, TO_PLUGIN, TO_RUNTIME, WireError, frame, frame_header,
};
use super::{Desk, INDEX, NAME, Told};

/// Number of the only call that the plug-in makes.
const REGISTER: u32 = 1;
/// How long the runtime may take from the registration to the list of what runs; containerd waits for five seconds itself.
const REGISTRATION: Duration = Duration::from_secs(10);
/// How long the containers of a list may be looked at before the next call is answered.
const PRESENT: Duration = Duration::from_secs(1);
/// How long the runtime may take to read an answer.
const WRITE: Duration = Duration::from_secs(2);
/// Longest reason that is given, in bytes.
const REASON_BYTES: usize = 512;
/// gRPC's codes.
const INVALID_ARGUMENT: i32 = 3;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;

/// Why a runtime does not ask any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// There is no connection, or it broke.
    #[error("no connection: {0}")]
    Broken(#[source] io::Error),
    /// The other end does not speak NRI.
    #[error("the other end does not speak NRI: {0}")]
    Wire(#[from] WireError),
    /// A message of NRI that cannot be read.
    #[error("{what} cannot be read: {message}")]
    Unreadable {
        /// Which message.
        what: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The runtime does not want this plug-in.
    #[error("the runtime refuses the plug-in: {0}")]
    Refused(String),
    /// Something did not come in time.
    #[error("{0} did not come in time")]
    Late(&'static str),
}

/// A connection that is held.
pub(super) struct Session<'a, S, D> {
    stream: S,
    desk: &'a D,
    streams: Streams,
    /// Whether the runtime has told what it has.
    ready: bool,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin, D: Desk> Session<'a, S, D> {
    pub(super) fn new(stream: S, desk: &'a D) -> Self {
        Self { stream, desk, streams: Streams::default(), ready: false }
    }

    /// Registers and answers until the connection ends.
    pub(super) async fn hold(mut self) -> Result<Infallible, SessionError> {
        let register = Register { name: NAME.to_owned(), index: INDEX.to_owned() };
        let request = Request {
            service: RUNTIME_SERVICE.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: register.encode_to_vec(),
            timeout_nano: 0,
        };
        self.send(TO_RUNTIME, REGISTER, REQUEST, request.encode_to_vec()).await?;
        let deadline = tokio::time::Instant::now() + REGISTRATION;
        loop {
            let message = if self.ready {
                self.receive().await?
            } else {
                tokio::time::timeout_at(deadline, self.receive())
                    .await
                    .map_err(|_late| SessionError::Late("the runtime's list of containers"))??
            };
            match (message.connection, message.kind) {
                (TO_RUNTIME, RESPONSE) => registered(&message.payload)?,
                (TO_PLUGIN, REQUEST) => {
                    let request: Request = read("a call", &message.payload)?;
                    let (answer, present) = self.answer(&request).await?;
                    self.send(TO_PLUGIN, message.call, RESPONSE, answer.encode_to_vec()).await?;
                    self.tell_present(present).await;
                }
                // Streams, which NRI has none of.
                _ => {}
            }
        }
    }

    /// Tells of what the runtime had before; the answer has been sent, so that nothing that starts waits for all of them.
    async fn tell_present(&self, containers: Vec<Container>) {
        let count = containers.len();
        let all = async {
            for container in containers {
                self.desk.present(container.into()).await;
            }
        };
        if tokio::time::timeout(PRESENT, all).await.is_err() {
            tracing::warn!(count, "too many containers to place at once; the runtime's lists make it good");
        }
    }

    /// The answer to a call, and the containers that it tells of.
    async fn answer(&mut self, request: &Request) -> Result<(Response, Vec<Container>), SessionError> {
        if request.service != PLUGIN_SERVICE {
            return Ok((refusal(UNIMPLEMENTED, "no such service"), Vec::new()));
        }
        let payload = request.payload.as_slice();
        let answer = match request.method.as_str() {
            "Configure" => {
                let told: Configure = read("Configure", payload)?;
                tracing::info!(
                    runtime = told.runtime_name,
                    version = told.runtime_version,
                    "the runtime asks by NRI before it starts a container"
                );
                self.desk.asked(true);
                done(&Configured { events: 1 << (START_CONTAINER - 1) })
            }
            "Synchronize" => {
                let told: Synchronize = read("Synchronize", payload)?;
                self.ready = !told.more;
                return Ok((done(&Synchronized { more: told.more }), told.containers));
            }
            "StateChange" => {
                let told: StateChange = read("StateChange", payload)?;
                let container = told.container.filter(|_| told.event == START_CONTAINER);
                match container {
                    Some(container) => self.starting(container).await,
                    None => done(&()),
                }
            }
            "StartContainer" => match read::<StartContainer>("StartContainer", payload)?.container {
                Some(container) => self.starting(container).await,
                None => refusal(INVALID_ARGUMENT, "no container is named"),
            },
            "Shutdown" => done(&()),
            _ => refusal(UNIMPLEMENTED, "no such call"),
        };
        Ok((answer, Vec::new()))
    }

    async fn starting(&self, container: Container) -> Response {
        match self.desk.starting(container.into()).await {
            Ok(()) => done(&()),
            Err(reason) => refusal(FAILED_PRECONDITION, &reason),
        }
    }

    async fn receive(&mut self) -> Result<Message, SessionError> {
        loop {
            if let Some(message) = self.streams.next()? {
                return Ok(message);
            }
            let mut head = [0; FRAME_HEADER];
            self.stream.read_exact(&mut head).await.map_err(SessionError::Broken)?;
            let (connection, bytes) = frame_header(head)?;
            let mut payload = vec![0; bytes];
            self.stream.read_exact(&mut payload).await.map_err(SessionError::Broken)?;
            self.streams.push(connection, &payload);
        }
    }

    async fn send(
        &mut self,
        connection: u32,
        call: u32,
        kind: u8,
        payload: Vec<u8>,
    ) -> Result<(), SessionError> {
        let frame = frame(&Message { connection, call, kind, payload })?;
        tokio::time::timeout(WRITE, self.stream.write_all(&frame))
            .await
            .map_err(|_late| SessionError::Late("room for an answer"))?
            .map_err(SessionError::Broken)
    }
}

impl From<Container> for Told {
    fn from(container: Container) -> Self {
        let linux = container.linux.unwrap_or_default();
        Self { id: container.id, pid: container.pid, cgroups_path: linux.cgroups_path }
    }
}

fn registered(payload: &[u8]) -> Result<(), SessionError> {
    let answer: Response = read("the answer to the registration", payload)?;
    match answer.status.filter(|status| status.code != 0) {
        Some(status) => Err(SessionError::Refused(status.message)),
        None => Ok(()),
    }
}

fn read<M: prost::Message + Default>(what: &'static str, payload: &[u8]) -> Result<M, SessionError> {
    M::decode(payload).map_err(|error| SessionError::Unreadable { what, message: error.to_string() })
}

fn done(answer: &impl prost::Message) -> Response {
    Response { status: None, payload: answer.encode_to_vec() }
}

fn refusal(code: i32, reason: &str) -> Response {
    let mut end = reason.len().min(REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let message = reason.get(..end).unwrap_or_default().to_owned();
    Response { status: Some(Status { code, message }), payload: Vec::new() }
}
