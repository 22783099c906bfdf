//! Java archives (jar, war, ear), also in one another: Maven's `pom.properties`, else the manifest and the file's name.
//! An archive without properties of its own is told with its SHA-1, by which a database may know it better.

mod pom;
pub mod zip;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::{ReadAt, lines, read_slice};
use crate::sha1::Sha1;
pub use pom::parse_pom;

const FORMAT: &str = "Java archive";

/// Largest archive in an archive that is read, in bytes.
const MAX_ARCHIVE: u64 = 128 * 1024 * 1024;
/// Largest text in an archive that is read, in bytes.
const MAX_TEXT: u64 = 1024 * 1024;
/// Archives in archives in archives are the deepest that is read.
const MAX_DEPTH: usize = 3;
/// Most bytes that are decompressed for one file on disk.
const MAX_INFLATED: u64 = 1024 * 1024 * 1024;

/// How the names of archives end.
const ARCHIVES: [&str; 6] = [".jar", ".war", ".ear", ".par", ".hpi", ".jpi"];
const MANIFEST: &str = "META-INF/MANIFEST.MF";

/// Reads an archive of `size` bytes and those in it. `path` is its path; its name tells the artifact where nothing
/// inside does. Only the directory and what names packages are read.
pub fn parse_archive(path: &str, size: u64, read: ReadAt<'_>) -> Inventory {
    let mut inventory = Inventory::default();
    let mut budget = MAX_INFLATED;
    archive(path, size, read, 0, &mut budget, &mut inventory);
    inventory
}

/// Reads `gradle.lockfile`: lines `group:artifact:version=configurations`.
pub fn parse_gradle_lock(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    for (number, line) in lines(bytes) {
        let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
        let Some((name, version)) = name.rsplit_once(':').filter(|(name, _)| name.contains(':')) else {
            continue;
        };
        let package = Package::new(Ecosystem::Maven, name, version);
        inventory.add("gradle.lockfile", || format!("line {number}"), package);
    }
    inventory
}

/// Whether a file is an archive that is read, by its name.
pub(crate) fn is_archive(file: &str) -> bool {
    ARCHIVES.iter().any(|kind| file.ends_with(kind))
}

fn is_properties(path: &str) -> bool {
    path.ends_with("/pom.properties") && path.contains("META-INF/maven/")
}

fn archive(
    path: &str,
    size: u64,
    read: ReadAt<'_>,
    depth: usize,
    budget: &mut u64,
    inventory: &mut Inventory,
) {
    let wants = |name: &str| is_archive(name) || is_properties(name) || name == MANIFEST;
    let Some(entries) = zip::entries(size, read, &wants) else {
        inventory.fault(FORMAT, path, "no zip archive, or its directory is damaged");
        return;
    };
    let mut manifest = None;
    let mut poms = Inventory::default();
    for entry in entries {
        let inner = is_archive(&entry.name);
        let cap = if inner { MAX_ARCHIVE } else { MAX_TEXT };
        let Some(content) = zip::content(read, &entry, cap.min(*budget)) else {
            inventory.fault(FORMAT, format!("{path}, {}", entry.name), "damaged, or too large");
            continue;
        };
        *budget = budget.saturating_sub(content.len() as u64);
        if inner && depth >= MAX_DEPTH {
            inventory.fault(FORMAT, format!("{path}, {}", entry.name), "archives are nested too deep");
        } else if inner {
            let within = format!("{path}:{}", entry.name);
            archive(&within, content.len() as u64, &mut read_slice(&content), depth + 1, budget, inventory);
        } else if is_properties(&entry.name) {
            pom_properties(path, &content, &mut poms);
        } else {
            manifest = Some(content);
        }
    }
    // An archive with others' classes in it has their properties too, and perhaps none of its own.
    let own = by_manifest(path, &manifest.unwrap_or_default());
    let artifact = |package: &Package| package.name.rsplit(':').next().map(str::to_owned);
    let same = |pom: &Package| artifact(pom) == artifact(&own) || pom.version == own.version;
    let told =
        if own.version.is_empty() { !poms.packages.is_empty() } else { poms.packages.iter().any(same) };
    if !told {
        let sha1 = (size <= MAX_ARCHIVE).then(|| Sha1::of_file(size, read)).flatten();
        // Nothing tells the version of some: such a one is of use only to who knows its hash.
        if !own.version.is_empty() || sha1.is_some() {
            poms.add(FORMAT, || path.to_owned(), Package { sha1, ..own });
        }
    }
    inventory.packages.extend(poms.packages);
    inventory.fault_count += poms.fault_count;
    inventory.faults.extend(poms.faults);
}

