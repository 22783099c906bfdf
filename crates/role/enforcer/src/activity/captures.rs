//! Captures of packets: what somebody asked to see of a workload's traffic.
//!
//! ```text
//! socket (keeper) ─► thread: filter ─► newest of some files, the oldest goes ─► read piece by piece
//! ```
//!
//! Files hold records of a capture file without its header, so that any row of them is one again. A record's place is
//! counted in bytes of all that the capture ever kept: who reads goes on there, whatever was deleted meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nv_capture::{Frame, Packets};
use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, CAPTURE_PIECE, CaptureEntry, CaptureStatus};
use nv_model::time::Timestamp;
use nv_packet::filter::Filter;
use nv_telemetry::Clock;

/// Bytes of one file, as the contract has it.
const FILE_BYTES: u64 = 2 * 1024 * 1024;
/// Most files of a capture, as the contract has it.
pub(crate) const MAX_FILES: u32 = 50;
/// Most captures that run at one time.
const MAX_RUNNING: usize = 8;
/// Most captures that are kept, each of at most 100 MiB: the oldest that has ended goes.
const MAX_KEPT: usize = 16;
/// How often a quiet capture looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);
/// Of a record: seconds, nanoseconds, bytes kept, bytes on the wire (pcap-savefile(5)).
const RECORD_HEADER: usize = 16;

/// All captures of this node.
pub(crate) struct Captures {
    folder: PathBuf,
    kept: BTreeMap<String, Capture>,
    clock: Arc<dyn Clock>,
}

/// What a capture is to keep.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) workload: WorkloadId,
    /// As it was given.
    pub(crate) text: String,
    pub(crate) filter: Filter,
    pub(crate) files: u32,
    pub(crate) seconds: u32,
}

/// One of them.
pub(crate) struct Capture {
    plan: Plan,
    /// As it began.
    started: Timestamp,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

/// What the thread has done so far.
#[derive(Debug, Default)]
struct State {
    /// Oldest first; each begins where the one before it ends.
    files: VecDeque<Piece>,
    status: CaptureStatus,
    packets: u64,
    dropped: u64,
    stopped: Option<Timestamp>,
}

/// A file: its name is the place of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    begin: u64,
    /// That can be read.
    length: u64,
}

