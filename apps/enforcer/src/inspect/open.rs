//! What a session has told so far, folded into what its line will say.

use std::net::IpAddr;

use nv_dpi::event::{Field, Value};
use nv_dpi::key::Side;
use nv_sensor::matcher::Match;
use serde_json::{Map, Value as Json, json};

use super::verdict::Facts;

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
pub(super) struct Open {
    pub(super) fields: Map<String, Json>,
    /// By number.
    pub(super) transactions: Vec<(u32, Map<String, Json>)>,
    pub(super) more_transactions: u64,
    pub(super) software: Vec<&'static str>,
    pub(super) gaps: u64,
    pub(super) lost: u64,
    pub(super) conflicts: u64,
    /// Rules of sensors that hold, each told when the session is over.
    pub(super) matches: Vec<Held>,
    pub(super) more_matches: u64,
    /// Address of an answer whose time to live comes next.
    pub(super) answer: Option<IpAddr>,
}

/// A rule that holds for a message.
pub(super) struct Held {
    pub(super) sensor: String,
    pub(super) rule: String,
    pub(super) id: u32,
    pub(super) kind: &'static str,
    pub(super) action: &'static str,
    pub(super) context: &'static str,
    pub(super) side: Side,
    pub(super) transaction: u32,
    pub(super) at: u64,
}

impl Open {
    /// Takes a field, of the session or of a transaction.
    pub(super) fn field(&mut self, transaction: u32, field: Field, value: Value<'_>) {
        let place = if field.of_transaction() {
            let known = self.transactions.iter().rposition(|(number, _)| *number == transaction);
            let index = match known {
                Some(index) => index,
                None if self.transactions.len() < MAX_TRANSACTIONS => {
                    self.transactions.push((transaction, Map::new()));
                    self.transactions.len().saturating_sub(1)
                }
                None => {
                    self.more_transactions = self.more_transactions.saturating_add(1);
                    return;
                }
            };
            let Some((_, place)) = self.transactions.get_mut(index) else { return };
            place
        } else {
            &mut self.fields
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

    /// Takes note of a rule that holds.
    pub(super) fn note(&mut self, found: &Match<'_>) {
        if self.matches.len() >= MAX_MATCHES {
            self.more_matches = self.more_matches.saturating_add(1);
            return;
        }
        self.matches.push(Held {
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
}

/// What a session has told that its verdict depends on.
pub(super) fn facts<'a>(
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
    let mut hosts: Vec<String> = hosts.iter().filter_map(|host| nv_policy::names::host(host)).collect();
    hosts.sort();
    hosts.dedup();
    Facts { software, hosts, forwarded }
}
