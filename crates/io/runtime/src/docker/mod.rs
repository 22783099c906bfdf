//! The Docker Engine API over its socket: only ever asked (GET), never told.
//!
//! Docker's containers are in a containerd too, but that knows neither their names nor their images, so what the
//! daemon tells goes before it ([`crate::Merge`]). Containers of pods, where Kubernetes runs on Docker, are told by the
//! name that its shim gives them: an image brings labels, but nobody's name.

mod answer;
mod events;
mod http;
mod looks;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nv_model::name::WorkloadId;
use nv_model::workload::Workload;

pub(crate) use self::answer::Named;
use self::answer::{Container, Image, Info, Listed, Version};
pub(crate) use self::events::follow;
use self::http::LIST_BYTES;
pub(crate) use self::http::{Client, ONE_BYTES, Stream};
pub(crate) use self::looks::{Found, Looks};
use crate::assemble::{Parts, PodIdentity, Task, assemble};
use crate::error::RuntimeError;
use crate::spec::Traits;
use crate::{Host, cgroup};

/// The name that workloads carry.
pub(crate) const NAME: &str = "docker";
/// containerd's namespace that a daemon keeps its containers in, unless it is told otherwise.
pub(crate) const NAMESPACE: &str = "moby";
/// Most containers of a list that are looked at; as many as are followed.
const CONTAINERS: usize = 10_000;
/// Longest answer of `_ping` and `version` that is read, in bytes.
pub(crate) const SHORT_BYTES: usize = 64 * 1024;
/// How the shim of Kubernetes begins the names of its containers, and what it calls a pod's sandbox (`k8s_POD_…`).
const POD_PREFIX: &str = "k8s_";
const SANDBOX: &str = "POD";

/// A daemon that answers.
pub(crate) struct Docker {
    host: Arc<Host>,
    client: Client,
    /// Descriptions that could not be read.
    pub(crate) unreadable: u64,
}

impl Docker {
    /// Asks whether this is a Docker daemon, and gives its version.
    pub(crate) async fn connect(host: Arc<Host>, socket: &Path) -> Result<(Self, String), RuntimeError> {
        let client = Client::new(socket);
        let (api, _) = client.head("ask for Docker's API", "/_ping", "api-version", SHORT_BYTES).await?;
        let client = client.of_version(&api.unwrap_or_default());
        let version: Option<Version> =
            client.get("ask for Docker's version", "/version", SHORT_BYTES).await?;
        let version = version.unwrap_or_default().version;
        if version.is_empty() {
            let message = "it tells no version".to_owned();
            return Err(RuntimeError::NotARuntime { socket: socket.to_path_buf(), message });
        }
        Ok((Self { host, client, unreadable: 0 }, version))
    }

