//! What a controller asks of this node, and where each answer is made.

use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, ProcessEntry, Question};
use nv_wire::enforcer::v1 as proto;

use super::{Agent, MAX_RUNNING};

/// Places of the link's queue that answers leave free for acknowledgements of policy and signs of life.
const LEFT_FREE: usize = 4;

impl Agent {
    /// A question came: answer it. Work that takes longer than a moment belongs elsewhere, with the answer sent from
    /// there.
    pub(super) fn question(&mut self, id: u64, question: Option<Question>) {
        let answer = match question {
            Some(Question::Processes { workload, .. }) => self.processes_of(workload.as_ref()),
            Some(Question::Counters) => Ok(Answer::Counters(self.counters())),
            Some(Question::Sessions { .. } | Question::ClearSessions { .. }) | None => {
                Err(AnswerError::UnknownQuestion)
            }
        };
        self.answer(id, answer);
    }

    /// Sends an answer, unless the link is stuck: then the controller's own deadline tells who asked.
    fn answer(&mut self, id: u64, answer: Result<Answer, AnswerError>) {
        if self.link.as_ref().is_some_and(|link| link.capacity() > LEFT_FREE) {
            let answer = proto::Answer { id, answer: Some(answer.into()) };
            self.send(proto::from_enforcer::Message::Answer(answer));
        } else {
            tracing::warn!(id, "the link is full: a question stays without an answer");
        }
    }

    fn processes_of(&self, workload: Option<&WorkloadId>) -> Result<Answer, AnswerError> {
        let Some(id) = workload else {
            return Err(AnswerError::Failed("processes of the host are not listed".to_owned()));
        };
        let local = self.inventory.get(id).ok_or(AnswerError::UnknownWorkload)?;
        let root = self.setup.cgroup_root.as_ref();
        let root = root.ok_or_else(|| AnswerError::Failed("there is no cgroup v2 tree".to_owned()))?;
        let members = root.join(local.workload.cgroup.trim_start_matches('/')).join("cgroup.procs");
        let pids = crate::node::read_small(members);
        let pids = pids.lines().take(MAX_RUNNING).filter_map(|line| line.trim().parse::<u32>().ok());
        Ok(Answer::Processes(
            pids.filter_map(|pid| {
                let process = self.processes.get(pid)?;
                Some(ProcessEntry {
                    pid,
                    parent: process.parent,
                    name: process.name.clone(),
                    path: process.path.clone(),
                    root: pid == local.workload.pid,
                    ..ProcessEntry::default()
                })
            })
            .collect(),
        ))
    }
}
