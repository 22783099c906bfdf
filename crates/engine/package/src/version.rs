//! The order of versions, exactly as each ecosystem defines it.
//!
//! Each [`Scheme`] is one function that writes a version's [`Key`]: a string of bytes whose plain order is the order
//! of the versions. [`compare`] is the comparison of two keys, so the two can not disagree, and a database that keeps
//! the keys compares versions with `memcmp`. Keys live on the stack: nothing here allocates.
//!
//! Every input has a key. What is no version of its scheme sorts below all that are.

mod apk;
mod composer;
mod cursor;
mod deb;
mod gem;
mod key;
mod maven;
mod pep440;
pub mod range;
mod rpm;
mod semver;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

pub use key::Key;

/// Whose rules order a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scheme {
    /// Debian policy 5.6.12: `[epoch:]upstream[-revision]`.
    Deb = 1,
    /// rpm's `rpmvercmp`: `[epoch:]version[-release]`, with `~` and `^`.
    Rpm = 2,
    /// apk-tools 3: `1.2.3a_rc1_p2~hash-r3`.
    Apk = 3,
    /// Semantic versioning 2.0: npm, Cargo, Go with its pseudo-versions, Pub, Hex, Swift; a leading `v` or `=` is
    /// skipped and missing parts count as 0.
    Semver = 4,
    /// PEP 440: `[N!]N(.N)*[{a|b|rc}N][.postN][.devN][+local]`.
    Pep440 = 5,
    /// Maven's `ComparableVersion` (3.9).
    Maven = 6,
    /// RubyGems' `Gem::Version`.
    Gem = 7,
    /// NuGet: semantic versioning with a fourth part, labels without regard to case.
    Nuget = 8,
    /// Composer: PHP's `version_compare` over Composer's normal form.
    Composer = 9,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 9] = [
        Self::Deb,
        Self::Rpm,
        Self::Apk,
        Self::Semver,
        Self::Pep440,
        Self::Maven,
        Self::Gem,
        Self::Nuget,
        Self::Composer,
    ];

    /// The scheme of a number as it is kept in files; none for a number that is no scheme.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| *scheme as u8 == number)
    }

    /// The order-preserving key of a version: `key(a) < key(b)` exactly when `a` is older than `b`.
    pub fn key(self, version: &[u8]) -> Key {
        let mut key = Key::new();
        match self {
            Self::Deb => deb::write(version, &mut key),
            Self::Rpm => rpm::write(version, &mut key),
            Self::Apk => apk::write(version, &mut key),
            Self::Semver => semver::write(version, &mut key),
            Self::Pep440 => pep440::write(version, &mut key),
            Self::Maven => maven::write(version, &mut key),
            Self::Gem => gem::write(version, &mut key),
            Self::Nuget => semver::write_nuget(version, &mut key),
            Self::Composer => composer::write(version, &mut key),
        }
        key
    }
}

/// Which of two versions of a scheme is older.
pub fn compare(scheme: Scheme, a: &[u8], b: &[u8]) -> Ordering {
    scheme.key(a).cmp(&scheme.key(b))
}
