//! A real Docker daemon, watched beside its containerd. Needs root, Docker, containerd, runc and busybox.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test cannot go on without fails it")]

mod watched;

use std::time::Duration;

use nv_lab::{Docker, Image, Lab, LabOptions, PlainSpec};
use rustix::process::{Pid, Signal, kill_process};
use watched::{Watched, cgroup_id, inode};

const WEB: &str = "shop/web:1";
const USER: &str = "shop/user:1";

async fn lab() -> (Lab, Docker) {
    let lab = Lab::start(LabOptions::fresh().unwrap()).await.unwrap();
    let docker = lab.start_docker().await.unwrap();
    let web = Image::busybox(WEB).unwrap().label("tier", "front").command(&["/bin/sleep", "600"]);
    docker.import(&web).await.unwrap();
    (lab, docker)
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_told_with_all_that_policy_needs_to_know_whenever_it_was_made() {
    let (lab, docker) = lab().await;
    docker.import(&Image::busybox(USER).unwrap().user("65534:65534")).await.unwrap();
    let before =
        docker.start_container("cart", &["--label", "app=cart", "-p", "8080:80", WEB]).await.unwrap();
    let mut seen = Watched::one(&lab, &docker.socket());
    let first = seen.running(&before).await;
    seen.until("the first list", |seen| seen.is_told("listed")).await;
    assert_eq!(seen.log.first().map(String::as_str), Some("up docker"), "{:#?}", seen.log);
    assert_eq!((first.name.as_str(), first.image.as_str(), first.runtime.as_str()), ("cart", WEB, "docker"));
    assert_eq!(first.learned_group().as_str(), "nv.web");
    let labels: Vec<_> = first.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(labels, ["app=cart", "tier=front"]);
    assert!(first.image_id.starts_with("sha256:"), "{first:#?}");
    assert_eq!(first.cgroup, before.cgroup);
    assert_eq!(first.cgroup_id, cgroup_id(&before.cgroup));
    assert_eq!(first.network_namespace, inode(&format!("/proc/{}/ns/net", before.pid)));
    assert!(first.run_as_root && !first.privileged && !first.host_network && first.interfaces.is_empty());
    assert!(
        first.created.seconds() > 0 && first.created.seconds() <= first.started.seconds() + 1,
        "{first:#?}"
    );

    // By an event, before it is started.
    let id = docker.run(&["create", "--name", "later", "--net", "none", WEB]).await.unwrap();
    seen.until("the creation", |seen| seen.workloads.contains_key(&id)).await;
    let created = seen.workloads.get(&id).unwrap();
    assert!(!created.running && created.pid == 0 && created.finished.seconds() == 0, "{created:#?}");
    docker.run(&["start", "later"]).await.unwrap();
    let later = docker.container("later").await.unwrap();
    seen.running(&later).await;

    let special = ["--privileged", "--memory", "64m", "--cpuset-cpus", "0", "--user", "1000", WEB];
    let special = docker.start_container("special", &special).await.unwrap();
    let special = seen.running(&special).await;
    assert!(special.privileged && !special.run_as_root && special.memory_limit == 64 << 20, "{special:#?}");
    assert_eq!(special.cpus, "0");
    let host =
        docker.run(&["run", "-d", "--net", "host", "--name", "host", USER, "sleep", "600"]).await.unwrap();
    let host = docker.container(&host).await.unwrap();
    let host = seen.running(&host).await;
    assert!(host.host_network && !host.run_as_root && host.interfaces.is_empty(), "{host:#?}");
    let shared = format!("container:{}", before.id);
    let beside = ["run", "-d", "--net", &shared, "--name", "beside", &first.image_id];
    let beside = docker.run(&beside).await.unwrap();
    let beside = docker.container(&beside).await.unwrap();
    let beside = seen.running(&beside).await;
    assert_eq!(beside.pod_sandbox.as_ref().map(AsRef::as_ref), Some(before.id.as_str()));
    assert_eq!(beside.image, WEB, "an image is shown by its name, however the container was made");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_container_is_told_as_it_happens() {
    let (lab, docker) = lab().await;
    let mut seen = Watched::one(&lab, &docker.socket());
    let container = docker.start_container("cart", &[WEB]).await.unwrap();
    let id = container.id.as_str();
    seen.running(&container).await;

    // A container that is paused goes on as it was.
    seen.for_a_while(Duration::from_secs(2)).await;
    seen.log.clear();
    docker.run(&["pause", id]).await.unwrap();
    docker.run(&["unpause", id]).await.unwrap();
    docker.run(&["exec", id, "/bin/true"]).await.unwrap();
    seen.for_a_while(Duration::from_secs(1)).await;
    assert_eq!(seen.log, [""; 0], "nothing that matters has changed");

    docker.run(&["rename", id, "basket"]).await.unwrap();
    seen.until("the new name", |seen| seen.workloads.get(id).is_some_and(|it| it.name == "basket")).await;

    docker.run(&["restart", "--time", "0", id]).await.unwrap();
    let again = docker.container(id).await.unwrap();
    assert_ne!(again.pid, container.pid);
    let workload = seen.running(&again).await;
    assert_eq!(workload.cgroup_id, cgroup_id(&again.cgroup));

    docker.run(&["kill", id]).await.unwrap();
    let stopped = format!("stopped {id} 137");
    seen.until("the end", |seen| seen.is_told(&stopped)).await;
    docker.run(&["start", id]).await.unwrap();
    let again = docker.container(id).await.unwrap();
    seen.running(&again).await;
    docker.run(&["rm", "--force", id]).await.unwrap();
    let gone = format!("-{id}");
    seen.until("the removal", |seen| seen.is_told(&gone)).await;
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_and_its_containerd_tell_of_a_container_once_and_a_restart_loses_nothing() {
    let (lab, mut docker) = lab().await;
    lab.import_into("default", &Image::busybox(WEB).unwrap()).await.unwrap();
    let stays = docker.start_container("stays", &[WEB]).await.unwrap();
    let dies = docker.start_container("dies", &[WEB]).await.unwrap();
    let socket = docker.socket();
    let mut seen = Watched::all(&lab, &[lab.socket(), &socket]);
    seen.running(&stays).await;
    seen.running(&dies).await;
    seen.until("the list of both", |seen| seen.is_told("listed")).await;
    let plain = lab.run_plain(&PlainSpec::new("c1", WEB, &["sleep", "600"])).await.unwrap();
    seen.running(&plain).await;
    seen.for_a_while(Duration::from_secs(3)).await;
    let containers: Vec<_> =
        seen.workloads.values().map(|it| (it.name.as_str(), it.runtime.as_str())).collect();
    let mut sorted = containers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [("c1", "containerd"), ("dies", "docker"), ("stays", "docker")]);
    assert_eq!(seen.log.iter().rfind(|told| told.starts_with("up ")).unwrap(), "up docker");
    assert!(
        seen.workloads.values().all(|it| it.learned_group().as_str() == "nv.web"),
        "{:#?}",
        seen.workloads
    );

    // Its containers go on without it; what they do is seen by containerd, who they are is not forgotten.
    seen.log.clear();
    docker.kill().unwrap();
    seen.until("the death", |seen| seen.is_told("down")).await;
    kill(dies.pid);
    let stopped = format!("stopped {}", dies.id);
    seen.until("an end without Docker", |seen| seen.count(&stopped) == 1).await;
    assert!(
        seen.workloads.values().all(|it| it.learned_group().as_str() == "nv.web"),
        "{:#?}",
        seen.workloads
    );

    docker.start().await.unwrap();
    let after = docker.start_container("after", &[WEB]).await.unwrap();
    seen.running(&after).await;
    docker.run(&["rm", "--force", &dies.id]).await.unwrap();
    let gone = format!("-{}", dies.id);
    seen.until("the removal", |seen| seen.is_told(&gone)).await;
    seen.for_a_while(Duration::from_secs(2)).await;
    assert_eq!(seen.count(&stopped), 1, "{:#?}", seen.log);
    assert_eq!(seen.count(&format!("stopped {}", stays.id)), 0, "{:#?}", seen.log);
    assert_eq!(seen.count(&format!("-{}", stays.id)), 0, "{:#?}", seen.log);
    assert!(
        seen.workloads.get(&stays.id).is_some_and(|it| it.running && it.name == "stays"),
        "{:#?}",
        seen.workloads
    );

    // A daemon that ends in order does the same.
    seen.log.clear();
    docker.stop().await.unwrap();
    seen.until("the end", |seen| seen.is_told("down")).await;
    docker.start().await.unwrap();
    docker.run(&["rename", "stays", "stayed"]).await.unwrap();
    seen.until("the new name", |seen| seen.workloads.get(&stays.id).is_some_and(|it| it.name == "stayed"))
        .await;
    assert_eq!(seen.count("stopped") + seen.count("-"), 0, "{:#?}", seen.log);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cgroup_is_known_as_dockers_container_with_its_service() {
    let (lab, docker) = lab().await;
    let socket = docker.socket();
    let mut seen = Watched::all(&lab, &[lab.socket(), &socket]);
    seen.until("both", |seen| seen.is_told("listed")).await;
    let container = docker.start_container("cart", &[WEB]).await.unwrap();
    let found = seen.identifiers.identify_now(&container.cgroup).unwrap();
    assert_eq!((found.id.as_str(), found.runtime.as_str()), (container.id.as_str(), "docker"));
    let found = seen.identifiers.identify(&container.cgroup).await.unwrap();
    assert_eq!((found.name.as_str(), found.learned_group().as_str()), ("cart", "nv.web"));
    assert_eq!(found.cgroup_id, cgroup_id(&container.cgroup));
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_starts_later_is_found_and_takes_its_containers_over() {
    let (lab, mut docker) = lab().await;
    let container = docker.start_container("cart", &[WEB]).await.unwrap();
    docker.kill().unwrap();
    let socket = docker.socket();
    let mut seen = Watched::all(&lab, &[lab.socket(), &socket]);
    let unnamed = seen.running(&container).await;
    assert_eq!(
        (unnamed.image.as_str(), unnamed.runtime.as_str()),
        ("", "docker"),
        "containerd knows no more"
    );
    docker.start().await.unwrap();
    seen.until("its name", |seen| seen.workloads.get(&container.id).is_some_and(|it| it.name == "cart"))
        .await;
    assert_eq!(seen.workloads.len(), 1, "{:#?}", seen.workloads);
    lab.stop().await.unwrap();
}
