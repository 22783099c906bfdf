//! Patterns of PCRE on bytes, for an engine that needs time linear in the value. What cannot be said in it is refused.

use std::sync::Arc;

use regex_syntax::hir::Hir;
use regex_syntax::{Parser, ParserBuilder};

use super::expression::{Expression, Made};

/// Bytes of a pattern that are taken.
const MAX_BYTES: usize = 64 * 1024;

/// Groups within groups.
const MAX_DEPTH: u32 = 100;

/// Reads a pattern: bytes are bytes, a dot is any byte, `$` is the very end.
///
/// # Errors
/// What the pattern asks for that cannot be had.
pub(crate) fn parse(pattern: &[u8], any_case: bool) -> Result<Hir, String> {
    if pattern.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    let text = Translation::new(pattern).run()?;
    let mut parser: Parser = ParserBuilder::new()
        .utf8(false)
        .unicode(false)
        .dot_matches_new_line(true)
        .case_insensitive(any_case)
        .nest_limit(MAX_DEPTH)
        .build();
    parser.parse(&text).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        error => error.to_string(),
    })
}

/// Reads and compiles a pattern that stands alone, without groups.
pub(crate) fn compile(pattern: &[u8], any_case: bool) -> Result<Expression, String> {
    Expression::new((pattern, any_case), &parse(pattern, any_case)?, false, &Arc::new(Made::default()))
}

/// A pattern of its own, in the syntax of `@rx`.
#[derive(Clone, Debug)]
pub struct Pattern(Expression);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What the pattern asks for that cannot be had.
    pub fn compile(pattern: &[u8]) -> Result<Self, String> {
        compile(pattern, false).map(Self)
    }

    /// Whether it is found in a value.
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

/// PCRE into the syntax of the engine, from the left to the right.
struct Translation<'p> {
    rest: &'p [u8],
    out: String,
}

/// One member of a class.
enum Member {
    /// A byte, which may begin or end a range.
    Byte(u8),
    /// A class within it, as it is written.
    Class(String),
}

impl<'p> Translation<'p> {
    fn new(pattern: &'p [u8]) -> Self {
        Self { rest: pattern, out: String::with_capacity(pattern.len()) }
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn byte(&mut self, byte: u8) {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'_' => self.out.push(char::from(byte)),
            _ => self.out.push_str(&format!("\\x{byte:02X}")),
        }
    }

    fn run(mut self) -> Result<String, String> {
        // Each turn takes at least one byte.
        while let Some(byte) = self.next() {
            match byte {
                b'\\' => self.escape()?,
                b'[' => self.class()?,
                b'(' => self.group()?,
                b'{' => match quantifier(self.rest) {
                    Some((text, rest)) => {
                        self.out.push_str(&text);
                        self.rest = rest;
                        self.behind_quantifier()?;
                    }
                    None => self.byte(byte),
                },
                b'*' | b'+' | b'?' => {
                    self.out.push(char::from(byte));
                    self.behind_quantifier()?;
                }
                b'.' | b'^' | b'$' | b'|' | b')' => self.out.push(char::from(byte)),
                _ => self.byte(byte),
            }
        }
        Ok(self.out)
    }

    /// `a*?` asks for little, `a*+` gives nothing back.
    fn behind_quantifier(&mut self) -> Result<(), String> {
        match self.rest {
            [b'?', rest @ ..] => {
                self.out.push('?');
                self.rest = rest;
                Ok(())
            }
            // Giving nothing back changes nothing where nothing follows that could take it.
            [b'+', rest @ ..] if rest.is_empty() => {
                self.rest = rest;
                Ok(())
            }
            [b'+', ..] => Err("possessive quantifiers are not supported".to_owned()),
            _ => Ok(()),
        }
    }

