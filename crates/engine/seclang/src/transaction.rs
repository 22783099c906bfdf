//! One request and its response, phase by phase.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::action::{AllowScope, Severity};
use crate::body;
use crate::control::{Engine, Processor};
use crate::ruleset::RuleSet;
use crate::store::Store;
use crate::transform::Transform;
use crate::variable::{List, Scalar, Target};
use crate::views::Views;

/// Matches that are kept.
pub(crate) const MAX_MATCHES: usize = 1000;

/// A rule that matched and is to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Its id.
    pub rule: u32,
    /// The phase that it matched in, 1 to 5.
    pub phase: u8,
    /// Its message, macros filled in.
    pub message: String,
    /// Its message with no more of the traffic in it than numbers of few digits, as scores are.
    pub title: String,
    /// What it says about the match (`logdata`), macros filled in.
    pub data: String,
    /// How grave it is.
    pub severity: Option<Severity>,
    /// Its tags.
    pub tags: Vec<Box<str>>,
    /// What it matched in last: `ARGS:name`.
    pub variable: String,
}

/// What becomes of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is answered with a status.
    Deny {
        /// Of the answer.
        status: u16,
    },
    /// The connection is closed.
    Drop,
    /// It is sent elsewhere.
    Redirect {
        /// Of the answer.
        status: u16,
        /// Where to.
        to: String,
    },
}

/// The decision of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rule.
    pub rule: u32,
    /// Its phase.
    pub phase: u8,
    /// What becomes of the transaction.
    pub action: Action,
    /// False when the engine only detects: then the transaction goes on.
    pub enforced: bool,
}

/// Sums of the severities that the Core Rule Set gives what it matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anomaly {
    /// Of the request.
    pub inbound: i64,
    /// Of the response.
    pub outbound: i64,
}

/// Who speaks to whom; what is not known is empty or 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peers<'p> {
    /// Address of the client, as text.
    pub client: &'p str,
    /// Its port.
    pub client_port: u16,
    /// Address of the server, as text.
    pub server: &'p str,
    /// Its port.
    pub server_port: u16,
    /// A name for the transaction that no other has.
    pub unique_id: &'p str,
}

/// A request and its response. Calls come in the order of the wire; each phase runs at its `…_end`. After a decision
/// that is enforced only [`finish`](Self::finish) does something.
#[derive(Debug)]
pub struct Transaction {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) store: Store,
    pub(crate) views: Views,
    pub(crate) engine: Engine,
    /// Rules that were taken out meanwhile; empty while there are none.
    pub(crate) removed: Vec<bool>,
    pub(crate) removed_targets: HashMap<usize, Vec<Target>, foldhash::fast::RandomState>,
    pub(crate) matches: Vec<Match>,
    pub(crate) dropped_matches: u64,
    pub(crate) decision: Option<Decision>,
    pub(crate) allowed: Option<AllowScope>,
    pub(crate) steps: u64,
    pub(crate) exhausted: bool,
    pub(crate) processor: Option<Processor>,
    pub(crate) force_body: bool,
    pub(crate) request_body: bool,
    pub(crate) response_body: bool,
    body: Vec<u8>,
    body_bytes: usize,
}

impl Transaction {
    /// Begins a transaction.
    pub fn new(rules: Arc<RuleSet>, peers: Peers<'_>) -> Self {
        let settings = rules.settings().clone();
        let mut store = Store::new();
        store.put(Scalar::RemoteAddr, peers.client.as_bytes());
        store.put(Scalar::RemotePort, peers.client_port.to_string().as_bytes());
        store.put(Scalar::ServerAddr, peers.server.as_bytes());
        store.put(Scalar::ServerPort, peers.server_port.to_string().as_bytes());
        store.put(Scalar::UniqueId, peers.unique_id.as_bytes());
        for zero in [
            Scalar::ReqbodyError,
            Scalar::InboundDataError,
            Scalar::OutboundDataError,
            Scalar::MultipartStrictError,
            Scalar::MultipartUnmatchedBoundary,
            Scalar::RequestBodyLength,
            Scalar::ArgsCombinedSize,
            Scalar::FilesCombinedSize,
        ] {
            store.put(zero, b"0");
        }
        store.put(Scalar::HighestSeverity, b"255");
        Self {
            rules,
            store,
            views: Views::within(settings.view_bytes),
            engine: settings.engine,
            removed: Vec::new(),
            removed_targets: HashMap::default(),
            matches: Vec::new(),
            dropped_matches: 0,
            decision: None,
            allowed: None,
            steps: settings.steps,
            exhausted: false,
            processor: None,
            force_body: false,
            request_body: settings.request_body,
            response_body: settings.response_body,
            body: Vec::new(),
            body_bytes: 0,
        }
    }

