//! The enforcer of a node: arguments → log → configuration → role → shutdown.

mod inspect;
mod rules;

use std::process::ExitCode;

use clap::Parser;
use nv_config::{Options, Settings};
use nv_role_enforcer::command::{self, Inner};

/// NeuVector enforcer: protects the containers and the host of one node.
#[derive(Parser)]
#[command(name = "enforcer", version, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Protect this node, told by a controller
    Run,
    /// Show what this machine's kernel allows, by loading and firing each mechanism
    Capabilities {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Read captures as traffic would be read: applications, their fields, attacks
    Inspect(inspect::Inspect),
    /// Check rules of a web application firewall (ModSecurity's language) before they are loaded
    Rules(rules::Rules),
    #[command(flatten)]
    Inner(Inner),
}

fn main() -> ExitCode {
    let line = Line::parse();
    match line.command {
        Command::Inner(inner) => command::inner(&inner),
        Command::Capabilities { json } => {
            command::capabilities(json, line.options.enforcer_tier.unwrap_or(1))
        }
        Command::Inspect(inspect) => match inspect::run(&inspect) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => command::failed("enforcer inspect", &format!("{error:#}")),
        },
        Command::Rules(rules) => match rules::run(&rules) {
            Ok(code) => code,
            Err(error) => command::failed("enforcer rules", &format!("{error:#}")),
        },
        Command::Run => match run(line.options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => command::failed("enforcer", &error),
        },
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let settings = Settings::resolve(options)?;
    nv_telemetry::start_log(&settings.log, settings.log_format)?;
    let launcher = command::give_privileges_away(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = nv_telemetry::shutdown_on_signal()?;
        let config = command::config(&settings, launcher);
        let clock = std::sync::Arc::new(nv_telemetry::SystemClock::new());
        nv_role_enforcer::run(
            config,
            clock,
            |capabilities| tracing::info!(?capabilities, "kernel"),
            shutdown,
        )
        .await?;
        Ok(())
    })
}
