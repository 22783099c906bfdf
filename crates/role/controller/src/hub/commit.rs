//! Durable first, acknowledged then.

use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::to_enforcer::Message as To;
use tonic::Status;

use super::Hub;
use crate::journal::Entry;

impl Hub {
    /// Writes the records and batches of this round, then acknowledges. When the disk refuses, nothing is acknowledged
    /// and the links concerned are closed: the nodes hold what they sent, and send it again.
    pub(super) async fn commit(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        if let Err(why) = self.write(&entries).await {
            self.parts.counters.not_stored();
            tracing::error!(why, "observations cannot be stored: they are not acknowledged");
            self.acks.clear();
            for entry in &entries {
                self.take_back(entry);
            }
            return;
        }
        for (node, acknowledged) in std::mem::take(&mut self.acks) {
            let Some(session) = self.sessions.get_mut(&node) else { continue };
            let ack = To::BatchAck(proto::BatchAck { acknowledged });
            session.ack_due =
                session.outbound.try_send(Ok(proto::ToEnforcer { message: Some(ack) })).is_err();
        }
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<(), String> {
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            self.parts.counters.logged(records.len());
            let events = self.parts.events.clone();
            events.append(&records).map_err(|error| error.to_string())?;
            if !entries.is_empty() {
                // In the log before in the journal: a replay writes no records.
                events.flush().await.map_err(|error| error.to_string())?;
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        let Some(mut journal) = self.journal.take() else { return Err("the journal is closed".to_owned()) };
        let owned = entries.to_vec();
        let written = tokio::task::spawn_blocking(move || {
            let outcome = journal.append(&owned);
            (journal, outcome)
        });
        let (journal, outcome) = written.await.map_err(|error| error.to_string())?;
        self.journal = Some(journal);
        outcome.map_err(|error| error.to_string())
    }

    /// Puts the node's position back to before this batch and closes its link.
    fn take_back(&mut self, entry: &Entry) {
        let Ok(node) = entry.node.parse() else { return };
        if let Some(position) = self.positions.get_mut(&node)
            && position.stream == entry.stream
        {
            position.taken = position.taken.min(entry.taken);
        }
        if let Some(session) = self.sessions.get(&node) {
            self.refuse(
                &session.outbound,
                &session.close,
                Status::unavailable("observations cannot be stored now"),
            );
        }
        self.disconnect(&node);
    }

    /// Sends acknowledgements that found a link's queue full.
    pub(super) fn acknowledge_late(&mut self) {
        for (node, session) in self.sessions.iter_mut().filter(|(_, session)| session.ack_due) {
            let Some(position) = self.positions.get(node) else { continue };
            let ack = To::BatchAck(proto::BatchAck { acknowledged: position.taken });
            session.ack_due =
                session.outbound.try_send(Ok(proto::ToEnforcer { message: Some(ack) })).is_err();
        }
    }
}
