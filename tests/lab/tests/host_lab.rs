//! The lab itself, on this machine. Needs root, containerd, runc, CNI plug-ins and busybox.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

use std::path::Path;
use std::time::{Duration, Instant};

use nv_lab::{ContainerSpec, Image, Lab, LabOptions, Output, PlainSpec, Pod, PodSpec};

const WEB: &str = "docker.io/library/web:1";

async fn lab() -> Lab {
    let lab = Lab::start(LabOptions::fresh().unwrap()).await.unwrap();
    let image = Image::busybox(WEB).unwrap().file("/www/hello", "hello from the pod\n", 0o644);
    lab.import(&image).await.unwrap();
    lab
}

async fn web(lab: &Lab, name: &str) -> Pod {
    lab.pod(name, "shop", &[("app", "web")], WEB, &["httpd", "-f", "-p", "80", "-h", "/www"]).await.unwrap()
}

/// Whether the process runs; one that ended but was not yet waited for has no command line.
fn runs(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| !words.is_empty())
}

/// Fetches until the server listens, at most 5 s.
async fn fetch(lab: &Lab, from: &Pod, url: &str) -> Output {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let output =
            lab.exec(from.container(), &["timeout", "2", "wget", "-q", "-O", "-", url]).await.unwrap();
        if output.exit_code == 0 || Instant::now() > deadline {
            return output;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_fetch_from_each_other_over_ipv4_and_ipv6() {
    let lab = lab().await;
    let server = web(&lab, "web-7d9c5b8f6-x2x5z").await;
    let client = lab.pod("client-0", "shop", &[], WEB, &["sleep", "600"]).await.unwrap();
    for url in [
        format!("http://{}/hello", server.ipv4().unwrap()),
        format!("http://[{}]/hello", server.ipv6().unwrap()),
    ] {
        let output = fetch(&lab, &client, &url).await;
        assert_eq!(
            (output.exit_code, output.stdout.as_str()),
            (0, "hello from the pod\n"),
            "{url}: {output:?}"
        );
    }
    assert_eq!(server.container().name, "web");
    assert!(server.container().cgroup.ends_with(&server.container().id), "{server:?}");
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_in_containers_of_pods_and_in_plain_ones_and_tells_how_it_ended() {
    let lab = lab().await;
    let pod = web(&lab, "web-0").await;
    lab.import_into("default", &Image::busybox(WEB).unwrap()).await.unwrap();
    let plain = lab.run_plain(&PlainSpec::new("c1", WEB, &["sleep", "600"])).await.unwrap();
    for container in [pod.container(), &plain] {
        let output = lab.task_exec(container, &["sh", "-c", "echo out; echo err >&2; exit 3"]).await.unwrap();
        let want = Output { exit_code: 3, stdout: "out\n".into(), stderr: "err\n".into() };
        assert_eq!(output, want, "{container:?}");
    }
    let output = lab.exec(pod.container(), &["sh", "-c", "kill -9 $$"]).await.unwrap();
    assert_eq!(output.exit_code, 137);
    let absent = lab.exec(pod.container(), &["/no/such/program"]).await.unwrap_err().to_string();
    assert!(absent.contains("/no/such/program"), "{absent}");
    lab.remove_plain(&plain).await.unwrap();
    assert!(!runs(plain.pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_several_containers_and_may_use_the_hosts_network() {
    let lab = lab().await;
    let spec = PodSpec::new("node-agent-x2x5z", "kube-system")
        .host_network()
        .container(ContainerSpec::new("one", WEB, &["sleep", "600"]))
        .container(ContainerSpec::new("two", WEB, &["sleep", "600"]).privileged());
    let pod = lab.run_pod(&spec).await.unwrap();
    let host = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(pod.containers.len(), 2);
    for container in &pod.containers {
        assert_eq!(std::fs::read_link(format!("/proc/{}/ns/net", container.pid)).unwrap(), host);
    }
    lab.remove_pod(&pod).await.unwrap();
    assert!(!runs(pod.container().pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_outlive_their_containerd_and_nothing_outlives_the_lab() {
    let mut lab = lab().await;
    let pod = web(&lab, "web-0").await;
    lab.kill_containerd().await.unwrap();
    assert!(runs(pod.container().pid));
    lab.start_containerd().await.unwrap();
    assert_eq!(lab.exec(pod.container(), &["true"]).await.unwrap().exit_code, 0);
    lab.restart_containerd().await.unwrap();
    assert_eq!(lab.exec(pod.container(), &["true"]).await.unwrap().exit_code, 0);

    lab.kill_containerd().await.unwrap();
    let (dir, bridge) = (lab.options().dir.clone(), lab.options().bridge.clone());
    drop(lab);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!runs(pod.container().pid), "a process stayed");
    assert!(!mounts.contains(&*dir.to_string_lossy()), "a mount stayed: {mounts}");
    assert!(!dir.exists(), "the folder stayed");
    assert!(!Path::new("/sys/class/net").join(&bridge).exists(), "the bridge stayed");
}
