//! From what nodes saw to what the logs say: names, levels and sentences of the contract.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use nv_model::behaviour::{Behaviour, BehaviourKind, BehaviourObservation};
use nv_model::conversation::EndpointId;
use nv_model::name::{NodeId, WorkloadId};
use nv_model::node::Controller;
use nv_model::observation::{ConnectionObservation, FileObservation, NOT_OF_FAMILY, ProcessObservation};
use nv_model::record::{Event, Incident, Level, LogCommon, Record, Threat, Violation};
use nv_model::threat::{Severity, ThreatObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::{Mechanism, Verdict};
use nv_model::workload::Workload;
use nv_policy::file::is_package_database;
use nv_policy::state::{State, is_live, pod_of};

/// What a record is made from: the hub's state as it is now, which the published view follows a little later.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) state: &'a State,
    pub(crate) removed: &'a BTreeMap<WorkloadId, Arc<Workload>>,
    pub(crate) cluster_name: &'a str,
    pub(crate) controller: &'a Controller,
}

impl<'a> Scene<'a> {
    fn workload(&self, id: &WorkloadId) -> Option<&'a Arc<Workload>> {
        self.state.workloads.get(id).or_else(|| self.removed.get(id))
    }
}

/// Rule id of an incident that no rule decided: the program is not in the profile.
pub(crate) const NOT_LISTED: &str = "00000000-0000-0000-0000-000000000001";
/// Rule id of an incident that no rule decided: the program is not from the image.
pub(crate) const NOT_FROM_IMAGE: &str = "00000000-0000-0000-0000-000000000006";

/// Events of a category; the names are the contract's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Category {
    Workload,
    Enforcer,
    Controller,
    Group,
}

impl Category {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "WORKLOAD",
            Self::Enforcer => "ENFORCER",
            Self::Controller => "CONTROLLER",
            Self::Group => "GROUP",
        }
    }
}

/// What every record of a node begins with.
pub(crate) fn common(
    scene: Scene<'_>,
    node: Option<&NodeId>,
    name: &str,
    level: Level,
    at: Timestamp,
) -> LogCommon {
    let host =
        node.and_then(|id| scene.state.nodes.get(id)).map(|node| node.name.clone()).unwrap_or_default();
    let id = node.map(ToString::to_string).unwrap_or_default();
    LogCommon {
        name: name.to_owned(),
        level,
        reported_at: at.rfc3339(),
        reported_timestamp: at.seconds(),
        cluster_name: scene.cluster_name.to_owned(),
        host_id: id.clone(),
        host_name: host.clone(),
        enforcer_id: id,
        enforcer_name: host,
        response_rule_id: None,
    }
}

/// An event of this controller or one of its nodes. Container events go to the activity log.
pub(crate) fn event(
    scene: Scene<'_>,
    category: Category,
    common: LogCommon,
    workload: Option<&Workload>,
    message: String,
) -> Record {
    let mut event = Event {
        common,
        controller_id: scene.controller.id.to_string(),
        controller_name: scene.controller.host_name.clone(),
        category: category.as_str().to_owned(),
        message,
        ..Event::default()
    };
    let Some(workload) = workload else { return Record::Event(Box::new(event)) };
    event.workload_id = workload.id.to_string();
    event.workload_name = workload.display_name().to_owned();
    event.workload_domain = domain(workload);
    event.workload_image.clone_from(&workload.image);
    event.workload_service = workload.learned_group().to_string();
    Record::Activity(Box::new(event))
}

fn domain(workload: &Workload) -> String {
    workload.domain.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Stopped is critical, reported is a warning.
const fn level(verdict: Verdict) -> Level {
    match verdict {
        Verdict::Deny => Level::Critical,
        Verdict::Open | Verdict::Learn | Verdict::Allow | Verdict::Violate => Level::Warning,
    }
}

fn mechanism(mechanism: Option<Mechanism>) -> String {
    mechanism.map(Mechanism::as_str).unwrap_or_default().to_owned()
}

/// What a node told of a process or file against the profile.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Process(Box<ProcessObservation>),
    File(Box<FileObservation>),
    Behaviour(Box<BehaviourObservation>),
}

impl Told {
    pub(crate) fn at(&self) -> Timestamp {
        match self {
            Self::Process(seen) => seen.at,
            Self::File(seen) => seen.at,
            Self::Behaviour(seen) => seen.process.at,
        }
    }
}

/// The incident of what a node told.
pub(crate) fn incident(scene: Scene<'_>, node: &NodeId, id: String, told: &Told) -> Incident {
    match told {
        Told::Process(seen) => process_incident(scene, node, id, seen),
        Told::File(seen) => file_incident(scene, node, id, seen),
        Told::Behaviour(seen) => behaviour_incident(scene, node, id, seen),
    }
}

