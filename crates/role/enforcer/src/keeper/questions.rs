//! Questions of a fanotify group: answered by some threads, each within a deadline.
//!
//! A question that is not answered in time gets the answer of its group's fault rule, so that a stuck `/proc` never holds
//! up a program for long. One that cannot be answered yet waits, and is asked about again every few milliseconds.

use std::collections::HashMap;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nv_model::mode::Fault;
use nv_probe::fanotify::{Asking, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::signs::{Life, Pulse};

/// Threads that answer.
const ANSWERERS: usize = 2;
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(10);
/// One that waits for what is not known yet has this much more.
const WAITING: Duration = Duration::from_millis(200);
/// How often those that wait are looked at.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// Most that wait.
const MAX_WAITING: usize = 1024;

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Allow,
    Deny,
    /// It is not known yet.
    Wait,
}

/// Whoever knows the answers.
pub(super) trait Answers: Send + Sync + 'static {
    /// The group that is asked.
    fn asking(&self) -> &Asking;
    /// `fault` is to be called as soon as the rule is known that holds when the answer takes too long. With `last` no
    /// [`Answer::Wait`] is taken, and counts as [`Answer::Allow`].
    fn answer(&self, question: &Question, last: bool, fault: &mut dyn FnMut(Fault)) -> Answer;
    /// A question that is being looked at is answered within this time.
    fn deadline(&self) -> Duration {
        Duration::from_millis(50)
    }
    /// Every few milliseconds.
    fn tick(&self) {}
}

struct Pending {
    /// Open as long as one of the threads has it: the kernel knows the question by the number of its descriptor.
    question: Arc<Question>,
    until: Instant,
    fault: Fault,
    answered: bool,
}

/// Questions that are being worked on, and those that wait.
#[derive(Default)]
struct Open {
    questions: Mutex<HashMap<u64, Pending>>,
    waiting: Mutex<Vec<Waiting>>,
    next: AtomicU64,
}

struct Waiting {
    question: Arc<Question>,
    until: Instant,
}

impl Open {
    fn held(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the threads; `name` is what they are called by. While deadlines are not kept there is no sign of life.
pub(super) fn spawn<A: Answers>(name: &str, answers: &Arc<A>, life: &Life) -> Result<(), String> {
    let open = Arc::new(Open::default());
    let start = |name: String, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name)
            .spawn(work)
            .map(drop)
            .map_err(|error| format!("a thread for answers: {error}"))
    };
    for _ in 0..ANSWERERS {
        let (answers, open) = (Arc::clone(answers), Arc::clone(&open));
        start(format!("{name}-answers"), Box::new(move || answer_all(&*answers, &open)))?;
    }
    let (answers, pulse) = (Arc::clone(answers), life.pulse());
    start(format!("{name}-deadline"), Box::new(move || keep_deadlines(&*answers, &open, &pulse)))
}

fn answer_all<A: Answers>(answers: &A, open: &Open) {
    let mut questions = Vec::new();
    loop {
        let patience = if open.waiting().is_empty() { None } else { Some(&AGAIN) };
        let mut ready = [PollFd::new(answers.asking(), PollFlags::IN)];
        if let Err(error) = poll(&mut ready, patience) {
            tracing::warn!(%error, "waiting for questions");
            std::thread::sleep(TICK);
            continue;
        }
        if let Err(error) = answers.asking().read(&mut questions) {
            // Too many open files, for one: the kernel answers those questions by itself.
            tracing::warn!(%error, "questions cannot be read");
            std::thread::sleep(Duration::from_millis(1));
        }
        let now = Instant::now();
        let asked_anew = std::mem::take(&mut *open.waiting());
        // Taken in before the first is looked at, so that each has its deadline.
        let came: Vec<Waiting> = questions
            .drain(..)
            .map(|question| Waiting { question: Arc::new(question), until: now + WAITING })
            .chain(asked_anew)
            .collect();
        let mut batch = Vec::with_capacity(came.len());
        {
            let mut held = open.held();
            for one in came {
                let number = open.next.fetch_add(1, Ordering::Relaxed);
                let question = Arc::clone(&one.question);
                held.insert(
                    number,
                    Pending {
                        question,
                        until: now + answers.deadline(),
                        fault: Fault::Open,
                        answered: false,
                    },
                );
                batch.push((number, one));
            }
        }
        for (number, one) in batch {
            answer(answers, open, number, one);
        }
    }
}

fn answer<A: Answers>(answers: &A, open: &Open, number: u64, one: Waiting) {
    let last = one.until <= Instant::now() || open.waiting().len() >= MAX_WAITING;
    let mut fault = |rule: Fault| {
        if let Some(pending) = open.held().get_mut(&number) {
            pending.fault = rule;
        }
    };
    let answer = answers.answer(&one.question, last, &mut fault);
    if open.held().remove(&number).is_some_and(|pending| pending.answered) {
        return;
    }
    match answer {
        Answer::Wait if !last => open.waiting().push(one),
        answer => say(answers, &one.question, answer != Answer::Deny),
    }
}

fn say<A: Answers>(answers: &A, question: &Question, allow: bool) {
    if let Err(error) = answers.asking().answer(question.file.as_fd(), allow) {
        tracing::debug!(%error, "whoever asked is gone");
    }
}

/// Answers what took too long.
fn keep_deadlines<A: Answers>(answers: &A, open: &Open, pulse: &Pulse) {
    loop {
        std::thread::sleep(TICK);
        pulse.beat();
        let now = Instant::now();
        for pending in open.held().values_mut().filter(|pending| !pending.answered && pending.until <= now) {
            pending.answered = true;
            tracing::warn!(fault = ?pending.fault, pid = pending.question.pid, "an answer took too long");
            say(answers, &pending.question, pending.fault == Fault::Open);
        }
        answers.tick();
    }
}
