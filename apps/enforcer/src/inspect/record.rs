//! Events folded into a line a session and a line a threat.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use nv_dpi::content::Content;
use nv_dpi::event::{Event, Field, Kind, SessionId, Sink, Summary, Value};
use nv_dpi::key::{Endpoints, Side};
use nv_dpi::threat::Threat;
use nv_policy::names::{self, Names};
use nv_sensor::matcher::{Match, Matcher};
use serde_json::{Value as Json, json};

use super::open::{Held, Open, facts};
use super::policy::{Action, Policy};
use super::verdict;
use super::waf::Waf;

/// Writes lines as sessions end and threats come.
pub(crate) struct Lines<'o> {
    file: String,
    json: bool,
    out: &'o mut dyn Write,
    open: HashMap<SessionId, Open>,
    matcher: Option<Matcher>,
    policy: Option<&'o Policy>,
    pub(super) names: Names,
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
    pub(super) allowed: u64,
    pub(super) denied: u64,
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

    /// Takes the names of addresses out of answers of the DNS.
    fn learn(&mut self, session: SessionId, at: u64, transaction: u32, field: Field, value: Value<'_>) {
        let Some(open) = self.open.get_mut(&session) else { return };
        match (field, value) {
            (Field::Answer, Value::Address(address)) => open.answer = Some(address),
            (Field::AnswerTtl, Value::Number(seconds)) => {
                let asked = open.transactions.iter().rev().find(|(number, _)| *number == transaction);
                let name =
                    asked.and_then(|(_, fields)| fields.get(Field::Query.name())).and_then(Json::as_str);
                if let (Some(address), Some(name)) = (open.answer.take(), name.and_then(names::host)) {
                    self.names.learn(&name, address, at, seconds, true);
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

/// Takes note of a rule that holds.
fn note(open: &mut HashMap<SessionId, Open>, count: &mut u64, found: &Match<'_>) {
    *count = count.saturating_add(1);
    open.entry(found.session).or_default().note(found);
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
                self.open.entry(event.session).or_default().field(*transaction, *field, *value);
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
