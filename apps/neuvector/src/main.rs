//! All roles in one process: arguments → log → configuration → roles → shutdown.

mod standalone;

use std::process::ExitCode;

use clap::Parser;
use nv_config::{Options, Settings};
use nv_role_enforcer::command::{self, Inner};

/// NeuVector: finds the containers of this machine, learns what they do, and stops what they never did.
#[derive(Parser)]
#[command(name = "neuvector", version)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Run controller, REST API, console and enforcer in this process (the default)
    Run,
    /// Show what this machine's kernel allows, by loading and firing each mechanism
    Capabilities {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Inner(Inner),
}

fn main() -> ExitCode {
    let line = Line::parse();
    match line.command {
        Some(Command::Inner(inner)) => command::inner(&inner),
        Some(Command::Capabilities { json }) => {
            command::capabilities(json, line.options.enforcer_tier.unwrap_or(1))
        }
        Some(Command::Run) | None => match run(line.options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => command::failed("neuvector", &error),
        },
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let settings = Settings::resolve(options)?;
    nv_telemetry::start_log(&settings.log, settings.log_format)?;
    // Without root there is nothing to give away, and nothing that a keeper could do.
    let launcher = if rustix::process::geteuid().is_root() {
        Some(command::give_privileges_away(&settings)?)
    } else {
        None
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(standalone::run(settings, launcher))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scanner_of_the_all_in_one_has_its_reader_of_layers() {
        let line = Line::try_parse_from(["neuvector", nv_role_scanner::LAYER_READER]).unwrap();
        assert!(matches!(line.command, Some(Command::Inner(Inner::LayerReader))));
    }
}
