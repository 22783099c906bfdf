//! What the programs cost a call, in instructions. Runs in a guest whose clock counts them (QEMU's `-icount shift=0`), so
//! that a nanosecond is an instruction and the figures are the same on every machine.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _, stdin, stdout};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nv_probe::file::{FileRow, Mounts, Rows, Tables as FileTables, scope};
use nv_probe::tables::{CgroupRow, ExactKey, ProfileRow, Rows as Programs, RuleRow};
use nv_probe::{Events, Loaded, Options, Tables, Trial, cgroup, trial, try_behaviour, try_files};

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::Action;

const PROFILE: u32 = 1;
const PROGRAM: &str = "/bin/busybox";
const OPENED: &str = "/etc/passwd";
const OPENS: u32 = 2000;
const EXECS: u32 = 30;

/// Argument by which this program is the [`Starter`]'s process.
const STARTER: &str = "starter";
const ROUNDS: u32 = 5;

fn main() -> ExitCode {
    let role =
        if std::env::args().nth(1).is_some_and(|word| word == STARTER) { start_programs } else { measure };
    match role() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Instructions of one open and close, the least of five rounds: what the guest's timer adds is in none of them alone.
fn open() -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..OPENS {
            drop(File::open(OPENED)?);
        }
        let each = begin.elapsed().as_nanos() / u128::from(OPENS);
        least = least.min(u64::try_from(each).unwrap_or(u64::MAX));
    }
    Ok(least)
}

/// A process that starts programs and times it. The one that measures holds a descriptor for every program and table,
/// which each start would copy and close: that is no cost of theirs.
struct Starter {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Starter {
    fn new() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(STARTER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the process that starts programs")?;
        let asks = child.stdin.take().context("no pipe to it")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from it")?);
        Ok(Self { child, asks, answers })
    }

    /// Instructions of one start, the least of five rounds; the ring is emptied before each.
    fn exec(&mut self, mut events: Option<&mut Events>) -> Result<u64> {
        let mut least = u64::MAX;
        for _ in 0..ROUNDS {
            while let Some(events) = events.as_mut()
                && !events.drain()?.is_empty()
            {}
            self.asks.write_all(b"\n")?;
            let mut answer = String::new();
            self.answers.read_line(&mut answer)?;
            least = least.min(answer.trim().parse().context("no program could be started")?);
        }
        Ok(least)
    }

    fn end(mut self) -> Result<()> {
        drop(self.asks);
        ensure!(self.child.wait()?.success(), "the process that starts programs has failed");
        Ok(())
    }
}

/// What the [`Starter`]'s process does: a round for each line.
fn start_programs() -> Result<()> {
    for line in stdin().lines() {
        line?;
        let begin = Instant::now();
        for _ in 0..EXECS {
            ensure!(Command::new(PROGRAM).arg("true").status()?.success(), "the program did not run");
        }
        writeln!(stdout(), "{}", begin.elapsed().as_nanos() / u128::from(EXECS))?;
    }
    Ok(())
}

fn line(what: &str, base: u64, found: u64, budget: &str, holds: bool) {
    let more = found.saturating_sub(base);
    let share = more as f64 * 100.0 / base as f64;
    let holds = if holds { "ok" } else { "MISSED" };
    drop(writeln!(stdout(), "{what:<44} {found:>9} {more:>+8} {share:>+7.1} %  {budget:<10} {holds}"));
}

fn measure() -> Result<()> {
    let child = Trial {
        exe: PROGRAM.into(),
        args: vec!["sh".into(), "-c".into(), format!("exit {}", trial::child_main())],
    };
    let mechanism = trial::run(&child, 1).process.context("nothing stops programs here")?;
    let hooks = try_files(mechanism).map_err(anyhow::Error::msg)?;
    // Before anything is loaded.
    let mut starter = Starter::new()?;
    let (open_base, exec_base) = (open()?, starter.exec(None)?);
    drop(writeln!(stdout(), "instructions a call, by {}", mechanism.as_str()));
    line("open and close, no programs", open_base, open_base, "-", true);
    line("spawn of a static program, no programs", exec_base, exec_base, "-", true);

    let mut options = Options::new(None, Some(mechanism))?;
    options.files = Some((hooks.mechanism, hooks.works));
    options.behaviour = try_behaviour().works;
    let loaded = Loaded::load(&options)?;
    let tables = Tables::from_descriptors(loaded.descriptors()?)?;
    let mut files = FileTables::from_descriptors(loaded.descriptors()?)?;
    let open_report = |what: &str, budget: u64| -> Result<()> {
        let found = open()?;
        line(what, open_base, found, &format!("<= +{budget}"), found <= open_base + budget);
        Ok(())
    };
    open_report("open, in no profile", 500)?;

    let profile = ProfileRow { mode: Mode::Protect, baseline: Baseline::Basic, fault: Fault::Open };
    let rule = RuleRow {
        action: Action::Allow,
        allow_update: false,
        learned: false,
        order: 0,
        rule: 0,
        conditional: 0,
    };
    tables.replace(&Programs {
        profiles: [(PROFILE, profile)].into(),
        exact: [(ExactKey { profile: PROFILE, path: PROGRAM.to_owned() }, rule)].into(),
        ..Programs::default()
    })?;
    tables.set_cgroup(
        cgroup::id(&cgroup::unified_root()?)?,
        CgroupRow { profile: PROFILE, container: false },
    )?;
    let ring = loaded.descriptors()?.into_iter().find(|(name, _)| name == "ring").context("no ring")?.1;
    let found = starter.exec(Some(&mut Events::from_descriptor(ring)?))?;
    starter.end()?;
    let holds = found <= exec_base + exec_base * 3 / 100;
    line("spawn, judged by its path, all hooks", exec_base, found, "<= +3 %", holds);
    open_report("open, in a profile without file rules", 500)?;

    let mounts = Mounts::of(std::process::id())?;
    let inode = |path: &str| -> Result<_> { Ok(mounts.inode(File::open(path)?.as_fd())?) };
    let blocked = FileRow { rule: 0, blocks: true, scope: scope::ITSELF };
    let mut rows = Rows::default();
    rows.add(PROFILE, inode("/etc/other")?, blocked);
    files.replace(&rows)?;
    open_report("open, rules on other files", 550)?;
    rows.add(PROFILE, inode(OPENED)?, blocked);
    rows.applications.insert((PROFILE, 0, inode("/proc/self/exe")?));
    files.replace(&rows)?;
    open_report("open of a protected file by its application", 2200)?;
    rows = Rows::default();
    rows.add(PROFILE, inode("/bin")?, FileRow { scope: scope::IN | scope::BELOW, ..blocked });
    files.replace(&rows)?;
    open_report("open, rules on folders", 2200)
}
