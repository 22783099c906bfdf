//! Ruby: specifications of installed gems, and Bundler's lock file.

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::lines;

/// Reads a `.gemspec` that RubyGems has written: `s.name = "rack"`, `s.version = "2.2.6"`.
pub fn parse_gemspec(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let (mut name, mut version) = (String::new(), String::new());
    for (_, line) in lines(bytes) {
        let Some((left, right)) = line.split_once('=') else { continue };
        let Some((_, field)) = left.trim().rsplit_once('.') else { continue };
        let mut quoted = right.split(['"', '\'']);
        let value = quoted.nth(1).unwrap_or_default();
        match field {
            "name" if name.is_empty() => name = value.to_owned(),
            "version" if version.is_empty() => version = value.to_owned(),
            _ => {}
        }
    }
    inventory.add("gemspec", || "specification".to_owned(), Package::new(Ecosystem::Gem, name, version));
    inventory
}

/// Reads `Gemfile.lock`: gems below `specs:` of `GEM`, with four blanks before them; what they need has six.
pub fn parse_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut of_gems = false;
    for (number, line) in lines(bytes) {
        if !line.starts_with(' ') {
            of_gems = line.trim() == "GEM";
            continue;
        }
        let Some(rest) = line.strip_prefix("    ").filter(|rest| of_gems && !rest.starts_with(' ')) else {
            continue;
        };
        let Some((name, version)) = rest.split_once(" (") else { continue };
        // Gems built for a platform have it behind the version.
        let version = version.trim_end_matches(')').split('-').next().unwrap_or_default();
        let package = Package::new(Ecosystem::Gem, name, version);
        inventory.add("Gemfile.lock", || format!("line {number}"), package);
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_and_lock_files_name_gems() {
        let text = b"# stub: rack 2.2.6 ruby lib\nGem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.6\"\n  s.required_ruby_version = Gem::Requirement.new(\">= 2\".freeze)\n";
        let found = parse_gemspec(text).packages;
        assert_eq!((&*found[0].name, &*found[0].version), ("rack", "2.2.6"));
        let text = b"GIT\n  specs:\n    own (1.0)\n\nGEM\n  remote: https://rubygems.org/\n  specs:\n    nokogiri (1.15.0-x86_64-linux)\n      racc (~> 1.4)\n    racc (1.7.0)\n\nPLATFORMS\n  ruby\n";
        let found = parse_lock(text).packages;
        let names: Vec<_> = found.iter().map(|p| (&*p.name, &*p.version)).collect();
        assert_eq!(names, [("nokogiri", "1.15.0"), ("racc", "1.7.0")]);
    }
}
