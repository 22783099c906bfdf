//! WordPress: `wp-includes/version.php`, and the heads of plugins.

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::lines;

/// A head is in the first lines of a plugin's file.
const MAX_HEAD: usize = 100;

/// Reads `version.php`: `$wp_version = '6.4.1';`.
pub fn parse_version(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let assigned = lines(bytes).find_map(|(_, line)| {
        let value = line.trim().strip_prefix("$wp_version")?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_end_matches(';').trim_matches(['\'', '"']).to_owned())
    });
    match assigned {
        Some(version) => inventory.add(
            "version.php",
            || "$wp_version".to_owned(),
            Package::new(Ecosystem::WordPress, "wordpress", version),
        ),
        None => inventory.fault("version.php", "file", "no $wp_version"),
    }
    inventory
}

/// Reads the head of `wp-content/plugins/NAME/NAME.php`: a comment with `Plugin Name:` and `Version:`. Another PHP file
/// has none and says nothing.
pub fn parse_plugin(path: &str, bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let name = path.rsplit('/').nth(1).unwrap_or_default();
    let value = |key: &str| {
        lines(bytes).take(MAX_HEAD).find_map(|(_, line)| {
            let line = line.trim_start_matches([' ', '\t', '*', '/', '#']);
            line.strip_prefix(key).map(|value| value.trim().to_owned())
        })
    };
    if let (Some(_), Some(version)) = (value("Plugin Name:"), value("Version:")) {
        let package = Package::new(Ecosystem::WordPress, name, version);
        inventory.add("plugin", || "head".to_owned(), package);
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wordpress_and_its_plugins_tell_their_versions() {
        let found =
            parse_version(b"<?php\n/** x */\n$wp_version = '6.4.1';\n$wp_db_version = 56657;\n").packages;
        assert_eq!((&*found[0].name, &*found[0].version), ("wordpress", "6.4.1"));
        let head = b"<?php\n/**\n * Plugin Name: Akismet Anti-spam\n * Version: 5.3\n */\n";
        let found = parse_plugin("srv/wp-content/plugins/akismet/akismet.php", head).packages;
        assert_eq!((&*found[0].name, &*found[0].version), ("akismet", "5.3"));
        assert_eq!(parse_plugin("a/b/b.php", b"<?php echo 1;\n"), Inventory::default());
    }
}
