//! Elixir and Erlang: `mix.lock`.

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::lines;

/// Reads `mix.lock`: a line a package, `"name": {:hex, :package, "version", …}`; what comes from git is left out.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    for (number, line) in lines(bytes) {
        let Some((_, rest)) = line.split_once("{:hex, :") else { continue };
        let mut fields = rest.split(',').map(|field| field.trim().trim_matches('"'));
        let (name, version) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        inventory.add("mix.lock", || format!("line {number}"), Package::new(Ecosystem::Hex, name, version));
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_hex_are_listed() {
        let text = b"%{\n  \"phoenix\": {:hex, :phoenix, \"1.7.2\", \"c375ff\", [:mix], [], \"hexpm\", \"1ebca9\"},\n  \"own\": {:git, \"https://x\", \"abc\", []},\n}\n";
        let found = parse_lock(text).packages;
        assert_eq!((found.len(), &*found[0].name, &*found[0].version), (1, "phoenix", "1.7.2"));
    }
}
