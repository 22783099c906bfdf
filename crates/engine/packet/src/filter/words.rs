//! A filter's text in words.

/// A word and where it begins, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

/// Signs of one or two characters; the longer first.
const SIGNS: &[&str] = &[
    "&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "(", ")", "[", "]", "!", "<", ">", "=", "&", "|", "^",
    "+", "-", "*", "%",
];

/// Takes the text apart. A slash belongs to the word around it (`10.0.0.0/8`) unless it stands alone, and a hyphen within
/// a word to it (`tcp-syn`, `80-90`), as does a colon (IPv6, Ethernet) outside of square brackets.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let (mut at, mut brackets) = (0_usize, 0_usize);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(first) = rest.chars().next() else { break };
        let length = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            sign.len()
        } else if (first == ':' && brackets > 0) || first == '/' {
            1
        } else {
            rest.char_indices()
                .skip(1)
                .find(|(_, c)| !belongs(*c, brackets > 0))
                .map_or(rest.len(), |(end, _)| end)
        };
        let Some(word) = rest.get(..length) else { break };
        match word {
            "[" => brackets += 1,
            "]" => brackets = brackets.saturating_sub(1),
            _ => {}
        }
        found.push(Word { text: word, at });
        at += length;
    }
    found
}

/// Whether a word goes on with this character.
fn belongs(c: char, in_brackets: bool) -> bool {
    match c {
        ':' | '/' => !in_brackets,
        '-' => true,
        _ => c.is_alphanumeric() || matches!(c, '.' | '_' | '\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    fn texts(text: &str) -> Vec<&str> {
        words(text).iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_end_where_a_reader_would_say() {
        assert_eq!(
            texts("tcp[tcpflags]&tcp-syn!=0"),
            ["tcp", "[", "tcpflags", "]", "&", "tcp-syn", "!=", "0"]
        );
        assert_eq!(texts("net 10.0.0.0/8 and(fe80::1)"), ["net", "10.0.0.0/8", "and", "(", "fe80::1", ")"]);
        assert_eq!(texts("ip[2:2]>100&&!arp"), ["ip", "[", "2", ":", "2", "]", ">", "100", "&&", "!", "arp"]);
        assert_eq!(texts("len / 2 > 80"), ["len", "/", "2", ">", "80"]);
        assert_eq!(texts(" \u{e9}\t?? "), ["\u{e9}", "?", "?"]);
    }
}
