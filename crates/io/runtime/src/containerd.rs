//! containerd's own API: containers and tasks of all namespaces, and events.
//!
//! It tells of every container, in pods or not; where the same socket speaks CRI too, that adds the digests of the
//! images and how containers of pods ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use containerd_client::events::{
    ContainerCreate, ContainerDelete, ContainerUpdate, TaskCreate, TaskExit, TaskStart,
};
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    Container, GetContainerRequest, GetRequest, ListContainersRequest, ListNamespacesRequest,
    ListTasksRequest, SubscribeRequest,
};
use containerd_client::types::v1::{Process, Status};
use nv_model::name::WorkloadId;
use nv_model::workload::Workload;
use prost::Message as _;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::assemble::{Parts, PodIdentity, Task, assemble, workload_id};
use crate::cri;
use crate::error::RuntimeError;
use crate::spec::Spec;
use crate::watch::{Hint, call, timestamp};
use crate::{Host, docker, image};

/// Namespaces of containerd that are looked at; a usual machine has one to three.
pub(crate) const NAMESPACES: usize = 64;
/// The name that workloads carry.
pub(crate) const NAME: &str = "containerd";

/// A containerd that answers.
pub(crate) struct Containerd {
    host: Arc<Host>,
    channel: Channel,
    /// The socket speaks CRI as well.
    has_cri: bool,
    /// Specifications that could not be read.
    pub(crate) unreadable: u64,
}

/// A container as containerd keeps it, its specification read.
struct Record {
    namespace: String,
    container: Container,
    labels: BTreeMap<String, String>,
    spec: Spec,
    pod: Option<PodIdentity>,
    task: Option<Process>,
}

impl Containerd {
    /// Asks whether this is a containerd, and gives its version.
    pub(crate) async fn connect(host: Arc<Host>, channel: Channel) -> Result<(Self, String), RuntimeError> {
        let mut client = VersionClient::new(channel.clone());
        let version = call("ask containerd for its version", client.version(())).await?.version;
        let has_cri = cri::version(channel.clone()).await.is_ok();
        Ok((Self { host, channel, has_cri, unreadable: 0 }, version))
    }

    /// All containers.
    pub(crate) async fn list(
        &mut self,
        known: &BTreeMap<WorkloadId, Workload>,
    ) -> Result<Vec<Workload>, RuntimeError> {
        let mut records = Vec::new();
        for namespace in self.namespaces().await? {
            records.extend(self.records(&namespace).await?);
        }
        let states = if self.has_cri { cri::states(self.channel.clone()).await? } else { BTreeMap::new() };
        let pods: BTreeMap<String, BTreeMap<String, String>> = records
            .iter()
            .filter(|record| record.pod.as_ref().is_some_and(|pod| pod.is_sandbox))
            .map(|record| (record.container.id.clone(), record.labels.clone()))
            .collect();
        let mut all = Vec::with_capacity(records.len());
        for record in records {
            let pod = record.pod.as_ref().filter(|pod| !pod.is_sandbox);
            let pod_labels = pod.and_then(|pod| pods.get(&pod.sandbox)).cloned().unwrap_or_default();
            let state = states.get(&record.container.id);
            all.extend(self.workload(record, pod_labels, state, known).await?);
        }
        Ok(all)
    }

