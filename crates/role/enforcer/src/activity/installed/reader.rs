//! The process that reads files of containers: it has no user, no capability, no file but those that it is handed, no network,
//! and a bound on memory and time. The agent walks the root and opens what may tell something; here it is parsed.
//!
//! ```text
//! agent   Begin + memory for the document, File + descriptor, File + descriptor, …, End
//! reader  Done                                                     (the document is in the memory then)
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nv_confine::{Calls, Test, leave_all, leave_user};
use nv_role_scanner::{LiveFile, LiveReader, walk_live};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::{MAX_BYTES, NICE};
use crate::keeper::{Launcher, pair, receive, send};

/// Longest time that the other end may take for one word.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most seconds of CPU time, and most bytes of memory.
const MAX_SECONDS: u64 = 600;
const MAX_MEMORY: u64 = 1 << 30;
/// Faults that are told.
const MAX_FAULTS: usize = 20;
/// The socket to the agent.
const CONTROL: u64 = 0;
/// Where a panic is told.
const STDERR: u64 = 2;

/// What the agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// What the document is about, and whether secrets are looked for. The packet carries the memory for the document.
    Begin { subject: String, secrets: bool },
    /// A file, with its descriptor, and that of the log of a database where it has one.
    File(LiveFile),
    /// There are no more.
    End,
}

/// What the reader says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// The document is in the memory.
    Done { bytes: u64, faults: Vec<String>, unread: usize },
    /// There is none.
    Failed { reason: String },
}

/// Has a reader read what is installed below `root`; the document, and what could not be read. The calling thread walks.
///
/// # Errors
/// A sentence, also when the reader ended or answers no more: nothing else is harmed by that.
pub(super) fn read_confined(
    launcher: &Launcher,
    root: &Path,
    subject: &str,
    secrets: bool,
) -> Result<(Vec<u8>, Vec<String>), String> {
    let (ours, theirs) = pair().map_err(sentence)?;
    for direction in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&ours, direction, Some(PATIENCE)).map_err(|error| error.to_string())?;
    }
    launcher.reader(&theirs).map_err(sentence)?;
    drop(theirs);
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let memory = rustix::fs::memfd_create("installed", flags).map_err(|error| error.to_string())?;
    let say = |word: &Word, descriptors: &[BorrowedFd<'_>]| {
        send(ours.as_fd(), word, descriptors).map_err(|error| format!("the reader ended: {error}"))
    };
    say(&Word::Begin { subject: subject.to_owned(), secrets }, &[memory.as_fd()])?;
    let mut faults = walk_live(root, secrets, &mut |file, content, log| {
        let mut descriptors = vec![content.as_fd()];
        descriptors.extend(log.as_ref().map(|log| log.as_fd()));
        say(&Word::File(file), &descriptors)
    })
    .map_err(|error| nv_telemetry::chain(&error))?;
    say(&Word::End, &[])?;
    match receive::<Reply>(ours.as_fd()).map_err(|error| format!("the reader ended: {error}"))?.0 {
        Reply::Done { bytes, faults: told, unread } => {
            faults.extend(told);
            let missing = unread.saturating_sub(MAX_FAULTS);
            faults.extend((missing > 0).then(|| format!("{missing} more files could not be read")));
            Ok((document(memory, bytes)?, faults))
        }
        Reply::Failed { reason } => Err(reason),
    }
}

/// What the reader has written. How much it says that is need not be so.
fn document(memory: OwnedFd, bytes: u64) -> Result<Vec<u8>, String> {
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    if bytes > most {
        return Err(format!("the list has {bytes} bytes, at most {MAX_BYTES} are handed over"));
    }
    let mut memory = File::from(memory);
    let mut document = Vec::new();
    memory.rewind().map_err(sentence)?;
    memory.take(bytes).read_to_end(&mut document).map_err(sentence)?;
    // What a stranger's files have made of the reader may have written anything.
    if serde_json::from_slice::<serde::de::IgnoredAny>(&document).is_err() {
        return Err("the reader gave no document".to_owned());
    }
    Ok(document)
}

fn sentence(error: impl std::error::Error) -> String {
    nv_telemetry::chain(&error)
}

/// Runs a reader on the socket that is its standard input, until it has told what it read.
///
/// # Errors
/// A sentence for the log.
pub fn reader_main() -> Result<(), String> {
    let socket = std::io::stdin();
    let socket = socket.as_fd();
    confine().map_err(sentence)?;
    let (Word::Begin { subject, secrets }, mut descriptors) = receive::<Word>(socket).map_err(sentence)?
    else {
        return Err("files come after a beginning".to_owned());
    };
    let mut memory = File::from(descriptors.pop().ok_or("there is no memory for the document")?);
    let mut reader = LiveReader::new(secrets).map_err(sentence)?;
    loop {
        match receive::<Word>(socket).map_err(sentence)? {
            (Word::File(file), descriptors) => {
                let mut files = descriptors.into_iter().map(File::from);
                if let Some(content) = files.next() {
                    reader.read(&file, content, files.next());
                }
            }
            (Word::End, _) => break,
            (Word::Begin { .. }, _) => return Err("there is one beginning".to_owned()),
        }
    }
    let reply = match reader.finish(&subject) {
        Ok((document, mut faults)) => {
            let unread = faults.len();
            faults.truncate(MAX_FAULTS);
            // One packet holds them all.
            for fault in &mut faults {
                *fault = fault.chars().take(400).collect();
            }
            memory.write_all(&document).map_err(sentence)?;
            Reply::Done { bytes: u64::try_from(document.len()).unwrap_or(u64::MAX), faults, unread }
        }
        Err(error) => Reply::Failed { reason: nv_telemetry::chain(&error) },
    };
    send(socket, &reply, &[]).map_err(sentence)
}

/// For good, before the first word of the agent.
fn confine() -> Result<(), nv_confine::ConfineError> {
    for (resource, most) in [(Resource::Cpu, MAX_SECONDS), (Resource::As, MAX_MEMORY)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(nv_confine::failed("limits"))?;
    }
    // It may take as long as it takes; where the kernel does not want that, it has the usual claim on the CPU.
    let _usual = rustix::process::setpriority_process(None, NICE);
    leave_user()?;
    leave_all()?;
    Calls::of_computing()?
        .allow_if(libc::SYS_recvmsg, 0, Test::Is(CONTROL))?
        .allow_if(libc::SYS_sendmsg, 0, Test::Is(CONTROL))?
        // What it was handed: files that are open to be read, and the memory for the document.
        .allow_if(libc::SYS_pread64, 0, Test::Above(STDERR))?
        .allow_if(libc::SYS_statx, 0, Test::Above(STDERR))?
        .allow_if(libc::SYS_fstat, 0, Test::Above(STDERR))?
        .allow_if(libc::SYS_write, 0, Test::Above(STDERR))?
        .enforce()
}
