//! Paths without detours.

/// Resolves `//`, `/./` and `/../`; what climbs above the beginning of a relative path stays.
pub(super) fn normalize(input: &[u8], out: &mut Vec<u8>) {
    let absolute = input.first() == Some(&b'/');
    let begun = out.len();
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = false;
    for part in input.split(|byte| *byte == b'/') {
        ends_in_folder = matches!(part, b"" | b"." | b"..");
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(last) if *last != b".." => drop(parts.pop()),
                _ if absolute => {}
                _ => parts.push(part),
            },
            _ => parts.push(part),
        }
    }
    if absolute {
        out.push(b'/');
    }
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    // A path to a folder stays one.
    if ends_in_folder && !parts.is_empty() && parts.last() != Some(&&b".."[..]) && out.len() > begun {
        out.push(b'/');
    }
}

/// [`normalize`], where backslashes are slashes.
pub(super) fn normalize_win(input: &[u8], out: &mut Vec<u8>) {
    let slashes: Vec<u8> = input.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
    normalize(&slashes, out);
}
