//! Bitnami's images: `.bitnami_components.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::json;

const FORMAT: &str = "Bitnami's components";

#[derive(Deserialize)]
struct Component {
    version: String,
    #[serde(default)]
    arch: Option<String>,
}

/// Reads the list of components. The revision of the package behind the version (`1.25.3-2`) is no part of what
/// advisories speak of, and would be a pre-release in their order.
pub fn parse_components(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let read = json::<BTreeMap<String, Component>>(FORMAT, bytes, &mut inventory);
    for (name, component) in read.into_iter().flatten() {
        let version = match component.version.rsplit_once('-') {
            Some((version, revision)) if revision.bytes().all(|byte| byte.is_ascii_digit()) => version,
            _ => &component.version,
        };
        let package = Package {
            arch: component.arch.map(Into::into),
            ..Package::new(Ecosystem::Bitnami, name.as_str(), version)
        };
        inventory.add(FORMAT, || name.clone(), package);
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_listed_without_their_revision() {
        let text = br#"{"nginx":{"arch":"amd64","distro":"debian-12","type":"NAMI","version":"1.25.3-2"}}"#;
        let found = parse_components(text).packages;
        assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "nginx", "1.25.3"));
    }
}
