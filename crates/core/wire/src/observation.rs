//! What a node saw.

use nv_model::application::ApplicationId;
use nv_model::behaviour::{Behaviour, BehaviourObservation};
use nv_model::node::Usage;
use nv_model::observation::{
    ConnectionObservation, Ingress, Observation, Peer, ProcessObservation, Sequence,
};
use nv_model::policy::IdentityId;
use nv_model::port::Protocol;
use nv_model::rule::RuleId;
use nv_model::threat::{MAX_PACKET_BYTES, Severity, ThreatObservation};
use nv_model::verdict::Verdict;
use nv_model::vitals::Drops;

use crate::bounds::{MAX_BATCH, MAX_TEXT_BYTES, MAX_WORD_BYTES};
use crate::enforcer::v1 as proto;
use crate::enforcer::v1::observation::Observation as Kind;
use crate::error::WireError;
use crate::inventory::{mechanism, mechanism_word};
use crate::read::{Read, clip, length, number, parse, parse_optional, required, text, time};

const VERDICTS: [Verdict; 5] =
    [Verdict::Open, Verdict::Learn, Verdict::Allow, Verdict::Violate, Verdict::Deny];

pub(crate) fn verdict(path: &str, raw: &str) -> Read<Verdict> {
    VERDICTS
        .into_iter()
        .find(|verdict| verdict.as_str() == raw)
        .ok_or_else(|| WireError::value(path, "is no known verdict"))
}

impl TryFrom<proto::ProcessObservation> for ProcessObservation {
    type Error = WireError;
    fn try_from(raw: proto::ProcessObservation) -> Read<Self> {
        if raw.count == 0 {
            return Err(WireError::range("count", raw.count));
        }
        Ok(Self {
            workload: parse_optional("workload", &raw.workload)?,
            group: parse("group", &raw.group)?,
            rule_group: parse("rule_group", &raw.rule_group)?,
            rule_uuid: text("rule_uuid", raw.rule_uuid, MAX_WORD_BYTES)?,
            pid: raw.pid,
            parent_pid: raw.parent_pid,
            name: text("name", raw.name, MAX_TEXT_BYTES)?,
            path: text("path", raw.path, MAX_TEXT_BYTES)?,
            command: text("command", raw.command, MAX_TEXT_BYTES)?,
            real_uid: raw.real_uid,
            effective_uid: raw.effective_uid,
            user: text("user", raw.user, MAX_WORD_BYTES)?,
            parent_name: text("parent_name", raw.parent_name, MAX_TEXT_BYTES)?,
            parent_path: text("parent_path", raw.parent_path, MAX_TEXT_BYTES)?,
            drifted: raw.drifted,
            fileless: raw.fileless,
            verdict: verdict("verdict", &raw.verdict)?,
            mechanism: mechanism("mechanism", &raw.mechanism)?,
            decision_nanos: raw.decision_nanos,
            count: raw.count,
            at: time(raw.at),
        })
    }
}

impl From<ProcessObservation> for proto::ProcessObservation {
    fn from(model: ProcessObservation) -> Self {
        let free = |raw| clip(raw, MAX_TEXT_BYTES);
        Self {
            workload: model.workload.map(String::from).unwrap_or_default(),
            group: model.group.into(),
            rule_group: model.rule_group.into(),
            rule_uuid: clip(model.rule_uuid, MAX_WORD_BYTES),
            pid: model.pid,
            parent_pid: model.parent_pid,
            name: free(model.name),
            path: free(model.path),
            command: free(model.command),
            real_uid: model.real_uid,
            effective_uid: model.effective_uid,
            user: clip(model.user, MAX_WORD_BYTES),
            parent_name: free(model.parent_name),
            parent_path: free(model.parent_path),
            drifted: model.drifted,
            fileless: model.fileless,
            verdict: model.verdict.as_str().to_owned(),
            mechanism: mechanism_word(model.mechanism),
            decision_nanos: model.decision_nanos,
            count: model.count.max(1),
            at: model.at.nanos(),
        }
    }
}

