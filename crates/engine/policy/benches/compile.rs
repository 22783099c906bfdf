//! Compilation, measured at the promised size: 10,000 workloads, 500 groups, 5,000 rules, 200 nodes.
//!
//! `cargo bench -p nv-policy`. First it prints what one pod's coming costs in nodes and bytes, then the times. Two
//! shapes of cluster: `packed`, where a service's workloads share a node, and `spread`, where each is on another one.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops when its data is wrong"
)]

use std::sync::Arc;

use divan::Bencher;
use nv_model::group::{Criterion, CriterionOp, GroupKind, Origin};
use nv_model::mode::{Mode, Modes};
use nv_model::policy::Revision;
use nv_model::rule::{NetworkRule, RuleId};
use nv_model::time::Timestamp;
use nv_model::verdict::Action;
use nv_model::workload::Workload;
use nv_policy::compile::Compiler;
use nv_policy::identity::Identities;
use nv_policy::lower;
use nv_policy::state::{State, plain_group};

const SERVICES: usize = 400;
const USER_GROUPS: usize = 100;
const WORKLOADS: usize = 10_000;
const RULES: usize = 5_000;
const NODES: usize = 200;

fn workload(id: &str, service: usize, node: usize, address: &str) -> Workload {
    let text = serde_json::json!({
        "id": id, "name": id, "node": format!("n{node}"), "service": format!("s{service}"),
        "domain": format!("d{}", service % 20), "image": format!("registry.local/s{service}:1.{}", service % 7),
        "labels": {"app": format!("s{service}"), "tier": format!("t{}", service % 10)},
        "interfaces": [{"interface": "eth0", "address": address}],
        "running": true, "started": 1,
    });
    serde_json::from_value(text).unwrap()
}

fn service_group(service: usize) -> String {
    format!("nv.s{service}.d{}", service % 20)
}

