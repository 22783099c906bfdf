//! Questions of the fanotify group: answered by some threads, each within a deadline.
//!
//! A question that is not answered in time gets the answer of its group's fault rule, so that a stuck `/proc` or file system
//! never holds up a program for long. A thread that is stuck itself is replaced by another one. A question that cannot be
//! answered yet waits, and is asked about again every few milliseconds.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nv_model::mode::Fault;
use nv_probe::fanotify::{Asking, Question};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::crew::{Crew, Member};
use super::signs::{Life, Pulse};

/// Threads that answer.
const ANSWERERS: usize = 4;
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(10);
/// One that waits for what is not known yet has this much more.
const WAITING: Duration = Duration::from_millis(200);
/// How often those that wait are looked at.
const AGAIN: Duration = Duration::from_millis(2);
/// The same for the kernel.
const AGAIN_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// Longest time without a look at what waits.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Most that wait. Each is an open file.
const MAX_WAITING: usize = 512;

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
    /// With `last` no [`Answer::Wait`] is taken, and counts as [`Answer::Allow`].
    fn answer(&self, question: &Question, last: bool) -> Answer;
    /// The rule that holds when the answer takes too long. The file itself is not to be looked at, as it may be what hangs.
    fn fault(&self, question: &Question) -> Fault;
    /// A question that is being looked at is answered within this time.
    fn deadline(&self) -> Duration {
        Duration::from_millis(50)
    }
    /// Every few milliseconds.
    fn tick(&self) {}
}

/// Where questions come in.
pub(super) struct Desk {
    asking: Arc<Asking>,
    files: OnceLock<Arc<dyn Answers>>,
    programs: OnceLock<Arc<dyn Answers>>,
    /// From when they are read until they are answered.
    held: Mutex<HashMap<u64, Pending>>,
    waiting: Mutex<VecDeque<Waiting>>,
    next: AtomicU64,
}

struct Pending {
    /// Open until it is answered, or as long as a thread hangs on it: the kernel knows the question by the number of its
    /// descriptor.
    question: Arc<Question>,
    until: Instant,
    answered: bool,
}