impl TryFrom<proto::BehaviourObservation> for BehaviourObservation {
    type Error = WireError;
    fn try_from(raw: proto::BehaviourObservation) -> Read<Self> {
        let known = Behaviour::ALL.iter().find(|known| known.as_str() == raw.behaviour);
        let process = required("process", raw.process)?;
        Ok(Self {
            behaviour: *known.ok_or_else(|| WireError::value("behaviour", "is no known behaviour"))?,
            message: text("message", raw.message, MAX_TEXT_BYTES)?,
            process: process.try_into().map_err(|error: WireError| error.under("process"))?,
        })
    }
}

impl From<BehaviourObservation> for proto::BehaviourObservation {
    fn from(model: BehaviourObservation) -> Self {
        Self {
            behaviour: model.behaviour.as_str().to_owned(),
            message: clip(model.message, MAX_TEXT_BYTES),
            process: Some(model.process.into()),
        }
    }
}

impl TryFrom<proto::Peer> for Peer {
    type Error = WireError;
    fn try_from(raw: proto::Peer) -> Read<Self> {
        Ok(Self {
            workload: parse_optional("workload", &raw.workload)?,
            identity: IdentityId(raw.identity),
            address: parse("address", &raw.address)?,
        })
    }
}

impl From<Peer> for proto::Peer {
    fn from(model: Peer) -> Self {
        Self {
            workload: model.workload.map(String::from).unwrap_or_default(),
            identity: model.identity.0,
            address: model.address.to_string(),
        }
    }
}

impl TryFrom<proto::ConnectionObservation> for ConnectionObservation {
    type Error = WireError;
    fn try_from(raw: proto::ConnectionObservation) -> Read<Self> {
        let peer = |path: &str, peer| {
            required(path, peer)
                .and_then(|peer| Peer::try_from(peer).map_err(|error: WireError| error.under(path)))
        };
        Ok(Self {
            client: peer("client", raw.client)?,
            server: peer("server", raw.server)?,
            ingress: raw.ingress,
            protocol: Protocol::from_number(number("protocol", raw.protocol)?),
            port: number("port", raw.port)?,
            application: (raw.application != 0).then_some(ApplicationId(raw.application)),
            bytes: raw.bytes,
            sessions: raw.sessions,
            verdict: verdict("verdict", &raw.verdict)?,
            rule: RuleId(raw.rule),
            process: text("process", raw.process, MAX_TEXT_BYTES)?,
            process_path: text("process_path", raw.process_path, MAX_TEXT_BYTES)?,
            container: parse_optional("container", &raw.container)?,
            host: text("host", raw.host, MAX_WORD_BYTES)?,
            forwarded: raw.forwarded,
            mechanism: mechanism("mechanism", &raw.mechanism)?,
            decision_nanos: raw.decision_nanos,
            first: time(raw.first),
            last: time(raw.last),
        })
    }
}

impl From<ConnectionObservation> for proto::ConnectionObservation {
    fn from(model: ConnectionObservation) -> Self {
        Self {
            client: Some(model.client.into()),
            server: Some(model.server.into()),
            ingress: model.ingress,
            protocol: u32::from(model.protocol.number()),
            port: u32::from(model.port),
            application: model.application.map(|application| application.0).unwrap_or_default(),
            bytes: model.bytes,
            sessions: model.sessions,
            verdict: model.verdict.as_str().to_owned(),
            rule: model.rule.0,
            process: clip(model.process, MAX_TEXT_BYTES),
            process_path: clip(model.process_path, MAX_TEXT_BYTES),
            container: model.container.map(String::from).unwrap_or_default(),
            host: clip(model.host, MAX_WORD_BYTES),
            forwarded: model.forwarded,
            mechanism: mechanism_word(model.mechanism),
            decision_nanos: model.decision_nanos,
            first: model.first.nanos(),
            last: model.last.nanos(),
        }
    }
}