    /// Sets a variable of `TX` before the first rule runs: what a deployment says about the rules, such as
    /// `blocking_paranoia_level`.
    pub fn set(&mut self, name: &str, value: &str) {
        self.store.set(List::Tx, name.as_bytes(), value.as_bytes().to_vec());
    }

    /// The request line, in its parts (RFC 9112 §3).
    pub fn request_line(&mut self, method: &[u8], target: &[u8], protocol: &[u8]) {
        let line = [method, target, protocol]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(&b' ');
        self.store.put(Scalar::RequestLine, &line);
        self.store.put(Scalar::RequestMethod, method);
        // A request line of two parts is HTTP/0.9 (RFC 1945 §5).
        let protocol = if protocol.is_empty() { b"HTTP/0.9" } else { protocol };
        self.store.put(Scalar::RequestProtocol, protocol);
        self.store.put(Scalar::RequestUriRaw, target);
        let local = local_part(target);
        self.store.put(Scalar::RequestUri, local);
        let end = memchr::memchr(b'#', local).unwrap_or(local.len());
        let local = local.get(..end).unwrap_or_default();
        let (path, query) =
            local.split_at_checked(memchr::memchr(b'?', local).unwrap_or(local.len())).unwrap_or_default();
        let query = query.get(1..).unwrap_or_default();
        let path = percent_decoded(path);
        self.store.put(Scalar::RequestFilename, &path);
        let name =
            path.iter().rposition(|byte| matches!(byte, b'/' | b'\\')).map_or(0, |at| at.saturating_add(1));
        self.store.put(Scalar::RequestBasename, path.get(name..).unwrap_or_default());
        self.store.put(Scalar::QueryString, query);
        if let Err(error) = body::query(&mut self.store, query) {
            self.body_failed(&error);
        }
    }