/// The incident of suspicious behaviour. Privileges that were gained are critical, whether the program was stopped or
/// not.
fn behaviour_incident(scene: Scene<'_>, node: &NodeId, id: String, seen: &BehaviourObservation) -> Incident {
    let kind = seen.behaviour.kind();
    let name = match (seen.process.workload.is_some(), kind) {
        (true, BehaviourKind::Process) => "Container.Suspicious.Process",
        (false, BehaviourKind::Process) => "Host.Suspicious.Process",
        (true, BehaviourKind::Tunnel) => "Container.Tunnel.Detected",
        (false, BehaviourKind::Tunnel) => "Host.Tunnel.Detected",
        (true, BehaviourKind::Escalation) => "Container.Privilege.Escalation",
        (false, BehaviourKind::Escalation) => "Host.Privilege.Escalation",
    };
    let base = process_incident(scene, node, id, &seen.process);
    let stopped = seen.process.verdict == Verdict::Deny;
    let level = if stopped || kind == BehaviourKind::Escalation { Level::Critical } else { Level::Warning };
    let done = if stopped { "Stopped" } else { "Reported" };
    Incident {
        common: LogCommon { name: name.to_owned(), level, ..base.common },
        // Behaviour that passes is reported, whatever the profile said of the program.
        action: if stopped { Verdict::Deny } else { Verdict::Violate }.as_str().to_owned(),
        rule_id: if seen.process.verdict.is_violation() { base.rule_id } else { String::new() },
        message: format!("{done}: {}", seen.message),
        behaviour: seen.behaviour.as_str().to_owned(),
        mitre_attack: seen.behaviour.attack().to_owned(),
        ..base
    }
}

/// What every incident begins with: its id, and the workload it is about.
fn begin(scene: Scene<'_>, id: String, about: Option<&WorkloadId>, common: LogCommon) -> Incident {
    let workload = about.and_then(|id| scene.workload(id)).map(AsRef::as_ref);
    Incident {
        common,
        id,
        workload_id: about.map(ToString::to_string).unwrap_or_default(),
        workload_name: workload.map(|workload| workload.display_name().to_owned()).unwrap_or_default(),
        workload_domain: workload.map(domain).unwrap_or_default(),
        workload_image: workload.map(|workload| workload.image.clone()).unwrap_or_default(),
        workload_service: workload.map(|workload| workload.learned_group().to_string()).unwrap_or_default(),
        ..Incident::default()
    }
}

/// The incident of a file that was opened or changed against its rule, or was kept from it.
fn file_incident(scene: Scene<'_>, node: &NodeId, id: String, seen: &FileObservation) -> Incident {
    let packages = seen.operation.changes() && seen.verdict.passes() && is_package_database(&seen.path);
    let name = match (seen.workload.is_some(), packages) {
        (true, false) => "Container.FileAccess.Violation",
        (false, false) => "Host.FileAccess.Violation",
        (true, true) => "Container.Package.Updated",
        (false, true) => "Host.Package.Updated",
    };
    let by = match (seen.process_path.as_str(), seen.process.as_str()) {
        ("", "") => "a program that is not known",
        ("", name) => name,
        (path, _) => path,
    };
    let done = if seen.verdict == Verdict::Deny { "was kept from being" } else { "was" };
    Incident {
        proc_name: seen.process.clone(),
        proc_path: seen.process_path.clone(),
        proc_cmd: seen.command.clone(),
        proc_real_uid: (seen.pid != 0).then_some(i64::from(seen.real_uid)),
        proc_effective_uid: (seen.pid != 0).then_some(i64::from(seen.effective_uid)),
        proc_real_user: seen.user.clone(),
        proc_parent_name: seen.parent_name.clone(),
        proc_parent_path: seen.parent_path.clone(),
        file_path: seen.filter.to_string(),
        file_name: vec![seen.path.clone()],
        action: seen.verdict.as_str().to_owned(),
        group: seen.rule_group.to_string(),
        count: Some(seen.count),
        message: format!("{} {done} {} by {by}", seen.path, seen.operation.participle()),
        mechanism: mechanism(seen.mechanism),
        decision_nanos: (seen.decision_nanos > 0).then_some(seen.decision_nanos),
        ..begin(
            scene,
            id,
            seen.workload.as_ref(),
            common(scene, Some(node), name, level(seen.verdict), seen.at),
        )
    }
}

