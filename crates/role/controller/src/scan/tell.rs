//! Records of scans, in the contract's names.

use nv_model::name::{ScannerId, WorkloadId};
use nv_model::node::Controller;
use nv_model::record::{Audit, Event, Level, LogCommon, Record};
use nv_model::scan::ScanSubject;
use nv_model::scan_report::ScanReport;
use nv_model::time::Timestamp;
use nv_model::workload::Workload;

use super::kept::KeptReport;
use super::platform::platform_of;
use crate::view::View;

/// Most containers of one image that one scan is told of.
const MAX_CONTAINERS: usize = 256;
/// Most names of vulnerabilities in one record.
const MAX_NAMES: usize = 512;

fn common(view: &View, name: &str, level: Level, at: Timestamp) -> LogCommon {
    LogCommon {
        name: name.to_owned(),
        level,
        reported_at: at.rfc3339(),
        reported_timestamp: at.seconds(),
        cluster_name: view.config.cluster_name.clone(),
        ..LogCommon::default()
    }
}

fn event(view: &View, name: &str, level: Level, message: String, at: Timestamp) -> Event {
    let (controller_id, controller_name) = view
        .controllers
        .first()
        .map(|Controller { id, host_name, .. }| (id.to_string(), host_name.clone()))
        .unwrap_or_default();
    Event {
        common: common(view, name, level, at),
        controller_id,
        controller_name,
        category: "SCANNER".to_owned(),
        message,
        ..Event::default()
    }
}

/// A scan gave no report.
pub(super) fn failed(view: &View, subject: &ScanSubject, message: &str, at: Timestamp) -> Vec<Record> {
    let mut event =
        event(view, "Scan.Failed", Level::Warning, format!("The scan of {subject} failed: {message}"), at);
    if let ScanSubject::Workload(id) = subject
        && let Some(workload) = view.workload(id)
    {
        event.workload_id = id.to_string();
        event.workload_name = workload.display_name().to_owned();
        event.workload_image.clone_from(&workload.image);
    }
    vec![Record::Event(Box::new(event))]
}

/// A scanner came, went, or uses another database.
pub(super) fn scanner(
    view: &View,
    name: &str,
    scanner: &ScannerId,
    what: &str,
    at: Timestamp,
) -> Vec<Record> {
    vec![Record::Event(Box::new(event(view, name, Level::Info, format!("Scanner {scanner} {what}"), at)))]
}

/// Containers that a subject's report is about, those that run.
pub(super) fn containers<'a>(view: &'a View, subject: &'a ScanSubject) -> Vec<&'a Workload> {
    let all = view.state.workloads.values().map(AsRef::as_ref);
    let running = all.filter(|workload: &&Workload| workload.running);
    match subject {
        ScanSubject::Workload(wanted) => running.filter(|workload| workload.id == *wanted).collect(),
        ScanSubject::RunningImage(image) => {
            running.filter(|workload| workload.image_id == *image).take(MAX_CONTAINERS).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a subject runs now.
pub(super) fn runs(view: &View, subject: &ScanSubject) -> bool {
    match subject {
        ScanSubject::Node(id) => view.state.nodes.contains_key(id),
        ScanSubject::Platform => true,
        other => !containers(view, other).is_empty(),
    }
}

/// What a scan found: a record for each container that it is about, else one.
pub(super) fn found(view: &View, kept: &KeptReport, report: &ScanReport) -> Vec<Record> {
    let names = |severity: &str| {
        let mut names: Vec<String> = report
            .vulnerabilities
            .iter()
            .filter(|found| found.severity == severity)
            .map(|found| found.name.clone())
            .collect();
        names.sort();
        names.dedup();
        names.truncate(MAX_NAMES);
        names
    };
    let level = if kept.critical + kept.high > 0 { Level::Warning } else { Level::Info };
    let audit = |name: &str| Audit {
        common: common(view, name, level, kept.at),
        base_os: kept.base_os.clone(),
        cvedb_version: kept.database_version.clone(),
        critical_vul_cnt: kept.critical,
        high_vul_cnt: kept.high,
        medium_vul_cnt: kept.medium,
        critical_vuls: names("Critical"),
        high_vuls: names("High"),
        medium_vuls: names("Medium"),
        ..Audit::default()
    };
    let of_container = |id: WorkloadId, workload: &Workload| {
        let mut audit = audit("Container.Scan.Report");
        audit.common.host_id = workload.node.to_string();
        audit.common.host_name.clone_from(&workload.host_name);
        audit.workload_id = id.to_string();
        audit.workload_name = workload.display_name().to_owned();
        audit.workload_domain = workload.domain.as_ref().map(ToString::to_string).unwrap_or_default();
        audit.workload_image.clone_from(&workload.image);
        audit.workload_service = workload.learned_group().to_string();
        audit
    };
    let audits: Vec<Audit> = match &kept.subject {
        ScanSubject::Workload(_) | ScanSubject::RunningImage(_) => containers(view, &kept.subject)
            .into_iter()
            .map(|workload| of_container(workload.id.clone(), workload))
            .collect(),
        ScanSubject::Node(id) => {
            let mut audit = audit("Host.Scan.Report");
            audit.common.host_id = id.to_string();
            audit.common.host_name =
                view.state.nodes.get(id).map(|node| node.name.clone()).unwrap_or_default();
            vec![audit]
        }
        ScanSubject::RegistryImage { registry, image } => {
            let mut audit = audit("Registry.Scan.Report");
            audit.registry_name.clone_from(registry);
            audit.image_id.clone_from(image);
            vec![audit]
        }
        ScanSubject::Platform => {
            let mut audit = audit("Platform.Scan.Report");
            if let Some(platform) = platform_of(view) {
                audit.platform = platform.name;
                audit.platform_version = platform.version;
            }
            vec![audit]
        }
        ScanSubject::Repository { registry, repository, reference } => {
            let mut audit = audit("Registry.Scan.Report");
            audit.registry.clone_from(registry);
            audit.repository.clone_from(repository);
            audit.tag.clone_from(reference);
            vec![audit]
        }
    };
    audits.into_iter().map(|audit| Record::Audit(Box::new(audit))).collect()
}
