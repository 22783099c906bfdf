//! SMB (MS-SMB2 §2.2.1, MS-CIFS §2.2.3.1) behind the header of its session service (RFC 1002 §4.3.1).

use crate::event::Field;
use crate::protocol::{Context, Ports, Probe};

/// Bytes of a message up to the first of its mark, which tells the version.
pub(crate) const MARK_BYTES: usize = 5;

/// A message, or a session request on the old port.
pub(crate) fn probe(input: &[u8], ports: Ports) -> Probe {
    match input {
        [0, 0 | 1, _, _, mark @ ..] => [&b"\xFFSMB"[..], b"\xFESMB", b"\xFDSMB"]
            .iter()
            .map(|magic| Probe::starts(mark, magic))
            .find(|probe| *probe != Probe::No)
            .unwrap_or(Probe::No),
        [0x81, 0, 0, 68..=72, 32, ..] => Probe::when(ports.server == 139),
        [] | [0] | [0, 0 | 1] | [0, 0 | 1, _] => Probe::Maybe,
        [0x81, ..] if input.len() < 5 => Probe::Maybe,
        _ => Probe::No,
    }
}

/// Tells whether it is version 1 or one after it.
pub(crate) fn first(context: &mut Context<'_>, input: &[u8]) {
    match input.get(4) {
        Some(0xFF) => context.text(Field::Version, 0, b"1"),
        Some(0xFE | 0xFD) => context.text(Field::Version, 0, b"2"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::event::Field;
    use crate::key::Side::{Client, Server};
    use crate::tests::conversation::{flight, talk};

    #[test]
    fn the_version_is_told_wherever_the_first_message_of_a_direction_is_cut() {
        const MESSAGE: &[u8] = b"\x00\x00\x00\x20\xFFSMBr\x00\x00\x00\x00\x18\x53\xC8";
        for cut in 1..MESSAGE.len() {
            let (first, rest) = MESSAGE.split_at(cut);
            let told = talk(445, &flight([(Server, MESSAGE), (Client, first), (Client, rest)]));
            assert_eq!(told.values(Field::Version), ["1", "1"], "{cut}");
        }
    }
}
