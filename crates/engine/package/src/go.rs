//! Go: `go.mod`, and the build information in programs.

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::lines;

/// Most bytes of build information.
const MAX_INFO: usize = 4 * 1024 * 1024;

/// The first bytes of build information.
pub(crate) const MAGIC: &[u8] = b"\xff Go buildinf:";

/// Reads `go.mod`: required modules, with replacements by others applied; a replacement by a folder takes the module
/// away.
pub fn parse_mod(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let mut required: Vec<(String, String)> = Vec::new();
    let mut replaced: Vec<(String, Option<(String, String)>)> = Vec::new();
    let mut block = String::new();
    for (_, line) in lines(bytes) {
        let line = line.split("//").next().unwrap_or_default().trim();
        let (directive, rest) = if block.is_empty() {
            line.split_once(' ').unwrap_or((line, ""))
        } else if line == ")" {
            block.clear();
            continue;
        } else {
            (block.as_str(), line)
        };
        if rest == "(" {
            block = directive.to_owned();
            continue;
        }
        let words: Vec<&str> = rest.split_whitespace().map(|word| word.trim_matches('"')).collect();
        match (directive, words.as_slice()) {
            ("require", [name, version, ..]) => required.push(((*name).to_owned(), (*version).to_owned())),
            ("replace", words) => {
                let Some(arrow) = words.iter().position(|word| *word == "=>") else { continue };
                let target = match words.get(arrow + 1..) {
                    Some([name, version]) => Some(((*name).to_owned(), (*version).to_owned())),
                    _ => None,
                };
                replaced.extend(words.first().map(|name| ((*name).to_owned(), target)));
            }
            _ => {}
        }
    }
    for (name, version) in required {
        let replacement = replaced.iter().find(|(from, _)| *from == name).map(|(_, to)| to.clone());
        let Some((name, version)) = replacement.unwrap_or(Some((name, version))) else { continue };
        let package = Package::new(Ecosystem::Go, name.as_str(), version);
        inventory.add("go.mod", || name.clone(), package);
    }
    inventory
}

/// Reads the section `.go.buildinfo`. `string_at` reads a string that the program keeps at an address: before Go 1.18
/// the section only points to its strings.
pub fn parse_build_info(
    section: &[u8],
    big_endian: bool,
    string_at: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
) -> Inventory {
    let mut inventory = Inventory::default();
    match strings(section, big_endian, string_at) {
        Some((version, modules)) => modules_of(&version, &modules, &mut inventory),
        None => {
            inventory.fault("Go build information", ".go.buildinfo", "cut, or points outside of the program");
        }
    }
    inventory
}

fn strings(
    section: &[u8],
    big_endian: bool,
    string_at: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    section.starts_with(MAGIC).then_some(())?;
    let size = usize::from(*section.get(14)?);
    if section.get(15)? & 2 != 0 {
        let (version, rest) = inline(section.get(32..)?)?;
        let (modules, _) = inline(rest)?;
        return Some((version.to_vec(), modules.to_vec()));
    }
    if !matches!(size, 4 | 8) {
        return None;
    }
    let number = |bytes: &[u8]| {
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if big_endian { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
    };
    let mut read = |at: usize| -> Option<Vec<u8>> {
        let header = string_at(number(section.get(at..at + size)?), size * 2)?;
        let (data, length) = header.split_at_checked(size)?;
        let length = usize::try_from(number(length)).ok().filter(|length| *length <= MAX_INFO)?;
        string_at(number(data), length)
    };
    Some((read(16)?, read(16 + size)?))
}

/// A string behind its length as a varint.
fn inline(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0_usize;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes.get(at + 1..)?.split_at_checked(length).filter(|_| length <= MAX_INFO);
        }
    }
    None
}

