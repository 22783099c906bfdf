//! Percent encoding (RFC 3986 §2.1) in the form of HTML forms, with the `%uHHHH` that some servers take.

use super::{hex_pair, narrow};

/// `%HH` and plus signs; what is no valid escape stays.
pub(crate) fn decode(input: &[u8], out: &mut Vec<u8>) {
    any(input, out, false);
}

/// [`decode`], and `%uHHHH`.
pub(super) fn decode_uni(input: &[u8], out: &mut Vec<u8>) {
    any(input, out, true);
}

fn any(input: &[u8], out: &mut Vec<u8>, unicode: bool) {
    let mut rest = input;
    // Each turn takes at least one byte.
    while let Some((first, after)) = rest.split_first() {
        let (byte, behind) = match (first, after) {
            (b'+', _) => (b' ', after),
            (b'%', [b'u' | b'U', digits @ ..]) if unicode => {
                match (hex_pair(digits), digits.get(2..).and_then(hex_pair)) {
                    (Some(high), Some(low)) => (narrow(high, low), digits.get(4..).unwrap_or_default()),
                    _ => (b'%', after),
                }
            }
            (b'%', _) => match hex_pair(after) {
                Some(byte) => (byte, after.get(2..).unwrap_or_default()),
                None => (b'%', after),
            },
            (byte, _) => (*byte, after),
        };
        out.push(byte);
        rest = behind;
    }
}

/// What is neither a letter, a digit nor `*` becomes `%hh`, a space a plus sign.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in input {
        match byte {
            b' ' => out.push(b'+'),
            b'*' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(*byte),
            _ => {
                out.push(b'%');
                for half in [byte >> 4, byte & 15] {
                    out.extend(DIGITS.get(usize::from(half)));
                }
            }
        }
    }
}
