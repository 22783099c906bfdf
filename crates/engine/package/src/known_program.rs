//! Programs that are known by their names and tell their versions in their own bytes, where no package lists them.

use memchr::memmem;

use crate::ecosystem::Ecosystem;
use crate::inventory::{Inventory, Package};
use crate::read::{ReadAt, lines};

/// Bytes that are read at once, and that a mark and a version together have at most.
const CHUNK: usize = 1024 * 1024;
const OVERLAP: usize = 128;
/// Most bytes of a program that are looked through.
const MAX_PROGRAM: u64 = 256 * 1024 * 1024;
/// Longest version.
const MAX_VERSION: usize = 40;

/// A program: its name in advisories, how its file's name begins, what stands before its version.
struct Known {
    program: &'static str,
    files: &'static [&'static str],
    mark: &'static [u8],
    /// Packages of distributions that hold it; by how their names begin.
    packages: &'static [&'static str],
}

const KNOWN: [Known; 12] = [
    Known { program: "nginx", files: &["nginx"], mark: b"nginx/", packages: &["nginx"] },
    Known {
        program: "httpd",
        files: &["httpd", "apache2"],
        mark: b"Apache/",
        packages: &["httpd", "apache2"],
    },
    Known {
        program: "openssl",
        files: &["openssl", "libcrypto.so*"],
        mark: b"OpenSSL ",
        packages: &["openssl", "libssl", "libcrypto"],
    },
    Known { program: "busybox", files: &["busybox"], mark: b"BusyBox v", packages: &["busybox"] },
    Known { program: "node", files: &["node"], mark: b"node.js/v", packages: &["nodejs", "node"] },
    Known {
        program: "python",
        files: &["python3.*", "libpython3.*"],
        mark: b"\0",
        packages: &["python", "libpython"],
    },
    Known { program: "haproxy", files: &["haproxy"], mark: b"HAProxy version ", packages: &["haproxy"] },
    Known { program: "postgresql", files: &["postgres"], mark: b"PostgreSQL ", packages: &["postgresql"] },
    Known { program: "memcached", files: &["memcached"], mark: b"memcached ", packages: &["memcached"] },
    Known {
        program: "php",
        files: &["php*", "libphp*"],
        mark: b"X-Powered-By: PHP/",
        packages: &["php", "libphp"],
    },
    Known { program: "curl", files: &["libcurl.so*"], mark: b"libcurl/", packages: &["curl", "libcurl"] },
    Known { program: "java", files: &[], mark: b"", packages: &["openjdk", "java", "temurin", "jdk", "jre"] },
];

fn known(path: &str) -> Option<&'static Known> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let fits = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(beginning) => file.starts_with(beginning),
        None => file == *pattern,
    };
    KNOWN.iter().find(|known| known.files.iter().any(fits))
}

/// Whether the file's name is that of a program that is known.
pub fn is_known(path: &str) -> bool {
    known(path).is_some()
}

/// How the names of packages begin with which distributions hold a program: where one of them is installed, the program
/// in the system's own folders is its.
pub fn packages_of(program: &str) -> &'static [&'static str] {
    KNOWN.iter().find(|known| known.program == program).map_or(&[], |known| known.packages)
}

/// The program in a file of `size` bytes; nothing where its name is not known or it tells no version.
pub fn inspect(path: &str, size: u64, read: ReadAt<'_>) -> Inventory {
    let mut inventory = Inventory::default();
    let Some(known) = known(path) else { return inventory };
    let finder = memmem::Finder::new(known.mark);
    let size = size.min(MAX_PROGRAM);
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let Some(chunk) = read(at, length) else { break };
        let versions = finder.find_iter(&chunk).filter_map(|place| version(&chunk, place, known, path));
        if let Some(version) = versions.take(1).next() {
            let package = Package::new(Ecosystem::Program, known.program, version);
            inventory.add("program", || path.to_owned(), package);
            break;
        }
        at += if length > OVERLAP { length - OVERLAP } else { length } as u64;
        if length < CHUNK {
            break;
        }
    }
    inventory
}

