//! Made-up observations for tests of this crate.

use nv_model::observation::{Observation, ProcessObservation};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;

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
        name: crate::processes::last_part(path),
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
