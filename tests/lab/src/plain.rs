//! Containers without a pod, as `ctr run` makes them, and commands by containerd's own API.

use std::collections::BTreeMap;
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    DeleteProcessRequest, ExecProcessRequest, GetContainerRequest, GetRequest, StartRequest, WaitRequest,
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::{Container, Lab, LabError, Output, cgroup};

/// How long a command given to [`Lab::task_exec`] may run.
const EXEC: Duration = Duration::from_secs(120);
/// Type of an OCI process as containerd names it (typeurl of runtime-spec 1.x).
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// A container without a pod.
#[derive(Clone, Debug)]
pub struct PlainSpec {
    /// containerd's namespace, for instance `default`.
    pub namespace: String,
    /// Its id, which is its name too.
    pub id: String,
    /// Image, imported before into that namespace.
    pub image: String,
    /// Program and arguments; empty for the image's own.
    pub command: Vec<String>,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// It uses the host's network; otherwise it has a namespace with no interface but `lo`.
    pub host_network: bool,
    /// With all privileges.
    pub privileged: bool,
}

impl PlainSpec {
    /// An ordinary container in namespace `default`.
    #[must_use]
    pub fn new(id: &str, image: &str, command: &[&str]) -> Self {
        Self {
            namespace: "default".to_owned(),
            id: id.to_owned(),
            image: image.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            labels: BTreeMap::new(),
            host_network: false,
            privileged: false,
        }
    }
}

impl Lab {
    /// Starts a plain container.
    ///
    /// # Errors
    /// [`LabError::Program`] with what `ctr` said.
    pub fn run_plain<'a>(&'a self, spec: &'a PlainSpec) -> BoxFuture<'a, Result<Container, LabError>> {
        Box::pin(async move {
            let cgroup = format!("{}/{}/{}", self.cgroup(), spec.namespace, spec.id);
            let runc = self.layout.runc.display().to_string();
            let labels: Vec<String> =
                spec.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let mut arguments = vec![
                "-n",
                &spec.namespace,
                "run",
                "--detach",
                "--null-io",
                "--cgroup",
                &cgroup,
                "--runc-root",
                &runc,
            ];
            for label in &labels {
                arguments.extend(["--label", label]);
            }
            if spec.host_network {
                arguments.push("--net-host");
            }
            if spec.privileged {
                arguments.push("--privileged");
            }
            arguments.extend([spec.image.as_str(), spec.id.as_str()]);
            arguments.extend(spec.command.iter().map(String::as_str));
            self.ctr(&arguments).await?;

            let doing = format!("look up container {}", spec.id);
            let request = GetRequest { container_id: spec.id.clone(), ..Default::default() };
            let request = within(&spec.namespace, request)?;
            let found = self.tasks().get(request).await.map_err(LabError::runtime(&*doing))?.into_inner();
            let pid = found.process.map(|process| process.pid);
            let pid = pid.ok_or_else(|| LabError::missing_answer(&*doing, "process"))?;
            Ok(Container {
                id: spec.id.clone(),
                namespace: spec.namespace.clone(),
                name: spec.id.clone(),
                pid,
                cgroup: cgroup::of_process(pid).unwrap_or_default(),
            })
        })
    }

    /// Kills and removes a plain container.
    ///
    /// # Errors
    /// [`LabError::Program`] with what `ctr` said.
    pub fn remove_plain<'a>(&'a self, container: &'a Container) -> BoxFuture<'a, Result<(), LabError>> {
        Box::pin(async move {
            let (namespace, id) = (container.namespace.as_str(), container.id.as_str());
            self.ctr(&["-n", namespace, "task", "rm", "--force", id]).await?;
            self.ctr(&["-n", namespace, "container", "rm", id]).await.map(drop)
        })
    }

