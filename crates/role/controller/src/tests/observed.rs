//! From what nodes see to inventory, learning and logs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nv_model::application::ApplicationId;
use nv_model::behaviour::{Behaviour, BehaviourObservation};
use nv_model::mode::{Baseline, Mode};
use nv_model::observation::Observation;
use nv_model::port::Protocol;
use nv_model::record::{Level, Record, Topic};
use nv_model::threat::{Severity, ThreatObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_telemetry::ManualClock;

use super::sim::{Disk, Running, Sim, connected, joined, now, ran, workload};

#[tokio::test]
async fn a_new_service_gets_a_learned_group_with_the_modes_of_new_services() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    running.until("nv.web.shop", |view| view.state.groups.contains_key("nv.web.shop")).await;
    let view = running.controller.view();
    let modes = view.state.groups["nv.web.shop"].modes.unwrap();
    assert_eq!(
        (modes.network, modes.profile, modes.baseline),
        (Mode::Discover, Mode::Discover, Baseline::Basic)
    );
    assert_eq!(view.members()["nv.web.shop"], ["w1".parse().unwrap()]);
    sim.until("the workload", |policy| policy.workloads.len() == 1).await;
    assert_eq!(sim.workload("w1").unwrap().group.as_str(), "nv.web.shop");
    assert_eq!(running.records(Topic::Activity).await[0].common().name, "Container.Start");
}

#[tokio::test]
async fn the_life_of_a_container_is_told_in_the_activity_log() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let mut sim = Sim::open(&running, &credential, Disk::new("n1", vec![])).await.unwrap();
    let mut life = workload("n1", "w1", "web", 1);
    sim.tell(Observation::Workload(Box::new(life.clone()))).await;
    life.secured = now();
    sim.tell(Observation::Workload(Box::new(life.clone()))).await;
    (life.running, life.finished) = (false, now());
    sim.tell(Observation::Workload(Box::new(life.clone()))).await;
    sim.tell(Observation::WorkloadGone { id: life.id.clone(), at: now() }).await;
    let names: Vec<String> =
        running.logged(Topic::Activity, 4).await.iter().map(|record| record.common().name.clone()).collect();
    assert_eq!(names, ["Container.Start", "Container.Secured", "Container.Stop", "Container.Remove"]);
    running.until("the removal", |view| view.removed.contains_key(&life.id)).await;
    assert!(running.controller.view().workload(&life.id).is_some());
}

#[tokio::test]
async fn what_runs_in_discover_is_learned_within_a_second_and_reaches_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    let begin = Instant::now();
    sim.tell(ran("w1", "nv.web.shop", "/usr/sbin/nginx", Verdict::Learn)).await;
    let group: nv_model::name::GroupName = "nv.web.shop".parse().unwrap();
    sim.until("the program", |policy| {
        policy.profiles.get(&group).is_some_and(|profile| !profile.rules.is_empty())
    })
    .await;
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let profile = &running.controller.view().state.profiles[&group];
    assert_eq!(profile.rules.len(), 1);
    assert_eq!(profile.rules[0].path.to_string(), "/usr/sbin/nginx");
}

#[tokio::test]
async fn connections_in_discover_become_one_rule_between_their_groups() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    for port in [5432, 5433, 5432] {
        sim.disk.see(connected(("w1", "10.1.0.1"), ("w2", "10.1.0.2"), port, Verdict::Learn));
    }
    sim.disk.see(connected(("w1", "10.1.0.1"), ("", "1.2.3.4"), 443, Verdict::Learn));
    sim.send().await;
    sim.until("both rules", |policy| policy.rules.len() == 2).await;
    let view = running.controller.view();
    let rules: Vec<_> = view
        .state
        .rules
        .iter()
        .map(|rule| (rule.from.to_string(), rule.to.to_string(), rule.ports.to_string()))
        .collect();
    assert!(
        rules.contains(&("nv.web.shop".into(), "nv.db.shop".into(), "tcp/5432-5433".into())),
        "{rules:?}"
    );
    assert!(rules.contains(&("nv.web.shop".into(), "external".into(), "tcp/443".into())), "{rules:?}");
    assert_eq!(running.controller.graph().len(), 2);
}

