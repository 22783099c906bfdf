//! Repositories of VEX (Aqua's specification, version 0.1): a folder with `index.json`, which leads from a package or image to
//! the documents about it. Those alone are read that are about something in the report.

use std::collections::HashSet;
use std::path::{Component, Path};

use nv_package::purl::write_purl;
use serde::Deserialize;

use crate::error::ScannerError;
use crate::report::Report;
use crate::rules::{Rules, read};

/// Most documents that are read for one report; what is beyond is not said.
const MAX_DOCUMENTS: usize = 10_000;

#[derive(Deserialize)]
struct Index {
    packages: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    location: String,
}

impl Rules {
    /// Reads what the repositories say of what is in a report.
    ///
    /// # Errors
    /// [`ScannerError`] names the index or document that can not be read.
    pub fn consult(&mut self, report: &Report) -> Result<(), ScannerError> {
        if self.repositories.is_empty() {
            return Ok(());
        }
        let packages: HashSet<String> = report
            .packages
            .iter()
            .map(|installed| bare(&write_purl(&installed.package, report.distribution.as_ref())))
            .collect();
        let names = report.image.iter().flat_map(|image| &image.names).chain([&report.subject]);
        let images: HashSet<String> = names.map(|name| repository(name)).collect();
        for folder in self.repositories.clone() {
            let path = folder.join("index.json");
            let index: Index = serde_json::from_slice(&read(&path)?).map_err(|error| {
                ScannerError::Argument(format!("{} is no index of VEX documents: {error}", path.display()))
            })?;
            let about = |listed: &&Listed| match image_of(&listed.id) {
                Some(image) => images.contains(&image),
                None => packages.contains(&bare(&listed.id)),
            };
            for listed in index.packages.iter().filter(about).take(MAX_DOCUMENTS) {
                let inside = Path::new(&listed.location);
                if !inside.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
                    let location = &listed.location;
                    return Err(ScannerError::Argument(format!(
                        "{} leads out of its folder: {location}",
                        path.display()
                    )));
                }
                let document = folder.join(inside);
                let bytes = read(&document)?;
                self.vex
                    .read(&bytes)
                    .map_err(|source| ScannerError::Vex { path: document.clone(), source })?;
            }
        }
        Ok(())
    }
}

/// A package URL without version and qualifiers.
fn bare(purl: &str) -> String {
    let purl = purl.split(['?', '#']).next().unwrap_or_default();
    // An `@` at the beginning of a part is a scope's.
    let version = purl.rfind('@').filter(|at| *at > 0 && purl.as_bytes().get(at - 1) != Some(&b'/'));
    version.and_then(|at| purl.get(..at)).unwrap_or(purl).replace("%40", "@").to_ascii_lowercase()
}

/// The repository that a package URL of an image names.
fn image_of(purl: &str) -> Option<String> {
    let (_, qualifiers) = purl.strip_prefix("pkg:oci/")?.split_once('?')?;
    let url = qualifiers.split('&').find_map(|one| one.strip_prefix("repository_url="))?;
    Some(repository(&url.replace("%2F", "/").replace("%2f", "/").replace("%3A", ":")))
}

/// An image's name without tag and digest, with the registry in front.
fn repository(name: &str) -> String {
    let name = name.split('@').next().unwrap_or_default();
    let (folder, last) = name.rsplit_once('/').map_or(("", name), |(folder, last)| (folder, last));
    let last = last.split(':').next().unwrap_or_default();
    let whole = if folder.is_empty() { format!("library/{last}") } else { format!("{folder}/{last}") };
    let whole = whole.strip_prefix("index.").unwrap_or(&whole).to_owned();
    let host = whole.split('/').next().unwrap_or_default();
    if host.contains(['.', ':']) || host == "localhost" { whole } else { format!("docker.io/{whole}") }
}

#[cfg(test)]
mod tests {
    use nv_package::{Ecosystem, Package};

    use super::*;
    use crate::report::Installed;
    use crate::rules::read_rules;

    const SAYS: &str = r#"{"@context":"https://openvex.dev/ns/v0.2.0","@id":"x","author":"a","timestamp":"2026-01-01T00:00:00Z",
        "statements":[{"vulnerability":{"name":"CVE-2026-1"},"products":[{"@id":"pkg:npm/left-pad"}],
        "status":"not_affected","justification":"vulnerable_code_not_present"}]}"#;

    fn report() -> Report {
        let package = Package::new(Ecosystem::Npm, "left-pad", "1.0.0");
        let installed = Installed { file: "a".to_owned(), package, layer: None, held: false };
        Report { subject: "shop/web:1.0".to_owned(), packages: vec![installed], ..Report::default() }
    }

    #[test]
    fn what_a_repository_says_of_other_packages_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{"version":1,"packages":[{"id":"pkg:npm/left-pad","location":"npm/left-pad.json"},
            {"id":"pkg:npm/right-pad","location":"npm/not-there.json"}]}"#;
        std::fs::write(folder.path().join("index.json"), index).unwrap();
        std::fs::create_dir(folder.path().join("npm")).unwrap();
        std::fs::write(folder.path().join("npm/left-pad.json"), SAYS).unwrap();
        let mut rules = read_rules(&[folder.path().to_owned()], &[], &[]).unwrap();
        assert!(rules.vex.is_empty());
        rules.consult(&report()).unwrap();
        assert!(!rules.vex.is_empty());

        let away = r#"{"packages":[{"id":"pkg:npm/left-pad","location":"../left-pad.json"}]}"#;
        std::fs::write(folder.path().join("index.json"), away).unwrap();
        let error = rules.consult(&report()).unwrap_err().to_string();
        assert!(error.contains("leads out of its folder"), "{error}");
    }

    #[test]
    fn packages_and_images_are_told_without_versions() {
        for (purl, want) in [
            ("pkg:npm/%40babel/core@7.0.0", "pkg:npm/@babel/core"),
            ("pkg:npm/%40babel/core", "pkg:npm/@babel/core"),
            ("pkg:golang/github.com/A/b/v2@v2.5.0?type=module", "pkg:golang/github.com/a/b/v2"),
        ] {
            assert_eq!(bare(purl), want);
        }
        let id = "pkg:oci/cli?repository_url=index.docker.io%2Flonghornio%2Fcli";
        assert_eq!(image_of(id).as_deref(), Some("docker.io/longhornio/cli"));
        for (name, want) in [
            ("longhornio/cli:v1.8", "docker.io/longhornio/cli"),
            ("alpine", "docker.io/library/alpine"),
            ("r.example:5000/shop/web@sha256:00", "r.example:5000/shop/web"),
        ] {
            assert_eq!(repository(name), want);
        }
    }
}
