//! Thresholds of groups over what nodes report.

use std::sync::Arc;
use std::time::Duration;

use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::observation::{Ingress, Observation};
use nv_model::record::{Record, Topic};
use nv_telemetry::ManualClock;

use super::sim::{Disk, Running, Sim, joined, now, workload};
use crate::Change;

fn group() -> Group {
    Group {
        name: "fronts".parse().unwrap(),
        comment: String::new(),
        origin: Origin::UserCreated,
        kind: GroupKind::Container,
        domain: None,
        criteria: vec![Criterion { key: "service".into(), value: "web".into(), op: CriterionOp::Equal }],
        modes: None,
        not_scored: false,
        monitor_metric: true,
        session_limit: 10,
        session_rate_limit: 1,
        bandwidth_limit_mbps: 0,
    }
}

async fn violations(running: &Running) -> Vec<String> {
    let records = running.records(Topic::Event).await;
    let of_group = records.into_iter().filter(|record| record.common().name == "Group.Metric.Violation");
    of_group
        .map(|record| match record {
            Record::Event(event) => event.message,
            other => panic!("{other:?}"),
        })
        .collect()
}

async fn until(running: &Running, count: usize) -> Vec<String> {
    for _ in 0..400 {
        let found = violations(running).await;
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{:?}", violations(running).await)
}

#[tokio::test]
async fn what_a_groups_workloads_accept_together_is_measured_and_told_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now()));
    let running = Running::start_at(folder.path(), clock.clone()).await;
    let credential = joined(&running, "n1").await;
    let both = vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "web", 2)];
    let mut sim = Sim::open(&running, &credential, Disk::new("n1", both)).await.unwrap();
    running.until("the workloads", |view| view.state.workloads.len() == 2).await;
    running.controller.change(Change::CreateGroup(Box::new(group()))).await.unwrap();
    running.until("the group", |view| view.state.groups.contains_key("fronts")).await;
    let report = |id: &str| Observation::Ingress {
        workload: id.parse().unwrap(),
        ingress: Ingress { sessions: 6, opened: 70, bytes: 1 },
        at: now(),
    };
    let want = "Group fronts exceeds its thresholds: IngressActiveSessionViolation(12 active sessions), \
                IngressSessionRateViolation(2 cps)";
    // It stays so for more than a minute.
    for turn in 0..12 {
        for id in ["w1", "w2"] {
            sim.tell(report(id)).await;
        }
        clock.advance(Duration::from_secs(6));
        let told = until(&running, 1).await;
        assert!(told.iter().all(|told| told == want) && (told.len() == 1 || turn > 9), "{turn}: {told:?}");
    }
    assert_eq!(until(&running, 2).await.len(), 2);
}
