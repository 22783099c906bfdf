//! A node that joins the controller and reports, as an enforcer does.

use std::time::Duration;

use nv_model::name::WorkloadId;
use nv_model::node::{Capabilities, Node};
use nv_model::observation::{ConnectionObservation, Observation, Peer, ProcessObservation, Sequence};
use nv_model::policy::{IdentityId, NodePolicy, PolicyDelta, Revision};
use nv_model::port::Protocol;
use nv_model::question::{
    Answer, AnswerError, CaptureEntry, CaptureQuestion, MeterEntry, MeterKind, ProcessEntry, Question,
    SessionEntry, WatchedFile,
};
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::verdict::{Mechanism, Verdict};
use nv_model::vitals::Vitals;
use nv_model::workload::{InterfaceAddress, PlatformRole, Workload};
use nv_pki::{SigningRequest, connect, tls, token};
use nv_role_controller::Controller;
use nv_telemetry::{Clock as _, SystemClock};
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::enforcer_service_client::EnforcerServiceClient;
use nv_wire::enforcer::v1::from_enforcer::Message as From;
use nv_wire::enforcer::v1::to_enforcer::Message as To;
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// A container in a namespace; `last` makes its address.
pub(crate) fn workload(id: &str, service: &str, domain: &str, last: u8) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        name: id.into(),
        node: "n1".parse().unwrap(),
        host_name: "host-n1".into(),
        service: service.parse().unwrap(),
        domain: Some(domain.parse().unwrap()),
        pod_name: String::new(),
        pod_sandbox: None,
        is_sandbox: false,
        image: format!("registry/{service}:1"),
        image_id: String::new(),
        labels: [("app".to_owned(), service.to_owned())].into(),
        role: PlatformRole::None,
        pid: 100,
        cgroup: format!("/kubepods/{id}"),
        cgroup_id: u64::from(last),
        network_namespace: u64::from(last),
        host_network: false,
        interfaces: vec![InterfaceAddress {
            interface: "eth0".into(),
            address: format!("10.1.0.{last}/24").parse().unwrap(),
            gateway: None,
        }],
        ports: vec![],
        privileged: false,
        run_as_root: true,
        memory_limit: 1 << 20,
        cpus: String::new(),
        service_account: String::new(),
        runtime: "containerd".into(),
        created: now(),
        started: now(),
        finished: Timestamp::NEVER,
        secured: Timestamp::NEVER,
        running: true,
        exit_code: 0,
    }
}

/// A program that was run in a container.
pub(crate) fn ran(workload: &str, group: &str, path: &str, verdict: Verdict) -> Observation {
    Observation::Process(Box::new(ProcessObservation {
        workload: Some(workload.parse().unwrap()),
        group: group.parse().unwrap(),
        rule_group: group.parse().unwrap(),
        rule_uuid: String::new(),
        pid: 4242,
        parent_pid: 1,
        name: path.rsplit('/').next().unwrap().into(),
        path: path.into(),
        command: path.into(),
        real_uid: 0,
        effective_uid: 0,
        user: "root".into(),
        parent_name: "sh".into(),
        parent_path: "/bin/sh".into(),
        drifted: false,
        fileless: false,
        verdict,
        mechanism: (verdict == Verdict::Deny).then_some(Mechanism::TracepointKill),
        decision_nanos: 1500,
        count: 1,
        at: now(),
    }))
}

/// A connection between two ends: id of a container (or empty) and address.
pub(crate) fn connected(
    client: (&str, &str),
    server: (&str, &str),
    port: u16,
    verdict: Verdict,
) -> Observation {
    let peer = |(workload, address): (&str, &str)| Peer {
        workload: (!workload.is_empty()).then(|| workload.parse::<WorkloadId>().unwrap()),
        identity: IdentityId(16),
        address: address.parse().unwrap(),
    };
    Observation::Connection(Box::new(ConnectionObservation {
        client: peer(client),
        server: peer(server),
        ingress: false,
        protocol: Protocol::Tcp,
        port,
        application: None,
        bytes: 1000,
        sessions: 1,
        verdict,
        rule: RuleId::DEFAULT,
        process: "wget".into(),
        process_path: "/usr/bin/wget".into(),
        container: None,
        host: String::new(),
        forwarded: false,
        mechanism: None,
        decision_nanos: 0,
        first: now(),
        last: now(),
    }))
}

