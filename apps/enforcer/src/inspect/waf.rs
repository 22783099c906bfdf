//! WAF rules on what captures say: each request with its answer is a transaction of the rule engine.

use std::collections::HashMap;
use std::sync::Arc;

use nv_dpi::content::{Content, Part};
use nv_dpi::event::SessionId;
use nv_dpi::key::{Endpoints, Side};
use nv_seclang::{Peers, RuleSet, Transaction};
use serde_json::json;

/// Transactions at once; of more nothing is looked at.
const MAX_OPEN: usize = 4096;

/// Transactions of a session with matches that are told.
const MAX_TOLD: usize = 1000;

/// Bytes of a line that is put together.
const MAX_LINE: usize = 64 * 1024;

/// Rules, and the transactions on their way.
pub(crate) struct Waf {
    rules: Arc<RuleSet>,
    set: Vec<(String, String)>,
    open: HashMap<(SessionId, u32), Exchange>,
    told: HashMap<SessionId, Vec<(u32, Transaction)>>,
    /// Rules that matched.
    pub(crate) matches: u64,
    /// Transactions that found no place.
    pub(crate) refused: u64,
}

/// How far a message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Line,
    Headers,
    Body,
    Over,
}

/// A request and its answer.
struct Exchange {
    transaction: Transaction,
    request: Place,
    answer: Place,
    /// What of a line is there, of each side.
    lines: [Vec<u8>; 2],
}

impl Waf {
    pub(crate) fn new(rules: Arc<RuleSet>, set: &[(String, String)]) -> Self {
        Self { rules, set: set.to_vec(), open: HashMap::new(), told: HashMap::new(), matches: 0, refused: 0 }
    }

    /// Takes a piece of a message.
    pub(crate) fn content(&mut self, content: &Content<'_>) {
        let key = (content.session, content.transaction);
        if matches!(content.part, Part::Packet(_)) {
            return;
        }
        // An answer alone says nothing of the request that rules ask about.
        let begins = content.side == Side::Client && !matches!(content.part, Part::End | Part::Hole);
        if begins {
            self.begin(key);
        }
        let Some(exchange) = self.open.get_mut(&key) else { return };
        match content.side {
            Side::Client => exchange.request(content.part),
            Side::Server => exchange.answer(content.part),
        }
        if exchange.answer == Place::Over
            && let Some(exchange) = self.open.remove(&key)
        {
            self.over(key, exchange);
        }
    }

    /// Begins a transaction, if there is a place for it.
    fn begin(&mut self, key: (SessionId, u32)) {
        if self.open.contains_key(&key) {
            return;
        }
        if self.open.len() >= MAX_OPEN {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        // Who speaks is known to the engine only at the session's end; no rule of the traffic itself asks for it.
        let mut transaction = Transaction::new(Arc::clone(&self.rules), Peers::default());
        for (name, value) in &self.set {
            transaction.set(name, value);
        }
        let lines = [Vec::new(), Vec::new()];
        self.open.insert(key, Exchange { transaction, request: Place::Line, answer: Place::Line, lines });
    }

    /// Takes the host that a request names. HTTP/2 says it beside the header, where rules look for it in the header.
    pub(crate) fn host(&mut self, session: SessionId, number: u32, host: &[u8]) {
        self.begin((session, number));
        let Some(exchange) = self.open.get_mut(&(session, number)) else { return };
        let [line, _] = &exchange.lines;
        // HTTP/1 has told its line by now, and brings the host as a header line.
        let is_http1 = line.windows(6).any(|text| text == b" HTTP/") || exchange.request != Place::Line;
        if !is_http1 {
            exchange.transaction.request_header(b"host", host);
        }
    }

    fn over(&mut self, (session, number): (SessionId, u32), mut exchange: Exchange) {
        exchange.answer(Part::End);
        exchange.transaction.finish();
        let count = u64::try_from(exchange.transaction.matches().len()).unwrap_or(u64::MAX);
        self.matches = self.matches.saturating_add(count);
        let told = self.told.entry(session).or_default();
        if count > 0 && told.len() < MAX_TOLD {
            told.push((number, exchange.transaction));
        }
    }

    /// A session is over: its lines, one a transaction in which a rule matched.
    pub(crate) fn closed(
        &mut self,
        session: SessionId,
        ends: &Endpoints,
        file: &str,
        as_json: bool,
    ) -> Vec<String> {
        let mut left: Vec<_> = self.open.keys().filter(|(known, _)| *known == session).copied().collect();
        left.sort_unstable();
        for key in left {
            if let Some(exchange) = self.open.remove(&key) {
                self.over(key, exchange);
            }
        }
        let told = self.told.remove(&session).unwrap_or_default();
        told.iter().map(|(number, transaction)| line(*number, transaction, ends, file, as_json)).collect()
    }
}

fn line(number: u32, transaction: &Transaction, ends: &Endpoints, file: &str, as_json: bool) -> String {
    let anomaly = transaction.anomaly();
    let denied = transaction.decision().map(|decision| decision.rule);
    if !as_json {
        let ids: Vec<String> = transaction.matches().iter().map(|found| found.rule.to_string()).collect();
        let verdict = denied.map_or_else(|| "passes".to_owned(), |rule| format!("denied by {rule}"));
        return format!(
            "waf     {verdict}, score {}+{} ({}) {}:{} → {}:{}",
            anomaly.inbound,
            anomaly.outbound,
            ids.join(" "),
            ends.client.address,
            ends.client.port,
            ends.server.address,
            ends.server.port
        );
    }
    let rules: Vec<_> = transaction
        .matches()
        .iter()
        .map(|found| {
            json!({
                "rule": found.rule,
                "message": found.message,
                "data": found.data,
                "severity": found.severity.map(nv_seclang::Severity::name),
                "variable": found.variable,
                "phase": found.phase,
            })
        })
        .collect();
    json!({
        "file": file,
        "waf": rules,
        "denied_by": denied,
        "anomaly": { "inbound": anomaly.inbound, "outbound": anomaly.outbound },
        "exhausted": transaction.is_exhausted(),
        "transaction": number,
        "proto": ends.transport.name(),
        "client": ends.client.address,
        "server": ends.server.address,
        "client_port": ends.client.port,
        "server_port": ends.server.port,
    })
    .to_string()
}

impl Exchange {
    fn request(&mut self, part: Part<'_>) {
        let [line, _] = &mut self.lines;
        match part {
            Part::Url(bytes) if self.request == Place::Line => keep(line, bytes),
            Part::Header(bytes) if self.request <= Place::Headers => {
                if self.request == Place::Line {
                    request_line(&mut self.transaction, &std::mem::take(line));
                    self.request = Place::Headers;
                }
                keep(line, bytes);
                if let Some((name, value)) = field(line) {
                    self.transaction.request_header(name, value);
                    line.clear();
                }
            }
            Part::Body(_, bytes) => {
                self.end_request_headers();
                self.transaction.request_body(bytes);
            }
            Part::End if self.request != Place::Over => {
                self.end_request_headers();
                self.transaction.request_end();
                self.request = Place::Over;
            }
            Part::Url(_) | Part::Header(_) | Part::Packet(_) | Part::Hole | Part::End => {}
        }
    }

