//! A Docker daemon of its own on the lab's containerd.
//!
//! It keeps what it would share with another daemon to itself: socket, files, cgroups; it makes no firewall rules, and a
//! bridge only when a network is asked for.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use ipnet::Ipv4Net;
use rustix::process::{Pid, Signal, kill_process};

use crate::runtime::{self, program};
use crate::{Container, Image, Lab, LabError, cgroup};

/// How long the daemon may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Debian package of the daemon and its command.
const PACKAGE: &str = "docker.io";

/// A running Docker daemon; dropping it ends it, its containers end with the lab.
#[derive(Debug)]
pub struct Docker {
    daemon: PathBuf,
    command: PathBuf,
    dir: PathBuf,
    containerd: PathBuf,
    /// Cgroup that its containers are below.
    cgroup: String,
    /// Bridge of its network, and the addresses on it.
    bridge: String,
    subnet: Ipv4Net,
    unified: Option<PathBuf>,
    child: Option<Child>,
}

impl Lab {
    /// Starts a Docker daemon and waits until it answers.
    ///
    /// # Errors
    /// [`LabError::Missing`] without Docker; [`LabError::NotReady`] with the daemon's log when it does not come up.
    pub fn start_docker(&self) -> BoxFuture<'_, Result<Docker, LabError>> {
        Box::pin(async move {
            let mut docker = Docker {
                daemon: program("dockerd", PACKAGE)?,
                command: program("docker", PACKAGE)?,
                dir: self.layout.dir.join("docker"),
                containerd: self.layout.socket.clone(),
                cgroup: format!("{}/docker", self.cgroup()),
                bridge: bridge_of(&self.options.bridge),
                subnet: neighbour(self.options.subnet),
                unified: cgroup::Hierarchies::of_this_machine()
                    .unified
                    .map(|root| root.join(&self.layout.name).join("runtime")),
                child: None,
            };
            fs::create_dir_all(&docker.dir).map_err(LabError::io("create", &docker.dir))?;
            // A file that stays away would be the machine's own.
            fs::write(docker.config(), "{}\n").map_err(LabError::io("write", &docker.config()))?;
            docker.start().await?;
            Ok(docker)
        })
    }
}

