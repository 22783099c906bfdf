//! Hashes of executables, taken when they are first seen in a workload: by one thread, off the way of any decision.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::observation::ProcessObservation;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::agent::Later;

/// Executables that may wait; beyond it one is taken the next time that it is run.
const MAX_WAITING: usize = 256;
/// Executables of all workloads whose hash is remembered.
const MAX_KNOWN: usize = 16_384;
/// Files whose hash is remembered as long as they do not change.
const MAX_FILES: usize = 4096;
/// Largest file that is hashed, in bytes.
const MAX_FILE: u64 = 256 * 1024 * 1024;
/// What is read at once, and how long the thread rests after it, so that it takes no more than a part of one CPU.
const CHUNK: usize = 256 * 1024;
const REST: Duration = Duration::from_millis(1);

/// SHA-256.
pub(crate) type Hash = [u8; 32];

/// As text.
pub(crate) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An executable to be hashed.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) workload: WorkloadId,
    /// Who runs it.
    pub(crate) pid: u32,
    /// A process of the workload that lives longer: its first one.
    pub(crate) first: u32,
    /// Where it lies in the workload.
    pub(crate) path: String,
    /// It is the image's file.
    pub(crate) of_image: bool,
    /// What is told if it is another one than before.
    pub(crate) seen: Option<Box<ProcessObservation>>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Hashed {
    pub(crate) job: Job,
    /// `None` when the file could not be read.
    pub(crate) hash: Option<Hash>,
}

/// What is known of an executable.
#[derive(Debug, Default)]
struct Known {
    hash: Option<Hash>,
    /// The hash is looked for.
    looking: bool,
    /// When it was last looked at it was the image's file.
    of_image: bool,
}

/// Hashes that are known, and the thread that finds more.
#[derive(Debug)]
pub(crate) struct Hashes {
    jobs: Option<SyncSender<Job>>,
    known: HashMap<WorkloadId, HashMap<String, Known>>,
    count: usize,
    skipped: u64,
}

impl Hashes {
    /// Starts the thread; without one no hash is known.
    pub(crate) fn start(later: mpsc::Sender<Later>) -> Self {
        let (jobs, waiting) = sync_channel(MAX_WAITING);
        let started =
            std::thread::Builder::new().name("hashes".to_owned()).spawn(move || work(&waiting, &later));
        if let Err(error) = &started {
            tracing::error!(%error, "no thread for hashes: changed executables are not told");
        }
        Self { jobs: started.is_ok().then_some(jobs), known: HashMap::new(), count: 0, skipped: 0 }
    }

    /// The hash of an executable, when it is known.
    pub(crate) fn get(&self, workload: &WorkloadId, path: &str) -> Option<&Hash> {
        self.known.get(workload)?.get(path)?.hash.as_ref()
    }

    /// Those of a workload, as text by path.
    pub(crate) fn of(&self, workload: &WorkloadId) -> HashMap<String, String> {
        let known = self.known.get(workload).into_iter().flatten();
        known.filter_map(|(path, known)| Some((path.clone(), hex(known.hash.as_ref()?)))).collect()
    }

    /// Whether an executable that is not the image's file takes the place of one that was. Says so once.
    pub(crate) fn replaced(&mut self, workload: &WorkloadId, path: &str) -> bool {
        let known = self.known.get_mut(workload).and_then(|known| known.get_mut(path));
        known.is_some_and(|known| std::mem::take(&mut known.of_image))
    }

    /// Whether a job would tell something: it was never seen, or it may be another one by now.
    pub(crate) fn wanted(&self, workload: &WorkloadId, path: &str, changeable: bool) -> bool {
        match self.known.get(workload).and_then(|known| known.get(path)) {
            None => self.count < MAX_KNOWN,
            Some(known) => !known.looking && (changeable || known.hash.is_none()),
        }
    }

    /// Has an executable hashed.
    pub(crate) fn ask(&mut self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        let (workload, path, of_image) = (job.workload.clone(), job.path.clone(), job.of_image);
        if jobs.try_send(job).is_err() {
            self.skipped = self.skipped.saturating_add(1);
            return;
        }
        let known = self.known.entry(workload).or_default();
        let known = known.entry(path).or_insert_with(|| {
            self.count += 1;
            Known::default()
        });
        (known.looking, known.of_image) = (true, of_image);
    }

    /// Takes what was found. Gives the hash before it, when it is another one.
    pub(crate) fn found(&mut self, job: &Job, hash: Option<Hash>) -> Option<Hash> {
        // The workload may be gone meanwhile.
        let known = self.known.get_mut(&job.workload)?.get_mut(&job.path)?;
        known.looking = false;
        // Where its process was gone already, the next one is seen anew.
        let hash = hash?;
        known.hash.replace(hash).filter(|before| *before != hash)
    }

