//! Where a package comes from, and whose rules hold for it.

use serde::{Deserialize, Serialize};

use crate::version::Scheme;

/// A system of packages with names and versions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ecosystem {
    /// Debian's packages, also of Ubuntu.
    Deb,
    /// rpm's packages.
    Rpm,
    /// Alpine's packages, also of Wolfi and Chainguard.
    Apk,
    /// Python, from PyPI.
    Python,
    /// Node.js, from npm.
    Npm,
    /// Java, from Maven repositories; names are `group:artifact`.
    Maven,
    /// Go modules; the toolchain's own library is `stdlib`.
    Go,
    /// Rust, from crates.io.
    Cargo,
    /// Ruby, from RubyGems.
    Gem,
    /// PHP, from Packagist.
    Composer,
    /// .NET, from NuGet.
    Nuget,
    /// Bitnami's components.
    Bitnami,
    /// C and C++, from Conan.
    Conan,
    /// Dart, from pub.dev.
    Pub,
    /// Swift packages; names are the repositories' addresses.
    Swift,
    /// CocoaPods.
    CocoaPods,
    /// Elixir and Erlang, from hex.pm.
    Hex,
    /// R, from CRAN.
    Cran,
    /// WordPress (`wordpress`) and its plugins.
    WordPress,
    /// Programs that no package holds, known by themselves: `nginx`, `openssl`, `node`, `kubernetes`.
    Program,
}

/// One row an ecosystem: its type in a package URL, its name in OSV, the order of its versions.
const TABLE: [(Ecosystem, &str, &str, Scheme); 20] = [
    (Ecosystem::Deb, "deb", "Debian", Scheme::Deb),
    (Ecosystem::Rpm, "rpm", "Red Hat", Scheme::Rpm),
    (Ecosystem::Apk, "apk", "Alpine", Scheme::Apk),
    (Ecosystem::Python, "pypi", "PyPI", Scheme::Pep440),
    (Ecosystem::Npm, "npm", "npm", Scheme::Semver),
    (Ecosystem::Maven, "maven", "Maven", Scheme::Maven),
    (Ecosystem::Go, "golang", "Go", Scheme::Semver),
    (Ecosystem::Cargo, "cargo", "crates.io", Scheme::Semver),
    (Ecosystem::Gem, "gem", "RubyGems", Scheme::Gem),
    (Ecosystem::Composer, "composer", "Packagist", Scheme::Composer),
    (Ecosystem::Nuget, "nuget", "NuGet", Scheme::Nuget),
    (Ecosystem::Bitnami, "bitnami", "Bitnami", Scheme::Semver),
    (Ecosystem::Conan, "conan", "ConanCenter", Scheme::Semver),
    (Ecosystem::Pub, "pub", "Pub", Scheme::Semver),
    (Ecosystem::Swift, "swift", "SwiftURL", Scheme::Semver),
    (Ecosystem::CocoaPods, "cocoapods", "CocoaPods", Scheme::Semver),
    (Ecosystem::Hex, "hex", "Hex", Scheme::Semver),
    (Ecosystem::Cran, "cran", "CRAN", Scheme::Semver),
    (Ecosystem::WordPress, "wordpress", "WordPress", Scheme::Semver),
    (Ecosystem::Program, "generic", "generic", Scheme::Semver),
];

impl Ecosystem {
    /// Every ecosystem.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(ecosystem, ..)| ecosystem)
    }

    fn row(self) -> (Self, &'static str, &'static str, Scheme) {
        TABLE.into_iter().find(|(ecosystem, ..)| *ecosystem == self).unwrap_or((
            self,
            "generic",
            "generic",
            Scheme::Semver,
        ))
    }

    /// Its type in a package URL.
    pub fn purl_type(self) -> &'static str {
        self.row().1
    }

    /// Its name in the OSV schema.
    pub fn osv_name(self) -> &'static str {
        self.row().2
    }

    /// The order of its versions.
    pub fn scheme(self) -> Scheme {
        self.row().3
    }

    /// Whether its packages belong to a distribution, whose advisories then speak of them.
    pub fn is_distribution(self) -> bool {
        matches!(self, Self::Deb | Self::Rpm | Self::Apk)
    }

    /// The ecosystem of a package URL's type.
    pub fn from_purl_type(name: &str) -> Option<Self> {
        TABLE
            .into_iter()
            .find(|(_, purl, ..)| purl.eq_ignore_ascii_case(name))
            .map(|(ecosystem, ..)| ecosystem)
    }

    /// The ecosystem of OSV's name, also in lower case, and of a package URL's type.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE
            .into_iter()
            .find(|(_, purl, osv, _)| osv.eq_ignore_ascii_case(name) || purl.eq_ignore_ascii_case(name))
            .map(|(ecosystem, ..)| ecosystem)
    }

    /// A name in the one spelling under which advisories and inventories meet: PyPI's by PEP 503, NuGet's and
    /// Packagist's in lower case, others as they are.
    pub fn normal_name(self, name: &str) -> String {
        match self {
            Self::Python => {
                let mut normal = String::with_capacity(name.len());
                for c in name.chars() {
                    if matches!(c, '-' | '_' | '.') {
                        if !normal.ends_with('-') {
                            normal.push('-');
                        }
                    } else {
                        normal.push(c.to_ascii_lowercase());
                    }
                }
                normal
            }
            Self::Nuget | Self::Composer | Self::Bitnami | Self::Program => name.to_ascii_lowercase(),
            _ => name.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_meet_in_one_spelling() {
        for (ecosystem, name, want) in [
            (Ecosystem::Python, "Zope.Interface__x", "zope-interface-x"),
            (Ecosystem::Nuget, "Newtonsoft.Json", "newtonsoft.json"),
            (Ecosystem::Composer, "Symfony/HTTP-Kernel", "symfony/http-kernel"),
            (Ecosystem::Npm, "@Scope/Name", "@Scope/Name"),
        ] {
            assert_eq!(ecosystem.normal_name(name), want);
        }
    }

    #[test]
    fn every_ecosystem_is_found_by_its_names() {
        for ecosystem in Ecosystem::all() {
            assert_eq!(Ecosystem::from_purl_type(ecosystem.purl_type()), Some(ecosystem));
            assert_eq!(Ecosystem::from_name(ecosystem.osv_name()), Some(ecosystem));
        }
    }
}
