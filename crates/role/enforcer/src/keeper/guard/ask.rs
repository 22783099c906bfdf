//! Answers whoever wants to open a file that a rule blocks.
//!
//! Two threads take questions and one watches the clock: a question that is not answered in time gets the answer of its
//! group's fault rule, so that a stuck `/proc` never holds up a program for long.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nv_model::file::FileOperation;
use nv_model::mode::Fault;
use nv_model::verdict::Verdict;
use nv_policy::file;
use nv_probe::fanotify::{Inode, Question};
use rustix::event::{PollFd, PollFlags, poll};

use super::tables::{Tables, Ward};
use super::tell::{Act, Sink};
use super::{Groups, now, who};

/// Threads that answer.
const ANSWERERS: usize = 2;
/// A question is answered within this time.
const DEADLINE: Duration = Duration::from_millis(50);

/// Questions that are being worked on.
#[derive(Default)]
struct Open {
    questions: Mutex<HashMap<u64, Pending>>,
    next: AtomicU64,
}

impl Open {
    fn held(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pending {
    /// Open as long as one of both threads has it: the kernel knows the question by the number of its descriptor.
    question: Arc<Question>,
    until: Instant,
    fault: Fault,
    answered: bool,
}

pub(super) fn spawn(
    groups: &Arc<Groups>,
    tables: &Arc<Mutex<Arc<Tables>>>,
    sink: &Arc<Sink>,
) -> Result<(), String> {
    let open = Arc::new(Open::default());
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map(drop)
            .map_err(|error| format!("a thread for files: {error}"))
    };
    for _ in 0..ANSWERERS {
        let (groups, tables, sink, open) =
            (Arc::clone(groups), Arc::clone(tables), Arc::clone(sink), Arc::clone(&open));
        start("file-answers", Box::new(move || answer_all(&groups, &tables, &sink, &open)))?;
    }
    let (groups, sink) = (Arc::clone(groups), Arc::clone(sink));
    start("file-deadline", Box::new(move || keep_deadlines(&groups, &sink, &open)))
}

fn answer_all(groups: &Groups, tables: &Mutex<Arc<Tables>>, sink: &Sink, open: &Open) {
    let mut questions = Vec::new();
    loop {
        let mut ready = [PollFd::new(&groups.asking, PollFlags::IN)];
        if let Err(error) = poll(&mut ready, None) {
            tracing::warn!(%error, "waiting for questions about files");
            std::thread::sleep(DEADLINE);
            continue;
        }
        if let Err(error) = groups.asking.read(&mut questions) {
            // Too many open files, for one: the kernel answers those questions by itself.
            tracing::warn!(%error, "questions about files cannot be read");
            std::thread::sleep(Duration::from_millis(1));
        }
        let until = Instant::now() + DEADLINE;
        let mut batch: Vec<(u64, Arc<Question>)> = Vec::with_capacity(questions.len());
        {
            let mut held = open.held();
            for question in questions.drain(..) {
                let (number, question) = (open.next.fetch_add(1, Ordering::Relaxed), Arc::new(question));
                let pending =
                    Pending { question: Arc::clone(&question), until, fault: Fault::Open, answered: false };
                held.insert(number, pending);
                batch.push((number, question));
            }
        }
        let tables = now(tables);
        for (number, question) in batch {
            answer(groups, &tables, sink, open, number, &question);
        }
    }
}

fn answer(groups: &Groups, tables: &Tables, sink: &Sink, open: &Open, number: u64, question: &Question) {
    let begin = Instant::now();
    let ward = who::cgroup(question.pid).and_then(|cgroup| tables.by_cgroup(&cgroup));
    if let Some(ward) = ward
        && let Some(pending) = open.held().get_mut(&number)
    {
        pending.fault = ward.rules.fault;
    }
    let (allow, act) = match ward.map(|ward| (ward, judge(ward, question))) {
        None => (true, None),
        Some((_, Ok(act))) => (act.as_ref().is_none_or(|act| act.verdict.passes()), act),
        Some((ward, Err(error))) => {
            tracing::warn!(%error, fault = ?ward.rules.fault, "what is opened cannot be told");
            (ward.rules.fault == Fault::Open, None)
        }
    };
    if open.held().remove(&number).is_none_or(|pending| !pending.answered) {
        say(groups, question, allow);
    }
    if let Some(act) = act {
        sink.act(&Act { decision: begin.elapsed(), ..act });
    }
}

/// What is to be reported of an open; `None` when nothing is, and it is allowed. An error when the file cannot be looked
/// at, so that no rule can be found for it.
fn judge(ward: &Arc<Ward>, question: &Question) -> std::io::Result<Option<Act>> {
    let inode = Inode::of(&question.file)?;
    let path = std::fs::read_link(format!("/proc/self/fd/{}", question.file.as_raw_fd()))?;
    Ok(against_rules(ward, question, inode, path.to_string_lossy().into_owned()))
}

fn against_rules(ward: &Arc<Ward>, question: &Question, inode: Inode, path: String) -> Option<Act> {
    let rule = ward.blocking(inode, &path)?;
    let program = who::program(question.pid);
    let (_, line) = ward.rule(rule)?;
    if ward.lets_in(rule, program.inode) {
        return None;
    }
    // By a name alone nobody gets in: the executable of that name is another one.
    let verdict = file::decide(line, ward.rules.mode, FileOperation::Open, "");
    (verdict != Verdict::Allow).then(|| Act {
        ward: Arc::clone(ward),
        rule,
        path,
        operation: FileOperation::Open,
        pid: question.pid,
        program: program.path,
        verdict,
        decision: Duration::ZERO,
    })
}

fn say(groups: &Groups, question: &Question, allow: bool) {
    if let Err(error) = groups.asking.answer(question.file.as_fd(), allow) {
        tracing::debug!(%error, "whoever asked is gone");
    }
}

/// Answers what took too long, and has repeats reported.
fn keep_deadlines(groups: &Groups, sink: &Sink, open: &Open) {
    loop {
        std::thread::sleep(DEADLINE / 5);
        let now = Instant::now();
        for pending in open.held().values_mut().filter(|pending| !pending.answered && pending.until <= now) {
            pending.answered = true;
            tracing::warn!(fault = ?pending.fault, pid = pending.question.pid, "a question about a file took too long");
            say(groups, &pending.question, pending.fault == Fault::Open);
        }
        sink.flush();
    }
}
