//! Pods and their containers, made over CRI as a kubelet makes them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use k8s_cri::v1::{
    ContainerConfig, ContainerMetadata, ContainerStatusRequest, CreateContainerRequest, ExecSyncRequest,
    ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
    PodSandboxStatusRequest, RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};

use crate::{HOOKED, Lab, LabError, cgroup};

/// How long a command given to [`Lab::exec`] may run, in seconds.
const EXEC_SECONDS: i64 = 120;

/// One container of a pod to be.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Name within the pod.
    pub name: String,
    /// Image, imported before.
    pub image: String,
    /// Program and arguments; empty for the image's own.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub environment: BTreeMap<String, String>,
    /// With all privileges.
    pub privileged: bool,
    /// Memory limit in bytes, 0 for none.
    pub memory_limit: i64,
    /// Folders of the host, and where they are mounted.
    pub volumes: Vec<(PathBuf, String)>,
}

impl ContainerSpec {
    /// An ordinary container.
    #[must_use]
    pub fn new(name: &str, image: &str, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: BTreeMap::new(),
            privileged: false,
            memory_limit: 0,
            volumes: Vec::new(),
        }
    }
    /// Mounts a folder of the host in it.
    #[must_use]
    pub fn volume(mut self, host: &Path, path: &str) -> Self {
        self.volumes.push((host.to_owned(), path.to_owned()));
        self
    }
    /// Gives it all privileges.
    #[must_use]
    pub fn privileged(mut self) -> Self {
        self.privileged = true;
        self
    }
}

/// A pod to be.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Pod name as Kubernetes would give it (`web-7d9c5b8f6-x2x5z`).
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// Its containers, started in this order.
    pub containers: Vec<ContainerSpec>,
    /// It uses the host's network.
    pub host_network: bool,
    /// It sees the host's processes.
    pub host_processes: bool,
    /// CRI runtime handler; empty for the default.
    pub handler: String,
}

impl PodSpec {
    /// A pod without containers.
    #[must_use]
    pub fn new(name: &str, namespace: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            containers: Vec::new(),
            host_network: false,
            host_processes: false,
            handler: String::new(),
        }
    }
    /// Has its containers call the lab's hook.
    #[must_use]
    pub fn hooked(mut self) -> Self {
        HOOKED.clone_into(&mut self.handler);
        self
    }
    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }
    /// Adds a container.
    #[must_use]
    pub fn container(mut self, container: ContainerSpec) -> Self {
        self.containers.push(container);
        self
    }
    /// Lets it use the host's network.
    #[must_use]
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }
    /// Lets it see the host's processes.
    #[must_use]
    pub fn host_processes(mut self) -> Self {
        self.host_processes = true;
        self
    }
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Id in containerd, 64 hexadecimal digits for containers of pods.
    pub id: String,
    /// containerd's namespace: `k8s.io` for containers of pods.
    pub namespace: String,
    /// Name within the pod, or the id of a plain container.
    pub name: String,
    /// First process, in the host's numbering.
    pub pid: u32,
    /// Path in the cgroup v2 hierarchy (in the first v1 hierarchy where there is no v2).
    pub cgroup: String,
}

/// A running pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// The sandbox; its network namespace is the pod's.
    pub sandbox: Container,
    /// Pod name.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes' id of the pod.
    pub uid: String,
    /// Addresses, IPv4 first; none with the host's network.
    pub addresses: Vec<IpAddr>,
    /// Containers, in the order of the specification.
    pub containers: Vec<Container>,
    config: PodSandboxConfig,
}

impl Pod {
    /// The first container, or the sandbox of a pod without containers.
    #[must_use]
    pub fn container(&self) -> &Container {
        self.containers.first().unwrap_or(&self.sandbox)
    }
    /// The IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Option<IpAddr> {
        self.addresses.iter().copied().find(IpAddr::is_ipv4)
    }
    /// The IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<IpAddr> {
        self.addresses.iter().copied().find(IpAddr::is_ipv6)
    }
}

