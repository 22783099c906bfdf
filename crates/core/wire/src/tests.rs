//! What holds for every message: there and back gives the same, and a bad one is refused by name.

use std::collections::BTreeMap;

use nv_model::application::ApplicationId;
use nv_model::behaviour::{Behaviour, BehaviourObservation};
use nv_model::condition::Conditions;
use nv_model::file::{FileBehavior, FileOperation, FileRule};
use nv_model::group::Origin;
use nv_model::mode::{Baseline, Fault, Mode, Modes};
use nv_model::node::{Capabilities, Capability, Node, Usage};
use nv_model::observation::{
    ConnectionObservation, FileObservation, Ingress, Observation, Peer, ProcessObservation,
};
use nv_model::policy::{
    Identity, IdentityId, IdentityKind, NodeSettings, PolicyDelta, ResolvedRule, Revision, WorkloadPolicy,
};
use nv_model::port::{PortRange, Ports, Protocol};
use nv_model::profile::{EffectiveProfile, PathPattern, ProcessRule};
use nv_model::question::{Answer, AnswerError, ProcessEntry, Question, SessionEntry};
use nv_model::rule::RuleId;
use nv_model::rule_set::RuleSetBlob;
use nv_model::scan::BlobId;
use nv_model::sensor::{
    PatternContext, RuleSetUse, Sensor, SensorGroup, SensorKind, SensorPattern, SensorRule,
};
use nv_model::threat::{Sensed, Severity, ThreatObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::{Action, Mechanism, Verdict};
use nv_model::vitals::{Drops, Shedding, Vitals};
use nv_model::workload::{InterfaceAddress, ListeningPort, PlatformRole, Workload};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;

use crate::bounds::{MAX_BATCH, MAX_TEXT_BYTES};
use crate::enforcer::v1 as proto;
use crate::error::{Problem, WireError};

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9./ü-]{0,20}"
}
fn group() -> impl Strategy<Value = nv_model::name::GroupName> {
    "nv\\.[a-z]{1,8}(\\.[a-z]{1,8})?".prop_map(|raw| raw.parse().unwrap())
}
fn id<T: std::str::FromStr<Err = nv_model::name::NameError> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-f0-9]{1,64}".prop_map(|raw| raw.parse().unwrap())
}
fn at() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_nanos)
}
fn ip() -> impl Strategy<Value = std::net::IpAddr> {
    any::<std::net::IpAddr>()
}
fn net() -> impl Strategy<Value = ipnet::IpNet> {
    (ip(), 0_u8..=32).prop_map(|(ip, bits)| ipnet::IpNet::new(ip, bits).unwrap())
}
fn protocol() -> impl Strategy<Value = Protocol> {
    select(Protocol::ALL.to_vec())
}
fn mode() -> impl Strategy<Value = Mode> {
    select(vec![Mode::Discover, Mode::Monitor, Mode::Protect])
}
fn origin() -> impl Strategy<Value = Origin> {
    select(vec![Origin::Learned, Origin::UserCreated, Origin::Ground, Origin::Federal, Origin::SystemDefined])
}
fn fault() -> impl Strategy<Value = Fault> {
    select(vec![Fault::Open, Fault::Closed])
}
fn baseline() -> impl Strategy<Value = Baseline> {
    select(vec![Baseline::Basic, Baseline::ZeroDrift])
}
fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Allow, Action::Deny])
}
fn mechanism() -> impl Strategy<Value = Mechanism> {
    select(vec![
        Mechanism::BpfLsm,
        Mechanism::TracepointKill,
        Mechanism::TrafficControl,
        Mechanism::Detour,
        Mechanism::Nfqueue,
    ])
}
fn verdict() -> impl Strategy<Value = Verdict> {
    select(vec![Verdict::Open, Verdict::Learn, Verdict::Allow, Verdict::Violate, Verdict::Deny])
}
fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(word(), word(), 0..4)
}

