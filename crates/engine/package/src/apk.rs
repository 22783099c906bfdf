//! apk's database: `lib/apk/db/installed` or `usr/lib/apk/db/installed`.

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package, Source, licence};
use crate::read::lines;

const FORMAT: &str = "apk database";

/// Reads the list of installed packages: `P:` name, `V:` version, `A:` architecture, `o:` the package it was built
/// from, `L:` licence, a blank line between packages.
pub fn parse_installed(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut start = 0;
    let mut fields: [Option<Box<str>>; 5] = Default::default();
    for (number, line) in lines(bytes) {
        if line.is_empty() {
            close(start, std::mem::take(&mut fields), &mut inventory);
            start = 0;
            continue;
        }
        let Some((field, value)) = line.split_once(':') else {
            inventory.fault(FORMAT, format!("line {number}"), "a field without a colon");
            continue;
        };
        if start == 0 {
            start = number;
        }
        let [name, version, arch, origin, licence] = &mut fields;
        let slot = match field {
            "P" => name,
            "V" => version,
            "A" => arch,
            "o" => origin,
            "L" => licence,
            _ => continue,
        };
        *slot = Some(value.trim().into());
    }
    close(start, fields, &mut inventory);
    inventory
}

/// The files that packages hold, without a slash at the beginning: `F:` a folder, `R:` a file in it.
pub fn files(bytes: &[u8]) -> impl Iterator<Item = String> {
    let mut folder = String::new();
    lines(bytes).filter_map(move |(_, line)| match line.split_once(':')? {
        ("F", path) => {
            path.trim_start_matches('/').clone_into(&mut folder);
            None
        }
        ("R", file) if folder.is_empty() => Some(file.trim_start_matches('/').to_owned()),
        ("R", file) => Some(format!("{folder}/{file}")),
        _ => None,
    })
}

fn close(start: usize, fields: [Option<Box<str>>; 5], inventory: &mut Inventory) {
    if start == 0 {
        return;
    }
    let [name, version, arch, origin, said] = fields;
    let place = || format!("package at line {start}");
    let (Some(name), Some(version)) = (name, version) else {
        inventory.fault(FORMAT, place(), "no name or no version");
        return;
    };
    let source = origin.filter(|origin| *origin != name).map(|name| Source { name, version: None });
    inventory.add(FORMAT, place, {
        let licence = said.and_then(|said| licence(&said));
        Package { source, arch, licence, ..Package::new(Ecosystem::Apk, name, version) }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packages_are_listed_with_their_origin() {
        let found = parse_installed(
            b"C:Q1abc=\nP:libcrypto3\nV:3.3.2-r0\nL:Apache-2.0\nA:x86_64\no:openssl\nF:lib\nR:libcrypto.so.3\n\nP:musl\nV:1.2.5-r0\no:musl\n\nP:nothing\n\n",
        );
        assert_eq!(found.packages.len(), 2);
        assert_eq!(found.packages[0].source, Some(Source { name: "openssl".into(), version: None }));
        assert_eq!(found.packages[0].arch.as_deref(), Some("x86_64"));
        assert_eq!(found.packages[0].licence.as_deref(), Some("Apache-2.0"));
        assert_eq!(found.packages[1].source, None);
        assert_eq!(found.fault_count, 1);
        let held: Vec<String> = files(b"P:a\nF:\nR:root\nF:usr/bin\nR:x\nZ:Q1=\nR:y\n").collect();
        assert_eq!(held, ["root", "usr/bin/x", "usr/bin/y"]);
    }

    proptest! {
        #[test]
        fn any_bytes_give_packages_or_faults(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse_installed(&bytes);
        }
    }
}
