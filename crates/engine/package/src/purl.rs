//! Package URLs (<https://github.com/package-url/purl-spec>).

use crate::distribution::Distribution;
use crate::ecosystem::Ecosystem;
use crate::inventory::{Package, Source};

/// A package, and the distribution that its URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purl {
    /// The package; its version is empty where the URL has none.
    pub package: Package,
    /// `ID` and `VERSION_ID` of the distribution, for packages of one.
    pub distribution: Option<(String, String)>,
}

/// Why text is no package URL that can be matched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PurlError {
    /// It does not begin with `pkg:` and a type.
    #[error("{purl:?} is no package URL: pkg:type/namespace/name@version is expected")]
    Shape {
        /// The text.
        purl: String,
    },
    /// A type that is not known.
    #[error("packages of type {kind:?} are not known")]
    Type {
        /// The type.
        kind: String,
    },
}

/// Reads a package URL. `distro=debian-12` names the distribution, else its namespace (`pkg:deb/debian/…`) without a
/// release; `upstream=openssl@1.0` the package that it was built from, `epoch=1` rpm's epoch, `checksum=sha1:…` the archive of
/// Java that it is.
///
/// # Errors
/// [`PurlError`] when the text is no package URL or of a type that is not known.
pub fn parse_purl(purl: &str) -> Result<Purl, PurlError> {
    let shape = || PurlError::Shape { purl: purl.to_owned() };
    let rest = purl.trim().strip_prefix("pkg:").ok_or_else(shape)?.trim_start_matches('/');
    let rest = rest.split('#').next().unwrap_or(rest);
    let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
    let (kind, rest) = rest.split_once('/').ok_or_else(shape)?;
    let ecosystem =
        Ecosystem::from_purl_type(kind).ok_or_else(|| PurlError::Type { kind: kind.to_owned() })?;
    // A scope of npm begins with an @, written plainly by some.
    let (path, version) = match rest.rsplit_once('@') {
        Some((path, version)) if !path.is_empty() => (path, decode(version)),
        _ => (rest, String::new()),
    };
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (namespace, name) = (decode(namespace), decode(name));
    if name.is_empty() {
        return Err(shape());
    }
    let qualifier = |wanted: &str| {
        qualifiers
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| decode(value))
    };
    let whole = match ecosystem {
        _ if namespace.is_empty() || ecosystem.is_distribution() => name,
        Ecosystem::Maven => format!("{namespace}:{name}"),
        _ => format!("{namespace}/{name}"),
    };
    let version = match (ecosystem, qualifier("epoch")) {
        (Ecosystem::Rpm, Some(epoch)) if epoch != "0" && !version.contains(':') => {
            format!("{epoch}:{version}")
        }
        _ => version,
    };
    let source = qualifier("upstream").map(|upstream| {
        if let Some(source) = crate::rpm::header::source_of(&upstream) {
            return source;
        }
        match upstream.split_once('@') {
            Some((name, version)) => Source { name: name.into(), version: Some(version.into()) },
            None => Source { name: upstream.into(), version: None },
        }
    });
    let distribution = ecosystem.is_distribution().then(|| {
        let distro = qualifier("distro").unwrap_or_default();
        match distro.rsplit_once('-') {
            Some((id, release)) => (id.to_owned(), release.to_owned()),
            None if distro.is_empty() => (namespace.clone(), String::new()),
            None => (distro, String::new()),
        }
    });
    let package = Package {
        source,
        arch: qualifier("arch").map(Into::into),
        sha1: qualifier("checksum")
            .filter(|_| ecosystem == Ecosystem::Maven)
            .and_then(|sums| sums.split(',').find_map(|sum| sum.strip_prefix("sha1:")?.parse().ok())),
        ..Package::new(ecosystem, whole, version)
    };
    Ok(Purl { package, distribution })
}

/// The URL of a package; of a distribution's package with the distribution that it is installed in.
pub fn write_purl(package: &Package, distribution: Option<&Distribution>) -> String {
    let ecosystem = package.ecosystem;
    let (namespace, name) = match ecosystem {
        Ecosystem::Maven => package.name.rsplit_once(':').unwrap_or(("", &package.name)),
        _ if ecosystem.is_distribution() => {
            (distribution.map_or("", |found| found.id.as_str()), &*package.name)
        }
        _ => package.name.rsplit_once('/').unwrap_or(("", &package.name)),
    };
    let normal = ecosystem.normal_name(name);
    let name = if ecosystem == Ecosystem::Nuget { name } else { &normal };
    let mut purl = format!("pkg:{}/", ecosystem.purl_type());
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        purl.push_str(&encode(part));
        purl.push('/');
    }
    let (epoch, version) = match package.version.split_once(':') {
        Some((epoch, version)) if ecosystem == Ecosystem::Rpm => (Some(epoch), version),
        _ => (None, &*package.version),
    };
    purl.push_str(&encode(name));
    if !version.is_empty() {
        purl.push('@');
        purl.push_str(&encode(version));
    }
    let mut qualifiers = Vec::new();
    qualifiers.extend(package.arch.as_deref().map(|arch| ("arch", arch.to_owned())));
    qualifiers.extend(package.sha1.map(|sha1| ("checksum", format!("sha1:{sha1}"))));
    if let (true, Some(found)) = (ecosystem.is_distribution(), distribution) {
        let release = if found.version.is_empty() {
            found.id.clone()
        } else {
            format!("{}-{}", found.id, found.version)
        };
        qualifiers.push(("distro", release));
    }
    qualifiers.extend(epoch.filter(|epoch| *epoch != "0").map(|epoch| ("epoch", epoch.to_owned())));
    qualifiers.extend(package.source.as_ref().map(|source| {
        let text = match &source.version {
            Some(version) => format!("{}@{version}", source.name),
            None => source.name.to_string(),
        };
        ("upstream", text)
    }));
    for (number, (key, value)) in qualifiers.iter().enumerate() {
        purl.push(if number == 0 { '?' } else { '&' });
        purl.push_str(key);
        purl.push('=');
        purl.push_str(&encode(value));
    }
    purl
}

