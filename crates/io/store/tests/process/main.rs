//! What holds across the death of a process and on a full disk. Each test runs this program again as a child.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests, and children that tell by printing"
)]

mod full;
mod killed;

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use nv_model::record::{Event, Record};

const TASK: &str = "STORE_TEST_TASK";
const DIRECTORY: &str = "STORE_TEST_DIRECTORY";

/// Not a test: what the children do. Does nothing when it is run among the tests.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    match task.as_str() {
        "commit" => killed::commit_for_ever(&directory),
        "append" => killed::append_for_ever(&directory),
        "hold" => killed::hold_open(&directory),
        "fill-store" => full::fill_store(&directory),
        "fill-log" => full::fill_log(&directory),
        other => panic!("no task {other}"),
    }
}

/// This program as a child with a task; `limit` is the largest file it may write, in bytes.
fn start(task: &str, directory: &Path, limit: Option<u64>) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match limit {
        // The soft limit alone, so that the child can lift it; the signal ignored, so that writes fail instead.
        Some(bytes) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; ulimit -S -f \"$1\"; shift; exec \"$@\"", "sh"]);
            shell.arg((bytes / 512).to_string()).arg(program);
            shell
        }
        None => Command::new(program),
    };
    command
        .args(["child", "--exact", "--nocapture"])
        .env(TASK, task)
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

type Words = Lines<BufReader<ChildStdout>>;

fn output(child: &mut Child) -> Words {
    BufReader::new(child.stdout.take().unwrap()).lines()
}

/// The number in the child's next line that begins with `word`; `None` when it ended.
fn next_number(lines: &mut Words, word: &str) -> Option<u64> {
    lines.by_ref().find_map(|line| line.ok()?.trim().strip_prefix(word)?.trim().parse().ok())
}

fn event(i: u64) -> Record {
    Record::Event(Box::new(Event { message: format!("event {i}"), ..Event::default() }))
}
