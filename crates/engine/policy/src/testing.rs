//! Makers of small states for tests.

use std::sync::Arc;

use nv_model::group::{Criterion, CriterionOp, Group, GroupKind, Origin};
use nv_model::mode::Modes;
use nv_model::name::GroupName;
use nv_model::node::Node;
use nv_model::profile::ProcessRule;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::time::Timestamp;
use nv_model::verdict::Action;
use nv_model::workload::{InterfaceAddress, Workload};

use crate::state::{State, home_group, is_host, plain_group};

pub(crate) fn name(raw: &str) -> GroupName {
    raw.parse().unwrap()
}

pub(crate) fn workload(id: &str, node: &str, service: &str, domain: &str) -> Workload {
    Workload {
        id: id.parse().unwrap(),
        name: id.into(),
        node: node.parse().unwrap(),
        host_name: String::new(),
        service: service.parse().unwrap(),
        domain: (!domain.is_empty()).then(|| domain.parse().unwrap()),
        pod_name: String::new(),
        pod_sandbox: None,
        is_sandbox: false,
        image: String::new(),
        image_id: String::new(),
        labels: Default::default(),
        role: Default::default(),
        pid: 1,
        cgroup: String::new(),
        cgroup_id: 0,
        network_namespace: 0,
        host_network: false,
        interfaces: vec![],
        ports: vec![],
        privileged: false,
        run_as_root: false,
        memory_limit: 0,
        cpus: String::new(),
        service_account: String::new(),
        runtime: String::new(),
        created: Timestamp::NEVER,
        started: Timestamp::from_seconds(1),
        finished: Timestamp::NEVER,
        secured: Timestamp::NEVER,
        running: true,
        exit_code: 0,
    }
}

pub(crate) fn at(mut workload: Workload, address: &str) -> Workload {
    workload.interfaces.push(InterfaceAddress {
        interface: "eth0".into(),
        address: address.parse().unwrap(),
        gateway: None,
    });
    workload
}

pub(crate) fn node(id: &str, address: &str) -> Node {
    Node {
        id: id.parse().unwrap(),
        name: format!("{id}-name"),
        runtime: String::new(),
        runtime_version: String::new(),
        platform: String::new(),
        os: String::new(),
        kernel: String::new(),
        cpus: 1,
        memory: 0,
        cgroup_version: 2,
        storage_driver: String::new(),
        interfaces: vec![InterfaceAddress {
            interface: "eth0".into(),
            address: address.parse().unwrap(),
            gateway: None,
        }],
        labels: Default::default(),
        annotations: Default::default(),
    }
}

pub(crate) fn group(name: &str, criteria: &[(&str, &str, &str)]) -> Group {
    let mut group = plain_group(self::name(name), GroupKind::Container, Origin::UserCreated);
    group.criteria = criteria
        .iter()
        .map(|(key, op, value)| Criterion {
            key: (*key).into(),
            value: (*value).into(),
            op: CriterionOp::parse(op).unwrap(),
        })
        .collect();
    if criteria.iter().any(|(key, ..)| *key == "address") {
        group.kind = GroupKind::Address;
    }
    group
}

/// The reserved groups, the workloads and their learned groups.
pub(crate) fn state(workloads: &[Workload]) -> State {
    let mut state = State::default();
    for change in state.missing_reserved() {
        state.apply(&change);
    }
    for workload in workloads {
        let home = home_group(workload);
        if !is_host(workload) {
            let mut group = plain_group(home.clone(), GroupKind::Container, Origin::Learned);
            group.domain = workload.domain.clone();
            group.modes = Some(Modes::default());
            state.groups.insert(home, group);
        }
        state.workloads.insert(workload.id.clone(), Arc::new(workload.clone()));
    }
    state
}

pub(crate) fn rule(id: u32, from: &str, to: &str, ports: &str, action: Action) -> NetworkRule {
    NetworkRule {
        id: RuleId(id),
        comment: String::new(),
        from: name(from),
        to: name(to),
        ports: ports.parse().unwrap(),
        applications: vec![],
        action,
        origin: RuleId(id).origin().unwrap(),
        disabled: false,
        priority: 0,
        created: Timestamp::NEVER,
        modified: Timestamp::NEVER,
    }
}

pub(crate) fn process(uuid: &str, name: &str, path: &str, action: Action) -> ProcessRule {
    ProcessRule {
        uuid: uuid.into(),
        name: name.into(),
        path: path.parse().unwrap(),
        action,
        origin: Origin::UserCreated,
        allow_update: false,
        conditions: Default::default(),
        created: Timestamp::NEVER,
        modified: Timestamp::NEVER,
    }
}
