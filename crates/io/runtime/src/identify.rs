use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nv_model::workload::Workload;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::bundle::{Bundle, Bundles};
use crate::containerd::Containerd;
use crate::{Host, docker};

/// How long a question to the runtime may take: the container starts meanwhile.
const ASK: Duration = Duration::from_millis(500);
/// Most identifiers of a machine: a runtime each, and there are a dozen kinds.
const IDENTIFIERS: usize = 32;

/// Who is asked for what a bundle does not tell, while it answers.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Containerd(Channel),
    Docker(docker::Client),
}

/// Says which container a new cgroup belongs to, before its first process runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identifier {
    pub(crate) host: Arc<Host>,
    pub(crate) bundles: Bundles,
    pub(crate) asked: watch::Receiver<Option<Asked>>,
}

impl Identifier {
    /// The container of a cgroup, given its path below the mount point of cgroup v2; `None` when it is no container's.
    ///
    /// For containers of pods this reads one small file. Others are known by their image, which the bundle does not
    /// tell, so the runtime is asked for it; when it does not answer within half a second, the container is named
    /// after its id until it does.
    pub async fn identify(&self, cgroup: &str) -> Option<Workload> {
        let found = self.bundles.find(cgroup)?;
        if tells_service(&found.workload) {
            return Some(found.workload);
        }
        match tokio::time::timeout(ASK, Box::pin(self.ask(&found))).await {
            Ok(Some(workload)) => Some(Workload {
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

    async fn ask(&self, found: &Bundle) -> Option<Workload> {
        let asked = self.asked.borrow().clone()?;
        let answer = match asked {
            Asked::Containerd(channel) => {
                Containerd::describe(Arc::clone(&self.host), channel, &found.namespace, &found.id).await
            }
            Asked::Docker(client) => docker::identify(&self.host, &client, &found.id).await,
        };
        answer.ok().flatten()
    }
}

/// The identifiers of all runtimes of a machine: one list, which its clones share.
#[derive(Clone, Debug, Default)]
pub struct Identifiers(Arc<RwLock<Vec<Identifier>>>);

impl Identifiers {
    /// Adds that of a runtime. Beyond 32 it is left out.
    pub fn add(&self, identifier: Identifier) {
        let mut list = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if list.len() < IDENTIFIERS {
            list.push(identifier);
        }
    }

    /// As [`Identifier::identify`], of the first runtime that knows whose service it is. Two may have the same bundles:
    /// Docker and its containerd.
    pub async fn identify(&self, cgroup: &str) -> Option<Workload> {
        let mut unnamed = None;
        for identifier in self.list() {
            match identifier.identify(cgroup).await {
                Some(found) if tells_service(&found) => return Some(found),
                found => unnamed = unnamed.or(found),
            }
        }
        unnamed
    }

    /// As [`Identifier::identify_now`], of the first runtime that has the bundle.
    #[must_use]
    pub fn identify_now(&self, cgroup: &str) -> Option<Workload> {
        self.list().iter().find_map(|identifier| identifier.identify_now(cgroup))
    }

    fn list(&self) -> Vec<Identifier> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether it is known which service it is: outside of pods that follows from the image, which a bundle does not tell.
fn tells_service(found: &Workload) -> bool {
    !found.image.is_empty() || !found.pod_name.is_empty()
}
