//! Scans of what runs, without anybody's asking: each image once, whatever number of containers runs of it, and each node.

use std::collections::BTreeSet;
use std::time::Duration;

use nv_model::scan::{ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject};
use nv_model::workload::Workload;
use tokio_util::sync::CancellationToken;

use super::Scans;
use crate::view::View;

/// How often it is looked for what is new.
const LOOK: Duration = Duration::from_secs(2);
/// Scans that are begun by themselves and may wait at one time.
const AT_ONCE: usize = 64;
/// After how long a subject whose scan failed is tried again.
const AGAIN: Duration = Duration::from_secs(3600);

/// What a container's findings are kept under: its image, where that is known.
#[must_use]
pub fn subject_of(workload: &Workload) -> ScanSubject {
    if workload.image_id.is_empty() {
        ScanSubject::Workload(workload.id.clone())
    } else {
        ScanSubject::RunningImage(workload.image_id.clone())
    }
}

/// Until `shutdown`.
pub(crate) async fn run(scans: Scans, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let auto = scans.settings().auto;
        if !(auto.workloads || auto.hosts) || !scans.has_scanner() {
            continue;
        }
        let view = scans.inner.view.load_full();
        let mut wanted: Vec<ScanRequest> = Vec::new();
        if auto.workloads {
            wanted.extend(of_workloads(&view));
        }
        if auto.hosts {
            wanted.extend(view.state.nodes.keys().map(|node| ScanRequest {
                subject: ScanSubject::Node(node.clone()),
                source: ScanSource::Node(node.clone()),
                priority: ScanPriority::Automatic,
            }));
        }
        let room = AT_ONCE.saturating_sub(scans.counts().waiting);
        for request in wanted.into_iter().filter(|request| scans.is_new(&request.subject)).take(room) {
            if scans.enqueue(request).is_err() {
                break;
            }
        }
    }
}

fn of_workloads(view: &View) -> Vec<ScanRequest> {
    let mut seen = BTreeSet::new();
    let running = view.state.workloads.values().filter(|workload| workload.running && !workload.is_sandbox);
    running
        .filter_map(|workload| {
            let subject = subject_of(workload);
            seen.insert(subject.clone()).then(|| ScanRequest {
                subject,
                source: ScanSource::Workload(workload.id.clone()),
                priority: ScanPriority::Automatic,
            })
        })
        .collect()
}

impl Scans {
    /// Whether a scanner with a database is linked.
    fn has_scanner(&self) -> bool {
        self.state().scanners.values().any(|linked| linked.greeting.database.is_some())
    }

    /// Whether a subject has neither report nor a scan on its way, nor a failure of the last hour.
    fn is_new(&self, subject: &ScanSubject) -> bool {
        let status = self.status(subject);
        match status.state {
            ScanState::Idle => true,
            ScanState::Failed => {
                status.failure.is_some_and(|failure| self.inner.clock.now().since(failure.at) > AGAIN)
            }
            ScanState::Scheduled | ScanState::Scanning | ScanState::Finished => false,
        }
    }
}