    /// One container; `None` when there is none (any more).
    pub(crate) async fn look(
        &mut self,
        namespace: &str,
        id: &str,
        known: &BTreeMap<WorkloadId, Workload>,
    ) -> Result<Option<Workload>, RuntimeError> {
        let Some(container) = self.container(namespace, id).await? else { return Ok(None) };
        let request = within(namespace, GetRequest { container_id: id.to_owned(), ..Default::default() });
        let task = match call("get a task", TasksClient::new(self.channel.clone()).get(request)).await {
            Ok(found) => found.process,
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error),
        };
        let record = self.record(namespace, container, task);
        let pod_labels = match record.pod.as_ref().filter(|pod| !pod.is_sandbox) {
            Some(pod) => self.container(namespace, &pod.sandbox).await?.map(|sandbox| sandbox.labels),
            None => None,
        };
        let pod_labels = pod_labels.unwrap_or_default().into_iter().collect();
        let state = match &record.pod {
            Some(pod) if self.has_cri && !pod.is_sandbox => cri::state(self.channel.clone(), id).await?,
            _ => None,
        };
        self.workload(record, pod_labels, state.as_ref(), known).await
    }

    async fn workload(
        &self,
        record: Record,
        pod_labels: BTreeMap<String, String>,
        state: Option<&cri::State>,
        known: &BTreeMap<WorkloadId, Workload>,
    ) -> Result<Option<Workload>, RuntimeError> {
        let Record { namespace, container, labels, spec, pod, task } = record;
        let Ok(id) = workload_id(&namespace, &container.id) else { return Ok(None) };
        let prior = known.get(&id);
        let mut task = task.as_ref().map(first_process).unwrap_or_default();
        if let Some(state) = state
            && state.exited
            && !task.running
            && prior.is_none_or(|prior| prior.running)
            && let Some((exit_code, finished)) = cri::ended(self.channel.clone(), &container.id).await?
        {
            task = Task { exit_code, finished, ..Task::default() };
        }
        let image_id = match (state, prior) {
            (Some(state), _) => state.image_id.clone(),
            (None, Some(prior)) if !prior.image_id.is_empty() => prior.image_id.clone(),
            (None, _) => image::configuration(self.channel.clone(), &namespace, &container.image).await,
        };
        let created = container.created_at.as_ref().map(timestamp).unwrap_or_default();
        let parts = Parts {
            namespace: &namespace,
            id: &container.id,
            runtime: runtime_of(&namespace),
            pod,
            labels,
            pod_labels,
            image: &container.image,
            image_id,
            cgroup: None,
            task,
            created,
        };
        Ok(assemble(&self.host, spec.traits(), parts).ok())
    }

    async fn namespaces(&self) -> Result<Vec<String>, RuntimeError> {
        let mut client = NamespacesClient::new(self.channel.clone());
        let request = ListNamespacesRequest::default();
        let found = call("list containerd's namespaces", client.list(request)).await?.namespaces;
        Ok(found.into_iter().map(|namespace| namespace.name).take(NAMESPACES).collect())
    }

    /// All containers of a namespace. They come one by one, as a single answer would exceed what gRPC takes.
    async fn records(&mut self, namespace: &str) -> Result<Vec<Record>, RuntimeError> {
        let request = within(namespace, ListTasksRequest::default());
        let tasks = call("list tasks", TasksClient::new(self.channel.clone()).list(request)).await?.tasks;
        let mut tasks: BTreeMap<String, Process> = tasks
            .into_iter()
            // Named after the container; `container_id` is empty in a list.
            .map(|task| {
                (if task.container_id.is_empty() { task.id.clone() } else { task.container_id.clone() }, task)
            })
            .collect();
        let request = within(namespace, ListContainersRequest::default());
        let mut client = ContainersClient::new(self.channel.clone());
        let mut stream = call("list containers", client.list_stream(request)).await?;
        let mut records = Vec::new();
        while let Some(message) = call("list containers", next(&mut stream)).await? {
            if let Some(container) = message.container {
                let task = tasks.remove(&container.id);
                records.push(self.record(namespace, container, task));
            }
        }
        Ok(records)
    }

    /// What a container's record alone says, by a single question: image and labels, but neither process nor digest.
    pub(crate) async fn describe(
        host: Arc<Host>,
        channel: Channel,
        namespace: &str,
        id: &str,
    ) -> Result<Option<Workload>, RuntimeError> {
        let mut containerd = Self { host, channel, has_cri: false, unreadable: 0 };
        let Some(container) = containerd.container(namespace, id).await? else { return Ok(None) };
        let Record { container, labels, spec, pod, .. } = containerd.record(namespace, container, None);
        let created = container.created_at.as_ref().map(timestamp).unwrap_or_default();
        let (id, image) = (container.id.as_str(), container.image.as_str());
        let runtime = runtime_of(namespace);
        let parts = Parts { namespace, id, runtime, pod, labels, image, created, ..Parts::default() };
        Ok(assemble(&containerd.host, spec.traits(), parts).ok())
    }

    async fn container(&self, namespace: &str, id: &str) -> Result<Option<Container>, RuntimeError> {
        let request = within(namespace, GetContainerRequest { id: id.to_owned() });
        match call("get a container", ContainersClient::new(self.channel.clone()).get(request)).await {
            Ok(found) => Ok(found.container),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn record(&mut self, namespace: &str, mut container: Container, task: Option<Process>) -> Record {
        let labels: BTreeMap<_, _> = std::mem::take(&mut container.labels).into_iter().collect();
        let spec = container.spec.take().and_then(|spec| Spec::parse(&spec.value));
        if spec.is_none() {
            self.unreadable = self.unreadable.saturating_add(1);
        }
        let spec = spec.unwrap_or_default();
        let pod = PodIdentity::read(&spec.annotations, &labels);
        Record { namespace: namespace.to_owned(), container, labels, spec, pod, task }
    }
}

/// Who a namespace's containers belong to: Docker keeps its own in one of containerd's.
pub(crate) fn runtime_of(namespace: &str) -> &'static str {
    if namespace == docker::NAMESPACE { docker::NAME } else { NAME }
}