impl Captures {
    /// In this folder, of which an earlier enforcer's captures are deleted.
    pub(crate) fn new(folder: PathBuf, clock: Arc<dyn Clock>) -> Self {
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, folder = %folder.display(), "old captures are not deleted");
        }
        Self { folder, kept: BTreeMap::new(), clock }
    }

    /// Whether one more may run.
    pub(crate) fn has_room(&self) -> bool {
        self.kept.values().filter(|capture| capture.runs()).count() < MAX_RUNNING
    }

    /// Begins one.
    pub(crate) fn start(&mut self, plan: Plan, socket: OwnedFd) -> Result<CaptureEntry, String> {
        while self.kept.len() >= MAX_KEPT {
            let ended = self.kept.iter().filter(|(_, capture)| !capture.runs());
            let oldest = ended.min_by_key(|(_, capture)| capture.started).map(|(id, _)| id.clone());
            let Some(oldest) = oldest else { return Err(format!("{MAX_KEPT} captures run already")) };
            self.remove(&oldest).map_err(|error| error.to_string())?;
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let id = id.get(..8).unwrap_or_default().to_owned();
        let folder = self.folder.join(&id);
        let fail = |error: io::Error| format!("{}: {error}", folder.display());
        crate::node::make_private(&self.folder).map_err(fail)?;
        crate::node::make_private(&folder).map_err(fail)?;
        let capture = Capture {
            plan,
            started: self.clock.now(),
            folder: folder.clone(),
            stop: Arc::default(),
            state: Arc::default(),
        };
        let writer = Writer {
            packets: Packets::new(socket),
            filter: capture.plan.filter.clone(),
            files: usize::try_from(capture.plan.files.clamp(1, MAX_FILES)).unwrap_or(1),
            folder: folder.clone(),
            stop: Arc::clone(&capture.stop),
            state: Arc::clone(&capture.state),
            end: (capture.plan.seconds > 0)
                .then(|| self.clock.monotonic() + Duration::from_secs(capture.plan.seconds.into())),
            clock: Arc::clone(&self.clock),
        };
        std::thread::Builder::new().name("capture".to_owned()).spawn(move || writer.run()).map_err(fail)?;
        let entry = capture.entry(&id);
        self.kept.insert(id, capture);
        Ok(entry)
    }

    /// Those of a workload, or all.
    pub(crate) fn list(&self, workload: Option<&WorkloadId>) -> Vec<CaptureEntry> {
        self.kept
            .iter()
            .filter(|(_, capture)| workload.is_none_or(|wanted| capture.plan.workload == *wanted))
            .map(|(id, capture)| capture.entry(id))
            .collect()
    }

    /// Ends one; its thread notices within a moment.
    pub(crate) fn stop(&mut self, id: &str) -> Result<CaptureEntry, AnswerError> {
        let capture = self.kept.get(id).ok_or(AnswerError::UnknownCapture)?;
        capture.stop.store(true, Ordering::Relaxed);
        Ok(capture.entry(id))
    }

    /// Ends one and deletes what it has.
    pub(crate) fn remove(&mut self, id: &str) -> Result<CaptureEntry, AnswerError> {
        let capture = self.kept.remove(id).ok_or(AnswerError::UnknownCapture)?;
        capture.stop.store(true, Ordering::Relaxed);
        let entry = capture.entry(id);
        match fs::remove_dir_all(&capture.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(AnswerError::Failed(format!("{}: {error}", capture.folder.display())))
            }
            _ => Ok(entry),
        }
    }

    /// The workload has ended: an open socket would keep its network alive.
    pub(crate) fn end_of(&self, workload: &WorkloadId) {
        for capture in self.kept.values().filter(|capture| capture.plan.workload == *workload) {
            capture.stop.store(true, Ordering::Relaxed);
        }
    }

    /// What reads a piece of it, which waits for the disk.
    pub(crate) fn reader(&self, id: &str) -> Result<Reader, AnswerError> {
        let capture = self.kept.get(id).ok_or(AnswerError::UnknownCapture)?;
        Ok(Reader { folder: capture.folder.clone(), files: lock(&capture.state).files.clone() })
    }
}

impl Capture {
    fn runs(&self) -> bool {
        lock(&self.state).status == CaptureStatus::Running
    }

