//! C and C++: Conan's lock file.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::json;

const FORMAT: &str = "conan.lock";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Lock {
    /// Conan 2.
    requires: Vec<String>,
    /// Conan 1.
    graph_lock: Graph,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Graph {
    nodes: BTreeMap<String, Node>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Node {
    #[serde(rename = "ref")]
    reference: String,
}

/// Reads `conan.lock` of Conan 1 and 2: references `name/version@user/channel#revision`. What is needed to build alone
/// is left out.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(lock) = json::<Lock>(FORMAT, bytes, &mut inventory) else { return inventory };
    let nodes = lock.graph_lock.nodes.into_values().map(|node| node.reference);
    for reference in lock.requires.into_iter().chain(nodes) {
        // The project itself has no reference, or one without a version.
        let Some((name, rest)) = reference.split_once('/') else { continue };
        let version = rest.split(['@', '#', '%']).next().unwrap_or_default();
        inventory.add(FORMAT, || reference.clone(), Package::new(Ecosystem::Conan, name, version));
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_both_versions_name_packages() {
        for text in [
            r#"{"version":"0.5","requires":["zlib/1.2.13#97d5730b%1"],"build_requires":["cmake/3.25"]}"#,
            r#"{"graph_lock":{"nodes":{"0":{"options":""},"1":{"ref":"zlib/1.2.13@user/stable#97"}}}}"#,
        ] {
            let found = parse_lock(text.as_bytes()).packages;
            assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "zlib", "1.2.13"));
        }
    }
}
