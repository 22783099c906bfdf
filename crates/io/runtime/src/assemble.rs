//! Puts a [`Workload`] together from what a runtime, a specification and `/proc` say.

use std::collections::BTreeMap;
use std::path::Path;

use nv_model::name::{NameError, WorkloadId};
use nv_model::time::Timestamp;
use nv_model::workload::{PlatformRole, Workload};

use crate::host::inode;
use crate::service::{self, Facts};
use crate::spec::{Network, Traits};
use crate::{Host, addresses, cgroup, process};

/// containerd's namespace of `ctr` and nerdctl, whose containers are known by their bare id.
const DEFAULT_NAMESPACE: &str = "default";
/// Labels that runtimes keep for themselves.
const INTERNAL_LABELS: [&str; 3] = ["io.cri-containerd.", "io.containerd.", "containerd.io/"];
/// Namespace of the platform's own pods.
const PLATFORM_DOMAIN: &str = "kube-system";

/// What CRI runtimes write into a specification, containerd's word first, CRI-O's second.
const KIND: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];
const SANDBOX_ID: [&str; 2] = ["io.kubernetes.cri.sandbox-id", "io.kubernetes.cri-o.SandboxID"];
/// Of these the second is the kubelet's own label, which CRI-O copies into the annotations.
const POD_NAME: [&str; 2] = ["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"];
const POD_NAMESPACE: [&str; 2] = ["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"];
const CONTAINER_NAME: [&str; 2] = ["io.kubernetes.cri.container-name", "io.kubernetes.container.name"];

/// Which pod a container is in, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// The sandbox's id; of the sandbox its own.
    pub(crate) sandbox: String,
    pub(crate) is_sandbox: bool,
    pub(crate) container_name: String,
}

impl PodIdentity {
    /// Reads what a CRI runtime wrote into the specification; `None` for a container without a pod.
    ///
    /// `labels` only fill in what old runtimes leave out. They never make a pod of a container: an image brings
    /// labels of its own, and whoever built it must not choose which service's rules it gets.
    pub(crate) fn read(
        annotations: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
    ) -> Option<Self> {
        let kind = first(annotations, &KIND)?;
        let read =
            |keys: &[&str]| first(annotations, keys).or_else(|| first(labels, keys)).unwrap_or("").to_owned();
        Some(Self {
            name: read(&POD_NAME),
            namespace: read(&POD_NAMESPACE),
            sandbox: first(annotations, &SANDBOX_ID).unwrap_or("").to_owned(),
            is_sandbox: kind == "sandbox",
            container_name: read(&CONTAINER_NAME),
        })
    }
}

fn first<'a>(map: &'a BTreeMap<String, String>, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| map.get(*key)).map(String::as_str).filter(|value| !value.is_empty())
}

/// The first process of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Task {
    /// In the host's numbering; 0 when there is none.
    pub(crate) pid: u32,
    /// It was started and has not ended.
    pub(crate) running: bool,
    pub(crate) exit_code: i32,
    pub(crate) finished: Timestamp,
}

/// Everything that is known of a container.
#[derive(Debug, Default)]
pub(crate) struct Parts<'a> {
    /// containerd's namespace, empty elsewhere.
    pub(crate) namespace: &'a str,
    pub(crate) id: &'a str,
    pub(crate) runtime: &'a str,
    pub(crate) pod: Option<PodIdentity>,
    /// Labels of the container, its image's included.
    pub(crate) labels: BTreeMap<String, String>,
    /// Labels of its pod.
    pub(crate) pod_labels: BTreeMap<String, String>,
    /// Image as the runtime gives it; the specification's word goes before it.
    pub(crate) image: &'a str,
    pub(crate) image_id: String,
    /// Path of its cgroup where that is known already.
    pub(crate) cgroup: Option<&'a str>,
    pub(crate) task: Task,
    pub(crate) created: Timestamp,
}

/// A container's id in the product: the runtime's own, but `<id>@<namespace>` for a freely chosen one outside of
/// containerd's default namespace, as two namespaces may use the same.
pub(crate) fn workload_id(namespace: &str, id: &str) -> Result<WorkloadId, NameError> {
    if namespace.is_empty() || namespace == DEFAULT_NAMESPACE || cgroup::container_id(id).is_some() {
        return id.parse();
    }
    format!("{id}@{namespace}").parse()
}

