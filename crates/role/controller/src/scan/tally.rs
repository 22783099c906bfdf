//! How many vulnerabilities of each severity count for something, once what is accepted there is left out.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use nv_model::scan::BlobId;
use nv_model::scan_report::Vulnerability;
use serde::{Deserialize, Serialize};

use super::{KeptReport, ScanSettings};

/// Most different findings of a report that can be left out; those beyond count whatever is accepted.
const MAX_KINDS: usize = 20_000;
/// Most tallies that are remembered; beyond it all are worked out anew.
const MAX_TALLIES: usize = 65_536;
/// In seconds.
const DAY: i64 = 86_400;

/// How many vulnerabilities of each severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Critical ones.
    pub critical: u32,
    /// High ones.
    pub high: u32,
    /// Medium ones.
    pub medium: u32,
    /// Low ones.
    pub low: u32,
}

impl Tally {
    fn of(&mut self, severity: &str) -> Option<&mut u32> {
        Some(match severity {
            "Critical" => &mut self.critical,
            "High" => &mut self.high,
            "Medium" => &mut self.medium,
            "Low" => &mut self.low,
            _ => return None,
        })
    }
}

/// Findings that a profile accepts together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kind {
    name: Box<str>,
    severity: Box<str>,
    fixed: bool,
    /// Seconds since the epoch.
    published: u32,
    count: u32,
}

/// The kinds of what a report found.
pub(super) fn kinds(found: &[Vulnerability]) -> Vec<Kind> {
    let mut counts: BTreeMap<(&str, &str, bool, u32), u32> = BTreeMap::new();
    for one in found {
        let published = u32::try_from(one.published_timestamp).unwrap_or(0);
        let key = (one.name.as_str(), one.severity.as_str(), !one.fixed_version.is_empty(), published);
        if counts.len() < MAX_KINDS || counts.contains_key(&key) {
            let count = counts.entry(key).or_default();
            *count = count.saturating_add(1);
        }
    }
    let kind = |((name, severity, fixed, published), count): ((&str, &str, bool, u32), u32)| Kind {
        name: name.into(),
        severity: severity.into(),
        fixed,
        published,
        count,
    };
    counts.into_iter().map(kind).collect()
}

impl KeptReport {
    /// What counts where the report is about something in `image` and `domains`, both empty where it is in none; `now` in
    /// seconds since the epoch.
    #[must_use]
    pub fn tally(&self, settings: &ScanSettings, image: &str, domains: &[&str], now: i64) -> Tally {
        let mut tally =
            Tally { critical: self.critical, high: self.high, medium: self.medium, low: self.low };
        if settings.acceptance.is_empty() {
            return tally;
        }
        let now = u64::try_from(now).unwrap_or(0);
        for kind in &self.kinds {
            let accepted =
                settings.acceptance.accepts(&kind.name, kind.fixed, kind.published, image, domains, now);
            if let (Some(_), Some(count)) = (accepted, tally.of(&kind.severity)) {
                *count = count.saturating_sub(kind.count);
            }
        }
        tally
    }
}

/// Tallies that were worked out, until the profile or the day changes: lists ask for one of each container.
#[derive(Default)]
pub(super) struct Tallies(Mutex<Known>);

#[derive(Default)]
struct Known {
    revision: u64,
    day: i64,
    by_place: HashMap<(BlobId, String, String), Tally>,
}

impl Tallies {
    /// As [`KeptReport::tally`], for something in one namespace or, where it is empty, in none.
    pub(super) fn of(
        &self,
        report: &KeptReport,
        settings: &ScanSettings,
        image: &str,
        domain: &str,
        now: i64,
    ) -> Tally {
        let domains: &[&str] = if domain.is_empty() { &[] } else { &[domain] };
        let work_out = || report.tally(settings, image, domains, now);
        if settings.acceptance.is_empty() {
            return work_out();
        }
        // Entries end, and vulnerabilities cease to be recent, at the turn of a day.
        let (revision, day) = (settings.revision, now.div_euclid(DAY));
        let key = (report.report, image.to_owned(), domain.to_owned());
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut known = lock();
            let holds = (known.revision, known.day) == (revision, day);
            if !holds || known.by_place.len() >= MAX_TALLIES {
                *known = Known { revision, day, by_place: HashMap::new() };
            }
            if let Some(tally) = known.by_place.get(&key) {
                return *tally;
            }
        }
        let tally = work_out();
        let mut known = lock();
        if (known.revision, known.day) == (revision, day) {
            known.by_place.insert(key, tally);
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nv_model::scan::ScanSubject;
    use nv_model::scan_report::ScanReport;
    use nv_model::time::Timestamp;
    use nv_vulnerability::{Acceptance, Accepted};

    fn report() -> KeptReport {
        let found = |name: &str, severity: &str, package: &str| Vulnerability {
            name: name.to_owned(),
            severity: severity.to_owned(),
            package_name: package.to_owned(),
            ..Vulnerability::default()
        };
        let vulnerabilities = vec![
            found("CVE-1", "High", "openssl"),
            found("CVE-1", "High", "libssl"),
            found("CVE-2", "Critical", "zlib"),
            found("CVE-3", "Unknown", "tar"),
        ];
        let from = ScanReport { vulnerabilities, ..ScanReport::default() };
        let subject = ScanSubject::RunningImage("web".to_owned());
        KeptReport::new(subject, BlobId::of(b"1"), None, 1, Timestamp::from_seconds(1), &from)
    }

    fn settings(entries: &[(&str, &[&str])]) -> ScanSettings {
        let entries = entries.iter().map(|(name, domains)| Accepted {
            name: (*name).to_owned(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            ..Accepted::default()
        });
        let accepted: Vec<Accepted> = entries.collect();
        let acceptance = Acceptance::new(accepted.clone()).unwrap();
        ScanSettings { accepted, acceptance, ..ScanSettings::default() }
    }

    #[test]
    fn what_is_accepted_counts_no_more_and_only_where_it_is_accepted() {
        let report = report();
        for (entries, domain, critical, high) in [
            (&[][..], "shop", 1, 2),
            (&[("CVE-1", &[][..])][..], "shop", 1, 0),
            (&[("CVE-1", &["bank"][..])][..], "shop", 1, 2),
            (&[("CVE-1", &["bank"][..])][..], "bank", 1, 0),
            (&[("CVE-3", &[][..]), ("cve-2", &[][..])][..], "shop", 0, 2),
            (&[("CVE-*", &[][..])][..], "shop", 0, 0),
        ] {
            let tally = report.tally(&settings(entries), "web", &[domain], 0);
            assert_eq!((tally.critical, tally.high), (critical, high), "{entries:?} in {domain}");
        }
    }

    #[test]
    fn a_tally_is_worked_out_anew_when_the_profile_changes() {
        let (tallies, report) = (Tallies::default(), report());
        for (revision, entry, high) in [(1, "CVE-9", 2), (1, "CVE-9", 2), (2, "CVE-1", 0), (3, "CVE-2", 2)] {
            let settings = ScanSettings { revision, ..settings(&[(entry, &[])]) };
            assert_eq!(tallies.of(&report, &settings, "web", "shop", 0).high, high, "{entry}");
        }
    }

    #[test]
    fn a_report_that_was_read_from_the_disk_counts_the_same() {
        let report = report();
        let reread: KeptReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        let settings = settings(&[("CVE-1", &[])]);
        assert_eq!(reread.tally(&settings, "", &[], 0), report.tally(&settings, "", &[], 0));
    }
}
