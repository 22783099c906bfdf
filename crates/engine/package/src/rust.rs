//! Rust: `Cargo.lock`, and what cargo-auditable puts into programs.

use serde::Deserialize;

use crate::ecosystem::Ecosystem;
use crate::inflate::zlib;
use crate::inventory::{Inventory, Package};
use crate::read::{json, toml};

#[derive(Deserialize)]
struct Lock {
    #[serde(default, alias = "packages")]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    /// cargo-auditable: `build` for what was only used to build.
    kind: Option<String>,
}

/// Reads `Cargo.lock`: packages of a registry; those of the project itself have no source.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    if let Some(lock) = toml::<Lock>("Cargo.lock", bytes, &mut inventory) {
        add("Cargo.lock", lock, |locked| locked.source.is_some(), &mut inventory);
    }
    inventory
}

/// Largest list of a program, in bytes.
const MAX_LIST: u64 = 8 * 1024 * 1024;

/// Reads the section `.dep-v0` of a program: JSON, compressed with zlib.
pub fn parse_auditable(section: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(text) = zlib(section, MAX_LIST) else {
        inventory.fault("cargo-auditable", ".dep-v0", format!("not zlib, or more than {MAX_LIST} bytes"));
        return inventory;
    };
    if let Some(lock) = json::<Lock>("cargo-auditable", &text, &mut inventory) {
        let linked = |locked: &Locked| {
            locked.kind.as_deref() != Some("build") && locked.source.as_deref() == Some("crates.io")
        };
        add("cargo-auditable", lock, linked, &mut inventory);
    }
    inventory
}

fn add(format: &'static str, lock: Lock, wanted: impl Fn(&Locked) -> bool, inventory: &mut Inventory) {
    for locked in lock.package.into_iter().filter(wanted) {
        let package = Package::new(Ecosystem::Cargo, locked.name.as_str(), locked.version);
        inventory.add(format, || locked.name.clone(), package);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lock_files_and_programs_name_crates() {
        let text = b"version = 4\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";
        let found = parse_lock(text).packages;
        assert_eq!((found.len(), &*found[0].name), (1, "serde"));
        let text = br#"{"packages":[{"name":"own","version":"1.0.0","source":"local","root":true},
            {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"},
            {"name":"libc","version":"0.2.1","source":"crates.io"}]}"#;
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        let found = parse_auditable(&encoder.finish().unwrap()).packages;
        assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "libc", "0.2.1"));
        assert_eq!(parse_auditable(b"nothing").fault_count, 1);
    }
}
