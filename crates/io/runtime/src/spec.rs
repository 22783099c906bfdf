//! The part of an OCI runtime specification (runtime-spec 1.x, `config.json`) that tells what a container is.
//!
//! It comes from the runtime's own files or API, but what is in it was chosen by whoever made the container: every
//! field may be absent, and nothing in it is a reason to fail.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Longest specification that is read, in bytes; usual ones have 10 to 30 KB.
pub(crate) const SPEC_BYTES: usize = 4 * 1024 * 1024;
/// Annotations in which CRI runtimes name the image, containerd's word first, CRI-O's second.
const IMAGE_NAME: [&str; 2] = ["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub(crate) hostname: String,
    pub(crate) annotations: BTreeMap<String, String>,
    process: Option<Process>,
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Process {
    user: User,
    capabilities: Option<Capabilities>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    uid: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    bounding: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: String,
    namespaces: Vec<Namespace>,
    resources: Option<Resources>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    r#type: String,
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    devices: Vec<Device>,
    memory: Option<Memory>,
    cpu: Option<Cpu>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Device {
    allow: bool,
    r#type: String,
    major: Option<i64>,
    minor: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    limit: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    cpus: String,
}

/// What a container was made with, whoever tells it: a specification or a runtime that keeps none of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traits<'a> {
    /// The image, where this names it.
    pub(crate) image: &'a str,
    /// Where its cgroup will be made, as written.
    pub(crate) cgroups_path: &'a str,
    pub(crate) network: Network<'a>,
    pub(crate) privileged: bool,
    pub(crate) run_as_root: bool,
    /// Memory limit in bytes, 0 for none.
    pub(crate) memory_limit: i64,
    /// CPUs it may use, empty for all.
    pub(crate) cpus: &'a str,
}

/// Which network a container is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Network<'a> {
    /// The host's: it has no network namespace of its own.
    Host,
    /// A new one.
    #[default]
    Own,
    /// The one at this path.
    At(&'a str),
}

impl Spec {
    /// Reads a specification; `None` for what is none.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        if json.len() > SPEC_BYTES {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// All of it that is the same whatever tells it.
    pub(crate) fn traits(&self) -> Traits<'_> {
        let image = IMAGE_NAME.iter().find_map(|key| self.annotations.get(*key));
        Traits {
            image: image.map_or("", String::as_str),
            cgroups_path: self.cgroups_path(),
            network: self.network(),
            privileged: self.is_privileged(),
            run_as_root: self.runs_as_root(),
            memory_limit: self.memory_limit(),
            cpus: self.cpus(),
        }
    }

    /// Its first process runs as user 0.
    pub(crate) fn runs_as_root(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.user.uid == 0)
    }

    /// It may do all that the host's root may: every device and CAP_SYS_ADMIN. Runtimes have a word for that
    /// (`privileged`), but not in the specification.
    pub(crate) fn is_privileged(&self) -> bool {
        let capabilities = self.process.as_ref().and_then(|process| process.capabilities.as_ref());
        let is_admin =
            capabilities.is_some_and(|sets| sets.bounding.iter().any(|name| name == "CAP_SYS_ADMIN"));
        let every = |device: &Device| {
            let any_type = matches!(device.r#type.as_str(), "" | "a");
            let any_number = |number: Option<i64>| number.is_none_or(|number| number < 0);
            device.allow && any_type && any_number(device.major) && any_number(device.minor)
        };
        is_admin && self.resources().is_some_and(|resources| resources.devices.iter().any(every))
    }

    /// Memory limit in bytes, 0 for none.
    pub(crate) fn memory_limit(&self) -> i64 {
        let memory = self.resources().and_then(|resources| resources.memory.as_ref());
        memory.and_then(|memory| memory.limit).unwrap_or(0).max(0)
    }

    /// CPUs it may use, empty for all.
    pub(crate) fn cpus(&self) -> &str {
        self.resources().and_then(|resources| resources.cpu.as_ref()).map_or("", |cpu| &cpu.cpus)
    }

    /// Where its cgroup will be made, as written.
    pub(crate) fn cgroups_path(&self) -> &str {
        self.linux.as_ref().map_or("", |linux| &linux.cgroups_path)
    }

    pub(crate) fn network(&self) -> Network<'_> {
        let namespaces = self.linux.as_ref().map_or(&[][..], |linux| &linux.namespaces);
        match namespaces.iter().find(|namespace| namespace.r#type == "network") {
            None => Network::Host,
            Some(namespace) if namespace.path.is_empty() => Network::Own,
            Some(namespace) => Network::At(&namespace.path),
        }
    }

    fn resources(&self) -> Option<&Resources> {
        self.linux.as_ref()?.resources.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn privileges_limits_and_network_are_read_from_a_specification() {
        let spec = Spec::parse(
            br#"{"process":{"user":{"uid":0},"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_ADMIN"]}},
            "linux":{"cgroupsPath":"/a/b","namespaces":[{"type":"pid"},{"type":"network","path":"/proc/9/ns/net"}],
            "resources":{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"access":"rwm"}],
            "memory":{"limit":1048576},"cpu":{"shares":2,"cpus":"0-1"}}},"later":{"unknown":[1,2]}}"#,
        )
        .unwrap();
        assert!(spec.runs_as_root() && spec.is_privileged());
        assert_eq!((spec.memory_limit(), spec.cpus(), spec.cgroups_path()), (1_048_576, "0-1", "/a/b"));
        assert_eq!(spec.network(), Network::At("/proc/9/ns/net"));
    }

    #[test]
    fn single_devices_or_single_capabilities_make_nobody_privileged() {
        for (capabilities, devices) in [
            (r#""CAP_SYS_ADMIN""#, r#"{"allow":true,"type":"c","major":1,"minor":3}"#),
            (r#""CAP_CHOWN""#, r#"{"allow":true,"access":"rwm"}"#),
            (r#""CAP_SYS_ADMIN""#, r#"{"allow":false,"access":"rwm"}"#),
        ] {
            let json = format!(
                r#"{{"process":{{"capabilities":{{"bounding":[{capabilities}]}}}},
                "linux":{{"resources":{{"devices":[{devices}]}}}}}}"#
            );
            assert!(!Spec::parse(json.as_bytes()).unwrap().is_privileged(), "{json}");
        }
    }

    #[test]
    fn an_empty_specification_is_one_of_a_container_in_the_hosts_network() {
        let spec = Spec::parse(b"{}").unwrap();
        assert_eq!(spec.network(), Network::Host);
        assert!(!spec.runs_as_root() && !spec.is_privileged());
    }

    proptest! {
        #[test]
        fn reading_is_total(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            Spec::parse(&json);
        }
    }
}
