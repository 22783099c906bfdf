//! Events folded into a line a session and a line a threat.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use nv_dpi::content::Content;
use nv_dpi::counters::Counters;
use nv_dpi::event::{Event, Field, Kind, SessionId, Sink, Summary, Value};
use nv_dpi::key::{Endpoints, Side};
use nv_dpi::threat::Threat;
use nv_sensor::matcher::{Match, Matcher};
use serde_json::{Map, Value as Json, json};

use super::policy::{Action, Policy};
use super::usage::Usage;
use super::verdict::{self, Facts, Names};
use super::waf::Waf;

/// Transactions of a session that are written out; the rest is counted.
const MAX_TRANSACTIONS: usize = 1000;
/// Values of one field, of a session or a transaction.
const MAX_VALUES: usize = 64;
/// Rules of sensors that hold for a session and are written out; the rest is counted.
const MAX_MATCHES: usize = 1000;
/// Bytes of a value.
const MAX_VALUE_BYTES: usize = 4096;

/// What a session has told so far.
#[derive(Default)]
struct Open {
    fields: Map<String, Json>,
    /// By number.
    transactions: Vec<(u32, Map<String, Json>)>,
    more_transactions: u64,
    software: Vec<&'static str>,
    gaps: u64,
    lost: u64,
    conflicts: u64,
    /// Rules of sensors that hold, each told when the session is over.
    matches: Vec<Held>,
    more_matches: u64,
    /// Address of an answer whose time to live comes next.
    answer: Option<IpAddr>,
}

/// A rule that holds for a message.
struct Held {
    sensor: String,
    rule: String,
    id: u32,
    kind: &'static str,
    action: &'static str,
    context: &'static str,
    side: Side,
    transaction: u32,
    at: u64,
}

/// Writes lines as sessions end and threats come.
pub(crate) struct Lines<'o> {
    file: String,
    json: bool,
    out: &'o mut dyn Write,
    open: HashMap<SessionId, Open>,
    matcher: Option<Matcher>,
    policy: Option<&'o Policy>,
    names: Names,
    waf: Option<Waf>,
    failed: Option<io::Error>,
    /// Sessions written.
    pub(crate) sessions: u64,
    /// Of these, those whose application is known.
    pub(crate) identified: u64,
    /// Threats written.
    pub(crate) threats: u64,
    /// Rules of sensors that held.
    pub(crate) matches: u64,
    /// Sessions that the policy allows, and denies.
    allowed: u64,
    denied: u64,
}

impl<'o> Lines<'o> {
    pub(crate) fn new(
        file: &Path,
        json: bool,
        matcher: Option<Matcher>,
        waf: Option<Waf>,
        policy: Option<&'o Policy>,
        out: &'o mut dyn Write,
    ) -> Self {
        Self {
            file: file.display().to_string(),
            json,
            out,
            open: HashMap::new(),
            matcher,
            policy,
            names: Names::default(),
            waf,
            failed: None,
            sessions: 0,
            identified: 0,
            threats: 0,
            matches: 0,
            allowed: 0,
            denied: 0,
        }
    }

    /// What matching has cost.
    pub(crate) fn matching(&self) -> nv_sensor::matcher::Counters {
        self.matcher.as_ref().map(Matcher::counters).unwrap_or_default()
    }