/// The value of a key in lines of `key` separator `value`.
fn value(bytes: &[u8], separator: char, key: &str) -> Option<String> {
    lines(bytes).find_map(|(_, line)| {
        let (found, value) = line.split_once(separator)?;
        (found.trim() == key && !value.trim().is_empty()).then(|| value.trim().to_owned())
    })
}

fn pom_properties(path: &str, bytes: &[u8], inventory: &mut Inventory) {
    let get = |key| value(bytes, '=', key);
    let (Some(group), Some(artifact), Some(version)) = (get("groupId"), get("artifactId"), get("version"))
    else {
        return;
    };
    let package = Package::new(Ecosystem::Maven, format!("{group}:{artifact}"), version);
    inventory.add(FORMAT, || path.to_owned(), package);
}

/// The archive by its manifest and its file's name; its version is empty where neither tells one.
fn by_manifest(path: &str, manifest: &[u8]) -> Package {
    let get = |keys: &[&str]| keys.iter().find_map(|key| value(manifest, ':', key));
    let file = path.rsplit(['/', ':']).next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let (artifact, of_name) = split_name(stem);
    let version = of_name
        .map(str::to_owned)
        .or_else(|| get(&["Implementation-Version", "Bundle-Version", "Specification-Version"]));
    let version = version.filter(|version| version.starts_with(|c: char| c.is_ascii_digit()));
    let group = get(&["Implementation-Vendor-Id", "Bundle-SymbolicName", "Automatic-Module-Name"]);
    let group = group.map(|group| group.split(';').next().unwrap_or_default().trim().to_owned());
    let name = match group.filter(|group| group.contains('.')) {
        // A symbolic name often is the group with the artifact behind.
        Some(group) => {
            format!("{}:{artifact}", group.strip_suffix(&format!(".{artifact}")).unwrap_or(&group))
        }
        None => artifact.to_owned(),
    };
    Package::new(Ecosystem::Maven, name, version.unwrap_or_default())
}

/// What stands between two numbers of one version, with what may follow its letters.
const QUALIFIERS: [&str; 12] =
    ["alpha", "beta", "rc", "cr", "m", "b", "build", "sp", "pre", "snapshot", "final", "jre"];

