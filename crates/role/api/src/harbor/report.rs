//! A report in the form that Harbor asks for.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{Response, StatusCode};
use nv_model::scan_report::{ScanReport, Vulnerability};
use nv_role_controller::Controller;
use nv_role_controller::scan::{BlobError, KeptReport};
use nv_role_scanner::{SbomFormat, inventory_sbom};
use serde_json::json;

use super::document;
use super::dto::{Artifact, Cvss, Fault, SbomReport, Scanner, VulnerabilityItem, VulnerabilityReport};
use crate::dto::scan::ScanReport as Shown;
use crate::query::Query;
use crate::scanned::{Place, apply};

/// Vulnerabilities, since version 1.1.
pub(super) const SECURITY: &str = "application/vnd.security.vulnerability.report; version=1.1";
/// The same under the name of version 1.0.
pub(super) const HARBOR: &str = "application/vnd.scanner.adapter.vuln.report.harbor+json; version=1.0";
/// The report as the REST API shows it.
pub(super) const RAW: &str = "application/vnd.scanner.adapter.vuln.report.raw";
/// A bill of materials, since version 1.2.
pub(super) const SBOM: &str = "application/vnd.security.sbom.report+json; version=1.0";
const SPDX: &str = "application/spdx+json";
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// Forms of bills of materials.
pub(super) const SBOM_MEDIA: [&str; 2] = [SPDX, CYCLONEDX];

/// Words for severities, the worst last.
const SEVERITIES: [&str; 6] = ["Unknown", "Negligible", "Low", "Medium", "High", "Critical"];

/// Which report is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Vulnerabilities, under this type.
    Vulnerabilities(&'static str),
    /// As the REST API shows it.
    Raw,
    /// A bill of materials.
    Sbom(SbomFormat),
}

impl Kind {
    /// By the header `Accept` and the query string. The first type that is served counts; none is the same as any.
    pub(super) fn of(accept: &str, query: &Query) -> Result<Self, Fault> {
        let mut asked = false;
        for range in accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim()) {
            let is = |served: &str| {
                served.split(';').next().is_some_and(|served| served.eq_ignore_ascii_case(range))
            };
            if is(SECURITY) || ["*/*", "application/*", "application/json"].contains(&range) {
                return Ok(Self::Vulnerabilities(SECURITY));
            } else if is(HARBOR) {
                return Ok(Self::Vulnerabilities(HARBOR));
            } else if is(RAW) {
                return Ok(Self::Raw);
            } else if is(SBOM) {
                return Self::sbom(query);
            }
            asked |= !range.is_empty();
        }
        if asked {
            return Err(Fault::new(StatusCode::NOT_IMPLEMENTED, "no report of this type is made"));
        }
        Ok(Self::Vulnerabilities(SECURITY))
    }

    fn sbom(query: &Query) -> Result<Self, Fault> {
        match query.others.get("sbom_media_type").map(String::as_str) {
            // A + that was not escaped reads as a space.
            Some(SPDX | "application/spdx json") => Ok(Self::Sbom(SbomFormat::Spdx)),
            Some(CYCLONEDX | "application/vnd.cyclonedx json") => Ok(Self::Sbom(SbomFormat::CycloneDx)),
            _ => {
                let why = format!("sbom_media_type is none of {SPDX} and {CYCLONEDX}");
                Err(Fault::new(StatusCode::BAD_REQUEST, why))
            }
        }
    }
}

/// The place of a word among [`SEVERITIES`].
fn rank(severity: &str) -> usize {
    SEVERITIES.iter().position(|known| known.eq_ignore_ascii_case(severity)).unwrap_or(0)
}

fn word(rank: usize) -> &'static str {
    SEVERITIES.get(rank).copied().unwrap_or("Unknown")
}

fn item(found: Vulnerability) -> VulnerabilityItem {
    let mut vendor_attributes =
        BTreeMap::from([("file_name", json!(found.file_name)), ("status", json!(found.status))]);
    if found.exploited {
        vendor_attributes.insert("exploited", json!(true));
    }
    if let Some(epss) = found.epss {
        vendor_attributes.insert("epss", json!(epss));
    }
    VulnerabilityItem {
        severity: word(rank(&found.severity)),
        id: found.name,
        package: found.package_name,
        version: found.package_version,
        fix_version: found.fixed_version,
        description: found.description,
        links: Some(found.link).filter(|link| !link.is_empty()).into_iter().collect(),
        preferred_cvss: Cvss {
            score_v3: found.score_v3,
            score_v2: found.score,
            vector_v3: found.vectors_v3,
            vector_v2: found.vectors,
        },
        cwe_ids: Vec::new(),
        vendor_attributes,
    }
}

