//! Node.js: manifests of installed packages, and lock files of npm, yarn and pnpm.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package, licence};
use crate::read::{json, lines, yaml};

#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
    license: Option<serde_json::Value>,
}

/// Reads `package.json` of an installed package. One without name or version belongs to no registry and is left out.
pub fn parse_package(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    if let Some(manifest) = json::<Manifest>("package.json", bytes, &mut inventory)
        && let (Some(name), Some(version)) = (manifest.name, manifest.version)
        && !name.is_empty()
        && !version.is_empty()
    {
        // A word, or of old an object with one.
        let said = manifest.license.as_ref();
        let said = said.and_then(|said| said.as_str().or_else(|| said.get("type")?.as_str()));
        let licence = said.and_then(licence);
        let package = Package { licence, ..Package::new(Ecosystem::Npm, name, version) };
        inventory.add("package.json", || "manifest".to_owned(), package);
    }
    inventory
}

#[derive(Deserialize)]
struct NpmLock {
    #[serde(default)]
    packages: BTreeMap<String, NpmEntry>,
    #[serde(default)]
    dependencies: BTreeMap<String, NpmEntry>,
}

#[derive(Deserialize)]
struct NpmEntry {
    name: Option<String>,
    version: Option<String>,
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dependencies: Option<serde_json::Value>,
}

/// Deepest nesting of dependencies in a lock file of version 1.
const MAX_DEPTH: usize = 64;

/// Reads `package-lock.json` of versions 1, 2 and 3.
pub fn parse_npm_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = json::<NpmLock>("package-lock.json", bytes, &mut inventory) else { return inventory };
    if lock.packages.is_empty() {
        dependencies(lock.dependencies, 0, &mut inventory);
        return inventory;
    }
    for (path, entry) in lock.packages {
        let Some((_, name)) = path.rsplit_once("node_modules/").filter(|_| !entry.link) else { continue };
        add_npm(entry.name.as_deref().unwrap_or(name), entry.version.as_deref(), &mut inventory);
    }
    inventory
}

fn dependencies(found: BTreeMap<String, NpmEntry>, depth: usize, inventory: &mut Inventory) {
    if depth > MAX_DEPTH {
        inventory.fault("package-lock.json", "dependencies", format!("nested deeper than {MAX_DEPTH}"));
        return;
    }
    for (name, entry) in found {
        add_npm(&name, entry.version.as_deref(), inventory);
        let nested = entry.dependencies.and_then(|value| serde_json::from_value(value).ok());
        dependencies(nested.unwrap_or_default(), depth + 1, inventory);
    }
}

fn add_npm(name: &str, version: Option<&str>, inventory: &mut Inventory) {
    // Aliases are written `npm:name@version`, what comes from elsewhere as a URL.
    let (name, version) = match version.and_then(|version| version.strip_prefix("npm:")) {
        Some(alias) => alias.rsplit_once('@').unwrap_or((name, "")),
        None => (name, version.unwrap_or_default()),
    };
    if version.starts_with(|c: char| c.is_ascii_digit()) {
        inventory.add("npm lock file", || name.to_owned(), Package::new(Ecosystem::Npm, name, version));
    }
}

/// Reads `yarn.lock` of yarn 1 and later: a key of descriptors, and a version below it.
pub fn parse_yarn_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut name = String::new();
    for (_, line) in lines(bytes) {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if !line.starts_with(' ') {
            name = yarn_name(line.trim_end_matches(':')).unwrap_or_default();
            continue;
        }
        let Some(rest) = line.strip_prefix("  version").filter(|_| !name.is_empty()) else { continue };
        let version = rest.trim_start_matches([':', ' ']).trim_matches('"').trim();
        add_npm(&std::mem::take(&mut name), Some(version), &mut inventory);
    }
    inventory
}

/// `"@babel/core@^7.0.0", …` and `"core@npm:^7.0.0"` → the package's name; none for the project itself.
fn yarn_name(key: &str) -> Option<String> {
    let first = key.split(',').next()?.trim().trim_matches('"');
    let at = first.get(1..)?.find('@')? + 1;
    let (name, range) = first.split_at_checked(at)?;
    let range = range.trim_start_matches('@');
    let own = ["workspace:", "link:", "portal:", "file:"].iter().any(|prefix| range.starts_with(prefix));
    if own {
        return None;
    }
    // An alias names the package that it stands for.
    match range
        .strip_prefix("npm:")
        .and_then(|target| Some(target.split_at_checked(target.get(1..)?.find('@')? + 1)?.0))
    {
        Some(target) => Some(target.to_owned()),
        None => Some(name.to_owned()),
    }
}

