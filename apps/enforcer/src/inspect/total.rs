//! Sums over all files, and the last line.

use std::io::{self, Write};

use nv_dpi::counters::Counters;
use serde_json::json;

use super::record::Lines;
use super::usage::Usage;

/// Sums over all files.
#[derive(Default)]
pub(crate) struct Total {
    pub(crate) files: usize,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) unknown_links: u64,
    sessions: u64,
    identified: u64,
    threats: u64,
    matches: u64,
    allowed: u64,
    denied: u64,
    not_matched: u64,
    cut_bodies: u64,
    names_dropped: u64,
    waf_matches: u64,
    waf_refused: u64,
    gaps: u64,
    conflicts: u64,
    lost: u64,
    evicted: u64,
}

impl Total {
    /// Adds what a file came to.
    pub(crate) fn add(&mut self, lines: &Lines<'_>, counters: &Counters) {
        let matching = lines.matching();
        let (waf_matches, waf_refused) = lines.waf();
        for (sum, value) in [
            (&mut self.sessions, lines.sessions),
            (&mut self.identified, lines.identified),
            (&mut self.threats, lines.threats),
            (&mut self.matches, lines.matches),
            (&mut self.allowed, lines.allowed),
            (&mut self.denied, lines.denied),
            (&mut self.names_dropped, lines.names.dropped()),
            (&mut self.not_matched, matching.refused.saturating_add(matching.dropped)),
            (&mut self.cut_bodies, matching.cut_bodies),
            (&mut self.waf_matches, waf_matches),
            (&mut self.waf_refused, waf_refused),
            (&mut self.gaps, counters.gaps),
            (&mut self.conflicts, counters.conflicts),
            (&mut self.lost, counters.parsers_lost),
            (&mut self.evicted, counters.flows_evicted),
        ] {
            *sum = sum.saturating_add(value);
        }
    }
}

/// Writes the last line.
///
/// # Errors
/// Those of writing.
pub(crate) fn last_line(out: &mut dyn Write, json: bool, total: &Total, usage: &Usage) -> io::Result<()> {
    if json {
        let line = json!({
            "files": total.files,
            "packets": total.packets,
            "bytes": total.bytes,
            "sessions": total.sessions,
            "identified": total.identified,
            "threats": total.threats,
            "matches": total.matches,
            "allowed": total.allowed,
            "denied": total.denied,
            "names_dropped": total.names_dropped,
            "not_matched": total.not_matched,
            "cut_bodies": total.cut_bodies,
            "waf_matches": total.waf_matches,
            "waf_refused": total.waf_refused,
            "gaps": total.gaps,
            "conflicts": total.conflicts,
            "lost": total.lost,
            "evicted": total.evicted,
            "unknown_links": total.unknown_links,
            "cpu_seconds": usage.cpu_seconds,
            "peak_memory_bytes": usage.peak_bytes,
        });
        return writeln!(out, "{line}");
    }
    writeln!(
        out,
        "{} files, {} packets, {} bytes, {} sessions ({} identified), {} threats, {} matches, {:.2} CPU seconds, {} KiB at most",
        total.files,
        total.packets,
        total.bytes,
        total.sessions,
        total.identified,
        total.threats,
        total.matches,
        usage.cpu_seconds,
        usage.peak_bytes / 1024,
    )
}
