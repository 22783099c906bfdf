//! What is installed in a container or on the node, and the secrets in a container's files, read when a controller asks for it:
//! one at a time, with the least claim on the CPU, through `/proc` and without following a link. The agent opens the files, and
//! a process that may do nothing else reads them ([`reader`]).

mod reader;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, INVENTORY_PIECE};
use nv_role_scanner::live_inventory;
pub use reader::reader_main;

use crate::keeper::Launcher;

/// Lists that are kept until they are fetched, those that are read included; the oldest makes room.
const MAX_LISTS: usize = 8;
/// Largest list.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Files that could not be read that are logged.
const MAX_TOLD: usize = 20;
/// The least claim on the CPU.
const NICE: i32 = 19;

/// Whose list; none for the node's own.
type Whose = Option<WorkloadId>;

#[derive(Debug)]
enum Reading {
    Reads,
    Done(Arc<[u8]>),
    Failed(String),
}

/// Lists that are read or wait to be fetched, the oldest first. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Installed {
    lists: Arc<Mutex<Vec<(Whose, Instant, Reading)>>>,
    /// Held by the thread that reads.
    turn: Arc<Mutex<()>>,
    /// Starts readers; without it this process reads.
    launcher: Option<Arc<Launcher>>,
    /// Files of containers are searched for secrets.
    secrets: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Installed {
    /// Read by readers that the launcher starts.
    pub(crate) fn new(launcher: Arc<Launcher>, secrets: bool) -> Self {
        Self { launcher: Some(launcher), secrets, ..Self::default() }
    }

    /// A piece of a list. The first question has it read.
    pub(crate) fn ask(&self, whose: &Whose, root: PathBuf, position: u64) -> Result<Answer, AnswerError> {
        let mut lists = lock(&self.lists);
        let Some(place) = lists.iter().position(|(other, ..)| other == whose) else {
            if position > 0 {
                return Err(AnswerError::Failed("the list is not there any more; ask anew".to_owned()));
            }
            if lists.len() >= MAX_LISTS {
                let oldest = lists.iter().position(|(.., reading)| !matches!(reading, Reading::Reads));
                let oldest =
                    oldest.ok_or_else(|| AnswerError::Failed("too many lists are being read".to_owned()))?;
                lists.remove(oldest);
            }
            lists.push((whose.clone(), Instant::now(), Reading::Reads));
            drop(lists);
            self.begin(whose, root)?;
            return Ok(Answer::InventoryReading);
        };
        match lists.get(place).map(|(.., reading)| reading) {
            Some(Reading::Done(document)) => {
                let document = Arc::clone(document);
                let start = usize::try_from(position).unwrap_or(usize::MAX).min(document.len());
                let end = start.saturating_add(INVENTORY_PIECE).min(document.len());
                if end == document.len() {
                    lists.remove(place);
                }
                Ok(Answer::InventoryPiece {
                    total: u64::try_from(document.len()).unwrap_or(u64::MAX),
                    position: u64::try_from(start).unwrap_or(u64::MAX),
                    bytes: document.get(start..end).unwrap_or_default().to_vec(),
                })
            }
            Some(Reading::Failed(reason)) => {
                let reason = reason.clone();
                lists.remove(place);
                Err(AnswerError::Failed(reason))
            }
            Some(Reading::Reads) | None => Ok(Answer::InventoryReading),
        }
    }

    fn begin(&self, whose: &Whose, root: PathBuf) -> Result<(), AnswerError> {
        let (here, of) = (self.clone(), whose.clone());
        let spawned = std::thread::Builder::new().name("installed".to_owned()).spawn(move || {
            if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                tracing::debug!(%error, "a list is read with the usual claim on the CPU");
            }
            let turn = lock(&here.turn);
            let read = here.read(&of, &root);
            drop(turn);
            here.put(&of, read);
        });
        spawned.map(drop).map_err(|error| {
            let reason = format!("no thread to read it: {error}");
            self.put(whose, Err(reason.clone()));
            AnswerError::Failed(reason)
        })
    }

    fn put(&self, whose: &Whose, read: Result<Vec<u8>, String>) {
        if let Some((_, began, reading)) = lock(&self.lists).iter_mut().find(|(other, ..)| other == whose) {
            tracing::debug!(?whose, millis = began.elapsed().as_millis() as u64, "a list was read");
            *reading = match read {
                Ok(document) => Reading::Done(document.into()),
                Err(reason) => Reading::Failed(reason),
            };
        }
    }

    fn read(&self, whose: &Whose, root: &Path) -> Result<Vec<u8>, String> {
        let subject = whose.as_ref().map_or("node", WorkloadId::as_str);
        // A node's own files are its administrators'.
        let secrets = self.secrets && whose.is_some();
        let (document, unread) = match &self.launcher {
            Some(launcher) => reader::read_confined(launcher, root, subject, secrets)?,
            None => live_inventory(root, subject, secrets).map_err(|error| nv_telemetry::chain(&error))?,
        };
        for fault in unread.iter().take(MAX_TOLD) {
            tracing::debug!(subject, fault, "a file could not be read");
        }
        if document.len() > MAX_BYTES {
            return Err(format!(
                "the list has {} bytes, at most {MAX_BYTES} are handed over",
                document.len()
            ));
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn document(installed: &Installed, whose: &Whose, root: &Path) -> Result<Vec<u8>, AnswerError> {
        let mut document = Vec::new();
        loop {
            let position = u64::try_from(document.len()).unwrap();
            match installed.ask(whose, root.to_owned(), position)? {
                Answer::InventoryReading => std::thread::yield_now(),
                Answer::InventoryPiece { total, position: at, bytes } => {
                    assert_eq!(at, position);
                    assert!(bytes.len() <= INVENTORY_PIECE);
                    document.extend(bytes);
                    if u64::try_from(document.len()).unwrap() == total {
                        return Ok(document);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_list_of_a_root_is_read_once_and_handed_over_in_pieces() {
        let root = tempfile::tempdir().unwrap();
        let status = root.path().join("var/lib/dpkg/status");
        std::fs::create_dir_all(status.parent().unwrap()).unwrap();
        let packages: String = (0..6000)
            .map(|number| {
                format!("Package: lib{number}\nStatus: install ok installed\nVersion: 1.{number}-1\nArchitecture: amd64\n\n")
            })
            .collect();
        std::fs::write(&status, packages).unwrap();
        let installed = Installed::default();
        let whose: Whose = Some("w".parse().unwrap());
        let read = document(&installed, &whose, root.path()).unwrap();
        assert!(read.len() > INVENTORY_PIECE, "{}", read.len());
        let text = String::from_utf8(read).unwrap();
        assert!(text.contains("lib5999") && text.contains("1.5999-1"));
        assert!(lock(&installed.lists).is_empty(), "what was fetched is forgotten");
        let lost = installed.ask(&whose, root.path().to_owned(), 7);
        assert!(matches!(lost, Err(AnswerError::Failed(_))), "{lost:?}");
    }

    #[test]
    fn a_root_that_is_gone_is_told_and_forgotten() {
        let installed = Installed::default();
        let error = document(&installed, &None, Path::new("/proc/0/root/")).unwrap_err();
        assert!(error.to_string().contains("/proc/0/root"), "{error}");
        assert!(lock(&installed.lists).is_empty());
    }
}