prop_compose! {
    fn interface()(interface in word(), address in net(), gateway in option::of(ip())) -> InterfaceAddress {
        InterfaceAddress { interface, address, gateway }
    }
}
prop_compose! {
    fn listening()(protocol in protocol(), port in any::<u16>(), host_ip in option::of(ip()), host_port in any::<u16>()) -> ListeningPort {
        ListeningPort { protocol, port, host_ip, host_port }
    }
}
prop_compose! {
    fn node()(id in id(), texts in vec(word(), 7), cpus in any::<u32>(), memory in any::<i64>(), cgroup_version in 0_u8..3,
              interfaces in vec(interface(), 0..3), labels in labels(), annotations in labels()) -> Node {
        Node { id, name: texts[0].clone(), runtime: texts[1].clone(), runtime_version: texts[2].clone(), platform: texts[3].clone(),
               os: texts[4].clone(), kernel: texts[5].clone(), storage_driver: texts[6].clone(), cpus, memory, cgroup_version, interfaces, labels, annotations }
    }
}
prop_compose! {
    fn capabilities()(kernel in word(), tier in 0_u8..5, process in option::of(mechanism()), network in option::of(mechanism()), file in option::of(mechanism()),
                      trials in vec((mechanism(), any::<bool>(), word(), any::<u64>()), 0..4), lost in vec(word(), 0..3)) -> Capabilities {
        let trials = trials.into_iter().map(|(mechanism, works, reason, trial_micros)| Capability { mechanism, works, reason, trial_micros }).collect();
        Capabilities { kernel, tier, process, network, file, trials, lost }
    }
}
prop_compose! {
    fn workload()(ids in (id(), id(), option::of(id())), service in id(), domain in option::of(id()), texts in vec(word(), 9), flags in vec(any::<bool>(), 5),
                  labels in labels(), role in select(vec![PlatformRole::None, PlatformRole::Core, PlatformRole::Addon]),
                  numbers in (any::<u32>(), any::<u64>(), any::<u64>(), any::<i64>(), any::<i32>()),
                  interfaces in vec(interface(), 0..3), ports in vec(listening(), 0..3), times in vec(at(), 4)) -> Workload {
        Workload {
            id: ids.0, name: texts[0].clone(), node: ids.1, host_name: texts[1].clone(), service, domain, pod_name: texts[2].clone(),
            pod_sandbox: ids.2, is_sandbox: flags[0], image: texts[3].clone(), image_id: texts[4].clone(), labels, role,
            pid: numbers.0, cgroup: texts[5].clone(), cgroup_id: numbers.1, network_namespace: numbers.2, host_network: flags[1],
            interfaces, ports, privileged: flags[2], run_as_root: flags[3], memory_limit: numbers.3, cpus: texts[6].clone(),
            service_account: texts[7].clone(), runtime: texts[8].clone(), created: times[0], started: times[1], finished: times[2],
            secured: times[3], running: flags[4], exit_code: numbers.4,
        }
    }
}
prop_compose! {
    fn process()(workload in option::of(id()), groups in (group(), group()), texts in vec(word(), 7), numbers in vec(any::<u32>(), 4), flags in (any::<bool>(), any::<bool>()),
                 verdict in verdict(), mechanism in option::of(mechanism()), decision_nanos in any::<u64>(), count in 1_u32.., at in at()) -> Observation {
        Observation::Process(Box::new(ProcessObservation {
            workload, group: groups.0, rule_group: groups.1, rule_uuid: texts[0].clone(), pid: numbers[0], parent_pid: numbers[1],
            name: texts[1].clone(), path: texts[2].clone(), command: texts[3].clone(), real_uid: numbers[2], effective_uid: numbers[3],
            user: texts[4].clone(), parent_name: texts[5].clone(), parent_path: texts[6].clone(), drifted: flags.0, fileless: flags.1,
            verdict, mechanism, decision_nanos, count, at,
        }))
    }
}
fn behaviour() -> impl Strategy<Value = Observation> {
    (select(Behaviour::ALL.to_vec()), word(), process()).prop_map(|(behaviour, message, process)| {
        let Observation::Process(process) = process else { panic!("no process") };
        Observation::Behaviour(Box::new(BehaviourObservation { behaviour, message, process: *process }))
    })
}
prop_compose! {
    fn file_rule()(group in group(), filter in select(vec!["/etc/shadow", "/home/*/.ssh/*"]), recursive in any::<bool>(), behavior in select(vec![FileBehavior::MonitorChange, FileBehavior::BlockAccess]),
                   applications in vec(word(), 0..3), created in at(), modified in at()) -> (nv_model::name::GroupName, FileRule) {
        (group, FileRule { filter: filter.parse().unwrap(), recursive, behavior, applications, origin: Origin::Learned, created, modified })
    }
}
prop_compose! {
    fn file()(workload in option::of(id()), rule in file_rule(), group in group(), operation in select(FileOperation::ALL.to_vec()), texts in vec(word(), 7), numbers in vec(any::<u32>(), 3),
              verdict in verdict(), mechanism in option::of(mechanism()), decision_nanos in any::<u64>(), count in 1_u32.., at in at()) -> Observation {
        Observation::File(Box::new(FileObservation {
            workload, group, rule_group: rule.0, filter: rule.1.filter, behavior: rule.1.behavior, path: texts[0].clone(), operation, pid: numbers[0], process: texts[1].clone(),
            process_path: texts[2].clone(), command: texts[3].clone(), real_uid: numbers[1], effective_uid: numbers[2], user: texts[4].clone(),
            parent_name: texts[5].clone(), parent_path: texts[6].clone(), verdict, mechanism, decision_nanos, count, at,
        }))
    }
}
prop_compose! {
    fn peer()(workload in option::of(id()), identity in any::<u32>(), address in ip()) -> Peer {
        Peer { workload, identity: IdentityId(identity), address }
    }
}
prop_compose! {
    fn connection()(client in peer(), server in peer(), flags in any::<[bool; 2]>(), protocol in protocol(), port in any::<u16>(), application in option::of(1_u32..),
                    bytes in any::<u64>(), sessions in any::<u32>(), verdict in verdict(), rule in any::<u32>(), texts in (word(), word(), word()), container in option::of(id()), by in (option::of(mechanism()), any::<u64>()), times in (at(), at())) -> Observation {
        Observation::Connection(Box::new(ConnectionObservation {
            client, server, ingress: flags[0], forwarded: flags[1], protocol, port, application: application.map(ApplicationId), bytes, sessions, verdict, rule: RuleId(rule),
            process: texts.0, process_path: texts.1, container, host: texts.2, mechanism: by.0, decision_nanos: by.1, first: times.0, last: times.1,
        }))
    }
}
prop_compose! {
    fn threat()(client in peer(), server in peer(), flags in any::<[bool; 2]>(), protocol in protocol(), ports in any::<[u16; 2]>(), application in option::of(1_u32..),
                name in word(), severity in select(Severity::ALL.to_vec()), threat in any::<u32>(), verdict in verdict(), packet in vec(any::<u8>(), 0..200), last in (any::<u32>(), 1_u32.., at(), option::of((sensor(), group(), word())), option::of(mechanism()))) -> Observation {
        let (packet_bytes, count, at, sensed, mechanism) = last;
        let sensed = sensed.map(|(sensor, group, word)| Sensed { kind: sensor.kind, rule: sensor.name.clone(), sensor: sensor.name, group, message: word.clone(), variable: word.clone() });
        Observation::Threat(Box::new(ThreatObservation {
            threat, name, severity, client, server, ingress: flags[0], protocol, client_port: ports[0], server_port: ports[1], application: application.map(ApplicationId),
            by_client: flags[1], verdict, packet, packet_bytes, count, at, sensed: sensed.map(Box::new), mechanism,
        }))
    }
}
fn shedding() -> impl Strategy<Value = Shedding> {
    select(Shedding::ALL.to_vec())
}
prop_compose! {
    fn drops()(all in any::<[u64; 6]>()) -> Drops {
        let [exec, lifecycle, file, connection, behaviour, usage] = all;
        Drops { exec, lifecycle, file, connection, behaviour, usage }
    }
}
fn observation() -> impl Strategy<Value = Observation> {
    prop_oneof![
        workload().prop_map(|workload| Observation::Workload(Box::new(workload))),
        (id(), at()).prop_map(|(id, at)| Observation::WorkloadGone { id, at }),
        process(),
        file(),
        behaviour(),
        connection(),
        threat(),
        (option::of(id()), 0.0_f64..64.0, any::<u64>(), any::<u32>(), at()).prop_map(
            |(workload, cpu, number, sessions, at)| {
                let usage = Usage {
                    cpu,
                    memory: number,
                    packets_in: number,
                    packets_out: 1,
                    bytes_in: 2,
                    bytes_out: number,
                    sessions_in: sessions,
                    sessions_out: 3,
                };
                Observation::Usage { workload, usage, at }
            }
        ),
        (id(), any::<u32>(), any::<u64>(), at()).prop_map(|(workload, number, bytes, at)| {
            Observation::Ingress { workload, ingress: Ingress { sessions: number, opened: 7, bytes }, at }
        }),
        (any::<u64>(), any::<u64>(), drops(), shedding()).prop_map(|(kernel, queue, drops, shedding)| {
            Observation::Dropped { kernel, queue, drops, shedding }
        }),
    ]
}
prop_compose! {
    fn conditions()(arguments in option::of(select(vec!["-m *", "x", "* -e *"])), parent in option::of(select(vec!["/bin/sh", "/usr/*"])), uid in option::of(any::<u32>())) -> Conditions {
        Conditions { arguments: arguments.map(|raw| raw.parse().unwrap()), parent: parent.map(|raw| raw.parse().unwrap()), uid }
    }
}
prop_compose! {
    fn profile()(name in group(), mode in mode(), baseline in baseline(), alert_disabled in any::<bool>(), fault in fault(), files in vec(file_rule(), 0..3),
                 rules in vec((group(), word(), word(), select(vec!["/bin/sh", "*", "/usr/*"]), action(), any::<bool>(), at(), at(), conditions()), 0..4)) -> EffectiveProfile {
        let rules = rules.into_iter().map(|(group, uuid, name, path, action, allow_update, created, modified, conditions)| {
            let path: PathPattern = path.parse().unwrap();
            (group, ProcessRule { uuid, name, path, action, origin: Origin::Learned, allow_update, conditions, created, modified })
        }).collect();
        EffectiveProfile { group: name, mode, baseline, rules, files, alert_disabled, fault }
    }
}
fn ports() -> impl Strategy<Value = Ports> {
    vec((protocol(), any::<u16>(), any::<u16>()), 0..5).prop_map(|ranges| {
        Ports::from_ranges(
            ranges
                .into_iter()
                .map(|(protocol, a, b)| match protocol {
                    Protocol::Icmp | Protocol::Other => PortRange::all(protocol),
                    Protocol::Tcp | Protocol::Udp => PortRange { protocol, low: a.min(b), high: a.max(b) },
                })
                .collect(),
        )
    })
}
prop_compose! {
    fn rule()(id in any::<u32>(), from in vec(any::<u32>(), 0..4), to in vec(any::<u32>(), 0..4), ports in ports(), applications in vec(any::<u32>(), 0..3),
              action in action(), learned in any::<bool>()) -> ResolvedRule {
        let ids = |list: Vec<u32>| list.into_iter().map(IdentityId).collect();
        ResolvedRule { id: RuleId(id), from: ids(from), to: ids(to), ports, applications: applications.into_iter().map(ApplicationId).collect(), action, learned }
    }
}
prop_compose! {
    fn sensor()(name in select(vec!["sensor.creditcard", "a:b"]), dlp in any::<bool>(), origin in origin(), predefined in any::<bool>(), id in any::<u32>(),
                value in word(), absent in any::<bool>(), context in select(PatternContext::ALL.to_vec()), set in option::of(vec(any::<u8>(), 0..4))) -> Sensor {
        let rules = vec![SensorRule { name: name.parse().unwrap(), id, patterns: vec![SensorPattern { value, absent, context }] }];
        Sensor { name: name.parse().unwrap(), kind: if dlp { SensorKind::Dlp } else { SensorKind::Waf }, comment: String::new(), origin, predefined, rules, rule_set: set.map(|bytes| RuleSetUse { blob: BlobId::of(&bytes), rules: 0, refused: 0 }) }
    }
}
prop_compose! {
    fn delta()(plain in plain_delta(), sensors in vec(sensor(), 0..3), gone in vec(sensor(), 0..2), groups in btree_map(group(), (vec((sensor(), action()), 0..3), vec(any::<u32>().prop_map(IdentityId), 0..3)), 0..3),
               sensor_groups_gone in vec(group(), 0..3), sets in vec(vec(any::<u8>(), 0..4), 0..3), sets_gone in vec(any::<u8>(), 0..3)) -> PolicyDelta {
        let groups = groups.into_iter().map(|(name, (settings, members))| {
            let settings = settings.into_iter().map(|(sensor, action)| (sensor.id(), action)).collect();
            (name, SensorGroup { settings, members })
        });
        PolicyDelta {
            sensors: sensors.into_iter().map(|sensor| (sensor.id(), sensor)).collect(), sensors_gone: gone.iter().map(Sensor::id).collect(),
            sensor_groups: groups.collect(), sensor_groups_gone,
            rule_sets: sets.into_iter().map(|bytes| RuleSetBlob::new(bytes).unwrap()).map(|blob| (blob.id(), blob)).collect(),
            rule_sets_gone: sets_gone.into_iter().map(|byte| BlobId::of(&[byte])).collect(), ..plain
        }
    }
}
prop_compose! {
    fn plain_delta()(revisions in (any::<u64>(), any::<u64>()),
               workloads in btree_map(id(), (group(), any::<u32>(), any::<bool>()).prop_map(|(group, identity, quarantined)| WorkloadPolicy { group, identity: IdentityId(identity), quarantined }), 0..3),
               workloads_gone in vec(id(), 0..3), profiles in vec(profile(), 0..3), profiles_gone in vec(group(), 0..3),
               identities in btree_map(any::<u32>().prop_map(IdentityId), (select(vec![IdentityKind::Workload, IdentityKind::Node, IdentityKind::External, IdentityKind::Unmanaged, IdentityKind::Address]), group(), option::of(mode()), vec("[a-z]{1,9}[.]example", 0..3)).prop_map(|(kind, group, mode, names)| Identity { kind, group, mode, names }), 0..3),
               identities_gone in vec(any::<u32>().prop_map(IdentityId), 0..3),
               addresses in btree_map(net(), any::<u32>().prop_map(IdentityId), 0..3), addresses_gone in vec(net(), 0..3),
               rules in vec(rule(), 0..3), rule_order in option::of(vec(any::<u32>().prop_map(RuleId), 0..3)),
               settings in option::of((mode(), mode(), baseline(), fault(), any::<bool>(), any::<bool>(), option::of(any::<u8>())))) -> PolicyDelta {
        PolicyDelta {
            base: Revision(revisions.0), revision: Revision(revisions.1), workloads, workloads_gone,
            profiles: profiles.into_iter().map(|profile| (profile.group.clone(), profile)).collect(), profiles_gone, identities, identities_gone, addresses, addresses_gone, rules, rule_order,
            settings: settings.map(|(network, profile, baseline, fault, strict_group_mode, network_policy_disabled, hops)| NodeSettings { new_service: Modes { network, profile, baseline, fault }, strict_group_mode, network_policy_disabled, forwarded_hops: hops }),
            ..PolicyDelta::default()
        }
    }
}