/// One connection from `web-1`, seen at both ends.
fn sessions(workload: Option<&WorkloadId>, start: u32, limit: u32) -> Answer {
    let entry = |id: u64, workload: &str| SessionEntry {
        id,
        workload: Some(workload.parse().unwrap()),
        ingress: workload != "web-1",
        protocol: Protocol::Tcp,
        client: "10.0.0.2".parse().unwrap(),
        client_port: 40_000,
        server: "10.0.0.3".parse().unwrap(),
        server_port: 5432,
        forwarded_for: Some("198.51.100.7".parse().unwrap()),
        application: None,
        client_packets: 3,
        client_bytes: 300,
        server_packets: 2,
        server_bytes: 200,
        age: 9,
        idle: 1,
        verdict: Verdict::Allow,
        rule: RuleId(10_001),
    };
    let all = [entry(7, "web-1"), entry(8, "db-1")];
    let asked: Vec<SessionEntry> = all
        .into_iter()
        .filter(|one| workload.is_none() || one.workload.as_ref() == workload)
        .skip(start.try_into().unwrap())
        .take(if limit == 0 { 10 } else { limit.try_into().unwrap() })
        .collect();
    Answer::Sessions { sessions: asked, total: 2 }
}

/// A flood at `web-1`, and what nobody's address has seen.
fn meters(workload: Option<&WorkloadId>) -> Answer {
    let flood = MeterEntry {
        kind: MeterKind::SynFlood,
        workload: Some("web-1".parse().unwrap()),
        peer: None,
        count: 900,
        span_count: 2700,
        span: 5,
        upper: 800,
        lower: 600,
        idle: 0,
        tap: false,
    };
    let pair = MeterEntry {
        kind: MeterKind::IpSrcSessionLimit,
        workload: None,
        peer: Some("10.0.0.2".parse().unwrap()),
        ..flood.clone()
    };
    let all = [flood, pair];
    Answer::Meters(
        all.into_iter().filter(|one| workload.is_none() || one.workload.as_ref() == workload).collect(),
    )
}

/// Captures of `web-1` have the number 0a1b2c3d.
fn captures(about: CaptureQuestion) -> Result<Answer, AnswerError> {
    let capture = |workload: &str, filter: String| CaptureEntry {
        id: "0a1b2c3d".into(),
        workload: Some(workload.parse().unwrap()),
        filter,
        started: Timestamp::from_seconds(10),
        ..CaptureEntry::default()
    };
    match about {
        CaptureQuestion::Start { workload, filter, files: 5, seconds: 0 } => {
            Ok(Answer::Captures(vec![capture(workload.as_str(), filter)]))
        }
        CaptureQuestion::List { .. } => Ok(Answer::Captures(vec![capture("web-1", "tcp".into())])),
        CaptureQuestion::Stop { id } if id == "0a1b2c3d" => {
            Ok(Answer::Captures(vec![capture("web-1", "tcp".into())]))
        }
        _ => Err(AnswerError::UnknownCapture),
    }
}

/// Every container but `db-1`, of which this node knows nothing, has a shell; its history has what the shell ran.
fn answer(question: Option<Question>) -> Result<Answer, AnswerError> {
    match question {
        Some(Question::Sessions { workload, start, limit }) => {
            return Ok(sessions(workload.as_ref(), start, limit));
        }
        Some(Question::Meters { workload }) => return Ok(meters(workload.as_ref())),
        Some(Question::WatchedFiles { workload: Some(workload) }) => {
            let path = "/etc/nginx".to_owned();
            let (names, mask) = (vec!["nginx.conf".to_owned()], 0x1_0002);
            let workload = Some(workload);
            let file = WatchedFile { workload, path, mask, is_dir: true, protect: true, names };
            return Ok(Answer::WatchedFiles(vec![file]));
        }
        Some(Question::ClearSessions { id: Some(8), .. }) => return Ok(Answer::Cleared { count: 1 }),
        _ => {}
    }
    if let Some(Question::Capture(about)) = question {
        return captures(about);
    }
    let (workload, history) = match question {
        Some(Question::Processes { workload: Some(workload), history }) => (workload, history),
        Some(Question::Processes { workload: None, history }) => {
            let named = |name: &str| ProcessEntry { name: name.into(), ..ProcessEntry::default() };
            return Ok(Answer::Processes(if history {
                vec![named("init"), named("cron")]
            } else {
                vec![named("init")]
            }));
        }
        _ => return Err(AnswerError::UnknownQuestion),
    };
    if workload.as_str() == "db-1" {
        return Err(AnswerError::UnknownWorkload);
    }
    let shell = ProcessEntry {
        pid: 100,
        parent: 1,
        process_group: 100,
        session: 100,
        name: "sh".into(),
        path: "/bin/sh".into(),
        command: "sh -c run".into(),
        user: "root".into(),
        state: "Sleeping".into(),
        started: Timestamp::from_seconds(10),
        verdict: Some(Verdict::Allow),
        ..ProcessEntry::default()
    };
    let ended = ProcessEntry {
        pid: 101,
        parent: 100,
        name: "nc".into(),
        path: "/tmp/nc".into(),
        uid: 1000,
        euid: 1000,
        state: String::new(),
        ended: Some(Timestamp::from_seconds(12)),
        exit: Some(9),
        verdict: Some(Verdict::Deny),
        ..shell.clone()
    };
    Ok(Answer::Processes(if history { vec![shell, ended] } else { vec![shell] }))
}

