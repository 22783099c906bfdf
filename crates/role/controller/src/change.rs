//! What operators and learning change, as data, and the answer to it.

use nv_model::file::{FilePattern, FileRule};
use nv_model::group::Group;
use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::name::{GroupName, WorkloadId};
use nv_model::node::{Enforcer, Node};
use nv_model::profile::ProcessRule;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::system::SystemConfig;
use nv_policy::modes::ModeError;
use nv_policy::order::{OrderError, Place};
use nv_policy::validate::{Refusal, RefusalKind};
use nv_store::{Revision, StoreError};

use crate::import::Import;
use crate::view::View;

/// A change that an operator asks for. It happens whole or not at all.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new group.
    CreateGroup(Box<Group>),
    /// Another comment, other criteria, thresholds: replaces a group that is there. Its modes stay.
    UpdateGroup(Box<Group>),
    /// A group goes, with its profile and the learned rules that name it.
    DeleteGroup(GroupName),
    /// Modes of groups; `None` leaves one as it is.
    SetModes {
        /// Learned groups, or `nodes`.
        groups: Vec<GroupName>,
        /// For network rules.
        network: Option<Mode>,
        /// For processes and files.
        profile: Option<Mode>,
        /// For processes.
        baseline: Option<Baseline>,
        /// Where a verdict cannot be found in time.
        fault: Option<Fault>,
    },
    /// New rules at a place. A rule with id 0 gets the next free one of its origin.
    InsertRules {
        /// The rules.
        rules: Vec<NetworkRule>,
        /// Where.
        place: Place,
    },
    /// Another content for a rule that is there; its place stays.
    UpdateRule(Box<NetworkRule>),
    /// A rule goes elsewhere.
    MoveRule {
        /// Which one.
        id: RuleId,
        /// Where.
        place: Place,
    },
    /// Rules go.
    DeleteRules(Vec<RuleId>),
    /// The whole list of users' rules, in order: one that is not in it goes. Learned rules go only when they are named.
    ReplaceRules {
        /// The rules; id 0 for new ones. Learned ones may be among them and stand where they are put.
        rules: Vec<NetworkRule>,
        /// Learned rules that go.
        delete: Vec<RuleId>,
    },
    /// Lines of a profile; a line with the name and path of one that is there replaces it.
    UpdateProfile {
        /// Whose.
        group: GroupName,
        /// New and changed lines.
        set: Vec<ProcessRule>,
        /// Lines that go, by name and path.
        delete: Vec<ProcessRule>,
        /// No incidents are logged.
        alert_disabled: Option<bool>,
        /// Hashes are recorded.
        hash_enabled: Option<bool>,
    },
    /// Lines of a file profile.
    UpdateFiles {
        /// Whose.
        group: GroupName,
        /// New lines; a filter that is there already is refused.
        add: Vec<FileRule>,
        /// Lines that are another content for the same filter.
        update: Vec<FileRule>,
        /// Filters of lines that go.
        delete: Vec<FilePattern>,
    },
    /// Groups with all that holds for them, out of a file.
    Import(Box<Import>),
    /// The configuration of the whole system, as it is to be.
    SetConfig(Box<SystemConfig>),
    /// Cuts a workload off from the network, or ends that.
    Quarantine {
        /// Which one.
        workload: WorkloadId,
        /// Cut off.
        on: bool,
    },
}

/// Why a change was not made. Nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// What it names is not there.
    #[error("{what}")]
    NotFound {
        /// What it names, as a sentence.
        what: String,
    },
    /// What it makes is there already.
    #[error("{what}")]
    Duplicate {
        /// What it makes, as a sentence.
        what: String,
    },
    /// A value that is not accepted.
    #[error("{what}")]
    Invalid {
        /// What is wrong, as a sentence.
        what: String,
    },
    /// Reserved, or owned by a custom resource or the federation's primary.
    #[error("{what}")]
    ReadOnly {
        /// What it is and who owns it, as a sentence.
        what: String,
        /// The rules concerned, for the contract's `read_only_rule_ids`.
        rules: Vec<u32>,
    },
    /// Something else needs it.
    #[error("{what}")]
    InUse {
        /// What it is and what needs it, as a sentence.
        what: String,
    },
    /// Others changed the same thing again and again. Trying again later may help.
    #[error("{what} is being changed by others")]
    Conflict {
        /// Which key.
        what: String,
    },
    /// This controller does not decide (any more), or the queue of changes is full. Trying again later helps.
    #[error("changes are not accepted now: {why}")]
    Unavailable {
        /// Why.
        why: &'static str,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl ChangeError {
    pub(crate) fn invalid<E: std::fmt::Display>(what: E) -> Self {
        Self::Invalid { what: format!("{what}") }
    }
    /// The same, with where in a file it is.
    pub(crate) fn within(self, place: &str) -> Self {
        let at = |what: String| format!("{place}: {what}");
        match self {
            Self::NotFound { what } => Self::NotFound { what: at(what) },
            Self::Duplicate { what } => Self::Duplicate { what: at(what) },
            Self::Invalid { what } => Self::Invalid { what: at(what) },
            Self::ReadOnly { what, rules } => Self::ReadOnly { what: at(what), rules },
            Self::InUse { what } => Self::InUse { what: at(what) },
            other @ (Self::Conflict { .. } | Self::Unavailable { .. } | Self::Store(_)) => other,
        }
    }
}

/// One step of a transaction; what [`crate::Controller::transact`] takes.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Policy.
    Policy(nv_policy::change::Change),
    /// Configuration.
    Config(Box<SystemConfig>),
    /// Cutting a workload off, or not any more.
    Quarantine(WorkloadId, bool),
    /// A node that reported.
    Node(Box<Node>),
    /// An enforcer that connected.
    Enforcer(Box<Enforcer>),
}

/// Works out the steps from what is there. Called again after a conflict, so it must not have effects of its own.
pub type Planner = Box<dyn FnMut(&View) -> Result<Vec<Edit>, ChangeError> + Send>;

/// What came of a change.
pub type ChangeResult = Result<Revision, ChangeError>;

impl From<Refusal> for ChangeError {
    fn from(refusal: Refusal) -> Self {
        let what = refusal.to_string();
        match refusal.kind() {
            RefusalKind::NotFound => Self::NotFound { what },
            RefusalKind::Duplicate => Self::Duplicate { what },
            RefusalKind::ReadOnly => Self::ReadOnly { what, rules: Vec::new() },
            RefusalKind::InUse => Self::InUse { what },
            RefusalKind::Invalid => Self::Invalid { what },
        }
    }
}

impl From<ModeError> for ChangeError {
    fn from(error: ModeError) -> Self {
        let what = error.to_string();
        match error {
            ModeError::Unknown(_) => Self::NotFound { what },
            ModeError::ReadOnly(_) => Self::ReadOnly { what, rules: Vec::new() },
            _ => Self::Invalid { what },
        }
    }
}

impl From<OrderError> for ChangeError {
    fn from(error: OrderError) -> Self {
        let what = error.to_string();
        match error {
            OrderError::Unknown(_) => Self::NotFound { what },
            OrderError::Duplicate(_) => Self::Duplicate { what },
            OrderError::Ground(id) => Self::ReadOnly { what, rules: vec![id.0] },
            _ => Self::Invalid { what },
        }
    }
}
