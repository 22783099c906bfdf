//! Layers of images are anybody's, so that another process reads them, which may do nothing else: it has no file, no network, no
//! capability, no environment, and a bound on memory and time. When it dies, that layer counts as unread, and the next one
//! gets a new process.
//!
//! ```text
//! here    Task                 0 length message
//!         frames of the blob   length bytes … 0; 0xffffffff length message where it breaks off
//! there   +   another frame    2   the blob from its begin once more    .   the end, length record
//! ```
//! Numbers are big-endian, 4 bytes. Each frame is answered before the next, so that neither waits for the other to read.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use nv_confine::{Calls, ConfineError, Test, leave_all, leave_user_if_possible};
use nv_layer::LayerDigests;
use nv_secret::SecretRules;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::layer::{LayerRead, LayerRecord, walk};

/// Name of the hidden subcommand of every binary that scans images.
pub const LAYER_READER: &str = "layer-reader";
/// Bytes of a frame.
const FRAME: usize = 256 * 1024;
/// In the place of a length: the blob breaks off, a message follows.
const BROKEN: u32 = u32::MAX;
/// Largest record of a layer.
const MAX_RECORD: u32 = 512 * 1024 * 1024;
/// Longest task or message.
const MAX_MESSAGE: u32 = 64 * 1024;
/// Most seconds of CPU time, and most bytes of memory.
const MAX_SECONDS: u64 = 1200;
const MAX_MEMORY: u64 = 2 << 30;

const MORE: u8 = b'+';
const AGAIN: u8 = b'2';
const END: u8 = b'.';

#[derive(Serialize, Deserialize)]
struct Task {
    blob: String,
    archive: String,
    secrets: bool,
}

#[derive(Serialize, Deserialize)]
struct Done {
    record: LayerRecord,
    /// Why it could not be read to its end; empty where it was.
    unread: String,
    /// The digest of its archive; empty where it could not be read to its end.
    archive: String,
}

/// A process that reads layers, started when there is one to read.
#[derive(Default)]
pub struct LayerProcess {
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and is waited for all the same.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

impl LayerProcess {
    /// Reads a layer with these digests; `open` gives its blob from the begin.
    ///
    /// # Errors
    /// A sentence when the blob cannot be opened, or the process died.
    pub(crate) fn read<'a>(
        &self,
        digests: &LayerDigests,
        secrets: bool,
        open: &dyn Fn() -> Result<Box<dyn Read + 'a>, String>,
    ) -> Result<LayerRead, String> {
        let mut slot = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blob = open()?;
        // It goes back only when it has answered in order.
        let mut running = match slot.take() {
            Some(running) => running,
            None => Running::start().map_err(|error| format!("no process to read it: {error}"))?,
        };
        let task = Task { blob: digests.blob.clone(), archive: digests.archive.clone(), secrets };
        let died = |error: io::Error| format!("the process that reads it ended: {error}");
        running.task(&task).map_err(died)?;
        let mut answer = running.send(&mut *blob).map_err(died)?;
        if answer == AGAIN {
            answer = match open() {
                Ok(mut blob) => running.send(&mut *blob).map_err(died)?,
                Err(why) => running.send(&mut Unopened(why)).map_err(died)?,
            };
        }
        if answer != END {
            return Err(format!("the process that reads it answered {answer}"));
        }
        let done = running.record().map_err(died)?;
        *slot = Some(running);
        Ok(LayerRead { record: done.record, unread: done.unread, archive: done.archive })
    }
}

/// A blob that cannot be opened.
struct Unopened(String);

impl Read for Unopened {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(self.0.clone()))
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        // This binary, also when its file was replaced meanwhile. The environment may have passwords.
        let mut child = Command::new("/proc/self/exe")
            .arg(LAYER_READER)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(to), Some(from)) => Ok(Self { child, to, from }),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn task(&mut self, task: &Task) -> io::Result<()> {
        let bytes = serde_json::to_vec(task).map_err(io::Error::other)?;
        self.to.write_all(&length(bytes.len())?)?;
        self.to.write_all(&bytes)
    }

    fn answer(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.from.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }

    /// Sends a blob until its end, or until it is not wanted any more; what was answered last.
    fn send(&mut self, blob: &mut dyn Read) -> io::Result<u8> {
        let mut frame = vec![0; FRAME];
        let mut first = true;
        loop {
            // The next frame is fetched while the last one is read.
            let filled = fill(blob, &mut frame);
            if !std::mem::take(&mut first) {
                match self.answer()? {
                    MORE => {}
                    other => return Ok(other),
                }
            }
            let (sign, bytes) = match &filled {
                Ok(filled) => (length(*filled)?, frame.get(..*filled).unwrap_or_default()),
                Err(error) => {
                    let why: String = nv_telemetry::chain(error).chars().take(1000).collect();
                    self.to.write_all(&BROKEN.to_be_bytes())?;
                    self.to.write_all(&length(why.len())?)?;
                    self.to.write_all(why.as_bytes())?;
                    return self.answer();
                }
            };
            self.to.write_all(&sign)?;
            self.to.write_all(bytes)?;
            if bytes.is_empty() {
                return self.answer();
            }
        }
    }

    fn record(&mut self) -> io::Result<Done> {
        let length = number(&mut self.from)?;
        if length > MAX_RECORD {
            return Err(io::Error::other(format!("its record has {length} bytes, at most {MAX_RECORD}")));
        }
        serde_json::from_reader(io::BufReader::new(self.from.by_ref().take(u64::from(length))))
            .map_err(io::Error::other)
    }
}

