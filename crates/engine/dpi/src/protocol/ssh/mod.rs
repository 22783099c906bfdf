//! SSH's identification (RFC 4253 §4.2): one line each way; all that follows is encrypted or leads to it.

#[cfg(test)]
pub(crate) mod samples;

use crate::event::Field;
use crate::key::Side;
use crate::protocol::{Context, Probe, Step, read};
use crate::threat::Threat;

/// Longest identification, in bytes; the standard has 255.
const MAX_LINE_BYTES: usize = 1024;

pub(crate) fn probe(input: &[u8]) -> Probe {
    match Probe::starts(input, b"SSH-") {
        Probe::Yes => input.get(4).map_or(Probe::Maybe, |version| Probe::when(version.is_ascii_digit())),
        other => other,
    }
}

/// Reads the line.
pub(crate) fn step(context: &mut Context<'_>, input: &[u8]) -> Step {
    let (line, _) = match read::line(input, MAX_LINE_BYTES) {
        Ok((line, taken)) => (line.trim_ascii_end(), taken),
        Err(step) => return step,
    };
    let Some(rest) = line.strip_prefix(b"SSH-") else { return Step::Done };
    let mut words = rest.splitn(2, |byte| *byte == b'-');
    let version = words.next().unwrap_or_default();
    let (is_client, field) = match context.side {
        Side::Client => (true, Field::ClientSoftware),
        Side::Server => (false, Field::ServerSoftware),
    };
    if let Some(software) = words.next() {
        context.text(field, 0, software);
    }
    if !is_client {
        context.text(Field::Version, 0, version);
    }
    // 1.99 is a server that speaks 2.0, too (RFC 4253 §5.1).
    if version.starts_with(b"1.") && version != b"1.99" {
        context.threat(Threat::SshVersion1);
    }
    Step::Done
}