fn modules_of(version: &[u8], modules: &[u8], inventory: &mut Inventory) {
    let version = String::from_utf8_lossy(version);
    if let Some(toolchain) = toolchain(&version) {
        inventory.add(
            "Go build information",
            || "version".to_owned(),
            Package::new(Ecosystem::Go, "stdlib", toolchain),
        );
    }
    // The linker's marks stand before and behind the text, 16 bytes each.
    let text = modules.get(16..modules.len().saturating_sub(16)).unwrap_or_default();
    let mut found: Vec<(String, String)> = Vec::new();
    let (mut component, mut tagged) = (String::new(), None);
    for (_, line) in lines(text) {
        if let Some(path) = line.strip_prefix("path\tk8s.io/kubernetes/cmd/") {
            path.clone_into(&mut component);
        }
        tagged = tagged.or_else(|| linked_version(&line));
        let mut fields = line.split('\t');
        let (kind, name, version) = (fields.next(), fields.next(), fields.next());
        let (Some(kind), Some(name)) = (kind, name) else { continue };
        let module = (name.to_owned(), version.unwrap_or_default().to_owned());
        match kind {
            "mod" | "dep" => found.push(module),
            "=>" => {
                found.pop();
                found.push(module);
            }
            _ => {}
        }
    }
    if let Some(version) = tagged.as_ref().filter(|_| !component.is_empty()) {
        kubernetes(&component, version, inventory);
    }
    for (name, version) in found {
        // The program's own module is `(devel)` where it was not built from a tag.
        let linked = || tagged.as_ref().map(|version| format!("v{version}"));
        let version = if version == "(devel)" { linked().unwrap_or(version) } else { version };
        if version.starts_with('v') {
            let package = Package::new(Ecosystem::Go, name.as_str(), version);
            inventory.add("Go build information", || name.clone(), package);
        }
    }
}

/// The version that a build gives its program among the linker's flags, without `v`: `-X main.version=v1.28.2`,
/// `-X 'k8s.io/component-base/version.gitVersion=v1.28.2'`.
fn linked_version(line: &str) -> Option<String> {
    let flags = line.strip_prefix("build\t-ldflags=")?;
    flags.match_indices("ersion=").find_map(|(at, key)| {
        let named = flags.get(..at)?.ends_with(['v', 'V']);
        let value = flags.get(at + key.len()..)?.split([' ', '\'', '"', '\\']).next()?;
        let value = value.strip_prefix('v').unwrap_or(value);
        let ordered = value.starts_with(|c: char| c.is_ascii_digit()) && value.contains('.');
        (named && ordered).then(|| value.to_owned())
    })
}

/// A component of Kubernetes, by the names of its own feed and of NVD.
fn kubernetes(component: &str, version: &str, inventory: &mut Inventory) {
    let component = match component {
        "kube-apiserver" => "k8s.io/apiserver",
        "kube-controller-manager" => "k8s.io/controller-manager",
        "kube-proxy" => "k8s.io/kube-proxy",
        "kubelet" => "k8s.io/kubelet",
        "kubectl" => "k8s.io/kubectl",
        _ => "k8s.io/kubernetes",
    };
    for name in [component, "kubernetes"] {
        let package = Package::new(Ecosystem::Program, name, version);
        inventory.add("Go build information", || name.to_owned(), package);
    }
}