/// The version behind a mark: two or three numbers, and what belongs to them.
fn version(chunk: &[u8], mark: usize, known: &Known, path: &str) -> Option<String> {
    let rest = chunk.get(mark + known.mark.len()..)?;
    let length = rest
        .iter()
        .take(MAX_VERSION)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'_'));
    let (version, behind) = rest.split_at_checked(length.count())?;
    let version = std::str::from_utf8(version).ok()?;
    let mut numbers = version.split('.');
    let plain = |number: Option<&str>| {
        number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let whole =
        plain(numbers.next()) && numbers.next().is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
    if !whole {
        return None;
    }
    // Python's is a text of its own, of the minor release that the file's name has.
    if known.program == "python" {
        let minor = path.rsplit('/').next()?.split_once("python3.")?.1;
        let minor = minor.split(|c: char| !c.is_ascii_digit()).next()?;
        let fits = version.strip_prefix("3.").and_then(|rest| rest.strip_prefix(minor)?.strip_prefix('.'));
        let own = behind.first() == Some(&0)
            && fits.is_some_and(|patch| patch.starts_with(|c: char| c.is_ascii_digit()));
        return own.then(|| version.to_owned());
    }
    Some(version.to_owned())
}

/// Reads the file `release` of a Java runtime: `JAVA_VERSION="17.0.8"`. Another file of that name says nothing.
pub fn parse_java_release(bytes: &[u8]) -> Inventory {
    let mut inventory = Inventory::default();
    let version = lines(bytes)
        .find_map(|(_, line)| Some(line.strip_prefix("JAVA_VERSION=")?.trim().trim_matches('"').to_owned()));
    if let Some(version) = version {
        // 1.8.0_392 is written as 8.0.392 by advisories.
        let version = version.strip_prefix("1.").unwrap_or(&version).replace('_', ".");
        inventory.add(
            "release",
            || "JAVA_VERSION".to_owned(),
            Package::new(Ecosystem::Program, "java", version),
        );
    }
    inventory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::read_slice;

    fn found(path: &str, bytes: &[u8]) -> Vec<(String, String)> {
        let told = inspect(path, bytes.len() as u64, &mut read_slice(bytes)).packages.into_iter();
        told.map(|package| (package.name.into_string(), package.version.into_string())).collect()
    }

    #[test]
    fn programs_tell_their_versions_also_across_the_pieces_that_are_read() {
        let far = [vec![0; CHUNK - 5], b"nginx version: nginx/1.25.3\0".to_vec()].concat();
        for (path, bytes, want) in [
            ("usr/sbin/nginx", &b"\x7fELF..nginx/%s\0nginx/1.25.3\0"[..], Some(("nginx", "1.25.3"))),
            ("usr/local/nginx/sbin/nginx", &far, Some(("nginx", "1.25.3"))),
            ("usr/lib/libcrypto.so.3", b"..OpenSSL 3.0.11 19 Sep 2023\0", Some(("openssl", "3.0.11"))),
            ("bin/busybox", b"BusyBox v1.36.1 (2023-11-07)", Some(("busybox", "1.36.1"))),
            ("usr/local/bin/node", b"x node.js/v18.17.0\0", Some(("node", "18.17.0"))),
            ("usr/local/bin/python3.11", b"\0 3.11\x003.10.1\x003.11.4\0", Some(("python", "3.11.4"))),
            ("usr/bin/other", b"nginx/1.25.3", None),
            ("usr/sbin/nginx", b"nginx/latest", None),
        ] {
            let want: Vec<_> = want.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(found(path, bytes), want, "{path}");
        }
        let java = parse_java_release(b"IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"1.8.0_392\"\n").packages;
        assert_eq!((&*java[0].name, &*java[0].version), ("java", "8.0.392"));
        assert_eq!(parse_java_release(b"3.20.3\n"), Inventory::default());
    }

    proptest::proptest! {
        #[test]
        fn any_program_is_looked_through(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            found("bin/python3.11", &bytes);
            found("bin/busybox", &bytes);
        }
    }
}