fn vulnerabilities<'a>(artifact: &'a Artifact, at: String, report: ScanReport) -> VulnerabilityReport<'a> {
    let worst = report.vulnerabilities.iter().map(|found| rank(&found.severity)).max();
    VulnerabilityReport {
        generated_at: at,
        artifact,
        scanner: Scanner::OURS,
        severity: word(worst.unwrap_or(0)),
        vulnerabilities: report.vulnerabilities.into_iter().map(item).collect(),
    }
}

/// The report of an image; `now` in seconds since the epoch.
pub(super) async fn answer(
    controller: &Controller,
    now: i64,
    artifact: &Artifact,
    kept: &KeptReport,
    kind: Kind,
) -> Result<Response<Body>, Fault> {
    let scans = controller.scans();
    let unread = |error: BlobError| Fault::internal(error.to_string());
    let gone = || Fault::new(StatusCode::NOT_FOUND, "the report is not kept any more");
    if let Kind::Sbom(format) = kind {
        let inventory = kept.inventory.ok_or_else(gone)?;
        let inventory = scans.inventory(inventory).await.map_err(unread)?.ok_or_else(gone)?;
        let made = kept.at.seconds();
        let sbom = tokio::task::spawn_blocking(move || inventory_sbom(&inventory, format, made)).await;
        let sbom = sbom.map_err(|error| Fault::internal(error.to_string()))?;
        let answer = SbomReport {
            generated_at: kept.at.rfc3339(),
            artifact,
            scanner: Scanner::OURS,
            vendor_attributes: BTreeMap::new(),
            media_type: match format {
                SbomFormat::Spdx => SPDX,
                SbomFormat::CycloneDx => CYCLONEDX,
            },
            sbom: sbom.map_err(|error| Fault::internal(nv_telemetry::chain(&error)))?,
        };
        return document(StatusCode::OK, SBOM, &answer);
    }
    let mut report = scans.report(kept.report).await.map_err(unread)?.ok_or_else(gone)?;
    let image = format!("{}:{}", artifact.repository, artifact.tag);
    let place = Place { image, domain: String::new() };
    apply(&scans.settings(), &mut report.vulnerabilities, &place, now, false);
    match kind {
        Kind::Vulnerabilities(media) => {
            document(StatusCode::OK, media, &vulnerabilities(artifact, kept.at.rfc3339(), report))
        }
        Kind::Raw | Kind::Sbom(_) => document(StatusCode::OK, RAW, &Shown::from(report)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_that_is_asked_for_is_chosen_by_its_type() {
        let spdx = SbomFormat::Spdx;
        for (accept, query, want) in [
            ("", "", Ok(Kind::Vulnerabilities(SECURITY))),
            ("*/*", "", Ok(Kind::Vulnerabilities(SECURITY))),
            (SECURITY, "", Ok(Kind::Vulnerabilities(SECURITY))),
            (HARBOR, "", Ok(Kind::Vulnerabilities(HARBOR))),
            ("text/html, application/vnd.scanner.adapter.vuln.report.raw", "", Ok(Kind::Raw)),
            (SBOM, "sbom_media_type=application%2Fspdx%2Bjson", Ok(Kind::Sbom(spdx))),
            (SBOM, "sbom_media_type=application/spdx+json", Ok(Kind::Sbom(spdx))),
            (SBOM, "sbom_media_type=application/vnd.cyclonedx%2Bjson", Ok(Kind::Sbom(SbomFormat::CycloneDx))),
            (SBOM, "", Err(StatusCode::BAD_REQUEST)),
            (SBOM, "sbom_media_type=text/plain", Err(StatusCode::BAD_REQUEST)),
            ("text/html", "", Err(StatusCode::NOT_IMPLEMENTED)),
        ] {
            let found = Kind::of(accept, &Query::parse(query)).map_err(|fault| fault.status);
            assert_eq!(found, want, "{accept} {query}");
        }
    }

    #[test]
    fn a_report_is_as_bad_as_its_worst_finding() {
        let of = |severities: &[&str]| {
            let found = severities.iter().map(|severity| Vulnerability {
                severity: (*severity).to_owned(),
                ..Vulnerability::default()
            });
            let report = ScanReport { vulnerabilities: found.collect(), ..ScanReport::default() };
            vulnerabilities(&Artifact::default(), String::new(), report).severity
        };
        assert_eq!(of(&["Low", "Critical", "High"]), "Critical");
        assert_eq!(of(&["strange"]), "Unknown");
        assert_eq!(of(&[]), "Unknown");
    }
}
