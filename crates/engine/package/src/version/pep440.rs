//! PEP 440, with its permitted spellings (`1.0-alpha.1`, `v1.0c2`, `1.0-1`).

use super::cursor::Cursor;
use super::key::Key;

const INVALID: u8 = 0;
const VALID: u8 = 1;

const END: u8 = 0;
const MORE: u8 = 1;

/// Where a version stands to its release; without a pre-release, only a development release is before it.
const DEV_ONLY: u8 = 0;
const ALPHA: u8 = 1;
const BETA: u8 = 2;
const CANDIDATE: u8 = 3;
const FINAL: u8 = 4;

/// Spellings of pre-releases, the longer before what begins alike.
const PRE: [(&[u8], u8); 8] = [
    (b"alpha", ALPHA),
    (b"a", ALPHA),
    (b"beta", BETA),
    (b"b", BETA),
    (b"rc", CANDIDATE),
    (b"c", CANDIDATE),
    (b"preview", CANDIDATE),
    (b"pre", CANDIDATE),
];

/// A version taken apart.
struct Parts<'a> {
    epoch: &'a [u8],
    release: &'a [u8],
    pre: Option<(u8, &'a [u8])>,
    post: Option<&'a [u8]>,
    dev: Option<&'a [u8]>,
    local: Option<&'a [u8]>,
}

pub(super) fn write(version: &[u8], key: &mut Key) {
    let version = version.trim_ascii();
    let Some(parts) = parse(version) else {
        key.rank(INVALID);
        return key.folded(version);
    };
    key.rank(VALID);
    key.number(parts.epoch);
    let significant = parts.release.iter().rposition(|byte| *byte != b'0' && *byte != b'.');
    // Zeros at the end of the release say nothing; but "10" ends with a zero of a number that counts.
    let release = match significant {
        Some(at) => {
            let tail = parts.release.get(at + 1..).unwrap_or_default();
            let kept = tail.iter().take_while(|byte| **byte != b'.').count();
            parts.release.get(..at + 1 + kept).unwrap_or(parts.release)
        }
        None => &[],
    };
    if !release.is_empty() {
        for number in release.split(|byte| *byte == b'.') {
            key.rank(MORE);
            key.number(number);
        }
    }
    key.rank(END);
    match parts.pre {
        Some((rank, number)) => {
            key.rank(rank);
            key.number(number);
        }
        None if parts.post.is_none() && parts.dev.is_some() => key.rank(DEV_ONLY),
        None => key.rank(FINAL),
    }
    match parts.post {
        Some(number) => {
            key.rank(MORE);
            key.number(number);
        }
        None => key.rank(END),
    }
    match parts.dev {
        Some(number) => {
            key.rank(0);
            key.number(number);
        }
        None => key.rank(1),
    }
    // A local label's words are older than its numbers.
    for piece in parts.local.into_iter().flat_map(|local| local.split(|byte| b".-_".contains(byte))) {
        if piece.iter().all(u8::is_ascii_digit) {
            key.rank(2);
            key.number(piece);
        } else {
            key.rank(1);
            key.folded(piece);
        }
    }
    key.rank(END);
}

fn parse(version: &[u8]) -> Option<Parts<'_>> {
    let mut cursor = Cursor::new(version);
    cursor.eat_word(b"v");
    let mut epoch: &[u8] = &[];
    let mut ahead = cursor;
    let digits = ahead.digits();
    if !digits.is_empty() && ahead.eat(b'!') {
        epoch = digits;
        cursor = ahead;
    }
    let start = cursor.rest();
    loop {
        if cursor.digits().is_empty() {
            return None;
        }
        let mut ahead = cursor;
        if !(ahead.eat(b'.') && ahead.peek().is_some_and(|byte| byte.is_ascii_digit())) {
            break;
        }
        cursor = ahead;
    }
    let release = start.get(..start.len() - cursor.rest().len())?;
    let pre = labelled(&mut cursor, &PRE);
    let mut ahead = cursor;
    let post = if ahead.eat(b'-') && ahead.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        let number = ahead.digits();
        cursor = ahead;
        Some(number)
    } else {
        labelled(&mut cursor, &[(b"post", 0), (b"rev", 0), (b"r", 0)]).map(|(_, number)| number)
    };
    let dev = labelled(&mut cursor, &[(b"dev", 0)]).map(|(_, number)| number);
    let local = cursor
        .eat(b'+')
        .then(|| cursor.take_while(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)));
    cursor.is_empty().then_some(Parts { epoch, release, pre, post, dev, local })
}

/// `[.-_]label[.-_]number`, where everything but the label may be missing.
fn labelled<'a>(cursor: &mut Cursor<'a>, labels: &[(&[u8], u8)]) -> Option<(u8, &'a [u8])> {
    let mut ahead = *cursor;
    if ahead.peek().is_some_and(|byte| b".-_".contains(&byte)) {
        ahead.next();
    }
    let (_, rank) = labels.iter().find(|(label, _)| ahead.eat_word(label))?;
    let mut number = ahead;
    if number.peek().is_some_and(|byte| b".-_".contains(&byte)) {
        number.next();
    }
    if number.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        ahead = number;
    }
    let digits = ahead.digits();
    *cursor = ahead;
    Some((*rank, digits))
}
