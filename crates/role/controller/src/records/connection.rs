//! Violations of network rules, and attacks: records of a connection, which name both of its ends.

use std::sync::Arc;

use base64::Engine as _;
use nv_model::conversation::EndpointId;
use nv_model::name::{NodeId, WorkloadId};
use nv_model::observation::ConnectionObservation;
use nv_model::record::{Level, Threat, Violation};
use nv_model::threat::{Severity, ThreatObservation};
use nv_model::verdict::{Mechanism, Verdict};
use nv_model::workload::Workload;
use nv_policy::state::{is_live, pod_of};

use super::{Scene, common, domain, level, mechanism};

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
        xff: seen.forwarded,
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
        mechanism: mechanism(seen.mechanism),
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
