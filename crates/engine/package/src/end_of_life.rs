//! Until when a distribution's makers mend a release for everybody, without a contract for longer support.
//!
//! Dates are those of the makers' published life cycles as of November 2026: of Debian (with its long-term support) and
//! Ubuntu as the package `distro-info-data` has them, of Alpine as its page of releases. A release that is not in here may
//! have ended or not: nothing is said of it.

use crate::distribution::Distribution;

/// Id as os-release has it, beginning of the version up to a dot, last day.
const ENDS: &[(&str, &str, &str)] = &[
    ("almalinux", "8", "2029-03-01"),
    ("almalinux", "9", "2032-05-31"),
    ("alpine", "3.10", "2021-05-01"),
    ("alpine", "3.11", "2021-11-01"),
    ("alpine", "3.12", "2022-05-01"),
    ("alpine", "3.13", "2022-11-01"),
    ("alpine", "3.14", "2023-05-01"),
    ("alpine", "3.15", "2023-11-01"),
    ("alpine", "3.16", "2024-05-23"),
    ("alpine", "3.17", "2024-11-22"),
    ("alpine", "3.18", "2025-05-09"),
    ("alpine", "3.19", "2025-11-01"),
    ("alpine", "3.20", "2026-04-01"),
    ("alpine", "3.21", "2026-11-01"),
    ("alpine", "3.22", "2027-05-01"),
    ("alpine", "3.23", "2027-11-01"),
    ("alpine", "3.6", "2019-05-01"),
    ("alpine", "3.7", "2019-11-01"),
    ("alpine", "3.8", "2020-05-01"),
    ("alpine", "3.9", "2020-11-01"),
    ("amzn", "2", "2026-06-30"),
    ("amzn", "2018", "2023-12-31"),
    ("centos", "6", "2020-11-30"),
    ("centos", "7", "2024-06-30"),
    ("centos", "8", "2021-12-31"),
    ("debian", "7", "2018-05-31"),
    ("debian", "8", "2020-06-30"),
    ("debian", "9", "2022-06-30"),
    ("debian", "10", "2024-06-30"),
    ("debian", "11", "2026-08-31"),
    ("debian", "12", "2028-06-30"),
    ("debian", "13", "2030-06-30"),
    ("ol", "7", "2024-12-31"),
    ("opensuse-leap", "15.3", "2022-12-31"),
    ("opensuse-leap", "15.4", "2023-12-07"),
    ("opensuse-leap", "15.5", "2024-12-31"),
    ("photon", "3", "2024-03-01"),
    ("rhel", "6", "2020-11-30"),
    ("rhel", "7", "2024-06-30"),
    ("rhel", "8", "2029-05-31"),
    ("rhel", "9", "2032-05-31"),
    ("rocky", "8", "2029-05-31"),
    ("rocky", "9", "2032-05-31"),
    ("ubuntu", "14.04", "2019-04-25"),
    ("ubuntu", "16.04", "2021-04-30"),
    ("ubuntu", "18.04", "2023-05-31"),
    ("ubuntu", "20.04", "2025-05-29"),
    ("ubuntu", "22.04", "2027-06-01"),
    ("ubuntu", "24.04", "2029-05-31"),
    ("ubuntu", "26.04", "2031-05-29"),
];

/// The last day, `2026-08-31`; none where nothing is known.
#[must_use]
pub fn end_of_life(distribution: &Distribution) -> Option<&'static str> {
    let version = distribution.version.as_str();
    let of = |release: &str| {
        version.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    ENDS.iter().find(|(id, release, _)| *id == distribution.id && of(release)).map(|(_, _, end)| *end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_ends_when_its_makers_say_so_and_of_others_nothing_is_known() {
        for (id, version, want) in [
            ("debian", "11", Some("2026-08-31")),
            ("debian", "1", None),
            ("alpine", "3.20.3", Some("2026-04-01")),
            ("alpine", "3.2", None),
            ("rhel", "9.4", Some("2032-05-31")),
            ("ubuntu", "22.04", Some("2027-06-01")),
            ("ubuntu", "22.10", None),
            ("arch", "", None),
        ] {
            let release =
                Distribution { id: id.to_owned(), version: version.to_owned(), ..Distribution::default() };
            assert_eq!(end_of_life(&release), want, "{id} {version}");
        }
        for (_, _, day) in ENDS {
            assert_eq!((day.len(), day.matches('-').count()), (10, 2), "{day}");
        }
    }
}
