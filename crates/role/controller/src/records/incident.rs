//! Incidents: programs, files and behaviour against a workload's profile.

use nv_model::behaviour::{Behaviour, BehaviourKind, BehaviourObservation};
use nv_model::name::{NodeId, WorkloadId};
use nv_model::observation::{FileObservation, NOT_OF_FAMILY, ProcessObservation};
use nv_model::record::{Incident, Level, LogCommon};
use nv_model::time::Timestamp;
use nv_model::verdict::Verdict;
use nv_policy::file::is_package_database;

use super::{Scene, common, domain, level, mechanism};

/// Rule id of an incident that no rule decided: the program is not in the profile.
const NOT_LISTED: &str = "00000000-0000-0000-0000-000000000001";
/// Rule id of an incident that no rule decided: the program is not from the image.
const NOT_FROM_IMAGE: &str = "00000000-0000-0000-0000-000000000006";

/// What a node told of a process or file against the profile.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Process(Box<ProcessObservation>),
    File(Box<FileObservation>),
    Behaviour(Box<BehaviourObservation>),
}

impl Told {
    pub(crate) fn at(&self) -> Timestamp {
        match self {
            Self::Process(seen) => seen.at,
            Self::File(seen) => seen.at,
            Self::Behaviour(seen) => seen.process.at,
        }
    }
}

/// The incident of what a node told.
pub(crate) fn incident(scene: Scene<'_>, node: &NodeId, id: String, told: &Told) -> Incident {
    match told {
        Told::Process(seen) => process_incident(scene, node, id, seen),
        Told::File(seen) => file_incident(scene, node, id, seen),
        Told::Behaviour(seen) => behaviour_incident(scene, node, id, seen),
    }
}

/// The incident of suspicious behaviour. Privileges that were gained are critical, whether the program was stopped or
/// not.
fn behaviour_incident(scene: Scene<'_>, node: &NodeId, id: String, seen: &BehaviourObservation) -> Incident {
    let kind = seen.behaviour.kind();
    let name = match (seen.process.workload.is_some(), kind) {
        (true, BehaviourKind::Process) => "Container.Suspicious.Process",
        (false, BehaviourKind::Process) => "Host.Suspicious.Process",
        (true, BehaviourKind::Tunnel) => "Container.Tunnel.Detected",
        (false, BehaviourKind::Tunnel) => "Host.Tunnel.Detected",
        (true, BehaviourKind::Escalation) => "Container.Privilege.Escalation",
        (false, BehaviourKind::Escalation) => "Host.Privilege.Escalation",
    };
    let base = process_incident(scene, node, id, &seen.process);
    let stopped = seen.process.verdict == Verdict::Deny;
    let level = if stopped || kind == BehaviourKind::Escalation { Level::Critical } else { Level::Warning };
    let done = if stopped { "Stopped" } else { "Reported" };
    Incident {
        common: LogCommon { name: name.to_owned(), level, ..base.common },
        // Behaviour that passes is reported, whatever the profile said of the program.
        action: if stopped { Verdict::Deny } else { Verdict::Violate }.as_str().to_owned(),
        rule_id: if seen.process.verdict.is_violation() { base.rule_id } else { String::new() },
        message: format!("{done}: {}", seen.message),
        behaviour: seen.behaviour.as_str().to_owned(),
        mitre_attack: seen.behaviour.attack().to_owned(),
        ..base
    }
}

/// What every incident begins with: its id, and the workload it is about.
fn begin(scene: Scene<'_>, id: String, about: Option<&WorkloadId>, common: LogCommon) -> Incident {
    let workload = about.and_then(|id| scene.workload(id)).map(AsRef::as_ref);
    Incident {
        common,
        id,
        workload_id: about.map(ToString::to_string).unwrap_or_default(),
        workload_name: workload.map(|workload| workload.display_name().to_owned()).unwrap_or_default(),
        workload_domain: workload.map(domain).unwrap_or_default(),
        workload_image: workload.map(|workload| workload.image.clone()).unwrap_or_default(),
        workload_service: workload.map(|workload| workload.learned_group().to_string()).unwrap_or_default(),
        ..Incident::default()
    }
}