    fn group(&mut self) -> Result<(), String> {
        let rest = match self.rest {
            [b'*', ..] => return Err("verbs of backtracking are not supported".to_owned()),
            [b'?', rest @ ..] => rest,
            _ => {
                self.out.push('(');
                return Ok(());
            }
        };
        let refused = match rest {
            [b'=' | b'!', ..] => "look-ahead is not supported",
            [b'<', b'=' | b'!', ..] => "look-behind is not supported",
            [b'>', ..] => "atomic groups are not supported",
            [b'|', ..] => "groups that share numbers are not supported",
            [b'(', ..] => "conditions are not supported",
            [b'R' | b'&' | b'0'..=b'9', ..] | [b'P', b'>' | b'=', ..] => "recursion is not supported",
            [b'C', ..] => "call-outs are not supported",
            _ => "",
        };
        if !refused.is_empty() {
            return Err(refused.to_owned());
        }
        if let [b'#', comment @ ..] = rest {
            let end = memchr::memchr(b')', comment).ok_or("a comment is not closed")?;
            self.rest = comment.get(end.saturating_add(1)..).unwrap_or_default();
            return Ok(());
        }
        if let [b'<' | b'\'', ..] | [b'P', b'<', ..] = rest {
            let end = rest.iter().skip(2).position(|byte| matches!(byte, b'>' | b'\''));
            let end = end.ok_or("the name of a group is not closed")?.saturating_add(3);
            // Rules name groups by number only.
            self.out.push('(');
            self.rest = rest.get(end..).unwrap_or_default();
            return Ok(());
        }
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphabetic() || **byte == b'-').count();
        let (flags, behind) = rest.split_at_checked(length).unwrap_or_default();
        let [end @ (b':' | b')'), behind @ ..] = behind else {
            return Err("a group of an unknown kind".to_owned());
        };
        if let Some(flag) = flags.iter().find(|flag| !b"imsU-".contains(flag)) {
            return Err(format!("flag {:?} is not supported", char::from(*flag)));
        }
        self.out.push_str("(?");
        self.out.extend(flags.iter().copied().map(char::from));
        self.out.push(char::from(*end));
        self.rest = behind;
        Ok(())
    }

    /// What a backslash outside of a class begins.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.first() {
            None => return Err("a backslash at the end".to_owned()),
            Some(b'1'..=b'9' | b'g' | b'k') => return Err("back-references are not supported".to_owned()),
            Some(b'K' | b'G' | b'C' | b'X' | b'p' | b'P') => {
                return Err(format!(
                    "\\{} is not supported",
                    char::from(self.rest.first().copied().unwrap_or(0))
                ));
            }
            Some(letter @ (b'b' | b'B' | b'A' | b'z')) => {
                self.out.push_str(&format!("\\{}", char::from(*letter)));
            }
            Some(b'Z') => self.out.push_str("\\n?\\z"),
            Some(b'R') => self.out.push_str("(?:\\r\\n|[\\n-\\r])"),
            Some(b'Q') => {
                let quoted = self.rest.get(1..).unwrap_or_default();
                let end = memchr::memmem::find(quoted, b"\\E").unwrap_or(quoted.len());
                for byte in quoted.get(..end).unwrap_or_default() {
                    self.byte(*byte);
                }
                self.rest = quoted.get(end.saturating_add(2)..).unwrap_or_default();
                return Ok(());
            }
            Some(b'E') => {}
            Some(_) => {
                match self.member()? {
                    Member::Byte(byte) => self.byte(byte),
                    Member::Class(class) => self.out.push_str(&class),
                }
                return Ok(());
            }
        }
        self.next();
        Ok(())
    }

    /// What a backslash begins, within a class or outside; the backslash is taken.
    fn member(&mut self) -> Result<Member, String> {
        let letter = self.next().ok_or("a backslash at the end")?;
        let class = |text: &str| Ok(Member::Class(text.to_owned()));
        let byte = match letter {
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' => return class(&format!("\\{}", char::from(letter))),
            b'h' => return class("[\\t ]"),
            b'H' => return class("[^\\t ]"),
            b'v' => return class("[\\n-\\r]"),
            b'V' => return class("[^\\n-\\r]"),
            b'N' => return class("[^\\n]"),
            b'a' => 0x07,
            b'e' => 0x1B,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => self.hexadecimal()?,
            b'c' => self.next().ok_or("a control character is missing")?.to_ascii_uppercase() ^ 0x40,
            b'0'..=b'7' => {
                let more = self.rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let mut value = u32::from(letter & 7);
                for _ in 0..more {
                    value = (value << 3) | u32::from(self.next().unwrap_or(0) & 7);
                }
                u8::try_from(value).map_err(|_large| "an octal number is more than a byte")?
            }
            letter if letter.is_ascii_alphanumeric() => {
                return Err(format!("\\{} is not supported", char::from(letter)));
            }
            literal => literal,
        };
        Ok(Member::Byte(byte))
    }

    /// `\xhh` and `\x{hh}`; no digit is 0.
    fn hexadecimal(&mut self) -> Result<u8, String> {
        let (digits, rest) = if let [b'{', inside @ ..] = self.rest {
            let end = memchr::memchr(b'}', inside).ok_or("a number is not closed")?;
            (inside.get(..end).unwrap_or_default(), inside.get(end.saturating_add(1)..).unwrap_or_default())
        } else {
            let length = self.rest.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count();
            self.rest.split_at_checked(length).unwrap_or_default()
        };
        self.rest = rest;
        let text = std::str::from_utf8(digits).unwrap_or("?");
        if text.is_empty() {
            return Ok(0);
        }
        u8::from_str_radix(text, 16).map_err(|_bad| format!("\\x{{{text}}} is no byte"))
    }

    /// A class; its bracket is taken.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if let [b'^', rest @ ..] = self.rest {
            self.out.push('^');
            self.rest = rest;
        }
        let mut first = true;
        // The byte that a range may begin with.
        let mut start: Option<u8> = None;
        let mut wrote = false;
        loop {
            let byte = self.next().ok_or("a class is not closed")?;
            let member = match byte {
                b']' if !first => break,
                b'[' if matches!(self.rest.first(), Some(b':')) => match posix(self.rest) {
                    Some((name, rest)) => {
                        self.rest = rest;
                        Member::Class(name)
                    }
                    None => Member::Byte(byte),
                },
                b'\\' => match self.rest.first() {
                    Some(b'b') => {
                        self.next();
                        Member::Byte(0x08)
                    }
                    Some(b'Q' | b'E') => {
                        self.next();
                        first = false;
                        continue;
                    }
                    // Digits are octal here, not groups.
                    Some(b'8' | b'9') => Member::Byte(self.next().unwrap_or_default()),
                    _ => self.member()?,
                },
                b'-' if start.is_some() && !matches!(self.rest.first(), Some(b']')) => {
                    // A range, if a byte follows.
                    let saved = self.rest;
                    let end = match self.next() {
                        Some(b'\\') if self.rest.first() == Some(&b'b') => {
                            self.next();
                            Member::Byte(0x08)
                        }
                        Some(b'\\') => self.member()?,
                        Some(b'[') if posix(self.rest).is_some() => Member::Class(String::new()),
                        Some(byte) => Member::Byte(byte),
                        None => return Err("a class is not closed".to_owned()),
                    };
                    if let Member::Byte(end) = end {
                        if start.is_some_and(|start| start > end) {
                            return Err("a range of a class runs backwards".to_owned());
                        }
                        self.out.push_str(&format!("-\\x{end:02X}"));
                        start = None;
                        continue;
                    }
                    self.rest = saved;
                    Member::Byte(byte)
                }
                byte => Member::Byte(byte),
            };
            first = false;
            wrote = true;
            match member {
                Member::Byte(byte) => {
                    self.out.push_str(&format!("\\x{byte:02X}"));
                    start = Some(byte);
                }
                Member::Class(class) => {
                    self.out.push_str(&class);
                    start = None;
                }
            }
        }
        if !wrote {
            return Err("a class is empty".to_owned());
        }
        self.out.push(']');
        Ok(())
    }
}

