//! What is to be learned waits here for a moment, then goes to the writer in one transaction.

use std::collections::HashSet;
use std::time::Duration;

use nv_policy::learn::{self, FileAccess, Link, Program};
use nv_store::StoreError;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Hub, Message};
use crate::change::{ChangeError, Edit};
use crate::counters::Counters;
use crate::writer::Request;

/// New groups are written this soon.
const GROUPS_AFTER: Duration = Duration::from_millis(20);
/// New programs are written this soon.
const PROGRAMS_AFTER: Duration = Duration::from_millis(300);
/// New links are written this soon.
const LINKS_AFTER: Duration = Duration::from_secs(2);
/// Programs or links that may wait; more are dropped and counted.
const MAX_WAITING: usize = 65_536;
/// Programs or links of one transaction.
const MAX_AT_ONCE: usize = 512;
/// Pause after a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What waits to be learned, and what is being written.
#[derive(Default)]
pub(crate) struct Learner {
    programs: HashSet<Program>,
    links: HashSet<Link>,
    files: HashSet<FileAccess>,
    groups: bool,
    groups_at: Option<Instant>,
    programs_at: Option<Instant>,
    links_at: Option<Instant>,
    writing: Option<Lesson>,
}

/// What one write learns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lesson {
    programs: Vec<Program>,
    links: Vec<Link>,
    #[serde(default)]
    files: Vec<FileAccess>,
}

/// What came of a write.
pub(crate) enum LearnOutcome {
    /// It is in the store.
    Written,
    /// It is not, and may be later.
    Failed(String),
    /// It never will: the store does not take it.
    Refused(String),
}

impl Learner {
    pub(crate) fn groups_wanted(&mut self, now: Instant) {
        self.groups = true;
        self.groups_at.get_or_insert(now + GROUPS_AFTER);
    }

    pub(crate) fn program(&mut self, program: Program, now: Instant, counters: &Counters) {
        if self.programs.len() >= MAX_WAITING {
            counters.learning_dropped();
            return;
        }
        if self.programs.insert(program) {
            self.programs_at.get_or_insert(now + PROGRAMS_AFTER);
        }
    }

    /// Written along with programs.
    pub(crate) fn file(&mut self, access: FileAccess, now: Instant, counters: &Counters) {
        if self.files.len() >= MAX_WAITING {
            counters.learning_dropped();
            return;
        }
        if self.files.insert(access) {
            self.programs_at.get_or_insert(now + PROGRAMS_AFTER);
        }
    }

    pub(crate) fn link(&mut self, link: Link, now: Instant, counters: &Counters) {
        if self.links.len() >= MAX_WAITING {
            counters.learning_dropped();
            return;
        }
        if self.links.insert(link) {
            self.links_at.get_or_insert(now + LINKS_AFTER);
        }
    }

