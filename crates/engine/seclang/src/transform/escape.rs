//! Escapes of HTML, JavaScript, CSS and C.

use super::{digit, hex_pair, narrow};

/// Character references by number, and those by name that mark markup.
pub(super) fn html(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        match (*first == b'&').then(|| reference(after)).flatten() {
            Some((byte, behind)) => {
                out.push(byte);
                rest = behind.strip_prefix(b";").unwrap_or(behind);
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
}

/// The byte of a reference behind its `&`, and what follows it; of a number its low byte.
fn reference(text: &[u8]) -> Option<(u8, &[u8])> {
    if let Some(number) = text.strip_prefix(b"#") {
        let (radix, digits) = match number {
            [b'x' | b'X', digits @ ..] => (16, digits),
            digits => (10, digits),
        };
        let length = digits.iter().take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let (number, behind) = digits.split_at_checked(length)?;
        if number.is_empty() {
            return None;
        }
        let value = number.iter().fold(0_u64, |value, byte| {
            let digit = char::from(*byte).to_digit(radix).unwrap_or(0);
            value.saturating_mul(u64::from(radix)).saturating_add(u64::from(digit))
        });
        return Some((u8::try_from(value & 0xFF).ok()?, behind));
    }
    let length = text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let (name, behind) = text.split_at_checked(length)?;
    let named: [(&[u8], u8); 5] =
        [(b"quot", b'"'), (b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"nbsp", 0xA0)];
    let found = named.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
    Some((found.1, behind))
}

/// `\xHH`, `\uHHHH`, octal, and single letters; any other backslash goes away.
pub(super) fn js(input: &[u8], out: &mut Vec<u8>) {
    backslashes(input, out, |text| match text {
        [b'u', digits @ ..] if hex_pair(digits).is_some() => {
            let (high, low) = (hex_pair(digits)?, digits.get(2..).and_then(hex_pair)?);
            Some((narrow(high, low), digits.get(4..)?))
        }
        [b'x', digits @ ..] => Some((hex_pair(digits)?, digits.get(2..)?)),
        [b'0'..=b'7', ..] => {
            // Three digits only where they are a byte.
            let most = if matches!(text.first(), Some(b'0'..=b'3')) { 3 } else { 2 };
            Some(octal(text, most))
        }
        [letter, behind @ ..] => Some((letter_escape(*letter).unwrap_or(*letter), behind)),
        [] => None,
    });
}

/// ANSI C: unknown escapes stay as they are.
pub(super) fn ansi_c(input: &[u8], out: &mut Vec<u8>) {
    backslashes(input, out, |text| match text {
        [b'x' | b'X', digits @ ..] => Some((hex_pair(digits)?, digits.get(2..)?)),
        [b'0'..=b'7', ..] => Some(octal(text, 3)),
        [letter @ (b'\\' | b'?' | b'\'' | b'"'), behind @ ..] => Some((*letter, behind)),
        [letter, behind @ ..] => Some((letter_escape(*letter)?, behind)),
        [] => None,
    });
}

fn letter_escape(letter: u8) -> Option<u8> {
    Some(match letter {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0C,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0B,
        _ => return None,
    })
}

/// Up to `most` octal digits at the beginning of `text`, their low byte, and what follows.
fn octal(text: &[u8], most: usize) -> (u8, &[u8]) {
    let length = text.iter().take(most).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    let (digits, behind) = text.split_at_checked(length).unwrap_or_default();
    let value = digits.iter().fold(0_u8, |value, byte| (value << 3) | (byte & 7));
    (value, behind)
}

/// Replaces what follows a backslash by what `read` makes of it; where it makes nothing, the backslash stays.
fn backslashes(input: &[u8], out: &mut Vec<u8>, read: impl Fn(&[u8]) -> Option<(u8, &[u8])>) {
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        let (byte, behind) = (*first == b'\\').then(|| read(after)).flatten().unwrap_or((*first, after));
        out.push(byte);
        rest = behind;
    }
}

/// CSS 2 §4.1.3: up to six hexadecimal digits with a blank behind them, a hidden line break, or the character itself.
pub(super) fn css(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            out.push(*first);
            rest = after;
            continue;
        }
        let length = after.iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, behind) = after.split_at_checked(length).unwrap_or_default();
        if digits.is_empty() {
            // A hidden line break is nothing; a backslash at the end, too.
            rest = behind.get(1..).unwrap_or_default();
            out.extend(behind.first().filter(|byte| **byte != b'\n'));
            continue;
        }
        let value =
            digits.iter().fold(0_u32, |value, byte| (value << 4) | u32::from(digit(*byte).unwrap_or(0)));
        let [_, _, high, low] = value.to_be_bytes();
        out.push(narrow(high, low));
        rest = match behind {
            [byte, behind @ ..] if byte.is_ascii_whitespace() => behind,
            _ => behind,
        };
    }
}
