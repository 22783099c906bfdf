//! `WWW-Authenticate` of a registry (RFC 9110 section 11.6.1; Docker's "Token authentication specification").

/// How a registry wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from this authority.
    Bearer {
        /// Its address.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What the token is to allow; the client knows better when it is absent.
        scope: Option<String>,
    },
}

/// Bearer before Basic; `None` when the header has neither.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let mut basic = None;
    for (scheme, parameters) in challenges(header) {
        if scheme.eq_ignore_ascii_case("bearer") {
            let get = |name: &str| {
                parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            if let Some(realm) = get("realm") {
                return Some(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

type Parameters = Vec<(String, String)>;

/// `scheme key=value, key="value", scheme …`, taken apart leniently: what is not understood is passed over.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            // A stray `=`, or the end.
            match after.strip_prefix('=') {
                Some(after) => rest = after,
                None => return found,
            }
            continue;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = take_value(value.trim_start());
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        rest = after;
    }
}

/// A quoted string, or everything up to the next comma or blank.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => break,
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    (value, characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let text = |one: Option<&str>| one.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: text(service), scope: text(scope) })
    }

    #[test]
    fn a_challenge_is_read_as_registries_write_it() {
        let docker = r#"Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push""#;
        assert_eq!(
            parse(docker),
            bearer("https://auth.example/token", Some("r.example"), Some("repository:a/b:pull,push"))
        );
        assert_eq!(
            parse(r#"bearer Realm = "https://x/" , error="insufficient_scope""#),
            bearer("https://x/", None, None)
        );
        assert_eq!(parse(r#"Basic realm="a \"b\", c""#), Some(Challenge::Basic));
        assert_eq!(parse(r#"Basic realm="x", Bearer realm="https://y/""#), bearer("https://y/", None, None));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for text in ["", "=", ",,,==", "Negotiate abc==", "Bearer", "Bearer realm", "\"", "Bearer scope=\"x"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
