//! Looking at containers without waiting for any of them.
//!
//! A daemon holds its answer about a container back while it starts or stops it, which takes some hundred milliseconds
//! and may take long. Nothing else waits for that: what is to be looked at is asked for at the same time, each container
//! once, and again when something happened to it meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use nv_model::workload::Workload;
use tokio::task::JoinSet;

use crate::Host;
use crate::docker::{Client, describe};
use crate::error::RuntimeError;

/// Most questions at one time.
const AT_ONCE: usize = 16;
/// Most containers that are asked about or wait to be; what is beyond is found by the next list.
const MOST: usize = 10_000;

/// What came of a look.
#[derive(Debug)]
pub(crate) enum Found {
    /// The container as it is.
    Seen(Box<Workload>),
    /// There is none (any more).
    Gone,
    /// The daemon cannot say, or not in time; what is known stays.
    Unchanged,
}

/// Where the question about a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Asked,
    /// Asked, and something happened since.
    AskAgain,
}

/// The questions that are open. Dropping it lets go of them.
#[derive(Debug)]
pub(crate) struct Looks {
    host: Arc<Host>,
    client: Client,
    stages: BTreeMap<String, Stage>,
    open: JoinSet<(String, Result<Option<Workload>, RuntimeError>)>,
    /// Looks that told nothing, and those that there was no room for.
    pub(crate) unanswered: u64,
}

impl Looks {
    pub(crate) fn new(host: Arc<Host>, client: Client) -> Self {
        Self { host, client, stages: BTreeMap::new(), open: JoinSet::new(), unanswered: 0 }
    }

    /// Has a container looked at; `prior` is what is known of it.
    pub(crate) fn add(&mut self, id: &str, prior: Option<&Workload>) {
        match self.stages.get(id).copied() {
            Some(Stage::Asked) => drop(self.stages.insert(id.to_owned(), Stage::AskAgain)),
            Some(Stage::Waiting | Stage::AskAgain) => {}
            None if self.stages.len() >= MOST => self.unanswered = self.unanswered.saturating_add(1),
            None if self.open.len() >= AT_ONCE => drop(self.stages.insert(id.to_owned(), Stage::Waiting)),
            None => self.ask(id.to_owned(), prior.cloned()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The next answer; `known` gives what is known of a container. `None` when nothing is open.
    ///
    /// # Errors
    /// When the daemon does not answer at all.
    pub(crate) async fn next(
        &mut self,
        known: impl Fn(&str) -> Option<Workload>,
    ) -> Option<Result<(String, Found), RuntimeError>> {
        // A task that was aborted or panicked leaves nothing to tell.
        let (id, answer) = self.open.join_next().await?.ok()?;
        let is_due = self.stages.remove(&id) == Some(Stage::AskAgain);
        if is_due {
            self.ask(id.clone(), known(&id));
        }
        while self.open.len() < AT_ONCE {
            let waiting = self.stages.iter().find(|(_, stage)| **stage == Stage::Waiting);
            let Some(waiting) = waiting.map(|(id, _)| id.clone()) else { break };
            let prior = known(&waiting);
            self.ask(waiting, prior);
        }
        Some(match answer {
            Ok(Some(workload)) => Ok((id, Found::Seen(Box::new(workload)))),
            Ok(None) => Ok((id, Found::Gone)),
            Err(
                RuntimeError::Refused { .. } | RuntimeError::Unreadable { .. } | RuntimeError::Timeout { .. },
            ) => {
                self.unanswered = self.unanswered.saturating_add(1);
                Ok((id, Found::Unchanged))
            }
            Err(error) => Err(error),
        })
    }

    fn ask(&mut self, id: String, prior: Option<Workload>) {
        self.stages.insert(id.clone(), Stage::Asked);
        let (host, client) = (Arc::clone(&self.host), self.client.clone());
        self.open.spawn(async move {
            let answer = describe(&host, &client, &id, prior.as_ref()).await;
            (id, answer)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens at this socket.
    fn looks() -> Looks {
        let host = Host {
            node: "n1".parse().unwrap(),
            host_name: String::new(),
            proc_root: "/nowhere".into(),
            cgroup_root: None,
        };
        Looks::new(Arc::new(host), Client::new(std::path::Path::new("/nowhere/d.sock")))
    }

    fn id(number: usize) -> String {
        format!("{number:064x}")
    }

    #[tokio::test]
    async fn a_container_is_asked_about_once_at_a_time_and_again_after_what_happened_meanwhile() {
        let mut looks = looks();
        for _ in 0..3 {
            looks.add(&id(1), None);
        }
        assert_eq!(looks.open.len(), 1);
        assert!(looks.next(|_| None).await.unwrap().is_err(), "nobody answers");
        assert_eq!((looks.open.len(), looks.stages.get(&id(1))), (1, Some(&Stage::Asked)));
        assert!(looks.next(|_| None).await.unwrap().is_err());
        assert!(looks.is_empty() && looks.stages.is_empty());
    }

    #[tokio::test]
    async fn few_are_asked_about_at_one_time_the_others_wait_and_not_without_end() {
        let mut looks = looks();
        for number in 0..MOST + 5 {
            looks.add(&id(number), None);
        }
        assert_eq!((looks.open.len(), looks.stages.len(), looks.unanswered), (AT_ONCE, MOST, 5));
        assert!(looks.next(|_| None).await.is_some());
        assert_eq!((looks.open.len(), looks.stages.len()), (AT_ONCE, MOST - 1));
    }
}
