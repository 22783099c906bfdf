//! Whether a stream is HTTP, RTSP or SIP.

use super::parse;
use crate::key::Side;
use crate::protocol::{Probe, Step, read};

/// Methods that are seen often (IANA HTTP method registry, RFC 2326 §10, RFC 3261 §7.1).
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PROPFIND ",
    b"REPORT ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"SEARCH ",
    b"NOTIFY ",
    b"SUBSCRIBE ",
    b"DESCRIBE ",
    b"SETUP ",
    b"PLAY ",
    b"ANNOUNCE ",
    b"REGISTER ",
    b"INVITE ",
    b"M-SEARCH ",
];

/// Reads the first line as far as it is there.
pub(crate) fn probe(side: Side, input: &[u8]) -> Probe {
    let versions = [&b"HTTP/1."[..], b"RTSP/1.", b"SIP/2.0 "];
    let answer = versions.iter().map(|version| Probe::starts(input, version)).fold(Probe::No, stronger);
    if side == Side::Server || answer != Probe::No {
        return answer;
    }
    let method = METHODS.iter().map(|method| Probe::starts(input, method)).fold(Probe::No, stronger);
    if method == Probe::Yes {
        let target =
            input.iter().position(|byte| *byte == b' ').and_then(|space| input.get(space.saturating_add(1)));
        return match target {
            None => Probe::Maybe,
            // A path, a URL, a name, an address in brackets, the server as a whole; what scanners send; more spaces.
            Some(first) => Probe::when(first.is_ascii_alphanumeric() || b"/*[%. ".contains(first)),
        };
    }
    // Any other word needs the whole line.
    let word = input.iter().position(|byte| !parse::is_token(*byte)).unwrap_or(input.len());
    match input.get(word) {
        _ if word > 20 || (word == 0 && !input.is_empty()) => Probe::No,
        None => Probe::Maybe,
        Some(b' ') => match read::line(input, 1000) {
            Ok((line, _)) => Probe::when(
                is_text(line) && matches!(parse::start_line(line), Some(parse::Start::Request { .. })),
            ),
            Err(Step::More(_)) if is_text(input) => Probe::Maybe,
            Err(_) => Probe::No,
        },
        Some(_) => Probe::No,
    }
}

/// Asked of a whole line as of its beginning, so that both have the same answer.
fn is_text(line: &[u8]) -> bool {
    line.iter().all(|byte| *byte >= b' ' || matches!(byte, b'\r' | b'\t'))
}

fn stronger(a: Probe, b: Probe) -> Probe {
    match (a, b) {
        (Probe::Yes, _) | (_, Probe::Yes) => Probe::Yes,
        (Probe::Maybe, _) | (_, Probe::Maybe) => Probe::Maybe,
        (Probe::No, Probe::No) => Probe::No,
    }
}

/// Whether a datagram is a message of SIP.
pub(crate) fn probe_sip(side: Side, input: &[u8]) -> Probe {
    let Ok((line, _)) = read::line(input, 1000) else { return Probe::No };
    match (parse::start_line(line), side) {
        (Some(parse::Start::Request { version, .. }), Side::Client)
        | (Some(parse::Start::Answer { version, .. }), Side::Server) => {
            Probe::when(version.starts_with(b"SIP/"))
        }
        _ => Probe::No,
    }
}
