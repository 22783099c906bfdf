//! SQL injection, by reading text as a database would: into words, literals, operators and comments. A word alone says
//! nothing; only what could change a statement's meaning does.

use super::MAX_FIELD_BYTES;

/// Tokens of a text that are looked at.
const MAX_TOKENS: usize = 128;

/// A piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a [u8]),
    /// What is between quotes, or was before the first one.
    Text(&'a [u8]),
    Number(&'a [u8]),
    /// `=`, `<`, `>`, `!=`, and others of their kind.
    Compare,
    /// `||` and `&&`.
    Logic,
    Open,
    Close,
    Comma,
    Semicolon,
    /// With what it hides.
    Comment(&'a [u8]),
    Other,
}

impl Token<'_> {
    fn is(&self, words: &[&str]) -> bool {
        matches!(self, Self::Word(word) if words.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
    }
    fn is_literal(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Number(_)) || self.is(&["true", "false", "null"])
    }
}

/// Tokens in a list of fixed length.
struct Tokens<'a> {
    list: [Token<'a>; MAX_TOKENS],
    length: usize,
}

impl<'a> Tokens<'a> {
    /// Reads `text`; with `quote`, its beginning lies within such quotes.
    fn read(text: &'a [u8], quote: Option<u8>) -> Self {
        let mut tokens = Self { list: [Token::Other; MAX_TOKENS], length: 0 };
        let mut rest = text.get(..MAX_FIELD_BYTES.min(text.len())).unwrap_or(text);
        if let Some(quote) = quote {
            let (inside, after) = quoted(rest, quote);
            tokens.push(Token::Text(inside));
            rest = after;
        }
        // Each turn takes at least one byte.
        while let Some((token, after)) = next(rest) {
            if let Some(token) = token {
                tokens.push(token);
            }
            rest = after;
        }
        tokens
    }
    fn push(&mut self, token: Token<'a>) {
        if let Some(place) = self.list.get_mut(self.length) {
            *place = token;
            self.length = self.length.saturating_add(1);
        }
    }
    fn as_slice(&self) -> &[Token<'a>] {
        self.list.get(..self.length).unwrap_or_default()
    }
}

/// Up to the closing quote, which may be doubled or escaped within, and what is behind it.
fn quoted(text: &[u8], quote: u8) -> (&[u8], &[u8]) {
    let mut at = 0_usize;
    while let Some(byte) = text.get(at) {
        match (*byte, text.get(at.saturating_add(1))) {
            (b'\\', Some(_)) => at = at.saturating_add(2),
            (byte, Some(next)) if byte == quote && *next == quote => at = at.saturating_add(2),
            (byte, _) if byte == quote => {
                return (
                    text.get(..at).unwrap_or_default(),
                    text.get(at.saturating_add(1)..).unwrap_or_default(),
                );
            }
            _ => at = at.saturating_add(1),
        }
    }
    (text, &[])
}

/// The next token, or nothing for a blank, and what is behind it.
fn next(text: &[u8]) -> Option<(Option<Token<'_>>, &[u8])> {
    let (first, rest) = text.split_first()?;
    let split = |length: usize| text.split_at_checked(length).unwrap_or((text, &[]));
    let one = |token| Some((Some(token), rest));
    match (*first, rest.first()) {
        (byte, _) if byte.is_ascii_whitespace() || byte == 0 => Some((None, rest)),
        // A space must follow two hyphens in MySQL alone; who attacks leaves it out elsewhere.
        (b'-', Some(b'-')) | (b'#', _) => {
            let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
            let (comment, after) = split(end);
            Some((Some(Token::Comment(comment)), after))
        }
        (b'/', Some(b'*')) => {
            // `/*!` is no comment for MySQL: its content counts.
            if rest.get(1) == Some(&b'!') {
                let digits = rest.iter().skip(2).take_while(|byte| byte.is_ascii_digit()).count();
                return Some((None, rest.get(digits.saturating_add(2)..).unwrap_or_default()));
            }
            let end = memchr::memmem::find(rest.get(1..).unwrap_or_default(), b"*/");
            match end {
                // A closed comment only parts words.
                Some(end) => Some((None, rest.get(end.saturating_add(3)..).unwrap_or_default())),
                None => Some((Some(Token::Comment(text)), &[])),
            }
        }
        (b'*', Some(b'/')) => Some((None, rest.get(1..).unwrap_or_default())),
        (quote @ (b'\'' | b'"'), _) => {
            let (inside, after) = quoted(rest, quote);
            Some((Some(Token::Text(inside)), after))
        }
        (b'0'..=b'9', _) => {
            let (number, after) =
                split(text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'.').count());
            Some((Some(Token::Number(number)), after))
        }
        (byte, _) if byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'@' | b'`') => {
            let word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_@`$.".contains(byte);
            let (name, after) = split(text.iter().take_while(word).count());
            Some((Some(Token::Word(name)), after))
        }
        (b'|', Some(b'|')) | (b'&', Some(b'&')) => {
            Some((Some(Token::Logic), rest.get(1..).unwrap_or_default()))
        }
        (b'=' | b'<' | b'>' | b'!', _) => Some((
            Some(Token::Compare),
            split(text.iter().take_while(|byte| b"=<>!".contains(byte)).count()).1,
        )),
        (b'(', _) => one(Token::Open),
        (b')', _) => one(Token::Close),
        (b',', _) => one(Token::Comma),
        (b';', _) => one(Token::Semicolon),
        _ => one(Token::Other),
    }
}

const FUNCTIONS: [&str; 9] = [
    "sleep",
    "benchmark",
    "pg_sleep",
    "load_file",
    "extractvalue",
    "updatexml",
    "dbms_pipe.receive_message",
    "utl_http.request",
    "xp_cmdshell",
];

/// Whether a value that goes into a statement could change it: unquoted, or by leaving the quotes that it is put in.
pub(crate) fn is_injection(value: &[u8]) -> bool {
    // Without any of these, a value is one word or number to a database.
    if value.len() < 4 || !value.iter().any(|byte| b"'\"();=<>|&#-/ ".contains(byte)) {
        return false;
    }
    let within =
        |quote: u8| value.contains(&quote) && judge(Tokens::read(value, Some(quote)).as_slice(), true);
    judge(Tokens::read(value, None).as_slice(), false) || within(b'\'') || within(b'"')
}

fn judge(tokens: &[Token<'_>], left_quotes: bool) -> bool {
    if left_quotes && matches!(tokens, [Token::Text(_), Token::Comment(_)]) {
        return true;
    }
    (0..tokens.len()).any(|at| {
        let (before, rest) = tokens.split_at_checked(at).unwrap_or_default();
        let value_before = matches!(before.last(), Some(Token::Text(_) | Token::Number(_) | Token::Close));
        adds_condition(rest, value_before, left_quotes)
            || is_union(rest)
            || is_second_statement(rest)
            || calls(before, rest)
    })
}

/// `or 1=1` behind a value: a condition of literals alone, or a literal as the condition at the end.
fn adds_condition(rest: &[Token<'_>], value_before: bool, left_quotes: bool) -> bool {
    let Some((first, mut rest)) = rest.split_first() else { return false };
    if !value_before || !(*first == Token::Logic || first.is(&["or", "and", "xor"])) {
        return false;
    }
    while let Some((first, after)) = rest.split_first()
        && (*first == Token::Open || first.is(&["not"]))
    {
        rest = after;
    }
    match rest {
        [left, Token::Compare, right, ..] => left.is_literal() && right.is_literal(),
        [left, like, right, ..] if like.is(&["like", "is", "in", "regexp", "rlike"]) => {
            left.is_literal() && (right.is_literal() || *right == Token::Open)
        }
        [literal] | [literal, Token::Comment(_)] => {
            left_quotes && literal.is_literal() && first.is(&["or", "xor"])
        }
        _ => false,
    }
}

/// `union [all] select`.
fn is_union(rest: &[Token<'_>]) -> bool {
    let Some((first, rest)) = rest.split_first() else { return false };
    let mut rest = rest.iter().skip_while(|token| **token == Token::Open || token.is(&["all", "distinct"]));
    // Words alone are a sentence; a literal, a list or a table makes it a query.
    first.is(&["union"])
        && rest.next().is_some_and(|token| token.is(&["select"]))
        && rest.any(|token| {
            matches!(
                token,
                Token::Number(_) | Token::Text(_) | Token::Comma | Token::Open | Token::Comment(_)
            ) || token.is(&["from", "null"])
        })
}

/// `; drop table`, and others that do something.
fn is_second_statement(rest: &[Token<'_>]) -> bool {
    let [Token::Semicolon, verb, rest @ ..] = rest else { return false };
    let then = |words: &[&str]| rest.first().is_some_and(|token| token.is(words));
    (verb.is(&["drop", "alter", "create", "truncate"])
        && then(&[
            "table",
            "database",
            "user",
            "schema",
            "view",
            "procedure",
            "function",
            "index",
            "login",
            "role",
        ]))
        || (verb.is(&["insert"]) && then(&["into"]))
        || (verb.is(&["delete"]) && then(&["from"]))
        || (verb.is(&["update"]) && rest.get(1).is_some_and(|token| token.is(&["set"])))
        || (verb.is(&["waitfor"]) && then(&["delay", "time"]))
        || (verb.is(&["exec", "execute"]) && matches!(rest.first(), Some(Token::Word(_) | Token::Open)))
        || (verb.is(&["declare"]) && matches!(rest.first(), Some(Token::Word([b'@', ..]))))
        || (verb.is(&["shutdown"])
            && matches!(rest.first(), None | Some(Token::Comment(_) | Token::Semicolon)))
        || (verb.is(&["select"]) && rest.iter().any(|token| token.is(&["from"]) || token.is(&FUNCTIONS)))
}

/// A function that waits, reads files or calls out, where an expression may stand.
fn calls(before: &[Token<'_>], rest: &[Token<'_>]) -> bool {
    let place = match before.last() {
        None | Some(Token::Word(_)) => {
            before.last().is_none_or(|token| token.is(&["and", "or", "select", "xor", "exec"]))
        }
        Some(_) => true,
    };
    matches!(rest, [function, Token::Open, ..] if place && function.is(&FUNCTIONS))
}

/// Whether a statement that an application sent looks as if a value had left its place: a condition that is always true
/// behind a value, a comment that hides the rest of a quoted one, or what no application asks for.
pub(crate) fn is_injected(statement: &[u8]) -> bool {
    let tokens = Tokens::read(statement, None);
    let tokens = tokens.as_slice();
    tokens.windows(5).any(|window| {
        let [value, or, left, Token::Compare, right] = window else { return false };
        value.is_literal() && or.is(&["or"]) && left.is_literal() && left == right
    }) || tokens.windows(3).any(|window| {
        matches!(window, [Token::Compare, Token::Text(_), Token::Comment(hidden)] if hidden.iter().any(|byte| matches!(byte, b'\'' | b'"')))
    }) || (0..tokens.len()).any(|at| {
        let (before, rest) = tokens.split_at_checked(at).unwrap_or_default();
        let value_before = matches!(before.last(), Some(Token::Text(_) | Token::Number(_)));
        let destructive = matches!(rest, [Token::Semicolon, verb, what, ..] if verb.is(&["drop"]) && what.is(&["table", "database"]));
        let asks_schema = is_union(rest)
            && (rest.iter().filter(|token| token.is(&["null"])).count() > 1
                || rest.iter().any(|token| matches!(token, Token::Word(word) if super::begins(word, b"information_schema"))));
        let waits = matches!(rest, [function, Token::Open, Token::Number(_), ..] if function.is(&["sleep", "benchmark", "pg_sleep"]))
            && before.last().is_some_and(|token| token.is(&["and", "or"]));
        let shell = rest.first().is_some_and(|token| token.is(&["xp_cmdshell", "master..xp_cmdshell"]));
        (destructive && value_before) || asks_schema || waits || shell
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_that_change_a_statement_are_told_from_those_that_only_look_like_sql() {
        for value in [
            "1 or 1=1",
            "' or '1'='1",
            "' OR 1=1 -- ",
            "admin'--",
            "admin' #",
            "\" or \"\"=\"",
            "1) or (1=1",
            "x' and 1=2 union select null,version()--",
            "1/**/union/**/all/**/select/**/1,2,3",
            "1 /*!50000union*/ select 1,2",
            "1; drop table users",
            "1'; exec xp_cmdshell('dir')--",
            "1 and sleep(5)",
            "1' or benchmark(1000000,md5(1))#",
            "' || '1'='1",
            "'; waitfor delay '0:0:5'--",
            "1 or not 1=2",
            "' or 1 like 1",
            "' or true--",
        ] {
            assert!(is_injection(value.as_bytes()), "missed: {value}");
        }
        for value in [
            "O'Reilly",
            "it's #1",
            "rock'n'roll",
            "select a union of workers",
            "black or white",
            "1 or 2 apples",
            "a=b&c=d",
            "John; drop me a line",
            "5' 11\"",
            "union select committee",
            "12/25 -- a date",
            "sleep well (please)",
            "x > 1 and y < 2",
            "C# or Java",
            "2024-01-01 and later",
            "he said \"yes\" or 'no'",
            "tel:+1-800-555-0100",
            "SELECT",
            "",
        ] {
            assert!(!is_injection(value.as_bytes()), "false: {value}");
        }
    }

    #[test]
    fn statements_of_applications_pass_and_injected_ones_do_not() {
        for statement in [
            "select * from users where name='a' or 1=1 -- ' and password='b'",
            "select * from users where name='admin'-- ' and password='x'",
            "select a from b where c=1 union select null,null,null",
            "select a from b where c='x' union all select table_name, 1 from information_schema.tables",
            "select * from t where id=1 and sleep(5)",
            "select * from t where id='1'; drop table users",
            "exec master..xp_cmdshell 'dir'",
        ] {
            assert!(is_injected(statement.as_bytes()), "missed: {statement}");
        }
        for statement in [
            "select * from orders where 1=1 and status='open' or total > 5",
            "select id, name from a union select id, name from b",
            "insert into t values ('it''s', 'a -- b', '# 5')",
            "select * from t where a='x' -- by the scheduler",
            "update t set a=1 where b=2; commit",
            "drop table if exists tmp_1",
            "begin; drop table tmp_1; commit",
        ] {
            assert!(!is_injected(statement.as_bytes()), "false: {statement}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in vec(any::<u8>(), 0..200), sql in vec(prop::sample::select(b"'\"()=;-#/*! or1union select".to_vec()), 0..200)) {
            for text in [&text, &sql] {
                is_injection(text);
                is_injected(text);
            }
        }
    }
}
