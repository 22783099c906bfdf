//! JUnit's XML, as build servers read it: a suite a file, a test a finding, each of which has failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nv_vulnerability::{Database, Finding};

use super::word;
use crate::report::{Installed, Report};

/// Text between tags and in attributes; what XML 1.0 cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\n' | '\t' => safe.push(c),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => safe.push(c),
        }
    }
    safe
}

pub(super) fn document(database: Database<'_>, report: &Report) -> String {
    let mut suites: BTreeMap<&str, Vec<(&Installed, &Finding)>> = BTreeMap::new();
    for (place, finding) in &report.findings {
        if let Some(installed) = report.packages.get(*place) {
            suites.entry(&installed.file).or_default().push((installed, finding));
        }
    }
    let total = report.findings.len();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing into a string does not fail.
    let _written = writeln!(
        text,
        "<testsuites name=\"{}\" tests=\"{total}\" failures=\"{total}\" errors=\"0\">",
        escaped(&report.subject)
    );
    for (file, findings) in suites {
        let count = findings.len();
        let _written = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{count}\" failures=\"{count}\" errors=\"0\" skipped=\"0\" time=\"0\">",
            escaped(file)
        );
        for (installed, finding) in findings {
            let package = &installed.package;
            let facts = database.facts(finding.facts);
            let remedy = match finding.fixed(database) {
                "" => finding.status.name().to_owned(),
                fixed => format!("fixed in {fixed}"),
            };
            let _written = writeln!(
                text,
                "    <testcase classname=\"{}-{}\" name=\"[{}] {}\" time=\"0\">\n      <failure message=\"{}\" type=\"vulnerability\">{}\n{}</failure>\n    </testcase>",
                escaped(&package.name),
                escaped(&package.version),
                word(finding.severity),
                escaped(facts.id()),
                escaped(&remedy),
                escaped(&facts.description()),
                escaped(facts.link())
            );
        }
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}