    fn end_request_headers(&mut self) {
        let [line, _] = &mut self.lines;
        if self.request == Place::Line {
            request_line(&mut self.transaction, &std::mem::take(line));
        }
        if self.request < Place::Body {
            self.transaction.request_headers_end();
            self.request = Place::Body;
        }
    }

    fn answer(&mut self, part: Part<'_>) {
        // Who answers has read as much of the request as it wants to.
        if self.answer == Place::Line {
            self.request(Part::End);
        }
        let [_, line] = &mut self.lines;
        match part {
            Part::Url(bytes) if self.answer == Place::Line => keep(line, bytes),
            Part::Header(bytes) if self.answer <= Place::Headers => {
                if self.answer == Place::Line {
                    status_line(&mut self.transaction, &std::mem::take(line));
                    self.answer = Place::Headers;
                }
                keep(line, bytes);
                if let Some((name, value)) = field(line) {
                    self.transaction.response_header(name, value);
                    line.clear();
                }
            }
            Part::Body(_, bytes) => {
                self.end_answer_headers();
                self.transaction.response_body(bytes);
            }
            Part::End if self.answer != Place::Over => {
                self.end_answer_headers();
                self.transaction.response_end();
                self.answer = Place::Over;
            }
            Part::Url(_) | Part::Header(_) | Part::Packet(_) | Part::Hole | Part::End => {}
        }
    }

    fn end_answer_headers(&mut self) {
        let [_, line] = &mut self.lines;
        if self.answer == Place::Line {
            status_line(&mut self.transaction, &std::mem::take(line));
        }
        if self.answer < Place::Body {
            self.transaction.response_headers_end();
            self.answer = Place::Body;
        }
    }
}

/// Adds to a line while there is room.
fn keep(line: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_LINE.saturating_sub(line.len()).min(bytes.len());
    line.extend_from_slice(bytes.get(..room).unwrap_or_default());
}

/// Name and value of a header line, once it is whole.
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\n")?;
    let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let (name, value) = line.split_at_checked(at)?;
    Some((name, value.get(1..).unwrap_or_default().trim_ascii()))
}

/// `GET /path HTTP/1.1`; of HTTP/2 there is no version.
fn request_line(transaction: &mut Transaction, line: &[u8]) {
    let line = line.trim_ascii();
    let (method, rest) = cut(line, line.iter().position(|byte| *byte == b' '));
    let version = rest.iter().rposition(|byte| *byte == b' ');
    match version.filter(|at| rest.get(at.saturating_add(1)..).is_some_and(|text| text.starts_with(b"HTTP/")))
    {
        Some(at) => {
            let (target, version) = cut(rest, Some(at));
            transaction.request_line(method, target, version);
        }
        None => transaction.request_line(method, rest, b"HTTP/2.0"),
    }
}

/// `HTTP/1.1 200 OK`; of HTTP/2 nothing is known of it.
fn status_line(transaction: &mut Transaction, line: &[u8]) {
    let mut parts = line.trim_ascii().split(|byte| *byte == b' ');
    let version = parts.next().filter(|version| !version.is_empty()).unwrap_or(b"HTTP/2.0");
    let status = parts.next().and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    transaction.response_line(version, status.unwrap_or(200));
}

/// What is before and behind one byte.
fn cut(text: &[u8], at: Option<usize>) -> (&[u8], &[u8]) {
    let (before, behind) = text.split_at_checked(at.unwrap_or(text.len())).unwrap_or_default();
    (before, behind.get(1..).unwrap_or_default())
}