fn question() -> impl Strategy<Value = Question> {
    prop_oneof![
        (option::of(id()), any::<bool>())
            .prop_map(|(workload, history)| Question::Processes { workload, history }),
        (option::of(id()), any::<u32>(), any::<u32>())
            .prop_map(|(workload, start, limit)| Question::Sessions { workload, start, limit }),
        (option::of(id()), option::of(any::<u64>()))
            .prop_map(|(workload, id)| Question::ClearSessions { workload, id }),
        Just(Question::Counters),
    ]
}
prop_compose! {
    fn process_entry()(pids in any::<[u32; 4]>(), named in any::<bool>(), word in word(), uids in any::<[u32; 2]>(), started in at(), ended in option::of(at()),
                       exit in option::of(any::<u32>()), verdict in option::of(verdict())) -> ProcessEntry {
        let [pid, parent, process_group, session] = pids;
        ProcessEntry {
            pid, parent, process_group, session, name: word.clone(), path: format!("/{word}"), command: word, user: if named { "web".into() } else { String::new() },
            uid: uids[0], euid: uids[1], state: "Running".into(), started, ended, exit, sha256: "ab12".into(), verdict,
        }
    }
}
prop_compose! {
    fn session_entry()(id_ in any::<u64>(), workload in option::of(id()), ingress in any::<bool>(), protocol in protocol(), ends in any::<(std::net::IpAddr, u16, std::net::IpAddr, u16)>(),
                       counts in any::<[u64; 4]>(), seconds in any::<[u32; 2]>(), application in option::of(1_u32..), verdict in verdict(), rule in any::<u32>(), forwarded_for in option::of(any::<std::net::IpAddr>())) -> SessionEntry {
        SessionEntry {
            id: id_, workload, ingress, protocol, client: ends.0, client_port: ends.1, server: ends.2, server_port: ends.3, application: application.map(ApplicationId),
            client_packets: counts[0], client_bytes: counts[1], server_packets: counts[2], server_bytes: counts[3], age: seconds[0], idle: seconds[1], verdict, rule: RuleId(rule), forwarded_for,
        }
    }
}
fn answer() -> impl Strategy<Value = Result<Answer, AnswerError>> {
    prop_oneof![
        vec(process_entry(), 0..4).prop_map(|entries| Ok(Answer::Processes(entries))),
        (vec(session_entry(), 0..4), any::<u32>())
            .prop_map(|(sessions, total)| Ok(Answer::Sessions { sessions, total })),
        any::<u32>().prop_map(|count| Ok(Answer::Cleared { count })),
        btree_map(word(), any::<u64>(), 0..4).prop_map(|counters| Ok(Answer::Counters(counters))),
        Just(Err(AnswerError::UnknownWorkload)),
        Just(Err(AnswerError::UnknownQuestion)),
        word().prop_map(|why| Err(AnswerError::Failed(why))),
    ]
}

