//! Nodes, capabilities and workloads.

use nv_model::node::{Capabilities, Capability, Node};
use nv_model::port::Protocol;
use nv_model::verdict::Mechanism;
use nv_model::workload::{InterfaceAddress, ListeningPort, PlatformRole, Workload};

use crate::bounds::{MAX_INTERFACES, MAX_LABELS, MAX_PORTS, MAX_TEXT_BYTES, MAX_TRIALS, MAX_WORD_BYTES};
use crate::enforcer::v1 as proto;
use crate::error::WireError;
use crate::read::{
    Read, clip, clip_labels, clip_list, labels, length, list, number, parse, parse_optional, text, time,
};

const MECHANISMS: [Mechanism; 8] = [
    Mechanism::BpfLsm,
    Mechanism::FmodRet,
    Mechanism::TracepointKill,
    Mechanism::Fanotify,
    Mechanism::UserspaceKill,
    Mechanism::TrafficControl,
    Mechanism::Detour,
    Mechanism::Nfqueue,
];

/// By the word of [`Mechanism::as_str`]; empty for none.
pub(crate) fn mechanism(path: &str, raw: &str) -> Read<Option<Mechanism>> {
    if raw.is_empty() {
        return Ok(None);
    }
    let found = MECHANISMS.into_iter().find(|mechanism| mechanism.as_str() == raw);
    found.map(Some).ok_or_else(|| WireError::value(path, "is no known mechanism"))
}

pub(crate) fn mechanism_word(mechanism: Option<Mechanism>) -> String {
    mechanism.map(Mechanism::as_str).unwrap_or_default().to_owned()
}

fn protocol(path: &str, raw: u32) -> Read<Protocol> {
    Ok(Protocol::from_number(number(path, raw)?))
}

impl TryFrom<proto::InterfaceAddress> for InterfaceAddress {
    type Error = WireError;
    fn try_from(raw: proto::InterfaceAddress) -> Read<Self> {
        Ok(Self {
            interface: text("interface", raw.interface, MAX_WORD_BYTES)?,
            address: parse("address", &raw.address)?,
            gateway: parse_optional("gateway", &raw.gateway)?,
        })
    }
}

