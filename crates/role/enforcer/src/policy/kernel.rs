//! The kernel's tables of this node: from a policy to rows, and from rows to what a record means.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use nv_model::mode::{Baseline, Fault, Mode, Modes};
use nv_model::name::{GroupName, WorkloadId};
use nv_model::policy::{Identity, IdentityId, IdentityKind, NodePolicy, WorkloadPolicy};
use nv_model::profile::EffectiveProfile;
use nv_policy::lower::{self, NetworkTables, ProcessTables, ProfileNumbers, RuleRef, TooManyRows};

use crate::identity::workloads::Workloads;

/// Rows of network rules that the kernel's table holds.
const MAX_NETWORK_RULES: usize = 262_144;

/// Pseudo-group whose profile and identity hold for workloads that no policy knows yet.
pub(crate) fn new_services() -> GroupName {
    GroupName::new_services()
}

/// Why a policy is not enforced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum KernelError {
    #[error(transparent)]
    TooManyRows(#[from] TooManyRows),
    #[error("the kernel's process tables")]
    Process(#[source] nv_probe::tables::TableError),
    #[error("{refused} process rules do not fit into the kernel's tables")]
    ProcessRulesRefused { refused: usize },
    #[error("the kernel's network tables")]
    Network(#[source] nv_capture::TableError),
}

/// The tables, and what their numbers mean.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) process: nv_probe::Tables,
    pub(crate) network: nv_capture::Tables,
    pub(crate) places: nv_capture::Places,
    pub(crate) flows: nv_capture::Flows,
    pub(crate) counters: nv_capture::Counters,
    pub(crate) tap: Arc<nv_capture::Tap>,
    rules: BTreeMap<(u32, u32), RuleRef>,
}

impl Kernel {
    /// Over the tables that the keeper handed on.
    pub(crate) fn new(
        process: nv_probe::Tables,
        network: nv_capture::Tables,
        places: nv_capture::Places,
        flows: nv_capture::Flows,
        counters: nv_capture::Counters,
        tap: nv_capture::Tap,
    ) -> Self {
        Self { process, network, places, flows, counters, tap: Arc::new(tap), rules: BTreeMap::new() }
    }

    /// Enforces a policy that is completed by what this node knows itself. Rows that a packet or program needs are there
    /// before the ones that lead to them, so that nothing is judged by half a policy.
    pub(crate) fn apply(
        &mut self,
        completed: &NodePolicy,
        numbers: &mut ProfileNumbers,
    ) -> Result<(), KernelError> {
        let network = network_rows(lower::network(completed, MAX_NETWORK_RULES)?);
        let processes = lower::processes(completed, numbers);
        for line in &processes.left_out {
            tracing::warn!(group = %line.group, rule = %line.uuid, "a process rule's prefix is too long for the kernel and has no effect");
        }
        let rows = process_rows(&processes);
        let ask_for_callers = rows.ask_for_callers();
        if ask_for_callers {
            crate::policy::callers::keep(&self.process).map_err(KernelError::Process)?;
        }
        let replaced = self.process.replace(&rows).map_err(KernelError::Process)?;
        if replaced.refused > 0 {
            return Err(KernelError::ProcessRulesRefused { refused: replaced.refused });
        }
        if !ask_for_callers && self.process.keeps_callers().map_err(KernelError::Process)? {
            self.process.keep_callers(false).map_err(KernelError::Process)?;
        }
        self.rules = processes.rules;
        self.network.apply(&network).map_err(KernelError::Network)?;
        Ok(())
    }

    /// The same, where nothing but the names of addresses has changed.
    pub(crate) fn apply_network(&mut self, completed: &NodePolicy) -> Result<(), KernelError> {
        let network = network_rows(lower::network(completed, MAX_NETWORK_RULES)?);
        self.network.apply(&network).map_err(KernelError::Network)?;
        Ok(())
    }

    /// The line of a profile that a record names.
    pub(crate) fn rule(&self, profile: u32, rule: u32) -> Option<&RuleRef> {
        self.rules.get(&(profile, rule))
    }
}

/// The policy with what only the node knows: a profile and an identity for new workloads, a profile for the host, and
/// the addresses of workloads that the controllers have not told of yet.
pub(crate) fn complete(policy: NodePolicy, workloads: &Workloads) -> NodePolicy {
    let mut completed = policy;
    let settings = completed.settings;
    let profile = |group: GroupName, modes: Modes| EffectiveProfile {
        group,
        mode: modes.profile,
        baseline: modes.baseline,
        rules: Vec::new(),
        files: Vec::new(),
        alert_disabled: false,
        fault: modes.fault,
    };
    let new = new_services();
    completed.profiles.insert(new.clone(), profile(new.clone(), settings.new_service));
    // Nothing of a container runs before it is known which one it is, where new services fail closed.
    let unidentified = if settings.new_service.fault == Fault::Closed {
        Modes { profile: Mode::Protect, baseline: Baseline::Basic, ..settings.new_service }
    } else {
        settings.new_service
    };
    completed.profiles.insert(GroupName::unidentified(), profile(GroupName::unidentified(), unidentified));
    completed
        .profiles
        .entry(GroupName::nodes())
        .or_insert_with(|| profile(GroupName::nodes(), Modes::default()));
    completed.identities.insert(
        IdentityId::NEW,
        Identity {
            kind: IdentityKind::Workload,
            group: new,
            mode: Some(settings.new_service.network),
            names: Vec::new(),
        },
    );
    completed.identities.entry(IdentityId::NODES).or_insert_with(|| Identity {
        kind: IdentityKind::Node,
        group: GroupName::nodes(),
        mode: None,
        names: Vec::new(),
    });
    for (id, address) in workloads.addresses() {
        let identity = match (completed.workloads.get(id), workloads.get(id)) {
            (Some(workload), _) => workload.identity,
            (None, Some(local)) => identity_of_new(&completed.workloads, &local.workload.learned_group()),
            (None, None) => IdentityId::NEW,
        };
        completed.addresses.entry(IpNet::from(address)).or_insert(identity);
    }
    completed
}

/// The identity of a workload that the controllers have not told of yet: that of its service's others, if there are
/// any here, so that it is held by the service's rules from its first moment on.
pub(crate) fn identity_of_new(
    workloads: &BTreeMap<WorkloadId, WorkloadPolicy>,
    group: &GroupName,
) -> IdentityId {
    let sibling = workloads.values().find(|known| known.group == *group);
    sibling.map_or(IdentityId::NEW, |known| known.identity)
}

/// The identity that an address has: the longest prefix counts, outside of all it is external.
pub(crate) fn identity_of(policy: &NodePolicy, address: IpAddr) -> IdentityId {
    policy
        .addresses
        .iter()
        .filter(|(net, _)| net.contains(&address))
        .max_by_key(|(net, _)| net.prefix_len())
        .map_or(IdentityId::EXTERNAL, |(_, identity)| *identity)
}

fn process_rows(tables: &ProcessTables) -> nv_probe::tables::Rows {
    use nv_probe::tables::{ConditionRow, ExactKey, PatternKey, ProfileRow, Rows, RuleRow};
    let row = |row: &lower::ProcessRow| RuleRow {
        action: row.action,
        allow_update: row.allow_update,
        learned: row.learned,
        order: row.order,
        rule: row.rule,
        conditional: row.conditional,
    };
    let condition = |row: &lower::ConditionRow| ConditionRow {
        rule: RuleRow {
            action: row.action,
            allow_update: row.allow_update,
            learned: row.learned,
            order: row.order,
            rule: row.rule,
            conditional: row.next,
        },
        conditions: row.conditions.clone(),
    };
    Rows {
        profiles: tables
            .profiles
            .iter()
            .map(|(number, profile)| {
                (*number, ProfileRow { mode: profile.mode, baseline: profile.baseline, fault: profile.fault })
            })
            .collect(),
        exact: tables
            .exact
            .iter()
            .map(|(key, value)| (ExactKey { profile: key.profile, path: key.path.clone() }, row(value)))
            .collect(),
        patterns: tables
            .patterns
            .iter()
            .map(|(key, value)| {
                let key =
                    PatternKey { profile: key.profile, name_hash: key.name_hash, prefix: key.prefix.clone() };
                (key, row(value))
            })
            .collect(),
        conditions: tables.conditions.iter().map(|(number, row)| (*number, condition(row))).collect(),
    }
}

fn network_rows(tables: NetworkTables) -> nv_capture::Rows {
    use nv_capture::{AddressKey, ModeRow, Rows, RuleAction, RuleKey, RuleRow};
    Rows {
        modes: tables.modes.into_iter().map(|(id, mode)| (id.0, ModeRow::from_number(mode.0))).collect(),
        addresses: tables.addresses.into_iter().map(|(net, id)| (AddressKey::new(net), id.0)).collect(),
        rules: tables
            .rules
            .into_iter()
            .map(|(key, row)| {
                let action = match row.action {
                    1 => RuleAction::Allow,
                    3 => RuleAction::Learned,
                    _ => RuleAction::Deny,
                };
                let key =
                    RuleKey::with_prefix(key.client.0, key.server.0, key.protocol, key.port, key.prefix_bits);
                (key, RuleRow::new(action, row.rule.0))
            })
            .collect(),
        strict: tables.settings.strict,
        disabled: tables.settings.disabled,
    }
}

#[cfg(test)]
mod tests {
    use nv_model::verdict::Verdict;

    use super::*;

    #[test]
    fn a_policy_knows_the_identity_of_an_address_by_its_longest_prefix() {
        let mut policy = NodePolicy::default();
        policy.addresses.insert("10.0.0.0/8".parse().unwrap(), IdentityId(20));
        policy.addresses.insert("10.1.0.0/16".parse().unwrap(), IdentityId(21));
        for (address, want) in [("10.1.2.3", 21), ("10.2.2.3", 20), ("192.0.2.1", 1)] {
            assert_eq!(identity_of(&policy, address.parse().unwrap()), IdentityId(want), "{address}");
        }
    }

    #[test]
    fn a_new_workload_has_the_identity_of_its_services_others() {
        let group = |name: &str| -> GroupName { name.parse().unwrap() };
        let known = WorkloadPolicy { group: group("nv.web"), identity: IdentityId(20), quarantined: false };
        let workloads = BTreeMap::from([("old".parse().unwrap(), known)]);
        assert_eq!(identity_of_new(&workloads, &group("nv.web")), IdentityId(20));
        assert_eq!(identity_of_new(&workloads, &group("nv.shop")), IdentityId::NEW);
    }

    #[test]
    fn nothing_of_an_unidentified_container_runs_where_new_services_fail_closed() {
        let mut policy = NodePolicy::default();
        let unidentified = |policy: &NodePolicy| {
            let completed = complete(policy.clone(), &Workloads::default());
            let profile = completed.profiles.get(&GroupName::unidentified()).cloned().unwrap();
            let facts = nv_policy::decide::ProgramFacts::default();
            nv_policy::decide::process(&profile, "/bin/sh", facts).verdict
        };
        assert_eq!(unidentified(&policy), Verdict::Learn, "by default it is held like new services are");
        policy.settings.new_service.fault = Fault::Closed;
        assert_eq!(unidentified(&policy), Verdict::Deny);
    }
}