#[derive(Deserialize)]
struct PnpmLock {
    #[serde(default)]
    packages: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// Reads `pnpm-lock.yaml`: keys `/name/1.2.3`, `/name@1.2.3` and `name@1.2.3`, with peers in brackets behind.
pub fn parse_pnpm_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = yaml::<PnpmLock>("pnpm-lock.yaml", bytes, &mut inventory) else { return inventory };
    for key in lock.packages.into_iter().flatten().map(|(key, _)| key) {
        let plain = key.trim_start_matches('/').split('(').next().unwrap_or_default();
        let split = match plain.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
            Some(split) => Some(split),
            None => plain.rsplit_once('/'),
        };
        if let Some((name, version)) = split {
            add_npm(name, Some(version.split('_').next().unwrap_or(version)), &mut inventory);
        }
    }
    inventory
}

/// Reads `bun.lock`: below `"packages": {`, a line a package, `"key": ["name@version", …],`. It is JSON but for its
/// commas, so that it is read by lines.
pub fn parse_bun_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut of_packages = false;
    for (_, line) in lines(bytes) {
        if !of_packages {
            of_packages = line.trim() == "\"packages\": {";
            continue;
        }
        let Some((_, entry)) = line.split_once(": [\"") else { continue };
        let resolved = entry.split('"').next().unwrap_or_default();
        if let Some((name, version)) = resolved.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
            add_npm(name, Some(version), &mut inventory);
        }
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
    fn manifests_and_lock_files_name_packages_with_versions() {
        assert_eq!(
            names(&parse_package(br#"{"name":"@a/b","version":"1.2.3","x":{}}"#)),
            [("@a/b", "1.2.3")]
        );
        assert_eq!(names(&parse_package(br#"{"type":"module"}"#)), []);
        let text = br#"{"lockfileVersion":3,"packages":{"":{"name":"own","version":"1"},"node_modules/a":{"version":"1.0.0"},
            "node_modules/a/node_modules/@b/c":{"version":"2.0.0"},"node_modules/l":{"link":true},
            "node_modules/al":{"name":"real","version":"3.0.0"}}}"#;
        assert_eq!(names(&parse_npm_lock(text)), [("a", "1.0.0"), ("@b/c", "2.0.0"), ("real", "3.0.0")]);
        let text = br#"{"dependencies":{"a":{"version":"1.0.0","dependencies":{"b":{"version":"npm:c@2.0.0"}}},"g":{"version":"git+ssh://x"}}}"#;
        assert_eq!(names(&parse_npm_lock(text)), [("a", "1.0.0"), ("c", "2.0.0")]);
        let text = b"# yarn\n\"@babel/core@^7.0.0\", \"@babel/core@^7.1\":\n  version \"7.2.0\"\n  dependencies:\n    version \"^1\"\n\nb@1:\n  version \"1.0.1\"\n\n\"c@npm:^2\":\n  version: 2.0.1\n\n\"own@workspace:.\":\n  version: 0.0.0\n";
        assert_eq!(names(&parse_yarn_lock(text)), [("@babel/core", "7.2.0"), ("b", "1.0.1"), ("c", "2.0.1")]);
        let text = b"lockfileVersion: '9.0'\npackages:\n  /a/1.0.0:\n    dev: true\n  /@s/b@2.0.0(react@18.0.0):\n    x: {}\n  'c@3.0.0':\n    y: 1\n";
        let bun = b"{\n  \"workspaces\": {\n    \"\": { \"name\": \"own\" },\n  },\n  \"packages\": {\n    \"@s/b\": [\"@s/b@2.0.0\", \"\", {}, \"sha512-x\"],\n    \"w\": [\"w@workspace:packages/w\"],\n  }\n}\n";
        assert_eq!(names(&parse_bun_lock(bun)), [("@s/b", "2.0.0")]);
        assert_eq!(names(&parse_pnpm_lock(text)), [("@s/b", "2.0.0"), ("a", "1.0.0"), ("c", "3.0.0")]);
    }
}
