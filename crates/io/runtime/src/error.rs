use std::path::{Path, PathBuf};

/// Why a runtime could not be asked. All of these are worth another try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// Nobody answers at the socket.
    #[error("cannot connect to the container runtime at {socket}: {message}", socket = socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        message: String,
    },
    /// Somebody answers, but neither as containerd nor as CRI v1 nor as Docker.
    #[error("{socket} speaks neither containerd's API nor CRI v1 nor Docker's: {message}", socket = socket.display())]
    NotARuntime {
        /// The socket.
        socket: PathBuf,
        /// What was answered.
        message: String,
    },
    /// A call was refused or the connection broke.
    #[error("{doing}: {message}")]
    Call {
        /// What was asked.
        doing: &'static str,
        /// gRPC's code of the answer.
        code: tonic::Code,
        /// What was answered.
        message: String,
    },
    /// Docker refused a request.
    #[error("{doing}: refused with {status}: {message}")]
    Refused {
        /// What was asked.
        doing: &'static str,
        /// HTTP status.
        status: u16,
        /// What was answered.
        message: String,
    },
    /// What came from Docker is no HTTP, or longer than is read, or the connection broke.
    #[error("{doing}: {message}")]
    Http {
        /// What was asked.
        doing: &'static str,
        /// What is wrong.
        message: String,
    },
    /// An answer of Docker is not what the API says.
    #[error("{doing}: the answer cannot be read: {message}")]
    Unreadable {
        /// What was asked.
        doing: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A call was not answered in time.
    #[error("{doing}: no answer within {seconds} s")]
    Timeout {
        /// What was asked.
        doing: &'static str,
        /// How long was waited.
        seconds: u64,
    },
    /// The runtime ended its stream of events.
    #[error("the container runtime's event stream ended: {message}")]
    Ended {
        /// The last word.
        message: String,
    },
}

impl RuntimeError {
    pub(crate) fn connect(socket: &Path, message: String) -> Self {
        Self::Connect { socket: socket.to_path_buf(), message }
    }
}
