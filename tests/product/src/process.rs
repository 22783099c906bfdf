use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::BoxFuture;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::Client;

/// How the product is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `neuvector` binary.
    pub binary: PathBuf,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// Its folder on the BPF file system; of its own, so that several can run at once.
    pub bpf_dir: PathBuf,
    /// The runtime's socket; `None` for a machine without one.
    pub containerd_socket: Option<PathBuf>,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// User and group that it runs as, instead of the caller's.
    pub user: Option<u32>,
}

/// A running product.
#[derive(Debug)]
pub struct Product {
    options: Options,
    child: Option<Child>,
    rest_port: u16,
    console_port: u16,
    grpc_port: u16,
}

impl Drop for Product {
    fn drop(&mut self) {
        // The process goes with its handle; its programs would stay and judge whatever comes later.
        drop(self.child.take());
        drop(self.remove_kernel_state());
    }
}

/// The `neuvector` binary: `NV_BINARY`, or the one beside the running test.
///
/// # Errors
/// When there is none, with what to do.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NV_BINARY") {
        return Ok(path.into());
    }
    let here = std::env::current_exe().context("this program's own path")?;
    here.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("neuvector"))
        .find(|path| path.is_file())
        .context("no neuvector binary beside this program; run make build, or set NV_BINARY")
}

/// Processes that a process has started, whichever of its threads did.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// Processes that a process has started, and that those have.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        found.extend(children(pid));
    }
    found
}

/// Whether a process is there and no zombie.
fn runs(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    state.is_some_and(|state| !state.trim_start().starts_with('Z'))
}

/// A TCP port that is free now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

impl Product {
    /// Starts it and waits until its REST API answers that it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready within a minute; the message has the end of its log.
    pub fn start(options: Options) -> BoxFuture<'static, Result<Self>> {
        Box::pin(async move {
            std::fs::create_dir_all(&options.state_dir)?;
            let mut attempts = 0;
            loop {
                let mut product = Self {
                    options: options.clone(),
                    child: None,
                    rest_port: free_port()?,
                    console_port: free_port()?,
                    grpc_port: free_port()?,
                };
                product.launch()?;
                match product.wait_ready().await {
                    Ok(()) => return Ok(product),
                    // Between the look for a free port and the start somebody else may take it.
                    Err(error) if attempts < 4 && error.to_string().contains("Address already in use") => {
                        attempts += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        })
    }

    /// Starts it on the same state and ports, and does not wait for it.
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut command = Command::new(&self.options.binary);
        command
            .arg("run")
            .arg("--state-dir")
            .arg(&self.options.state_dir)
            .arg("--bpf-dir")
            .arg(&self.options.bpf_dir)
            .args(["--rest-port", &self.rest_port.to_string()])
            .args(["--console-port", &self.console_port.to_string()])
            .args(["--grpc-port", &self.grpc_port.to_string()])
            .arg("--bootstrap-password-file")
            .arg(self.password_file())
            .args(&self.options.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if let Some(user) = self.options.user {
            std::os::unix::fs::chown(&self.options.state_dir, Some(user), Some(user))?;
            command.uid(user).gid(user);
        }
        if let Some(socket) = &self.options.containerd_socket {
            command.arg("--containerd-socket").arg(socket);
        }
        self.child = Some(command.spawn().with_context(|| self.options.binary.display().to_string())?);
        Ok(())
    }

    /// The socket of the runtime that it is told of.
    #[must_use]
    pub fn runtime_socket(&self) -> Option<&Path> {
        self.options.containerd_socket.as_deref()
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn wait_ready(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let deadline = Instant::now() + START_LIMIT;
            while Instant::now() < deadline {
                if let Some(child) = &mut self.child
                    && let Some(status) = child.try_wait()?
                {
                    bail!("neuvector ended with {status}:\n{}", self.log_tail());
                }
                if self.ca_file().exists()
                    && let Ok(client) = Client::new(self.rest_url(), &self.ca_file())
                    && client.is_ready().await
                {
                    return Ok(());
                }
                sleep(Duration::from_millis(50)).await;
            }
            bail!("neuvector is not ready after {START_LIMIT:?}:\n{}", self.log_tail())
        })
    }

    /// Kills it as a power cut would (SIGKILL), and waits for what it had started, which ends by itself when the socket
    /// to it closes.
    ///
    /// # Errors
    /// When it does not run, or a keeper does not end within ten seconds.
    pub fn kill(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut child = self.child.take().context("neuvector does not run")?;
            let started = child.id().map(descendants).unwrap_or_default();
            child.kill().await.context("kill neuvector")?;
            let deadline = Instant::now() + Duration::from_secs(10);
            while let Some(pid) = started.iter().find(|pid| runs(**pid)) {
                if Instant::now() > deadline {
                    bail!("process {pid} outlives the neuvector that started it");
                }
                sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        })
    }

    /// Stops it in order (SIGTERM) and gives its exit code.
    ///
    /// # Errors
    /// When it does not end within 30 seconds.
    pub fn stop(&mut self) -> BoxFuture<'_, Result<Option<i32>>> {
        Box::pin(async move {
            let mut child = self.child.take().context("neuvector does not run")?;
            if let Some(pid) = child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
            let status = tokio::time::timeout(Duration::from_secs(30), child.wait())
                .await
                .context("neuvector did not end within 30 s of SIGTERM")??;
            Ok(status.code())
        })
    }

    /// Starts it again on the same state and ports, and waits until it is ready.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn restart(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.launch()?;
            self.wait_ready().await
        })
    }

    /// Takes its programs and maps out of the kernel; they outlive the process on purpose.
    ///
    /// # Errors
    /// When the folder on the BPF file system cannot be removed.
    pub fn remove_kernel_state(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.options.bpf_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.options.bpf_dir.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// Processes that the running product has started: its keeper.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        self.pid().map(children).unwrap_or_default()
    }

    /// Port where enforcers and scanners dial its controller.
    #[must_use]
    pub const fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// Process id of the running product.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }
    /// Address of the REST API.
    #[must_use]
    pub fn rest_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.rest_port)
    }
    /// Address of the console.
    #[must_use]
    pub fn console_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.console_port)
    }
    /// Root certificate of its servers.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.options.state_dir.join("root.pem")
    }
    /// Where the first start writes the one-time password to.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.options.state_dir.join("bootstrap-password")
    }
    /// Its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.options.state_dir.with_extension("log")
    }
    /// Where its programs are pinned.
    #[must_use]
    pub fn bpf_dir(&self) -> &Path {
        &self.options.bpf_dir
    }
    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.options.state_dir
    }
    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(40)..).unwrap_or_default().join("\n")
    }

    /// Logs in as admin: with the one-time password and a new one at the first time, then with `password`.
    ///
    /// # Errors
    /// When neither is accepted.
    pub fn login<'a>(&'a self, password: &'a str) -> BoxFuture<'a, Result<Client>> {
        Box::pin(async move {
            let mut client = Client::new(self.rest_url(), &self.ca_file())?;
            if client.login("admin", password, None).await.is_ok() {
                return Ok(client);
            }
            let first = std::fs::read_to_string(self.password_file()).context("one-time password")?;
            client.login("admin", first.trim(), Some(password)).await?;
            Ok(client)
        })
    }
}
