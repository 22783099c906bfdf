//! Who is let in, and as whom.

use std::sync::Arc;
use std::time::Duration;

use nv_model::record::{Record, Topic};
use nv_model::verdict::Verdict;
use nv_pki::{Authority, SigningRequest, connect, tls};
use nv_telemetry::ManualClock;
use nv_wire::enforcer::v1 as proto;
use nv_wire::enforcer::v1::enforcer_service_client::EnforcerServiceClient;
use tonic::Code;

use super::sim::{Disk, Running, Sim, join, joined, node_id, now, ran, workload};

#[tokio::test]
async fn a_token_for_any_node_is_used_once_and_one_for_a_node_by_that_node_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let minute = Duration::from_secs(60);
    let once = running.controller.join_token(None, minute).await.unwrap();
    assert!(join(&running.controller, &once, "n1").await.is_ok());
    assert_eq!(join(&running.controller, &once, "n1").await.unwrap_err().code(), Code::PermissionDenied);

    let bound = running.controller.join_token(Some(node_id("n2")), minute).await.unwrap();
    assert_eq!(join(&running.controller, &bound, "n3").await.unwrap_err().code(), Code::PermissionDenied);
    assert!(join(&running.controller, &bound, "n2").await.is_ok());
    assert!(join(&running.controller, &bound, "n2").await.is_ok());

    let over = running.controller.join_token(None, Duration::ZERO).await.unwrap();
    assert_eq!(join(&running.controller, &over, "n4").await.unwrap_err().code(), Code::PermissionDenied);
    let unknown = nv_pki::token::generate(running.controller.authority().fingerprint()).unwrap();
    assert_eq!(join(&running.controller, &unknown, "n4").await.unwrap_err().code(), Code::PermissionDenied);

    let events = running.logged(Topic::Event, 5).await;
    let joins = events.iter().filter(|record| record.common().name == "Enforcer.Join").count();
    assert_eq!(joins, 3, "{events:?}");
}

#[tokio::test]
async fn a_node_renews_its_own_certificate_without_a_token_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let config = tls::client(&credential).unwrap();
    let channel = connect::channel(&running.controller.address().to_string(), config).await.unwrap();
    let mut client = EnforcerServiceClient::new(channel);
    for (node, renewed) in [("n1", true), ("n2", false)] {
        let request = SigningRequest::generate().unwrap();
        let signing_request = request.der().to_vec();
        let asked = proto::JoinRequest { token: String::new(), node_id: node.into(), signing_request };
        assert_eq!(client.join(asked).await.is_ok(), renewed, "{node}");
    }
}

#[tokio::test]
async fn a_link_without_a_certificate_of_this_cluster_is_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = Running::start(folder.path()).await;
    // None at all.
    let config = tls::pinned_client(running.controller.authority().fingerprint()).unwrap();
    let channel = connect::channel(&running.controller.address().to_string(), config).await.unwrap();
    let refused = EnforcerServiceClient::new(channel).link(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // One of another cluster.
    let theirs = Authority::open(other.path(), now()).unwrap();
    let request = SigningRequest::generate().unwrap();
    let chain = theirs.sign_request(request.der(), &node_id("n1"), now()).unwrap();
    let roots = vec![running.controller.authority().certificate().to_vec()];
    let stranger = request.complete(chain.iter().map(|der| der.to_vec()).collect(), roots).unwrap();
    assert!(Sim::open(&running, &stranger, Disk::new("n1", vec![])).await.is_err());
    assert!(running.controller.view().enforcers.is_empty());
}

#[tokio::test]
async fn a_node_speaks_for_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let (one, two) = (joined(&running, "n1").await, joined(&running, "n2").await);
    // As another node.
    let refused = Sim::open(&running, &one, Disk::new("n2", vec![])).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // With a workload that runs elsewhere, by its own words.
    let disk = Disk::new("n1", vec![workload("n2", "w9", "web", 9)]);
    assert_eq!(Sim::open(&running, &one, disk).await.err().unwrap().code(), Code::PermissionDenied);
    // With a workload that another node has reported.
    let second =
        Sim::open(&running, &two, Disk::new("n2", vec![workload("n2", "w2", "db", 2)])).await.unwrap();
    let mut first = Sim::open(&running, &one, Disk::new("n1", vec![])).await.unwrap();
    first.disk.see(ran("w2", "nv.db.shop", "/bin/evil", Verdict::Deny));
    first.send().await;
    assert_eq!(first.closed().await.code(), Code::PermissionDenied);
    assert!(running.records(Topic::Incident).await.is_empty());
    let disk = Disk::new("n1", vec![workload("n1", "w2", "db", 2)]);
    assert_eq!(Sim::open(&running, &one, disk).await.err().unwrap().code(), Code::PermissionDenied);
    drop(second);
}

