//! A controller to talk to, and an enforcer that talks to it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nv_model::name::{NodeId, WorkloadId};
use nv_model::node::{Capabilities, Node};
use nv_model::observation::{ConnectionObservation, Observation, Peer, ProcessObservation, Sequence};
use nv_model::policy::{IdentityId, NodePolicy, PolicyDelta, Revision};
use nv_model::port::Protocol;
use nv_model::question::{Answer, AnswerError, Question};
use nv_model::record::{Record, Topic};
use nv_model::rule::RuleId;
use nv_model::time::Timestamp;
use nv_model::verdict::{Mechanism, Verdict};
use nv_model::workload::{InterfaceAddress, PlatformRole, Workload};
use nv_pki::{Credential, SigningRequest, connect, tls, token};
use nv_store::{EventLog, RedbStore};
use nv_telemetry::{Clock, SystemClock};
use nv_wire::Greeting;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::enforcer_service_client::EnforcerServiceClient;
use nv_wire::enforcer::v1::from_enforcer::Message as From;
use nv_wire::enforcer::v1::to_enforcer::Message as To;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::{Controller, ControllerConfig, Deps, View, start};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// A controller on a runtime of its own, so that it can be killed as a process is.
pub(super) struct Running {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    pub(super) controller: Controller,
}

impl Running {
    pub(super) async fn start(folder: &Path) -> Self {
        Self::start_at(folder, Arc::new(SystemClock::new())).await
    }

    pub(super) async fn start_at(folder: &Path, clock: Arc<dyn Clock>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let (stop, folder) = (shutdown.clone(), folder.to_owned());
        let started = runtime.spawn(async move {
            let store = Arc::new(RedbStore::open(folder.join("store")).unwrap());
            let events = open_log(&folder.join("events"));
            let config = ControllerConfig {
                grpc_bind: "127.0.0.1:0".parse().unwrap(),
                state_dir: folder,
                cluster_name: "test".into(),
                host_name: "host-a".into(),
                database_key: None,
            };
            start(config, Deps { store, events, clock }, stop).await.unwrap()
        });
        let controller = started.await.unwrap();
        Self { runtime: Some(runtime), shutdown, controller }
    }

