//! CRI v1, which every runtime of Kubernetes speaks: CRI-O and cri-dockerd nothing else.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    Container, ContainerFilter, ContainerState, ContainerStatusRequest, GetEventsRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxNetworkStatus, PodSandboxState,
    PodSandboxStatusRequest, VersionRequest,
};
use nv_model::name::WorkloadId;
use nv_model::time::Timestamp;
use nv_model::workload::{InterfaceAddress, Workload};
use serde::Deserialize;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::assemble::{Parts, PodIdentity, Task, assemble};
use crate::error::RuntimeError;
use crate::spec::Spec;
use crate::watch::{Hint, call};
use crate::{Host, cgroup, process};

/// A runtime that speaks CRI only.
pub(crate) struct Cri {
    host: Arc<Host>,
    channel: Channel,
    name: String,
    /// Containers whose status said nothing about their specification.
    pub(crate) unreadable: u64,
}

/// What a list says of a container.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) image_id: String,
    pub(crate) exited: bool,
}

/// What runtimes tell in a verbose status, as JSON under `info`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Info {
    pid: u32,
    #[serde(rename = "runtimeSpec")]
    spec: Option<Spec>,
}

impl Cri {
    /// Asks whether this speaks CRI, and gives the runtime's name and version.
    pub(crate) async fn connect(host: Arc<Host>, channel: Channel) -> Result<(Self, String), RuntimeError> {
        let (name, version) = version(channel.clone()).await?;
        Ok((Self { host, channel, name, unreadable: 0 }, version))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// All sandboxes and containers. With `full` each is asked for its details; otherwise only what is new or
    /// changed its state.
    pub(crate) async fn list(
        &mut self,
        known: &BTreeMap<WorkloadId, Workload>,
        full: bool,
    ) -> Result<Vec<Workload>, RuntimeError> {
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        let sandboxes =
            call("list pods", client.list_pod_sandbox(ListPodSandboxRequest::default())).await?.items;
        let containers = call("list containers", client.list_containers(ListContainersRequest::default()))
            .await?
            .containers;
        let unchanged = |id: &str, running: bool| {
            let prior =
                known.get(id).filter(|prior| prior.running == running && (prior.pid != 0 || !running));
            prior.filter(|_| !full).cloned()
        };
        let mut all = Vec::with_capacity(sandboxes.len().saturating_add(containers.len()));
        for sandbox in &sandboxes {
            let running = sandbox.state() == PodSandboxState::SandboxReady;
            match unchanged(&sandbox.id, running) {
                Some(prior) => all.push(prior),
                None => all.extend(Box::pin(self.sandbox(sandbox, running)).await?),
            }
        }
        let pods: BTreeMap<&str, &PodSandbox> = sandboxes.iter().map(|pod| (pod.id.as_str(), pod)).collect();
        for container in &containers {
            let running = container.state() == ContainerState::ContainerRunning;
            match unchanged(&container.id, running) {
                Some(prior) => all.push(prior),
                None => {
                    let pod = pods.get(container.pod_sandbox_id.as_str()).copied();
                    all.extend(Box::pin(self.container(container, pod, running)).await?);
                }
            }
        }
        Ok(all)
    }

    async fn sandbox(
        &mut self,
        sandbox: &PodSandbox,
        running: bool,
    ) -> Result<Option<Workload>, RuntimeError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.id.clone(), verbose: true };
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        let answer = match call("get a pod's status", client.pod_sandbox_status(request)).await {
            Err(RuntimeError::Call { code: Code::NotFound, .. }) => return Ok(None),
            answer => answer?,
        };
        let info = self.info(&answer.info);
        let spec = info.spec.unwrap_or_default();
        let mut pod = identity(sandbox);
        pod.is_sandbox = true;
        let task = Task { pid: self.pid(info.pid, &sandbox.id, running), running, ..Task::default() };
        let parts = Parts {
            id: &sandbox.id,
            runtime: &self.name,
            pod: Some(pod),
            labels: sandbox.labels.clone().into_iter().collect(),
            task,
            created: Timestamp::from_nanos(sandbox.created_at),
            ..Parts::default()
        };
        let mut workload = assemble(&self.host, spec.traits(), parts).ok();
        if let Some(workload) = workload.as_mut()
            && workload.interfaces.is_empty()
            && !workload.host_network
            && let Some(network) = answer.status.and_then(|status| status.network)
        {
            workload.interfaces = interfaces(network);
        }
        Ok(workload)
    }

    async fn container(
        &mut self,
        container: &Container,
        sandbox: Option<&PodSandbox>,
        running: bool,
    ) -> Result<Option<Workload>, RuntimeError> {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
        let mut client = RuntimeServiceClient::new(self.channel.clone());
        let answer = match call("get a container's status", client.container_status(request)).await {
            Err(RuntimeError::Call { code: Code::NotFound, .. }) => return Ok(None),
            answer => answer?,
        };
        let info = self.info(&answer.info);
        let status = answer.status.unwrap_or_default();
        let spec = info.spec.unwrap_or_default();
        let mut pod = sandbox.map(identity).unwrap_or_default();
        pod.sandbox.clone_from(&container.pod_sandbox_id);
        pod.container_name =
            container.metadata.as_ref().map_or_else(String::new, |metadata| metadata.name.clone());
        let task = Task {
            pid: self.pid(info.pid, &container.id, running),
            running,
            exit_code: status.exit_code,
            finished: Timestamp::from_nanos(status.finished_at),
        };
        let image = status.image.map(|image| image.image).unwrap_or_default();
        let parts = Parts {
            id: &container.id,
            runtime: &self.name,
            pod: Some(pod),
            labels: container.labels.clone().into_iter().collect(),
            pod_labels: sandbox.map(|pod| pod.labels.clone().into_iter().collect()).unwrap_or_default(),
            image: &image,
            image_id: container.image_ref.clone(),
            task,
            created: Timestamp::from_nanos(container.created_at),
            ..Parts::default()
        };
        Ok(assemble(&self.host, spec.traits(), parts).ok())
    }

    fn info(&mut self, info: &HashMap<String, String>) -> Info {
        let found: Info =
            info.get("info").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        if found.spec.is_none() {
            self.unreadable = self.unreadable.saturating_add(1);
        }
        found
    }

    /// The pid that the runtime told, or else the first process in the container's cgroup.
    fn pid(&self, told: u32, id: &str, running: bool) -> u32 {
        match (running, told, &self.host.cgroup_root) {
            (false, ..) => 0,
            (true, 0, Some(root)) => cgroup::find(root, id).map_or(0, |path| {
                process::first_in(&self.host.proc_root, &root.join(path.trim_start_matches('/')))
            }),
            (true, told, _) => told,
        }
    }
}

