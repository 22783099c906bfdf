//! Why a file did not come.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a file did not come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The client could not be set up; most often the proxy's address is none.
    #[error("the client could not be set up: is the proxy's address right?")]
    Setup(#[source] reqwest::Error),
    /// The sender was not reached, or the connection broke off.
    #[error("{url} could not be read")]
    Connection {
        /// The file.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The sender refused.
    #[error("{url} was refused with status {status}")]
    Status {
        /// The file.
        url: String,
        /// The status.
        status: u16,
        /// How long the sender asks to wait.
        after: Option<Duration>,
    },
    /// The sender asks to wait longer than is waited.
    #[error("the sender of {url} asks to wait {seconds} s; try again later")]
    Busy {
        /// The file.
        url: String,
        /// How long.
        seconds: u64,
    },
    /// It ended before its end.
    #[error("{url} broke off after {got} bytes")]
    Truncated {
        /// The file.
        url: String,
        /// What came.
        got: u64,
    },
    /// It broke off again and again.
    #[error("{url} broke off {tries} times; what came is kept for the next time")]
    Tries {
        /// The file.
        url: String,
        /// How often.
        tries: u32,
    },
    /// It is larger than it may be.
    #[error("{url} has more than {most} bytes")]
    Size {
        /// The file.
        url: String,
        /// The most that is taken.
        most: u64,
    },
    /// Other bytes than those that were wanted.
    #[error("{url} is not the file that it should be: its SHA-256 is another")]
    Digest {
        /// The file.
        url: String,
    },
    /// It could not be kept.
    #[error("{} could not be written", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DownloadError {
    /// Whether another try may succeed.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Connection { source, .. } => !source.is_builder() && !source.is_redirect(),
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504),
            Self::Truncated { .. } => true,
            _ => false,
        }
    }

    /// How long the sender asks to wait.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Status { after, .. } => *after,
            _ => None,
        }
    }
}
