//! Dart and Flutter: `pubspec.lock`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::yaml;

const FORMAT: &str = "pubspec.lock";

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: Option<BTreeMap<String, Locked>>,
}

#[derive(Deserialize)]
struct Locked {
    #[serde(default)]
    version: String,
    #[serde(default)]
    source: String,
}

/// Reads `pubspec.lock`; what comes from a path, from git or with the SDK is in no registry and is left out.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = yaml::<Lock>(FORMAT, bytes, &mut inventory) else { return inventory };
    for (name, locked) in lock.packages.into_iter().flatten() {
        if locked.source == "hosted" {
            let package = Package::new(Ecosystem::Pub, name.as_str(), locked.version);
            inventory.add(FORMAT, || name.clone(), package);
        }
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosted_packages_are_listed() {
        let text = b"packages:\n  http:\n    dependency: \"direct main\"\n    description:\n      name: http\n    source: hosted\n    version: \"0.13.5\"\n  flutter:\n    source: sdk\n    version: \"0.0.0\"\nsdks:\n  dart: \">=2\"\n";
        let found = parse_lock(text).packages;
        assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "http", "0.13.5"));
    }
}