/// Name and version of the runtime, if it speaks CRI v1.
pub(crate) async fn version(channel: Channel) -> Result<(String, String), RuntimeError> {
    let mut client = RuntimeServiceClient::new(channel);
    let request = VersionRequest { version: "v1".to_owned() };
    let answer = call("ask for the CRI version", client.version(request)).await?;
    Ok((answer.runtime_name, answer.runtime_version))
}

/// What the list says of every container; sandboxes are not among them.
pub(crate) async fn states(channel: Channel) -> Result<BTreeMap<String, State>, RuntimeError> {
    let containers = containers(channel, ListContainersRequest::default()).await?;
    Ok(containers.into_iter().map(|container| (container.id.clone(), state_of(&container))).collect())
}

/// What the list says of one container.
pub(crate) async fn state(channel: Channel, id: &str) -> Result<Option<State>, RuntimeError> {
    let filter = Some(ContainerFilter { id: id.to_owned(), ..Default::default() });
    let containers = containers(channel, ListContainersRequest { filter }).await?;
    Ok(containers.first().map(state_of))
}

/// How a container ended, if it did.
pub(crate) async fn ended(channel: Channel, id: &str) -> Result<Option<(i32, Timestamp)>, RuntimeError> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let mut client = RuntimeServiceClient::new(channel);
    match call("get a container's status", client.container_status(request)).await {
        Ok(answer) => {
            let status = answer.status.filter(|status| status.finished_at != 0);
            Ok(status.map(|status| (status.exit_code, Timestamp::from_nanos(status.finished_at))))
        }
        Err(RuntimeError::Call { code: Code::NotFound, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Follows the runtime's container events where it has them (containerd from 1.7 on, CRI-O where `enable_pod_events` is
/// set, which it is not by default); each is a hint to list again. Where it has none this ends silently, and the polling
/// does it all.
pub(crate) async fn follow(channel: Channel, hints: mpsc::Sender<Hint>) {
    let mut client = RuntimeServiceClient::new(channel);
    let ended = match client.get_container_events(GetEventsRequest::default()).await {
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) if hints.send(Hint::List).await.is_err() => return,
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                }
            }
        }
        Err(status) => Err(status),
    };
    let Some(ended) = broke(&ended) else { return };
    // Nobody listens any more: then nobody needs to know.
    hints.send(Hint::Ended(ended)).await.unwrap_or_default();
}

