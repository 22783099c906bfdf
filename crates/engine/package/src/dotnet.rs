//! .NET: what an application was published with, and NuGet's lock file.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::json;

#[derive(Deserialize)]
struct Deps {
    #[serde(default)]
    libraries: BTreeMap<String, Library>,
}

#[derive(Deserialize)]
struct Library {
    #[serde(rename = "type", default)]
    kind: String,
}

/// Reads `*.deps.json`: libraries `name/version` of type `package`.
pub fn parse_deps(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(deps) = json::<Deps>("deps.json", bytes, &mut inventory) else { return inventory };
    for (key, library) in deps.libraries {
        let Some((name, version)) = key.split_once('/').filter(|_| library.kind == "package") else {
            continue;
        };
        inventory.add("deps.json", || key.clone(), Package::new(Ecosystem::Nuget, name, version));
    }
    inventory
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    dependencies: BTreeMap<String, BTreeMap<String, Dependency>>,
}

#[derive(Deserialize)]
struct Dependency {
    resolved: Option<String>,
    #[serde(rename = "type", default)]
    kind: String,
}

/// Reads `packages.lock.json`: for each framework, packages with the version that was resolved.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = json::<Lock>("packages.lock.json", bytes, &mut inventory) else { return inventory };
    for (name, dependency) in lock.dependencies.into_values().flatten() {
        let Some(version) = dependency.resolved.filter(|_| dependency.kind != "Project") else { continue };
        let package = Package::new(Ecosystem::Nuget, name.as_str(), version);
        inventory.add("packages.lock.json", || name.clone(), package);
    }
    inventory
}

/// Reads `packages.config` and `Directory.Packages.props`: elements `<package id="" version="">` and
/// `<PackageVersion Include="" Version="">`. Versions that are properties or ranges name none and are left out.
pub fn parse_references(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let text = String::from_utf8_lossy(bytes);
    for element in text
        .split('<')
        .filter(|element| element.starts_with("package ") || element.starts_with("PackageVersion "))
    {
        let attribute = |names: [&str; 2]| {
            names.iter().find_map(|name| {
                let (_, rest) = element.split_once(&format!(" {name}=\""))?;
                rest.split('"').next()
            })
        };
        let name = attribute(["id", "Include"]).unwrap_or_default();
        let version = attribute(["version", "Version"]).unwrap_or_default();
        if version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains(['*', ',']) {
            let package = Package::new(Ecosystem::Nuget, name, version);
            inventory.add("NuGet's references", || name.to_owned(), package);
        }
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_listed_and_projects_are_not() {
        let text =
            br#"{"libraries":{"App/1.0.0":{"type":"project"},"Newtonsoft.Json/13.0.1":{"type":"package"}}}"#;
        let found = parse_deps(text).packages;
        assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "Newtonsoft.Json", "13.0.1"));
        let text = br#"{"version":1,"dependencies":{"net6.0":{"A":{"type":"Direct","resolved":"1.0.0"},"p":{"type":"Project"}}}}"#;
        let found = parse_lock(text).packages;
        assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "A", "1.0.0"));
        for text in [
            r#"<packages><package id="A" version="1.0.0" targetFramework="net48" /></packages>"#,
            r#"<Project><ItemGroup><PackageVersion Include="A" Version="1.0.0" /><PackageVersion Include="B" Version="$(x)" /></ItemGroup></Project>"#,
        ] {
            let found = parse_references(text.as_bytes()).packages;
            assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "A", "1.0.0"));
        }
    }
}