impl From<InterfaceAddress> for proto::InterfaceAddress {
    fn from(model: InterfaceAddress) -> Self {
        Self {
            interface: clip(model.interface, MAX_WORD_BYTES),
            address: model.address.to_string(),
            gateway: model.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::ListeningPort> for ListeningPort {
    type Error = WireError;
    fn try_from(raw: proto::ListeningPort) -> Read<Self> {
        Ok(Self {
            protocol: protocol("protocol", raw.protocol)?,
            port: number("port", raw.port)?,
            host_ip: parse_optional("host_ip", &raw.host_ip)?,
            host_port: number("host_port", raw.host_port)?,
        })
    }
}

impl From<ListeningPort> for proto::ListeningPort {
    fn from(model: ListeningPort) -> Self {
        Self {
            protocol: u32::from(model.protocol.number()),
            port: u32::from(model.port),
            host_ip: model.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: u32::from(model.host_port),
        }
    }
}

impl TryFrom<proto::Node> for Node {
    type Error = WireError;
    fn try_from(raw: proto::Node) -> Read<Self> {
        Ok(Self {
            id: parse("id", &raw.id)?,
            name: text("name", raw.name, MAX_WORD_BYTES)?,
            runtime: text("runtime", raw.runtime, MAX_WORD_BYTES)?,
            runtime_version: text("runtime_version", raw.runtime_version, MAX_WORD_BYTES)?,
            platform: text("platform", raw.platform, MAX_WORD_BYTES)?,
            os: text("os", raw.os, MAX_WORD_BYTES)?,
            kernel: text("kernel", raw.kernel, MAX_WORD_BYTES)?,
            cpus: raw.cpus,
            memory: raw.memory,
            cgroup_version: number("cgroup_version", raw.cgroup_version)?,
            storage_driver: text("storage_driver", raw.storage_driver, MAX_WORD_BYTES)?,
            interfaces: list("interfaces", raw.interfaces, MAX_INTERFACES)?,
            labels: labels("labels", raw.labels)?,
            annotations: labels("annotations", raw.annotations)?,
        })
    }
}

impl From<Node> for proto::Node {
    fn from(model: Node) -> Self {
        let word = |raw| clip(raw, MAX_WORD_BYTES);
        Self {
            id: model.id.into(),
            name: word(model.name),
            runtime: word(model.runtime),
            runtime_version: word(model.runtime_version),
            platform: word(model.platform),
            os: word(model.os),
            kernel: word(model.kernel),
            cpus: model.cpus,
            memory: model.memory,
            cgroup_version: u32::from(model.cgroup_version),
            storage_driver: word(model.storage_driver),
            interfaces: clip_list(model.interfaces, MAX_INTERFACES),
            labels: clip_labels(model.labels),
            annotations: clip_labels(model.annotations),
        }
    }
}

impl TryFrom<proto::Trial> for Capability {
    type Error = WireError;
    fn try_from(raw: proto::Trial) -> Read<Self> {
        Ok(Self {
            mechanism: mechanism("mechanism", &raw.mechanism)?
                .ok_or_else(|| WireError::missing("mechanism"))?,
            works: raw.works,
            reason: text("reason", raw.reason, MAX_TEXT_BYTES)?,
            trial_micros: raw.trial_micros,
        })
    }
}

impl From<Capability> for proto::Trial {
    fn from(model: Capability) -> Self {
        Self {
            mechanism: model.mechanism.as_str().to_owned(),
            works: model.works,
            reason: clip(model.reason, MAX_TEXT_BYTES),
            trial_micros: model.trial_micros,
        }
    }
}

impl TryFrom<proto::Capabilities> for Capabilities {
    type Error = WireError;
    fn try_from(raw: proto::Capabilities) -> Read<Self> {
        length("lost", raw.lost.len(), MAX_TRIALS)?;
        Ok(Self {
            kernel: text("kernel", raw.kernel, MAX_WORD_BYTES)?,
            tier: number("tier", raw.tier)?,
            process: mechanism("process", &raw.process)?,
            network: mechanism("network", &raw.network)?,
            file: mechanism("file", &raw.file)?,
            trials: list("trials", raw.trials, MAX_TRIALS)?,
            lost: raw
                .lost
                .into_iter()
                .enumerate()
                .map(|(at, lost)| text(&format!("lost[{at}]"), lost, MAX_TEXT_BYTES))
                .collect::<Read<_>>()?,
        })
    }
}

impl From<Capabilities> for proto::Capabilities {
    fn from(model: Capabilities) -> Self {
        Self {
            kernel: clip(model.kernel, MAX_WORD_BYTES),
            tier: u32::from(model.tier),
            process: mechanism_word(model.process),
            network: mechanism_word(model.network),
            file: mechanism_word(model.file),
            trials: clip_list(model.trials, MAX_TRIALS),
            lost: model.lost.into_iter().take(MAX_TRIALS).map(|lost| clip(lost, MAX_TEXT_BYTES)).collect(),
        }
    }
}

impl TryFrom<proto::Workload> for Workload {
    type Error = WireError;
    fn try_from(raw: proto::Workload) -> Read<Self> {
        let role = match raw.role.as_str() {
            "" => PlatformRole::None,
            "core" => PlatformRole::Core,
            "addon" => PlatformRole::Addon,
            _ => return Err(WireError::value("role", "is not empty, core or addon")),
        };
        length("labels", raw.labels.len(), MAX_LABELS)?;
        Ok(Self {
            id: parse("id", &raw.id)?,
            name: text("name", raw.name, MAX_TEXT_BYTES)?,
            node: parse("node", &raw.node)?,
            host_name: text("host_name", raw.host_name, MAX_WORD_BYTES)?,
            service: parse("service", &raw.service)?,
            domain: parse_optional("domain", &raw.domain)?,
            pod_name: text("pod_name", raw.pod_name, MAX_TEXT_BYTES)?,
            pod_sandbox: parse_optional("pod_sandbox", &raw.pod_sandbox)?,
            is_sandbox: raw.is_sandbox,
            image: text("image", raw.image, MAX_TEXT_BYTES)?,
            image_id: text("image_id", raw.image_id, MAX_TEXT_BYTES)?,
            labels: labels("labels", raw.labels)?,
            role,
            pid: raw.pid,
            cgroup: text("cgroup", raw.cgroup, MAX_TEXT_BYTES)?,
            cgroup_id: raw.cgroup_id,
            network_namespace: raw.network_namespace,
            host_network: raw.host_network,
            interfaces: list("interfaces", raw.interfaces, MAX_INTERFACES)?,
            ports: list("ports", raw.ports, MAX_PORTS)?,
            privileged: raw.privileged,
            run_as_root: raw.run_as_root,
            memory_limit: raw.memory_limit,
            cpus: text("cpus", raw.cpus, MAX_TEXT_BYTES)?,
            service_account: text("service_account", raw.service_account, MAX_TEXT_BYTES)?,
            runtime: text("runtime", raw.runtime, MAX_WORD_BYTES)?,
            created: time(raw.created),
            started: time(raw.started),
            finished: time(raw.finished),
            secured: time(raw.secured),
            running: raw.running,
            exit_code: raw.exit_code,
        })
    }
}

impl From<Workload> for proto::Workload {
    fn from(model: Workload) -> Self {
        let free = |raw| clip(raw, MAX_TEXT_BYTES);
        Self {
            id: model.id.into(),
            name: free(model.name),
            node: model.node.into(),
            host_name: clip(model.host_name, MAX_WORD_BYTES),
            service: model.service.into(),
            domain: model.domain.map(String::from).unwrap_or_default(),
            pod_name: free(model.pod_name),
            pod_sandbox: model.pod_sandbox.map(String::from).unwrap_or_default(),
            is_sandbox: model.is_sandbox,
            image: free(model.image),
            image_id: free(model.image_id),
            labels: clip_labels(model.labels),
            role: model.role.as_str().to_owned(),
            pid: model.pid,
            cgroup: free(model.cgroup),
            cgroup_id: model.cgroup_id,
            network_namespace: model.network_namespace,
            host_network: model.host_network,
            interfaces: clip_list(model.interfaces, MAX_INTERFACES),
            ports: clip_list(model.ports, MAX_PORTS),
            privileged: model.privileged,
            run_as_root: model.run_as_root,
            memory_limit: model.memory_limit,
            cpus: free(model.cpus),
            service_account: free(model.service_account),
            runtime: clip(model.runtime, MAX_WORD_BYTES),
            created: model.created.nanos(),
            started: model.started.nanos(),
            finished: model.finished.nanos(),
            secured: model.secured.nanos(),
            running: model.running,
            exit_code: model.exit_code,
        }
    }
}
