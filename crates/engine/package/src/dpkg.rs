//! dpkg's database: `var/lib/dpkg/status`, and `var/lib/dpkg/status.d/*` of images without dpkg.

use std::collections::BTreeSet;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, MAX_LICENCE, Package, Source};
use crate::read::lines;

const FORMAT: &str = "dpkg status";

#[derive(Default)]
struct Stanza {
    line: usize,
    name: Option<Box<str>>,
    version: Option<Box<str>>,
    status: Option<Box<str>>,
    source: Option<Box<str>>,
    arch: Option<Box<str>>,
}

/// Reads a status file: paragraphs of fields. A paragraph without `Status` (status.d) is installed; one whose status
/// ends with `not-installed` or `config-files` is not.
pub fn parse_status(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut stanza = Stanza::default();
    for (number, line) in lines(bytes) {
        if line.trim().is_empty() {
            close(std::mem::take(&mut stanza), &mut inventory);
            continue;
        }
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let Some((field, value)) = line.split_once(':') else {
            inventory.fault(FORMAT, format!("line {number}"), "a field without a colon");
            continue;
        };
        if stanza.line == 0 {
            stanza.line = number;
        }
        let slot = match field {
            "Package" => &mut stanza.name,
            "Version" => &mut stanza.version,
            "Status" => &mut stanza.status,
            "Source" => &mut stanza.source,
            "Architecture" => &mut stanza.arch,
            _ => continue,
        };
        *slot = Some(value.trim().into());
    }
    close(stanza, &mut inventory);
    inventory
}

/// The files that a package holds, from `var/lib/dpkg/info/NAME.list`: paths without a slash at the beginning.
pub fn parse_list(bytes: &[u8]) -> impl Iterator<Item = String> {
    lines(bytes)
        .filter_map(|(_, line)| line.starts_with('/').then(|| line.trim_start_matches('/').to_owned()))
}

/// Where Debian keeps the texts of licences that many packages have.
const COMMON: &str = "/usr/share/common-licenses/";

/// The licences that a package's `copyright` names, with commas between them: those of its fields `License` where it has the
/// form that machines read (DEP-5), else the texts that it refers to. As many as a package's licence has room for.
pub fn parse_copyright(bytes: &[u8]) -> Option<Box<str>> {
    let text = String::from_utf8_lossy(bytes);
    let fields =
        text.lines().filter_map(|line| line.strip_prefix("License:")).flat_map(|said| said.split(" and "));
    let mut named: BTreeSet<&str> = fields.map(|name| name.trim().trim_end_matches(',')).collect();
    named.retain(|name| !name.is_empty());
    if named.is_empty() {
        named = text
            .split(COMMON)
            .skip(1)
            .filter_map(|behind| {
                let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+');
                let name = behind.split(|c| !inside(c)).next()?.trim_end_matches('.');
                (!name.is_empty()).then_some(name)
            })
            .collect();
    }
    let mut licences = String::new();
    for name in named {
        let room = MAX_LICENCE.saturating_sub(licences.len());
        if name.len() + 2 <= room {
            licences.push_str(if licences.is_empty() { "" } else { ", " });
            licences.push_str(name);
        }
    }
    (!licences.is_empty()).then(|| licences.into())
}

fn close(stanza: Stanza, inventory: &mut Inventory) {
    if stanza.line == 0 {
        return;
    }
    let gone = |status: &str| matches!(status.rsplit(' ').next(), Some("not-installed" | "config-files"));
    if stanza.status.as_deref().is_some_and(gone) {
        return;
    }
    let place = || format!("paragraph at line {}", stanza.line);
    let (Some(name), Some(version)) = (stanza.name, stanza.version) else {
        inventory.fault(FORMAT, place(), "no package name or no version");
        return;
    };
    let source = stanza.source.map(|source| match source.split_once(" (") {
        Some((name, version)) => {
            Source { name: name.into(), version: Some(version.trim_end_matches(')').trim().into()) }
        }
        None => Source { name: source, version: None },
    });
    let package = Package { source, arch: stanza.arch, ..Package::new(Ecosystem::Deb, name, version) };
    inventory.add(FORMAT, place, package);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUS: &str = "\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.11-1~deb12u2
Description: Secure Sockets Layer toolkit
 Version: not a field

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: libc-bin
Status: install ok half-configured
Source: glibc (2.36-9)
Version: 2.36-9+deb12u3

Package: broken
Status: install ok installed

Package: tzdata
Version: 2024a-0+deb12u1
";

    #[test]
    fn files_are_named_below_the_root_however_many_slashes_they_begin_with() {
        let files: Vec<_> = parse_list(b"/usr/bin/x\n//c:\nno path\n").collect();
        assert_eq!(files, ["usr/bin/x", "c:"]);
    }

    #[test]
    fn installed_packages_are_listed_with_their_sources_and_a_bad_paragraph_hides_no_other() {
        let found = parse_status(STATUS.as_bytes());
        let names: Vec<_> = found.packages.iter().map(|p| (&*p.name, &*p.version)).collect();
        assert_eq!(
            names,
            [("libssl3", "3.0.11-1~deb12u2"), ("libc-bin", "2.36-9+deb12u3"), ("tzdata", "2024a-0+deb12u1")]
        );
        assert_eq!(found.packages[0].source, Some(Source { name: "openssl".into(), version: None }));
        assert_eq!(
            found.packages[1].source,
            Some(Source { name: "glibc".into(), version: Some("2.36-9".into()) })
        );
        assert_eq!(found.fault_count, 1);
        assert!(found.faults[0].to_string().contains("line 18"), "{}", found.faults[0]);
    }

    #[test]
    fn a_list_names_files_below_the_root() {
        let found: Vec<String> = parse_list(b"/.\n/usr/bin/openssl\n\nnot a path\n").collect();
        assert_eq!(found, [".", "usr/bin/openssl"]);
    }

    #[test]
    fn licences_are_those_that_fields_name_else_the_texts_that_are_referred_to() {
        for (text, want) in [
            (
                "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+ and MIT\n text\n\nFiles: a\nLicense: MIT\n",
                Some("GPL-2+, MIT"),
            ),
            (
                "On Debian systems see `/usr/share/common-licenses/GPL-2'. Also /usr/share/common-licenses/LGPL-2.1.\n",
                Some("GPL-2, LGPL-2.1"),
            ),
            ("You may do what you like.\n", None),
        ] {
            assert_eq!(parse_copyright(text.as_bytes()).as_deref(), want, "{text}");
        }
        let many: String = (0..1000).map(|number| format!("License: L-{number}\n")).collect();
        assert!(parse_copyright(many.as_bytes()).unwrap().len() <= MAX_LICENCE);
    }

    proptest! {
        #[test]
        fn any_bytes_give_packages_or_faults(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            parse_status(&bytes);
        }

        #[test]
        fn a_status_file_cut_anywhere_gives_no_package_that_it_had_not(end in 0..STATUS.len()) {
            let whole = parse_status(STATUS.as_bytes()).packages;
            for package in parse_status(&STATUS.as_bytes()[..end]).packages {
                prop_assert!(whole.iter().any(|p| p.name == package.name) || "gone".starts_with(&*package.name)
                    || whole.iter().any(|p| p.name.starts_with(&*package.name)));
            }
        }
    }
}