fn length(bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(bytes).map(u32::to_be_bytes).map_err(io::Error::other)
}

fn number(from: &mut dyn Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// As much as there is room for; less at the end alone.
fn fill(blob: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match blob.read(rest) {
            Ok(0) => break,
            Ok(read) => filled = filled.saturating_add(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Standard input and output, without a lock or buffer in between.
struct Pipe<'a>(BorrowedFd<'a>);

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(self.0, &mut *into))?)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(self.0, bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The other end, for the layer that is read.
struct Link<'a> {
    from: Pipe<'a>,
    to: Pipe<'a>,
}

/// A blob as it comes in frames.
struct Frames<'a> {
    link: Rc<RefCell<Link<'a>>>,
    frame: Vec<u8>,
    at: usize,
    begun: bool,
    ended: bool,
}

impl<'a> Frames<'a> {
    fn new(link: &Rc<RefCell<Link<'a>>>) -> Self {
        Self { link: Rc::clone(link), frame: Vec::new(), at: 0, begun: false, ended: false }
    }

    fn next(&mut self) -> io::Result<()> {
        let mut link = self.link.borrow_mut();
        if std::mem::replace(&mut self.begun, true) {
            link.to.write_all(&[MORE])?;
        }
        let length = number(&mut link.from)?;
        // What comes next is this end's answer, whatever becomes of the blob.
        self.ended = length == 0 || length == BROKEN;
        if length == BROKEN {
            let message = number(&mut link.from)?.min(MAX_MESSAGE);
            let mut why = String::new();
            Read::by_ref(&mut link.from).take(u64::from(message)).read_to_string(&mut why)?;
            return Err(io::Error::other(why));
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if length > FRAME {
            return Err(io::Error::other("a frame is too large"));
        }
        self.frame.resize(length, 0);
        self.at = 0;
        link.from.read_exact(&mut self.frame)
    }
}

impl Read for Frames<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.frame.len() && !self.ended {
            self.next()?;
        }
        let mut rest = self.frame.get(self.at..).unwrap_or_default();
        let read = rest.read(into)?;
        self.at = self.at.saturating_add(read);
        Ok(read)
    }
}

/// Reads layers for the process at the other ends of standard input and output, until it closes them.
///
/// # Errors
/// A sentence for the log.
pub fn layer_reader_main() -> Result<(), String> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    confine().map_err(|error| nv_telemetry::chain(&error))?;
    let link = Rc::new(RefCell::new(Link { from: Pipe(stdin.as_fd()), to: Pipe(stdout.as_fd()) }));
    let mut rules: Option<SecretRules> = None;
    loop {
        let task = {
            let mut link = link.borrow_mut();
            match number(&mut link.from) {
                Ok(length) => read_task(&mut link.from, length).map_err(|error| error.to_string())?,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        };
        if task.secrets && rules.is_none() {
            rules = Some(SecretRules::built_in().map_err(|error| nv_telemetry::chain(&error))?);
        }
        let digests = LayerDigests { blob: task.blob, archive: task.archive };
        let again = || {
            let asked = link.borrow_mut().to.write_all(&[AGAIN]);
            asked.map(|()| Frames::new(&link)).map_err(|error| error.to_string())
        };
        let rules = rules.as_ref().filter(|_| task.secrets);
        let LayerRead { record, unread, archive } = walk(Frames::new(&link), &digests, rules, again);
        let done =
            serde_json::to_vec(&Done { record, unread, archive }).map_err(|error| error.to_string())?;
        let mut link = link.borrow_mut();
        let told = length(done.len()).and_then(|length| {
            link.to.write_all(&[END])?;
            link.to.write_all(&length)?;
            link.to.write_all(&done)
        });
        told.map_err(|error| error.to_string())?;
    }
}

fn read_task(from: &mut dyn Read, length: u32) -> io::Result<Task> {
    if length > MAX_MESSAGE {
        return Err(io::Error::other("a task is too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    from.read_exact(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(io::Error::other)
}

/// For good, before the first byte of a layer.
fn confine() -> Result<(), ConfineError> {
    for (resource, most) in [(Resource::Cpu, MAX_SECONDS), (Resource::As, MAX_MEMORY)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(nv_confine::failed("limits"))?;
    }
    leave_user_if_possible()?;
    leave_all()?;
    Calls::of_computing()?
        .allow_if(libc::SYS_read, 0, Test::Is(0))?
        .allow_if(libc::SYS_write, 0, Test::Is(1))?
        .enforce()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_dies_leaves_its_layer_unread_and_harms_nothing_else() {
        // Of the test's own binary nobody reads layers: it ends at once, whatever it is sent.
        let process = LayerProcess::default();
        for _layer in 0..2 {
            let open = || -> Result<Box<dyn Read>, String> { Ok(Box::new(io::repeat(7).take(10_000_000))) };
            let read = process.read(&LayerDigests::default(), false, &open);
            let why = read.unwrap_err();
            assert!(why.contains("the process that reads it"), "{why}");
        }
        let unopened = process.read(&LayerDigests::default(), false, &|| Err("no such blob".to_owned()));
        assert_eq!(unopened.unwrap_err(), "no such blob");
    }
}
