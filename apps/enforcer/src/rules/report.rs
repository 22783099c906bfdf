//! What is said of rules and their cases.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use nv_seclang::{Refused, RuleSet};
use serde_json::json;

use super::cases::Case;
use super::play::Outcome;

/// Lines for people, or JSON.
pub(super) struct Report {
    json: bool,
    lines: Vec<String>,
    total: Tally,
    /// By the first three digits of the rule's id, which name its file in the Core Rule Set.
    families: BTreeMap<u32, Tally>,
    took: Duration,
    played: bool,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        let place = match outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Skipped(_) => &mut self.skipped,
        };
        *place = place.saturating_add(1);
    }

    /// Of those that were not skipped, in per cent.
    fn share(&self) -> f64 {
        let all = self.passed.saturating_add(self.failed);
        if all == 0 { 100.0 } else { f64::from(self.passed) * 100.0 / f64::from(all) }
    }
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self {
            json,
            lines: Vec::new(),
            total: Tally::default(),
            families: BTreeMap::new(),
            took: Duration::ZERO,
            played: false,
        }
    }

    pub(super) fn compiled(&mut self, set: &RuleSet, refused: &[Refused], took: Duration) {
        for one in refused {
            self.lines.push(if self.json {
                json!({ "refused": one.rule, "file": one.file, "line": one.line, "reason": one.reason.to_string() })
                    .to_string()
            } else {
                format!("refused  {one}")
            });
        }
        let (with, all) = set.prefiltered();
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.lines.push(if self.json {
            json!({ "rules": set.len(), "refused": refused.len(), "operators": all, "found_by_literals": with, "milliseconds": millis })
                .to_string()
        } else {
            format!(
                "{} rules compiled in {millis} ms, {} refused; {with} of {all} operators look only at values with their literals",
                set.len(),
                refused.len()
            )
        });
    }

    pub(super) fn case(&mut self, rule: u32, case: &Case, outcome: &Outcome) {
        self.total.add(outcome);
        self.families.entry(rule / 1000).or_default().add(outcome);
        let id = format!("{rule}-{}", case.test_id);
        let (result, reason) = match outcome {
            Outcome::Passed if !self.json => return,
            Outcome::Passed => ("passed", None),
            Outcome::Failed(reason) => ("failed", Some(reason.as_str())),
            Outcome::Skipped(reason) => ("skipped", Some(*reason)),
        };
        self.lines.push(if self.json {
            json!({ "case": id, "result": result, "reason": reason }).to_string()
        } else {
            format!("{result:<8} {id:<12} {}", reason.unwrap_or_default())
        });
    }

    pub(super) fn played(&mut self, took: Duration) {
        (self.played, self.took) = (true, took);
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for line in &self.lines {
            writeln!(out, "{line}")?;
        }
        if !self.played {
            return Ok(());
        }
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        if self.json {
            let Tally { passed, failed, skipped } = self.total;
            let line =
                json!({ "passed": passed, "failed": failed, "skipped": skipped, "milliseconds": millis });
            return writeln!(out, "{line}");
        }
        writeln!(out, "{:<8} {:>7} {:>7} {:>7} {:>7}", "rules", "passed", "failed", "skipped", "%")?;
        let rows = self.families.iter().map(|(family, tally)| (format!("{family}xxx"), tally));
        for (name, tally) in rows.chain([("all".to_owned(), &self.total)]) {
            let Tally { passed, failed, skipped } = *tally;
            writeln!(out, "{name:<8} {passed:>7} {failed:>7} {skipped:>7} {:>7.2}", tally.share())?;
        }
        writeln!(out, "{millis} ms for all cases")
    }
}