/// Percent-encodes all but what stands for itself in a package URL.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            other => {
                encoded.push('%');
                encoded.extend(
                    [other >> 4, other & 15].map(|digit| {
                        char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
                    }),
                );
            }
        }
    }
    encoded
}

/// Percent-encoding (RFC 3986 §2.1); what is no such code stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let value = code
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_purl_names_the_package_as_its_ecosystem_does() {
        for (purl, ecosystem, name, version) in [
            ("pkg:npm/%40angular/core@1.2.3", Ecosystem::Npm, "@angular/core", "1.2.3"),
            ("pkg:npm/@angular/core@1.2.3", Ecosystem::Npm, "@angular/core", "1.2.3"),
            ("pkg:maven/org.apache/log4j@2.0?type=jar", Ecosystem::Maven, "org.apache:log4j", "2.0"),
            (
                "pkg:golang/github.com/gin-gonic/gin@v1.2.3#sub",
                Ecosystem::Go,
                "github.com/gin-gonic/gin",
                "v1.2.3",
            ),
            ("pkg:pypi/Django@4.2", Ecosystem::Python, "Django", "4.2"),
            ("pkg:composer/symfony/http-kernel@v5.0.0", Ecosystem::Composer, "symfony/http-kernel", "v5.0.0"),
            ("pkg:rpm/redhat/bash@4.4-5.el8?epoch=2&distro=rhel-8.4", Ecosystem::Rpm, "bash", "2:4.4-5.el8"),
            ("pkg:cargo/serde", Ecosystem::Cargo, "serde", ""),
        ] {
            let found = parse_purl(purl).unwrap().package;
            assert_eq!(
                (found.ecosystem, &*found.name, &*found.version),
                (ecosystem, name, version),
                "{purl}"
            );
        }
        let found =
            parse_purl("pkg:deb/debian/libssl3@3.0.1%2Bdeb1?arch=amd64&upstream=openssl&distro=debian-12")
                .unwrap();
        assert_eq!(found.distribution, Some(("debian".to_owned(), "12".to_owned())));
        assert_eq!(found.package.source, Some(Source { name: "openssl".into(), version: None }));
        assert_eq!(&*found.package.version, "3.0.1+deb1");
        assert!(matches!(parse_purl("pkg:nothing/x@1"), Err(PurlError::Type { .. })));
        assert!(matches!(parse_purl("npm/x@1"), Err(PurlError::Shape { .. })));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let debian = Distribution { id: "debian".into(), version: "12".into(), ..Distribution::default() };
        for (package, want) in [
            (Package::new(Ecosystem::Npm, "@angular/core", "1.2.3"), "pkg:npm/%40angular/core@1.2.3"),
            (Package::new(Ecosystem::Maven, "org.apache:log4j", "2.0"), "pkg:maven/org.apache/log4j@2.0"),
            (Package::new(Ecosystem::Go, "github.com/a/b", "v1"), "pkg:golang/github.com/a/b@v1"),
            (
                Package {
                    source: Some(Source { name: "openssl".into(), version: Some("3.0+1".into()) }),
                    arch: Some("amd64".into()),
                    ..Package::new(Ecosystem::Deb, "libssl3", "1:3.0")
                },
                "pkg:deb/debian/libssl3@1:3.0?arch=amd64&distro=debian-12&upstream=openssl%403.0%2B1",
            ),
            (
                Package {
                    sha1: "a9993e364706816aba3e25717850c26c9cd0d89d".parse().ok(),
                    ..Package::new(Ecosystem::Maven, "unknown", "")
                },
                "pkg:maven/unknown?checksum=sha1:a9993e364706816aba3e25717850c26c9cd0d89d",
            ),
            (
                Package::new(Ecosystem::Rpm, "bash", "2:4.4-5"),
                "pkg:rpm/debian/bash@4.4-5?distro=debian-12&epoch=2",
            ),
        ] {
            let text = write_purl(&package, Some(&debian));
            assert_eq!(text, want);
            let read = parse_purl(&text).unwrap();
            assert_eq!(read.package, package);
            let of_distribution = package.ecosystem.is_distribution();
            assert_eq!(read.distribution, of_distribution.then(|| ("debian".to_owned(), "12".to_owned())));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_purl_or_an_error(text in "(pkg:)?[a-z%@/?=&#0-9.-]{0,60}") {
            let _either = parse_purl(&text);
        }
    }
}
