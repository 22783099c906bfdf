//! SPDX 2.3 as JSON: what is installed.

use nv_package::purl::write_purl;
use serde_json::{Value, json};

use super::date_text;
use crate::report::Report;

/// `created` in seconds since 1970: of what does not change, so that the same scan gives the same document.
pub(super) fn document(created: u64, report: &Report) -> Value {
    let mut packages = vec![json!({
        "SPDXID": "SPDXRef-Subject",
        "name": report.subject,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": if report.image.is_some() { "CONTAINER" } else { "FILE" },
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Subject",
    })];
    for (number, installed) in (1..).zip(&report.packages) {
        let number: usize = number;
        let id = format!("SPDXRef-Package-{number}");
        packages.push(json!({
            "SPDXID": id,
            "name": installed.package.name,
            "versionInfo": installed.package.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
            // Makers write licences in words of their own: only a comment may have them.
            "licenseComments": installed.package.licence.as_deref().unwrap_or("NOASSERTION"),
            "sourceInfo": format!("found in {}", installed.file),
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": write_purl(&installed.package, report.distribution.as_ref()),
            }],
        }));
        relationships.push(json!({
            "spdxElementId": "SPDXRef-Subject",
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": id,
        }));
    }
    let packages = Value::Array(packages);
    let hash: String = super::hash(&packages).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": report.subject,
        "documentNamespace": format!("https://neuvector.com/spdx/{hash}"),
        "creationInfo": {
            "created": date_text(created),
            "creators": [format!("Tool: neuvector-scanner-{}", nv_telemetry::VERSION)],
        },
    });
    super::put(&mut document, [("packages", packages), ("relationships", Value::Array(relationships))]);
    document
}
