//! `enforcer inspect`: the inspection engine on capture files, with the time of the packets.
//!
//! One line a session, one a threat, one a rule of a sensor that holds, and at the end one with what was read and what it took. With `--json` each line
//! is a JSON object; a reader tells them apart by `app`, `threat`, `sensor` and `sessions`.

mod files;
mod open;
mod policy;
mod record;
mod sensors;
mod total;
mod usage;
mod verdict;
mod waf;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use nv_dpi::OverlapPolicy;
use nv_dpi::engine::Engine;
use nv_dpi::limits::Limits;
use nv_packet::capture_stream::read_records;
use nv_seclang::RuleSet;
use nv_sensor::matcher::{self, Matcher};
use nv_sensor::set::SensorSet;
use policy::Policy;
use record::Lines;
use total::Total;

/// What to inspect, and how to say what was found.
#[derive(clap::Args)]
pub(crate) struct Inspect {
    /// A capture (pcap or pcapng), or a folder whose captures are read one after the other
    #[arg(long)]
    pcap: PathBuf,
    /// DLP and WAF sensors to look for: YAML of the shape of the REST API's objects
    #[arg(long, value_name = "FILE")]
    sensors: Option<PathBuf>,
    /// Network rules to judge sessions by: YAML with `rules` of the shape of the REST API's
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// WAF rules in ModSecurity's language: files in their order, or folders of a rule set
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// A variable of TX before the first rule, such as `blocking_paranoia_level=2`
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::rules::variable, requires = "rules")]
    set: Vec<(String, String)>,
    /// JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Which copy counts when a sender sends the same bytes twice with different content
    #[arg(long, value_enum, default_value_t = Overlap::First)]
    overlap: Overlap,
}

/// As the receivers of the captured streams do it.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Overlap {
    First,
    Last,
}

/// Inspects all captures and writes what was found to standard output.
///
/// # Errors
/// When nothing can be read at all, or standard output cannot be written. A file that is cut or broken is told on
/// standard error, and what came before counts.
pub(crate) fn run(inspect: &Inspect) -> Result<()> {
    let files = files::captures(&inspect.pcap)?;
    if files.is_empty() {
        bail!(
            "{} holds no capture: give a pcap or pcapng file, or a folder with some",
            inspect.pcap.display()
        );
    }
    let sensors = inspect.sensors.as_deref().map(sensors::read).transpose()?;
    let policy = inspect.policy.as_deref().map(policy::read).transpose()?;
    let rules = crate::rules::load(&inspect.rules)?;
    let judges = Judges { sensors: sensors.as_ref(), policy: policy.as_ref(), rules: rules.as_ref() };
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut total = Total::default();
    let mut read = 0_usize;
    for path in &files {
        match one(inspect, path, &judges, &mut out, &mut total) {
            Ok(()) => read = read.saturating_add(1),
            Err(Failure::Output(error)) => return Err(error).context("standard output"),
            Err(Failure::Capture(error)) => {
                writeln!(std::io::stderr(), "enforcer inspect: {}: {error:#}", path.display())?;
            }
        }
    }
    total.files = read;
    total::last_line(&mut out, inspect.json, &total, &usage::now()?)?;
    out.flush().context("standard output")?;
    if read == 0 && total.packets == 0 {
        bail!("none of the {} captures could be read", files.len());
    }
    Ok(())
}

/// Why a file was not read to its end.
enum Failure {
    Capture(anyhow::Error),
    Output(std::io::Error),
}

/// What packets are judged by, beside what is judged always.
struct Judges<'j> {
    sensors: Option<&'j Arc<SensorSet>>,
    policy: Option<&'j Policy>,
    rules: Option<&'j Arc<RuleSet>>,
}

fn one(
    inspect: &Inspect,
    path: &Path,
    judges: &Judges<'_>,
    out: &mut dyn Write,
    total: &mut Total,
) -> Result<(), Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::Capture(error.into()))?;
    let policy = match inspect.overlap {
        Overlap::First => OverlapPolicy::First,
        Overlap::Last => OverlapPolicy::Last,
    };
    let mut engine = Engine::new(&Limits::default(), policy, files::seed());
    let matcher = judges.sensors.map(|set| Matcher::new(Arc::clone(set), matcher::Limits::default()));
    let waf = judges.rules.map(|rules| waf::Waf::new(Arc::clone(rules), &inspect.set));
    let mut lines = Lines::new(path, inspect.json, matcher, waf, judges.policy, out);
    let outcome = read_records(file, |record| {
        total.packets = total.packets.saturating_add(1);
        total.bytes = total.bytes.saturating_add(record.frame.len() as u64);
        match record.link {
            Some(link) => engine.frame(record.at, link, record.frame, &mut lines),
            None => total.unknown_links = total.unknown_links.saturating_add(1),
        }
    });
    // What came before a break was inspected, and is in the total.
    engine.finish(&mut lines);
    total.add(&lines, engine.counters());
    lines.end().map_err(Failure::Output)?;
    outcome.map_err(|error| Failure::Capture(error.into()))
}
