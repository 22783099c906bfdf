//! A case through the rules. The server behind them is one that answers what it is asked to (`/reflect`), and else with
//! an empty page.

use std::sync::Arc;

use base64::Engine as _;
use nv_seclang::{Pattern, Peers, RuleSet, Transaction};

use super::cases::{Case, Output, Reflection};
use super::http::Request;

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    /// Why not.
    Failed(String),
    /// Why it says nothing about rules.
    Skipped(&'static str),
}

/// Plays a case: each stage is a transaction of its own.
pub(super) fn play(rules: &Arc<RuleSet>, set: &[(String, String)], case: &Case) -> Outcome {
    let mut asked = false;
    for stage in &case.stages {
        if stage.output.log.is_empty() {
            continue;
        }
        asked = true;
        let request = match Request::of(&stage.input) {
            Ok(request) => request,
            Err(error) => return Outcome::Failed(error),
        };
        let peers = Peers {
            // Of another machine: rule sets make exceptions for the server itself.
            client: "192.0.2.1",
            client_port: 50_000,
            server: stage.input.dest_addr.as_deref().unwrap_or("127.0.0.1"),
            server_port: stage.input.port.unwrap_or(80),
            unique_id: "case",
        };
        let mut transaction = Transaction::new(Arc::clone(rules), peers);
        for (name, value) in set {
            transaction.set(name, value);
        }
        run(&mut transaction, &request);
        if let Err(reason) = judge(&transaction, &stage.output) {
            return Outcome::Failed(reason);
        }
    }
    if asked {
        return Outcome::Passed;
    }
    let of_server = case.stages.iter().any(|stage| {
        let output = &stage.output;
        output.status.is_some() || output.expect_error.is_some() || output.response_contains.is_some()
    });
    Outcome::Skipped(if of_server { "asks what the web server answers" } else { "asks nothing" })
}

fn run(transaction: &mut Transaction, request: &Request) {
    transaction.request_line(&request.method, &request.target, &request.protocol);
    for (name, value) in &request.fields {
        transaction.request_header(name, value);
    }
    transaction.request_headers_end();
    transaction.request_body(&request.body);
    transaction.request_end();
    let answer = if request.target.starts_with(b"/reflect") {
        serde_json::from_slice::<Reflection>(&request.body).unwrap_or_default()
    } else {
        Reflection::default()
    };
    transaction.response_line(b"HTTP/1.1", answer.status);
    if !answer.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
        transaction.response_header(b"Content-Type", b"text/plain; charset=utf-8");
    }
    for (name, value) in &answer.headers {
        transaction.response_header(name.as_bytes(), value.as_bytes());
    }
    transaction.response_headers_end();
    let decoded = base64::engine::general_purpose::STANDARD.decode(&answer.encoded_body).unwrap_or_default();
    transaction.response_body(if decoded.is_empty() { answer.body.as_bytes() } else { &decoded });
    transaction.response_end();
    transaction.finish();
}

fn judge(transaction: &Transaction, output: &Output) -> Result<(), String> {
    let log = &output.log;
    let matched = |id: u32| transaction.matches().iter().any(|found| found.rule == id);
    if transaction.is_exhausted() {
        return Err("the budget of steps was used up".to_owned());
    }
    if let Some(id) = log.expect_ids.iter().find(|id| !matched(**id)) {
        return Err(format!("rule {id} did not match"));
    }
    if let Some(id) = log.no_expect_ids.iter().find(|id| matched(**id)) {
        return Err(format!("rule {id} matched"));
    }
    let lines = lines(transaction);
    let found = |pattern: &str| {
        Pattern::compile(pattern.as_bytes())
            .map(|pattern| lines.iter().any(|line| pattern.is_match(line.as_bytes())))
    };
    match &log.match_regex {
        Some(pattern) if !found(pattern)? => return Err(format!("no line of the log has {pattern}")),
        _ => {}
    }
    match &log.no_match_regex {
        Some(pattern) if found(pattern)? => Err(format!("a line of the log has {pattern}")),
        _ => Ok(()),
    }
}

/// Lines as ModSecurity writes them to its log.
fn lines(transaction: &Transaction) -> Vec<String> {
    let matches = transaction.matches().iter().map(|found| {
        let severity = found.severity.map(nv_seclang::Severity::name).unwrap_or_default();
        format!(
            "[id \"{}\"] [msg \"{}\"] [data \"{}\"] [severity \"{severity}\"]",
            found.rule, found.message, found.data
        )
    });
    matches.chain(transaction.body_error()).collect()
}