    /// WAF rules that matched, and transactions that found no place.
    pub(crate) fn waf(&self) -> (u64, u64) {
        self.waf.as_ref().map(|waf| (waf.matches, waf.refused)).unwrap_or_default()
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The first error of writing.
    pub(crate) fn end(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    fn line(&mut self, text: &str) {
        if self.failed.is_none()
            && let Err(error) = writeln!(self.out, "{text}")
        {
            self.failed = Some(error);
        }
    }

    fn field(&mut self, session: SessionId, transaction: u32, field: Field, value: Value<'_>) {
        let open = self.open.entry(session).or_default();
        let place = if field.of_transaction() {
            let known = open.transactions.iter().rposition(|(number, _)| *number == transaction);
            let index = match known {
                Some(index) => index,
                None if open.transactions.len() < MAX_TRANSACTIONS => {
                    open.transactions.push((transaction, Map::new()));
                    open.transactions.len().saturating_sub(1)
                }
                None => {
                    open.more_transactions = open.more_transactions.saturating_add(1);
                    return;
                }
            };
            let Some((_, place)) = open.transactions.get_mut(index) else { return };
            place
        } else {
            &mut open.fields
        };
        let value = match value {
            Value::Text(bytes) => {
                let kept = bytes.get(..MAX_VALUE_BYTES).unwrap_or(bytes);
                Json::String(String::from_utf8_lossy(kept).into_owned())
            }
            Value::Number(number) => json!(number),
            Value::Address(address) => json!(address),
        };
        match place.get_mut(field.name()) {
            None => {
                place.insert(field.name().to_owned(), value);
            }
            Some(Json::Array(values)) if values.len() < MAX_VALUES => values.push(value),
            Some(Json::Array(_)) => {}
            Some(first) => {
                let first_value = first.take();
                *first = Json::Array(vec![first_value, value]);
            }
        }
    }

    /// Takes the names of addresses out of answers of the DNS.
    fn learn(&mut self, session: SessionId, at: u64, transaction: u32, field: Field, value: Value<'_>) {
        let Some(open) = self.open.get_mut(&session) else { return };
        match (field, value) {
            (Field::Answer, Value::Address(address)) => open.answer = Some(address),
            (Field::AnswerTtl, Value::Number(seconds)) => {
                let asked = open.transactions.iter().rev().find(|(number, _)| *number == transaction);
                let name =
                    asked.and_then(|(_, fields)| fields.get(Field::Query.name())).and_then(Json::as_str);
                if let (Some(address), Some(name)) = (open.answer.take(), name) {
                    self.names.learn(name, address, at, seconds);
                }
            }
            _ => {}
        }
    }

    fn count(&mut self, session: SessionId, counter: impl Fn(&mut Open) -> &mut u64) {
        let counter = counter(self.open.entry(session).or_default());
        *counter = counter.saturating_add(1);
    }

    fn closed(&mut self, session: SessionId, summary: &Summary) {
        let Open {
            mut fields,
            transactions,
            more_transactions,
            software,
            gaps,
            lost,
            conflicts,
            matches,
            more_matches,
            answer: _,
        } = self.open.remove(&session).unwrap_or_default();
        for held in &matches {
            self.held(held, &summary.endpoints);
        }
        self.sessions = self.sessions.saturating_add(1);
        self.identified = self.identified.saturating_add(u64::from(summary.application.is_some()));
        let Endpoints { transport, client, server } = summary.endpoints;
        let application = summary.application.and_then(nv_model::application::ApplicationId::name);
        let verdict = self.policy.map(|policy| {
            let facts = facts(&fields, &transactions, &software);
            verdict::judge(policy, &self.names, summary, &facts)
        });
        if let Some(verdict) = &verdict {
            let count = if verdict.action == Action::Allow { &mut self.allowed } else { &mut self.denied };
            *count = count.saturating_add(1);
        }
        let bytes = summary.client.bytes.saturating_add(summary.server.bytes);
        let packets = u64::from(summary.client.packets).saturating_add(u64::from(summary.server.packets));
        if !self.json {
            let host = ["sni", "query", "host"].iter().find_map(|name| {
                let in_transaction = transactions.first().and_then(|(_, first)| first.get(*name));
                fields.get(*name).or(in_transaction).and_then(Json::as_str)
            });
            let verdict = verdict.map_or_else(String::new, |verdict| {
                format!(" {}: {}", verdict.action.name(), verdict.reason)
            });
            let text = format!(
                "session {:<4} {}:{} → {}:{} {} {} {packets} packets, {bytes} bytes{verdict}",
                transport.name(),
                client.address,
                client.port,
                server.address,
                server.port,
                application.unwrap_or("unknown"),
                host.unwrap_or("-"),
            );
            self.line(&text);
            return;
        }
        if !software.is_empty() {
            fields.insert("software".to_owned(), json!(software));
        }
        if !transactions.is_empty() {
            let list: Vec<Json> = transactions.into_iter().map(|(_, fields)| Json::Object(fields)).collect();
            fields.insert("transactions".to_owned(), Json::Array(list));
        }
        if more_matches > 0 {
            fields.insert("matches_left_out".to_owned(), json!(more_matches));
        }
        if more_transactions > 0 {
            fields.insert("transactions_left_out".to_owned(), json!(more_transactions));
        }
        let mut line = json!({
            "file": self.file,
            "proto": transport.name(),
            "client": client.address,
            "server": server.address,
            "client_port": client.port,
            "server_port": server.port,
            "app": application,
            "fields": fields,
            "bytes": bytes,
            "packets": packets,
            "midstream": summary.midstream,
            "gaps": gaps,
            "lost": lost,
            "conflicts": conflicts,
        });
        if let (Some(verdict), Some(line)) = (verdict, line.as_object_mut()) {
            line.insert("verdict".to_owned(), json!(verdict.action.name()));
            line.insert("rule_id".to_owned(), json!(verdict.rule));
            line.insert("reason".to_owned(), json!(verdict.reason));
        }
        self.line(&line.to_string());
    }

    /// Tells a rule that held.
    fn held(&mut self, held: &Held, ends: &Endpoints) {
        if !self.json {
            let text = format!(
                "match   {} {}/{} ({}) {}:{} → {}:{}",
                held.kind,
                held.sensor,
                held.rule,
                held.context,
                ends.client.address,
                ends.client.port,
                ends.server.address,
                ends.server.port
            );
            self.line(&text);
            return;
        }
        let line = json!({
            "file": self.file,
            "sensor": held.sensor,
            "rule": held.rule,
            "id": held.id,
            "kind": held.kind,
            "action": held.action,
            "context": held.context,
            "transaction": held.transaction,
            "proto": ends.transport.name(),
            "client": ends.client.address,
            "server": ends.server.address,
            "client_port": ends.client.port,
            "server_port": ends.server.port,
            "from": match held.side { Side::Client => "client", Side::Server => "server" },
            "at": held.at,
        });
        self.line(&line.to_string());
    }

    fn threat(&mut self, threat: Threat, endpoints: Option<Endpoints>, side: Side, at: u64) {
        self.threats = self.threats.saturating_add(1);
        if !self.json {
            let whom = endpoints.map_or_else(String::new, |ends| {
                format!(
                    " {}:{} → {}:{}",
                    ends.client.address, ends.client.port, ends.server.address, ends.server.port
                )
            });
            let text =
                format!("threat  {} {} ({}){whom}", threat.id(), threat.name(), threat.severity().name());
            self.line(&text);
            return;
        }
        let line = json!({
            "file": self.file,
            "threat": threat.name(),
            "id": threat.id(),
            "severity": threat.severity().name(),
            "technique": threat.technique(),
            "proto": endpoints.map(|ends| ends.transport.name()),
            "client": endpoints.map(|ends| ends.client.address),
            "server": endpoints.map(|ends| ends.server.address),
            "client_port": endpoints.map(|ends| ends.client.port),
            "server_port": endpoints.map(|ends| ends.server.port),
            "from": match side { Side::Client => "client", Side::Server => "server" },
            "at": at,
        });
        self.line(&line.to_string());
    }
}

/// What a session has told that its verdict depends on.
fn facts<'a>(
    fields: &Map<String, Json>,
    transactions: &[(u32, Map<String, Json>)],
    software: &'a [&'static str],
) -> Facts<'a> {
    let all =
        |fields: &Map<String, Json>, field: Field, into: &mut Vec<String>| match fields.get(field.name()) {
            Some(Json::String(one)) => into.push(one.clone()),
            Some(Json::Array(many)) => into.extend(many.iter().filter_map(Json::as_str).map(str::to_owned)),
            _ => {}
        };
    let (mut hosts, mut forwarded) = (Vec::new(), Vec::new());
    all(fields, Field::Sni, &mut hosts);
    for (_, fields) in transactions {
        all(fields, Field::Host, &mut hosts);
        all(fields, Field::ForwardedFor, &mut forwarded);
    }
    let mut hosts: Vec<String> = hosts.iter().map(|host| verdict::host_name(host)).collect();
    hosts.sort();
    hosts.dedup();
    Facts { software, hosts, forwarded }
}

