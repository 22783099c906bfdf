//! Which service a container is an instance of.
//!
//! The service names the learned group, so it must be the same for all replicas and must be known before the
//! container's first process. What is known then is the pod's name, not its labels; so the name decides, for the
//! lists as well, or a container could change its group a moment after it started. In this order:
//!
//! 1. A pod is named by its owner (Kubernetes' `generateName`):
//!
//! | owner | pod name | service |
//! |---|---|---|
//! | Deployment | `web-7d9c5b8f6-x2x5z` | `web` |
//! | DaemonSet, ReplicaSet, Job | `agent-x2x5z` | `agent` |
//! | CronJob | `backup-28512345-x2x5z` | `backup` |
//! | StatefulSet | `db-0` | `db` |
//! | the node (static pod) | `etcd-<host name>` | `etcd` |
//! | nobody | `shell` | `shell` |
//!
//! 2. Outside of pods: the service that Docker Swarm or Compose put it in, else the repository of its image
//!    (`docker.io/library/nginx:1.27` → `nginx`), as names of such containers are often made up at each start, else
//!    its own id.
//! 3. A pod without a name: its label `app.kubernetes.io/name` or `app`, else the container's id.

use std::collections::BTreeMap;

use nv_model::name::{ServiceName, WorkloadId};

/// What Kubernetes makes its suffixes of (`apimachinery/pkg/util/rand`): no vowels and nothing that looks like one.
const SUFFIX_LETTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
/// Length of the suffix that `generateName` appends.
const SUFFIX_LETTERS_LENGTH: usize = 5;
/// Lengths of a `pod-template-hash`: a 32-bit number, re-coded digit by digit into the letters above.
const HASH_LENGTHS: std::ops::RangeInclusive<usize> = 5..=10;
/// A CronJob names its jobs by the minutes since 1970, which have 8 digits until 2160.
const CRON_DIGITS: usize = 8;
/// Labels of the services of Docker Swarm, Docker Compose and nerdctl.
const COMPOSE_LABELS: [&str; 3] =
    ["com.docker.swarm.service.name", "com.docker.compose.service", "nerdctl/compose-service"];
/// Labels by which pods say what they are.
const APP_LABELS: [&str; 2] = ["app.kubernetes.io/name", "app"];

/// The facts that a service follows from. Empty text stands for "not known".
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The container is (in) a pod.
    pub in_pod: bool,
    /// Name of the pod.
    pub pod_name: &'a str,
    /// Name of the machine.
    pub host_name: &'a str,
    /// The container.
    pub id: &'a WorkloadId,
    /// Image reference.
    pub image: &'a str,
    /// Labels of container and pod.
    pub labels: &'a BTreeMap<String, String>,
}

/// Names the service.
#[must_use]
pub fn name(facts: Facts<'_>) -> ServiceName {
    let label = |names: &[&str]| names.iter().find_map(|name| facts.labels.get(*name)).map(String::as_str);
    let candidates = if facts.in_pod {
        [Some(of_pod(facts.pod_name, facts.host_name)), label(&APP_LABELS)]
    } else {
        [label(&COMPOSE_LABELS), Some(repository(facts.image))]
    };
    let named = candidates.into_iter().flatten().find_map(|candidate| clean(candidate).parse().ok());
    named.unwrap_or_else(|| facts.id.into())
}

/// Text that a service name takes: no control characters, not too long.
fn clean(text: &str) -> String {
    let mut clean: String = text.chars().filter(|letter| !letter.is_control()).collect();
    while clean.len() > ServiceName::MAX_BYTES {
        clean.pop();
    }
    clean
}

