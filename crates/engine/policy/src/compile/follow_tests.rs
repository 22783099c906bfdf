//! The compiler that follows changes says what a compilation from nothing says.

use std::collections::BTreeMap;
use std::sync::Arc;

use nv_model::mode::Mode;
use nv_model::name::NodeId;
use nv_model::policy::{NodePolicy, PolicyDelta, Revision};
use nv_model::verdict::Action;
use nv_model::workload::{PlatformRole, Workload};
use proptest::prelude::*;

use super::*;
use crate::state::BOUNDARY_LABEL;
use crate::testing::{at, group, name, node, rule, state, workload};

/// One thing that may happen.
#[derive(Clone, Debug)]
enum Step {
    Put { id: u8, node: u8, service: u8, address: u8, shape: u8 },
    Gone(u8),
    Quarantine(u8),
    Mode(u8, u8),
    Rules(Vec<(u8, u8, bool, bool)>),
    Boundary(bool),
    Label(u8, bool),
    Node(u8, bool),
    Strict(bool),
    Subnet(bool),
}

const ENDS: [&str; 9] = [
    "nv.s0.d0",
    "nv.s1.d1",
    "nv.s2.d0",
    "containers",
    "external",
    "nodes",
    "labelled",
    "net",
    "Workload:10.0.0.3",
];

fn made(id: u8, node: u8, service: u8, address: u8, shape: u8) -> Workload {
    let mut made = workload(
        &format!("w{id}"),
        &format!("n{node}"),
        &format!("s{service}"),
        &format!("d{}", service % 2),
    );
    let (host, far) = (shape == 1, shape == 2);
    // Some are outside of every inner network, some say nothing about one.
    made = at(
        made,
        &if far { format!("100.64.0.{address}/32") } else { format!("10.0.{}.{address}/24", node % 2) },
    );
    made.host_network = host;
    if shape == 3 {
        made.pod_sandbox = Some("w0".parse().unwrap());
        made.interfaces.clear();
    }
    if shape == 4 {
        made.role = PlatformRole::Core;
    }
    if shape == 5 {
        made.running = false;
        made.finished = nv_model::time::Timestamp::from_seconds(1);
    }
    made
}

fn apply(state: &mut State, step: &Step) {
    let id = |n: u8| -> nv_model::name::WorkloadId { format!("w{n}").parse().unwrap() };
    match step.clone() {
        Step::Put { id, node, service, address, shape } => {
            let made = made(id, node, service, address, shape);
            for change in crate::learn::group(state, &made).into_iter() {
                state.apply(&change);
            }
            state.workloads.insert(made.id.clone(), Arc::new(made));
        }
        Step::Gone(n) => drop(state.workloads.remove(&id(n))),
        Step::Quarantine(n) => {
            if !state.quarantined.remove(&id(n)) {
                state.quarantined.insert(id(n));
            }
        }
        Step::Mode(service, mode) => {
            let group = name(ENDS[usize::from(service % 3)]);
            let mode = [Mode::Discover, Mode::Monitor, Mode::Protect][usize::from(mode % 3)];
            if let Some(modes) = state.groups.get_mut(&group).and_then(|group| group.modes.as_mut()) {
                modes.network = mode;
            }
        }
        Step::Rules(list) => {
            state.rules = (1..)
                .zip(list)
                .map(|(id, (from, to, allow, learned))| {
                    let end = |n: u8| ENDS[usize::from(n) % ENDS.len()];
                    let action = if allow { Action::Allow } else { Action::Deny };
                    rule(if learned { 10_000 + id } else { id }, end(from), end(to), "tcp/80", action)
                })
                .collect();
        }
        Step::Boundary(on) => {
            let labels = on.then(|| (BOUNDARY_LABEL.to_owned(), "enabled".to_owned())).into_iter().collect();
            state.namespaces.insert("d0".parse().unwrap(), labels);
        }
        Step::Label(n, on) => {
            if let Some(held) = state.workloads.get(&id(n)) {
                let mut changed = (**held).clone();
                changed.labels = on.then(|| ("pick".to_owned(), "me".to_owned())).into_iter().collect();
                state.workloads.insert(changed.id.clone(), Arc::new(changed));
            }
        }
        Step::Node(n, there) => {
            let node = node(&format!("n{n}"), &format!("192.168.0.{n}/24"));
            if there {
                state.nodes.insert(node.id.clone(), node);
            } else {
                state.nodes.remove(&node.id);
            }
        }
        Step::Strict(strict) => state.settings.strict_group_mode = strict,
        Step::Subnet(there) => {
            state.internal_subnets = there.then(|| "100.64.0.0/24".parse().unwrap()).into_iter().collect();
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..8, 0_u8..3, 0_u8..4, 1_u8..6, prop_oneof![6 => Just(0_u8), 4 => 1_u8..6])
            .prop_map(|(id, node, service, address, shape)| Step::Put { id, node, service, address, shape }),
        4 => (0_u8..8).prop_map(Step::Gone),
        1 => (0_u8..8).prop_map(Step::Quarantine),
        2 => (0_u8..3, 0_u8..3).prop_map(|(service, mode)| Step::Mode(service, mode)),
        2 => prop::collection::vec((0_u8..9, 0_u8..9, any::<bool>(), any::<bool>()), 0..6).prop_map(Step::Rules),
        1 => any::<bool>().prop_map(Step::Boundary),
        2 => (0_u8..8, any::<bool>()).prop_map(|(n, on)| Step::Label(n, on)),
        1 => (0_u8..4, any::<bool>()).prop_map(|(n, there)| Step::Node(n, there)),
        1 => any::<bool>().prop_map(Step::Strict),
        1 => any::<bool>().prop_map(Step::Subnet),
    ]
}

