//! The roles in one process. They speak to one another as they do in a cluster: the enforcer dials the controller's
//! gRPC port with its own certificate, the manager the REST port.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nv_config::Settings;
use nv_model::node::Capabilities;
use nv_role_controller::Controller;
use nv_role_enforcer::{JoinToken, command};
use nv_role_manager::{Branding, ControllerEndpoint, ManagerConfig};
use nv_store::{EventLog, RedbStore, Retention, Store};
use nv_telemetry::{Clock, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::state;

/// How long the token lives that the enforcer of this process joins with.
const TOKEN_LIFE: Duration = Duration::from_secs(600);

/// Starts every role, says where they are, and waits for the end.
pub(crate) async fn run(settings: Settings) -> Result<()> {
    state::make_private(&settings.state_dir)?;
    let shutdown = nv_telemetry::shutdown_on_signal().context("signal handlers")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());

    let store: Arc<dyn Store> = Arc::new(RedbStore::open(settings.state_dir.join("store"))?);
    let retention = Retention {
        max_age: Duration::from_secs(u64::from(settings.event_log_days) * 24 * 3600),
        max_bytes: settings.event_log_bytes,
    };
    let events = EventLog::open(settings.state_dir.join("events"), retention)?;
    let controller = nv_role_controller::start(
        nv_role_controller::ControllerConfig {
            grpc_bind: SocketAddr::new(settings.bind, settings.grpc_port),
            state_dir: settings.state_dir.clone(),
            cluster_name: settings.cluster_name.clone(),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        },
        nv_role_controller::Deps { store: Arc::clone(&store), events, clock: Arc::clone(&clock) },
        shutdown.clone(),
    )
    .await?;
    // Clients verify the servers of this machine with this root.
    state::write(&settings.state_dir.join("root.pem"), &controller.authority().certificate_pem(), 0o644)?;

    let mut api = nv_role_api::Api::bind(
        nv_role_api::ApiConfig {
            address: SocketAddr::new(settings.bind, settings.rest_port),
            tls: Arc::new(web_certificate(&controller, &settings, &*clock)?),
            password_cost: Default::default(),
        },
        nv_role_api::Deps { controller: controller.clone(), store, clock: Arc::clone(&clock) },
        shutdown.clone(),
    )
    .await?;
    let rest = api.address();
    let one_time_password = api.take_one_time_password();
    if let (Some(password), Some(path)) = (&one_time_password, &settings.bootstrap_password_file) {
        use secrecy::ExposeSecret as _;
        state::write(path, &format!("{}\n", password.expose_secret()), 0o600)?;
    }
    let serving = tokio::spawn(api.run());

    let manager = nv_role_manager::Manager::bind(ManagerConfig {
        bind: SocketAddr::new(settings.bind, settings.console_port),
        controller: ControllerEndpoint {
            url: format!("https://{}", SocketAddr::new(reachable(settings.bind), rest.port())),
            roots: vec![controller.authority().certificate().clone()],
        },
        tls: if settings.console_ssl {
            Some(Arc::new(web_certificate(&controller, &settings, &*clock)?))
        } else {
            None
        },
        path_prefix: settings.path_prefix.clone(),
        branding: Branding::default(),
    })
    .await?;
    let console = tokio::spawn(manager.run(shutdown.clone()));

    say(&greeting(&settings, rest, one_time_password.as_ref()));
    let outcome = enforce(&settings, &controller, clock, shutdown.clone()).await;
    // Whatever ended it, the others end in order.
    shutdown.cancel();
    serving.await.context("the REST API's task")?;
    console.await.context("the console's task")?;
    controller.stopped().await;
    outcome
}

/// Runs the enforcer until the end; without root there is none, and the rest goes on.
async fn enforce(
    settings: &Settings,
    controller: &Controller,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        say(
            "This process is not root: it cannot look into containers or load BPF programs, so nothing on this\nmachine is protected. The controller and the console run; start it as root to protect the machine.",
        );
        shutdown.cancelled().await;
        return Ok(());
    }
    let token = controller.join_token(None, TOKEN_LIFE).await?;
    let mut config = command::config(settings);
    config.controller = SocketAddr::new(reachable(settings.bind), controller.address().port()).to_string();
    config.join = JoinToken::Text(token);
    nv_role_enforcer::run(config, clock, |found: &Capabilities| say(&command::table(found)), shutdown)
        .await
        .context("the enforcer")
}

/// A certificate for the servers that people and their clients reach: REST and console.
fn web_certificate(
    controller: &Controller,
    settings: &Settings,
    clock: &dyn Clock,
) -> Result<rustls::ServerConfig> {
    let mut names = vec!["localhost".to_owned(), "neuvector-svc-controller-api".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if !host.is_empty() && host.is_ascii() {
        names.push(host);
    }
    let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    if !settings.bind.is_unspecified() && !settings.bind.is_loopback() {
        addresses.push(settings.bind);
    }
    let credential = controller.authority().issue_server(&names, &addresses, clock.now())?;
    Ok(nv_pki::tls::web_server(&credential)?)
}

/// The address that another part of this process dials a server at that listens on `bind`.
fn reachable(bind: IpAddr) -> IpAddr {
    match bind {
        IpAddr::V4(v4) if v4.is_unspecified() => [127, 0, 0, 1].into(),
        IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

fn greeting(settings: &Settings, rest: SocketAddr, password: Option<&secrecy::SecretString>) -> String {
    use secrecy::ExposeSecret as _;
    let scheme = if settings.console_ssl { "https" } else { "http" };
    let host = SocketAddr::new(reachable(settings.bind), settings.console_port);
    let mut text = format!(
        "\nNeuVector {}\n  console   {scheme}://{host}{}\n  REST API  https://{}\n  root      {}\n",
        nv_telemetry::VERSION,
        settings.path_prefix,
        SocketAddr::new(reachable(settings.bind), rest.port()),
        shown(&settings.state_dir.join("root.pem")),
    );
    if let Some(password) = password {
        text.push_str(&format!(
            "  user      admin\n  password  {}   (for the first login only, which asks for a new one)\n",
            password.expose_secret()
        ));
    }
    text
}

fn shown(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn say(text: &str) {
    // A closed standard output must not end the protection.
    drop(writeln!(std::io::stdout(), "{text}"));
}