fn cluster(spread: bool) -> State {
    let mut state = State::default();
    for change in state.missing_reserved() {
        state.apply(&change);
    }
    let modes = Modes { network: Mode::Protect, ..Modes::default() };
    for service in 0..SERVICES {
        let mut group =
            plain_group(service_group(service).parse().unwrap(), GroupKind::Container, Origin::Learned);
        group.modes = Some(modes);
        state.groups.insert(group.name.clone(), group);
    }
    for n in 0..USER_GROUPS {
        let mut group =
            plain_group(format!("user{n}").parse().unwrap(), GroupKind::Container, Origin::UserCreated);
        let (key, op, value) = match n % 4 {
            0 => ("app", CriterionOp::Equal, format!("s{}", n * 4)),
            1 => ("image", CriterionOp::Contains, format!("/s{n}:")),
            2 => ("service", CriterionOp::Equal, format!("s{n}*")),
            _ => ("image", CriterionOp::Regex, format!("/s{n}\\d?:")),
        };
        group.criteria = vec![Criterion { key: key.to_owned(), value, op }];
        state.groups.insert(group.name.clone(), group);
    }
    for group in state.groups.values_mut().filter(|group| group.kind == GroupKind::Node) {
        group.modes = Some(modes);
    }
    for n in 0..WORKLOADS {
        let service = n % SERVICES;
        let node = if spread { (n / SERVICES + service * 13) % NODES } else { service / 2 };
        let made = workload(
            &format!("w{n}"),
            service,
            node,
            &format!("10.{}.{}.{}/8", n / 62500, n / 250, n % 250 + 1),
        );
        state.workloads.insert(made.id.clone(), Arc::new(made));
    }
    // Twelve peers a service, near it; and rules of the user groups.
    for n in 0..RULES {
        let (from, to) = if n < 4800 {
            let (service, peer) = (n % SERVICES, n / SERVICES);
            // Two services share a packed node, so two peers are near and the rest is along a few nodes.
            (service_group(service), service_group((service / 4 * 4 + peer % 4) % SERVICES))
        } else {
            (format!("user{}", n % USER_GROUPS), "external".to_owned())
        };
        let id =
            if n < 4800 { 10_001 + u32::try_from(n).unwrap() } else { 1 + u32::try_from(n - 4800).unwrap() };
        state.rules.push(NetworkRule {
            id: RuleId(id),
            comment: String::new(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            ports: format!("tcp/{}", 1000 + n / SERVICES).parse().unwrap(),
            applications: vec![],
            action: Action::Allow,
            origin: RuleId(id).origin().unwrap(),
            disabled: false,
            priority: 0,
            created: Timestamp::NEVER,
            modified: Timestamp::NEVER,
        });
    }
    nv_policy::order::normalise(&mut state.rules);
    state
}

struct World {
    state: State,
    identities: Identities,
    compiler: Compiler,
    revision: u64,
    pod: Arc<Workload>,
}

impl World {
    fn new(spread: bool) -> Self {
        let state = cluster(spread);
        let pod = Arc::new(workload("new", 7, 3, "10.9.9.9/8"));
        let mut world = Self {
            state,
            identities: Identities::default(),
            compiler: Compiler::default(),
            revision: 0,
            pod,
        };
        world.update();
        world
    }
    fn update(&mut self) -> Vec<(nv_model::name::NodeId, nv_model::policy::PolicyDelta)> {
        self.revision += 1;
        self.compiler.update(&self.state, &mut self.identities, Revision(self.revision))
    }
    fn flip(&mut self) {
        if self.state.workloads.remove(&self.pod.id).is_none() {
            self.state.workloads.insert(self.pod.id.clone(), Arc::clone(&self.pod));
        }
    }
}

fn main() {
    for spread in [false, true] {
        let mut world = World::new(spread);
        world.flip();
        let deltas = world.update();
        let sizes: Vec<usize> =
            deltas.iter().map(|(_, delta)| serde_json::to_string(delta).unwrap().len()).collect();
        println!(
            "{}: {} workloads, {} groups, {} rules: one pod comes: {} nodes are told, {} bytes of JSON in all, {} at most",
            if spread { "spread" } else { "packed" },
            world.state.workloads.len(),
            world.state.groups.len(),
            world.state.rules.len(),
            sizes.len(),
            sizes.iter().sum::<usize>(),
            sizes.iter().max().unwrap_or(&0),
        );
    }
    divan::main();
}

#[divan::bench(args = [false, true], sample_count = 50, sample_size = 1)]
fn one_pod_comes_or_goes(bencher: Bencher<'_, '_>, spread: bool) {
    let mut world = World::new(spread);
    bencher.bench_local(|| {
        world.flip();
        world.update().len()
    });
}

#[divan::bench(args = [false, true], sample_count = 5, sample_size = 1)]
fn one_rule_is_changed(bencher: Bencher<'_, '_>, spread: bool) {
    let mut world = World::new(spread);
    bencher.bench_local(|| {
        let rule = world.state.rules.last_mut().unwrap();
        rule.disabled = !rule.disabled;
        world.update().len()
    });
}

#[divan::bench(args = [false, true], sample_count = 5, sample_size = 1)]
fn one_service_changes_its_mode(bencher: Bencher<'_, '_>, spread: bool) {
    let mut world = World::new(spread);
    let group: nv_model::name::GroupName = service_group(7).parse().unwrap();
    bencher.bench_local(|| {
        let modes = world.state.groups.get_mut(&group).and_then(|group| group.modes.as_mut()).unwrap();
        modes.network = if modes.network == Mode::Protect { Mode::Monitor } else { Mode::Protect };
        world.update().len()
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn everything_from_nothing(bencher: Bencher<'_, '_>) {
    let state = cluster(true);
    bencher.bench_local(|| Compiler::default().update(&state, &mut Identities::default(), Revision(1)).len());
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn rows_of_one_node(bencher: Bencher<'_, '_>) {
    let world = World::new(true);
    let policy = world.compiler.policy(&"n3".parse().unwrap()).unwrap();
    bencher.bench_local(|| lower::network(&policy, 1 << 20).unwrap().rules.len());
}