    /// Ends it in order.
    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        self.controller.stopped().await;
        self.drop_runtime().await;
    }

    /// Ends it in the middle of whatever it does: nothing is written any more.
    pub(super) async fn kill(mut self) {
        self.drop_runtime().await;
    }

    async fn drop_runtime(&mut self) {
        let runtime = self.runtime.take().unwrap();
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }

    pub(super) async fn records(&self, topic: Topic) -> Vec<Record> {
        let read = self.controller.events().read(topic, None, 10_000).await.unwrap();
        let mut records: Vec<Record> = read.into_iter().map(|(_, record)| record).collect();
        records.reverse();
        records
    }

    /// Waits until the view is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&View) -> bool) -> Duration {
        let begin = Instant::now();
        let mut changes = self.controller.view_changes();
        while !wanted(&self.controller.view()) {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            if tokio::time::timeout(left, changes.changed()).await.is_err() {
                panic!("the view never showed {what}: {:?}", self.controller.view());
            }
        }
        begin.elapsed()
    }

    /// Waits until the log has as many records.
    pub(super) async fn logged(&self, topic: Topic, count: usize) -> Vec<Record> {
        let begin = Instant::now();
        loop {
            let records = self.records(topic).await;
            if records.len() >= count {
                return records;
            }
            assert!(begin.elapsed() < PATIENCE, "{count} of {topic:?} wanted, there are {records:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn open_log(folder: &Path) -> EventLog {
    EventLog::open(folder, nv_store::Retention::default()).unwrap()
}

pub(super) fn now() -> Timestamp {
    SystemClock::new().now()
}

pub(super) fn node(id: &str) -> Node {
    Node {
        id: id.parse().unwrap(),
        name: format!("host-{id}"),
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
        labels: Default::default(),
        annotations: Default::default(),
    }
}

pub(super) fn workload(node: &str, id: &str, service: &str, last: u8) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        name: id.into(),
        node: node.parse().unwrap(),
        host_name: format!("host-{node}"),
        service: service.parse().unwrap(),
        domain: Some("shop".parse().unwrap()),
        pod_name: format!("{service}-pod"),
        pod_sandbox: None,
        is_sandbox: false,
        image: format!("registry/{service}:1"),
        image_id: String::new(),
        labels: Default::default(),
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
        memory_limit: 0,
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

pub(super) fn ran(workload: &str, group: &str, path: &str, verdict: Verdict) -> Observation {
    Observation::Process(Box::new(ProcessObservation {
        workload: (!workload.is_empty()).then(|| workload.parse().unwrap()),
        group: group.parse().unwrap(),
        rule_group: group.parse().unwrap(),
        rule_uuid: String::new(),
        pid: 4242,
        parent_pid: 1,
        name: path.rsplit('/').next().unwrap().into(),
        path: path.into(),
        command: format!("{path} --flag"),
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

pub(super) fn connected(
    client: (&str, &str),
    server: (&str, &str),
    port: u16,
    verdict: Verdict,
) -> Observation {
    let peer = |(workload, address): (&str, &str)| Peer {
        workload: (!workload.is_empty()).then(|| workload.parse().unwrap()),
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

/// Gets a certificate with a token.
pub(super) async fn join(
    controller: &Controller,
    token: &SecretString,
    id: &str,
) -> Result<Credential, Status> {
    let config = tls::pinned_client(token::authority(token).unwrap()).unwrap();
    let channel = connect::channel(&controller.address().to_string(), config).await.unwrap();
    let request = SigningRequest::generate().unwrap();
    let reply = EnforcerServiceClient::new(channel)
        .join(proto::JoinRequest {
            token: token.expose_secret().to_owned(),
            node_id: id.into(),
            signing_request: request.der().to_vec(),
        })
        .await?
        .into_inner();
    Ok(request.complete(reply.chain, reply.roots).unwrap())
}

/// A joined node.
pub(super) async fn joined(running: &Running, id: &str) -> Credential {
    let token = running.controller.join_token(None, Duration::from_secs(60)).await.unwrap();
    join(&running.controller, &token, id).await.unwrap()
}

/// What a node keeps over a restart of its enforcer.
#[derive(Clone)]
pub(super) struct Disk {
    pub(super) node: Node,
    pub(super) workloads: Vec<Workload>,
    pub(super) policy: NodePolicy,
    pub(super) stream: String,
    /// Observations that are not acknowledged, with their numbers.
    pub(super) queue: Vec<(u64, Observation)>,
    pub(super) next: u64,
}

impl Disk {
    pub(super) fn new(id: &str, workloads: Vec<Workload>) -> Self {
        Self {
            node: node(id),
            workloads,
            policy: NodePolicy::default(),
            stream: format!("stream-{id}"),
            queue: vec![],
            next: 1,
        }
    }
    pub(super) fn greeting(&self) -> Greeting {
        let held = self.policy.revision != Revision(0);
        Greeting {
            version: "1".into(),
            node: self.node.clone(),
            capabilities: Capabilities::default(),
            started: now(),
            held_revision: self.policy.revision,
            held_digest: if held { self.policy.digest() } else { String::new() },
            workloads: self.workloads.clone(),
            oldest_sequence: Sequence(self.queue.first().map_or(self.next, |(number, _)| *number)),
            stream_id: self.stream.clone(),
        }
    }
    pub(super) fn see(&mut self, observation: Observation) {
        self.queue.push((self.next, observation));
        self.next += 1;
    }
}

/// A linked enforcer.
pub(super) struct Sim {
    out: mpsc::Sender<proto::FromEnforcer>,
    inbound: Streaming<proto::ToEnforcer>,
    pub(super) disk: Disk,
    pub(super) deltas: Vec<PolicyDelta>,
    pub(super) welcome: Option<proto::Welcome>,
    pub(super) acknowledged: u64,
    /// Questions that came, with their numbers.
    pub(super) asked: Vec<(u64, Option<Question>)>,
}

impl Sim {
    pub(super) async fn open(running: &Running, credential: &Credential, disk: Disk) -> Result<Self, Status> {
        let greeting = disk.greeting();
        Self::open_with(running, credential, disk, greeting).await
    }

    pub(super) async fn open_with(
        running: &Running,
        credential: &Credential,
        disk: Disk,
        greeting: Greeting,
    ) -> Result<Self, Status> {
        let config = tls::client(credential).unwrap();
        let channel = connect::channel(&running.controller.address().to_string(), config)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let (out, stream) = mpsc::channel(64);
        out.send(message(From::Hello(greeting.into()))).await.unwrap();
        let inbound =
            EnforcerServiceClient::new(channel).link(ReceiverStream::new(stream)).await?.into_inner();
        let mut sim =
            Self { out, inbound, disk, deltas: vec![], welcome: None, acknowledged: 0, asked: vec![] };
        while sim.welcome.is_none() {
            sim.next().await?;
        }
        let acknowledged = sim.welcome.as_ref().unwrap().acknowledged;
        sim.acknowledge(acknowledged);
        Ok(sim)
    }

    /// Takes one message in, as an enforcer does.
    pub(super) async fn next(&mut self) -> Result<(), Status> {
        let received = tokio::time::timeout(PATIENCE, self.inbound.message()).await.expect("nothing came");
        let Some(received) = received? else { return Err(Status::unavailable("closed")) };
        match received.message.unwrap() {
            To::Welcome(welcome) => self.welcome = Some(welcome),
            To::BatchAck(ack) => self.acknowledge(ack.acknowledged),
            To::Ask(ask) => self.asked.push(nv_wire::asked(ask).unwrap()),
            To::Policy(raw) => {
                let delta = PolicyDelta::try_from(raw).unwrap();
                self.disk.policy = self.disk.policy.apply(&delta).unwrap();
                let ack = proto::PolicyAck {
                    revision: delta.revision.0,
                    error: String::new(),
                    resend_whole: false,
                    digest: self.disk.policy.digest(),
                    apply_micros: 7,
                };
                self.deltas.push(delta);
                // A link that is being closed takes no more; its reason is still to be read.
                drop(self.out.send(message(From::PolicyAck(ack))).await);
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, number: u64) {
        self.acknowledged = self.acknowledged.max(number);
        self.disk.queue.retain(|(held, _)| *held > number);
    }

    /// Sends everything that is not acknowledged.
    pub(super) async fn send(&mut self) {
        let Some((first, _)) = self.disk.queue.first() else { return };
        let batch = proto::Batch {
            first_sequence: *first,
            observations: self.disk.queue.iter().map(|(_, observation)| observation.clone().into()).collect(),
        };
        self.out.send(message(From::Batch(batch))).await.unwrap();
    }

    /// Tells of one thing and waits until it is acknowledged.
    pub(super) async fn tell(&mut self, observation: Observation) {
        self.disk.see(observation);
        self.send().await;
        self.drain().await;
    }

    /// Waits until everything is acknowledged.
    pub(super) async fn drain(&mut self) {
        while !self.disk.queue.is_empty() {
            self.next().await.unwrap();
        }
    }

    /// Waits for the next question.
    pub(super) async fn question(&mut self) -> (u64, Option<Question>) {
        while self.asked.is_empty() {
            self.next().await.unwrap();
        }
        self.asked.remove(0)
    }

    /// Answers a question.
    pub(super) async fn answer(&mut self, id: u64, answer: Result<Answer, AnswerError>) {
        let answer = proto::Answer { id, answer: Some(answer.into()) };
        self.out.send(message(From::Answer(answer))).await.unwrap();
    }

    /// Waits until the node's policy is as wanted.
    pub(super) async fn until(&mut self, what: &str, wanted: impl Fn(&NodePolicy) -> bool) -> Duration {
        let begin = Instant::now();
        while !wanted(&self.disk.policy) {
            assert!(begin.elapsed() < PATIENCE, "the policy never had {what}: {:?}", self.disk.policy);
            self.next().await.unwrap();
        }
        begin.elapsed()
    }

    /// Waits for the end of the link and gives its reason.
    pub(super) async fn closed(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }

    /// Whether no policy comes for a while.
    pub(super) async fn stays_as_it_is(&mut self) -> bool {
        let before = self.disk.policy.clone();
        let waited = tokio::time::timeout(Duration::from_millis(400), async {
            while self.next().await.is_ok() {
                if self.disk.policy != before {
                    return;
                }
            }
        });
        waited.await.is_err()
    }

    pub(super) fn workload(&self, id: &str) -> Option<&nv_model::policy::WorkloadPolicy> {
        self.disk.policy.workloads.get(&id.parse::<WorkloadId>().unwrap())
    }
}

fn message(message: From) -> proto::FromEnforcer {
    proto::FromEnforcer { message: Some(message) }
}

pub(super) fn node_id(id: &str) -> NodeId {
    id.parse().unwrap()
}
