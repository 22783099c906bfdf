use std::io;
use std::path::{Path, PathBuf};

/// Why the lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Something that the lab needs is not installed.
    #[error("{what} is missing: apt-get install {package}")]
    Missing {
        /// The file that was looked for.
        what: String,
        /// Debian package that has it.
        package: &'static str,
    },
    /// Containers need root.
    #[error("the lab needs root: it starts containers and network namespaces")]
    NotRoot,
    /// All numbers of [`crate::LabOptions::fresh`] are taken.
    #[error("all {labs} lab numbers are in use; see {directory}", directory = directory.display())]
    NoneFree {
        /// How many labs may run at once.
        labs: u8,
        /// Where the numbers are locked.
        directory: PathBuf,
    },
    /// An option that cannot work.
    #[error("lab option {option}: {reason}")]
    Option {
        /// Name of the field.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried (`create`, `read`, …).
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// containerd or Docker did not come up; `log` is the end of its log.
    #[error("the runtime at {socket} was not ready within {seconds} s: {last}; its log ends: {log}", socket = socket.display())]
    NotReady {
        /// Its socket.
        socket: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// The last answer to a try.
        last: String,
        /// End of its log file.
        log: String,
    },
    /// The runtime refused a call.
    #[error("{doing}: {message}")]
    Runtime {
        /// What was tried, on what.
        doing: String,
        /// The runtime's answer.
        message: String,
    },
    /// A program that belongs to containerd failed.
    #[error("{program} {arguments}: {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it was called with.
        arguments: String,
        /// What it wrote.
        output: String,
    },
    /// Something did not end in time.
    #[error("{doing} took longer than {seconds} s")]
    Timeout {
        /// What was waited for.
        doing: String,
        /// How long.
        seconds: u64,
    },
}

impl LabError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn runtime(doing: impl Into<String>) -> impl FnOnce(tonic::Status) -> Self {
        let doing = doing.into();
        move |status| Self::Runtime { doing, message: format!("{} ({:?})", status.message(), status.code()) }
    }

    pub(crate) fn missing_answer(doing: impl Into<String>, what: &str) -> Self {
        Self::Runtime { doing: doing.into(), message: format!("the answer has no {what}") }
    }
}