/// Why the events ended, if that means a broken connection: a CRI-O that is to send none ends the stream at once and in
/// order, others answer that they do not know the call. When it is the runtime that ends, the next poll fails.
fn broke(ended: &Result<(), Status>) -> Option<String> {
    match ended {
        Ok(()) => None,
        Err(status) if status.code() == Code::Unimplemented => None,
        Err(status) => Some(status.message().to_owned()),
    }
}

async fn containers(
    channel: Channel,
    request: ListContainersRequest,
) -> Result<Vec<Container>, RuntimeError> {
    let mut client = RuntimeServiceClient::new(channel);
    Ok(call("list containers", client.list_containers(request)).await?.containers)
}

fn state_of(container: &Container) -> State {
    State {
        image_id: container.image_ref.clone(),
        exited: container.state() == ContainerState::ContainerExited,
    }
}

fn identity(sandbox: &PodSandbox) -> PodIdentity {
    let metadata = sandbox.metadata.clone().unwrap_or_default();
    PodIdentity {
        name: metadata.name,
        namespace: metadata.namespace,
        sandbox: sandbox.id.clone(),
        is_sandbox: false,
        container_name: String::new(),
    }
}

/// Addresses as the runtime tells them, for pods whose namespace cannot be looked into.
fn interfaces(network: PodSandboxNetworkStatus) -> Vec<InterfaceAddress> {
    let texts = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
    let addresses = texts.filter_map(|text| text.parse::<IpAddr>().ok());
    addresses
        .map(|address| InterfaceAddress {
            interface: String::new(),
            address: IpNet::from(address),
            gateway: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_without_events_is_no_broken_one() {
        for (ended, want) in [
            (Ok(()), None),
            (Err(Status::unimplemented("no such call")), None),
            (Err(Status::unavailable("transport error")), Some("transport error")),
        ] {
            assert_eq!(broke(&ended).as_deref(), want, "{ended:?}");
        }
    }

    #[test]
    fn what_crio_tells_of_a_container_and_of_a_pod_without_a_process_is_read() {
        let container: Info = serde_json::from_str(
            r#"{"sandboxID":"s","pid":4711,"runtimeSpec":{"annotations":{"io.kubernetes.cri-o.ImageName":"quay.io/web:1"}},
            "privileged":false}"#,
        )
        .unwrap();
        assert_eq!((container.pid, container.spec.unwrap().traits().image), (4711, "quay.io/web:1"));
        // With `drop_infra_ctr`, its default, a pod has no process of its own but a network namespace that is mounted.
        let sandbox: Info = serde_json::from_str(
            r#"{"runtimeSpec":{"linux":{"namespaces":[{"type":"network","path":"/var/run/netns/b7a1"}]}}}"#,
        )
        .unwrap();
        let spec = sandbox.spec.unwrap();
        assert_eq!((sandbox.pid, spec.network()), (0, crate::spec::Network::At("/var/run/netns/b7a1")));
    }
}