#[tokio::test]
async fn an_incident_is_in_the_log_within_a_second_with_all_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    let begin = Instant::now();
    sim.tell(ran("w1", "nv.web.shop", "/tmp/evil", Verdict::Deny)).await;
    let records = running.logged(Topic::Incident, 1).await;
    assert!(begin.elapsed() < Duration::from_secs(10));
    let Record::Incident(incident) = &records[0] else { panic!() };
    assert_eq!(incident.common.name, "Process.Profile.Violation");
    assert_eq!((incident.common.level, incident.action.as_str()), (Level::Critical, "deny"));
    assert_eq!((incident.workload_id.as_str(), incident.workload_name.as_str()), ("w1", "web-pod"));
    assert_eq!((incident.workload_domain.as_str(), incident.group.as_str()), ("shop", "nv.web.shop"));
    assert_eq!((incident.proc_path.as_str(), incident.proc_parent_name.as_str()), ("/tmp/evil", "sh"));
    assert_eq!((incident.mechanism.as_str(), incident.decision_nanos), ("tracepoint_kill", Some(1500)));
    assert_eq!(
        incident.message,
        "Stopped a program: /tmp/evil; the profile of nv.web.shop does not allow it"
    );
    assert_eq!(
        (incident.common.host_name.as_str(), incident.common.cluster_name.as_str()),
        ("host-n1", "test")
    );

    sim.tell(ran("", "nodes", "/tmp/evil", Verdict::Violate)).await;
    let Record::Incident(incident) = running.logged(Topic::Incident, 2).await.remove(1) else { panic!() };
    assert_eq!(
        (incident.common.name.as_str(), incident.common.level),
        ("Host.Process.Violation", Level::Warning)
    );
}

#[tokio::test]
async fn a_violation_names_both_ends_and_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.disk.see(connected(("w1", "10.1.0.1"), ("", "10.1.0.2"), 22, Verdict::Deny));
    sim.disk.see(connected(("w1", "10.1.0.1"), ("", "1.2.3.4"), 80, Verdict::Violate));
    sim.send().await;
    sim.drain().await;
    let records = running.logged(Topic::Violation, 2).await;
    let Record::Violation(inside) = &records[0] else { panic!() };
    assert_eq!((inside.client_id.as_str(), inside.server_id.as_str()), ("w1", "w2"));
    assert_eq!(
        (inside.client_service.as_str(), inside.server_service.as_str()),
        ("nv.web.shop", "nv.db.shop")
    );
    assert_eq!((inside.policy_action.as_str(), inside.common.level), ("deny", Level::Critical));
    assert_eq!((inside.server_port, inside.ip_proto, inside.sessions), (22, 6, 1));
    assert_eq!((inside.mechanism.as_str(), inside.proc_path.as_str()), ("traffic_control", "/usr/bin/wget"));
    assert_eq!(inside.common.name, "");
    let Record::Violation(outside) = &records[1] else { panic!() };
    assert_eq!((outside.server_id.as_str(), outside.server_name.as_str()), ("external", "external"));
    assert_eq!((outside.common.level, outside.server_ip.as_str()), (Level::Warning, "1.2.3.4"));
}

#[tokio::test]
async fn repeats_are_folded_and_told_at_the_latest_when_the_controller_stops() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    for _ in 0..5 {
        sim.disk.see(ran("w1", "nv.web.shop", "/tmp/evil", Verdict::Deny));
    }
    sim.send().await;
    sim.drain().await;
    assert_eq!(running.records(Topic::Incident).await.len(), 1);
    running.stop().await;
    let running = Running::start(folder.path()).await;
    let records = running.records(Topic::Incident).await;
    let Record::Incident(folded) = &records[1] else { panic!() };
    assert_eq!((records.len(), folded.count), (2, Some(4)));
    assert!(folded.aggregation_from.is_some());
}

#[tokio::test]
async fn repeats_of_a_minute_are_told_when_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now()));
    let running = Running::start_at(folder.path(), clock.clone()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    for _ in 0..3 {
        sim.disk.see(connected(("w1", "10.1.0.1"), ("w2", "10.1.0.2"), 22, Verdict::Violate));
    }
    // The server's end tells of the same connections.
    let mut other = connected(("w1", "10.1.0.1"), ("w2", "10.1.0.2"), 22, Verdict::Violate);
    if let Observation::Connection(seen) = &mut other {
        seen.ingress = true;
    }
    sim.tell(other).await;
    assert_eq!(running.records(Topic::Violation).await.len(), 1);
    clock.advance(Duration::from_secs(61));
    let records = running.logged(Topic::Violation, 2).await;
    let Record::Violation(folded) = &records[1] else { panic!() };
    assert_eq!((records.len(), folded.sessions), (2, 2));
}