impl TryFrom<proto::ThreatObservation> for ThreatObservation {
    type Error = WireError;
    fn try_from(raw: proto::ThreatObservation) -> Read<Self> {
        let peer = |path: &str, peer| {
            required(path, peer)
                .and_then(|peer| Peer::try_from(peer).map_err(|error: WireError| error.under(path)))
        };
        if raw.count == 0 {
            return Err(WireError::range("count", raw.count));
        }
        length("packet", raw.packet.len(), MAX_PACKET_BYTES)?;
        let severity = Severity::ALL.into_iter().find(|severity| severity.name() == raw.severity);
        Ok(Self {
            threat: raw.threat,
            name: text("name", raw.name, MAX_TEXT_BYTES)?,
            severity: severity.ok_or_else(|| WireError::value("severity", "is no known severity"))?,
            client: peer("client", raw.client)?,
            server: peer("server", raw.server)?,
            ingress: raw.ingress,
            protocol: Protocol::from_number(number("protocol", raw.protocol)?),
            client_port: number("client_port", raw.client_port)?,
            server_port: number("server_port", raw.server_port)?,
            application: (raw.application != 0).then_some(ApplicationId(raw.application)),
            by_client: raw.by_client,
            verdict: verdict("verdict", &raw.verdict)?,
            packet: raw.packet,
            packet_bytes: raw.packet_bytes,
            count: raw.count,
            at: time(raw.at),
            mechanism: mechanism("mechanism", &raw.mechanism)?,
            sensed: raw
                .sensed
                .map(|sensed| sensed.try_into().map(Box::new))
                .transpose()
                .map_err(|error: WireError| error.under("sensed"))?,
        })
    }
}

impl From<ThreatObservation> for proto::ThreatObservation {
    fn from(model: ThreatObservation) -> Self {
        let mut packet = model.packet;
        packet.truncate(MAX_PACKET_BYTES);
        Self {
            threat: model.threat,
            name: clip(model.name, MAX_TEXT_BYTES),
            severity: model.severity.name().to_owned(),
            client: Some(model.client.into()),
            server: Some(model.server.into()),
            ingress: model.ingress,
            protocol: u32::from(model.protocol.number()),
            client_port: u32::from(model.client_port),
            server_port: u32::from(model.server_port),
            application: model.application.map(|application| application.0).unwrap_or_default(),
            by_client: model.by_client,
            verdict: model.verdict.as_str().to_owned(),
            packet,
            packet_bytes: model.packet_bytes,
            count: model.count.max(1),
            at: model.at.nanos(),
            mechanism: mechanism_word(model.mechanism),
            sensed: model.sensed.map(|sensed| (*sensed).into()),
        }
    }
}

impl TryFrom<proto::Observation> for Observation {
    type Error = WireError;
    fn try_from(raw: proto::Observation) -> Read<Self> {
        Ok(match required("observation", raw.observation)? {
            Kind::Workload(raw) => {
                Self::Workload(Box::new(raw.try_into().map_err(|error: WireError| error.under("workload"))?))
            }
            Kind::WorkloadGone(raw) => {
                Self::WorkloadGone { id: parse("workload_gone.id", &raw.id)?, at: time(raw.at) }
            }
            Kind::Process(raw) => {
                Self::Process(Box::new(raw.try_into().map_err(|error: WireError| error.under("process"))?))
            }
            Kind::Behaviour(raw) => Self::Behaviour(Box::new(
                raw.try_into().map_err(|error: WireError| error.under("behaviour"))?,
            )),
            Kind::Connection(raw) => Self::Connection(Box::new(
                raw.try_into().map_err(|error: WireError| error.under("connection"))?,
            )),
            Kind::Threat(raw) => {
                Self::Threat(Box::new(raw.try_into().map_err(|error: WireError| error.under("threat"))?))
            }
            Kind::File(raw) => {
                Self::File(Box::new(raw.try_into().map_err(|error: WireError| error.under("file"))?))
            }
            Kind::Usage(raw) => Self::Usage {
                workload: parse_optional("usage.workload", &raw.workload)?,
                usage: Usage {
                    cpu: raw.cpu,
                    memory: raw.memory,
                    packets_in: raw.packets_in,
                    packets_out: raw.packets_out,
                    bytes_in: raw.bytes_in,
                    bytes_out: raw.bytes_out,
                    sessions_in: raw.sessions_in,
                    sessions_out: raw.sessions_out,
                },
                at: time(raw.at),
            },
            Kind::Ingress(raw) => Self::Ingress {
                workload: parse("ingress.workload", &raw.workload)?,
                ingress: Ingress { sessions: raw.sessions, opened: raw.opened, bytes: raw.bytes },
                at: time(raw.at),
            },
            Kind::Dropped(raw) => Self::Dropped {
                kernel: raw.kernel,
                queue: raw.queue,
                drops: raw.drops.map(Drops::from).unwrap_or_default(),
                shedding: crate::vitals::shedding(raw.shedding),
            },
        })
    }
}

