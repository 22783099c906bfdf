//! Attacks in what a request says, after decoding.

use crate::attack::{MAX_FIELD_BYTES, decode, lookup, script, sql};
use crate::protocol::Context;
use crate::threat::Threat;

/// Parameters of a query that are looked at.
const MAX_PARAMETERS: usize = 256;

/// Looks at the target: each parameter for SQL and scripts, the whole for expressions. Each attack is told once.
pub(super) fn target(context: &mut Context<'_>, target: &[u8]) {
    // A target of letters, digits and slashes has nothing to decode and nothing to run.
    if !target.iter().any(|byte| !byte.is_ascii_alphanumeric() && !b"/._-?=&:".contains(byte)) {
        return;
    }
    let mut text = std::mem::take(context.scratch);
    let target = target.get(..MAX_FIELD_BYTES.min(target.len())).unwrap_or(target);
    expressions(context, target, &mut text);
    let query =
        memchr::memchr(b'?', target).and_then(|at| target.get(at.saturating_add(1)..)).unwrap_or_default();
    let (mut injected, mut scripted) = (false, false);
    for parameter in query.split(|byte| *byte == b'&').take(MAX_PARAMETERS) {
        let value = memchr::memchr(b'=', parameter)
            .map_or(parameter, |at| parameter.get(at.saturating_add(1)..).unwrap_or_default());
        text.clear();
        text.extend_from_slice(value);
        decode::decode(&mut text, true);
        injected |= sql::is_injection(&text);
        scripted |= script::runs_script(&text);
    }
    if injected {
        context.threat(Threat::SqlInjection);
    }
    if scripted {
        context.threat(Threat::CrossSiteScripting);
    }
    *context.scratch = text;
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
