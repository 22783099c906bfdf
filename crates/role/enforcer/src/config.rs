//! What the enforcer is started with, and why it may not start.

use std::path::PathBuf;
use std::sync::Arc;

use crate::keeper::{KeeperError, Launcher};
use crate::policy::held::HeldError;
use crate::privileges;
use crate::uplink::join::JoinToken;

/// What the enforcer needs to run.
#[derive(Debug)]
pub struct EnforcerConfig {
    /// Folder for certificate and policy; made with mode 0700.
    pub state_dir: PathBuf,
    /// `host:port` of the controller's gRPC server.
    pub controller: String,
    /// What buys this node its certificate.
    pub join: JoinToken,
    /// Folder on the BPF file system.
    pub bpf_dir: PathBuf,
    /// The runtime's socket; `None` to look for one.
    pub runtime_socket: Option<PathBuf>,
    /// Docker's socket; `None` to look for it. When either is named, no other is looked for.
    pub docker_socket: Option<PathBuf>,
    /// Where the runtime takes plug-ins of NRI; `None` to do without.
    pub nri_socket: Option<PathBuf>,
    /// Where the runtime keeps the bundles of running containers; `None` for its usual place.
    pub runtime_state_dir: Option<PathBuf>,
    /// Networks that only services have addresses of, at most 16.
    pub service_ranges: Vec<ipnet::IpNet>,
    /// What starts keepers.
    pub launcher: Arc<Launcher>,
    /// Processes that inspect packets; `None`: by the CPUs.
    pub inspectors: Option<u8>,
    /// Files of containers are searched for secrets when what is installed in them is read.
    pub secrets: bool,
    /// What the enforcer may use before it leaves out what is least worth.
    pub budget: Budget,
    /// The log filter that the process was started with, to be shown.
    pub log_level: String,
}

/// What the enforcer may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// CPU time of agent and keeper, as a share of one CPU.
    pub cpu: f64,
    /// Resident memory of the agent's process, and what keeper and inspectors have of their own, in bytes.
    pub memory: u64,
}

/// Why the enforcer does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnforcerError {
    /// The state directory.
    #[error("state directory {}", .path.display())]
    StateDir {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The machine has no id.
    #[error("this machine has no id: neither /etc/machine-id nor a boot id can be read")]
    NoNodeId,
    /// The policy that was held.
    #[error(transparent)]
    Held(Box<dyn std::error::Error + Send + Sync>),
    /// The keeper.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// Privileges could not be given away.
    #[error(transparent)]
    Privileges(#[from] privileges::PrivilegesError),
    /// A thread could not be started.
    #[error("a thread for the kernel's records")]
    Thread(#[source] std::io::Error),
}

impl From<HeldError> for EnforcerError {
    fn from(error: HeldError) -> Self {
        Self::Held(Box::new(error))
    }
}