/// What a command in a container gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code, 128 + signal when it was killed (137 for SIGKILL).
    pub exit_code: i32,
    /// Standard output, bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Lab {
    /// Starts a pod with one container, which has the pod's name up to the first `-`.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer.
    pub fn pod<'a>(
        &'a self,
        name: &'a str,
        namespace: &'a str,
        labels: &'a [(&'a str, &'a str)],
        image: &'a str,
        command: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Pod, LabError>> {
        Box::pin(async move {
            let container = name.split('-').next().unwrap_or(name);
            let mut spec =
                PodSpec::new(name, namespace).container(ContainerSpec::new(container, image, command));
            for (label, value) in labels {
                spec = spec.label(label, value);
            }
            Box::pin(self.run_pod(&spec)).await
        })
    }

    /// Starts a pod.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer; what was started of the pod stays until the lab's end.
    pub fn run_pod<'a>(&'a self, spec: &'a PodSpec) -> BoxFuture<'a, Result<Pod, LabError>> {
        Box::pin(async move {
            let uid = uuid::Uuid::new_v4().to_string();
            let config = self.sandbox_config(spec, &uid);
            let request =
                RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: spec.handler.clone() };
            let doing = format!("start pod {}", spec.name);
            let answer =
                Box::pin(self.cri().run_pod_sandbox(request)).await.map_err(LabError::runtime(&*doing))?;
            let id = answer.into_inner().pod_sandbox_id;

            let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
            let answer = self
                .cri()
                .pod_sandbox_status(request)
                .await
                .map_err(LabError::runtime(&*doing))?
                .into_inner();
            let network = answer.status.and_then(|status| status.network).unwrap_or_default();
            let addresses =
                std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.ip));
            let addresses = addresses.filter_map(|ip| ip.parse().ok()).collect();
            let mut pod = Pod {
                sandbox: container(&doing, id, spec.name.clone(), &answer.info)?,
                name: spec.name.clone(),
                namespace: spec.namespace.clone(),
                uid,
                addresses,
                containers: Vec::new(),
                config,
            };
            for container in &spec.containers {
                Box::pin(self.add_container(&mut pod, container)).await?;
            }
            Ok(pod)
        })
    }

    /// Starts one more container in a pod and gives it.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer.
    pub fn add_container<'a>(
        &'a self,
        pod: &'a mut Pod,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<Container, LabError>> {
        Box::pin(async move {
            let created = Box::pin(self.create_container(pod, spec)).await?;
            let doing = format!("start container {} of pod {}", spec.name, pod.name);
            let request = StartContainerRequest { container_id: created.clone() };
            self.cri().start_container(request).await.map_err(LabError::runtime(&*doing))?;
            let request = ContainerStatusRequest { container_id: created.clone(), verbose: true };
            let answer =
                self.cri().container_status(request).await.map_err(LabError::runtime(&*doing))?.into_inner();
            let started = container(&doing, created, spec.name.clone(), &answer.info)?;
            pod.containers.push(started.clone());
            Ok(started)
        })
    }

    /// Creates a container without starting it and gives its id.
    async fn create_container(&self, pod: &Pod, spec: &ContainerSpec) -> Result<String, LabError> {
        let labels = HashMap::from([
            ("io.kubernetes.container.name".to_owned(), spec.name.clone()),
            ("io.kubernetes.pod.name".to_owned(), pod.name.clone()),
            ("io.kubernetes.pod.namespace".to_owned(), pod.namespace.clone()),
            ("io.kubernetes.pod.uid".to_owned(), pod.uid.clone()),
        ]);
        let linux = LinuxContainerConfig {
            resources: Some(k8s_cri::v1::LinuxContainerResources {
                memory_limit_in_bytes: spec.memory_limit,
                ..Default::default()
            }),
            security_context: Some(LinuxContainerSecurityContext {
                privileged: spec.privileged,
                namespace_options: namespaces(&pod.config),
                ..Default::default()
            }),
        };
        let envs =
            spec.environment.iter().map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() });
        let mounts = spec.volumes.iter().map(|(host, path)| Mount {
            container_path: path.clone(),
            host_path: host.display().to_string(),
            ..Default::default()
        });
        let config = ContainerConfig {
            mounts: mounts.collect(),
            metadata: Some(ContainerMetadata { name: spec.name.clone(), attempt: 0 }),
            image: Some(ImageSpec { image: spec.image.clone(), ..Default::default() }),
            command: spec.command.clone(),
            envs: envs.collect(),
            labels,
            log_path: format!("{}.log", spec.name),
            linux: Some(linux),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.sandbox.id.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let doing = format!("create container {} of pod {}", spec.name, pod.name);
        let answer = self.cri().create_container(request).await.map_err(LabError::runtime(doing))?;
        Ok(answer.into_inner().container_id)
    }

    /// Runs a command in a container of a pod by CRI and waits for its end, at most two minutes.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer, for instance when the program does not exist.
    pub fn exec<'a>(
        &'a self,
        container: &'a Container,
        command: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Output, LabError>> {
        Box::pin(async move {
            let request = ExecSyncRequest {
                container_id: container.id.clone(),
                cmd: command.iter().map(|&word| word.to_owned()).collect(),
                timeout: EXEC_SECONDS,
            };
            let doing = format!("run {command:?} in container {}", container.name);
            let answer = self.cri().exec_sync(request).await.map_err(LabError::runtime(doing))?.into_inner();
            Ok(Output {
                exit_code: answer.exit_code,
                stdout: String::from_utf8_lossy(&answer.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&answer.stderr).into_owned(),
            })
        })
    }

    /// Kills a container of a pod; it stays known to CRI with its exit code until it is removed.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer.
    pub fn stop_container<'a>(&'a self, container: &'a Container) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let request = StopContainerRequest { container_id: container.id.clone(), timeout: 0 };
            let doing = format!("stop container {}", container.name);
            self.cri().stop_container(request).await.map(drop).map_err(LabError::runtime(doing))
        })
    }

    /// Removes a container of a pod, running or not.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer.
    pub fn remove_container<'a>(&'a self, container: &'a Container) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let request = RemoveContainerRequest { container_id: container.id.clone() };
            let doing = format!("remove container {}", container.name);
            self.cri().remove_container(request).await.map(drop).map_err(LabError::runtime(doing))
        })
    }

    /// Kills and removes a pod with all its containers.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer.
    pub fn remove_pod<'a>(&'a self, pod: &'a Pod) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let (id, mut cri) = (&pod.sandbox.id, self.cri());
            let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
            cri.stop_pod_sandbox(request)
                .await
                .map_err(LabError::runtime(format!("stop pod {}", pod.name)))?;
            let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            let removed = cri.remove_pod_sandbox(request).await;
            removed.map(drop).map_err(LabError::runtime(format!("remove pod {}", pod.name)))
        })
    }

    fn sandbox_config(&self, spec: &PodSpec, uid: &str) -> PodSandboxConfig {
        let mut labels: HashMap<String, String> =
            spec.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        labels.insert("io.kubernetes.pod.name".to_owned(), spec.name.clone());
        labels.insert("io.kubernetes.pod.namespace".to_owned(), spec.namespace.clone());
        labels.insert("io.kubernetes.pod.uid".to_owned(), uid.to_owned());
        let network = if spec.host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
        let options = NamespaceOption {
            network: network.into(),
            pid: if spec.host_processes { NamespaceMode::Node } else { NamespaceMode::Container }.into(),
            ipc: NamespaceMode::Pod.into(),
            ..Default::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: spec.name.clone(),
                uid: uid.to_owned(),
                namespace: spec.namespace.clone(),
                attempt: 0,
            }),
            hostname: if spec.host_network { String::new() } else { spec.name.clone() },
            log_directory: self.layout.pod_logs.join(uid).display().to_string(),
            labels,
            annotations: spec.annotations.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/kubepods/burstable/pod{uid}", self.cgroup()),
                security_context: Some(LinuxSandboxSecurityContext {
                    // containerd wants to be told of privileged containers when it makes the sandbox.
                    privileged: spec.containers.iter().any(|container| container.privileged),
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

fn namespaces(config: &PodSandboxConfig) -> Option<NamespaceOption> {
    config.linux.as_ref()?.security_context.as_ref()?.namespace_options.clone()
}

/// Reads the pid from the `info` of a verbose status.
fn container(
    doing: &str,
    id: String,
    name: String,
    info: &HashMap<String, String>,
) -> Result<Container, LabError> {
    let info: serde_json::Value =
        info.get("info").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let pid = info.get("pid").and_then(serde_json::Value::as_u64).and_then(|pid| pid.try_into().ok());
    let pid = pid.ok_or_else(|| LabError::missing_answer(doing, "pid"))?;
    let namespace = crate::lab::CRI_NAMESPACE.to_owned();
    Ok(Container { id, namespace, name, pid, cgroup: cgroup::of_process(pid).unwrap_or_default() })
}