struct Waiting {
    number: u64,
    question: Arc<Question>,
    look: Instant,
    last: Instant,
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Starts the threads; they answer when it is this process's turn. While deadlines are not kept there is no sign of life.
    pub(super) fn start(asking: Asking, life: &Life) -> Result<Arc<Self>, String> {
        let desk = Arc::new(Self {
            asking: Arc::new(asking),
            files: OnceLock::new(),
            programs: OnceLock::new(),
            held: Mutex::default(),
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let (works, life) = (Arc::clone(&desk), life.clone());
        std::thread::Builder::new()
            .name("deadlines".to_owned())
            .spawn(move || {
                life.wait_for_turn();
                works.keep_deadlines(&life.pulse());
            })
            .map_err(|error| format!("a thread for answers: {error}"))?;
        Ok(desk)
    }

    /// What is asked through.
    pub(super) fn asking(&self) -> Arc<Asking> {
        Arc::clone(&self.asking)
    }
    /// Who answers for files. The first one stays.
    pub(super) fn files(&self, answers: Arc<dyn Answers>) {
        self.files.get_or_init(|| answers);
    }
    /// Who answers for programs. The first one stays.
    pub(super) fn programs(&self, answers: Arc<dyn Answers>) {
        self.programs.get_or_init(|| answers);
    }

    fn answers(&self, question: &Question) -> Option<&Arc<dyn Answers>> {
        if question.exec { self.programs.get() } else { self.files.get() }
    }

    fn answer_all(&self, me: &Member) {
        while !me.is_replaced() {
            me.begins();
            let again = self.look_again();
            me.begins();
            let fresh = self.take_one();
            me.rests();
            if again || fresh {
                continue;
            }
            let patience = if held(&self.waiting).is_empty() { &IDLE } else { &AGAIN_WAIT };
            if let Err(error) = poll(&mut [PollFd::new(&*self.asking, PollFlags::IN)], Some(patience)) {
                tracing::warn!(%error, "waiting for questions");
                std::thread::sleep(TICK);
            }
        }
    }

    /// Looks at the next that waits, if it is time for it.
    fn look_again(&self) -> bool {
        let one = {
            let mut waiting = held(&self.waiting);
            let due = waiting.front().is_some_and(|one| one.look <= Instant::now());
            due.then(|| waiting.pop_front()).flatten()
        };
        let Some(one) = one else { return false };
        if held(&self.held).get(&one.number).is_none_or(|pending| pending.answered) {
            held(&self.held).remove(&one.number);
        } else {
            self.look(one);
        }
        true
    }

    fn take_one(&self) -> bool {
        let question = match self.asking.take() {
            Ok(Some(question)) => Arc::new(question),
            Ok(None) => return false,
            Err(error) => {
                // Too many open files, for one: the kernel answers that question by itself.
                tracing::warn!(%error, "a question cannot be read");
                std::thread::sleep(Duration::from_millis(1));
                return false;
            }
        };
        let Some(answers) = self.answers(&question) else {
            self.say(question, true);
            return true;
        };
        let now = Instant::now();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let pending =
            Pending { question: Arc::clone(&question), until: now + answers.deadline(), answered: false };
        held(&self.held).insert(number, pending);
        self.look(Waiting { number, question, look: now, last: now + WAITING });
        true
    }

    fn look(&self, one: Waiting) {
        let Some(answers) = self.answers(&one.question) else { return };
        let now = Instant::now();
        let last = one.last <= now || held(&self.waiting).len() >= MAX_WAITING;
        let answer = answers.answer(&one.question, last);
        if answer == Answer::Wait && !last {
            if let Some(pending) = held(&self.held).get_mut(&one.number) {
                pending.until = one.last + answers.deadline();
            }
            held(&self.waiting).push_back(Waiting { look: Instant::now() + AGAIN, ..one });
            return;
        }
        if held(&self.held).remove(&one.number).is_some_and(|pending| !pending.answered) {
            self.say(one.question, answer != Answer::Deny);
        }
    }

    fn say(&self, question: Arc<Question>, allow: bool) {
        let said = match Arc::try_unwrap(question) {
            Ok(question) => self.asking.answer(question, allow),
            Err(shared) => self.asking.answer_beside(&shared, allow),
        };
        if let Err(error) = said {
            tracing::debug!(%error, "whoever asked is gone");
        }
    }

    /// Answers what took too long, and has as many threads as are needed. When all of them are stuck there is no sign of life.
    fn keep_deadlines(self: &Arc<Self>, pulse: &Pulse) {
        let mut crew = Crew::default();
        loop {
            let works = crew.tend(ANSWERERS, |me| {
                let desk = Arc::clone(self);
                let work = move || desk.answer_all(&me);
                std::thread::Builder::new().name("answers".to_owned()).spawn(work).map(drop)
            });
            if works {
                pulse.beat();
            }
            for question in self.late() {
                let fault = self.answers(&question).map_or(Fault::Open, |answers| answers.fault(&question));
                tracing::warn!(?fault, pid = question.pid, exec = question.exec, "an answer took too long");
                self.say(question, fault == Fault::Open);
            }
            [&self.files, &self.programs].iter().filter_map(|one| one.get()).for_each(|one| one.tick());
            std::thread::sleep(TICK);
        }
    }

    /// What is to be answered now, whoever works on it.
    fn late(&self) -> Vec<Arc<Question>> {
        let now = Instant::now();
        let mut held = held(&self.held);
        let late = held.values_mut().filter(|pending| !pending.answered && pending.until <= now);
        late.map(|pending| {
            pending.answered = true;
            Arc::clone(&pending.question)
        })
        .collect()
    }
}
