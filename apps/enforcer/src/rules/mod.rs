//! `enforcer rules check`: what a WAF rule set in ModSecurity's language will do, before it is loaded: which rules are
//! taken, which are not and why, and with `--tests` whether they find what their authors' regression cases ask for.

mod cases;
mod files;
mod http;
mod play;
mod report;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nv_seclang::{Engine, File, RuleSet, Settings};

/// On rules for the web application firewall.
#[derive(clap::Args)]
pub(crate) struct Rules {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Compile rules, say which are refused and why, and run their regression cases
    Check(Check),
}

/// Rules and their cases.
#[derive(clap::Args)]
pub(crate) struct Check {
    /// Files of rules in their order, or folders whose `.conf` files and the files that these name are read by name
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Regression cases (YAML of go-ftw): a file, or a folder with more folders
    #[arg(long)]
    tests: Option<PathBuf>,
    /// A variable of TX before the first rule, such as `blocking_paranoia_level=4`
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim_start_matches("tx.").to_owned(), value.to_owned()))
}

/// Checks rules and writes what was found to standard output; the code says whether all is well.
///
/// # Errors
/// When a file cannot be read, the rules are more than are taken, or standard output cannot be written.
pub(crate) fn run(rules: &Rules) -> Result<ExitCode> {
    let Command::Check(check) = &rules.command;
    let read = files::read(&check.paths)?;
    let files: Vec<File<'_>> = read.iter().map(|(name, text)| File { name, text }).collect();
    let begun = now();
    let (set, refused) = RuleSet::compile(&files, settings(check)).context("the rules")?;
    let mut report = report::Report::new(check.json);
    report.compiled(&set, &refused, begun.elapsed());
    let mut well = refused.is_empty();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if let Some(tests) = &check.tests {
        let set = Arc::new(set);
        let mut took = Duration::ZERO;
        for path in files::cases(tests)? {
            let text = files::text(&path)?;
            let case_file = cases::read(&text).with_context(|| path.display().to_string())?;
            for case in &case_file.tests {
                let begun = now();
                let outcome = play::play(&set, &check.set, case);
                took = took.saturating_add(begun.elapsed());
                well &= !matches!(outcome, play::Outcome::Failed(_));
                report.case(case_file.rule_id, case, &outcome);
            }
        }
        report.played(took);
    }
    report.write(&mut out).and_then(|()| out.flush()).context("standard output")?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compiles the rules at some paths for use; what is refused is told on standard error. None when there is no path.
///
/// # Errors
/// When a file cannot be read, or the rules are more than are taken.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Option<Arc<RuleSet>>> {
    if paths.is_empty() {
        return Ok(None);
    }
    let read = files::read(paths)?;
    let files: Vec<File<'_>> = read.iter().map(|(name, text)| File { name, text }).collect();
    let settings = Settings { engine: Engine::DetectionOnly, ..Settings::default() };
    let (set, refused) = RuleSet::compile(&files, settings).context("the rules")?;
    for one in &refused {
        writeln!(std::io::stderr(), "refused  {one}")?;
    }
    Ok(Some(Arc::new(set)))
}

/// Cases ask what rules find; a rule that ends a request early would hide what others find.
fn settings(check: &Check) -> Settings {
    let engine = if check.tests.is_some() { Engine::DetectionOnly } else { Engine::On };
    Settings { engine, ..Settings::default() }
}

/// Of this command's own work only: rules have no clock.
fn now() -> Instant {
    Instant::now()
}
