//! The platform, as far as what runs shows it: components of Kubernetes by their images' names and tags.

use std::collections::BTreeMap;

use nv_model::workload::Workload;

use crate::view::View;

/// Programs of Kubernetes' own images, the one whose version counts as the platform's first; the Go module that each is
/// built from, and its name in Kubernetes' own advisories or among programs.
const COMPONENTS: [(&str, &str, &str); 7] = [
    ("kube-apiserver", "k8s.io/kubernetes", "k8s.io/apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes", "k8s.io/controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes", "k8s.io/kube-scheduler"),
    ("kube-proxy", "k8s.io/kubernetes", "k8s.io/kube-proxy"),
    ("hyperkube", "k8s.io/kubernetes", "kubernetes"),
    ("etcd", "go.etcd.io/etcd/v3", "etcd"),
    ("coredns", "github.com/coredns/coredns", "coredns"),
];
/// Components of Kubernetes itself, not of what it uses.
const OF_KUBERNETES: &str = "k8s.io/kubernetes";

/// A component of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// The image that it runs of.
    pub image: String,
    /// Its Go module.
    pub module: &'static str,
    /// Its name in Kubernetes' own advisories, or among programs.
    pub program: &'static str,
    /// Its version, with a leading `v`.
    pub version: String,
}

/// What orchestrates the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `Kubernetes`, or what nodes say.
    pub name: String,
    /// Its version, with a leading `v`; empty while none of its own components is seen.
    pub version: String,
    /// What is seen of it, each version of an image once.
    pub components: Vec<Component>,
}

/// A component by the image of a container: `registry.k8s.io/kube-proxy:v1.31.2`, also with a digest behind it.
fn component(image: &str) -> Option<(usize, Component)> {
    let named = image.split('@').next()?;
    let last = named.rsplit('/').next()?;
    let (name, tag) = last.split_once(':')?;
    let place = COMPONENTS.iter().position(|(known, ..)| *known == name)?;
    let (_, module, program) = COMPONENTS.get(place)?;
    // `3.5.16-0`: what stands behind is the image's own number.
    let number = tag.strip_prefix('v').unwrap_or(tag).split(['-', '+']).next()?;
    let parts: Vec<&str> = number.split('.').collect();
    let is_version = parts.len() == 3
        && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    is_version.then(|| {
        (place, Component { image: named.to_owned(), module, program, version: format!("v{number}") })
    })
}

/// The platform; none where no node says that there is one, and no component of Kubernetes runs here.
#[must_use]
pub fn platform_of(view: &View) -> Option<Platform> {
    let running =
        view.state.workloads.values().filter(|workload: &&std::sync::Arc<Workload>| workload.running);
    let mut seen: BTreeMap<(usize, String), Component> = BTreeMap::new();
    for (place, component) in running.filter_map(|workload| component(&workload.image)) {
        seen.entry((place, component.image.clone())).or_insert(component);
    }
    let of_kubernetes = seen.values().find(|component| component.module == OF_KUBERNETES);
    let version = of_kubernetes.map(|component| component.version.clone()).unwrap_or_default();
    let told = view.state.nodes.values().map(|node| node.platform.as_str()).find(|name| !name.is_empty());
    let name = match (told, of_kubernetes) {
        (Some(name), _) => name.to_owned(),
        (None, Some(_)) => "Kubernetes".to_owned(),
        // etcd alone is no platform.
        (None, None) => return None,
    };
    Some(Platform { name, version, components: seen.into_values().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_known_by_its_images_name_and_tag() {
        for (image, want) in [
            ("registry.k8s.io/kube-apiserver:v1.31.2", Some(("k8s.io/kubernetes", "v1.31.2"))),
            ("registry.k8s.io/kube-proxy:v1.31.2@sha256:aa", Some(("k8s.io/kubernetes", "v1.31.2"))),
            ("mirror:5000/kube-scheduler:v1.30.0-eks.1", Some(("k8s.io/kubernetes", "v1.30.0"))),
            ("registry.k8s.io/etcd:3.5.16-0", Some(("go.etcd.io/etcd/v3", "v3.5.16"))),
            ("registry.k8s.io/coredns/coredns:v1.11.3", Some(("github.com/coredns/coredns", "v1.11.3"))),
            ("registry.k8s.io/kube-proxy:latest", None),
            ("registry.k8s.io/kube-proxy", None),
            ("docker.io/shop/web:v1.2.3", None),
        ] {
            let found = component(image).map(|(_, found)| (found.module, found.version));
            assert_eq!(found.as_ref().map(|(module, version)| (*module, version.as_str())), want, "{image}");
        }
    }
}