/// Takes note of a rule that holds.
fn note(open: &mut HashMap<SessionId, Open>, count: &mut u64, found: &Match<'_>) {
    *count = count.saturating_add(1);
    let open = open.entry(found.session).or_default();
    if open.matches.len() >= MAX_MATCHES {
        open.more_matches = open.more_matches.saturating_add(1);
        return;
    }
    open.matches.push(Held {
        sensor: found.sensor.to_owned(),
        rule: found.rule.to_owned(),
        id: found.id,
        kind: found.kind.name(),
        action: found.action.name(),
        context: found.context.name(),
        side: found.side,
        transaction: found.transaction,
        at: found.at,
    });
}

impl Sink for Lines<'_> {
    fn content(&mut self, content: &Content<'_>) {
        let Self { matcher, open, matches, .. } = self;
        if let Some(matcher) = matcher {
            matcher.content(content, &mut |found| note(open, matches, found));
        }
        if let Some(waf) = &mut self.waf {
            waf.content(content);
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match &event.kind {
            Kind::Field { transaction, field, value } => {
                if let (Some(waf), Field::Host, Value::Text(host)) = (&mut self.waf, field, value) {
                    waf.host(event.session, *transaction, host);
                }
                if self.policy.is_some() {
                    self.learn(event.session, event.at, *transaction, *field, *value);
                }
                self.field(event.session, *transaction, *field, *value);
            }
            Kind::Software(application) => {
                let software = &mut self.open.entry(event.session).or_default().software;
                if let Some(name) = application.name()
                    && !software.contains(&name)
                {
                    software.push(name);
                }
            }
            Kind::Threat { threat, endpoints, side } => self.threat(*threat, *endpoints, *side, event.at),
            Kind::Closed(summary) => {
                let Self { matcher, open, matches, .. } = self;
                if let Some(matcher) = matcher {
                    matcher.closed(event.session, event.at, &mut |found| note(open, matches, found));
                }
                let waf = self.waf.as_mut();
                let told =
                    waf.map(|waf| waf.closed(event.session, &summary.endpoints, &self.file, self.json));
                for line in told.into_iter().flatten() {
                    self.line(&line);
                }
                self.closed(event.session, summary);
            }
            Kind::Gap { .. } => self.count(event.session, |open| &mut open.gaps),
            Kind::Lost { .. } => self.count(event.session, |open| &mut open.lost),
            Kind::Conflict { .. } => self.count(event.session, |open| &mut open.conflicts),
            // The summary has it.
            Kind::Identified(_) | Kind::Settled => {}
        }
    }
}

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
            (&mut self.names_dropped, lines.names.dropped),
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