/// The incident of a file that was opened or changed against its rule, or was kept from it.
fn file_incident(scene: Scene<'_>, node: &NodeId, id: String, seen: &FileObservation) -> Incident {
    let packages = seen.operation.changes() && seen.verdict.passes() && is_package_database(&seen.path);
    let name = match (seen.workload.is_some(), packages) {
        (true, false) => "Container.FileAccess.Violation",
        (false, false) => "Host.FileAccess.Violation",
        (true, true) => "Container.Package.Updated",
        (false, true) => "Host.Package.Updated",
    };
    let by = match (seen.process_path.as_str(), seen.process.as_str()) {
        ("", "") => "a program that is not known",
        ("", name) => name,
        (path, _) => path,
    };
    let done = if seen.verdict == Verdict::Deny { "was kept from being" } else { "was" };
    Incident {
        proc_name: seen.process.clone(),
        proc_path: seen.process_path.clone(),
        proc_cmd: seen.command.clone(),
        proc_real_uid: (seen.pid != 0).then_some(i64::from(seen.real_uid)),
        proc_effective_uid: (seen.pid != 0).then_some(i64::from(seen.effective_uid)),
        proc_real_user: seen.user.clone(),
        proc_parent_name: seen.parent_name.clone(),
        proc_parent_path: seen.parent_path.clone(),
        file_path: seen.filter.to_string(),
        file_name: vec![seen.path.clone()],
        action: seen.verdict.as_str().to_owned(),
        group: seen.rule_group.to_string(),
        count: Some(seen.count),
        message: format!("{} {done} {} by {by}", seen.path, seen.operation.participle()),
        mechanism: mechanism(seen.mechanism),
        decision_nanos: (seen.decision_nanos > 0).then_some(seen.decision_nanos),
        ..begin(
            scene,
            id,
            seen.workload.as_ref(),
            common(scene, Some(node), name, level(seen.verdict), seen.at),
        )
    }
}

/// The incident of a program that ran, or was stopped, against the profile.
fn process_incident(scene: Scene<'_>, node: &NodeId, id: String, seen: &ProcessObservation) -> Incident {
    let on_host = seen.workload.is_none();
    let name = if on_host { "Host.Process.Violation" } else { "Process.Profile.Violation" };
    let rule_id = match (seen.rule_uuid.is_empty(), seen.drifted) {
        (false, _) => seen.rule_uuid.clone(),
        (true, true) => NOT_FROM_IMAGE.to_owned(),
        (true, false) => NOT_LISTED.to_owned(),
    };
    Incident {
        proc_name: seen.name.clone(),
        proc_path: seen.path.clone(),
        proc_cmd: seen.command.clone(),
        proc_real_uid: Some(i64::from(seen.real_uid)),
        proc_effective_uid: Some(i64::from(seen.effective_uid)),
        proc_real_user: seen.user.clone(),
        proc_effective_user: if seen.real_uid == seen.effective_uid {
            seen.user.clone()
        } else {
            String::new()
        },
        proc_parent_name: seen.parent_name.clone(),
        proc_parent_path: seen.parent_path.clone(),
        action: seen.verdict.as_str().to_owned(),
        group: seen.group.to_string(),
        rule_id,
        count: Some(seen.count),
        message: incident_message(seen),
        mechanism: mechanism(seen.mechanism),
        mitre_attack: match (seen.fileless, seen.drifted) {
            (true, _) => Behaviour::Fileless.attack().to_owned(),
            (false, true) => Behaviour::NewExecutable.attack().to_owned(),
            (false, false) => String::new(),
        },
        decision_nanos: (seen.decision_nanos > 0).then_some(seen.decision_nanos),
        ..begin(
            scene,
            id,
            seen.workload.as_ref(),
            common(scene, Some(node), name, level(seen.verdict), seen.at),
        )
    }
}

fn incident_message(seen: &ProcessObservation) -> String {
    let what = match (seen.fileless, seen.drifted) {
        (true, _) => "an executable that exists in memory only",
        (false, true) => "an executable that is not from the image",
        (false, false) => "a program",
    };
    let done = if seen.verdict == Verdict::Deny { "Stopped" } else { "Reported" };
    let why = if seen.rule_uuid == NOT_OF_FAMILY {
        "its process was not started by the container's runtime, nor was one that it descends from".to_owned()
    } else if seen.rule_uuid.is_empty() {
        format!("the profile of {} does not allow it", seen.group)
    } else {
        format!("a rule of {} denies it", seen.rule_group)
    };
    let path = if seen.path.is_empty() { &seen.name } else { &seen.path };
    format!("{done} {what}: {path}; {why}")
}
