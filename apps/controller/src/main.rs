//! The controller alone: arguments → log → configuration → roles → shutdown.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use nv_config::{Options, Settings};
use nv_role_api::start;

/// NeuVector controller: policy, learning and the REST API for the enforcers that join it.
///
/// With --join-token-file it writes a new token there at each start, which lets one enforcer join.
#[derive(Parser)]
#[command(name = "controller", version)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(Line::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even standard error is closed, the exit code still says it.
            drop(writeln!(std::io::stderr(), "controller: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let settings = Settings::resolve(options)?;
    nv_telemetry::start_log(&settings.log, settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = nv_telemetry::shutdown_on_signal().context("signal handlers")?;
        let clock = Arc::new(nv_telemetry::SystemClock::new());
        let started = start::start(&settings, clock, shutdown.clone()).await?;
        if let Some(path) = &settings.join_token_file {
            started.write_join_token(path).await?;
        }
        if let Some(path) = settings.scanner_token_file.clone() {
            let controller = started.controller.clone();
            tokio::spawn(start::Started::keep_scanner_token(controller, path, shutdown.clone()));
        }
        // A closed standard output must not end the controller.
        drop(writeln!(std::io::stdout(), "{}", started.greeting(&settings, None)));
        shutdown.cancelled().await;
        started.serving.await.context("the REST API's task")?;
        started.controller.stopped().await;
        Ok(())
    })
}