    /// The workload is gone.
    pub(crate) fn forget(&mut self, workload: &WorkloadId) {
        let gone = self.known.remove(workload).map_or(0, |known| known.len());
        self.count = self.count.saturating_sub(gone);
    }

    /// Executables that found the queue full.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// Until the agent is gone.
fn work(jobs: &Receiver<Job>, later: &mpsc::Sender<Later>) {
    let mut files: HashMap<Identity, Hash> = HashMap::new();
    while let Ok(job) = jobs.recv() {
        let hash = hash(&job, &mut files);
        if let Err(error) = &hash {
            tracing::debug!(%error, path = job.path, "an executable is not hashed");
        }
        if later.blocking_send(Later::Hashed(Box::new(Hashed { job, hash: hash.ok() }))).is_err() {
            return;
        }
    }
}

/// What a file is as long as it does not change: device, inode, size, last change of contents and of anything.
type Identity = (u64, u64, u64, i64, i64, i64, i64);

fn hash(job: &Job, files: &mut HashMap<Identity, Hash>) -> io::Result<Hash> {
    let file = open(job)?;
    let facts = file.metadata()?;
    if !facts.is_file() || facts.len() > MAX_FILE {
        return Err(io::Error::other("it is no file, or too large"));
    }
    let (mtime, ctime) = ((facts.mtime(), facts.mtime_nsec()), (facts.ctime(), facts.ctime_nsec()));
    let identity = (facts.dev(), facts.ino(), facts.len(), mtime.0, mtime.1, ctime.0, ctime.1);
    if let Some(known) = files.get(&identity) {
        return Ok(*known);
    }
    let hash = digest(file)?;
    if files.len() >= MAX_FILES {
        files.clear();
    }
    files.insert(identity, hash);
    Ok(hash)
}

/// The file itself while the process runs it; else by its path, where links are resolved inside of the workload's root.
fn open(job: &Job) -> io::Result<File> {
    let running = format!("/proc/{}/exe", job.pid);
    if std::fs::read_link(&running).is_ok_and(|path| path.as_os_str() == job.path.as_str()) {
        return File::open(running);
    }
    let root = rustix::fs::open(
        format!("/proc/{}/root", job.first),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let file = rustix::fs::openat2(
        root,
        job.path.trim_start_matches('/'),
        // A pipe or device in its place must not hold the thread up.
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    Ok(File::from(file))
}

fn digest(file: File) -> io::Result<Hash> {
    let mut file = file.take(MAX_FILE);
    let mut sum = Sha256::new();
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some([]) | None => return Ok(sum.finalize().into()),
            Some(part) => sum.update(part),
        }
        std::thread::sleep(REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(path: &str, pid: u32) -> Job {
        Job {
            workload: "w".parse().unwrap(),
            pid,
            first: std::process::id(),
            path: path.into(),
            of_image: true,
            seen: None,
        }
    }

    #[test]
    fn a_file_is_hashed_by_its_path_inside_of_the_root_and_what_is_no_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let found = hash(&job(path.to_str().unwrap(), 0), &mut HashMap::new()).unwrap();
        assert_eq!(hex(&found), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(hash(&job("/dev/null", 0), &mut HashMap::new()).is_err());
        assert!(hash(&job(folder.path().to_str().unwrap(), 0), &mut HashMap::new()).is_err());
        assert!(hash(&job("/nothing/here", 0), &mut HashMap::new()).is_err());
    }

    #[test]
    fn another_hash_under_the_same_path_is_told_with_the_one_before() {
        let (later, mut done) = mpsc::channel(8);
        let mut hashes = Hashes::start(later);
        let workload = "w".parse().unwrap();
        assert!(hashes.wanted(&workload, "/nothing/here", false));
        hashes.ask(job("/nothing/here", 0));
        assert!(!hashes.wanted(&workload, "/nothing/here", true), "it is looked for already");
        let asked = job("/nothing/here", 0);
        assert_eq!(hashes.found(&asked, None), None);
        assert!(hashes.wanted(&workload, "/nothing/here", false), "what could not be read is tried again");
        hashes.ask(job("/nothing/here", 0));
        assert_eq!(hashes.found(&asked, Some([1; 32])), None);
        assert_eq!(hashes.found(&asked, Some([1; 32])), None);
        assert_eq!(hashes.found(&asked, Some([2; 32])), Some([1; 32]));
        assert!(!hashes.wanted(&workload, "/nothing/here", false));
        assert!(hashes.wanted(&workload, "/nothing/here", true));
        assert!(hashes.replaced(&workload, "/nothing/here"));
        assert!(!hashes.replaced(&workload, "/nothing/here"), "it is said once");
        hashes.forget(&workload);
        assert_eq!((hashes.found(&asked, Some([3; 32])), hashes.count), (None, 0));
        let Some(Later::Hashed(done)) = done.blocking_recv() else { panic!("nothing came back") };
        assert_eq!(done.hash, None, "a file that is not there has no hash");
    }
}