    /// A field of the request's header.
    pub fn request_header(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"cookie") {
            body::cookies(&mut self.store, value);
        }
        if name.eq_ignore_ascii_case(b"content-type") && self.processor.is_none() {
            self.processor = body::processor_of(value);
            self.store.put(Scalar::ReqbodyProcessor, self.processor.map_or("", Processor::name).as_bytes());
        }
        self.store.push(List::RequestHeaders, name.to_vec(), value.to_vec());
    }

    /// The request's header is complete: phase 1.
    pub fn request_headers_end(&mut self) -> Option<&Decision> {
        self.sum_arguments();
        self.phase(1)
    }

    /// A piece of the request's body, transfer coding taken off.
    pub fn request_body(&mut self, bytes: &[u8]) {
        if !self.request_body {
            return;
        }
        self.body_bytes = self.body_bytes.saturating_add(bytes.len());
        let room = self.rules.settings.request_body_limit.saturating_sub(self.body.len()).min(bytes.len());
        self.body.extend_from_slice(bytes.get(..room).unwrap_or_default());
        if room < bytes.len() {
            self.store.put(Scalar::InboundDataError, b"1");
        }
    }

    /// The request is complete: phase 2.
    pub fn request_end(&mut self) -> Option<&Decision> {
        if self.is_decided() {
            return self.decision();
        }
        let body = std::mem::take(&mut self.body);
        if self.request_body && !body.is_empty() {
            self.store.put(Scalar::RequestBodyLength, self.body_bytes.to_string().as_bytes());
            let structured =
                matches!(self.processor, Some(Processor::Multipart | Processor::Xml | Processor::Json));
            if !structured || self.force_body {
                self.store.put(Scalar::RequestBody, &body);
            }
            if let Some(processor) = self.processor {
                let list = self.store.list(List::RequestHeaders).iter();
                let found = list.rev().find(|entry| entry.name.eq_ignore_ascii_case(b"content-type"));
                let kind = found.map(|entry| entry.value.clone()).unwrap_or_default();
                if let Err(error) = body::read(&mut self.store, processor, &kind, &body) {
                    self.body_failed(&error);
                }
            }
        }
        self.sum_arguments();
        self.phase(2)
    }

    fn body_failed(&mut self, error: &body::BodyError) {
        self.store.put(Scalar::ReqbodyError, b"1");
        self.store.put(Scalar::ReqbodyErrorMsg, error.to_string().as_bytes());
    }

    fn sum_arguments(&mut self) {
        let lists = [List::ArgsGet, List::ArgsPost];
        let entries = lists.iter().flat_map(|list| self.store.list(*list));
        let sum = entries
            .map(|entry| entry.name.len().saturating_add(entry.value.len()))
            .fold(0_usize, usize::saturating_add);
        self.store.put(Scalar::ArgsCombinedSize, sum.to_string().as_bytes());
    }

    /// The status line of the response.
    pub fn response_line(&mut self, protocol: &[u8], status: u16) {
        self.store.put(Scalar::ResponseProtocol, protocol);
        self.store.put(Scalar::ResponseStatus, status.to_string().as_bytes());
    }

    /// A field of the response's header.
    pub fn response_header(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"content-type") {
            self.store.put(Scalar::ResponseContentType, value);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            self.store.put(Scalar::ResponseContentLength, value);
        }
        self.store.push(List::ResponseHeaders, name.to_vec(), value.to_vec());
    }

    /// The response's header is complete: phase 3.
    pub fn response_headers_end(&mut self) -> Option<&Decision> {
        self.phase(3)
    }

    /// Whether the body of this response is looked at: not when its type is not one that rules look at.
    pub fn wants_response_body(&self) -> bool {
        let kind = self.store.scalar(Scalar::ResponseContentType);
        let media = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let types = &self.rules.settings.response_types;
        self.response_body && types.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(media))
    }

    /// A piece of the response's body, codings taken off.
    pub fn response_body(&mut self, bytes: &[u8]) {
        if self.wants_response_body() {
            let most = self.rules.settings.response_body_limit;
            if self.store.append(Scalar::ResponseBody, bytes, most) > 0 {
                self.store.put(Scalar::OutboundDataError, b"1");
            }
        }
    }

    /// The response is complete: phase 4.
    pub fn response_end(&mut self) -> Option<&Decision> {
        self.phase(4)
    }

    /// The transaction is at its end: phase 5, also after a decision.
    pub fn finish(&mut self) {
        self.allowed = None;
        self.run(5);
    }

    fn phase(&mut self, phase: u8) -> Option<&Decision> {
        if !self.is_decided() {
            self.run(phase);
        }
        self.decision()
    }

    /// Whether a decision is enforced.
    pub(crate) fn is_decided(&self) -> bool {
        self.decision.as_ref().is_some_and(|decision| decision.enforced)
    }

    /// The first decision.
    pub fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }

    /// Rules that matched and are to be logged, in the order in which they did.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// What the request's body could not be read for.
    pub fn body_error(&self) -> Option<String> {
        let text = self.store.scalar(Scalar::ReqbodyErrorMsg);
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }

    /// A variable of `TX`.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.store.variable(List::Tx, name.as_bytes())
    }

    /// The anomaly scores of the Core Rule Set.
    pub fn anomaly(&self) -> Anomaly {
        let score = |name| self.variable(name).map_or(0, crate::operator::number);
        Anomaly {
            inbound: score("blocking_inbound_anomaly_score"),
            outbound: score("blocking_outbound_anomaly_score"),
        }
    }

    /// Whether the budget of steps was used up, so that not everything was looked at.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Bytes that are held for it: the bodies, and its values as rules have seen them.
    pub fn bytes(&self) -> usize {
        let answer = self.store.scalar(Scalar::ResponseBody).len();
        self.views.held().saturating_add(self.body.len()).saturating_add(answer)
    }

    /// Steps that are left of the budget.
    pub fn steps_left(&self) -> u64 {
        self.steps
    }

    /// Values and matches that found no place.
    pub fn dropped(&self) -> u64 {
        self.store.dropped.saturating_add(self.dropped_matches)
    }
}

/// A path as servers look files up by it: escapes resolved, plus signs as they are.
fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for (at, part) in path.split(|byte| *byte == b'+').enumerate() {
        if at > 0 {
            out.push(b'+');
        }
        Transform::UrlDecode.apply(part, &mut out);
    }
    out
}

/// A request target without scheme and authority (RFC 9112 §3.2.2).
fn local_part(target: &[u8]) -> &[u8] {
    let Some(at) = memchr::memmem::find(target, b"://") else { return target };
    let scheme = target.get(..at).unwrap_or_default();
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return target;
    }
    let rest = target.get(at.saturating_add(3)..).unwrap_or_default();
    let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    path.and_then(|path| rest.get(path..)).unwrap_or(b"/")
}
