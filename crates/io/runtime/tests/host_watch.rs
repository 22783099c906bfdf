//! Real containers, watched. Needs root, containerd, runc, CNI plug-ins and busybox.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what a test cannot go on without fails it")]

mod watched;

use std::time::Duration;

use nv_lab::{ContainerSpec, Image, Lab, LabOptions, PlainSpec, Pod, PodSpec};
use nv_model::workload::{PlatformRole, Workload};
use nv_runtime::Api;
use rustix::process::{Pid, Signal, kill_process};

use watched::{Watched, cgroup_id, inode};

const WEB: &str = "docker.io/library/web:1";

async fn lab() -> Lab {
    let lab = Lab::start(LabOptions::fresh().unwrap()).await.unwrap();
    lab.import(&Image::busybox(WEB).unwrap()).await.unwrap();
    lab.import_into("default", &Image::busybox(WEB).unwrap()).await.unwrap();
    lab
}

async fn web(lab: &Lab, name: &str) -> Pod {
    lab.pod(name, "shop", &[("app", "web")], WEB, &["sleep", "600"]).await.unwrap()
}

fn addresses(workload: &Workload) -> Vec<String> {
    workload.interfaces.iter().map(|on| on.address.addr().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_pods_are_told_with_all_that_policy_needs_to_know() {
    let lab = lab().await;
    let before = web(&lab, "db-0").await;
    for api in [None, Some(Api::Cri)] {
        let mut seen = Watched::of(&lab, api);
        seen.until("the first list", |seen| seen.is_told("listed")).await;
        assert_eq!(seen.is_told("listener containerd"), api == Some(Api::Cri), "whom CRI alone leads to");
        let known = seen.running(before.container()).await;
        assert_eq!(known.learned_group().as_str(), "nv.db.shop", "one that ran already, {api:?}");

        let pod = web(&lab, "web-7d9c5b8f6-x2x5z").await;
        let container = seen.running(pod.container()).await;
        let sandbox = seen.running(&pod.sandbox).await;
        let want: Vec<String> = pod.addresses.iter().map(ToString::to_string).collect();
        for (workload, real) in [(&container, pod.container()), (&sandbox, &pod.sandbox)] {
            let context = format!("{api:?} {workload:#?}");
            assert_eq!(workload.learned_group().as_str(), "nv.web.shop", "{context}");
            assert_eq!(workload.pod_name, "web-7d9c5b8f6-x2x5z", "{context}");
            assert_eq!(workload.labels.get("app").map(String::as_str), Some("web"), "{context}");
            assert_eq!(
                (workload.pid, workload.cgroup.as_str()),
                (real.pid, real.cgroup.as_str()),
                "{context}"
            );
            assert_eq!(workload.cgroup_id, cgroup_id(&real.cgroup), "{context}");
            assert_eq!(workload.network_namespace, inode(&format!("/proc/{}/ns/net", real.pid)), "{context}");
            assert_eq!(addresses(workload), want, "{context}");
            assert!(
                workload.interfaces.iter().all(|on| on.interface == "eth0" && on.gateway.is_some()),
                "{context}"
            );
            assert!(workload.run_as_root && !workload.privileged && !workload.host_network, "{context}");
            assert!(
                workload.created.seconds() <= workload.started.seconds() && workload.created.seconds() > 0,
                "{context}"
            );
        }
        assert_eq!((container.name.as_str(), container.image.as_str()), ("web", WEB));
        assert!(container.image_id.starts_with("sha256:"), "{container:#?}");
        assert_eq!(container.pod_sandbox.as_ref(), Some(&sandbox.id));
        assert!(sandbox.is_sandbox && !container.is_sandbox && sandbox.pod_sandbox.is_none());

        lab.exec(pod.container(), &["sh", "-c", "kill -9 -1"]).await.unwrap();
        lab.stop_container(pod.container()).await.unwrap();
        let stopped = format!("stopped {} 137", container.id);
        seen.until("the exit", |seen| seen.is_told(&stopped)).await;
        lab.remove_pod(&pod).await.unwrap();
        let gone = [format!("-{}", container.id), format!("-{}", sandbox.id)];
        seen.until("the removal", |seen| gone.iter().all(|word| seen.is_told(word))).await;
        assert_eq!(seen.log.iter().filter(|told| **told == stopped).count(), 1, "{:#?}", seen.log);
    }
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_containers_are_named_after_their_image_and_keep_what_makes_them_special() {
    let lab = lab().await;
    let mut seen = Watched::of(&lab, None);
    let plain = lab.run_plain(&PlainSpec::new("c1", WEB, &["sleep", "600"])).await.unwrap();
    let special =
        PlainSpec { host_network: true, privileged: true, ..PlainSpec::new("c2", WEB, &["sleep", "600"]) };
    let special = lab.run_plain(&special).await.unwrap();

    let workload = seen.running(&plain).await;
    assert_eq!(workload.learned_group().as_str(), "nv.web");
    assert_eq!((workload.id.as_str(), workload.name.as_str(), workload.domain.as_ref()), ("c1", "c1", None));
    assert!(workload.image_id.starts_with("sha256:") && !workload.privileged && !workload.host_network);
    assert_eq!((workload.pid, workload.cgroup_id), (plain.pid, cgroup_id(&plain.cgroup)));
    let workload = seen.running(&special).await;
    assert!(workload.privileged && workload.host_network && workload.interfaces.is_empty(), "{workload:#?}");

    lab.remove_plain(&plain).await.unwrap();
    seen.until("the removal", |seen| seen.is_told("-c1")).await;
    assert!(seen.is_told("stopped c1 137"), "{:#?}", seen.log);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn special_pods_are_seen_as_what_they_are() {
    let lab = lab().await;
    lab.import(&Image::busybox("docker.io/library/user:1").unwrap().user("65534")).await.unwrap();
    let spec = PodSpec::new("neuvector-enforcer-pod-x2x5z", "neuvector")
        .label("app", "neuvector-enforcer-pod")
        .host_network()
        .container(ContainerSpec::new("enforcer", WEB, &["sleep", "600"]).privileged())
        .container(ContainerSpec {
            memory_limit: 1 << 26,
            ..ContainerSpec::new("side", "docker.io/library/user:1", &["sleep", "600"])
        });
    let pod = lab.run_pod(&spec).await.unwrap();
    for api in [None, Some(Api::Cri)] {
        let mut seen = Watched::of(&lab, api);
        let mut containers = pod.containers.iter();
        let enforcer = seen.running(containers.next().unwrap()).await;
        let side = seen.running(containers.next().unwrap()).await;
        assert!(
            enforcer.privileged && enforcer.host_network && enforcer.interfaces.is_empty(),
            "{enforcer:#?}"
        );
        assert_eq!((enforcer.role, side.role), (PlatformRole::Core, PlatformRole::Core));
        assert!(!side.privileged && !side.run_as_root && side.memory_limit == 1 << 26, "{api:?} {side:#?}");
        assert_eq!(enforcer.service.as_str(), "neuvector-enforcer-pod");
    }
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_dies_and_returns_is_told_once_and_nothing_is_told_twice() {
    let mut lab = lab().await;
    let (stays, dies) = (web(&lab, "web-0").await, web(&lab, "db-0").await);
    let mut seen = Watched::of(&lab, None);
    seen.running(stays.container()).await;
    seen.running(dies.container()).await;
    seen.until("the first list", |seen| seen.is_told("listed")).await;
    seen.for_a_while(Duration::from_secs(2)).await;

    lab.kill_containerd().await.unwrap();
    seen.until("the death", |seen| seen.is_told("down")).await;
    let pid = Pid::from_raw(dies.container().pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    seen.for_a_while(Duration::from_secs(1)).await;
    assert_eq!(seen.log.iter().filter(|told| *told == "down").count(), 1, "{:#?}", seen.log);

    seen.log.clear();
    lab.start_containerd().await.unwrap();
    seen.until("the return", |seen| seen.is_told("listed")).await;
    let id = &dies.container().id;
    seen.until("the missed exit", |seen| seen.workloads.get(id).is_none_or(|dead| !dead.running)).await;
    seen.for_a_while(Duration::from_secs(3)).await;
    assert_eq!(seen.log.iter().filter(|told| told.starts_with("up ")).count(), 1, "{:#?}", seen.log);
    assert_eq!(
        seen.log.iter().filter(|told| told.starts_with(&format!("stopped {id}"))).count(),
        1,
        "{:#?}",
        seen.log
    );
    let again = format!("+{}", stays.container().id);
    assert!(!seen.is_told(&again), "told again: {:#?}", seen.log);

    let after = web(&lab, "later-0").await;
    seen.running(after.container()).await;
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_starts_later_is_found() {
    let mut lab = lab().await;
    lab.kill_containerd().await.unwrap();
    std::fs::remove_file(lab.socket()).unwrap();
    let mut seen = Watched::of(&lab, None);
    seen.until("the absence", |seen| seen.is_told("down")).await;
    lab.start_containerd().await.unwrap();
    let pod = web(&lab, "web-0").await;
    seen.running(pod.container()).await;
    assert_eq!(seen.log.iter().filter(|told| *told == "down").count(), 1, "{:#?}", seen.log);
    lab.stop().await.unwrap();
}