    /// When the next write is due; `None` while one is under way.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.writing.is_some() {
            return None;
        }
        [self.groups_at, self.programs_at, self.links_at].into_iter().flatten().min()
    }

    /// Everything that is not in the store yet, for a checkpoint.
    pub(crate) fn waiting(&self) -> Lesson {
        let mut lesson = self.writing.clone().unwrap_or_default();
        lesson.programs.extend(self.programs.iter().cloned());
        lesson.links.extend(self.links.iter().cloned());
        lesson.files.extend(self.files.iter().cloned());
        lesson
    }

    /// Takes up again what a checkpoint held.
    pub(crate) fn resume(&mut self, lesson: Lesson, now: Instant) {
        self.programs.extend(lesson.programs);
        self.links.extend(lesson.links);
        self.files.extend(lesson.files);
        self.groups_wanted(now);
        self.programs_at = (!self.programs.is_empty() || !self.files.is_empty()).then_some(now);
        self.links_at = (!self.links.is_empty()).then_some(now);
    }

    fn begin(&mut self, now: Instant) -> Lesson {
        let mut lesson = Lesson::default();
        if self.programs_at.is_some_and(|at| at <= now) {
            lesson.programs = self.programs.iter().take(MAX_AT_ONCE).cloned().collect();
            for program in &lesson.programs {
                self.programs.remove(program);
            }
            lesson.files = self.files.iter().take(MAX_AT_ONCE).cloned().collect();
            for access in &lesson.files {
                self.files.remove(access);
            }
            self.programs_at = (!self.programs.is_empty() || !self.files.is_empty()).then_some(now);
        }
        if self.links_at.is_some_and(|at| at <= now) {
            lesson.links = self.links.iter().take(MAX_AT_ONCE).cloned().collect();
            for link in &lesson.links {
                self.links.remove(link);
            }
            self.links_at = (!self.links.is_empty()).then_some(now);
        }
        (self.groups, self.groups_at) = (false, None);
        self.writing = Some(lesson.clone());
        lesson
    }

    pub(crate) fn learned(&mut self, outcome: LearnOutcome, now: Instant, counters: &Counters) {
        let Some(lesson) = self.writing.take() else { return };
        match outcome {
            LearnOutcome::Written => {}
            LearnOutcome::Failed(why) => {
                tracing::debug!(why, "learning is tried again");
                self.resume(lesson, now + RETRY_AFTER);
                self.groups_at = Some(now + RETRY_AFTER);
            }
            LearnOutcome::Refused(why) => {
                tracing::error!(why, "what was seen cannot be learned");
                counters.learning_dropped();
            }
        }
    }
}

impl Hub {
    /// Sends to the writer what is due, when this controller leads.
    pub(super) fn learn(&mut self, now: Instant) {
        if self.learner.due().is_none_or(|at| at > now) {
            return;
        }
        if self.parts.lead.borrow().is_none() {
            // Kept until there is a leader, which may be this one; looked at again then or in a moment.
            self.learner.postpone(now + RETRY_AFTER);
            return;
        }
        let lesson = self.learner.begin(now);
        let (clock, bootstrap) = (std::sync::Arc::clone(&self.parts.clock), self.parts.bootstrap.clone());
        let Lesson { programs, links, files } = lesson;
        let counters = std::sync::Arc::clone(&self.parts.counters);
        let plan = Box::new(move |view: &crate::View| {
            let mut edits = bootstrap.edits(view);
            let mut state = (*view.state).clone();
            if let Some(settings) = bootstrap.settings(view) {
                state.settings = settings;
            }
            let mut changes = state.missing_reserved();
            state.apply_all(&changes);
            let groups = learn::groups(&state);
            state.apply_all(&groups);
            changes.extend(groups);
            let now = clock.now();
            let new = learn::processes(&state, &programs, now, || uuid::Uuid::new_v4().to_string());
            state.apply_all(&new);
            changes.extend(new);
            changes.extend(learn::files(&state, &files, now));
            changes.extend(learn::connections(&state, &links, now));
            counters.learned(changes.len());
            edits.extend(changes.into_iter().map(Edit::Policy));
            Ok(edits)
        });
        let (reply, answer) = oneshot::channel();
        let inbox = self.parts.inbox.clone();
        if self.parts.writer.try_send(Request { plan, reply }).is_err() {
            self.learner.learned(
                LearnOutcome::Failed("the writer is busy".to_owned()),
                now,
                &self.parts.counters,
            );
            return;
        }
        tokio::spawn(async move {
            let outcome = match answer.await {
                Ok(Ok(_revision)) => LearnOutcome::Written,
                Ok(Err(ChangeError::Store(
                    error @ (StoreError::Key { .. }
                    | StoreError::ValueTooLarge { .. }
                    | StoreError::TooManyOperations { .. }
                    | StoreError::TransactionTooLarge { .. }),
                ))) => LearnOutcome::Refused(error.to_string()),
                Ok(Err(error)) => LearnOutcome::Failed(error.to_string()),
                Err(_stopped) => LearnOutcome::Failed("the writer stopped".to_owned()),
            };
            drop(inbox.send(Message::Learned { outcome }).await);
        });
    }
}

impl Learner {
    fn postpone(&mut self, until: Instant) {
        for at in [&mut self.groups_at, &mut self.programs_at, &mut self.links_at].into_iter().flatten() {
            *at = (*at).max(until);
        }
    }
}
