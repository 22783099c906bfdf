//! Python: metadata of installed packages, and lock files.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package, licence};
use crate::read::{json, lines, toml};

const FORMAT: &str = "Python metadata";

/// Reads `METADATA` or `PKG-INFO`: headers as of a mail, `Name` and `Version` among them.
pub fn parse_metadata(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let (mut name, mut version, mut said) = (String::new(), String::new(), String::new());
    for (_, line) in lines(bytes) {
        if line.trim().is_empty() {
            break;
        }
        match line.split_once(':') {
            Some(("Name", value)) if name.is_empty() => name = value.trim().to_owned(),
            Some(("Version", value)) if version.is_empty() => version = value.trim().to_owned(),
            // The expression is the newer field, and says it exactly.
            Some(("License-Expression", value)) => value.trim().clone_into(&mut said),
            Some(("License", value)) if said.is_empty() => value.trim().clone_into(&mut said),
            _ => {}
        }
    }
    let package = Package { licence: licence(&said), ..Package::new(Ecosystem::Python, name, version) };
    inventory.add(FORMAT, || "headers".to_owned(), package);
    inventory
}

/// Reads `requirements.txt`: lines that pin a version with `==`; others name no version and are left out.
pub fn parse_requirements(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    for (number, line) in lines(bytes) {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        let Some((name, version)) = line.split_once("==") else { continue };
        let name = name.split('[').next().unwrap_or_default().trim();
        let version = version.trim_start_matches('=').split([' ', ',', '\\']).find(|word| !word.is_empty());
        let Some(version) = version.filter(|version| !version.contains('*')) else { continue };
        inventory.add(
            "requirements.txt",
            || format!("line {number}"),
            Package::new(Ecosystem::Python, name, version),
        );
    }
    inventory
}

#[derive(Deserialize)]
struct Pipfile {
    #[serde(default)]
    default: BTreeMap<String, Pinned>,
}

#[derive(Deserialize)]
struct Pinned {
    version: Option<String>,
}

/// Reads `Pipfile.lock`: the packages of `default`; those for development are not installed.
pub fn parse_pipfile_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = json::<Pipfile>("Pipfile.lock", bytes, &mut inventory) else { return inventory };
    for (name, pinned) in lock.default {
        let Some(version) = pinned.version.as_deref().and_then(|version| version.strip_prefix("==")) else {
            continue;
        };
        inventory.add(
            "Pipfile.lock",
            || name.clone(),
            Package::new(Ecosystem::Python, name.as_str(), version),
        );
    }
    inventory
}

#[derive(Deserialize)]
struct Lock {
    #[serde(default, alias = "packages")]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: Option<String>,
    source: Option<Source>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Source {
    editable: Option<String>,
    #[serde(rename = "virtual")]
    project: Option<String>,
}

/// Reads `poetry.lock`, `uv.lock`, `pdm.lock` and `pylock.toml` (PEP 751); the project itself is left out.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = toml::<Lock>("Python lock file", bytes, &mut inventory) else { return inventory };
    for locked in lock.package {
        let own = locked.source.is_some_and(|source| source.editable.is_some() || source.project.is_some());
        let Some(version) = locked.version.filter(|_| !own) else { continue };
        inventory.add(
            "Python lock file",
            || locked.name.clone(),
            Package::new(Ecosystem::Python, locked.name.as_str(), version),
        );
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inventory: &Inventory) -> Vec<(&str, &str)> {
        assert_eq!(inventory.faults, []);
        inventory.packages.iter().map(|p| (&*p.name, &*p.version)).collect()
    }

    #[test]
    fn metadata_and_lock_files_name_packages_with_versions() {
        let text = b"Metadata-Version: 2.1\nName: Django\nVersion: 4.2.1\n\nName: in the text\n";
        assert_eq!(names(&parse_metadata(text)), [("Django", "4.2.1")]);
        let text = b"# c\nDjango[argon2]==4.2.1 ; python_version > '3'\nflask>=2\nx==1.*\ny===2 \\\n  --hash=sha256:00==\n";
        assert_eq!(names(&parse_requirements(text)), [("Django", "4.2.1"), ("y", "2")]);
        let text = br#"{"default":{"requests":{"version":"==2.31.0"},"own":{"path":"."}},"develop":{"pytest":{"version":"==7"}}}"#;
        assert_eq!(names(&parse_pipfile_lock(text)), [("requests", "2.31.0")]);
        let text = b"[[package]]\nname = \"a\"\nversion = \"1\"\n[[package]]\nname = \"own\"\nversion = \"0\"\nsource = { editable = \".\" }\n";
        assert_eq!(names(&parse_lock(text)), [("a", "1")]);
        assert_eq!(parse_lock(b"[[package").fault_count, 1);
    }
}
