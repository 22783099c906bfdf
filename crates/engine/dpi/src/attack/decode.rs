//! Percent decoding (RFC 3986 §2.1) as servers do it, twice at most, in place.

/// Rounds that are decoded: attackers encode what they have encoded.
const ROUNDS: usize = 3;

/// Decodes `text` until nothing changes, three times at most. With `form`, a plus is a space.
pub(crate) fn decode(text: &mut Vec<u8>, form: bool) {
    if form {
        for byte in text.iter_mut().filter(|byte| **byte == b'+') {
            *byte = b' ';
        }
    }
    for _ in 0..ROUNDS {
        if !round(text) {
            break;
        }
    }
}

/// One round; false when nothing was encoded.
fn round(text: &mut Vec<u8>) -> bool {
    if memchr::memchr(b'%', text).is_none() {
        return false;
    }
    let (mut from, mut to) = (0_usize, 0_usize);
    // Each turn reads on by at least one byte, and writes one that lies behind what is read.
    while let Some(byte) = text.get(from).copied() {
        let (value, taken) = escape(text.get(from..).unwrap_or_default()).unwrap_or((byte, 1));
        if let Some(place) = text.get_mut(to) {
            *place = value;
        }
        (from, to) = (from.saturating_add(taken), to.saturating_add(1));
    }
    let changed = to < text.len();
    text.truncate(to);
    changed
}

/// `%41`, or `%u0041` as some servers take it.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match text {
        [b'%', b'u' | b'U', b'0', b'0', high, low, ..] => Some(((digit(high)? << 4) | digit(low)?, 6)),
        [b'%', high, low, ..] => Some(((digit(high)? << 4) | digit(low)?, 3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_twice_is_decoded_twice_and_broken_escapes_stay() {
        for (text, form, want) in [
            ("a%20b", false, "a b"),
            ("%2527", false, "'"),
            ("%u0027", false, "'"),
            ("a+b", true, "a b"),
            ("a+b", false, "a+b"),
            ("100%", false, "100%"),
            ("%zz%4", false, "%zz%4"),
            ("%252525252527", false, "%252527"),
        ] {
            let mut bytes = text.as_bytes().to_vec();
            decode(&mut bytes, form);
            assert_eq!(String::from_utf8(bytes).unwrap(), want, "{text}");
        }
    }
}
