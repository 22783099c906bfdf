//! Swift: `Package.resolved` of its package manager, and CocoaPods' `Podfile.lock`.

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::{json, lines};

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resolved {
    /// Versions 2 and 3.
    pins: Vec<Pin>,
    /// Version 1.
    object: Object,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    pins: Vec<Pin>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pin {
    #[serde(alias = "repositoryURL")]
    location: String,
    state: State,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct State {
    version: Option<String>,
}

/// Reads `Package.resolved`: repositories with versions; the name is the repository's address without scheme and
/// `.git`. Pins to a branch or revision name no version and are left out.
pub fn parse_resolved(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(resolved) = json::<Resolved>("Package.resolved", bytes, &mut inventory) else {
        return inventory;
    };
    for pin in resolved.pins.into_iter().chain(resolved.object.pins) {
        let Some(version) = pin.state.version else { continue };
        let address = pin.location.split_once("://").map_or(&*pin.location, |(_, rest)| rest);
        let name = address.trim_end_matches('/').trim_end_matches(".git");
        let package = Package::new(Ecosystem::Swift, name, version);
        inventory.add("Package.resolved", || pin.location.clone(), package);
    }
    inventory
}

/// Reads `Podfile.lock`: below `PODS:`, `  - Name/Part (version)`; the parts of a pod are one package.
pub fn parse_podfile_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut of_pods = false;
    for (number, line) in lines(bytes) {
        if !line.starts_with(' ') {
            of_pods = line.trim() == "PODS:";
            continue;
        }
        let Some(pod) = line.strip_prefix("  - ").filter(|_| of_pods) else { continue };
        let pod = pod.trim_end_matches(':').trim_matches('"');
        let Some((name, version)) = pod.split_once(" (") else { continue };
        let name = name.split('/').next().unwrap_or(name);
        let package = Package::new(Ecosystem::CocoaPods, name, version.trim_end_matches(')'));
        if inventory.packages.last() != Some(&package) {
            inventory.add("Podfile.lock", || format!("line {number}"), package);
        }
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_and_pods_name_packages() {
        for text in [
            r#"{"version":2,"pins":[{"identity":"swift-nio","location":"https://github.com/apple/swift-nio.git","state":{"version":"2.40.0"}},{"location":"x","state":{"branch":"main"}}]}"#,
            r#"{"version":1,"object":{"pins":[{"package":"swift-nio","repositoryURL":"https://github.com/apple/swift-nio","state":{"branch":null,"version":"2.40.0"}}]}}"#,
        ] {
            let found = parse_resolved(text.as_bytes()).packages;
            assert_eq!(
                (found.len(), &*found[0].name, &*found[0].version),
                (1, "github.com/apple/swift-nio", "2.40.0")
            );
        }
        let text = b"PODS:\n  - Firebase/Core (10.1.0):\n    - Firebase/Analytics\n  - Firebase/Analytics (10.1.0)\n  - GTM (2.1)\n\nDEPENDENCIES:\n  - GTM (~> 2)\n";
        let found = parse_podfile_lock(text).packages;
        let names: Vec<_> = found.iter().map(|p| (&*p.name, &*p.version)).collect();
        assert_eq!(names, [("Firebase", "10.1.0"), ("GTM", "2.1")]);
    }
}