#[tokio::test]
async fn a_learned_group_that_nothing_runs_in_goes_after_the_configured_hours_with_its_rules() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now()));
    let running = Running::start_at(folder.path(), clock.clone()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.tell(connected(("w1", "10.1.0.1"), ("w2", "10.1.0.2"), 5432, Verdict::Learn)).await;
    running.until("the rule", |view| view.state.rules.len() == 1).await;
    sim.tell(Observation::WorkloadGone { id: "w1".parse().unwrap(), at: now() }).await;
    let hour = Duration::from_secs(3600);
    for _ in 0..2 {
        clock.advance(hour * 23);
        // Housekeeping looks once a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert!(running.controller.view().state.groups.contains_key("nv.web.shop"));
    clock.advance(hour * 2);
    running.until("the removal", |view| !view.state.groups.contains_key("nv.web.shop")).await;
    let view = running.controller.view();
    assert!(view.state.groups.contains_key("nv.db.shop") && view.state.rules.is_empty());
    let events = running.records(Topic::Event).await;
    assert!(events.iter().any(|record| record.common().name == "Group.Auto.Remove"));
}

#[tokio::test]
async fn a_workload_that_is_missing_at_hello_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let sim = Sim::open(&running, &credential, disk).await.unwrap();
    running.until("both", |view| view.state.workloads.len() == 2).await;
    let mut disk = sim.disk.clone();
    disk.workloads.remove(1);
    drop(sim);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    running.until("one", |view| view.state.workloads.len() == 1).await;
    sim.until("one workload", |policy| policy.workloads.len() == 1).await;
    assert_ne!(now(), Timestamp::NEVER);
}

#[tokio::test]
async fn suspicious_behaviour_is_an_incident_of_the_contract_with_its_attack_technique() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    let cases = [
        (
            "w1",
            Behaviour::RemoteShell,
            Verdict::Learn,
            "Container.Suspicious.Process",
            Level::Warning,
            "T1059.004",
        ),
        (
            "w1",
            Behaviour::NetworkTool,
            Verdict::Deny,
            "Container.Suspicious.Process",
            Level::Critical,
            "T1095",
        ),
        ("", Behaviour::Tunnel, Verdict::Allow, "Host.Tunnel.Detected", Level::Warning, "T1572"),
        ("", Behaviour::Escalation, Verdict::Violate, "Host.Privilege.Escalation", Level::Critical, "T1068"),
    ];
    for (workload, behaviour, verdict, ..) in cases {
        let group = if workload.is_empty() { "nodes" } else { "nv.web.shop" };
        let Observation::Process(process) = ran(workload, group, "/bin/sh", verdict) else {
            panic!("no process");
        };
        let seen = BehaviourObservation { behaviour, message: "it did".into(), process: *process };
        // The same again is counted with the first.
        for _ in 0..2 {
            sim.tell(Observation::Behaviour(Box::new(seen.clone()))).await;
        }
    }
    let records = running.logged(Topic::Incident, cases.len()).await;
    assert_eq!(records.len(), cases.len(), "{records:?}");
    for (record, (_, behaviour, verdict, name, level, attack)) in records.iter().zip(cases) {
        let Record::Incident(record) = record else { panic!("{record:?}") };
        assert_eq!((record.common.name.as_str(), record.common.level), (name, level));
        assert_eq!((record.behaviour.as_str(), record.mitre_attack.as_str()), (behaviour.as_str(), attack));
        let stopped = verdict == Verdict::Deny;
        assert_eq!(record.action, if stopped { "deny" } else { "violate" });
        assert_eq!(record.message, if stopped { "Stopped: it did" } else { "Reported: it did" });
        assert_eq!((record.proc_path.as_str(), record.proc_parent_path.as_str()), ("/bin/sh", "/bin/sh"));
    }
}

#[tokio::test]
async fn an_attack_is_a_threat_of_the_contract_with_its_packet_and_repeats_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    let Observation::Connection(connection) =
        connected(("", "192.0.2.7"), ("w1", "10.0.0.1"), 80, Verdict::Allow)
    else {
        panic!("no connection");
    };
    let seen = ThreatObservation {
        sensed: None,
        mechanism: None,
        threat: 2022,
        name: "SQL.Injection".into(),
        severity: Severity::Critical,
        client: connection.client,
        server: connection.server,
        ingress: true,
        protocol: Protocol::Tcp,
        client_port: 40_000,
        server_port: 80,
        application: Some(ApplicationId(1001)),
        by_client: true,
        verdict: Verdict::Violate,
        packet: b"GET /?q=' OR 1=1".to_vec(),
        packet_bytes: 16,
        count: 1,
        at: now(),
    };
    for _ in 0..3 {
        sim.tell(Observation::Threat(Box::new(seen.clone()))).await;
    }
    let records = running.logged(Topic::Threat, 1).await;
    let [Record::Threat(record)] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.common.name.as_str(), record.threat_id), ("SQL.Injection", 2022));
    assert_eq!((record.severity.as_str(), record.common.level), ("Critical", Level::Critical));
    assert_eq!((record.action.as_str(), record.target.as_str(), record.monitor), ("alert", "server", true));
    assert_eq!((record.server_workload_id.as_str(), record.application.as_str()), ("w1", "HTTP"));
    assert_eq!(
        (record.client_ip.as_str(), record.client_port, record.server_port),
        ("192.0.2.7", 40_000, 80)
    );
    assert_eq!((record.packet.as_str(), record.cap_len), ("R0VUIC8/cT0nIE9SIDE9MQ==", Some(16)));
}