/// Builds the workload.
///
/// # Errors
/// When the id is none (empty, too long, control characters); everything else may be missing or odd.
pub(crate) fn assemble(host: &Host, traits: Traits<'_>, parts: Parts<'_>) -> Result<Workload, NameError> {
    let id = workload_id(parts.namespace, parts.id)?;
    let in_pod = parts.pod.is_some();
    let pod = parts.pod.unwrap_or_default();
    let mut labels = parts.pod_labels;
    labels.extend(parts.labels);
    labels.retain(|name, _| !INTERNAL_LABELS.iter().any(|prefix| name.starts_with(prefix)));

    let image = if traits.image.is_empty() { parts.image } else { traits.image };
    let name = match (pod.container_name.as_str(), pod.name.as_str()) {
        ("", "") => parts.id,
        ("", pod_name) => pod_name,
        (container_name, _) => container_name,
    };
    let service = service::name(Facts {
        in_pod,
        pod_name: &pod.name,
        host_name: &host.host_name,
        id: &id,
        image,
        labels: &labels,
    });

    let Task { pid, running, exit_code, finished } = parts.task;
    let told = parts.cgroup.map(str::to_owned);
    let seen = || cgroup::of_process(&host.proc_root, pid).ok().flatten().filter(|_| pid != 0);
    let written = || cgroup::from_spec(traits.cgroups_path);
    let cgroup =
        told.or_else(seen).or_else(written).map_or_else(String::new, |path| own_cgroup(&path, parts.id));
    let network_namespace = network_namespace(host, traits.network, pid);
    let host_namespace = host.network_namespace();
    let host_network = match network_namespace {
        0 => traits.network == Network::Host,
        inode => inode == host_namespace,
    };
    let role = role(&labels, &pod.namespace);
    Ok(Workload {
        service,
        domain: pod.namespace.parse().ok(),
        pod_sandbox: pod.sandbox.parse().ok().filter(|_| !pod.is_sandbox),
        is_sandbox: pod.is_sandbox,
        image: image.to_owned(),
        image_id: parts.image_id,
        role,
        pid,
        cgroup_id: if cgroup.is_empty() { 0 } else { host.cgroup_id(&cgroup) },
        cgroup,
        network_namespace,
        host_network,
        // The host's addresses are the node's.
        interfaces: if pid == 0 || host_network {
            Vec::new()
        } else {
            addresses::of_process(&host.proc_root, pid)
        },
        ports: Vec::new(),
        privileged: traits.privileged,
        run_as_root: traits.run_as_root,
        memory_limit: traits.memory_limit,
        cpus: traits.cpus.to_owned(),
        service_account: String::new(),
        runtime: parts.runtime.to_owned(),
        created: parts.created,
        started: if running { process::started(&host.proc_root, pid) } else { Timestamp::NEVER },
        finished,
        secured: Timestamp::NEVER,
        running,
        exit_code,
        name: name.to_owned(),
        pod_name: pod.name,
        node: host.node.clone(),
        host_name: host.host_name.clone(),
        labels,
        id,
    })
}

/// Cuts off what a container made below its own cgroup: its first process may have moved there.
fn own_cgroup(path: &str, id: &str) -> String {
    let mut at = 0_usize;
    for component in path.split('/') {
        at = at.saturating_add(component.len());
        if component == id || cgroup::container_id(component) == Some(id) {
            return path.get(..at).unwrap_or(path).to_owned();
        }
        at = at.saturating_add(1);
    }
    path.to_owned()
}

fn network_namespace(host: &Host, network: Network<'_>, pid: u32) -> u64 {
    if pid != 0 {
        return inode(&host.proc_root.join(pid.to_string()).join("ns/net"));
    }
    match network {
        Network::At(path) => match path.strip_prefix("/proc/") {
            Some(rest) => inode(&host.proc_root.join(rest)),
            None => inode(Path::new(path)),
        },
        Network::Own | Network::Host => 0,
    }
}

