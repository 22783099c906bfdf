//! One link of a scanner: Hello, then what it says of its tasks, its database and its cache.

use std::time::Duration;

use nv_model::name::ScannerId;
use nv_model::scan::{ScanFailure, ScanTaskId};
use nv_wire::scanner::v1 as proto;
use nv_wire::scanner::v1::from_scanner::Message as From;
use nv_wire::scanner::v1::to_scanner::Message as To;
use nv_wire::{DatabaseChange, ScannerGreeting};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::queue::Holder;
use super::service::{invalid, stopping};
use super::state::Outbound;
use super::{Scans, tell};

/// How long a scanner may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// One link.
pub(super) struct Session {
    pub(super) scanner: ScannerId,
    pub(super) scans: Scans,
    pub(super) outbound: Outbound,
    pub(super) inbound: Streaming<proto::FromScanner>,
    pub(super) close: CancellationToken,
    pub(super) welcome: proto::Welcome,
}

impl Session {
    pub(super) async fn run(mut self) {
        let mut linked = None;
        if let Err(status) = self.serve(&mut linked).await {
            tracing::info!(scanner = %self.scanner, reason = status.message(), "a scanner's link is closed");
            // The scanner may be gone already.
            drop(self.outbound.try_send(Err(status)));
        }
        if let Some(session) = linked {
            self.scans.unlinked(&self.scanner, session);
        }
    }

    async fn serve(&mut self, linked: &mut Option<u64>) -> Result<(), Status> {
        let first = tokio::time::timeout(HELLO_TIMEOUT, self.inbound.message())
            .await
            .map_err(|_elapsed| Status::deadline_exceeded("no Hello came"))??;
        let Some(proto::FromScanner { message: Some(From::Hello(hello)) }) = first else {
            return Err(invalid("the first message has to be Hello"));
        };
        let greeting = ScannerGreeting::try_from(hello).map_err(invalid)?;
        let welcome = proto::ToScanner { message: Some(To::Welcome(self.welcome.clone())) };
        self.outbound.send(Ok(welcome)).await.map_err(stopping)?;
        *linked = Some(self.scans.linked(&self.scanner, greeting, self.outbound.clone(), self.close.clone()));
        loop {
            let message = tokio::select! {
                () = self.close.cancelled() => return Ok(()),
                message = self.inbound.message() => message?,
            };
            let Some(message) = message else { return Ok(()) };
            match message.message {
                Some(From::Failed(failed)) => {
                    let (task, failure) = nv_wire::scan_failed(failed).map_err(invalid)?;
                    self.scans.failed(&Holder::Scanner(self.scanner.clone()), task, &failure);
                }
                Some(From::Database(change)) => {
                    let change = DatabaseChange::try_from(change).map_err(invalid)?;
                    self.scans.database_in_use(&self.scanner, &change);
                }
                Some(From::DatabaseRefused(refused)) => {
                    tracing::warn!(scanner = %self.scanner, blob = refused.blob, reason = refused.reason, "a scanner refused a database");
                }
                Some(From::Cache(facts)) => {
                    let id = facts.id;
                    let facts = facts.try_into().map_err(invalid)?;
                    self.scans.cache_told(&self.scanner, id, facts);
                }
                Some(From::Hello(_)) => return Err(invalid("a second Hello")),
                // A later scanner may say more than this controller knows.
                None => {}
            }
        }
    }
}

impl Scans {
    fn linked(
        &self,
        scanner: &ScannerId,
        greeting: ScannerGreeting,
        outbound: Outbound,
        close: CancellationToken,
    ) -> u64 {
        let at = self.inner.clock.now();
        let shown = greeting.database.as_ref().map(|database| database.shown_version());
        tracing::info!(%scanner, server = greeting.server, database = ?shown, "a scanner is linked");
        let change = greeting.database.clone().map(|database| DatabaseChange {
            database,
            replaced: String::new(),
            changed: None,
        });
        let (session, failed) = self.state().link(scanner.clone(), greeting, at, outbound, close);
        self.give_all_up(failed);
        let with =
            shown.map_or_else(|| "without a database".to_owned(), |shown| format!("with database {shown}"));
        self.tell(&tell::scanner(
            &self.inner.view.load(),
            "Scanner.Join",
            scanner,
            &format!("joined {with}"),
            at,
        ));
        match change {
            Some(change) => self.database_in_use(scanner, &change),
            None => self.changed(),
        }
        session
    }

    fn unlinked(&self, scanner: &ScannerId, session: u64) {
        let (gone, failed) = {
            let mut state = self.state();
            let outcome = state.unlink(scanner, session);
            state.dispatch(self.inner.clock.monotonic());
            outcome
        };
        self.give_all_up(failed);
        if gone {
            let at = self.inner.clock.now();
            self.tell(&tell::scanner(&self.inner.view.load(), "Scanner.Leave", scanner, "left", at));
        }
        self.changed();
    }

    pub(super) fn failed(&self, holder: &Holder, task: ScanTaskId, failure: &ScanFailure) {
        let given_up = {
            let mut state = self.state();
            let given_up = state.failed(task, holder, failure);
            state.dispatch(self.inner.clock.monotonic());
            given_up
        };
        match given_up {
            Some(request) => self.give_up(&request, failure),
            None => self.changed(),
        }
    }

    fn database_in_use(&self, scanner: &ScannerId, change: &DatabaseChange) {
        let view = self.inner.view.load_full();
        let (affected, taken) = {
            let mut state = self.state();
            let affected = state.database_in_use(scanner, change);
            let taken = state.rescan(&affected, |subject| tell::runs(&view, subject));
            state.dispatch(self.inner.clock.monotonic());
            (affected.len(), taken)
        };
        let shown = change.database.shown_version();
        tracing::info!(%scanner, database = shown, affected, taken, "a scanner uses a database");
        if !change.replaced.is_empty() {
            let at = self.inner.clock.now();
            let what = format!("uses database {shown}, which may change {affected} reports");
            self.tell(&tell::scanner(&view, "Scanner.Update", scanner, &what, at));
        }
        self.changed();
    }
}