/// Over the wire's bytes, so that the generated code takes part.
fn carried<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn an_observation_arrives_as_it_was_sent(sent in observation()) {
        prop_assert_eq!(Observation::try_from(carried(&proto::Observation::from(sent.clone()))).unwrap(), sent);
    }
    #[test]
    fn a_policy_arrives_as_it_was_sent(sent in delta()) {
        prop_assert_eq!(PolicyDelta::try_from(carried(&proto::PolicyDelta::from(sent.clone()))).unwrap(), sent);
    }
    #[test]
    fn a_greeting_arrives_as_it_was_sent(node in node(), capabilities in capabilities(), workloads in vec(workload(), 0..3), started in at(), number in any::<u64>(), text in word()) {
        let sent = crate::Greeting {
            version: text.clone(), node, capabilities, started, held_revision: Revision(number), held_digest: text,
            workloads, oldest_sequence: nv_model::observation::Sequence(number), stream_id: "s".into(),
        };
        prop_assert_eq!(crate::Greeting::try_from(carried(&proto::Hello::from(sent.clone()))).unwrap(), sent);
    }
    #[test]
    fn a_question_and_its_answer_arrive_as_they_were_sent(id in any::<u64>(), question in question(), answer in answer()) {
        let sent = proto::Ask { id, question: Some(question.clone().into()) };
        prop_assert_eq!(crate::asked(carried(&sent)).unwrap(), (id, Some(question)));
        let sent = proto::Answer { id, answer: Some(answer.clone().into()) };
        prop_assert_eq!(crate::answered(carried(&sent)).unwrap(), (id, answer));
    }
    #[test]
    fn a_sign_of_life_arrives_as_it_was_sent(numbers in any::<[u64; 5]>(), drops in drops(), shedding in shedding(), cpu in 0.0_f64..64.0,
                                             log_level in word(), counters in btree_map(word(), any::<u64>(), 0..5)) {
        let [kernel_dropped, queue_dropped, queued, memory, memory_budget] = numbers;
        let sent = Vitals { kernel_dropped, queue_dropped, queued, drops, shedding, cpu, memory, memory_budget, log_level, counters };
        prop_assert_eq!(Vitals::try_from(carried(&crate::heartbeat(Timestamp::NEVER, sent.clone()))).unwrap(), sent);
    }
    #[test]
    fn bytes_of_a_stranger_are_answered_without_panic(bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(proto::FromEnforcer { message: Some(message) }) = proto::FromEnforcer::decode(bytes.as_slice()) {
            match message {
                proto::from_enforcer::Message::Hello(hello) => drop(crate::Greeting::try_from(hello)),
                proto::from_enforcer::Message::Batch(batch) => drop(crate::batch(batch)),
                proto::from_enforcer::Message::Answer(answer) => drop(crate::answered(answer)),
                proto::from_enforcer::Message::Heartbeat(beat) => drop(Vitals::try_from(beat)),
                proto::from_enforcer::Message::PolicyAck(_) => {}
            }
        }
        if let Ok(delta) = proto::PolicyDelta::decode(bytes.as_slice()) {
            drop(PolicyDelta::try_from(delta));
        }
    }
}

