//! Answers whoever wants to open a file that a rule blocks.

use std::os::fd::AsRawFd as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nv_model::file::FileOperation;
use nv_model::mode::Fault;
use nv_model::verdict::Verdict;
use nv_policy::file;
use nv_probe::fanotify::{Inode, Question};

use super::super::questions::{Answer, Answers};
use super::tables::{Tables, Ward};
use super::tell::{Act, Sink};
use super::{now, who};

/// What is needed to answer.
pub(super) struct Opens {
    tables: Arc<Mutex<Arc<Tables>>>,
    sink: Arc<Sink>,
}

impl Opens {
    pub(super) fn new(tables: &Arc<Mutex<Arc<Tables>>>, sink: &Arc<Sink>) -> Self {
        Self { tables: Arc::clone(tables), sink: Arc::clone(sink) }
    }
}

impl Answers for Opens {
    fn answer(&self, question: &Question, _last: bool) -> Answer {
        let begin = Instant::now();
        let tables = now(&self.tables);
        let ward = who::cgroup(question.pid).and_then(|cgroup| tables.by_cgroup(&cgroup));
        let (allow, act) = match ward.map(|ward| (ward, judge(ward, question))) {
            None => (true, None),
            Some((_, Ok(act))) => (act.as_ref().is_none_or(|act| act.verdict.passes()), act),
            Some((ward, Err(error))) => {
                let fault = ward.rules.in_doubt();
                tracing::warn!(%error, ?fault, "what is opened cannot be told");
                (fault == Fault::Open, None)
            }
        };
        if let Some(act) = act {
            self.sink.act(&Act { decision: begin.elapsed(), ..act });
        }
        if allow { Answer::Allow } else { Answer::Deny }
    }

    fn fault(&self, question: &Question) -> Fault {
        let tables = now(&self.tables);
        let ward = who::cgroup(question.pid).and_then(|cgroup| tables.by_cgroup(&cgroup));
        ward.map_or(Fault::Open, |ward| ward.rules.in_doubt())
    }

    fn tick(&self) {
        self.sink.flush();
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
