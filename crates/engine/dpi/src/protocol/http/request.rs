//! Attacks in what a request says, after decoding.

use crate::attack::{MAX_FIELD_BYTES, decode, lookup, script, sql};
use crate::protocol::Context;
use crate::threat::Threat;

/// Parameters of a query that are looked at.
const MAX_PARAMETERS: usize = 256;

/// What a request's body is made of, as far as it is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Names and values, encoded as in a query.
    Form,
    /// JSON, XML or text.
    Text,
}

impl Body {
    /// By a Content-Type.
    pub(super) fn of(content_type: &[u8]) -> Option<Self> {
        let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let ends = |word: &[u8]| {
            kind.len() >= word.len()
                && kind
                    .get(kind.len().saturating_sub(word.len())..)
                    .is_some_and(|end| end.eq_ignore_ascii_case(word))
        };
        if ends(b"/x-www-form-urlencoded") {
            Some(Self::Form)
        } else if ends(b"json") || ends(b"xml") || ends(b"/plain") {
            Some(Self::Text)
        } else {
            None
        }
    }
}

/// Looks at the target: each parameter for SQL and scripts, the whole for expressions. Each attack is told once.
pub(super) fn target(context: &mut Context<'_>, target: &[u8]) {
    // A target of letters, digits and slashes has nothing to decode and nothing to run.
    if !target.iter().any(|byte| !byte.is_ascii_alphanumeric() && !b"/._-?=&:".contains(byte)) {
        return;
    }
    let query =
        memchr::memchr(b'?', target).and_then(|at| target.get(at.saturating_add(1)..)).unwrap_or_default();
    let mut text = std::mem::take(context.scratch);
    expressions(context, target, &mut text);
    parameters(context, query, &mut text);
    *context.scratch = text;
}

/// Looks at the first bytes of a body.
pub(super) fn body(context: &mut Context<'_>, kind: Body, bytes: &[u8]) {
    let mut text = std::mem::take(context.scratch);
    expressions(context, bytes, &mut text);
    if kind == Body::Form {
        parameters(context, bytes, &mut text);
    }
    *context.scratch = text;
}

fn parameters(context: &mut Context<'_>, query: &[u8], text: &mut Vec<u8>) {
    let (mut injected, mut scripted) = (false, false);
    for parameter in query.split(|byte| *byte == b'&').take(MAX_PARAMETERS) {
        let value = memchr::memchr(b'=', parameter)
            .map_or(parameter, |at| parameter.get(at.saturating_add(1)..).unwrap_or_default());
        text.clear();
        text.extend_from_slice(value.get(..MAX_FIELD_BYTES.min(value.len())).unwrap_or(value));
        decode::decode(text, true);
        injected |= sql::is_injection(text);
        scripted |= script::runs_script(text);
    }
    if injected {
        context.threat(Threat::SqlInjection);
    }
    if scripted {
        context.threat(Threat::CrossSiteScripting);
    }
}

/// Looks at a header's value.
pub(super) fn header(context: &mut Context<'_>, name: &[u8], value: &[u8]) {
    if memchr::memchr2(b'$', b'%', value).is_some() {
        let mut text = std::mem::take(context.scratch);
        expressions(context, value, &mut text);
        *context.scratch = text;
    }
    if name.eq_ignore_ascii_case(b"authorization")
        && value.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case(b"basic "))
    {
        context.threat(Threat::CleartextCredentials);
    }
}

/// Expressions that a server would evaluate, in a text that may be encoded.
fn expressions(context: &mut Context<'_>, value: &[u8], text: &mut Vec<u8>) {
    text.clear();
    text.extend_from_slice(value.get(..MAX_FIELD_BYTES.min(value.len())).unwrap_or(value));
    decode::decode(text, false);
    if memchr::memchr(b'{', text).is_none() {
        return;
    }
    if lookup::has_ognl(text) {
        context.threat(Threat::ApacheStruts);
    }
    if lookup::asks_jndi(text) {
        context.threat(Threat::Log4Shell);
    }
}
