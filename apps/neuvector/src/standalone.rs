//! The roles in one process. They speak to one another as they do in a cluster: the enforcer dials the controller's
//! gRPC port with its own certificate, the manager the REST port.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nv_config::Settings;
use nv_model::node::Capabilities;
use nv_role_api::start;
use nv_role_controller::Controller;
use nv_role_enforcer::{JoinToken, Launcher, command};
use nv_role_manager::{Branding, ControllerEndpoint, ManagerConfig};
use nv_role_scanner::ServiceConfig;
use nv_telemetry::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

/// How long the token lives that the enforcer of this process joins with.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// Starts every role, says where they are, and waits for the end.
pub(crate) async fn run(settings: Settings, launcher: Option<Arc<Launcher>>) -> Result<()> {
    let shutdown = nv_telemetry::shutdown_on_signal().context("signal handlers")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let started = start::start(&settings, Arc::clone(&clock), shutdown.clone()).await?;
    let controller = started.controller.clone();

    let manager = nv_role_manager::Manager::bind(ManagerConfig {
        bind: SocketAddr::new(settings.bind, settings.console_port),
        controller: ControllerEndpoint {
            url: format!(
                "https://{}",
                SocketAddr::new(start::reachable(settings.bind), started.address.port())
            ),
            roots: vec![controller.authority().certificate().clone()],
        },
        tls: if settings.console_ssl {
            Some(Arc::new(start::web_certificate(&controller, &settings, &*clock)?))
        } else {
            None
        },
        path_prefix: settings.path_prefix.clone(),
        branding: Branding::default(),
    })
    .await?;
    let console = tokio::spawn(manager.run(shutdown.clone()));

    let scheme = if settings.console_ssl { "https" } else { "http" };
    let host = SocketAddr::new(start::reachable(settings.bind), settings.console_port);
    say(&started.greeting(&settings, Some(&format!("{scheme}://{host}{}", settings.path_prefix))));
    if let Some(path) = settings.scanner_token_file.clone() {
        tokio::spawn(start::Started::keep_scanner_token(controller.clone(), path, shutdown.clone()));
    }
    let scanner =
        tokio::spawn(scan(scanner(&settings, &controller).await?, Arc::clone(&clock), shutdown.clone()));
    let outcome = enforce(&settings, launcher, &controller, clock, shutdown.clone()).await;
    // Whatever ended it, the others end in order.
    shutdown.cancel();
    started.serving.await.context("the REST API's task")?;
    console.await.context("the console's task")?;
    scanner.await.context("the scanner's task")?;
    controller.stopped().await;
    outcome
}

/// What the scanner of this process is told.
async fn scanner(settings: &Settings, controller: &Controller) -> Result<ServiceConfig> {
    let address = SocketAddr::new(start::reachable(settings.bind), controller.address().port());
    Ok(ServiceConfig {
        controller: address.to_string(),
        join: nv_role_scanner::JoinToken::Text(controller.scanner_token(TOKEN_LIFE).await?),
        state_dir: settings.state_dir.clone(),
        database: settings.database.clone(),
        trusted: settings.database_key,
        credits: settings.scanner_tasks,
        server: start::reachable(settings.bind).to_string(),
        secrets: true,
        layer_process: true,
        runtime_sockets: settings.containerd_socket.iter().cloned().collect(),
    })
}

/// Scans until the end. Without it, protection goes on.
async fn scan(config: ServiceConfig, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    if let Err(error) = nv_role_scanner::serve(config, clock, shutdown).await {
        tracing::error!(error = nv_telemetry::chain(&error), "nothing is scanned");
    }
}

/// Runs the enforcer until the end; without root there is none, and the rest goes on.
async fn enforce(
    settings: &Settings,
    launcher: Option<Arc<Launcher>>,
    controller: &Controller,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<()> {
    let Some(launcher) = launcher else {
        say(
            "This process is not root: it cannot look into containers or load BPF programs, so nothing on this\nmachine is protected. The controller and the console run; start it as root to protect the machine.",
        );
        shutdown.cancelled().await;
        return Ok(());
    };
    let token = controller.join_token(None, TOKEN_LIFE).await?;
    let mut config = command::config(settings, launcher);
    config.controller =
        SocketAddr::new(start::reachable(settings.bind), controller.address().port()).to_string();
    config.join = JoinToken::Text(token);
    nv_role_enforcer::run(config, clock, |found: &Capabilities| say(&command::table(found)), shutdown)
        .await
        .context("the enforcer")
}

fn say(text: &str) {
    // A closed standard output must not end the protection.
    drop(writeln!(std::io::stdout(), "{text}"));
}
