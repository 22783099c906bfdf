//! What every binary that holds this role has on its command line: the hidden subcommands by which it starts itself
//! again as keeper or as the trial's child, and the table of capabilities.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use nv_config::Settings;
use nv_model::node::Capabilities;

use crate::identity::oci_hook::{self, HookLine};
use crate::privileges::{self, Needs};
use crate::{Budget, EnforcerConfig, EnforcerError, JoinToken, Launcher};

/// Subcommands that are none of an operator's.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Inner {
    /// Hold the kernel for the agent at the other end of standard input
    #[command(hide = true)]
    Keeper(FromTier),
    /// Read packets for the agent at the other end of standard input
    #[command(hide = true)]
    Inspector,
    /// Read files of containers for the agent at the other end of standard input
    #[command(hide = true)]
    Reader,
    /// Read layers of images for the process at the other ends of standard input and output
    #[command(hide = true)]
    LayerReader,
    /// Start keepers and inspectors for the agent at the other end of standard input
    #[command(hide = true)]
    Launcher(FromTier),
    /// Be the program that a trial tries to stop
    #[command(hide = true)]
    TrialChild,
    /// Let a runtime wait until a new container is under its policy: an OCI hook for createRuntime
    OciHook(HookLine),
}

/// Nice value of a keeper that programs wait for.
const KEEPER_NICE: i32 = -15;

/// Nice value of an inspector. It sleeps when there is nothing to read.
const INSPECTOR_NICE: i32 = -10;

/// Which mechanisms a keeper leaves out.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FromTier {
    /// Those of tiers before this one
    #[arg(long, default_value_t = 1)]
    from_tier: u8,
}

/// Runs one of them.
#[must_use]
pub fn inner(command: &Inner) -> ExitCode {
    match command {
        Inner::OciHook(line) => oci_hook::main(line),
        Inner::TrialChild => ExitCode::from(nv_probe::trial::child_main()),
        Inner::Inspector => {
            // Packets wait for it, or go unread when its ring is full. Where it may not, it is as urgent as others.
            let _kept = rustix::process::setpriority_process(None, INSPECTOR_NICE);
            match crate::inspector_main() {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => failed("inspector", &reason),
            }
        }
        Inner::Reader => match crate::reader_main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => failed("reader", &reason),
        },
        Inner::LayerReader => match nv_role_scanner::layer_reader_main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => failed("layer-reader", &reason),
        },
        Inner::Launcher(line) => {
            // What it has to say goes where the agent's log goes.
            if let Err(error) = nv_telemetry::start_log("info", nv_config::LogStyle::default()) {
                return failed("launcher", &error);
            }
            match crate::launcher_main(line.from_tier) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => failed("launcher", &reason),
            }
        }
        Inner::Keeper(line) => {
            // What it has to say goes where the agent's log goes.
            if let Err(error) = nv_telemetry::start_log("info", nv_config::LogStyle::default()) {
                return failed("keeper", &error);
            }
            let tried = crate::try_each(&trial(), line.from_tier);
            if tried.kills() {
                // Programs wait for its answers, on a busy machine too. The privilege for it goes away next.
                if let Err(error) = rustix::process::setpriority_process(None, KEEPER_NICE) {
                    tracing::warn!(%error, "the keeper is no more urgent than others");
                }
            }
            if let Err(error) = privileges::reduce_keeper(tried.kills()) {
                return failed("keeper", &nv_telemetry::chain(&error));
            }
            match crate::keeper_main(&tried) {
                Ok(()) => ExitCode::SUCCESS,
                Err(reason) => failed("keeper", &reason),
            }
        }
    }
}

/// How this binary starts itself as the trial's child.
#[must_use]
pub fn trial() -> nv_probe::Trial {
    nv_probe::Trial { exe: PathBuf::from("/proc/self/exe"), args: vec!["trial-child".to_owned()] }
}

/// Prints what the kernel allows, without the mechanisms of tiers before `from_tier`.
#[must_use]
pub fn capabilities(json: bool, from_tier: u8) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        return failed("capabilities", &"the mechanisms can be tried only as root");
    }
    let found = crate::capabilities(&trial(), from_tier);
    let text = if json { serde_json::to_string_pretty(&found).unwrap_or_default() } else { table(&found) };
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed("capabilities", &error),
    }
}

/// What the kernel allows, as a table for people.
#[must_use]
pub fn table(found: &Capabilities) -> String {
    let mut text = format!("kernel {}, tier {}\n", found.kernel, found.tier);
    for trial in &found.trials {
        let (sign, why) = if trial.works { ("works", "") } else { ("does not work", trial.reason.as_str()) };
        text.push_str(&format!("  {:<16} {sign:<14} {why}\n", trial.mechanism.as_str()));
    }
    let name = |mechanism: Option<nv_model::verdict::Mechanism>| mechanism.map_or("nothing", |m| m.as_str());
    text.push_str(&format!(
        "  programs are stopped by {}, packets by {}",
        name(found.process),
        name(found.network)
    ));
    for lost in &found.lost {
        text.push_str(&format!("\n  lost: {lost}"));
    }
    text
}

/// Says on standard error why the program ends, and gives its exit code.
#[must_use]
pub fn failed(what: &str, reason: &dyn std::fmt::Display) -> ExitCode {
    // Where even standard error is closed, the exit code still says it.
    let _written = writeln!(std::io::stderr(), "{what}: {reason:#}");
    ExitCode::FAILURE
}

/// Starts the launcher and gives away every privilege that only keepers need. To be called before the process has other
/// threads, whose privileges would stay.
///
/// # Errors
/// [`EnforcerError`]: the process must not go on then.
pub fn give_privileges_away(settings: &Settings) -> Result<Arc<Launcher>, EnforcerError> {
    let launcher = Launcher::start(settings.enforcer_tier)?;
    let ports = [settings.rest_port, settings.grpc_port, settings.console_port];
    for kept in privileges::reduce(Needs::of(&settings.state_dir, &ports))? {
        tracing::debug!(capability = ?kept.capability, why = kept.why, "kept");
    }
    Ok(Arc::new(launcher))
}

/// The role's configuration from the settings of a binary.
#[must_use]
pub fn config(settings: &Settings, launcher: Arc<Launcher>) -> EnforcerConfig {
    EnforcerConfig {
        state_dir: settings.state_dir.clone(),
        controller: format!("{}:{}", settings.controller, settings.grpc_port),
        join: settings.join_token_file.clone().map_or(JoinToken::None, JoinToken::File),
        bpf_dir: settings.bpf_dir.clone(),
        runtime_socket: settings.containerd_socket.clone(),
        docker_socket: settings.docker_socket.clone(),
        nri_socket: settings.nri_socket.clone(),
        runtime_state_dir: settings.runtime_state_dir.clone(),
        service_ranges: settings.service_ranges.clone(),
        budget: Budget {
            cpu: f64::from(settings.enforcer_cpu_percent) / 100.0,
            memory: settings.enforcer_memory_bytes,
        },
        inspectors: settings.enforcer_inspectors,
        log_level: settings.log.clone(),
        secrets: settings.secret_scans,
        launcher,
    }
}
