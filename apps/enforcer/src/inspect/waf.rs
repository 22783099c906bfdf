//! WAF rules on what captures say: each request with its answer is a transaction of the rule engine.

use std::collections::HashMap;
use std::sync::Arc;

use nv_dpi::content::{Content, Part};
use nv_dpi::event::SessionId;
use nv_dpi::key::{Endpoints, Side};
use nv_seclang::{RuleSet, Transaction};
use nv_sensor::rule_set::exchange::Exchange;
use serde_json::json;

/// Transactions at once; of more nothing is looked at.
const MAX_OPEN: usize = 4096;

/// Transactions of a session with matches that are told.
const MAX_TOLD: usize = 1000;

/// Rules, and the transactions on their way.
pub(crate) struct Waf {
    rules: Arc<RuleSet>,
    set: Vec<(String, String)>,
    open: HashMap<(SessionId, u32), Exchange>,
    /// A host that was named before its request began.
    host: Option<((SessionId, u32), Vec<u8>)>,
    told: HashMap<SessionId, Vec<(u32, Exchange)>>,
    /// Rules that matched.
    pub(crate) matches: u64,
    /// Transactions that found no place.
    pub(crate) refused: u64,
}

impl Waf {
    pub(crate) fn new(rules: Arc<RuleSet>, set: &[(String, String)]) -> Self {
        Self {
            rules,
            set: set.to_vec(),
            open: HashMap::new(),
            host: None,
            told: HashMap::new(),
            matches: 0,
            refused: 0,
        }
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
            self.begin(key, &content.endpoints);
        }
        let Some(exchange) = self.open.get_mut(&key) else { return };
        match content.side {
            Side::Client => exchange.request(content.part),
            Side::Server => exchange.answer(content.part),
        }
        if exchange.is_over()
            && let Some(exchange) = self.open.remove(&key)
        {
            self.over(key, exchange);
        }
    }

    /// Begins a transaction, if there is a place for it.
    fn begin(&mut self, key: (SessionId, u32), ends: &Endpoints) {
        if self.open.contains_key(&key) {
            return;
        }
        if self.open.len() >= MAX_OPEN {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let mut exchange = Exchange::new(Arc::clone(&self.rules), ends, &self.set);
        if let Some((_, host)) = self.host.take().filter(|(of, _)| *of == key) {
            exchange.host(&host);
        }
        self.open.insert(key, exchange);
    }

    /// Takes the host that a request names. HTTP/2 says it beside the header and before it.
    pub(crate) fn host(&mut self, session: SessionId, number: u32, host: &[u8]) {
        let key = (session, number);
        match self.open.get_mut(&key) {
            Some(exchange) => exchange.host(host),
            None => self.host = Some((key, host.to_vec())),
        }
    }

    fn over(&mut self, (session, number): (SessionId, u32), mut exchange: Exchange) {
        exchange.finish();
        let count = u64::try_from(exchange.transaction().matches().len()).unwrap_or(u64::MAX);
        self.matches = self.matches.saturating_add(count);
        let told = self.told.entry(session).or_default();
        if count > 0 && told.len() < MAX_TOLD {
            told.push((number, exchange));
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
        told.iter()
            .map(|(number, exchange)| line(*number, exchange.transaction(), ends, file, as_json))
            .collect()
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