impl From<Observation> for proto::Observation {
    fn from(model: Observation) -> Self {
        let kind = match model {
            Observation::Workload(workload) => Kind::Workload((*workload).into()),
            Observation::WorkloadGone { id, at } => {
                Kind::WorkloadGone(proto::WorkloadGone { id: id.into(), at: at.nanos() })
            }
            Observation::Process(process) => Kind::Process((*process).into()),
            Observation::Behaviour(behaviour) => Kind::Behaviour((*behaviour).into()),
            Observation::File(file) => Kind::File((*file).into()),
            Observation::Threat(threat) => Kind::Threat((*threat).into()),
            Observation::Connection(connection) => Kind::Connection((*connection).into()),
            Observation::Usage { workload, usage, at } => Kind::Usage(proto::UsageObservation {
                workload: workload.map(String::from).unwrap_or_default(),
                cpu: usage.cpu,
                memory: usage.memory,
                packets_in: usage.packets_in,
                packets_out: usage.packets_out,
                bytes_in: usage.bytes_in,
                bytes_out: usage.bytes_out,
                sessions_in: usage.sessions_in,
                sessions_out: usage.sessions_out,
                at: at.nanos(),
            }),
            Observation::Ingress { workload, ingress, at } => Kind::Ingress(proto::IngressObservation {
                workload: workload.into(),
                sessions: ingress.sessions,
                opened: ingress.opened,
                bytes: ingress.bytes,
                at: at.nanos(),
            }),
            Observation::Dropped { kernel, queue, drops, shedding } => Kind::Dropped(proto::Dropped {
                kernel,
                queue,
                drops: Some(drops.into()),
                shedding: crate::vitals::shedding_number(shedding),
            }),
        };
        Self { observation: Some(kind) }
    }
}

/// The observations of a batch with their numbers, from `first_sequence` on.
///
/// # Errors
/// [`WireError`] for more than [`MAX_BATCH`] observations, a first number of 0, numbers beyond 64 bits, or a bad
/// observation (`observations[7].process.verdict`).
pub fn batch(raw: proto::Batch) -> Result<Vec<(Sequence, Observation)>, WireError> {
    length("observations", raw.observations.len(), MAX_BATCH)?;
    if raw.first_sequence == 0 {
        return Err(WireError::range("first_sequence", 0));
    }
    let mut sequence = raw.first_sequence;
    let mut read = Vec::with_capacity(raw.observations.len());
    for (at, observation) in raw.observations.into_iter().enumerate() {
        let observation = Observation::try_from(observation)
            .map_err(|error| error.under(format_args!("observations[{at}]")))?;
        read.push((Sequence(sequence), observation));
        sequence = sequence
            .checked_add(1)
            .ok_or_else(|| WireError::value("first_sequence", "numbers run beyond 64 bits"))?;
    }
    Ok(read)
}
