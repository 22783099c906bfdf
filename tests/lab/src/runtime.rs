//! The lab's containerd: where its programs are, its configuration, and the process itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_cri::v1::StatusRequest;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::Channel;

use crate::{LabError, LabOptions, cgroup, docker};

/// How long containerd may take to be ready, network included.
const READY: Duration = Duration::from_secs(30);
/// How much of containerd's log an error shows, in bytes.
const LOG_TAIL: usize = 2_000;
/// Image of the pods' sandboxes; the lab makes it.
pub(crate) const PAUSE: &str = "docker.io/library/pause:lab";
/// Name of the CRI runtime handler whose containers call the lab's hook.
pub const HOOKED: &str = "hooked";
/// CNI plug-ins that the network configuration names.
const CNI_PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// What must be installed, found.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) containerd: PathBuf,
    pub(crate) ctr: PathBuf,
    pub(crate) cni: PathBuf,
}

impl Programs {
    pub(crate) fn find(nri: bool) -> Result<Self, LabError> {
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let cni = ["/usr/lib/cni", "/opt/cni/bin"].into_iter().map(PathBuf::from);
        let mut cni = cni.filter(|folder| CNI_PLUGINS.iter().all(|plugin| folder.join(plugin).is_file()));
        let cni = cni.next().ok_or_else(|| LabError::Missing {
            what: format!("CNI plug-ins {} in /usr/lib/cni or /opt/cni/bin", CNI_PLUGINS.join(", ")),
            package: "containernetworking-plugins",
        })?;
        program("runc", "runc")?;
        program("containerd-shim-runc-v2", "containerd")?;
        let containerd = if nri {
            let folders = docker::beside("containerd").into_iter();
            let mut found = folders.map(|folder| folder.join("containerd")).filter(|path| path.is_file());
            found.next().ok_or_else(|| LabError::Missing {
                what: "a containerd with NRI beside the tests (make setup-nri)".to_owned(),
                package: "containerd of Debian 13",
            })?
        } else {
            program("containerd", "containerd")?
        };
        Ok(Self { containerd, ctr: program("ctr", "containerd")?, cni })
    }
}

/// Where a program is, of those that are installed or unpacked.
pub(crate) fn program(name: &str, package: &'static str) -> Result<PathBuf, LabError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let folders = docker::unpacked().into_iter().chain(installed);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| LabError::Missing { what: format!("program {name}"), package })
}

/// containerd's own default for containers, with a hook for `createRuntime` (OCI runtime specification 1.0) if there is one.
fn hooked_spec(hook: &[String], programs: &Programs) -> Result<String, LabError> {
    let made = Command::new(&programs.ctr).args(["oci", "spec"]).output();
    let made = made.map_err(LabError::io("run", &programs.ctr))?;
    let strange =
        |what: String| LabError::Program { program: "ctr", arguments: "oci spec".to_owned(), output: what };
    let mut spec: serde_json::Value =
        serde_json::from_slice(&made.stdout).map_err(|error| strange(error.to_string()))?;
    if let (Some(program), Some(spec)) = (hook.first(), spec.as_object_mut()) {
        let call = serde_json::json!({ "path": program, "args": hook });
        spec.insert("hooks".to_owned(), serde_json::json!({ "createRuntime": [call] }));
    }
    Ok(spec.to_string())
}

/// Paths of a lab below its folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) pod_logs: PathBuf,
    pub(crate) cni: PathBuf,
    pub(crate) nri: PathBuf,
    /// What every container of the handler [`HOOKED`] begins with.
    pub(crate) hooked: PathBuf,
    /// runc's own state: its default is shared by all containerds of a machine.
    pub(crate) runc: PathBuf,
    /// Name of the CNI network, and of the cgroup below each hierarchy.
    pub(crate) name: String,
}

impl Layout {
    pub(crate) fn of(options: &LabOptions) -> Self {
        let dir = options.dir.clone();
        Self {
            root: dir.join("root"),
            state: dir.join("state"),
            socket: dir.join("containerd.sock"),
            config: dir.join("containerd.toml"),
            log: dir.join("containerd.log"),
            pod_logs: dir.join("pods"),
            cni: dir.join("cni"),
            nri: dir.join("nri.sock"),
            hooked: dir.join("hooked.json"),
            runc: dir.join("runc"),
            name: format!("nv-lab-{}", options.bridge),
            dir,
        }
    }

    /// Writes containerd's and CNI's configuration.
    pub(crate) fn write(&self, options: &LabOptions, programs: &Programs) -> Result<(), LabError> {
        for folder in [&self.root, &self.state, &self.pod_logs, &self.cni] {
            fs::create_dir_all(folder).map_err(LabError::io("create", folder))?;
        }
        let put = |path: &Path, text: String| fs::write(path, text).map_err(LabError::io("write", path));
        put(&self.hooked, hooked_spec(&options.hook, programs)?)?;
        put(&self.config, self.containerd_config(programs, options.nri))?;
        put(&self.cni.join("10-lab.conflist"), self.network_config(options))
    }