    fn entry(&self, id: &str) -> CaptureEntry {
        let state = lock(&self.state);
        CaptureEntry {
            id: id.to_owned(),
            workload: Some(self.plan.workload.clone()),
            status: state.status,
            filter: self.plan.text.clone(),
            files: u32::try_from(state.files.len()).unwrap_or(u32::MAX),
            bytes: state.files.iter().map(|file| file.length).sum(),
            packets: state.packets,
            dropped: state.dropped,
            started: self.started,
            stopped: state.stopped,
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn path(folder: &Path, begin: u64) -> PathBuf {
    folder.join(begin.to_string())
}

/// Reads what a capture had at one moment.
pub(crate) struct Reader {
    folder: PathBuf,
    files: VecDeque<Piece>,
}

impl Reader {
    /// Records from `position` on, or from the oldest that are kept.
    pub(crate) fn read(&self, position: u64) -> Result<Answer, AnswerError> {
        let oldest = self.files.front().map_or(position, |file| file.begin);
        let mut position = position.max(oldest);
        loop {
            let holds = |file: &&Piece| (file.begin..file.begin + file.length).contains(&position);
            let Some(file) = self.files.iter().find(holds) else {
                return Ok(Answer::CapturePiece { position, bytes: Vec::new() });
            };
            match self.piece(file, position - file.begin) {
                Ok(bytes) => return Ok(Answer::CapturePiece { position, bytes }),
                // It was the oldest, and has gone since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => position = file.begin + file.length,
                Err(error) => {
                    return Err(AnswerError::Failed(format!("{}: {error}", self.folder.display())));
                }
            }
        }
    }

    fn piece(&self, file: &Piece, from: u64) -> io::Result<Vec<u8>> {
        let mut open = File::open(path(&self.folder, file.begin))?;
        open.seek(SeekFrom::Start(from))?;
        let most = (file.length - from).min(u64::try_from(CAPTURE_PIECE).unwrap_or(u64::MAX));
        let mut bytes = Vec::new();
        open.take(most).read_to_end(&mut bytes)?;
        let whole = whole_records(&bytes);
        bytes.truncate(whole);
        Ok(bytes)
    }
}

/// How many bytes the records have that are there to their end.
fn whole_records(bytes: &[u8]) -> usize {
    let mut whole = 0_usize;
    while let Some([.., k0, k1, k2, k3, _, _, _, _]) =
        bytes.get(whole..).and_then(<[u8]>::first_chunk::<RECORD_HEADER>)
    {
        let kept = usize::try_from(u32::from_le_bytes([*k0, *k1, *k2, *k3])).unwrap_or(usize::MAX);
        match whole.checked_add(RECORD_HEADER).and_then(|at| at.checked_add(kept)) {
            Some(end) if end <= bytes.len() => whole = end,
            _ => break,
        }
    }
    whole
}

/// The thread of a capture.
struct Writer {
    packets: Packets,
    filter: Filter,
    files: usize,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
    end: Option<Duration>,
    clock: Arc<dyn Clock>,
}

/// The newest file, how much was written to it, and how many packets of that nobody was told of yet.
struct Newest {
    file: BufWriter<File>,
    begin: u64,
    written: u64,
    packets: u64,
}

impl Writer {
    fn run(mut self) {
        let outcome = self.keep();
        let dropped = self.packets.dropped().unwrap_or_default();
        let mut state = lock(&self.state);
        state.dropped = state.dropped.saturating_add(dropped);
        state.stopped = Some(self.clock.now());
        state.status = match outcome {
            Ok(()) => CaptureStatus::Stopped,
            Err(error) => {
                tracing::error!(%error, folder = %self.folder.display(), "a capture has failed");
                CaptureStatus::Failed
            }
        };
    }

    fn keep(&mut self) -> io::Result<()> {
        let mut newest = self.begin(0)?;
        let mut published = self.clock.monotonic();
        loop {
            let now = self.clock.monotonic();
            if self.end.is_some_and(|end| now >= end) || self.stop.load(Ordering::Relaxed) {
                return self.publish(&mut newest);
            }
            let full = newest.written >= FILE_BYTES;
            if full || now.saturating_sub(published) >= PATIENCE {
                self.publish(&mut newest)?;
                published = now;
            }
            if full {
                newest = self.begin(newest.begin + newest.written)?;
            }
            if let Some(frame) = self.packets.next(PATIENCE)?
                && self.filter.wants(frame.bytes, frame.length)
            {
                record(&mut newest, frame, self.clock.now())?;
            }
        }
    }

    /// A new file; the oldest goes when there are too many.
    fn begin(&self, begin: u64) -> io::Result<Newest> {
        let name = path(&self.folder, begin);
        let file = File::options().write(true).create_new(true).mode(0o600).open(name)?;
        let mut state = lock(&self.state);
        state.files.push_back(Piece { begin, length: 0 });
        let gone = if state.files.len() > self.files { state.files.pop_front() } else { None };
        drop(state);
        if let Some(gone) = gone {
            fs::remove_file(path(&self.folder, gone.begin))?;
        }
        Ok(Newest { file: BufWriter::new(file), begin, written: 0, packets: 0 })
    }

    /// What was written can be read from now on.
    fn publish(&self, newest: &mut Newest) -> io::Result<()> {
        newest.file.flush()?;
        let dropped = self.packets.dropped().unwrap_or_default();
        let mut state = lock(&self.state);
        state.dropped = state.dropped.saturating_add(dropped);
        state.packets = state.packets.saturating_add(std::mem::take(&mut newest.packets));
        if let Some(last) = state.files.back_mut() {
            last.length = newest.written;
        }
        Ok(())
    }
}

/// Appends a record (pcap-savefile(5)).
fn record(newest: &mut Newest, frame: Frame<'_>, at: Timestamp) -> io::Result<()> {
    let nanos = u64::try_from(at.nanos()).unwrap_or_default();
    let kept = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
    let fields =
        [nanos / 1_000_000_000, nanos % 1_000_000_000, u64::from(kept), u64::from(frame.length.max(kept))];
    for field in fields {
        newest.file.write_all(&u32::try_from(field).unwrap_or(u32::MAX).to_le_bytes())?;
    }
    newest.file.write_all(frame.bytes)?;
    newest.packets += 1;
    newest.written += u64::try_from(RECORD_HEADER).unwrap_or(0) + u64::from(kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path, files: usize, count: u32) -> (Arc<Mutex<State>>, Vec<u8>) {
        let state = Arc::new(Mutex::new(State::default()));
        // A pair of sockets in the kernel's place: nothing is read from it here.
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let writer = Writer {
            packets: Packets::new(socket.into()),
            filter: "".parse().unwrap(),
            files,
            folder: folder.to_owned(),
            stop: Arc::default(),
            state: Arc::clone(&state),
            end: None,
            clock: Arc::new(nv_telemetry::SystemClock::new()),
        };
        let mut all = Vec::new();
        let mut newest = writer.begin(0).unwrap();
        for number in 0..count {
            let bytes = vec![u8::try_from(number % 251).unwrap(); 60_000];
            let frame = Frame { bytes: &bytes, length: 60_000 };
            record(&mut newest, frame, Timestamp::from_seconds(i64::from(number))).unwrap();
            all.extend(number.to_le_bytes());
            all.extend([0_u32, 60_000, 60_000].map(u32::to_le_bytes).concat());
            all.extend(&bytes);
            if newest.written >= FILE_BYTES {
                writer.publish(&mut newest).unwrap();
                newest = writer.begin(newest.begin + newest.written).unwrap();
            }
        }
        writer.publish(&mut newest).unwrap();
        (state, all)
    }

    fn read_all(folder: &Path, state: &Mutex<State>, mut position: u64) -> (u64, Vec<u8>) {
        let reader = Reader { folder: folder.to_owned(), files: lock(state).files.clone() };
        let (mut all, mut first) = (Vec::new(), None);
        loop {
            let Ok(Answer::CapturePiece { position: at, bytes }) = reader.read(position) else {
                panic!("no piece")
            };
            let first = *first.get_or_insert(at);
            if bytes.is_empty() {
                return (first, all);
            }
            assert_eq!(whole_records(&bytes), bytes.len());
            position = at + u64::try_from(bytes.len()).unwrap();
            all.extend(bytes);
        }
    }

    #[test]
    fn a_capture_is_read_as_it_was_written_whatever_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let (state, all) = written(folder.path(), 5, 100);
        assert_eq!(lock(&state).files.len(), 3, "some 6 MB in files of 2 MiB");
        assert_eq!(read_all(folder.path(), &state, 0), (0, all));
    }

    #[test]
    fn the_oldest_file_goes_and_who_reads_goes_on_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (state, all) = written(folder.path(), 2, 100);
        let (begin, kept) = read_all(folder.path(), &state, 0);
        assert!(begin > 0 && all.ends_with(&kept), "the newest are kept, from a record's begin on");
        assert_eq!(usize::try_from(begin).unwrap() + kept.len(), all.len());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