/// `{n}`, `{n,}` or `{n,m}` behind its bracket, written out, and what follows; anything else is text.
fn quantifier(text: &[u8]) -> Option<(String, &[u8])> {
    let end = memchr::memchr(b'}', text)?;
    let inside = std::str::from_utf8(text.get(..end)?).ok()?;
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most))
        .then(|| (format!("{{{inside}}}"), text.get(end.saturating_add(1)..).unwrap_or_default()))
}

/// `[:name:]` behind its first bracket, written out, and what follows.
fn posix(text: &[u8]) -> Option<(String, &[u8])> {
    let end = memchr::memmem::find(text, b":]")?;
    let name = std::str::from_utf8(text.get(1..end)?).ok()?;
    let known = name.trim_start_matches('^');
    let names = [
        "alpha", "digit", "alnum", "upper", "lower", "space", "blank", "punct", "print", "graph", "cntrl",
        "xdigit", "word", "ascii",
    ];
    names
        .contains(&known)
        .then(|| (format!("[:{name}:]"), text.get(end.saturating_add(2)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_pcre_means_is_kept() {
        for (pattern, value, want) in [
            ("\\<a\\>", &b"<a>"[..], true),
            ("a\\/b\\\"", b"a/b\"", true),
            ("[[a]", b"[", true),
            ("[]a]+$", b"]a", true),
            ("[^]]", b"]", false),
            ("[a&&b]", b"&", true),
            ("[a~~b]", b"~", true),
            ("[\\--9]", b".", true),
            ("[a\\-z]", b"b", false),
            ("[\\w-.]", b"-", true),
            ("[+--]", b",", true),
            ("[\\[-\\]]", b"\\", true),
            ("[[:alpha:]-]", b"-", true),
            ("a{,3}", b"a{,3}", true),
            ("${x}", b"", false),
            ("\\x{bc}", b"\xbc", true),
            ("\u{e9}", "\u{e9}".as_bytes(), true),
            ("[\u{e9}]", b"\xc3", true),
            ("\\h\\e\\cA\\012", b"\t\x1b\x01\n", true),
            ("\\Qa.b\\E.", b"a.bx", true),
            ("a(?#note)b", b"ab", true),
            ("(?<name>a)(?P<other>b)", b"ab", true),
            ("^a$", b"a\n", false),
            ("a\\Z", b"a\n", true),
            ("(?i)STRASSE", b"strasse", true),
            ("a(?i:B)c", b"abc", true),
            ("a.*+", b"ab", true),
            ("[\\b]", b"\x08", true),
            ("#x y", b"#x y", true),
        ] {
            let regex =
                compile(pattern.as_bytes(), false).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(value), want, "{pattern} on {:?}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn what_needs_backtracking_is_refused_with_the_reason() {
        for (pattern, why) in [
            ("(?=a)", "look-ahead"),
            ("(?<!a)b", "look-behind"),
            ("(?>a)", "atomic"),
            ("a++b", "possessive"),
            ("(a)\\1", "back-references"),
            ("(?R)", "recursion"),
            ("(?x)a", "flag"),
            ("[z-a]", "backwards"),
            ("(*FAIL)", "verbs"),
            ("a{1000}{1000}", "limit"),
        ] {
            let error = compile(pattern.as_bytes(), false).unwrap_err();
            assert!(error.contains(why), "{pattern}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_is_compiled_or_refused(
            raw in vec(any::<u8>(), 0..40),
            marked in vec(prop::sample::select(b"()[]{}\\^$.|?*+-:<=!,09aQExch&~".to_vec()), 0..40),
        ) {
            for pattern in [&raw, &marked] {
                if let Ok(hir) = parse(pattern, false) {
                    let literals = crate::operator::literals::required(&hir);
                    drop(literals);
                }
            }
        }
    }
}
