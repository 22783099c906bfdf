//! Nothing that was acknowledged is lost, and nothing counts twice.

use nv_model::observation::Observation;
use nv_model::record::{Record, Topic};
use nv_model::verdict::Verdict;

use super::sim::{Disk, Running, Sim, connected, joined, ran, workload};

fn paths(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| match record {
            Record::Incident(incident) => incident.proc_path.clone(),
            _ => panic!("no incident"),
        })
        .collect()
}

fn evil(number: u32) -> Observation {
    ran("w1", "nv.web.shop", &format!("/tmp/evil{number}"), Verdict::Deny)
}

#[tokio::test]
async fn after_a_broken_link_the_stream_goes_on_without_loss_or_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.tell(evil(1)).await;
    sim.disk.see(evil(2));
    sim.disk.see(evil(3));
    // Sent, but the link breaks before the acknowledgement is read: the node sends them again.
    sim.send().await;
    running.logged(Topic::Incident, 3).await;
    let disk = sim.disk.clone();
    drop(sim);
    let mut sim = Sim::open(&running, &credential, disk.clone()).await.unwrap();
    assert_eq!(sim.welcome.as_ref().unwrap().acknowledged, 3);
    // A node that does not listen and sends what is known already.
    sim.disk.queue = disk.queue;
    sim.disk.see(evil(4));
    sim.send().await;
    sim.drain().await;
    assert_eq!(
        paths(&running.logged(Topic::Incident, 4).await),
        ["/tmp/evil1", "/tmp/evil2", "/tmp/evil3", "/tmp/evil4"]
    );
}

#[tokio::test]
async fn a_gap_in_the_numbers_is_counted_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.tell(evil(1)).await;
    sim.disk.next += 5;
    sim.tell(evil(2)).await;
    running.until("the gap", |view| view.losses.values().any(|losses| losses.missing == 5)).await;
}

#[tokio::test]
async fn a_killed_controller_starts_with_everything_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    for number in 0..50 {
        sim.disk.see(evil(number));
        sim.disk.see(connected(("w1", "10.1.0.1"), ("w2", "10.1.0.2"), 5432, Verdict::Learn));
    }
    sim.disk.see(ran("w1", "nv.web.shop", "/usr/sbin/nginx", Verdict::Learn));
    sim.send().await;
    sim.drain().await;
    // At once: what was to be learned still waits in memory.
    running.kill().await;

    let disk = sim.disk.clone();
    drop(sim);
    let running = Running::start(folder.path()).await;
    assert_eq!(running.records(Topic::Incident).await.len(), 50);
    let volume = |running: &Running| {
        let graph = running.controller.graph();
        graph
            .links()
            .map(|(_, _, link)| link.volume())
            .fold((0, 0), |sum, v| (sum.0 + v.bytes, sum.1 + v.sessions))
    };
    assert_eq!(volume(&running), (50_000, 50));
    assert_eq!(running.controller.view().state.workloads.len(), 2);
    let group: nv_model::name::GroupName = "nv.web.shop".parse().unwrap();
    running.until("the program", |view| view.state.profiles.contains_key(&group)).await;
    running.until("the rule", |view| view.state.rules.len() == 1).await;

    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    assert_eq!(sim.welcome.as_ref().unwrap().acknowledged, 101);
    sim.tell(evil(1000)).await;
    assert_eq!(running.logged(Topic::Incident, 51).await.len(), 51);
    running.stop().await;

    // The same from a checkpoint.
    let running = Running::start(folder.path()).await;
    assert_eq!(volume(&running), (50_000, 50));
    assert_eq!(running.records(Topic::Incident).await.len(), 51);
    assert_eq!(running.controller.view().state.workloads.len(), 2);
}

#[tokio::test]
async fn kills_in_the_middle_of_a_stream_lose_and_repeat_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let mut disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut number = 0;
    for round in 0..4 {
        let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
        for _ in 0..20 {
            number += 1;
            sim.disk.see(evil(number));
        }
        for _ in 0..=round {
            sim.send().await;
        }
        // Killed before, while or after it is stored, from round to round.
        tokio::time::sleep(std::time::Duration::from_millis(3 * round)).await;
        running.kill().await;
        disk = sim.disk.clone();
        drop(sim);
        running = Running::start(folder.path()).await;
    }
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.send().await;
    sim.drain().await;
    let mut seen = paths(&running.logged(Topic::Incident, usize::try_from(number).unwrap()).await);
    seen.sort();
    let before = seen.len();
    seen.dedup();
    assert_eq!((before, seen.len()), (80, 80));
}

#[tokio::test]
async fn the_policy_of_a_node_stays_the_same_over_a_restart_of_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    running
        .until("both groups", |view| {
            ["nv.web.shop", "nv.db.shop"].iter().all(|name| view.state.groups.contains_key(*name))
        })
        .await;
    assert!(sim.stays_as_it_is().await || sim.stays_as_it_is().await);
    running.stop().await;
    let disk = sim.disk.clone();
    drop(sim);
    let running = Running::start(folder.path()).await;
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    assert!(sim.stays_as_it_is().await && sim.deltas.is_empty());
}

#[tokio::test]
async fn with_a_full_disk_nothing_is_acknowledged_and_nothing_is_lost_when_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("controller/journal");
    std::fs::create_dir_all(&journal).unwrap();
    // Every write to this device fails as on a full disk.
    std::os::unix::fs::symlink("/dev/full", journal.join("journal-0")).unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    sim.disk.see(evil(1));
    sim.send().await;
    assert_eq!(sim.closed().await.code(), tonic::Code::Unavailable);
    assert_eq!(sim.disk.queue.len(), 1);
    // Policy is still changed meanwhile: only what nodes report waits.
    let config = Box::new((*running.controller.view().config).clone());
    running.controller.change(crate::Change::SetConfig(config)).await.unwrap();
    running.kill().await;

    std::fs::remove_file(journal.join("journal-0")).unwrap();
    let running = Running::start(folder.path()).await;
    let mut sim = Sim::open(&running, &credential, sim.disk.clone()).await.unwrap();
    sim.send().await;
    sim.drain().await;
    assert_eq!(paths(&running.logged(Topic::Incident, 1).await), ["/tmp/evil1"]);
}

#[tokio::test]
async fn a_busy_node_is_kept_up_with() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path()).await;
    let credential = joined(&running, "n1").await;
    let disk = Disk::new("n1", vec![workload("n1", "w1", "web", 1), workload("n1", "w2", "db", 2)]);
    let mut sim = Sim::open(&running, &credential, disk).await.unwrap();
    let begin = std::time::Instant::now();
    let (rounds, each) = (20, 500);
    for _ in 0..rounds {
        for _ in 0..each {
            sim.disk.see(connected(("w1", "10.1.0.1"), ("w2", "10.1.0.2"), 5432, Verdict::Allow));
        }
        sim.send().await;
        sim.drain().await;
    }
    let took = begin.elapsed();
    println!("{} observations, each batch durable before the next, took {took:?}", rounds * each);
    let graph = running.controller.graph();
    assert_eq!(graph.links().map(|(_, _, link)| link.volume().sessions).sum::<u64>(), rounds * each);
}
