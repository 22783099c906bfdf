use std::sync::Arc;
use std::time::Duration;

use nv_model::workload::Workload;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::Host;
use crate::bundle::Bundles;
use crate::containerd::Containerd;

/// How long a question to the runtime may take: the container starts meanwhile.
const ASK: Duration = Duration::from_millis(500);

/// Says which container a new cgroup belongs to, before its first process runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identifier {
    pub(crate) host: Arc<Host>,
    pub(crate) bundles: Bundles,
    /// Channel to containerd while it answers.
    pub(crate) containerd: watch::Receiver<Option<Channel>>,
}

impl Identifier {
    /// The container of a cgroup, given its path below the mount point of cgroup v2; `None` when it is no container's.
    ///
    /// For containers of pods this reads one small file. Others are known by their image, which the bundle does not
    /// tell, so containerd is asked for it; when it does not answer within half a second, the container is named
    /// after its id until it does.
    pub async fn identify(&self, cgroup: &str) -> Option<Workload> {
        let found = self.bundles.find(cgroup)?;
        if !found.workload.image.is_empty() || !found.workload.pod_name.is_empty() {
            return Some(found.workload);
        }
        let channel = self.containerd.borrow().clone();
        let Some(channel) = channel else { return Some(found.workload) };
        let asked = Containerd::describe(Arc::clone(&self.host), channel, &found.namespace, &found.id);
        match tokio::time::timeout(ASK, Box::pin(asked)).await {
            Ok(Ok(Some(workload))) => Some(Workload {
                cgroup: found.workload.cgroup,
                cgroup_id: found.workload.cgroup_id,
                ..workload
            }),
            _ => Some(found.workload),
        }
    }

    /// The same from the bundle alone, without waiting for anything; see [`Bundles::identify`].
    #[must_use]
    pub fn identify_now(&self, cgroup: &str) -> Option<Workload> {
        self.bundles.identify(cgroup)
    }
}