/// `commons-io-2.11.0` → `commons-io`, `2.11.0`; `log4j-1.2-api-2.14.1` → `log4j-1.2-api`, `2.14.1`: a word between two
/// numbers is of the name, unless it is one that versions have.
fn split_name(stem: &str) -> (&str, Option<&str>) {
    let mut found = None;
    let mut at = 0;
    let mut before = "";
    for token in stem.split('-') {
        let number = at > 0 && token.starts_with(|c: char| c.is_ascii_digit());
        let word = before.trim_end_matches(|c: char| c.is_ascii_digit());
        let of_name = word.starts_with(|c: char| c.is_ascii_alphabetic())
            && !QUALIFIERS.iter().any(|known| word.eq_ignore_ascii_case(known));
        if number && (found.is_none() || (of_name && token.contains('.'))) {
            found = stem.get(..at - 1).zip(stem.get(at..));
        }
        before = token;
        at += token.len() + 1;
    }
    found.map_or((stem, None), |(name, version)| (name, Some(version)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    /// A zip archive of these files, compressed.
    fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut directory = Vec::new();
        for (name, content) in files {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            let packed = encoder.finish().unwrap();
            let at = file.len() as u32;
            let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            common.extend((packed.len() as u32).to_le_bytes());
            common.extend((content.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0, 0]);
            file.extend(b"PK\x03\x04");
            file.extend(&common);
            file.extend(name.as_bytes());
            file.extend(&packed);
            directory.extend(b"PK\x01\x02\x14\0");
            directory.extend(&common);
            directory.extend([0; 10]);
            directory.extend(at.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let at = file.len() as u32;
        file.extend(&directory);
        file.extend(b"PK\x05\x06\0\0\0\0");
        file.extend((files.len() as u16).to_le_bytes());
        file.extend((files.len() as u16).to_le_bytes());
        file.extend((directory.len() as u32).to_le_bytes());
        file.extend(at.to_le_bytes());
        file.extend([0, 0]);
        file
    }

    fn read(path: &str, bytes: &[u8]) -> Inventory {
        parse_archive(path, bytes.len() as u64, &mut read_slice(bytes))
    }

    const POM: &[u8] = b"#x\nversion=2.14.1\ngroupId=org.apache.logging.log4j\nartifactId=log4j-core\n";

    fn names(inventory: &Inventory) -> Vec<(&str, &str)> {
        assert_eq!(inventory.faults, []);
        inventory.packages.iter().map(|p| (&*p.name, &*p.version)).collect()
    }

    #[test]
    fn archives_name_what_is_in_them_and_in_archives_within() {
        let inner = zip_of(&[("META-INF/maven/g/a/pom.properties", POM)]);
        let manifest = b"Manifest-Version: 1.0\nBundle-SymbolicName: org.example.app;singleton:=true\n";
        let outer = zip_of(&[("META-INF/MANIFEST.MF", manifest), ("WEB-INF/lib/log4j.jar", &inner)]);
        assert_eq!(
            names(&read("opt/app-1.2.3.war", &outer)),
            [("org.apache.logging.log4j:log4j-core", "2.14.1"), ("org.example:app", "1.2.3")]
        );
        let manifest = b"Bundle-SymbolicName: com.google.inject\nBundle-Version: 4.2.3\n";
        let shaded =
            zip_of(&[("META-INF/maven/g/a/pom.properties", POM), ("META-INF/MANIFEST.MF", manifest)]);
        assert_eq!(
            names(&read("java/guice.jar", &shaded)),
            [("org.apache.logging.log4j:log4j-core", "2.14.1"), ("com.google.inject:guice", "4.2.3")]
        );
        assert_eq!(names(&read("java/log4j-core-2.14.1.jar", &shaded)).len(), 1);
        let plain = zip_of(&[("a.class", b"x")]);
        assert_eq!(names(&read("lib/commons-io-2.11.0.jar", &plain)), [("commons-io", "2.11.0")]);
        assert_eq!(names(&read("lib/unknown.jar", &plain)), [("unknown", "")]);
    }

    #[test]
    fn an_archive_is_told_with_its_hash_where_no_properties_are_its_own() {
        let plain = zip_of(&[("a.class", b"x")]);
        let of_plain = Sha1::of_file(plain.len() as u64, &mut read_slice(&plain));
        assert!(of_plain.is_some());
        let hashes = |path: &str, bytes: &[u8]| -> Vec<(String, Option<Sha1>)> {
            read(path, bytes).packages.into_iter().map(|p| (p.name.into_string(), p.sha1)).collect()
        };
        assert_eq!(hashes("lib/unknown.jar", &plain), [("unknown".to_owned(), of_plain)]);
        assert_eq!(hashes("lib/commons-io-2.11.0.jar", &plain), [("commons-io".to_owned(), of_plain)]);
        // An archive in another has the hash of its own bytes.
        let outer = zip_of(&[("WEB-INF/lib/inner.jar", &plain), ("META-INF/maven/g/a/pom.properties", POM)]);
        let log4j = "org.apache.logging.log4j:log4j-core".to_owned();
        assert_eq!(hashes("log4j-core.war", &outer), [("inner".to_owned(), of_plain), (log4j, None)]);
    }

    #[test]
    fn names_and_versions_of_archives_part_at_the_versions_beginning() {
        for (stem, name, version) in [
            ("commons-io-2.11.0", "commons-io", Some("2.11.0")),
            ("guava-30.0-jre", "guava", Some("30.0-jre")),
            ("log4j-1.2-api-2.14.1", "log4j-1.2-api", Some("2.14.1")),
            ("geronimo-annotation-1.3-spec-1.0.1", "geronimo-annotation-1.3-spec", Some("1.0.1")),
            ("x-1.0-beta-2.1", "x", Some("1.0-beta-2.1")),
            ("x-1.0-beta2-3.1", "x", Some("1.0-beta2-3.1")),
            ("x-1.0-20230101.120000-3", "x", Some("1.0-20230101.120000-3")),
            ("h2-2", "h2", Some("2")),
            ("1.0", "1.0", None),
            ("plain", "plain", None),
            ("", "", None),
        ] {
            assert_eq!(split_name(stem), (name, version), "{stem}");
        }
    }

    #[test]
    fn gradles_lock_file_names_artifacts() {
        let text = b"# x=y\norg.apache:a:1.0=compileClasspath\nempty=annotationProcessor\n";
        assert_eq!(names(&parse_gradle_lock(text)), [("org.apache:a", "1.0")]);
    }

    #[test]
    fn archives_nested_too_deep_and_bombs_are_faults() {
        let mut archive = zip_of(&[("META-INF/maven/g/a/pom.properties", POM)]);
        for _ in 0..6 {
            archive = zip_of(&[("a.jar", &archive)]);
        }
        assert_eq!(read("a.jar", &archive).fault_count, 1);
        let zeros = vec![0; 4 * 1024 * 1024];
        let bomb = zip_of(&[("META-INF/MANIFEST.MF", &zeros)]);
        assert!(bomb.len() < 64 * 1024);
        assert_eq!(read("a.jar", &bomb).fault_count, 1);
    }

    proptest! {
        #[test]
        fn a_damaged_archive_gives_packages_or_faults(
            flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        ) {
            let mut archive = zip_of(&[("META-INF/maven/g/a/pom.properties", POM), ("b.jar", b"x")]);
            for (at, value) in flips {
                let at = at.index(archive.len());
                archive[at] = value;
            }
            read("a.jar", &archive);
        }
    }
}
