//! Syslog (RFC 5424 §6, RFC 3164 §4.1): a priority in brackets, then version 1 or the name of a month.

use crate::protocol::Probe;

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Reads the beginning of a message.
pub(crate) fn probe(input: &[u8]) -> Probe {
    let Some((first, rest)) = input.split_first() else { return Probe::Maybe };
    if *first != b'<' {
        return Probe::No;
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let priority = rest
        .iter()
        .take(digits)
        .fold(0_u32, |value, digit| value.saturating_mul(10).saturating_add(u32::from(digit & 0x0F)));
    // Facilities up to 23, severities up to 7.
    if digits > 3 || priority > 191 {
        return Probe::No;
    }
    match rest.get(digits..).and_then(<[u8]>::split_first) {
        None => Probe::Maybe,
        Some((b'>', after)) if digits > 0 => {
            let starts = MONTHS.iter().map(|month| Probe::starts(after, month));
            starts.chain([Probe::starts(after, b"1 ")]).find(|probe| *probe != Probe::No).unwrap_or(Probe::No)
        }
        Some(_) => Probe::No,
    }
}