fn base() -> State {
    let mut state = state(&[]);
    for held in [group("labelled", &[("pick", "=", "me")]), group("net", &[("address", "=", "10.0.0.0/29")])]
    {
        state.groups.insert(held.name.clone(), held);
    }
    state
}

fn plain(mut policy: NodePolicy) -> NodePolicy {
    policy.revision = Revision(0);
    policy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn deltas_lead_every_node_to_what_a_compilation_from_nothing_gives(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..20),
    ) {
        let (mut state, mut identities, mut compiler) = (base(), Identities::default(), Compiler::default());
        let mut nodes: BTreeMap<NodeId, NodePolicy> = BTreeMap::new();
        for (revision, steps) in (1..).zip(&steps) {
            for step in steps {
                apply(&mut state, step);
            }
            for (node, delta) in compiler.update(&state, &mut identities, Revision(revision)) {
                let held = nodes.entry(node).or_default();
                *held = held.apply(&delta).unwrap();
            }
            nodes.retain(|node, _| compiler.revision(node).is_some());
            let wanted: std::collections::BTreeSet<NodeId> = compiler.nodes().cloned().collect();
            prop_assert_eq!(nodes.keys().cloned().collect::<std::collections::BTreeSet<_>>(), wanted);
            for (node, held) in &nodes {
                let fresh = compile(&state, &mut identities, node);
                prop_assert_eq!(&plain(held.clone()), &fresh, "node {}", node);
                let told = compiler.policy(node);
                prop_assert_eq!(told.as_ref(), Some(held));
            }
        }
    }
}

/// Size on the wire, as JSON: larger than what is sent, so a bound on it holds there too.
fn bytes(deltas: &[(NodeId, PolicyDelta)]) -> usize {
    deltas.iter().map(|(_, delta)| serde_json::to_string(delta).unwrap().len()).sum()
}

#[test]
fn a_pod_that_comes_or_goes_is_told_to_its_node_and_its_peers_alone_and_in_few_bytes() {
    // 40 services of 10 workloads on 40 nodes; service n talks to service n + 1; everything is in Protect.
    let mut all = Vec::new();
    for service in 0..40_usize {
        for n in 0..10_usize {
            let host = service; // a service's workloads share a node
            let id = format!("w{service}-{n}");
            let made = workload(&id, &format!("n{host}"), &format!("s{service}"), "d");
            all.push(at(made, &format!("10.1.{service}.{}/16", n + 1)));
        }
    }
    let mut state = state(&all);
    for modes in state.groups.values_mut().filter_map(|group| group.modes.as_mut()) {
        modes.network = Mode::Protect;
    }
    state.rules = (0..40_u32)
        .map(|n| {
            let (from, to) = (format!("nv.s{n}.d"), format!("nv.s{}.d", (n + 1) % 40));
            rule(10_001 + n, &from, &to, "tcp/80", Action::Allow)
        })
        .collect();
    let (mut identities, mut compiler) = (Identities::default(), Compiler::default());
    assert_eq!(compiler.update(&state, &mut identities, Revision(1)).len(), 40);
    assert_eq!(compiler.update(&state, &mut identities, Revision(2)), []);

    let pod = at(workload("new", "n7", "s7", "d"), "10.1.7.99/16");
    state.workloads.insert(pod.id.clone(), Arc::new(pod));
    let came = compiler.update(&state, &mut identities, Revision(3));
    let told: Vec<&str> = came.iter().map(|(node, _)| node.as_str()).collect();
    assert_eq!(told, ["n7", "n6", "n8"]);
    assert!(bytes(&came) < 2048, "{} bytes", bytes(&came));
    assert!(came.iter().all(|(_, delta)| delta.rules.is_empty() && delta.profiles.is_empty()));

    state.workloads.remove("new");
    let went = compiler.update(&state, &mut identities, Revision(4));
    assert_eq!(went.len(), 3);
    assert!(bytes(&went) < 2048, "{} bytes", bytes(&went));
}
