//! Expressions that a server evaluates though they came from outside: Log4j's lookups (CVE-2021-44228), also where they
//! are put together out of other lookups, and OGNL of Struts (CVE-2017-5638).

use super::begins;

/// Lookups within a text that are resolved.
const MAX_LOOKUPS: usize = 64;

/// Whether a text has, after its lookups are resolved from the inside to the outside, one that asks JNDI. The text is
/// used up.
pub(crate) fn asks_jndi(text: &mut Vec<u8>) -> bool {
    for _ in 0..MAX_LOOKUPS {
        // The innermost is the one that begins last; what is not closed runs to the end.
        let Some(start) = memchr::memmem::rfind(text, b"${") else { return false };
        let inside = start.saturating_add(2);
        let rest = text.get(inside..).unwrap_or_default();
        if begins(rest, b"jndi:") {
            return true;
        }
        let Some(end) = memchr::memchr(b'}', rest) else {
            text.truncate(start);
            continue;
        };
        let content = rest.get(..end).unwrap_or_default();
        // `${lower:x}` and `${upper:x}` are x; `${anything:-x}` is x, too; others are replaced by what is not known.
        let kept = match memchr::memmem::find(content, b":-") {
            Some(at) => at.saturating_add(2)..end,
            None if begins(content, b"lower:") || begins(content, b"upper:") => 6..end,
            None => end..end,
        };
        let (from, to) = (inside.saturating_add(kept.start), inside.saturating_add(kept.end));
        let tail = inside.saturating_add(end).saturating_add(1);
        text.copy_within(from..to, start);
        let written = start.saturating_add(to.saturating_sub(from));
        text.drain(written..tail.min(text.len()));
    }
    false
}

/// Whether a text has an OGNL expression that reaches for objects: `%{(#` or `${(#`, or a name of its machinery.
pub(crate) fn has_ognl(text: &[u8]) -> bool {
    let begun = memchr::memmem::find(text, b"%{").or_else(|| memchr::memmem::find(text, b"${"));
    let Some(inside) = begun.and_then(|at| text.get(at..)) else { return false };
    [&b"(#"[..], b"#_memberAccess", b"@ognl.OgnlContext", b"#context", b"@java.lang.Runtime"]
        .iter()
        .any(|mark| memchr::memmem::find(inside, mark).is_some())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nested_lookups_are_resolved_before_they_are_judged() {
        for (text, want) in [
            ("${jndi:ldap://x/a}", true),
            ("${JNDI:rmi://x}", true),
            ("${${lower:j}ndi:ldap://x}", true),
            ("${${::-j}${::-n}${::-d}${::-i}:ldap://x}", true),
            ("${${env:NaN:-j}ndi${env:NaN:-:}${env:NaN:-l}dap://x}", true),
            ("${${upper:${lower:j}}ndi:dns://x}", true),
            ("${jndi:ldap", true),
            ("${date:yyyy}", false),
            ("price ${amount} jndi: none", false),
            ("plain", false),
            ("${", false),
        ] {
            assert_eq!(asks_jndi(&mut text.as_bytes().to_vec()), want, "{text}");
        }
    }

    #[test]
    fn expressions_of_ognl_are_known_by_what_they_reach_for() {
        assert!(has_ognl(b"%{(#_='multipart/form-data').(#dm=@ognl.OgnlContext@DEFAULT_MEMBER_ACCESS)}"));
        assert!(!has_ognl(b"multipart/form-data; boundary=%{x}"));
        assert!(!has_ognl(b"a #(comment)"));
    }

    proptest! {
        #[test]
        fn any_text_comes_to_an_end(text in vec(prop::sample::select(b"${}:-jndilower%#(".to_vec()), 0..300)) {
            asks_jndi(&mut text.clone());
            has_ognl(&text);
        }
    }
}
