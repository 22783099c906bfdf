//! Bills of materials: CycloneDX and SPDX in JSON, SPDX as lines, Syft's own JSON. Components without a package URL of
//! a known type name no package and are counted.

use serde::Deserialize;

use crate::distribution::Distribution;
use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package, Source};
use crate::purl::{PurlError, parse_purl};
use crate::read::lines;

/// Deepest nesting of components that is read.
const MAX_DEPTH: usize = 32;

/// What a bill of materials says.
#[derive(Debug, Default)]
pub struct Sbom {
    /// The distribution, where the document or its packages name one.
    pub distribution: Option<Distribution>,
    /// Packages with the file that each was found in; empty where the document does not say.
    pub packages: Vec<(String, Package)>,
    /// Components that could not be read.
    pub inventory: Inventory,
    /// Components that have no package URL, or one of a type that is not known.
    pub others: usize,
}

/// Why a document is no bill of materials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SbomError {
    /// It is neither JSON nor SPDX in lines.
    #[error("no bill of materials: {0}")]
    Syntax(String),
    /// It is JSON of no known kind.
    #[error("no bill of materials that is known: CycloneDX, SPDX 2 or Syft's JSON is expected")]
    Kind,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    // CycloneDX.
    bom_format: String,
    components: Vec<Component>,
    metadata: Metadata,
    // SPDX 2.
    spdx_version: String,
    packages: Vec<SpdxPackage>,
    // Syft.
    artifacts: Option<Vec<Artifact>>,
    distro: Distro,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    component: Option<Component>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Component {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    version: String,
    purl: String,
    components: Vec<Component>,
    properties: Vec<Property>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Property {
    name: String,
    value: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SpdxPackage {
    name: String,
    version_info: String,
    source_info: String,
    primary_package_purpose: String,
    external_refs: Vec<Reference>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    reference_type: String,
    reference_locator: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Artifact {
    name: String,
    purl: String,
    locations: Vec<Location>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Location {
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Distro {
    id: String,
    #[serde(rename = "versionID")]
    version_id: String,
    pretty_name: String,
}

/// Reads a bill of materials.
///
/// # Errors
/// [`SbomError`] when the document is none.
pub fn parse_sbom(bytes: &[u8]) -> Result<Sbom, SbomError> {
    let mut sbom = Sbom::default();
    if bytes.trim_ascii_start().starts_with(b"SPDXVersion:") {
        spdx_lines(bytes, &mut sbom);
        return Ok(sbom);
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| SbomError::Syntax(error.to_string()))?;
    if document.bom_format == "CycloneDX" {
        for component in document.metadata.component.into_iter().chain(document.components) {
            sbom.component(component, 0);
        }
    } else if document.spdx_version.starts_with("SPDX-2") {
        for package in &document.packages {
            sbom.spdx(package);
        }
    } else if let Some(artifacts) = document.artifacts {
        for artifact in artifacts {
            let file = artifact.locations.into_iter().next().unwrap_or_default().path;
            sbom.add(&artifact.purl, &artifact.name, &file, None);
        }
        let Distro { id, version_id, pretty_name } = document.distro;
        if !id.is_empty() {
            sbom.distribution = Some(Distribution {
                id,
                version: version_id,
                pretty: pretty_name,
                ..Distribution::default()
            });
        }
    } else {
        return Err(SbomError::Kind);
    }
    Ok(sbom)
}

impl Sbom {
    fn component(&mut self, component: Component, depth: usize) {
        if depth > MAX_DEPTH {
            let why = format!("nested deeper than {MAX_DEPTH}");
            self.inventory.fault("CycloneDX", component.name, why);
            return;
        }
        let property = |wanted: &str| {
            let found = component.properties.iter().find(|property| property.name == wanted);
            found.map(|property| property.value.as_str()).filter(|value| !value.is_empty())
        };
        if component.kind == "operating-system" {
            self.distribution = Some(Distribution {
                id: component.name.to_ascii_lowercase(),
                version: component.version.clone(),
                pretty: format!("{} {}", component.name, component.version),
                ..Distribution::default()
            });
        } else {
            // Trivy tells what a package was built from in properties of its own, and not in the URL.
            let version = property("aquasecurity:trivy:SrcVersion").map(|version| {
                let epoch = property("aquasecurity:trivy:SrcEpoch").filter(|epoch| *epoch != "0");
                let release = property("aquasecurity:trivy:SrcRelease");
                let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
                let release = release.map(|release| format!("-{release}")).unwrap_or_default();
                format!("{epoch}{version}{release}").into()
            });
            let source =
                property("aquasecurity:trivy:SrcName").map(|name| Source { name: name.into(), version });
            let file = property("syft:location:0:path").or_else(|| property("aquasecurity:trivy:FilePath"));
            self.add(&component.purl, &component.name, file.unwrap_or_default(), source);
        }
        for inner in component.components {
            self.component(inner, depth + 1);
        }
    }

    fn spdx(&mut self, package: &SpdxPackage) {
        if package.primary_package_purpose == "OPERATING-SYSTEM" {
            self.distribution = Some(Distribution {
                id: package.name.to_ascii_lowercase(),
                version: package.version_info.clone(),
                pretty: format!("{} {}", package.name, package.version_info),
                ..Distribution::default()
            });
            return;
        }
        let purl = package.external_refs.iter().find(|reference| reference.reference_type == "purl");
        let purl = purl.map_or("", |reference| &reference.reference_locator);
        // `built package from: openssl 3.0.11-1`, as Trivy writes it.
        let source = package.source_info.strip_prefix("built package from: ").and_then(|source| {
            let (name, version) = source.split_once(' ')?;
            Some(Source { name: name.into(), version: Some(version.into()) })
        });
        self.add(purl, &package.name, "", source);
    }

    fn add(&mut self, purl: &str, name: &str, file: &str, source: Option<Source>) {
        if purl.is_empty() {
            self.others += 1;
            return;
        }
        let mut found = match parse_purl(purl) {
            Ok(found) => found,
            Err(PurlError::Type { .. }) => {
                self.others += 1;
                return;
            }
            Err(error) => {
                self.inventory.fault("package URL", name, error.to_string());
                return;
            }
        };
        if found.package.version.is_empty() && found.package.sha1.is_none() {
            self.others += 1;
            return;
        }
        if found.package.ecosystem.is_distribution() && found.package.ecosystem != Ecosystem::Rpm {
            let other = |source: &Source| source.name != found.package.name || source.version.is_some();
            found.package.source = found.package.source.or(source.filter(other));
        }
        if self.distribution.is_none()
            && let Some((id, version)) = found.distribution.filter(|(id, _)| !id.is_empty())
        {
            self.distribution = Some(Distribution {
                pretty: format!("{id} {version}"),
                id,
                version,
                ..Distribution::default()
            });
        }
        let file = file.trim_start_matches('/').to_owned();
        let mut one = Inventory::default();
        one.add("bill of materials", || name.to_owned(), found.package);
        self.packages.extend(one.packages.into_iter().map(|package| (file.clone(), package)));
        self.inventory.fault_count += one.fault_count;
        self.inventory.faults.extend(one.faults);
    }
}

/// SPDX's tags and values: a package begins with `PackageName:`, its URL is in `ExternalRef: … purl URL`.
fn spdx_lines(bytes: &[u8], sbom: &mut Sbom) {
    let mut name = String::new();
    for (_, line) in lines(bytes) {
        match line.split_once(':') {
            Some(("PackageName", value)) => value.trim().clone_into(&mut name),
            Some(("ExternalRef", value)) => {
                if let Some((_, purl)) = value.split_once(" purl ") {
                    sbom.add(purl.trim(), &name, "", None);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(text: &str) -> (String, Vec<(String, String, String)>, usize) {
        let sbom = parse_sbom(text.as_bytes()).unwrap();
        assert_eq!(sbom.inventory.faults, []);
        let release = sbom.distribution.map(|d| format!("{}:{}", d.id, d.version)).unwrap_or_default();
        let packages = sbom.packages.into_iter();
        let packages = packages.map(|(file, p)| (file, p.name.into_string(), p.version.into_string()));
        (release, packages.collect(), sbom.others)
    }

    #[test]
    fn documents_of_every_kind_name_the_same_packages() {
        let purl = "pkg:deb/debian/libssl3@3.0.8-1?arch=amd64&upstream=openssl&distro=debian-12";
        let npm = "pkg:npm/%40a/b@1.0.0";
        let cyclone = format!(
            r#"{{"bomFormat":"CycloneDX","components":[{{"type":"operating-system","name":"debian","version":"12"}},
            {{"type":"library","name":"libssl3","purl":"{purl}","components":[{{"name":"b","purl":"{npm}"}}]}},
            {{"type":"file","name":"x"}}]}}"#
        );
        let spdx = format!(
            r#"{{"spdxVersion":"SPDX-2.3","packages":[{{"name":"libssl3","externalRefs":[
            {{"referenceType":"purl","referenceLocator":"{purl}"}}]}},{{"name":"b","externalRefs":[
            {{"referenceType":"purl","referenceLocator":"{npm}"}}]}},{{"name":"root"}}]}}"#
        );
        let syft = format!(
            r#"{{"artifacts":[{{"name":"libssl3","purl":"{purl}"}},{{"name":"b","purl":"{npm}"}},
            {{"name":"x","purl":""}}],"distro":{{"id":"debian","versionID":"12"}}}}"#
        );
        let text = format!(
            "SPDXVersion: SPDX-2.3\nPackageName: libssl3\nExternalRef: PACKAGE-MANAGER purl {purl}\n\
             PackageName: b\nExternalRef: PACKAGE-MANAGER purl {npm}\n"
        );
        let want = |name: &str, version: &str| (String::new(), name.to_owned(), version.to_owned());
        for (document, others) in [(cyclone, 1), (spdx, 1), (syft, 1), (text, 0)] {
            let packages = vec![want("libssl3", "3.0.8-1"), want("@a/b", "1.0.0")];
            assert_eq!(seen(&document), ("debian:12".to_owned(), packages, others), "{document}");
        }
        assert!(matches!(parse_sbom(b"{}"), Err(SbomError::Kind)));
        assert!(matches!(parse_sbom(b"<bom/>"), Err(SbomError::Syntax(_))));
    }

    #[test]
    fn what_a_package_was_built_from_is_read_where_trivy_writes_it() {
        let text = r#"{"bomFormat":"CycloneDX","components":[{"name":"libc6","purl":"pkg:deb/debian/libc6@2.36-9?distro=debian-12.5",
            "properties":[{"name":"aquasecurity:trivy:SrcName","value":"glibc"},{"name":"aquasecurity:trivy:SrcVersion","value":"2.36"},
            {"name":"aquasecurity:trivy:SrcRelease","value":"9"}]}]}"#;
        let sbom = parse_sbom(text.as_bytes()).unwrap();
        let source = sbom.packages[0].1.source.clone().unwrap();
        assert_eq!((&*source.name, source.version.as_deref()), ("glibc", Some("2.36-9")));
        assert_eq!(sbom.distribution.unwrap().version, "12.5");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_bill_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _either = parse_sbom(&bytes);
        }
    }
}