/// `go1.21rc2` → `1.21.0-rc.2`, `go1.20.3 X:boringcrypto` → `1.20.3`: as Go's advisories write it.
fn toolchain(version: &str) -> Option<String> {
    let word = version.split(' ').next()?.strip_prefix("go")?;
    let split = word.find(|c: char| c.is_ascii_alphabetic() || c == '-').unwrap_or(word.len());
    let (numbers, rest) = word.split_at_checked(split)?;
    let mut parts: Vec<&str> = numbers.split('.').collect();
    if !parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())) {
        return None;
    }
    parts.resize(3.max(parts.len()), "0");
    let pre = ["rc", "beta"]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind).map(|number| format!("-{kind}.{number}")));
    Some(format!("{}{}", parts.join("."), pre.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: &str = "0123456789abcdefpath\tcmd\nmod\texample.org/m\t(devel)\t\ndep\tgolang.org/x/net\tv0.1.0\th1:x=\ndep\told.org/a\tv1.0.0\n=>\tnew.org/a\tv1.2.0\th1:y=\n0123456789abcdef";

    fn names(inventory: &Inventory) -> Vec<(&str, &str)> {
        assert_eq!(inventory.faults, []);
        inventory.packages.iter().map(|p| (&*p.name, &*p.version)).collect()
    }

    const WANT: [(&str, &str); 3] =
        [("stdlib", "1.20.3"), ("golang.org/x/net", "v0.1.0"), ("new.org/a", "v1.2.0")];

    #[test]
    fn build_information_since_go_1_18_has_its_strings_inside() {
        let mut section = MAGIC.to_vec();
        section.extend([8, 2]);
        section.resize(32, 0);
        section.push(8);
        section.extend(b"go1.20.3");
        section.extend([(MODULES.len() & 0x7f) as u8 | 0x80, (MODULES.len() >> 7) as u8]);
        section.extend(MODULES.as_bytes());
        assert_eq!(names(&parse_build_info(&section, false, &mut |_, _| None)), WANT);
        for end in 0..section.len() {
            parse_build_info(&section[..end], false, &mut |_, _| None);
        }
    }

    #[test]
    fn a_component_of_kubernetes_tells_its_version_among_the_linkers_flags() {
        let text = "0123456789abcdefpath\tk8s.io/kubernetes/cmd/kubelet\nmod\tk8s.io/kubernetes\t(devel)\t\nbuild\t-ldflags=\" -X 'k8s.io/client-go/pkg/version.gitCommit=89a4ea3' -X 'k8s.io/component-base/version.gitVersion=v1.28.2'\"\n0123456789abcdef";
        let mut inventory = Inventory::default();
        modules_of(b"go1.20.8", text.as_bytes(), &mut inventory);
        let want = [
            ("stdlib", "1.20.8"),
            ("k8s.io/kubelet", "1.28.2"),
            ("kubernetes", "1.28.2"),
            ("k8s.io/kubernetes", "v1.28.2"),
        ];
        assert_eq!(names(&inventory), want);
    }

    #[test]
    fn older_build_information_points_to_its_strings() {
        let mut section = MAGIC.to_vec();
        section.extend([8, 0]);
        section.extend(0x1000_u64.to_le_bytes());
        section.extend(0x2000_u64.to_le_bytes());
        let header = |at: u64, length: usize| [at.to_le_bytes(), (length as u64).to_le_bytes()].concat();
        let mut memory = |at: u64, length: usize| -> Option<Vec<u8>> {
            let whole = match at {
                0x1000 => header(0x3000, 8),
                0x2000 => header(0x4000, MODULES.len()),
                0x3000 => b"go1.20.3".to_vec(),
                0x4000 => MODULES.as_bytes().to_vec(),
                _ => return None,
            };
            whole.get(..length).map(<[u8]>::to_vec)
        };
        assert_eq!(names(&parse_build_info(&section, false, &mut memory)), WANT);
        assert_eq!(parse_build_info(&section, false, &mut |_, _| None).fault_count, 1);
    }

    #[test]
    fn a_module_file_lists_what_it_requires_after_replacements() {
        let text = b"module own\ngo 1.21\nrequire a.org/a v1.0.0\nrequire (\n\tb.org/b v2.0.0 // indirect\n\tc.org/c v3.0.0\n)\nreplace b.org/b => d.org/d v4.0.0\nreplace c.org/c v3.0.0 => ../c\n";
        assert_eq!(names(&parse_mod(text)), [("a.org/a", "v1.0.0"), ("d.org/d", "v4.0.0")]);
    }

    #[test]
    fn toolchains_are_written_as_advisories_write_them() {
        for (version, want) in [
            ("go1.20.3", Some("1.20.3")),
            ("go1.21rc2", Some("1.21.0-rc.2")),
            ("go1.19", Some("1.19.0")),
            ("go1.20.3 X:boringcrypto", Some("1.20.3")),
            ("devel +abc", None),
        ] {
            assert_eq!(toolchain(version).as_deref(), want);
        }
    }
}