/// The product's own pods and those of Kubernetes itself are part of the platform.
fn role(labels: &BTreeMap<String, String>, namespace: &str) -> PlatformRole {
    let is_ours = labels.get("app").is_some_and(|app| app.starts_with("neuvector-") && app.ends_with("-pod"));
    if is_ours || namespace == PLATFORM_DOMAIN { PlatformRole::Core } else { PlatformRole::None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;

    const ID: &str = "30096ded6a8042e915108c59e719df59286b04435faccda7a7fbf5a81569bb1f";

    fn host() -> Host {
        Host {
            node: "n1".parse().unwrap(),
            host_name: "node-1".into(),
            proc_root: "/nowhere".into(),
            cgroup_root: None,
        }
    }

    fn text(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn crio() -> Spec {
        Spec::parse(
            br#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.cri-o.SandboxID":"s1",
            "io.kubernetes.cri-o.ImageName":"quay.io/team/web:1","io.kubernetes.container.name":"web",
            "io.kubernetes.pod.name":"web-7d9c5b8f6-x2x5z","io.kubernetes.pod.namespace":"shop"},
            "linux":{"cgroupsPath":"kubepods-pod1.slice:crio:x","namespaces":[{"type":"network"}]}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_container_of_a_pod_is_known_by_its_annotations_whichever_runtime_wrote_them() {
        let spec = crio();
        let pod = PodIdentity::read(&spec.annotations, &BTreeMap::new());
        let workload = assemble(&host(), spec.traits(), Parts { id: ID, pod, ..Parts::default() }).unwrap();
        assert_eq!((workload.name.as_str(), workload.display_name()), ("web", "web-7d9c5b8f6-x2x5z"));
        assert_eq!(workload.learned_group().as_str(), "nv.web.shop");
        assert_eq!(workload.pod_sandbox.as_ref().map(AsRef::as_ref), Some("s1"));
        assert_eq!(workload.image, "quay.io/team/web:1");
        assert_eq!(workload.cgroup, "/kubepods.slice/kubepods-pod1.slice/crio-x.scope");
        assert!(!workload.is_sandbox && !workload.host_network);
    }

    #[test]
    fn labels_of_an_image_do_not_make_a_pod() {
        let labels = text(&[("io.kubernetes.pod.name", "web-0"), ("io.cri-containerd.kind", "container")]);
        assert_eq!(PodIdentity::read(&BTreeMap::new(), &labels), None);
    }

    #[test]
    fn labels_of_pod_and_container_are_one_and_internal_ones_are_left_out() {
        let parts = Parts {
            id: ID,
            labels: text(&[("app", "container's"), ("io.cri-containerd.kind", "container")]),
            pod_labels: text(&[("app", "pod's"), ("tier", "front")]),
            ..Parts::default()
        };
        let workload = assemble(&host(), Traits::default(), parts).unwrap();
        assert_eq!(workload.labels, text(&[("app", "container's"), ("tier", "front")]));
    }

    #[test]
    fn the_product_and_kubernetes_itself_are_part_of_the_platform() {
        for (labels, namespace, want) in [
            (&[("app", "neuvector-enforcer-pod")][..], "neuvector", PlatformRole::Core),
            (&[], "kube-system", PlatformRole::Core),
            (&[("app", "neuvector")], "shop", PlatformRole::None),
        ] {
            assert_eq!(role(&text(labels), namespace), want, "{labels:?} in {namespace}");
        }
    }

    #[test]
    fn freely_chosen_ids_of_different_namespaces_stay_apart() {
        for (namespace, id, want) in
            [("default", "c1", "c1"), ("test", "c1", "c1@test"), ("k8s.io", ID, ID), ("", "c1", "c1")]
        {
            assert_eq!(workload_id(namespace, id).unwrap().as_str(), want);
        }
    }

    #[test]
    fn a_container_that_moved_its_first_process_keeps_its_own_cgroup() {
        for (path, id, want) in [
            (format!("/kubepods/{ID}/init.scope"), ID, format!("/kubepods/{ID}")),
            ("/default/c1/sub".into(), "c1", "/default/c1".into()),
            ("/elsewhere".into(), "c1", "/elsewhere".into()),
        ] {
            assert_eq!(own_cgroup(&path, id), want);
        }
    }
}
