//! The console's server alone: arguments → log → configuration → role → shutdown.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use nv_config::{Options, Settings};
use nv_role_manager::{Branding, ControllerEndpoint, ManagerConfig};
use nv_telemetry::Clock as _;

/// NeuVector manager: the web console of a controller.
#[derive(Parser)]
#[command(name = "manager", version)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(Line::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where even standard error is closed, the exit code still says it.
            drop(writeln!(std::io::stderr(), "manager: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let settings = Settings::resolve(options)?;
    nv_telemetry::start_log(&settings.log, settings.log_format)?;
    let roots = std::fs::read(&settings.controller_ca)
        .with_context(|| format!("root certificate {}", settings.controller_ca.display()))?;
    let config = ManagerConfig {
        bind: SocketAddr::new(settings.bind, settings.console_port),
        controller: ControllerEndpoint {
            url: format!("https://{}:{}", settings.controller, settings.rest_port),
            roots: nv_role_manager::certificates_from_pem(&roots)?,
        },
        tls: if settings.console_ssl { Some(Arc::new(certificate(&settings)?)) } else { None },
        path_prefix: settings.path_prefix,
        branding: Branding::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = nv_telemetry::shutdown_on_signal().context("signal handlers")?;
        nv_role_manager::serve(config, shutdown).await?;
        Ok(())
    })
}

/// A certificate of an authority of its own, kept in the state directory.
fn certificate(settings: &Settings) -> anyhow::Result<rustls::ServerConfig> {
    let folder = settings.state_dir.join("manager");
    std::fs::create_dir_all(&folder).with_context(|| format!("state directory {}", folder.display()))?;
    let now = nv_telemetry::SystemClock::new().now();
    let authority = nv_pki::Authority::open(&folder, now)?;
    let mut addresses: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    if !settings.bind.is_unspecified() && !settings.bind.is_loopback() {
        addresses.push(settings.bind);
    }
    let names = ["localhost".to_owned(), "neuvector-service-webui".to_owned()];
    Ok(nv_pki::tls::web_server(&authority.issue_server(&names, &addresses, now)?)?)
}