    /// Name of what keeps its containers' root file systems; empty when it does not say.
    pub(crate) async fn storage(&self) -> String {
        match self.client.get::<Info>("ask for Docker's storage driver", "/info", ONE_BYTES).await {
            Ok(info) => info.unwrap_or_default().driver,
            Err(error) => {
                tracing::debug!(%error, "Docker's storage driver is not known");
                String::new()
            }
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// All containers, those that do not run as well. What the daemon cannot describe stays as it was.
    pub(crate) async fn list(
        &mut self,
        known: &BTreeMap<WorkloadId, Workload>,
    ) -> Result<Vec<Workload>, RuntimeError> {
        let mut all = Vec::new();
        for id in self.ids().await? {
            let prior = known.get(id.as_str());
            match describe(&self.host, &self.client, &id, prior).await {
                Err(
                    RuntimeError::Refused { .. }
                    | RuntimeError::Unreadable { .. }
                    | RuntimeError::Timeout { .. },
                ) => {
                    self.unreadable = self.unreadable.saturating_add(1);
                    all.extend(prior.cloned());
                }
                found => all.extend(found?),
            }
        }
        Ok(all)
    }

    /// Ids of all containers. This the daemon answers from a copy, whatever it does with them.
    pub(crate) async fn ids(&self) -> Result<Vec<String>, RuntimeError> {
        let listed: Option<Vec<Listed>> =
            self.client.get("list Docker's containers", "/containers/json?all=1", LIST_BYTES).await?;
        let ids = listed.unwrap_or_default().into_iter().map(|line| line.id);
        Ok(ids.filter(|id| cgroup::container_id(id).is_some()).take(CONTAINERS).collect())
    }

    /// What is known of a container from its creation on.
    pub(crate) fn created(&self, named: Named) -> Option<Workload> {
        of_name(&self.host, named)
    }

    /// Questions about its containers.
    pub(crate) fn looks(&self) -> Looks {
        Looks::new(Arc::clone(&self.host), self.client.clone())
    }
}

/// Which service a container is of, without waiting for the daemon to start it.
pub(crate) async fn identify(
    host: &Host,
    client: &Client,
    id: &str,
) -> Result<Option<Workload>, RuntimeError> {
    let Some(id) = cgroup::container_id(id) else { return Ok(None) };
    let path = format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
    let listed: Option<Vec<Listed>> = client.get("look a container up", &path, ONE_BYTES).await?;
    let line = listed.unwrap_or_default().into_iter().find(|line| line.id == id);
    Ok(line.and_then(Listed::named).and_then(|named| of_name(host, named)))
}

/// What the daemon says of a container; `prior` is what it said before.
pub(crate) async fn describe(
    host: &Host,
    client: &Client,
    id: &str,
    prior: Option<&Workload>,
) -> Result<Option<Workload>, RuntimeError> {
    // It becomes part of a path.
    let Some(id) = cgroup::container_id(id) else { return Ok(None) };
    let path = format!("/containers/{id}/json");
    let found: Option<Container> = client.get("describe a container", &path, ONE_BYTES).await?;
    let Some(found) = found.filter(|found| found.id == id) else { return Ok(None) };
    let image = match prior {
        Some(prior) if prior.image_id == found.image && !prior.image.is_empty() => prior.image.clone(),
        _ => image(client, &found).await,
    };
    Ok(workload(host, &found, &image))
}

/// The image's name. A container may be made of an image that is named by its id; then its name is asked for.
async fn image(client: &Client, container: &Container) -> String {
    let named = container.image_name();
    let digits = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':');
    if !container.is_image_named_by_id() || container.image.is_empty() || !digits(&container.image) {
        return named.to_owned();
    }
    let path = format!("/images/{}/json", container.image);
    let found: Option<Image> = client.get("describe an image", &path, ONE_BYTES).await.ok().flatten();
    found.and_then(Image::name).unwrap_or_else(|| named.to_owned())
}

fn workload(host: &Host, container: &Container, image: &str) -> Option<Workload> {
    let pod = pod(&container.id, container.name(), container.network_of(), container.labels());
    let in_pod = pod.is_some();
    let pid = container.pid();
    let running = pid != 0;
    let task = Task {
        pid,
        running,
        exit_code: if running { 0 } else { container.exit_code() },
        finished: if running { Default::default() } else { container.finished() },
    };
    let parts = Parts {
        id: &container.id,
        runtime: NAME,
        pod,
        labels: container.labels().clone(),
        image,
        image_id: container.image.clone(),
        task,
        created: container.created(),
        ..Parts::default()
    };
    let mut workload = assemble(host, container.traits(), parts).ok()?;
    if !in_pod {
        let name = container.name();
        if !name.is_empty() {
            name.clone_into(&mut workload.name);
        }
        // It shares that one's network as a pod's container shares its sandbox's.
        workload.pod_sandbox = container.network_of().and_then(|other| other.parse().ok());
    }
    workload.ports = container.mapped_ports();
    if workload.interfaces.is_empty() && !workload.host_network {
        workload.interfaces = container.interfaces();
    }
    Some(workload)
}

fn of_name(host: &Host, named: Named) -> Option<Workload> {
    let Named { id, name, image, labels } = named;
    let pod = pod(&id, &name, None, &labels);
    let in_pod = pod.is_some();
    let parts = Parts { id: &id, runtime: NAME, pod, labels, image: &image, ..Parts::default() };
    let mut workload = assemble(host, Traits::default(), parts).ok()?;
    if !in_pod && !name.is_empty() {
        workload.name = name;
    }
    Some(workload)
}

/// Which pod a container is in, from its name: `k8s_<container>_<pod>_<namespace>_<uid>_<attempt>`. None of these can
/// have a `_`. `network_of` is the container whose network it uses.
fn pod(
    id: &str,
    name: &str,
    network_of: Option<&str>,
    labels: &BTreeMap<String, String>,
) -> Option<PodIdentity> {
    let parts: Vec<&str> = name.strip_prefix(POD_PREFIX)?.split('_').collect();
    let [name, pod, namespace, _uid, _attempt, ..] = parts.as_slice() else { return None };
    let is_sandbox = *name == SANDBOX;
    // A pod in the host's network names its sandbox nowhere but here.
    let labelled = || labels.get("io.kubernetes.sandbox.id").map(String::as_str);
    let sandbox = if is_sandbox { Some(id) } else { network_of.or_else(labelled) };
    Some(PodIdentity {
        name: (*pod).to_owned(),
        namespace: (*namespace).to_owned(),
        sandbox: sandbox.unwrap_or_default().to_owned(),
        is_sandbox,
        container_name: if is_sandbox { String::new() } else { (*name).to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "30096ded6a8042e915108c59e719df59286b04435faccda7a7fbf5a81569bb1f";
    const OTHER: &str = "a0096ded6a8042e915108c59e719df59286b04435faccda7a7fbf5a81569bb1f";

    fn seen(json: &str, image: &str) -> Workload {
        let host = Host {
            node: "n1".parse().unwrap(),
            host_name: "node-1".into(),
            proc_root: "/nowhere".into(),
            cgroup_root: None,
        };
        let container: Container = serde_json::from_str(&json.replace("ID", ID)).unwrap();
        workload(&host, &container, image).unwrap()
    }

    #[test]
    fn a_container_has_its_name_and_the_service_of_its_image_or_of_compose() {
        let plain = seen(r#"{"Id":"ID","Name":"/happy_fox","Config":{"Labels":{"a":"b"}}}"#, "shop/web:1");
        assert_eq!((plain.name.as_str(), plain.learned_group().as_str()), ("happy_fox", "nv.web"));
        assert_eq!((plain.runtime.as_str(), plain.domain.as_ref()), ("docker", None));
        assert_eq!(plain.labels.get("a").map(String::as_str), Some("b"));
        let composed =
            seen(r#"{"Id":"ID","Config":{"Labels":{"com.docker.compose.service":"cart"}}}"#, "shop/web:1");
        assert_eq!((composed.name.as_str(), composed.learned_group().as_str()), (ID, "nv.cart"));
    }

    #[test]
    fn a_container_of_a_pod_is_told_by_its_name_and_not_by_its_labels() {
        let json = format!(
            r#"{{"Id":"ID","Name":"/k8s_web_web-7d9c5b8f6-x2x5z_shop_uid_0",
            "HostConfig":{{"NetworkMode":"container:{OTHER}"}}}}"#
        );
        let member = seen(&json, "web:1");
        assert_eq!((member.name.as_str(), member.learned_group().as_str()), ("web", "nv.web.shop"));
        assert_eq!(member.pod_sandbox.as_ref().map(AsRef::as_ref), Some(OTHER));
        let sandbox = seen(r#"{"Id":"ID","Name":"/k8s_POD_web-7d9c5b8f6-x2x5z_shop_uid_0"}"#, "pause:3");
        assert!(sandbox.is_sandbox && sandbox.pod_sandbox.is_none(), "{sandbox:?}");
        assert_eq!(sandbox.learned_group().as_str(), "nv.web.shop");
        let fake = seen(
            r#"{"Id":"ID","Name":"/x","Config":{"Labels":{"io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.docker.type":"container"}}}"#,
            "evil:1",
        );
        assert_eq!((fake.learned_group().as_str(), fake.pod_name.as_str()), ("nv.evil", ""));
    }

    #[test]
    fn the_service_is_the_same_before_and_after_the_daemon_describes_a_container() {
        for (name, image) in [("cart", "shop/web:1"), ("k8s_web_web-7d9c5b8f6-x2x5z_shop_uid_0", "web:1")] {
            let host = Host {
                node: "n1".parse().unwrap(),
                host_name: "node-1".into(),
                proc_root: "/nowhere".into(),
                cgroup_root: None,
            };
            let named = Named::new(ID.into(), name, image.into(), BTreeMap::new()).unwrap();
            let before = of_name(&host, named).unwrap();
            let after = seen(&format!(r#"{{"Id":"ID","Name":"/{name}"}}"#), image);
            assert_eq!(before.learned_group(), after.learned_group(), "{name}");
            assert_eq!((before.id, before.name), (after.id, after.name));
        }
    }

    #[test]
    fn a_container_in_the_network_of_another_has_none_of_its_own() {
        let json = format!(r#"{{"Id":"ID","Name":"/x","HostConfig":{{"NetworkMode":"container:{OTHER}"}}}}"#);
        let sharing = seen(&json, "web:1");
        assert_eq!(sharing.pod_sandbox.as_ref().map(AsRef::as_ref), Some(OTHER));
        assert!(sharing.pod_name.is_empty() && !sharing.host_network);
        assert!(seen(r#"{"Id":"ID","HostConfig":{"NetworkMode":"host"}}"#, "web:1").host_network);
    }

    #[test]
    fn one_that_ended_tells_how_and_one_that_never_ran_has_not_ended() {
        let ended = seen(
            r#"{"Id":"ID","State":{"Running":false,"ExitCode":137,"FinishedAt":"2026-11-25T22:17:33Z"}}"#,
            "web:1",
        );
        assert_eq!((ended.running, ended.exit_code, ended.finished.seconds()), (false, 137, 1_795_645_053));
        let created = seen(r#"{"Id":"ID","State":{"Status":"created"}}"#, "web:1");
        assert!(!created.running && created.finished == Default::default());
    }
}
