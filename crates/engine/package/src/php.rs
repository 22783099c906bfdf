//! PHP: Composer's lock file, and its list of what is installed.

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::json;

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    /// `composer.lock`, and `installed.json` of Composer 2.
    Object { packages: Vec<Entry> },
    /// `installed.json` of Composer 1.
    List(Vec<Entry>),
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: String,
}

/// Reads `composer.lock` or `vendor/composer/installed.json`. Branches have no version that is ordered, but are listed.
pub fn parse(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(document) = json::<Document>("Composer's list", bytes, &mut inventory) else { return inventory };
    let (Document::Object { packages: entries } | Document::List(entries)) = document;
    for entry in entries {
        let package = Package::new(Ecosystem::Composer, entry.name.as_str(), entry.version);
        inventory.add("Composer's list", || entry.name.clone(), package);
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_both_shapes_name_packages() {
        for text in [
            r#"{"packages":[{"name":"a/b","version":"v1.2.0"}],"packages-dev":[{"name":"x/y","version":"1"}]}"#,
            r#"[{"name":"a/b","version":"v1.2.0","version_normalized":"1.2.0.0"}]"#,
        ] {
            let found = parse(text.as_bytes()).packages;
            assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "a/b", "v1.2.0"));
        }
        assert_eq!(parse(b"{}").fault_count, 1);
    }
}