/// Follows containerd's events and gives each as a hint of what to look at, until the stream ends.
///
/// The stream's head comes with the first event only, so nobody can wait for it to be established.
pub(crate) async fn follow(channel: Channel, hints: mpsc::Sender<Hint>) {
    let filters = vec!["topic~=\"^/(tasks|containers)/\"".to_owned()];
    let ended = match EventsClient::new(channel).subscribe(SubscribeRequest { filters }).await {
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(envelope)) => {
                        let Some(hint) = hint(envelope) else { continue };
                        if hints.send(hint).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break "end of stream".to_owned(),
                    Err(status) => break status.message().to_owned(),
                }
            }
        }
        Err(status) => status.message().to_owned(),
    };
    // Nobody listens any more: then nobody needs to know.
    hints.send(Hint::Ended(ended)).await.unwrap_or_default();
}

/// What an event says. Types are those of `containerd.events`; the subject is matched by the end of the type's URL.
fn hint(envelope: containerd_client::types::Envelope) -> Option<Hint> {
    let namespace = envelope.namespace;
    let event = envelope.event?;
    let value = event.value.as_slice();
    let id = match event.type_url.rsplit('.').next()? {
        "TaskCreate" => TaskCreate::decode(value).ok()?.container_id,
        "TaskStart" => TaskStart::decode(value).ok()?.container_id,
        "ContainerCreate" => ContainerCreate::decode(value).ok()?.id,
        "ContainerUpdate" => ContainerUpdate::decode(value).ok()?.id,
        "ContainerDelete" => ContainerDelete::decode(value).ok()?.id,
        "TaskExit" => {
            let exit = TaskExit::decode(value).ok()?;
            // Others are commands that ran in the container.
            let is_first = exit.id == exit.container_id;
            return is_first.then(|| Hint::Exited {
                namespace,
                id: exit.container_id,
                pid: exit.pid,
                exit_code: i32::try_from(exit.exit_status).unwrap_or(i32::MAX),
                at: exit.exited_at.as_ref().map(timestamp).unwrap_or_default(),
            });
        }
        _ => return None,
    };
    Some(Hint::Look { namespace, id })
}

fn first_process(process: &Process) -> Task {
    let running = matches!(process.status(), Status::Running | Status::Paused | Status::Pausing);
    if process.status() == Status::Stopped {
        return Task {
            pid: 0,
            running,
            exit_code: i32::try_from(process.exit_status).unwrap_or(i32::MAX),
            finished: process.exited_at.as_ref().map(timestamp).unwrap_or_default(),
        };
    }
    Task { pid: process.pid, running, ..Task::default() }
}

async fn next<T>(stream: &mut tonic::Streaming<T>) -> Result<tonic::Response<Option<T>>, tonic::Status> {
    stream.message().await.map(tonic::Response::new)
}

pub(crate) fn is_absent(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Call { code: Code::NotFound, .. })
}

/// A request to one of containerd's namespaces. A namespace with characters that cannot be sent has no containers:
/// containerd does not make such ones.
pub(crate) fn within<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(value) = MetadataValue::try_from(namespace) {
        request.metadata_mut().insert("containerd-namespace", value);
    }
    request
}