/// The owner of a pod, from the pod's name.
fn of_pod<'a>(pod_name: &'a str, host_name: &str) -> &'a str {
    let before = |name: &'a str, accept: &dyn Fn(&str) -> bool| {
        let (owner, last) = name.rsplit_once('-')?;
        (!owner.is_empty() && accept(last)).then_some(owner)
    };
    if let Some(owner) = pod_name.strip_suffix(host_name).and_then(|rest| rest.strip_suffix('-'))
        && !host_name.is_empty()
        && !owner.is_empty()
    {
        return owner;
    }
    let is_suffix = |last: &str| last.len() == SUFFIX_LETTERS_LENGTH && is_made_of_suffix_letters(last);
    if let Some(owner) = before(pod_name, &is_suffix) {
        let is_hash = |last: &str| HASH_LENGTHS.contains(&last.len()) && is_made_of_suffix_letters(last);
        let is_minutes =
            |last: &str| last.len() >= CRON_DIGITS && last.bytes().all(|digit| digit.is_ascii_digit());
        return before(owner, &is_minutes).or_else(|| before(owner, &is_hash)).unwrap_or(owner);
    }
    let is_ordinal =
        |last: &str| (1..=6).contains(&last.len()) && last.bytes().all(|digit| digit.is_ascii_digit());
    before(pod_name, &is_ordinal).unwrap_or(pod_name)
}

fn is_made_of_suffix_letters(text: &str) -> bool {
    text.chars().all(|letter| SUFFIX_LETTERS.contains(letter))
}

/// Last part of an image's name without tag and digest.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default();
    let last = name.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(in_pod: bool, pod_name: &str, id: &str, image: &str, labels: &[(&str, &str)]) -> String {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let id = id.parse().unwrap();
        name(Facts { in_pod, pod_name, host_name: "node-1", id: &id, image, labels: &labels }).into()
    }

    #[test]
    fn a_pod_belongs_to_the_owner_that_its_name_tells() {
        for (pod, want) in [
            ("web-7d9c5b8f6-x2x5z", "web"),
            ("my-shop-web-5f4d8c6b7c-9zxwv", "my-shop-web"),
            ("agent-x2x5z", "agent"),
            ("backup-28512345-x2x5z", "backup"),
            ("db-0", "db"),
            ("db-12", "db"),
            ("etcd-node-1", "etcd"),
            ("kube-apiserver-node-1", "kube-apiserver"),
            ("shell", "shell"),
            ("node-1", "node"),
            ("kube-proxy", "kube-proxy"),
            ("nginx-deployment", "nginx-deployment"),
            ("x2x5z", "x2x5z"),
            ("-0", "-0"),
        ] {
            assert_eq!(of(true, pod, "c", "docker.io/library/img:1", &[("app", "other")]), want, "{pod}");
        }
    }

    #[test]
    fn a_container_outside_of_pods_belongs_to_its_compose_service_or_its_image() {
        for (image, labels, want) in [
            ("docker.io/library/nginx:1.27", &[][..], "nginx"),
            ("localhost:5000/team/api@sha256:0123", &[], "api"),
            ("", &[], "c1"),
            ("docker.io/library/nginx:1.27", &[("com.docker.compose.service", "front")], "front"),
            ("docker.io/library/nginx:1.27", &[("app", "other")], "nginx"),
        ] {
            assert_eq!(of(false, "", "c1", image, labels), want, "{image} {labels:?}");
        }
    }

    #[test]
    fn a_pod_without_a_name_is_told_by_its_labels() {
        assert_eq!(of(true, "", "c1", "img", &[("app", "web")]), "web");
        assert_eq!(of(true, "", "c1", "img", &[]), "c1");
    }

    proptest! {
        #[test]
        fn naming_is_total(pod in ".{0,300}", image in ".{0,300}", in_pod: bool) {
            let service = of(in_pod, &pod, "c", &image, &[]);
            prop_assert!(!service.is_empty() && service.len() <= ServiceName::MAX_BYTES);
        }

        #[test]
        fn all_replicas_of_a_deployment_are_one_service(
            owner in "[a-z]{3,8}(-[aeiou]{3}){0,2}", hash in "[bcdfghjklmnpqrstvwxz2456789]{8,10}",
            one in "[bcdfghjklmnpqrstvwxz2456789]{5}", two in "[bcdfghjklmnpqrstvwxz2456789]{5}"
        ) {
            // A hash of digits only reads as the minutes of a CronJob, with the same outcome.
            let (one, two) = (format!("{owner}-{hash}-{one}"), format!("{owner}-{hash}-{two}"));
            prop_assert_eq!(of(true, &one, "c", "i", &[]), owner.clone());
            prop_assert_eq!(of(true, &two, "c", "i", &[]), owner);
        }
    }
}