#[tokio::test]
async fn a_newer_link_of_a_node_replaces_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let mut older = Sim::open(&running, &credential, Disk::new("n1", vec![])).await.unwrap();
    let mut newer = Sim::open(&running, &credential, Disk::new("n1", vec![])).await.unwrap();
    assert_eq!(older.closed().await.code(), Code::Aborted);
    newer.tell(ran("", "nodes", "/bin/x", Verdict::Violate)).await;
    running
        .until("n1 connected", |view| {
            view.enforcers
                .values()
                .all(|enforcer| enforcer.state == nv_model::node::ConnectionState::Connected)
        })
        .await;
}

#[tokio::test]
async fn coming_and_going_of_nodes_is_logged_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let sim = Sim::open(&running, &credential, Disk::new("n1", vec![])).await.unwrap();
    running.until("the enforcer", |view| view.enforcers.len() == 1).await;
    assert_eq!(running.controller.view().state.nodes[&node_id("n1")].name, "host-n1");
    drop(sim);
    let gone = nv_model::node::ConnectionState::Disconnected;
    running.until("the loss", |view| view.enforcers.values().all(|enforcer| enforcer.state == gone)).await;
    let names: Vec<String> =
        running.records(Topic::Event).await.iter().map(|record| record.common().name.clone()).collect();
    for name in [
        "Controller.Start",
        "Controller.Lead.Elected",
        "Enforcer.Join",
        "Enforcer.Connect",
        "Enforcer.Disconnect",
    ] {
        assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
    }
    let Record::Event(last) = running.records(Topic::Event).await.pop().unwrap() else { panic!() };
    assert_eq!((last.category.as_str(), last.common.host_name.as_str()), ("ENFORCER", "host-n1"));
    assert_eq!(last.common.cluster_name, "test");
}

#[tokio::test]
async fn a_message_that_breaks_the_contract_closes_the_link_by_the_field_s_name() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![]);
    let mut greeting = disk.greeting();
    greeting.stream_id.clear();
    let refused = Sim::open_with(&running, &credential, disk, greeting).await.err().unwrap();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "hello.field stream_id: is missing")
    );
}

#[tokio::test]
async fn a_node_that_says_nothing_for_fifteen_seconds_is_disconnected() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now()));
    let running = Running::start_at(folder.path(), clock.clone()).await;
    let credential = joined(&running, "n1").await;
    let mut sim = Sim::open(&running, &credential, Disk::new("n1", vec![])).await.unwrap();
    clock.advance(Duration::from_secs(14));
    sim.tell(ran("", "nodes", "/bin/x", Verdict::Allow)).await;
    clock.advance(Duration::from_secs(14));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    sim.tell(ran("", "nodes", "/bin/x", Verdict::Allow)).await;
    clock.advance(Duration::from_secs(16));
    assert_eq!(sim.closed().await.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_machine_with_a_new_id_takes_its_containers_over_once_the_old_one_is_gone_for_minutes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now()));
    let running = Running::start_at(folder.path(), clock.clone()).await;
    let (old, new) = (joined(&running, "old").await, joined(&running, "new").await);
    let sim =
        Sim::open(&running, &old, Disk::new("old", vec![workload("old", "w1", "web", 1)])).await.unwrap();
    drop(sim);
    let gone = nv_model::node::ConnectionState::Disconnected;
    running.until("the loss", |view| view.enforcers.values().any(|enforcer| enforcer.state == gone)).await;
    let disk = || Disk::new("new", vec![workload("new", "w1", "web", 1)]);
    assert_eq!(Sim::open(&running, &new, disk()).await.err().unwrap().code(), Code::PermissionDenied);
    clock.advance(Duration::from_secs(301));
    let mut sim = Sim::open(&running, &new, disk()).await.unwrap();
    sim.until("its workload", |policy| policy.workloads.len() == 1).await;
}
