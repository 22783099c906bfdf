//! Base64 (RFC 4648), hexadecimal, digests, length.

use sha1::Digest as _;

use super::hex_pair;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte.wrapping_sub(b'A'),
        b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
        b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Up to the first byte that is not of the alphabet.
pub(super) fn base64_decode(input: &[u8], out: &mut Vec<u8>) {
    decode(input.iter().map_while(|byte| sextet(*byte)), out);
}

/// Passing over what is not of the alphabet, as forgiving decoders do.
pub(super) fn base64_decode_ext(input: &[u8], out: &mut Vec<u8>) {
    decode(input.iter().filter_map(|byte| sextet(*byte)), out);
}

fn decode(sextets: impl Iterator<Item = u32>, out: &mut Vec<u8>) {
    let (mut bits, mut held) = (0_u32, 0_u32);
    for sextet in sextets {
        bits = (bits << 6) | sextet;
        held = held.saturating_add(6);
        if let Some(left) = held.checked_sub(8) {
            held = left;
            out.push(u8::try_from((bits >> held) & 0xFF).unwrap_or_default());
            bits &= (1_u32 << held).wrapping_sub(1);
        }
    }
}

pub(super) fn base64_encode(input: &[u8], out: &mut Vec<u8>) {
    for chunk in input.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let bits = (a << 16) | (b << 8) | c;
        for at in 0..4_usize {
            let shift = [18, 12, 6, 0].get(at).copied().unwrap_or(0);
            let index = usize::try_from((bits >> shift) & 63).unwrap_or_default();
            match (at <= chunk.len()).then(|| ALPHABET.get(index)).flatten() {
                Some(byte) => out.push(*byte),
                None => out.push(b'='),
            }
        }
    }
}

pub(super) fn hex_encode(input: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in input {
        for half in [byte >> 4, byte & 15] {
            out.extend(DIGITS.get(usize::from(half)));
        }
    }
}

/// Pairs of digits; a pair that is none stays as it is.
pub(super) fn hex_decode(input: &[u8], out: &mut Vec<u8>) {
    for pair in input.chunks(2) {
        match hex_pair(pair) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(pair),
        }
    }
}

/// `0x4142` as databases read it.
pub(super) fn sql_hex_decode(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        if *first == b'0'
            && let [b'x' | b'X', digits @ ..] = after
            && hex_pair(digits).is_some()
        {
            let mut digits = digits;
            while let Some(byte) = hex_pair(digits) {
                out.push(byte);
                digits = digits.get(2..).unwrap_or_default();
            }
            rest = digits;
            continue;
        }
        out.push(*first);
        rest = after;
    }
}

/// The digest itself, 20 bytes; rules make it readable by `t:hexEncode`.
pub(super) fn sha1(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&sha1::Sha1::digest(input));
}

/// The digest itself, 16 bytes.
pub(super) fn md5(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&md5::Md5::digest(input));
}

/// The number of bytes, in decimal.
pub(super) fn length(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(input.len().to_string().as_bytes());
}