#[test]
fn a_question_of_a_later_version_is_told_from_a_bad_one() {
    assert_eq!(crate::asked(proto::Ask { id: 7, question: None }), Ok((7, None)));
    let bad = proto::AskProcesses { workload: "a\nb".into(), history: false };
    let bad = proto::Ask { id: 7, question: Some(proto::ask::Question::Processes(bad)) };
    assert_eq!(crate::asked(bad).unwrap_err().path, "processes.workload");
}

#[test]
fn an_error_names_the_field_by_its_path() {
    let bad = proto::Observation {
        observation: Some(proto::observation::Observation::Process(proto::ProcessObservation {
            count: 1,
            ..Default::default()
        })),
    };
    let refused = crate::batch(proto::Batch { first_sequence: 1, observations: vec![bad] }).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "field observations[0].process.group: group name is 0 bytes long, expected 1 to 256"
    );
}

#[test]
fn too_many_observations_are_refused_before_any_is_read() {
    let observations = vec![proto::Observation::default(); MAX_BATCH + 1];
    let refused = crate::batch(proto::Batch { first_sequence: 1, observations }).unwrap_err();
    let problem = Problem::TooLong { found: MAX_BATCH + 1, max: MAX_BATCH };
    assert_eq!(refused, WireError { path: "observations".into(), problem });
}

#[test]
fn a_command_line_that_is_too_long_is_cut_by_the_sender_and_refused_from_a_stranger() {
    let mut raw = proto::ProcessObservation {
        group: "nv.a".into(),
        rule_group: "nv.a".into(),
        verdict: "learn".into(),
        count: 1,
        command: "ü".repeat(MAX_TEXT_BYTES),
        ..proto::ProcessObservation::default()
    };
    assert_eq!(ProcessObservation::try_from(raw.clone()).unwrap_err().path, "command");
    raw.command.clear();
    let mut model = ProcessObservation::try_from(raw).unwrap();
    model.command = "ü".repeat(MAX_TEXT_BYTES);
    let read = ProcessObservation::try_from(proto::ProcessObservation::from(model)).unwrap();
    assert_eq!(read.command, "ü".repeat(MAX_TEXT_BYTES / 2));
}

#[test]
fn a_join_request_never_prints_its_token() {
    let raw = proto::JoinRequest { token: "s3cret".into(), node_id: "n1".into(), signing_request: vec![1] };
    assert!(!format!("{:?}", crate::JoinRequest::try_from(raw).unwrap()).contains("s3cret"));
}