/// The incident of a program that ran, or was stopped, against the profile.
fn process_incident(scene: Scene<'_>, node: &NodeId, id: String, seen: &ProcessObservation) -> Incident {
    let on_host = seen.workload.is_none();
    let name = if on_host { "Host.Process.Violation" } else { "Process.Profile.Violation" };
    let rule_id = match (seen.rule_uuid.is_empty(), seen.drifted) {
        (false, _) => seen.rule_uuid.clone(),
        (true, true) => NOT_FROM_IMAGE.to_owned(),
        (true, false) => NOT_LISTED.to_owned(),
    };
    Incident {
        proc_name: seen.name.clone(),
        proc_path: seen.path.clone(),
        proc_cmd: seen.command.clone(),
        proc_real_uid: Some(i64::from(seen.real_uid)),
        proc_effective_uid: Some(i64::from(seen.effective_uid)),
        proc_real_user: seen.user.clone(),
        proc_effective_user: if seen.real_uid == seen.effective_uid {
            seen.user.clone()
        } else {
            String::new()
        },
        proc_parent_name: seen.parent_name.clone(),
        proc_parent_path: seen.parent_path.clone(),
        action: seen.verdict.as_str().to_owned(),
        group: seen.group.to_string(),
        rule_id,
        count: Some(seen.count),
        message: incident_message(seen),
        mechanism: mechanism(seen.mechanism),
        mitre_attack: match (seen.fileless, seen.drifted) {
            (true, _) => Behaviour::Fileless.attack().to_owned(),
            (false, true) => Behaviour::NewExecutable.attack().to_owned(),
            (false, false) => String::new(),
        },
        decision_nanos: (seen.decision_nanos > 0).then_some(seen.decision_nanos),
        ..begin(
            scene,
            id,
            seen.workload.as_ref(),
            common(scene, Some(node), name, level(seen.verdict), seen.at),
        )
    }
}

fn incident_message(seen: &ProcessObservation) -> String {
    let what = match (seen.fileless, seen.drifted) {
        (true, _) => "an executable that exists in memory only",
        (false, true) => "an executable that is not from the image",
        (false, false) => "a program",
    };
    let done = if seen.verdict == Verdict::Deny { "Stopped" } else { "Reported" };
    let why = if seen.rule_uuid == NOT_OF_FAMILY {
        "its process was not started by the container's runtime, nor was one that it descends from".to_owned()
    } else if seen.rule_uuid.is_empty() {
        format!("the profile of {} does not allow it", seen.group)
    } else {
        format!("a rule of {} denies it", seen.rule_group)
    };
    let path = if seen.path.is_empty() { &seen.name } else { &seen.path };
    format!("{done} {what}: {path}; {why}")
}

/// How one end of a connection is named in a record.
struct End {
    id: String,
    name: String,
    domain: String,
    image: String,
    service: String,
}

/// The container that an end is, where a pod is: the one that the node named, that of the program that opened the
/// connection, or the pod's only one.
fn container<'a>(
    scene: Scene<'a>,
    pod: &WorkloadId,
    named: [Option<&WorkloadId>; 2],
) -> Option<&'a Arc<Workload>> {
    let of_pod = |id: &WorkloadId| {
        let found = scene.workload(id)?;
        (pod_of(found) == pod && !found.is_sandbox).then_some(found)
    };
    named.into_iter().flatten().find_map(of_pod).or_else(|| {
        let mut members = scene.state.workloads.values().filter(|one| one.pod_sandbox.as_ref() == Some(pod));
        let only = members.find(|one| is_live(one))?;
        members.all(|other| !is_live(other)).then_some(only)
    })
}

fn end(scene: Scene<'_>, endpoint: &EndpointId, named: [Option<&WorkloadId>; 2]) -> End {
    let plain = |name: String| End {
        id: endpoint.to_string(),
        name,
        domain: String::new(),
        image: String::new(),
        service: String::new(),
    };
    match endpoint {
        EndpointId::Workload(id) => match container(scene, id, named).or_else(|| scene.workload(id)) {
            Some(workload) => End {
                id: workload.id.to_string(),
                name: workload.display_name().to_owned(),
                domain: domain(workload),
                image: workload.image.clone(),
                service: workload.learned_group().to_string(),
            },
            None => plain(id.to_string()),
        },
        EndpointId::Host(node) => {
            let host = scene.state.nodes.get(node).map_or_else(|| node.to_string(), |node| node.name.clone());
            End { service: "nodes".to_owned(), ..plain(host) }
        }
        EndpointId::UnmanagedWorkload(_)
        | EndpointId::UnmanagedHost(_)
        | EndpointId::Address(_)
        | EndpointId::IpService(_)
        | EndpointId::External => plain(endpoint.to_string()),
    }
}

