//! Runs host tests on other kernels: Debian's newest of a series, each in a virtual machine without disk or network.
//!
//! ```text
//! cargo test --no-run --message-format json ──▶ programs ─┐
//! apt ──▶ kernel and modules ─────────────────────────────┴─▶ initramfs ──▶ QEMU ──▶ serial port ──▶ results
//! ```
//!
//! Software emulation (`-accel tcg`), as nested virtualisation is not everywhere. A guest that does not report every
//! program it was given is a failure: nothing is skipped.
#![expect(clippy::print_stdout, reason = "it talks to a terminal")]

mod boot;
mod initramfs;
mod kernel;
mod programs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::boot::Guest;
use crate::kernel::Kernel;

/// Run host tests on other kernels.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder for downloaded kernels.
    #[arg(long)]
    cache: PathBuf,
    /// Binary of the enforcer, whose table of capabilities each guest prints.
    #[arg(long, required_unless_present = "cost")]
    enforcer: Option<PathBuf>,
    /// Instead of tests, count the instructions of calls with this program (`nv-cost`).
    #[arg(long)]
    cost: Option<PathBuf>,
    /// Only guests whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// What a guest's kernel has for the enforcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Has {
    /// `bpf` is among its security modules.
    BpfLsm,
    /// It is not: the second tier is the best.
    Trampolines,
    /// `bpf` is among its security modules, and the kernel is the oldest on which the programs load: nothing is kept by task,
    /// and its connection tracking cannot be asked.
    OldBpfLsm,
}

impl Has {
    /// The best tier on it, which its table of capabilities must name.
    fn tier(self) -> u8 {
        match self {
            Self::BpfLsm | Self::OldBpfLsm => 1,
            Self::Trampolines => 2,
        }
    }
}

/// A kernel series with its package, and the suite that has it where the machine's own has not.
const GUESTS: [(&str, &str, Option<&str>, Has); 5] = [
    ("6.1 with BPF LSM", "linux-image-cloud-amd64", None, Has::BpfLsm),
    ("6.1 without BPF LSM", "linux-image-cloud-amd64", None, Has::Trampolines),
    ("6.12 with BPF LSM", "linux-image-6.12-cloud-amd64", None, Has::BpfLsm),
    ("6.12 without BPF LSM", "linux-image-6.12-cloud-amd64", None, Has::Trampolines),
    ("5.10 with BPF LSM", "linux-image-cloud-amd64", Some("bullseye"), Has::OldBpfLsm),
];

/// Guests that run at one time.
const AT_ONCE: usize = 2;

/// A guest with its name, its kernel's release and how many programs it runs.
type Named = (&'static str, String, usize, Guest);

/// Runs those that wait, one after another, and tells of each when it has ended.
fn run(waiting: &Mutex<std::slice::Iter<'_, Named>>, failed: &Mutex<Vec<String>>) -> Result<()> {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some((name, release, _, guest)) = next else { return Ok(()) };
        let report = guest.run()?;
        // Held until all of this guest is told.
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        println!("=== guest: {name} ({release})");
        for line in &report.lines {
            println!("{line}");
        }
        for problem in report.problems {
            println!("*** {name}: {problem}");
            failed.push(format!("{name}: {problem}"));
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(cost) = arguments.cost {
        let program = programs::Program { name: "nv-cost".to_owned(), path: cost };
        let kernel = Kernel::newest(&arguments.cache, "linux-image-6.12-cloud-amd64", None)?;
        let report = Guest::new(&kernel, Has::BpfLsm, None, &[&program])?.run()?;
        for line in report.lines.iter().chain(&report.problems) {
            println!("{line}");
        }
        return Ok(ExitCode::from(u8::from(!report.problems.is_empty())));
    }
    let programs = programs::from_cargo(std::io::stdin().lock())?;
    let mut guests = Vec::new();
    for (name, package, suite, has) in GUESTS {
        if arguments.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let kernel = Kernel::newest(&arguments.cache, package, suite)
            .with_context(|| format!("kernel of {package}"))?;
        // The full set runs where the mechanism is the strongest; the other guest of a series tries what differs.
        let wanted: Vec<_> = programs.iter().filter(|program| program.runs_where(has)).collect();
        let guest = Guest::new(&kernel, has, arguments.enforcer.as_deref(), &wanted)?;
        guests.push((name, kernel.release.clone(), wanted.len(), guest));
    }
    // The longest first, so that none of them runs alone at the end.
    guests.sort_by_key(|(.., wanted, _)| std::cmp::Reverse(*wanted));
    let (waiting, failed) = (Mutex::new(guests.iter()), Mutex::new(Vec::new()));
    // Each has one processor: two keep a small machine busy.
    std::thread::scope(|scope| {
        let runs = [(); AT_ONCE].map(|()| scope.spawn(|| run(&waiting, &failed)));
        runs.into_iter().try_for_each(|run| run.join().map_err(|_panic| anyhow::anyhow!("a run ended"))?)
    })?;
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("=== guests: {} problems", failed.len());
    for problem in failed {
        println!("{problem}");
    }
    Ok(ExitCode::FAILURE)
}
