//! JSON (RFC 8259) into arguments: `{"a":{"b":[1,2]}}` is `json.a.b=1` and `json.a.b=2`. Members of one name count both,
//! and what follows an error is not read.

use super::{BodyError, MAX_ARGUMENTS};

/// Values within values.
const MAX_DEPTH: usize = 64;

struct Reader<'j, F> {
    text: &'j [u8],
    at: usize,
    count: usize,
    /// Where the reader is: `json.a.b`.
    path: Vec<u8>,
    take: F,
}

/// Reads a text; `take` says whether it has a place for more.
pub(super) fn read(text: &[u8], take: impl FnMut(Vec<u8>, Vec<u8>) -> bool) -> Result<(), BodyError> {
    let mut reader = Reader { text, at: 0, count: 0, path: b"json".to_vec(), take };
    reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() { Err(reader.error("something follows the value")) } else { Ok(()) }
}

impl<F: FnMut(Vec<u8>, Vec<u8>) -> bool> Reader<'_, F> {
    fn error(&self, what: &'static str) -> BodyError {
        BodyError::Json(what, self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.step();
        }
    }

    fn leaf(&mut self, value: Vec<u8>) -> Result<(), BodyError> {
        self.count = self.count.saturating_add(1);
        if self.count > MAX_ARGUMENTS || !(self.take)(self.path.clone(), value) {
            return Err(BodyError::Arguments);
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), BodyError> {
        if depth > MAX_DEPTH {
            return Err(self.error("too deep"));
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.members(depth, b'}'),
            Some(b'[') => self.members(depth, b']'),
            Some(b'"') => {
                let text = self.string()?;
                self.leaf(text)
            }
            Some(b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let length = rest
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
                    .count();
                let word = rest.get(..length).unwrap_or_default();
                let known =
                    matches!(word, b"true" | b"false" | b"null") || word.iter().any(u8::is_ascii_digit);
                if !known {
                    return Err(self.error("an unknown word"));
                }
                let value = if word == b"null" { Vec::new() } else { word.to_vec() };
                self.at = self.at.saturating_add(length);
                self.leaf(value)
            }
            _ => Err(self.error("a value is missing")),
        }
    }

    /// Members of an object or an array, up to `close`.
    fn members(&mut self, depth: usize, close: u8) -> Result<(), BodyError> {
        self.step();
        let begun = self.path.len();
        self.blanks();
        if self.peek() == Some(close) {
            self.step();
            return Ok(());
        }
        loop {
            self.blanks();
            // What is in an array has the array's name.
            if close == b'}' {
                if self.peek() != Some(b'"') {
                    return Err(self.error("a name is missing"));
                }
                let name = self.string()?;
                self.blanks();
                if self.peek() != Some(b':') {
                    return Err(self.error("a colon is missing"));
                }
                self.step();
                self.path.push(b'.');
                self.path.extend_from_slice(&name);
            }
            self.value(depth.saturating_add(1))?;
            self.path.truncate(begun);
            self.blanks();
            match self.peek() {
                Some(b',') => self.step(),
                Some(byte) if byte == close => {
                    self.step();
                    return Ok(());
                }
                _ => return Err(self.error("a comma or the end is missing")),
            }
        }
    }

    /// A string with its escapes resolved.
    fn string(&mut self) -> Result<Vec<u8>, BodyError> {
        self.step();
        let mut out = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.error("a string is not closed"))?;
            self.step();
            match byte {
                b'"' => return Ok(out),
                b'\\' => {
                    let escape = self.peek().ok_or_else(|| self.error("a string is not closed"))?;
                    self.step();
                    match escape {
                        b'n' => out.push(b'\n'),
                        b't' => out.push(b'\t'),
                        b'r' => out.push(b'\r'),
                        b'b' => out.push(0x08),
                        b'f' => out.push(0x0C),
                        b'"' | b'\\' | b'/' => out.push(escape),
                        b'u' => {
                            let letter = self.unicode()?;
                            out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        _ => return Err(self.error("an unknown escape")),
                    }
                }
                _ => out.push(byte),
            }
        }
    }

    /// Four digits, and four more where they are the second half of a pair.
    fn unicode(&mut self) -> Result<char, BodyError> {
        let high = self.digits()?;
        let code = if (0xD800..0xDC00).contains(&high)
            && self.text.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u"))
        {
            self.at = self.at.saturating_add(2);
            let low = self.digits()?;
            0x1_0000_u32.saturating_add((high & 0x3FF) << 10 | (low & 0x3FF))
        } else {
            high
        };
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn digits(&mut self) -> Result<u32, BodyError> {
        let end = self.at.saturating_add(4);
        let digits = self.text.get(self.at..end).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let value = value.ok_or_else(|| self.error("a bad escape"))?;
        self.at = end;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> (Vec<(String, String)>, Result<(), BodyError>) {
        let mut found = Vec::new();
        let result = read(text.as_bytes(), |name, value| {
            found.push((String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap()));
            true
        });
        (found, result)
    }

    #[test]
    fn values_are_named_by_their_path() {
        let (found, result) = of(r#" {"a":{"b":[1,"x\n"]},"a":true,"":null,"c":"\u00e9\ud83d\ude00"} "#);
        assert_eq!(result, Ok(()));
        let want = [
            ("json.a.b", "1"),
            ("json.a.b", "x\n"),
            ("json.a", "true"),
            ("json.", ""),
            ("json.c", "\u{e9}\u{1f600}"),
        ];
        assert_eq!(found, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_no_json_is_told_and_what_was_read_before_counts() {
        let (found, result) = of(r#"{"a":1,"b":oops}"#);
        assert_eq!(found.len(), 1);
        assert!(result.is_err());
        for text in ["", "{", "[1", "{\"a\"1}", "\"x", "1 2", "{\"a\":\"\\q\"}"] {
            assert!(of(text).1.is_err(), "{text}");
        }
        assert!(of(&"[".repeat(1000)).1.is_err());
    }

    proptest! {
        #[test]
        fn any_text_comes_to_an_end(text in vec(prop::sample::select(b"{}[]\",:1tn\\u0d8a ".to_vec()), 0..200)) {
            let result = read(&text, |_, _| true);
            prop_assert!(result.is_ok() || matches!(result, Err(BodyError::Json(..) | BodyError::Arguments)));
        }
    }
}
