//! What a controller asks of this node, and where each answer is made.

use std::path::PathBuf;
use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, Question};
use nv_wire::enforcer::v1 as proto;

use super::{Agent, Later};
use crate::activity::processes::{Listing, list};
use crate::identity::workloads::Owner;

/// Places of the link's queue that answers leave free for acknowledgements of policy and signs of life.
const LEFT_FREE: usize = 4;

impl Agent {
    /// A question came: answer it. Work that takes longer than a moment belongs elsewhere, with the answer sent from
    /// there.
    pub(super) fn question(&mut self, id: u64, question: Option<Question>) {
        let answer = match question {
            Some(Question::Processes { workload, history }) => {
                match self.processes_of(id, &workload, history) {
                    Some(answer) => answer,
                    None => return,
                }
            }
            Some(Question::Counters) => Ok(Answer::Counters(self.counters())),
            Some(Question::Sessions { workload, start, limit }) => {
                self.sessions(workload.as_ref(), start, limit)
            }
            Some(Question::ClearSessions { workload, id }) => self.clear_sessions(workload.as_ref(), id),
            Some(Question::Capture(about)) => match self.capture(id, about) {
                Some(answer) => answer,
                None => return,
            },
            Some(Question::Meters { workload }) => match self.meters(id, workload) {
                Some(answer) => answer,
                None => return,
            },
            Some(Question::WatchedFiles { workload }) => match self.watched_files(id, workload) {
                Some(answer) => answer,
                None => return,
            },
            Some(Question::Inventory { workload, position }) => self.installed(&workload, position),
            None => Err(AnswerError::UnknownQuestion),
        };
        self.answer(id, answer);
    }

    /// Sends an answer, unless the link is stuck: then the controller's own deadline tells who asked.
    pub(super) fn answer(&mut self, id: u64, answer: Result<Answer, AnswerError>) {
        if self.link.as_ref().is_some_and(|link| link.capacity() > LEFT_FREE) {
            let answer = proto::Answer { id, answer: Some(answer.into()) };
            self.send(proto::from_enforcer::Message::Answer(answer));
        } else {
            tracing::warn!(id, "the link is full: a question stays without an answer");
        }
    }

    /// A piece of the list of what is installed; the first question has it read elsewhere.
    fn installed(&self, workload: &Option<WorkloadId>, position: u64) -> Result<Answer, AnswerError> {
        let root = match workload {
            Some(wanted) => {
                let local = self.workloads.get(wanted).ok_or(AnswerError::UnknownWorkload)?;
                match local.workload.pid {
                    0 => return Err(AnswerError::UnknownWorkload),
                    pid => PathBuf::from(format!("/proc/{pid}/root/")),
                }
            }
            // Some kernels let nobody look there; then this process is no container's.
            None => {
                let host = PathBuf::from("/proc/1/root/");
                if host.read_dir().is_ok() { host } else { PathBuf::from("/") }
            }
        };
        self.installed.ask(workload, root, position)
    }

    /// Gathers what the table knows; the rest is read from `/proc` elsewhere, and the answer comes back as work done.
    fn processes_of(
        &self,
        id: u64,
        workload: &Option<WorkloadId>,
        history: bool,
    ) -> Option<Result<Answer, AnswerError>> {
        let (owner, folder) = match workload {
            Some(wanted) => {
                let Some(local) = self.workloads.get(wanted) else {
                    return Some(Err(AnswerError::UnknownWorkload));
                };
                let below = local.workload.cgroup.trim_start_matches('/');
                let folder = self.setup.cgroup_root.as_ref().filter(|_| !below.is_empty());
                (Owner::Workload(wanted.clone()), folder.map(|root| root.join(below)))
            }
            None => (Owner::Host, None),
        };
        let living = self.processes.living();
        let living = living.filter(|(_, process)| self.workloads.owner(process.cgroup) == owner);
        let listing = Listing {
            living: living.map(|(pid, process)| (pid, process.clone())).collect(),
            past: if history { self.history.of(workload).cloned().collect() } else { Vec::new() },
            folder,
            cgroup_root: self.setup.cgroup_root.clone(),
            boot: self.wall(Duration::ZERO),
            hashes: workload.as_ref().map(|id| self.hashes.of(id)).unwrap_or_default(),
        };
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let answer = Ok(Answer::Processes(list(listing)));
            drop(later.blocking_send(Later::Answer(id, answer)));
        });
        None
    }
}