    /// Runs a command in any container by containerd's own API, as the container's user, and waits for its end,
    /// at most two minutes.
    ///
    /// # Errors
    /// [`LabError::Runtime`] with containerd's answer, for instance when the program does not exist;
    /// [`LabError::Timeout`] when it does not end.
    pub fn task_exec<'a>(
        &'a self,
        container: &'a Container,
        command: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Output, LabError>> {
        Box::pin(async move {
            let doing = format!("run {command:?} in container {}", container.name);
            let exec_id = format!("lab-{}", uuid::Uuid::new_v4());
            let (stdout, stderr) = (
                self.layout.dir.join(format!("{exec_id}.out")),
                self.layout.dir.join(format!("{exec_id}.err")),
            );
            // The shim appends to files that exist as it would write to a pipe.
            for path in [&stdout, &stderr] {
                tokio::fs::write(path, "").await.map_err(LabError::io("create", path))?;
            }
            let request = ExecProcessRequest {
                container_id: container.id.clone(),
                stdout: stdout.display().to_string(),
                stderr: stderr.display().to_string(),
                spec: Some(self.process(container, command).await?),
                exec_id: exec_id.clone(),
                ..Default::default()
            };
            let request = within(&container.namespace, request)?;
            self.tasks().exec(request).await.map_err(LabError::runtime(&*doing))?;
            let exit_code = self.run_to_end(container, &exec_id, &doing).await;

            // Deleting waits until all output is written, so the files are read after it.
            let request = DeleteProcessRequest { container_id: container.id.clone(), exec_id };
            let request = within(&container.namespace, request)?;
            let deleted = self.tasks().delete_process(request).await;
            let read = async |path| {
                let bytes = tokio::fs::read(path).await.map_err(LabError::io("read", path))?;
                tokio::fs::remove_file(path).await.map_err(LabError::io("remove", path))?;
                Ok::<_, LabError>(String::from_utf8_lossy(&bytes).into_owned())
            };
            let (stdout, stderr) = (read(&stdout).await?, read(&stderr).await?);
            let exit_code = exit_code?;
            deleted.map_err(LabError::runtime(doing))?;
            Ok(Output { exit_code, stdout, stderr })
        })
    }

    async fn run_to_end(&self, container: &Container, exec_id: &str, doing: &str) -> Result<i32, LabError> {
        let (container_id, exec_id) = (container.id.clone(), exec_id.to_owned());
        let request = StartRequest { container_id: container_id.clone(), exec_id: exec_id.clone() };
        let request = within(&container.namespace, request)?;
        self.tasks().start(request).await.map_err(LabError::runtime(doing))?;
        let request = within(&container.namespace, WaitRequest { container_id, exec_id })?;
        let ended = tokio::time::timeout(EXEC, self.tasks().wait(request)).await;
        let late = |_| LabError::Timeout { doing: doing.to_owned(), seconds: EXEC.as_secs() };
        let ended = ended.map_err(late)?.map_err(LabError::runtime(doing))?;
        Ok(i32::try_from(ended.into_inner().exit_status).unwrap_or(i32::MAX))
    }

    /// The container's own process with other words to run.
    async fn process(&self, container: &Container, command: &[&str]) -> Result<prost_types::Any, LabError> {
        let doing = format!("read the specification of container {}", container.name);
        let request = within(&container.namespace, GetContainerRequest { id: container.id.clone() })?;
        let found =
            ContainersClient::new(self.channel()).get(request).await.map_err(LabError::runtime(&*doing))?;
        let spec = found.into_inner().container.and_then(|container| container.spec).unwrap_or_default();
        let spec: Value = serde_json::from_slice(&spec.value).unwrap_or_default();
        let mut process = spec.get("process").cloned().unwrap_or_default();
        let fields = process.as_object_mut().ok_or_else(|| LabError::missing_answer(doing, "process"))?;
        fields.insert("args".to_owned(), json!(command));
        fields.insert("terminal".to_owned(), json!(false));
        Ok(prost_types::Any { type_url: PROCESS_TYPE.to_owned(), value: process.to_string().into_bytes() })
    }

    fn tasks(&self) -> TasksClient<tonic::transport::Channel> {
        TasksClient::new(self.channel())
    }
}

/// A request to one of containerd's namespaces.
fn within<T>(namespace: &str, message: T) -> Result<Request<T>, LabError> {
    let mut request = Request::new(message);
    let value = MetadataValue::try_from(namespace).map_err(|_not_ascii| LabError::Option {
        option: "namespace",
        reason: format!("{namespace:?} has characters that containerd's namespaces cannot have"),
    })?;
    request.metadata_mut().insert("containerd-namespace", value);
    Ok(request)
}
