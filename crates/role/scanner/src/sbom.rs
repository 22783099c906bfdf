//! A bill of materials as what is scanned.

use std::path::Path;

use nv_package::sbom::parse_sbom;

use crate::error::ScannerError;
use crate::remark::Remarks;
use crate::report::{Installed, Report};
use crate::rules::read;

/// Reads the packages that a bill of materials (CycloneDX, SPDX 2, Syft's JSON) lists.
///
/// # Errors
/// [`ScannerError`] when the file can not be read, is too large, or is no bill of materials.
pub fn read_sbom(path: &Path, remarks: &mut Remarks<'_>) -> Result<Report, ScannerError> {
    let bytes = read(path)?;
    let sbom = parse_sbom(&bytes).map_err(|source| ScannerError::Sbom { path: path.to_owned(), source })?;
    drop(bytes);
    for fault in &sbom.inventory.faults {
        remarks.add(&format!("{}: {fault}", path.display()));
    }
    if sbom.others > 0 {
        let others = sbom.others;
        remarks.add(&format!("{}: {others} components have no package URL of a known type", path.display()));
    }
    let packages = sbom.packages.into_iter();
    let mut packages: Vec<Installed> =
        packages.map(|(file, package)| Installed { file, package, layer: None, held: false }).collect();
    packages.sort();
    packages.dedup();
    Ok(Report {
        subject: path.display().to_string(),
        distribution: sbom.distribution,
        packages,
        ..Report::default()
    })
}