impl Docker {
    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Runs `docker` with these arguments and gives what it wrote.
    ///
    /// # Errors
    /// [`LabError::Program`] with what it said.
    pub fn run<'a>(&'a self, arguments: &'a [&'a str]) -> BoxFuture<'a, Result<String, LabError>> {
        Box::pin(async move {
            let output = self.client().args(arguments).output().await;
            let output = output.map_err(LabError::io("run", &self.command))?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
            }
            Err(LabError::Program {
                program: "docker",
                arguments: arguments.join(" "),
                output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            })
        })
    }

    /// Imports an image under its own name, with its command, user and labels.
    ///
    /// # Errors
    /// [`LabError::Program`] with what `docker import` said.
    pub fn import<'a>(&'a self, image: &'a Image) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let path = self.dir.join(format!("image-{}.tar", uuid::Uuid::new_v4()));
            let layer = image.layer().map_err(LabError::io("pack", &path))?;
            tokio::fs::write(&path, layer).await.map_err(LabError::io("write", &path))?;
            let file = path.display().to_string();
            let changes = image.changes();
            let mut arguments = vec!["import"];
            for change in &changes {
                arguments.extend(["--change", change]);
            }
            arguments.extend([&file, image.reference()]);
            let imported = self.run(&arguments).await;
            tokio::fs::remove_file(&path).await.map_err(LabError::io("remove", &path))?;
            imported.map(drop)
        })
    }

    /// Makes and starts a container without a network: `docker run -d --name <name> --net none <further>`.
    ///
    /// # Errors
    /// [`LabError::Program`] with what `docker` said.
    pub fn start_container<'a>(
        &'a self,
        name: &'a str,
        further: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Container, LabError>> {
        Box::pin(async move {
            let arguments = [&["run", "--detach", "--net", "none", "--name", name], further].concat();
            let id = self.run(&arguments).await?;
            self.container(&id).await
        })
    }

    /// Makes a network of a bridge, `docker run --net <name>`, whose addresses are those of the lab's subnet with the second
    /// number one higher.
    ///
    /// # Errors
    /// [`LabError::Program`] with what `docker` said.
    pub fn make_network<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let bridge = format!("com.docker.network.bridge.name={}", self.bridge);
            let subnet = self.subnet.to_string();
            self.run(&["network", "create", "--subnet", &subnet, "--opt", &bridge, name]).await.map(drop)
        })
    }

    /// A container as it is now, by its name or id; its pid is 0 when it does not run.
    ///
    /// # Errors
    /// [`LabError::Program`] when there is none.
    pub fn container<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Container, LabError>> {
        Box::pin(async move {
            let shown = self.run(&["inspect", "--format", "{{.Id}} {{.State.Pid}} {{.Name}}", name]).await?;
            let mut words = shown.split(' ');
            let (id, pid, name) = (words.next(), words.next(), words.next());
            let pid = pid.and_then(|pid| pid.parse().ok()).unwrap_or(0);
            Ok(Container {
                id: id.unwrap_or_default().to_owned(),
                namespace: "moby".to_owned(),
                name: name.unwrap_or_default().trim_start_matches('/').to_owned(),
                pid,
                cgroup: cgroup::of_process(pid).unwrap_or_default(),
            })
        })
    }

    /// Kills the daemon with SIGKILL; its containers go on.
    ///
    /// # Errors
    /// [`LabError::Io`] when the process cannot be waited for.
    pub fn kill(&mut self) -> Result<(), LabError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().map_err(LabError::io("end", &self.daemon))?;
        child.wait().map_err(LabError::io("end", &self.daemon))?;
        Ok(())
    }

    /// Ends the daemon with SIGTERM; its containers go on, as it keeps them (`--live-restore`).
    ///
    /// # Errors
    /// [`LabError::Timeout`] when it does not end.
    pub fn stop(&mut self) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move {
            let Some(child) = &mut self.child else { return Ok(()) };
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // It may have ended by itself.
                kill_process(pid, Signal::TERM).unwrap_or_default();
            }
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().map_err(LabError::io("end", &self.daemon))?.is_none() {
                if Instant::now() > deadline {
                    let doing = "the end of dockerd".to_owned();
                    return Err(LabError::Timeout { doing, seconds: PATIENCE.as_secs() });
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.child = None;
            Ok(())
        })
    }

    /// Starts it again after [`Docker::stop`] or [`Docker::kill`].
    ///
    /// # Errors
    /// As [`Lab::start_docker`].
    pub fn start(&mut self) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async move {
            let log = self.dir.join("docker.log");
            let file =
                File::options().create(true).append(true).open(&log).map_err(LabError::io("open", &log))?;
            let errors = file.try_clone().map_err(LabError::io("open", &log))?;
            let pid_file = self.dir.join("docker.pid");
            // One that was killed leaves its number, which may be another's by now.
            fs::remove_file(&pid_file).unwrap_or_default();
            let mut command = Command::new(&self.daemon);
            command
                .arg("--config-file")
                .arg(self.config())
                .arg("--host")
                .arg(format!("unix://{}", self.socket().display()))
                .arg("--data-root")
                .arg(self.dir.join("data"))
                .arg("--exec-root")
                .arg(self.dir.join("exec"))
                .arg("--pidfile")
                .arg(&pid_file)
                .arg("--containerd")
                .arg(&self.containerd)
                .args(["--cgroup-parent", &self.cgroup])
                .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
                .args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
                .args(["--live-restore", "--storage-driver", "overlay2"])
                .stdin(Stdio::null())
                .stdout(file)
                .stderr(errors);
            let child = command.spawn().map_err(LabError::io("run", &self.daemon))?;
            if let Some(folder) = &self.unified {
                let procs = folder.join("cgroup.procs");
                fs::write(&procs, child.id().to_string()).map_err(LabError::io("write", &procs))?;
            }
            self.child = Some(child);
            let deadline = Instant::now() + PATIENCE;
            loop {
                let last = match self.run(&["version", "--format", "{{.Server.Version}}"]).await {
                    Ok(_version) => return Ok(()),
                    Err(error) => error.to_string(),
                };
                if Instant::now() > deadline {
                    self.kill()?;
                    return Err(LabError::NotReady {
                        socket: self.socket(),
                        seconds: PATIENCE.as_secs(),
                        last,
                        log: runtime::tail(&log),
                    });
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    fn client(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.command);
        command
            .arg("--config")
            .arg(self.dir.join("client"))
            .arg("--host")
            .arg(format!("unix://{}", self.socket().display()))
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn config(&self) -> PathBuf {
        self.dir.join("daemon.json")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Whatever stays is in the lab's cgroup and ends with it.
        self.kill().unwrap_or_default();
    }
}

/// Name of the bridge of a Docker daemon on a lab with this bridge; 15 bytes are what a name may have.
pub(crate) fn bridge_of(bridge: &str) -> String {
    format!("{}d", bridge.get(..14).unwrap_or(bridge))
}

fn neighbour(subnet: Ipv4Net) -> Ipv4Net {
    let [first, second, third, fourth] = subnet.addr().octets();
    let next = [first, second.wrapping_add(1), third, fourth];
    Ipv4Net::new(next.into(), subnet.prefix_len()).unwrap_or(subnet)
}

/// Where `make test-host` unpacks Docker's package to: beside the folder that this program was built in. Installing it
/// would start a daemon that changes the machine's firewall.
pub(crate) fn unpacked() -> Vec<PathBuf> {
    beside("docker")
}

/// Folders of programs below a folder of this name in the target directory, where the test or bench that runs here is from.
pub(crate) fn beside(name: &str) -> Vec<PathBuf> {
    let here = std::env::current_exe().unwrap_or_default();
    let roots = here.ancestors().skip(1).take(4).map(Path::to_path_buf);
    roots.flat_map(|root| ["usr/sbin", "usr/bin"].map(|folder| root.join(name).join(folder))).collect()
}
