//! R: the `DESCRIPTION` of an installed package.

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::lines;

/// Reads `DESCRIPTION`: fields `Package` and `Version`.
pub fn parse_description(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let (mut name, mut version) = (String::new(), String::new());
    for (_, line) in lines(bytes) {
        match line.split_once(':') {
            Some(("Package", value)) if name.is_empty() => name = value.trim().to_owned(),
            Some(("Version", value)) if version.is_empty() => version = value.trim().to_owned(),
            _ => {}
        }
    }
    inventory.add("DESCRIPTION", || "fields".to_owned(), Package::new(Ecosystem::Cran, name, version));
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_its_package() {
        let found =
            parse_description(b"Package: ggplot2\nTitle: x\nVersion: 3.4.1\nDepends: R (>= 3.3)\n").packages;
        assert_eq!((&*found[0].name, &*found[0].version), ("ggplot2", "3.4.1"));
        assert_eq!(parse_description(b"Title: x\n").fault_count, 1);
    }
}
