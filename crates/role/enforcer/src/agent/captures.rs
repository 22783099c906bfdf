//! Questions about captures of packets.

use std::os::fd::OwnedFd;

use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, CaptureQuestion};
use nv_packet::filter::FilterError;

use super::{Agent, Later};
use crate::activity::captures::{MAX_FILES, Plan};

type Answered = Result<Answer, AnswerError>;

impl Agent {
    /// Answers, or has what takes a while done elsewhere.
    pub(super) fn capture(&mut self, id: u64, about: CaptureQuestion) -> Option<Answered> {
        let one = |found: Result<_, AnswerError>| found.map(|entry| Answer::Captures(vec![entry]));
        match about {
            CaptureQuestion::Start { workload, filter, files, seconds } => {
                let filter_of = |error: FilterError| AnswerError::Failed(error.to_string());
                let plan = filter.parse().map_err(filter_of).map(|parsed| Plan {
                    workload,
                    text: filter,
                    filter: parsed,
                    files: files.clamp(1, MAX_FILES),
                    seconds,
                });
                self.begin_capture(id, plan)
            }
            CaptureQuestion::List { workload } => {
                Some(Ok(Answer::Captures(self.captures.list(workload.as_ref()))))
            }
            CaptureQuestion::Stop { id } => Some(one(self.captures.stop(&id))),
            CaptureQuestion::Remove { id } => Some(one(self.captures.remove(&id))),
            CaptureQuestion::Read { id: capture, position } => {
                let reader = match self.captures.reader(&capture) {
                    Ok(reader) => reader,
                    Err(error) => return Some(Err(error)),
                };
                let later = self.setup.later.clone();
                tokio::task::spawn_blocking(move || {
                    drop(later.blocking_send(Later::Answer(id, reader.read(position))));
                });
                None
            }
        }
    }

    /// The keeper opens the socket, and then it begins.
    fn begin_capture(&mut self, id: u64, plan: Result<Plan, AnswerError>) -> Option<Answered> {
        let ready = plan.and_then(|plan| {
            let pid = self.process_in_network(&plan.workload)?;
            if !self.captures.has_room() {
                return Err(AnswerError::Failed("too many captures run on this node; stop one".to_owned()));
            }
            let keeper = self.setup.keeper.clone();
            let keeper =
                keeper.ok_or_else(|| AnswerError::Failed("the keeper is being started".to_owned()))?;
            Ok((plan, pid, keeper))
        });
        let (plan, pid, keeper) = match ready {
            Ok(ready) => ready,
            Err(error) => return Some(Err(error)),
        };
        let later = self.setup.later.clone();
        tokio::task::spawn_blocking(move || {
            let socket = keeper.packets(pid).map_err(|error| error.to_string());
            drop(later.blocking_send(Later::Packets(id, Box::new(plan), socket)));
        });
        None
    }

    /// A process in the workload's own network.
    fn process_in_network(&self, id: &WorkloadId) -> Result<u32, AnswerError> {
        let local = self.workloads.get(id).ok_or(AnswerError::UnknownWorkload)?;
        if local.workload.host_network {
            let reason = "it is on the host's network, whose packets are not only its own";
            return Err(AnswerError::Failed(reason.to_owned()));
        }
        let network = local.workload.pod_sandbox.as_ref().unwrap_or(id);
        match self.workloads.network_process(network) {
            0 => Err(AnswerError::Failed("it does not run".to_owned())),
            pid => Ok(pid),
        }
    }

    /// The socket is here, or not.
    pub(super) fn packets(&mut self, id: u64, plan: Plan, socket: Result<OwnedFd, String>) {
        let begun = socket.and_then(|socket| self.captures.start(plan, socket));
        self.answer(id, begun.map(|entry| Answer::Captures(vec![entry])).map_err(AnswerError::Failed));
    }
}
