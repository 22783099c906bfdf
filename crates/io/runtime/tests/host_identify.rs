//! Identity in time: known before a container's first process runs. Needs root, containerd, runc, CNI plug-ins and
//! busybox.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]
#![expect(clippy::print_stdout, reason = "the measured lead is worth reading")]

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nv_lab::{ContainerSpec, Image, Lab, LabOptions, PlainSpec, Pod};
use nv_model::workload::Workload;
use nv_runtime::{Host, RuntimeEvent, Watcher, WatcherConfig};
use nv_telemetry::SystemClock;
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const WEB: &str = "docker.io/library/web:1";
/// Says when it runs, to the microsecond (busybox's `date` has whole seconds only), and stays.
const TELL: [&str; 3] = ["sh", "-c", "adjtimex > /first; exec sleep 600"];
const PATIENCE: Duration = Duration::from_secs(20);

/// Gives the path of each cgroup that is made in `parent`, as the kernel's own notice of it would.
fn new_cgroups(root: &Path, parent: &str) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (folder, parent) = (root.join(parent.trim_start_matches('/')), parent.to_owned());
    std::fs::create_dir_all(&folder).unwrap();
    let notices = init(CreateFlags::CLOEXEC).unwrap();
    add_watch(&notices, &folder, WatchFlags::CREATE).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&notices, &mut buffer);
        while let Ok(notice) = reader.next() {
            let name = notice.file_name().and_then(|name| name.to_str().ok()).unwrap_or_default();
            if sender.send(format!("{parent}/{name}")).is_err() {
                return;
            }
        }
    });
    receiver
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// When the container's first process ran, in microseconds since 1970.
async fn first_run(pid: u32) -> u128 {
    let told = async {
        loop {
            let told = std::fs::read_to_string(format!("/proc/{pid}/root/first")).unwrap_or_default();
            let field = |name| -> Option<u128> {
                told.lines().find_map(|line| line.trim().strip_prefix(name))?.trim().parse().ok()
            };
            if let (Some(seconds), Some(micros)) = (field("time.tv_sec:"), field("time.tv_usec:")) {
                return seconds * 1_000_000 + micros;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap()
}

async fn watched(lab: &Lab) -> Watcher {
    let host = Arc::new(Host::of_this_machine("n1".parse().unwrap(), "node-1".into()));
    let config = WatcherConfig::new(lab.socket().to_path_buf(), host, Arc::new(SystemClock::new()));
    let mut watcher = Watcher::spawn(config, CancellationToken::new());
    while watcher.events.recv().await != Some(RuntimeEvent::Listed) {}
    watcher
}

fn unified() -> PathBuf {
    Host::of_this_machine("n1".parse().unwrap(), String::new()).cgroup_root.unwrap()
}

async fn lab() -> Lab {
    let lab = Lab::start(LabOptions::fresh().unwrap()).await.unwrap();
    lab.import(&Image::busybox(WEB).unwrap()).await.unwrap();
    lab.import_into("default", &Image::busybox(WEB).unwrap()).await.unwrap();
    lab
}

fn report(what: &str, mut leads: Vec<u128>) {
    leads.sort_unstable();
    let at = |part: usize| leads.get(leads.len() * part / 100).copied().unwrap_or_default();
    println!("{what}: known {} µs (least), {} µs (median) before the first process", at(0), at(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_pods_are_known_before_their_first_process() {
    let lab = lab().await;
    let mut watcher = watched(&lab).await;
    let mut pod: Pod = lab.pod("web-7d9c5b8f6-x2x5z", "shop", &[], WEB, &["sleep", "600"]).await.unwrap();
    let parent = format!("{}/kubepods/burstable/pod{}", lab.cgroup(), pod.uid);
    let mut cgroups = new_cgroups(&unified(), &parent);
    let mut leads = Vec::new();
    for number in 0..20 {
        let name = format!("c{number}");
        let identifier = watcher.identifier.clone();
        let identify = async {
            let cgroup = cgroups.recv().await.unwrap();
            (identifier.identify(&cgroup).await, now())
        };
        let spec = ContainerSpec::new(&name, WEB, &TELL);
        let (started, (found, at)) =
            tokio::join!(Box::pin(lab.add_container(&mut pod, &spec)), Box::pin(identify));
        let (started, found): (_, Workload) = (started.unwrap(), found.unwrap());
        assert_eq!((found.id.as_str(), found.name.as_str()), (started.id.as_str(), name.as_str()));
        assert_eq!((found.learned_group().as_str(), found.image.as_str()), ("nv.web.shop", WEB));
        assert_eq!(found.cgroup, started.cgroup);
        assert_ne!(found.cgroup_id, 0);
        let ran = first_run(started.pid).await;
        assert!(at < ran, "{name} was known {} µs too late", at - ran);
        leads.push(ran - at);
        while watcher.events.try_recv().is_ok() {}
    }
    report("pods", leads);
    lab.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_containers_are_known_with_their_image_before_their_first_process() {
    let lab = lab().await;
    let mut watcher = watched(&lab).await;
    let mut cgroups = new_cgroups(&unified(), &format!("{}/default", lab.cgroup()));
    let mut leads = Vec::new();
    for number in 0..10 {
        let identifier = watcher.identifier.clone();
        let identify = async {
            let cgroup = cgroups.recv().await.unwrap();
            (identifier.identify(&cgroup).await, now())
        };
        let spec = PlainSpec::new(&format!("c{number}"), WEB, &TELL);
        let (started, (found, at)) = tokio::join!(Box::pin(lab.run_plain(&spec)), Box::pin(identify));
        let (started, found): (_, Workload) = (started.unwrap(), found.unwrap());
        assert_eq!((found.id.as_str(), found.learned_group().as_str()), (started.id.as_str(), "nv.web"));
        let ran = first_run(started.pid).await;
        assert!(at < ran, "{} was known {} µs too late", started.id, at - ran);
        leads.push(ran - at);
        while watcher.events.try_recv().is_ok() {}
    }
    report("plain", leads);
    lab.stop().await.unwrap();
}
