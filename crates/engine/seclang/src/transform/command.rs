//! Command lines as shells read them, so that ways to write the same command fall together.

/// Quotes, carets and backslashes go away; commas and semicolons are blanks, runs of blanks one space, none before a
/// slash or a bracket; letters are small.
pub(super) fn cmd_line(input: &[u8], out: &mut Vec<u8>) {
    let begun = out.len();
    for byte in input {
        match byte {
            b'"' | b'\'' | b'\\' | b'^' => {}
            b' ' | b',' | b';' | b'\t' | b'\r' | b'\n' => {
                if out.last() != Some(&b' ') || out.len() == begun {
                    out.push(b' ');
                }
            }
            b'/' | b'(' => {
                if out.len() > begun && out.last() == Some(&b' ') {
                    out.pop();
                }
                out.push(*byte);
            }
            _ => out.push(byte.to_ascii_lowercase()),
        }
    }
}
