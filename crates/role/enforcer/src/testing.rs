//! Made-up observations, and an agent without a kernel, for tests of this crate.

use std::sync::Arc;

use nv_model::observation::{Observation, ProcessObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_telemetry::Clock;
use tokio::sync::mpsc;

use crate::Budget;
use crate::agent::{Agent, Setup};
use crate::keeper::Launcher;

/// An agent that has no kernel to write to and nobody to tell.
pub(crate) fn agent(clock: Arc<dyn Clock>) -> Agent {
    let (later, _done) = mpsc::channel(1);
    let (file_records, _files) = mpsc::channel(1);
    let (heard, _words) = mpsc::channel(1);
    let (programs_told, _told) = mpsc::channel(1);
    let started = clock.now();
    Agent::new(Setup {
        clock,
        node: crate::node::describe("n1".parse().unwrap(), Vec::new()),
        capabilities: Default::default(),
        started,
        held: Default::default(),
        held_path: "/nowhere/policy.json".into(),
        kernel: None,
        seating: None,
        programs_told,
        keeper: None,
        launcher: Arc::new(Launcher::idle()),
        file_records,
        bpf_dir: "/nowhere".into(),
        budget: Budget { cpu: 64.0, memory: u64::MAX },
        inspectors: Some(1),
        secrets: true,
        log_level: "info".to_owned(),
        tally: Default::default(),
        placement: Default::default(),
        pinned: true,
        readers: None,
        cgroup_root: None,
        identifiers: Default::default(),
        heard,
        later,
    })
}

/// A workload with this address.
pub(crate) fn workload_at(address: &str) -> nv_model::workload::Workload {
    serde_json::from_value(serde_json::json!({
        "id": "w", "name": "w", "node": "n", "service": "s",
        "interfaces": [{"interface": "eth0", "address": format!("{address}/24")}],
    }))
    .unwrap()
}

/// A program that was run on the host.
pub(crate) fn ran(path: &str, verdict: Verdict) -> Observation {
    let group = nv_model::name::GroupName::nodes();
    Observation::Process(Box::new(ProcessObservation {
        workload: None,
        group: group.clone(),
        rule_group: group,
        rule_uuid: String::new(),
        pid: 1,
        parent_pid: 0,
        name: crate::activity::processes::last_part(path),
        path: path.to_owned(),
        command: String::new(),
        real_uid: 0,
        effective_uid: 0,
        user: String::new(),
        parent_name: String::new(),
        parent_path: String::new(),
        drifted: false,
        fileless: false,
        verdict,
        mechanism: None,
        decision_nanos: 0,
        count: 1,
        at: Timestamp::NEVER,
    }))
}
