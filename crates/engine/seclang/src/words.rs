//! Files into directives, directives into words.

use crate::error::Reason;

/// A directive over all its lines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Directive {
    /// Where it begins, from 1.
    pub(crate) line: usize,
    /// Its words, quotes taken off.
    pub(crate) words: Result<Vec<Vec<u8>>, Reason>,
}

/// Reads the directives of a file. A backslash at the end of a line joins the next one to it, a line that begins with
/// `#` is none.
pub(crate) fn directives(text: &[u8]) -> Vec<Directive> {
    let mut found = Vec::new();
    let mut joined: Vec<u8> = Vec::new();
    let mut begun = 1_usize;
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii_end();
        if joined.is_empty() {
            begun = at.saturating_add(1);
            let start = line.trim_ascii_start();
            if start.is_empty() || start.starts_with(b"#") {
                continue;
            }
        }
        let open = line.strip_suffix(b"\\");
        let part = open.unwrap_or(line);
        joined.extend_from_slice(if joined.is_empty() { part } else { part.trim_ascii_start() });
        if open.is_none() {
            found.push(Directive { line: begun, words: words(&joined) });
            joined.clear();
        }
    }
    if !joined.is_empty() {
        found.push(Directive { line: begun, words: words(&joined) });
    }
    found
}

/// Words are parted by blanks; within quotes blanks stay, and `\"` is a quote.
fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while let Some(first) = rest.first() {
        let quote = Some(*first).filter(|byte| matches!(byte, b'"' | b'\''));
        let mut word = Vec::new();
        let mut bytes = rest.get(usize::from(quote.is_some())..).unwrap_or_default();
        loop {
            match (bytes, quote) {
                ([b'\\', escaped, after @ ..], Some(quote)) if *escaped == quote => {
                    word.push(*escaped);
                    bytes = after;
                }
                ([byte, after @ ..], Some(quote)) if *byte == quote => {
                    bytes = after;
                    break;
                }
                ([byte, ..], None) if byte.is_ascii_whitespace() => break,
                ([byte, after @ ..], _) => {
                    word.push(*byte);
                    bytes = after;
                }
                ([], Some(_)) => return Err(Reason::Quote),
                ([], None) => break,
            }
        }
        words.push(word);
        rest = bytes.trim_ascii_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_words_unquoted() {
        let text = b"# none\n\nSecRule ARGS \"@rx a\\\"b c\" \\\n    \"id:1,\\\n    pass\"\n  SecMarker END\nSecMarker \"open\n";
        let found = directives(text);
        let words = |at: usize| -> Vec<String> {
            let words = found[at].words.as_ref().unwrap();
            words.iter().map(|word| String::from_utf8(word.clone()).unwrap()).collect()
        };
        assert_eq!(found[0].line, 3);
        assert_eq!(words(0), ["SecRule", "ARGS", "@rx a\"b c", "id:1,pass"]);
        assert_eq!((found[1].line, words(1)), (6, vec!["SecMarker".to_owned(), "END".to_owned()]));
        assert_eq!(found[2].words, Err(Reason::Quote));
    }

    #[test]
    fn a_joined_line_may_begin_like_a_comment() {
        assert_eq!(directives(b"SecAction \\\n#x").len(), 1);
    }
}
