//! Policy down to the nodes.

use std::time::{Duration, Instant};

use nv_model::mode::Mode;
use nv_model::policy::Revision;
use nv_pki::Credential;

use super::sim::{Disk, Running, Sim, joined, node_id, workload};
use crate::Change;

fn protect(group: &str) -> Change {
    Change::SetModes {
        groups: vec![group.parse().unwrap()],
        network: Some(Mode::Protect),
        profile: Some(Mode::Protect),
        baseline: None,
        fault: None,
    }
}

/// A node with one workload, of the group `nv.web.shop`, that enforces all that there is.
async fn with_web(running: &Running, credential: &Credential) -> Sim {
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(running, credential, disk).await.unwrap();
    sim.until("the workload", |policy| policy.workloads.len() == 1).await;
    running.until("the group", |view| view.state.groups.contains_key("nv.web.shop")).await;
    assert!(sim.stays_as_it_is().await);
    sim
}

#[tokio::test]
async fn a_change_of_mode_reaches_the_node_as_a_small_delta() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.until("both workloads", |policy| policy.workloads.len() == 2).await;
    running
        .until("both groups", |view| {
            ["nv.web.shop", "nv.db.shop"].iter().all(|name| view.state.groups.contains_key(*name))
        })
        .await;
    assert!(sim.stays_as_it_is().await);
    let before = sim.disk.policy.revision;
    let begin = Instant::now();
    running.controller.change(protect("nv.web.shop")).await.unwrap();
    let group: nv_model::name::GroupName = "nv.web.shop".parse().unwrap();
    sim.until("Protect", |policy| policy.profiles.get(&group).is_some_and(|p| p.mode == Mode::Protect)).await;
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    println!("mode change: commit, compile and push took {took:?}");
    let delta = sim.deltas.last().unwrap();
    assert_eq!((delta.base, delta.revision), (before, Revision(before.0 + 1)));
    assert_eq!((delta.profiles.len(), delta.workloads.len()), (1, 0));
    assert!(delta.addresses.is_empty() && delta.rule_order.is_none());
    running
        .until("the acknowledgement", |view| view.policies[&node_id("n1")].enforced == Revision(before.0 + 1))
        .await;
    assert_eq!(running.controller.view().policies[&node_id("n1")].apply_micros, 7);
}

#[tokio::test]
async fn no_view_says_that_a_node_enforces_a_change_before_the_node_has_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let mut sim = with_web(&running, &credential).await;
    running.until("all enforced", |view| view.is_enforced_on(&node_id("n1"))).await;

    let before = sim.disk.policy.revision;
    running.controller.change(protect("nv.web.shop")).await.unwrap();
    // The node does not read meanwhile: whatever is published now shows the change and must not call it enforced.
    running.until("the policy is sent", |view| view.policies[&node_id("n1")].sent > before).await;
    assert!(!running.controller.view().is_enforced_on(&node_id("n1")));
    let group: nv_model::name::GroupName = "nv.web.shop".parse().unwrap();
    sim.until("Protect", |policy| policy.profiles.get(&group).is_some_and(|p| p.mode == Mode::Protect)).await;
    running.until("enforced", |view| view.is_enforced_on(&node_id("n1"))).await;
}

#[tokio::test]
async fn a_node_that_holds_the_right_policy_is_sent_nothing_and_one_with_another_history_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let sim = with_web(&running, &credential).await;
    let disk = sim.disk.clone();
    drop(sim);

    let mut again = Sim::open(&running, &credential, disk.clone()).await.unwrap();
    assert!(again.stays_as_it_is().await && again.deltas.is_empty());
    drop(again);

    let mut other = disk;
    other.policy.settings.strict_group_mode = true;
    other.policy.revision = Revision(77);
    let mut other = Sim::open(&running, &credential, other).await.unwrap();
    other.until("the right settings", |policy| !policy.settings.strict_group_mode).await;
    assert_eq!((other.deltas[0].base, other.deltas[0].revision), (Revision(0), Revision(78)));
}

#[tokio::test]
async fn nodes_that_a_change_does_not_concern_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let (one, two) = (joined(&running, "n1").await, joined(&running, "n2").await);
    let mut one =
        Sim::open(&running, &one, Disk::new("n1", vec![workload("n1", "w1", "web", 1)])).await.unwrap();
    let mut two =
        Sim::open(&running, &two, Disk::new("n2", vec![workload("n2", "w2", "db", 2)])).await.unwrap();
    running
        .until("both groups", |view| {
            ["nv.web.shop", "nv.db.shop"].iter().all(|name| view.state.groups.contains_key(*name))
        })
        .await;
    assert!(one.stays_as_it_is().await || one.stays_as_it_is().await);
    assert!(two.stays_as_it_is().await || two.stays_as_it_is().await);
    let profile = Change::SetModes {
        groups: vec!["nv.web.shop".parse().unwrap()],
        network: None,
        profile: Some(Mode::Protect),
        baseline: None,
        fault: None,
    };
    running.controller.change(profile).await.unwrap();
    let group: nv_model::name::GroupName = "nv.web.shop".parse().unwrap();
    one.until("Protect", |policy| policy.profiles.get(&group).is_some_and(|p| p.mode == Mode::Protect)).await;
    assert!(two.stays_as_it_is().await);
}
