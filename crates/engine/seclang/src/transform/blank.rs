//! Blanks, nulls, comments and case.

/// What C's `isspace` takes, and the no-break space of ISO 8859-1.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C | 0xA0)
}

/// Runs of blanks become one space.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    let mut in_blank = false;
    for byte in input {
        let blank = is_blank(*byte);
        if !blank {
            out.push(*byte);
        } else if !in_blank {
            out.push(b' ');
        }
        in_blank = blank;
    }
}

pub(super) fn remove(input: &[u8], out: &mut Vec<u8>) {
    out.extend(input.iter().filter(|byte| !is_blank(**byte)));
}

pub(super) fn remove_nulls(input: &[u8], out: &mut Vec<u8>) {
    out.extend(input.iter().filter(|byte| **byte != 0));
}

pub(super) fn replace_nulls(input: &[u8], out: &mut Vec<u8>) {
    out.extend(input.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }));
}

pub(super) fn lowercase(input: &[u8], out: &mut Vec<u8>) {
    out.extend(input.iter().map(u8::to_ascii_lowercase));
}

pub(super) fn uppercase(input: &[u8], out: &mut Vec<u8>) {
    out.extend(input.iter().map(u8::to_ascii_uppercase));
}

pub(super) fn trim(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(input.trim_ascii());
}

pub(super) fn trim_left(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(input.trim_ascii_start());
}

pub(super) fn trim_right(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(input.trim_ascii_end());
}

/// Comments of C become one space each, also one that is not closed.
pub(super) fn replace_comments(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    while let Some(start) = memchr::memmem::find(rest, b"/*") {
        out.extend_from_slice(rest.get(..start).unwrap_or_default());
        out.push(b' ');
        let inside = rest.get(start.saturating_add(2)..).unwrap_or_default();
        rest = match memchr::memmem::find(inside, b"*/") {
            Some(end) => inside.get(end.saturating_add(2)..).unwrap_or_default(),
            None => &[],
        };
    }
    out.extend_from_slice(rest);
}

/// Comments of C and HTML go away; behind `--` and `#` everything.
pub(super) fn remove_comments(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        let close: &[u8] = match rest {
            [b'/', b'*', ..] => b"*/",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'-', b'-', ..] | [b'#', ..] => return,
            _ => {
                out.push(*first);
                rest = after;
                continue;
            }
        };
        rest = match memchr::memmem::find(after, close) {
            Some(end) => after.get(end.saturating_add(close.len())..).unwrap_or_default(),
            None => &[],
        };
    }
}

/// The marks of comments go away, what they hide stays.
pub(super) fn remove_comment_marks(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        rest = match rest {
            [b'<', b'!', b'-', b'-', behind @ ..] | [b'-', b'-', b'>', behind @ ..] => behind,
            [b'/', b'*', behind @ ..] | [b'*', b'/', behind @ ..] | [b'-', b'-', behind @ ..] => behind,
            [b'#', behind @ ..] => behind,
            _ => {
                out.push(*first);
                after
            }
        };
    }
}
