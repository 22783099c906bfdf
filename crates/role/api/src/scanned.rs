//! Reports as a caller is shown them: what the vulnerability profile accepts is left out, or marked where it was asked for.

use nv_model::scan::BlobId;
use nv_model::scan_report::{ScanReport as Model, Vulnerability};
use nv_model::workload::Workload;
use nv_role_controller::scan::{ScanSettings, ScanSettingsError, ScanStatus};

use crate::call::Call;
use crate::dto::scan::ScanReport;
use crate::error::{ApiError, Code};

/// Where something is, for entries of the profile that hold in some places alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) image: String,
    pub(crate) domain: String,
}

impl Place {
    pub(crate) fn of(workload: &Workload) -> Self {
        Self {
            image: workload.image.clone(),
            domain: workload.domain.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// The word with which what is accepted is marked.
const ACCEPTED: &str = "accepted";

/// Whether the profile accepts a vulnerability there; `now` in seconds.
pub(crate) fn is_accepted(settings: &ScanSettings, found: &Vulnerability, place: &Place, now: i64) -> bool {
    let published = u32::try_from(found.published_timestamp).unwrap_or(0);
    let domains: &[&str] = if place.domain.is_empty() { &[] } else { &[place.domain.as_str()] };
    let now = u64::try_from(now).unwrap_or(0);
    let fixed = !found.fixed_version.is_empty();
    settings.acceptance.accepts(&found.name, fixed, published, &place.image, domains, now).is_some()
}

/// Leaves out what is accepted, or marks it.
pub(crate) fn apply(
    settings: &ScanSettings,
    found: &mut Vec<Vulnerability>,
    place: &Place,
    now: i64,
    show_accepted: bool,
) {
    if settings.acceptance.is_empty() {
        return;
    }
    for vulnerability in found.iter_mut() {
        if is_accepted(settings, vulnerability, place, now) {
            vulnerability.tags.push(ACCEPTED.to_owned());
        }
    }
    if !show_accepted {
        found.retain(|vulnerability| !vulnerability.tags.iter().any(|tag| tag == ACCEPTED));
    }
}

/// Whether the caller asks for what is accepted, too.
pub(crate) fn show_accepted(call: &Call) -> bool {
    call.query.others.get("show").is_some_and(|show| show == ACCEPTED)
}

/// A report from the disk.
///
/// # Errors
/// Code 9 when the disk fails.
pub(crate) async fn read(call: &Call, id: BlobId) -> Result<Option<Model>, ApiError> {
    let read = call.app.controller.scans().report(id).await;
    read.map_err(|error| {
        tracing::error!(%error, "a report cannot be read");
        ApiError::new(Code::ReadFailed, "a report cannot be read")
    })
}

/// The report of a subject as the caller asked for it; an empty one while there is none.
///
/// # Errors
/// Code 9 when the disk fails.
pub(crate) async fn shown(call: &Call, known: &ScanStatus, place: &Place) -> Result<ScanReport, ApiError> {
    let Some(kept) = &known.report else { return Ok(ScanReport::default()) };
    let Some(mut report) = read(call, kept.report).await? else { return Ok(ScanReport::default()) };
    let settings = call.app.controller.scans().settings();
    let now = call.app.clock.now().seconds();
    apply(&settings, &mut report.vulnerabilities, place, now, show_accepted(call));
    Ok(report.into())
}

/// Why settings of scans were not changed, in the contract's words.
pub(crate) fn settings_error(error: &ScanSettingsError) -> ApiError {
    let code = match error {
        ScanSettingsError::Entry(_) => Code::Format,
        ScanSettingsError::NoEntry { .. } => Code::ObjectNotFound,
        ScanSettingsError::Duplicate { .. } => Code::Duplicate,
        ScanSettingsError::Conflict => Code::InUse,
        _ => {
            tracing::error!(error = nv_telemetry::chain(error), "settings of scans");
            Code::WriteFailed
        }
    };
    ApiError::new(code, error.to_string())
}
