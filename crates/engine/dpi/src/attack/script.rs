//! Scripts in a request that an answer may carry back into a page (cross-site scripting), by reading tags and attributes
//! as a browser does.

/// Whether a decoded text has a tag that runs something: a script, or any tag with a handler or a script for an address.
pub(crate) fn runs_script(text: &[u8]) -> bool {
    memchr::memchr_iter(b'<', text).any(|at| {
        let rest = text.get(at.saturating_add(1)..).unwrap_or_default();
        let name = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let (tag, attributes) = rest.split_at_checked(name).unwrap_or_default();
        // `<scripture>` is no script: the name must end.
        let ends = attributes.first().is_none_or(|byte| b" \t\r\n\x0C/>".contains(byte));
        if !ends || tag.is_empty() {
            return false;
        }
        let attributes = attributes.split(|byte| *byte == b'>').next().unwrap_or_default();
        tag.eq_ignore_ascii_case(b"script") || has_handler(attributes) || has_address(attributes)
    })
}

/// `onload=`, behind a space, a slash or a quote.
fn has_handler(attributes: &[u8]) -> bool {
    attributes.windows(3).enumerate().any(|(at, start)| {
        let [before, o, n] = start else { return false };
        if !b" \t\r\n\x0C/\"'".contains(before)
            || !o.eq_ignore_ascii_case(&b'o')
            || !n.eq_ignore_ascii_case(&b'n')
        {
            return false;
        }
        let rest = attributes.get(at.saturating_add(3)..).unwrap_or_default();
        let name = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let after = rest.get(name..).unwrap_or_default().trim_ascii_start();
        name >= 3 && after.first() == Some(&b'=')
    })
}

/// An address that begins with `javascript:`, blanks within it left out.
fn has_address(attributes: &[u8]) -> bool {
    memchr::memchr_iter(b'=', attributes).any(|at| {
        let value = attributes.get(at.saturating_add(1)..).unwrap_or_default();
        let letters =
            value.iter().filter(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\'' | 0));
        letters.map(u8::to_ascii_lowercase).take(11).eq(b"javascript:".iter().copied())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_run_something_are_told_from_text_and_markup() {
        for (text, want) in [
            ("<script>alert(1)</script>", true),
            ("\"><ScRiPt src=//x>", true),
            ("<img src=x onerror=alert(1)>", true),
            ("<svg/onload=alert(1)", true),
            ("<a href=\"java\tscript:alert(1)\">", true),
            ("<scripture>", false),
            ("<b onion=\"x\">", true),
            ("<b>bold</b>", false),
            ("a < b and c > d", false),
            ("1 <on= 2", false),
            ("<img src=x alt=\"on a day\">", false),
        ] {
            assert_eq!(runs_script(text.as_bytes()), want, "{text}");
        }
    }
}