pub(crate) struct Reporter {
    out: mpsc::Sender<proto::FromEnforcer>,
    next: u64,
    acknowledged: tokio::sync::watch::Receiver<u64>,
}

impl Reporter {
    /// Joins as node `n1` with these containers.
    pub(crate) async fn link(controller: &Controller, workloads: Vec<Workload>) -> Self {
        let secret = controller.join_token(None, Duration::from_secs(60)).await.unwrap();
        let config = tls::pinned_client(token::authority(&secret).unwrap()).unwrap();
        let address = controller.address().to_string();
        let channel = connect::channel(&address, config).await.unwrap();
        let request = SigningRequest::generate().unwrap();
        let reply = EnforcerServiceClient::new(channel)
            .join(proto::JoinRequest {
                token: secret.expose_secret().to_owned(),
                node_id: "n1".into(),
                signing_request: request.der().to_vec(),
            })
            .await
            .unwrap()
            .into_inner();
        let credential = request.complete(reply.chain, reply.roots).unwrap();
        let channel = connect::channel(&address, tls::client(&credential).unwrap()).await.unwrap();
        let node = Node {
            id: "n1".parse().unwrap(),
            name: "host-n1".into(),
            runtime: "containerd".into(),
            runtime_version: "2".into(),
            platform: "Kubernetes".into(),
            os: "Debian".into(),
            kernel: "6.1".into(),
            cpus: 2,
            memory: 1 << 33,
            cgroup_version: 2,
            storage_driver: "overlayfs".into(),
            interfaces: vec![],
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            annotations: [].into(),
        };
        let greeting = Greeting {
            version: "1".into(),
            node,
            capabilities: Capabilities::default(),
            started: now(),
            held_revision: Revision(0),
            held_digest: String::new(),
            workloads,
            oldest_sequence: Sequence(1),
            stream_id: "stream".into(),
        };
        let (out, stream) = mpsc::channel(64);
        out.send(message(From::Hello(greeting.into()))).await.unwrap();
        let mut inbound =
            EnforcerServiceClient::new(channel).link(ReceiverStream::new(stream)).await.unwrap().into_inner();
        let (told, acknowledged) = tokio::sync::watch::channel(0);
        let acks = out.clone();
        tokio::spawn(async move {
            let mut policy = NodePolicy::default();
            while let Ok(Some(received)) = inbound.message().await {
                match received.message.unwrap() {
                    To::Welcome(_) => {}
                    To::Ask(ask) => {
                        let (id, question) = nv_wire::asked(ask).unwrap();
                        let answer = Some(answer(question).into());
                        drop(acks.send(message(From::Answer(proto::Answer { id, answer }))).await);
                    }
                    To::BatchAck(ack) => drop(told.send(ack.acknowledged)),
                    To::Policy(raw) => {
                        let delta = PolicyDelta::try_from(raw).unwrap();
                        policy = policy.apply(&delta).unwrap();
                        let ack = proto::PolicyAck {
                            revision: delta.revision.0,
                            error: String::new(),
                            resend_whole: false,
                            digest: policy.digest(),
                            apply_micros: 7,
                        };
                        drop(acks.send(message(From::PolicyAck(ack))).await);
                    }
                }
            }
        });
        Self { out, next: 1, acknowledged }
    }

    /// Gives a sign of life.
    pub(crate) async fn beat(&self, vitals: Vitals) {
        self.out.send(message(From::Heartbeat(nv_wire::heartbeat(now(), vitals)))).await.unwrap();
    }

    /// Tells of one thing and waits until the controller has it.
    pub(crate) async fn tell(&mut self, observation: Observation) {
        let batch = proto::Batch { first_sequence: self.next, observations: vec![observation.into()] };
        self.out.send(message(From::Batch(batch))).await.unwrap();
        let number = self.next;
        self.next += 1;
        tokio::time::timeout(Duration::from_secs(20), self.acknowledged.wait_for(|held| *held >= number))
            .await
            .expect("nothing was acknowledged")
            .unwrap();
    }
}

fn message(message: From) -> proto::FromEnforcer {
    proto::FromEnforcer { message: Some(message) }
}
