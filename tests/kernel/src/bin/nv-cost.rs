//! What the programs cost a call, in instructions. Runs in a guest whose clock counts them (QEMU's `-icount shift=0`), so
//! that a nanosecond is an instruction and the figures are the same on every machine.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nv_probe::file::{FileRow, Mounts, Rows, Tables as FileTables, scope};
use nv_probe::tables::{CgroupRow, ExactKey, ProfileRow, RuleRow};
use nv_probe::{Events, Loaded, Options, Tables, Trial, cgroup, trial, try_files};

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::verdict::Action;

const PROFILE: u32 = 1;
const PROGRAM: &str = "/bin/busybox";
const OPENED: &str = "/etc/passwd";
const OPENS: u32 = 2000;
const EXECS: u32 = 30;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Instructions of one call, the least of five rounds: what the guest's timer adds is in none of them alone.
fn least(
    calls: u32,
    mut call: impl FnMut() -> Result<()>,
    mut before: impl FnMut() -> Result<()>,
) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..5 {
        before()?;
        let begin = Instant::now();
        for _ in 0..calls {
            call()?;
        }
        let each = begin.elapsed().as_nanos() / u128::from(calls);
        least = least.min(u64::try_from(each).unwrap_or(u64::MAX));
    }
    Ok(least)
}

fn open() -> Result<u64> {
    least(
        OPENS,
        || {
            drop(File::open(OPENED)?);
            Ok(())
        },
        || Ok(()),
    )
}

/// `events` is read before each round, as an agent does: a ring that fills wakes its reader with every record.
fn exec(mut events: Option<&mut Events>) -> Result<u64> {
    least(
        EXECS,
        || {
            ensure!(Command::new(PROGRAM).arg("true").status()?.success(), "the program did not run");
            Ok(())
        },
        || {
            while let Some(events) = events.as_mut()
                && !events.drain()?.is_empty()
            {}
            Ok(())
        },
    )
}

fn line(what: &str, base: u64, found: u64, budget: &str, holds: bool) {
    let more = found.saturating_sub(base);
    let share = more as f64 * 100.0 / base as f64;
    let holds = if holds { "ok" } else { "MISSED" };
    drop(writeln!(
        std::io::stdout(),
        "{what:<44} {found:>9} {more:>+8} {share:>+7.1} %  {budget:<10} {holds}"
    ));
}

fn measure() -> Result<()> {
    let child = Trial {
        exe: PROGRAM.into(),
        args: vec!["sh".into(), "-c".into(), format!("exit {}", trial::child_main())],
    };
    let mechanism = trial::run(&child).process.context("nothing stops programs here")?;
    let hooks = try_files(mechanism).map_err(anyhow::Error::msg)?;
    let (open_base, exec_base) = (open()?, exec(None)?);
    drop(writeln!(std::io::stdout(), "instructions a call, by {}", mechanism.as_str()));
    line("open and close, no programs", open_base, open_base, "-", true);
    line("spawn of a static program, no programs", exec_base, exec_base, "-", true);

    let mut options = Options::new(None, Some(mechanism))?;
    options.files = Some((hooks.mechanism, hooks.works));
    let loaded = Loaded::load(&options)?;
    let tables = Tables::from_descriptors(loaded.descriptors()?)?;
    let mut files = FileTables::from_descriptors(loaded.descriptors()?)?;
    let open_report = |what: &str, budget: u64| -> Result<()> {
        let found = open()?;
        line(what, open_base, found, &format!("<= +{budget}"), found <= open_base + budget);
        Ok(())
    };
    open_report("open, in no profile", 500)?;

    tables.set_profile(
        PROFILE,
        ProfileRow { mode: Mode::Protect, baseline: Baseline::Basic, fault: Fault::Open },
    )?;
    let rule = RuleRow { action: Action::Allow, allow_update: false, order: 0, rule: 0, conditional: 0 };
    tables.set_exact(&ExactKey { profile: PROFILE, path: PROGRAM.to_owned() }, rule)?;
    tables.set_cgroup(
        cgroup::id(&cgroup::unified_root()?)?,
        CgroupRow { profile: PROFILE, container: false },
    )?;
    let ring = loaded.descriptors()?.into_iter().find(|(name, _)| name == "ring").context("no ring")?.1;
    let found = exec(Some(&mut Events::from_descriptor(ring)?))?;
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