    /// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE runc could not start a sandbox otherwise.
    /// `netns_mounts_under_state_dir`: a shared /run/netns would be one more thing to fall out over.
    fn containerd_config(&self, programs: &Programs, nri: bool) -> String {
        let quote = |path: &Path| format!("{:?}", path.display().to_string());
        let nri = format!(
            "[plugins.\"io.containerd.nri.v1.nri\"]\n  disable = {off}\n  socket_path = {socket}\n\
             \x20 plugin_path = {plugins}\n  plugin_config_path = {plugins}\n  plugin_request_timeout = \"10s\"\n",
            off = !nri,
            socket = quote(&self.nri),
            plugins = quote(&self.dir.join("nri")),
        );
        format!(
            "version = 2\nroot = {root}\nstate = {state}\n\
             disabled_plugins = [\"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.btrfs\", \
             \"io.containerd.snapshotter.v1.aufs\", \"io.containerd.snapshotter.v1.devmapper\"]\n\
             [grpc]\n  address = {socket}\n[ttrpc]\n  address = {ttrpc}\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\n  path = {opt}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"{PAUSE}\"\n\
             \x20 restrict_oom_score_adj = true\n  netns_mounts_under_state_dir = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\n  bin_dir = {cni_bin}\n  conf_dir = {cni}\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  snapshotter = \"overlayfs\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n\
             \x20 runtime_type = \"io.containerd.runc.v2\"\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n  Root = {runc}\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{HOOKED}]\n\
             \x20 runtime_type = \"io.containerd.runc.v2\"\n  base_runtime_spec = {hooked}\n\
             [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{HOOKED}.options]\n  Root = {runc}\n{nri}",
            root = quote(&self.root),
            state = quote(&self.state),
            socket = quote(&self.socket),
            ttrpc = quote(&self.dir.join("ttrpc.sock")),
            opt = quote(&self.dir.join("opt")),
            cni_bin = quote(&programs.cni),
            cni = quote(&self.cni),
            hooked = quote(&self.hooked),
            runc = quote(&self.runc),
        )
    }

    fn network_config(&self, options: &LabOptions) -> String {
        let mut ranges = vec![serde_json::json!([{ "subnet": options.subnet.to_string() }])];
        let mut routes = vec![serde_json::json!({ "dst": "0.0.0.0/0" })];
        if let Some(ipv6) = options.ipv6 {
            ranges.push(serde_json::json!([{ "subnet": ipv6.to_string() }]));
            routes.push(serde_json::json!({ "dst": "::/0" }));
        }
        let bridge = serde_json::json!({
            "type": "bridge", "bridge": options.bridge, "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "ipam": { "type": "host-local", "dataDir": self.dir.join("ipam"), "ranges": ranges, "routes": routes },
        });
        serde_json::json!({
            "cniVersion": "0.4.0", "name": self.name, "plugins": [bridge, { "type": "loopback" }],
        })
        .to_string()
    }
}

/// A containerd that runs; the caller ends it.
pub(crate) fn spawn(layout: &Layout, programs: &Programs) -> Result<Child, LabError> {
    let log = File::options().create(true).append(true).open(&layout.log);
    let log = log.map_err(LabError::io("open", &layout.log))?;
    let errors = log.try_clone().map_err(LabError::io("open", &layout.log))?;
    let mut command = Command::new(&programs.containerd);
    command.arg("--config").arg(&layout.config).stdin(Stdio::null()).stdout(log).stderr(errors);
    let child = command.spawn().map_err(LabError::io("run", &programs.containerd))?;
    // In the lab's own cgroup, and with it all shims, so that the end of the lab finds them.
    if let Some(unified) = cgroup::Hierarchies::of_this_machine().unified {
        let folder = unified.join(&layout.name).join("runtime");
        fs::create_dir_all(&folder).map_err(LabError::io("create", &folder))?;
        let procs = folder.join("cgroup.procs");
        fs::write(&procs, child.id().to_string()).map_err(LabError::io("write", &procs))?;
    }
    Ok(child)
}

/// Waits until CRI says that runtime and network are ready.
pub(crate) async fn ready(layout: &Layout) -> Result<Channel, LabError> {
    let deadline = Instant::now() + READY;
    loop {
        let last = match answer(layout).await {
            Ok(channel) => return Ok(channel),
            Err(reason) => reason,
        };
        if Instant::now() > deadline {
            return Err(LabError::NotReady {
                socket: layout.socket.clone(),
                seconds: READY.as_secs(),
                last,
                log: tail(&layout.log),
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The end of a log.
pub(crate) fn tail(log: &Path) -> String {
    let log = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(log.get(log.len().saturating_sub(LOG_TAIL)..).unwrap_or_default()).into_owned()
}

async fn answer(layout: &Layout) -> Result<Channel, String> {
    let channel = containerd_client::connect(&layout.socket).await.map_err(|error| error.to_string())?;
    let status = RuntimeServiceClient::new(channel.clone()).status(StatusRequest { verbose: false }).await;
    let status =
        status.map_err(|status| status.message().to_owned())?.into_inner().status.unwrap_or_default();
    match status.conditions.iter().find(|condition| !condition.status) {
        None if status.conditions.is_empty() => Err("no conditions".to_owned()),
        None => Ok(channel),
        Some(condition) => Err(format!("{}: {}", condition.r#type, condition.message)),
    }
}
