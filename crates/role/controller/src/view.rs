//! What readers see: one immutable value, replaced as a whole.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use nv_model::name::{EnforcerId, GroupName, NodeId, WorkloadId};
use nv_model::node::{Controller, Enforcer, Usage};
use nv_model::policy::Revision as PolicyRevision;
use nv_model::rule::RuleId;
use nv_model::scan::{ScanState, ScanSubject};
use nv_model::system::SystemConfig;
use nv_model::time::Timestamp;
use nv_model::vitals::Vitals;
use nv_model::workload::Workload;
use nv_policy::directory::Directory;
use nv_policy::membership;
use nv_policy::state::State;
use nv_store::Revision;

/// How often a rule decided, as the nodes report it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RuleMatch {
    /// Sessions since the rule was made.
    pub sessions: u64,
    /// The last one.
    pub last: Timestamp,
}

/// How far a node is with its policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePolicyState {
    /// The newest policy that was sent.
    pub sent: PolicyRevision,
    /// The newest one that the node enforces.
    pub enforced: PolicyRevision,
    /// Microseconds from the arrival of that policy to its last map write, as the node says.
    pub apply_micros: u64,
    /// Why the node did not take the newest one; empty when it did.
    pub error: String,
    /// Policy is sent but not acknowledged since then; never when nothing is open.
    pub waiting_since: Timestamp,
}

impl NodePolicyState {
    /// The node enforces the newest policy that was sent.
    #[must_use]
    pub fn is_enforced(&self) -> bool {
        self.enforced == self.sent && self.enforced != PolicyRevision(0) && self.error.is_empty()
    }
}

use crate::scan::{KeptReport, ScanStatus, SharedScans, Tally, subject_of};

/// What was lost on the way, as totals since the enforcer's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeLosses {
    /// Records that the kernel could not place in the ring buffer.
    pub kernel: u64,
    /// Observations that found the enforcer's queue full.
    pub queue: u64,
    /// Observations whose numbers never came.
    pub missing: u64,
}

/// Everything at one moment.
#[derive(Debug, Default)]
pub struct View {
    /// The last commit of the store that is in here.
    pub revision: Revision,
    /// Groups, rules, profiles, nodes, and workloads: those that run, and those that ended and are not removed yet.
    pub state: Arc<State>,
    /// Configuration of the system.
    pub config: Arc<SystemConfig>,
    /// Workloads that were removed in the last minutes.
    pub removed: Arc<BTreeMap<WorkloadId, Arc<Workload>>>,
    /// Enforcers, connected or not.
    pub enforcers: BTreeMap<EnforcerId, Enforcer>,
    /// Controllers.
    pub controllers: Vec<Controller>,
    /// Last use of CPU, memory and network by workloads.
    pub usage: Arc<BTreeMap<WorkloadId, Usage>>,
    /// The same by nodes.
    pub node_usage: Arc<BTreeMap<NodeId, Usage>>,
    /// How often rules decided.
    pub matches: Arc<BTreeMap<RuleId, RuleMatch>>,
    /// How far nodes are with their policy.
    pub policies: BTreeMap<NodeId, NodePolicyState>,
    /// Something in here may change a node's policy and is not compiled yet.
    pub compilation_due: bool,
    /// What was lost on the way from nodes.
    pub losses: BTreeMap<NodeId, NodeLosses>,
    /// How enforcers fare, by their last sign of life.
    pub vitals: BTreeMap<NodeId, Vitals>,
    pub(crate) scans: SharedScans,
    pub(crate) modified: Arc<BTreeMap<String, Revision>>,
    pub(crate) members: OnceLock<BTreeMap<GroupName, Vec<WorkloadId>>>,
    pub(crate) directory: OnceLock<Directory>,
}

impl View {
    /// Live workloads by group, worked out at the first call.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<GroupName, Vec<WorkloadId>> {
        self.members.get_or_init(|| membership::all_members(&self.state))
    }
    /// Who has which address, worked out at the first call.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        self.directory.get_or_init(|| Directory::new(&self.state))
    }
    /// What is known of the scans of a container: its own or its image's, whichever is newer.
    #[must_use]
    pub fn scan_of(&self, workload: &Workload) -> ScanStatus {
        let own = self.scans.status(&ScanSubject::Workload(workload.id.clone()));
        let of_image = self.scans.status(&subject_of(workload));
        let at = |status: &ScanStatus| status.report.as_ref().map(|report| report.at);
        // Whoever asked for the container's own wants to see it under way.
        let under_way = matches!(own.state, ScanState::Scheduled | ScanState::Scanning);
        if under_way || at(&own) > at(&of_image) || of_image.state == ScanState::Idle {
            own
        } else {
            of_image
        }
    }
    /// What is known of the scans of anything.
    #[must_use]
    pub fn scan(&self, subject: &ScanSubject) -> ScanStatus {
        self.scans.status(subject)
    }
    /// What a report counts for something of `image` in the namespace `domain`, both empty where it is in none: what is
    /// accepted there is left out.
    #[must_use]
    pub fn tally(&self, report: &KeptReport, image: &str, domain: &str) -> Tally {
        self.scans.tally(report, image, domain)
    }
    /// A workload that is there, or was until some minutes ago.
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<&Arc<Workload>> {
        self.state.workloads.get(id).or_else(|| self.removed.get(id))
    }
    /// Whether a node enforces all that is in here: it has acknowledged the newest policy, and none newer is to come.
    #[must_use]
    pub fn is_enforced_on(&self, node: &NodeId) -> bool {
        !self.compilation_due && self.policies.get(node).is_some_and(NodePolicyState::is_enforced)
    }
    /// The controller that leads, when it is known.
    #[must_use]
    pub fn leader(&self) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.leader)
    }
}
