//! Answers whoever wants to run a program.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nv_model::mode::Fault;
use nv_model::verdict::Verdict;
use nv_probe::Event;
use nv_probe::fanotify::{Ask, Inode, Question};

use super::super::questions::{Answer, Answers};
use super::judge::{Belongs, How, in_doubt};
use super::look::{self, Kind, Runner};
use super::seats::{Found, Seats};
use super::{Expected, MAX_PROCESSES, Warden, held};

impl Answers for Warden {
    /// More than for a file: what goes through unanswered is killed when it runs, which is too late for some programs.
    fn deadline(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn fault(&self, question: &Question) -> Fault {
        // The runtime's own programs are never stopped, nor are the host's.
        if nv_probe::cgroup::mount_namespace(Some(question.pid)).is_ok_and(|now| now == self.host_mounts) {
            return Fault::Open;
        }
        let seats = self.seats();
        let found = self.seat_of(&look::cgroups(question.pid, self.cgroup_root()), &seats);
        found.filter(|found| found.seat.container).map_or(Fault::Open, |found| in_doubt(&seats, &found))
    }

    fn answer(&self, question: &Question, last: bool) -> Answer {
        let begin = Instant::now();
        let kind = look::kind(question.file.as_fd());
        if self.scripts_only() && !matches!(kind, Ok(Kind::Script)) {
            // Until it is changed it is no script.
            if let Err(error) = self.asking.pass(Ask::Exec, question.file.as_fd()) {
                tracing::debug!(%error, "a file is asked about again");
            }
            return Answer::Allow;
        }
        // Whoever asks is gone, or is the kernel itself.
        let Some(runner) = look::runner(question.pid, self.cgroup_root()) else { return Answer::Allow };
        let seats = self.seats();
        let found = match self.belongs(&runner, &seats, last) {
            Belongs::Nowhere | Belongs::Runtime(_) => return Answer::Allow,
            Belongs::Soon => return Answer::Wait,
            Belongs::Under(found) => found,
        };
        if !last && self.awaits_kin(runner.pid, &found, &seats) {
            return Answer::Wait;
        }
        if found.seat.container {
            self.marks.see(&self.asking, runner.mounts, runner.pid);
        }
        let kind = match kind {
            Ok(kind) => kind,
            Err(error) => return unknown(&error, &seats, &found),
        };
        if kind != Kind::Script && self.is_expected(question) {
            return Answer::Allow;
        }
        let how = How { begin, script: kind == Kind::Script, late: false };
        let judged = match self.judge(&runner, &found, &seats, question.file.as_fd(), how) {
            Ok(Some(judged)) => judged,
            Ok(None) => return Answer::Allow,
            Err(error) => return unknown(&error, &seats, &found),
        };
        let (verdict, script) = (judged.exec.verdict, judged.exec.script);
        tracing::trace!(path = judged.exec.path, verdict = verdict.as_str(), script, "asked about a program");
        if verdict == Verdict::Deny {
            held(&self.expected).remove(&question.pid);
            self.sink.event(Event::Exec(judged.exec));
            return Answer::Deny;
        }
        if script {
            // Its interpreter is asked about next, and told when it runs.
            if verdict.is_violation() {
                self.sink.event(Event::Exec(judged.exec));
            }
            return Answer::Allow;
        }
        self.expect(&runner, kind);
        let mut waiting = held(&self.judged);
        if waiting.len() < MAX_PROCESSES || waiting.contains_key(&question.pid) {
            waiting.insert(question.pid, judged);
        }
        Answer::Allow
    }
}

impl Warden {
    /// Whether it is the loader of the program that was let through just before.
    fn is_expected(&self, question: &Question) -> bool {
        let Some(expected) = held(&self.expected).remove(&question.pid) else { return false };
        Inode::of(&question.file).is_ok_and(|file| file == expected.loader)
    }

    fn expect(&self, runner: &Runner, kind: Kind) {
        let loader = match kind {
            Kind::Elf(Some(loader)) => look::resolve(runner.pid, &loader),
            _ => None,
        };
        let mut expected = held(&self.expected);
        match loader {
            Some(loader) if expected.len() < MAX_PROCESSES => {
                expected.insert(runner.pid, Expected { loader });
            }
            _ => drop(expected.remove(&runner.pid)),
        }
    }
}

/// A program that cannot be looked at.
fn unknown(error: &std::io::Error, seats: &Seats, found: &Found) -> Answer {
    let fault = in_doubt(seats, found);
    tracing::warn!(%error, ?fault, "what is to be run cannot be told");
    if fault == Fault::Closed { Answer::Deny } else { Answer::Allow }
}