/// The violation of a connection that was reported or dropped.
pub(crate) fn violation(
    scene: Scene<'_>,
    node: &NodeId,
    id: String,
    ends: (&EndpointId, &EndpointId),
    seen: &ConnectionObservation,
) -> Violation {
    let client = end(scene, ends.0, [seen.client.workload.as_ref(), seen.container.as_ref()]);
    let server = end(scene, ends.1, [seen.server.workload.as_ref(), None]);
    Violation {
        common: common(scene, Some(node), "", level(seen.verdict), seen.last.max(seen.first)),
        id,
        client_id: client.id,
        client_name: client.name,
        client_domain: client.domain,
        client_image: client.image,
        client_service: client.service,
        server_id: server.id,
        server_name: server.name,
        server_domain: server.domain,
        server_image: server.image,
        server_service: server.service,
        policy_action: seen.verdict.as_str().to_owned(),
        client_ip: seen.client.address.to_canonical().to_string(),
        server_ip: seen.server.address.to_canonical().to_string(),
        server_port: seen.port,
        fqdn: seen.host.clone(),
        ip_proto: seen.protocol.number(),
        applications: seen.application.and_then(|id| id.name()).map(str::to_owned).into_iter().collect(),
        sessions: seen.sessions.max(1),
        policy_id: seen.rule.0,
        mechanism: if seen.verdict == Verdict::Deny {
            mechanism(seen.mechanism.or(Some(Mechanism::TrafficControl)))
        } else {
            String::new()
        },
        proc_name: seen.process.clone(),
        proc_path: seen.process_path.clone(),
        decision_nanos: (seen.decision_nanos > 0).then_some(seen.decision_nanos),
        ..Violation::default()
    }
}

/// The record of an attack.
pub(crate) fn threat(
    scene: Scene<'_>,
    node: &NodeId,
    id: String,
    ends: (&EndpointId, &EndpointId),
    seen: &ThreatObservation,
) -> Threat {
    let client = end(scene, ends.0, [seen.client.workload.as_ref(), None]);
    let server = end(scene, ends.1, [seen.server.workload.as_ref(), None]);
    let level = match seen.severity {
        Severity::Critical => Level::Critical,
        Severity::High => Level::Error,
        Severity::Medium => Level::Warning,
        Severity::Low => Level::Notice,
        Severity::Info => Level::Info,
    };
    let stopped = seen.verdict == Verdict::Deny;
    let by = if seen.by_client { "the client" } else { "the server" };
    Threat {
        common: common(scene, Some(node), &seen.name, level, seen.at),
        id,
        threat_id: seen.threat,
        client_workload_id: client.id,
        client_workload_name: client.name,
        client_workload_domain: client.domain,
        client_workload_image: client.image,
        client_workload_service: client.service,
        server_workload_id: server.id,
        server_workload_name: server.name,
        server_workload_domain: server.domain,
        server_workload_image: server.image,
        server_workload_service: server.service,
        severity: seen.severity.name().to_owned(),
        action: if stopped { "deny" } else { "alert" }.to_owned(),
        count: seen.count,
        ether_type: if seen.client.address.is_ipv4() { 0x0800 } else { 0x86dd },
        client_port: seen.client_port,
        server_port: seen.server_port,
        server_conn_port: seen.server_port,
        ip_proto: seen.protocol.number(),
        client_ip: seen.client.address.to_canonical().to_string(),
        server_ip: seen.server.address.to_canonical().to_string(),
        application: seen.application.and_then(|id| id.name()).unwrap_or_default().to_owned(),
        // Who it is aimed at.
        target: if seen.by_client { "server" } else { "client" }.to_owned(),
        monitor: !stopped,
        // Nothing else stops an attack.
        mechanism: mechanism(stopped.then_some(Mechanism::Nfqueue)),
        cap_len: u16::try_from(seen.packet.len()).ok().filter(|length| *length > 0),
        packet: base64::engine::general_purpose::STANDARD.encode(&seen.packet),
        message: match &seen.sensed {
            Some(sensed) if sensed.message.is_empty() => {
                format!("rule {} of sensor {} holds for what {by} sent", sensed.rule, sensed.sensor)
            }
            Some(sensed) if sensed.variable.is_empty() => sensed.message.clone(),
            Some(sensed) => format!("{} ({})", sensed.message, sensed.variable),
            None => format!("{} was sent by {by}", seen.name),
        },
        sensor: seen.sensed.as_ref().map(|sensed| sensed.sensor.to_string()).unwrap_or_default(),
        group: seen.sensed.as_ref().map(|sensed| sensed.group.to_string()).unwrap_or_default(),
        ..Threat::default()
    }
}
