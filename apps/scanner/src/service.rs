//! `scanner run`: tasks of a controller; `scanner update`: a newer database for all of its scanners.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::source::sockets;
use anyhow::{Context as _, Result};
use clap::Args;
use nv_config::LogStyle;
use nv_role_scanner::{
    BuildOptions, FetchOptions, JoinToken, Remarks, ServiceConfig, build_database, fetch_feeds,
    offer_database, serve,
};
use nv_telemetry::SystemClock;

use crate::db::{key_bytes, signing_key};

#[derive(Args)]
pub(crate) struct ControllerLine {
    /// Host name or address of the controller
    #[arg(long, value_name = "HOST", env = "CLUSTER_JOIN_ADDR", default_value = "127.0.0.1")]
    controller: String,
    /// TCP port where it takes scanners
    #[arg(long, value_name = "PORT", env = "CLUSTER_JOIN_PORT", default_value_t = 18400)]
    controller_port: u16,
    /// File with the token for scanners that the first certificate is bought with
    #[arg(long, value_name = "FILE", env = "NV_JOIN_TOKEN_FILE")]
    join_token_file: Option<PathBuf>,
    /// Folder for key, layers and the database that the controller hands out
    #[arg(long, value_name = "DIR", env = "NV_STATE_DIR", default_value = "/var/neuvector")]
    state_dir: PathBuf,
    /// What is logged: error, warn, info, debug, trace
    #[arg(long, value_name = "FILTER", env = "NV_LOG", default_value = "info")]
    log: String,
}

impl ControllerLine {
    fn address(&self) -> String {
        // An IPv6 address stands in brackets before a port.
        if self.controller.contains(':') && !self.controller.starts_with('[') {
            format!("[{}]:{}", self.controller, self.controller_port)
        } else {
            format!("{}:{}", self.controller, self.controller_port)
        }
    }
    fn token(&self) -> JoinToken {
        self.join_token_file.clone().map_or(JoinToken::None, JoinToken::File)
    }
}

#[derive(Args)]
pub(crate) struct RunLine {
    #[command(flatten)]
    controller: ControllerLine,
    /// The database's file, or the folder of cvedb; a newer file that is put in its place is taken into use
    #[arg(long, value_name = "PATH", env = "NV_DATABASE", default_value = "/etc/neuvector/db/")]
    db: PathBuf,
    /// Use no database that was not signed with this public key (a file of 64 hexadecimal digits)
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Scans at one time, 1 to 64
    #[arg(long, value_name = "NUMBER", env = "MAX_SCANNER_TASKS", default_value_t = 2)]
    tasks: u32,
    /// How this scanner is called in lists [default: the host's name]
    #[arg(long, value_name = "NAME", env = "CLUSTER_ADVERTISED_ADDR")]
    advertise: Option<String>,
    /// The socket of the runtime that is asked for images that are in no registry [default: those that are known and exist]
    #[arg(long, value_name = "PATH", env = "SCANNER_DOCKER_URL")]
    runtime_socket: Option<String>,
    /// Do not look for secrets in files
    #[arg(long)]
    no_secrets: bool,
}

#[derive(Args)]
pub(crate) struct UpdateLine {
    #[command(flatten)]
    controller: ControllerLine,
    /// The database that is handed in
    #[arg(long, value_name = "FILE")]
    db: PathBuf,
    /// Build the database of this folder of feeds first
    #[arg(long, value_name = "DIR")]
    feeds: Option<PathBuf>,
    /// Fetch the feeds from their publishers before that
    #[arg(long, requires = "feeds")]
    fetch: bool,
    /// A feed by its name; may be repeated; all by default
    #[arg(long, value_name = "NAME", requires = "fetch")]
    feed: Vec<String>,
    /// A copy of what the publishers have: their host and path behind this address
    #[arg(long, value_name = "URL", requires = "fetch")]
    mirror: Option<String>,
    /// A proxy on the way, http://host:port
    #[arg(long, value_name = "URL", env = "SCANNER_PROXY_URL", hide_env_values = true)]
    proxy: Option<String>,
    /// Sign with the Ed25519 key in this file (64 hexadecimal digits)
    #[arg(long, value_name = "FILE", requires = "feeds")]
    key: Option<PathBuf>,
    /// Do it again after so many hours; without it, once
    #[arg(long, value_name = "HOURS")]
    every: Option<u32>,
}

/// Serves a controller until a signal ends it.
pub(crate) fn run(line: &RunLine) -> Result<()> {
    nv_telemetry::start_log(&line.controller.log, LogStyle::Text)?;
    let trusted = line.trust.as_deref().map(key_bytes).transpose()?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let config = ServiceConfig {
        controller: line.controller.address(),
        join: line.controller.token(),
        state_dir: line.controller.state_dir.clone(),
        database: Some(line.db.clone()),
        trusted,
        credits: line.tasks.clamp(1, 64),
        server: line.advertise.clone().unwrap_or(host),
        secrets: !line.no_secrets,
        layer_process: true,
        runtime_sockets: sockets(line.runtime_socket.as_deref())?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = nv_telemetry::shutdown_on_signal().context("signal handlers")?;
        serve(config, Arc::new(SystemClock::new()), shutdown).await?;
        Ok(())
    })
}

/// Fetches, builds and hands in, once or again and again.
pub(crate) fn update(line: &UpdateLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    nv_telemetry::start_log(&line.controller.log, LogStyle::Text)?;
    loop {
        let updated = update_once(line, out, remarks);
        let Some(hours) = line.every else { return updated };
        match updated {
            Ok(()) => {}
            // The publishers or the controller may be back the next time.
            Err(error) => tracing::error!(error = format!("{error:#}"), "no newer database"),
        }
        out.flush()?;
        std::thread::sleep(Duration::from_secs(u64::from(hours.max(1)).saturating_mul(3600)));
    }
}

fn update_once(line: &UpdateLine, out: &mut dyn Write, remarks: &mut Remarks<'_>) -> Result<()> {
    if let Some(feeds) = &line.feeds {
        if line.fetch {
            let proxy = line.proxy.clone().filter(|proxy| !proxy.is_empty());
            let (feed, mirror) = (line.feed.clone(), line.mirror.clone());
            let options = FetchOptions { into: feeds.clone(), feeds: feed, proxy, mirror };
            fetch_feeds(&options, out, remarks)?;
        }
        let key = line.key.as_deref().map(signing_key).transpose()?;
        let options =
            BuildOptions { feeds: Some(feeds.clone()), out: line.db.clone(), ..BuildOptions::default() };
        build_database(&options, key.as_ref(), out, remarks)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (address, token) = (line.controller.address(), line.controller.token());
    let clock = SystemClock::new();
    let offered =
        runtime.block_on(offer_database(&address, &token, &line.controller.state_dir, &line.db, &clock));
    let version = offered?;
    writeln!(out, "{}: version {version}, handed to the controller", line.db.display())?;
    Ok(())
}
