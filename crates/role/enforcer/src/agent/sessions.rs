//! Open connections, for whoever asks.

use std::collections::HashSet;

use nv_capture::Session;
use nv_model::name::WorkloadId;
use nv_model::question::{Answer, AnswerError, SessionEntry};

use super::Agent;
use super::inspection::connection_of;

/// Most sessions in one answer; the rest is asked for by its start.
const MAX_SESSIONS: usize = 1000;

impl Agent {
    /// The sessions of a workload's network, or of all, by their numbers.
    pub(super) fn sessions(
        &self,
        workload: Option<&WorkloadId>,
        start: u32,
        limit: u32,
    ) -> Result<Answer, AnswerError> {
        let mut open = self.open_sessions(workload)?;
        open.sort_unstable_by_key(|session| session.id);
        let total = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let limit = match count(limit) {
            0 => MAX_SESSIONS,
            limit => limit.min(MAX_SESSIONS),
        };
        let sessions =
            open.iter().skip(count(start)).take(limit).map(|session| self.entry(session)).collect();
        Ok(Answer::Sessions { sessions, total })
    }

    /// Forgets sessions: their next packets are judged anew.
    pub(super) fn clear_sessions(
        &mut self,
        workload: Option<&WorkloadId>,
        id: Option<u64>,
    ) -> Result<Answer, AnswerError> {
        let open = self.open_sessions(workload)?;
        let ids: HashSet<u64> =
            open.iter().map(|session| session.id).filter(|one| id.is_none_or(|id| id == *one)).collect();
        let Some(kernel) = &mut self.setup.kernel else { return Ok(Answer::Cleared { count: 0 }) };
        match kernel.flows.forget(&ids) {
            Ok(count) => Ok(Answer::Cleared { count }),
            Err(error) => Err(AnswerError::Failed(nv_telemetry::chain(&error))),
        }
    }

    fn open_sessions(&self, workload: Option<&WorkloadId>) -> Result<Vec<Session>, AnswerError> {
        // Flows belong to the pod whose veth they pass, or to the container whose sockets they are of.
        let owners = match workload {
            Some(id) if self.workloads.get(id).is_none() => return Err(AnswerError::UnknownWorkload),
            Some(id) => Some([self.workloads.sender(id), id.clone()]),
            None => None,
        };
        let of_network = |session: &Session| {
            owners.as_ref().is_none_or(|owners| {
                owners.iter().any(|id| self.workloads.endpoint(session.flow.endpoint) == Some(id))
            })
        };
        Ok(match &self.setup.kernel {
            Some(kernel) => kernel.flows.sessions().filter(of_network).collect(),
            None => self.opened_sessions().filter(of_network).collect(),
        })
    }

    fn entry(&self, session: &Session) -> SessionEntry {
        let flow = &session.flow;
        let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        SessionEntry {
            id: session.id,
            workload: self.workloads.endpoint(flow.endpoint).cloned(),
            ingress: flow.ends.ingress,
            protocol: flow.ends.protocol,
            client: flow.ends.client,
            client_port: flow.ends.client_port,
            server: flow.ends.server,
            server_port: flow.ends.server_port,
            forwarded_for: self.spoken.asker(connection_of(&flow.ends)),
            application: self.inspection.applications.get(connection_of(&flow.ends)),
            client_packets: flow.packets_to_server,
            client_bytes: flow.bytes_to_server,
            server_packets: flow.packets_to_client,
            server_bytes: flow.bytes_to_client,
            age: seconds(session.age),
            idle: seconds(session.idle),
            verdict: flow.verdict,
            rule: flow.rule,
        }
    }
}
