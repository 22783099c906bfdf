//! Removes all that a lab made, whether its containerd still runs or not.
//!
//! It does not ask containerd: a lab must also be removable when that was killed, or by the next lab of the same
//! name after the process that owned it died. Everything is found by the lab's cgroup, folder and bridge.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::LabError;
use crate::cgroup::{self, Hierarchies};
use crate::docker;
use crate::runtime::Layout;

/// How long killed processes may take to vanish.
const END: Duration = Duration::from_secs(15);
/// Where libcni keeps results, whatever the network's configuration says.
const CNI_RESULTS: &str = "/var/lib/cni/results";
/// containerd's bundles below its state folder, by namespace and id.
const BUNDLES: &str = "io.containerd.runtime.v2.task";
/// What CRI keeps of its sandboxes below containerd's root folder, by id.
const SANDBOXES: &str = "io.containerd.grpc.v1.cri/sandboxes";

/// [`remove`] for `Drop`, which cannot wait: on a thread with a runtime of its own.
pub(crate) fn remove_now(layout: &Layout, bridge: &str) {
    let (layout, bridge) = (layout.clone(), bridge.to_owned());
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(remove(&layout, &bridge)).ok()
    });
    // What stays is found by the next lab of this name; there is no one to tell here.
    thread.join().map(drop).unwrap_or_default();
}

pub(crate) async fn remove(layout: &Layout, bridge: &str) -> Result<(), LabError> {
    let hierarchies = Hierarchies::of_this_machine();
    let roots: Vec<PathBuf> = hierarchies.all().map(|mount| mount.join(&layout.name)).collect();
    end_processes(&roots).await?;
    unmount_below(&layout.dir);
    for folder in roots.iter().flat_map(|root| cgroup::folders(root).into_iter().rev()) {
        remove_cgroup(&folder).await?;
    }
    remove_bridge(bridge).await?;
    remove_bridge(&docker::bridge_of(bridge)).await?;
    remove_strays(layout);
    match fs::remove_dir_all(&layout.dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::io("remove", &layout.dir)(error))
        }
        _ => Ok(()),
    }
}

/// Kills what runs in the lab's cgroups, again and again: a shim may be starting something.
async fn end_processes(roots: &[PathBuf]) -> Result<(), LabError> {
    let deadline = Instant::now() + END;
    loop {
        let pids: Vec<i32> = roots.iter().flat_map(|root| cgroup::processes(root)).collect();
        if pids.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let doing = format!("the end of processes {pids:?}");
            return Err(LabError::Timeout { doing, seconds: END.as_secs() });
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // It may be gone already; the next round looks again.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Removes a cgroup. It is busy until the last thread of what was killed in it is gone, which its list does not show.
async fn remove_cgroup(folder: &Path) -> Result<(), LabError> {
    let deadline = Instant::now() + END;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            removed => return removed.map_err(LabError::io("remove", folder)),
        }
    }
}

/// Unmounts everything below `dir`, last mounted first: root filesystems, network namespaces, shared memory.
fn unmount_below(dir: &Path) {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let below: Vec<&Path> = points.filter(|point| point.starts_with(dir)).collect();
    for point in below.into_iter().rev() {
        // Removing the folder says what is still in use.
        unmount(point, UnmountFlags::DETACH).unwrap_or_default();
    }
}

async fn remove_bridge(bridge: &str) -> Result<(), LabError> {
    let failed = |message: String| LabError::Runtime { doing: format!("remove bridge {bridge}"), message };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| failed(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let found = handle.link().get().match_name(bridge.to_owned()).execute().try_next().await;
    let removed = match found {
        Ok(Some(link)) => handle.link().del(link.header.index).execute().await,
        // The kernel answers "no such device".
        Ok(None) | Err(_) => Ok(()),
    };
    connection.abort();
    removed.map_err(|error| failed(error.to_string()))
}

/// Removes the files that shims and CNI keep outside of the lab's folder whatever they are told. One that stays
/// harms nobody.
fn remove_strays(layout: &Layout) {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for bundle in entries(&layout.state.join(BUNDLES)).flat_map(|namespace| entries(&namespace)) {
        let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
        if let Some(socket) = address.trim().strip_prefix("unix://") {
            fs::remove_file(socket).unwrap_or_default();
        }
    }
    let ours = format!("{}-", layout.name);
    for result in entries(Path::new(CNI_RESULTS)) {
        let name = result.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let sandbox = name.strip_prefix("cni-loopback-").and_then(|name| name.strip_suffix("-lo"));
        if name.starts_with(&ours) || sandbox.is_some_and(|id| layout.root.join(SANDBOXES).join(id).exists())
        {
            fs::remove_file(result).unwrap_or_default();
        }
    }
}
