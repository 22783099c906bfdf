//! Secrets leave a command line here, at capture, before anything else sees it.
//!
//! What is recognised: `password=…` and its like as flag, variable, URL query, JSON or header; `--token …` as two
//! arguments; `-p…` of the clients that take a password there, `-p …` of logins to registries, `-w …` of LDAP's, `-U
//! user%…` of Samba's; `user:password@` in URLs; `-u user:password`; `Bearer …`, `Basic …`; tokens by their well-known
//! beginnings, secret keys of AWS by their form, private keys in PEM. When in doubt it hides too much.

mod token;

use token::{keys, tokens};

/// What stands in a secret's place.
const HIDDEN: &str = "***";
/// Most characters of a redacted command.
const MAX_CHARS: usize = 512;

/// A key that has one of these in it names a secret (compared in lower case, `-` and `.` read as `_`).
const SECRET_WORDS: [&str; 18] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "accesskey",
    "access_key",
    "privatekey",
    "private_key",
    "credential",
    "authorization",
    "cookie",
    "signature",
    "encryption_key",
    "connectionstring",
    "connection_string",
];
/// A key that ends with one of these parts, or is one, names a secret.
const SECRET_PARTS: [&str; 6] = ["pwd", "pass", "pw", "auth", "sig", "creds"];
/// A key that ends with one of these names where a secret is, or how it is given, and not the secret.
const PLACES: [&str; 9] =
    ["_file", "_path", "_dir", "_stdin", "_store", "_name", "_type", "_url", "_endpoint"];
/// Programs whose `-p` takes a password without a space.
const PASSWORD_FLAG: [&str; 7] =
    ["mysql", "mysqldump", "mysqladmin", "mysqlimport", "mariadb", "mariadb-dump", "sshpass"];
/// Programs that take a password behind `-p` when they log in to a registry or cloud.
const LOGIN: [&str; 8] = ["docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "az", "oc"];
/// Redacts arguments that are separated by NUL, and joins them with spaces. `cut` says that the last one may go on
/// beyond what was captured. Control characters become spaces; the result has at most 512 characters.
#[must_use]
pub fn command(arguments: &[u8], cut: bool) -> String {
    let text = String::from_utf8_lossy(arguments);
    let words: Vec<&str> = text.split('\0').collect();
    let words = match words.as_slice() {
        // Each argument ends with NUL, so behind the last one there is nothing.
        [head @ .., ""] => head,
        all => all,
    };
    let program = words.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let login = words.contains(&"login");
    let mut shown: Vec<String> = Vec::with_capacity(words.len());
    let mut hide_next = false;
    for (at, word) in words.iter().enumerate() {
        let last = cut && at + 1 == words.len();
        if std::mem::take(&mut hide_next) && !word.is_empty() {
            shown.push(HIDDEN.to_owned());
            continue;
        }
        hide_next = at > 0 && (announces_secret(word) || is_scheme(word));
        let before = at.checked_sub(1).and_then(|before| words.get(before)).copied().unwrap_or_default();
        shown.push(match short_flag(program, login, before, word) {
            Some(hidden) => hidden,
            None => argument(word, last),
        });
    }
    let line = shown.join(" ");
    line.chars().take(MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `-p…` with a password, and the value of `-u`. `login` says that the program was told to log in.
fn short_flag(program: &str, login: bool, before: &str, word: &str) -> Option<String> {
    if let Some(value) = word.strip_prefix("-p").filter(|value| !value.is_empty()) {
        let mixed = value.chars().any(|c| c.is_ascii_digit()) && value.chars().any(char::is_alphabetic);
        let looks_secret = mixed && value.len() >= 6 && !value.starts_with(|c: char| c.is_ascii_digit());
        if PASSWORD_FLAG.contains(&program) || looks_secret {
            return Some(format!("-p{HIDDEN}"));
        }
    }
    let ldap = program.starts_with("ldap");
    if before == "-a" && program == "redis-cli"
        || before == "-p"
            && (matches!(program, "mongo" | "mongosh" | "sshpass" | "mongodump")
                || LOGIN.contains(&program) && login)
        || before == "-w" && ldap
    {
        return Some(HIDDEN.to_owned());
    }
    if ldap && word.len() > 2 && word.starts_with("-w") {
        return Some(format!("-w{HIDDEN}"));
    }
    if let ("-U" | "--user", Some((user, _))) = (before, word.split_once('%')) {
        return Some(format!("{user}%{HIDDEN}"));
    }
    let (flag, pair) = match (before, word.strip_prefix("-u").or_else(|| word.strip_prefix("--user="))) {
        ("-u" | "--user" | "--proxy-user" | "-U", _) => ("", word),
        (_, Some(pair)) => (word.strip_suffix(pair).unwrap_or_default(), pair),
        _ => return None,
    };
    let (user, password) = pair.split_once(':')?;
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A user and a group by number are no secret.
    (!(password.starts_with("//") || numbers(user) && numbers(password)))
        .then(|| format!("{flag}{user}:{HIDDEN}"))
}

/// A flag whose value is the next argument: `--token`, `-password`.
fn announces_secret(word: &str) -> bool {
    word.starts_with('-') && !word.contains(['=', ':', ' ']) && names_secret(word.trim_start_matches('-'))
}

fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer")
}

/// Whether what is called `key` is a secret.
fn names_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace(['-', '.'], "_");
    if PLACES.iter().any(|place| key.ends_with(place)) {
        return false;
    }
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || SECRET_PARTS.iter().any(|part| key.rsplit('_').next() == Some(*part))
        || ["pgpassword", "mysql_pwd"].contains(&key.as_str())
}

/// Redacts inside of one argument.
fn argument(word: &str, cut: bool) -> String {
    let word = credentials_in_urls(word, cut);
    let word = values_of_keys(&word);
    let word = schemes(&word);
    keys(&tokens(&word))
}

/// `scheme://user:password@host` keeps user and host.
fn credentials_in_urls(word: &str, cut: bool) -> String {
    let mut shown = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(['/', '?', '#', ' ', '"', '\'', ',']).unwrap_or(after.len());
        let (authority, behind) = after.split_at_checked(end).unwrap_or((after, ""));
        match authority.rsplit_once('@') {
            Some((user, host)) => match user.split_once(':') {
                Some((name, _)) => shown.push_str(&format!("{name}:{HIDDEN}@{host}")),
                None if before.ends_with("http") || before.ends_with("https") => {
                    shown.push_str(&format!("{HIDDEN}@{host}"));
                }
                None => shown.push_str(authority),
            },
            // Cut before the '@' that would tell.
            None if cut && behind.is_empty() && authority.contains(':') => shown.push_str(HIDDEN),
            None => shown.push_str(authority),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

/// `key=value`, `key: value`, `"key":"value"`: the value goes when the key names a secret.
fn values_of_keys(word: &str) -> String {
    let mut shown = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let mut after = after.chars();
        let sign = after.next();
        let after = after.as_str();
        let key = before.trim_end_matches(['"', '\'', ' ', '\\']);
        let key =
            key.rsplit(|c: char| !(c.is_alphanumeric() || "_-.".contains(c))).next().unwrap_or_default();
        shown.push_str(before);
        shown.extend(sign);
        rest = after;
        if !names_secret(key.trim_start_matches('-')) || after.starts_with("//") || sign.is_none() {
            continue;
        }
        let value = after.trim_start_matches([' ', '\\']);
        let lead = after.len().saturating_sub(value.len());
        shown.push_str(after.get(..lead).unwrap_or_default());
        let quote = value.chars().next().filter(|c| "\"'".contains(*c));
        let inner = quote.map_or(value, |quote| value.strip_prefix(quote).unwrap_or(value));
        let header = sign == Some(':') && quote.is_none();
        let end = match quote {
            Some(quote) => inner.find(quote),
            // The value of a header goes to its end: `Authorization: Basic …`, `Cookie: a=b; c=d`.
            None if header => None,
            None => inner.find([' ', '\t', '\n', '&', ',', ';', '"', '\'']),
        };
        let end = end.unwrap_or(inner.len());
        shown.extend(quote);
        if end > 0 {
            shown.push_str(HIDDEN);
        }
        rest = inner.get(end..).unwrap_or_default();
    }
    shown.push_str(rest);
    shown
}

/// `Bearer …` and `Basic …` anywhere in the text.
fn schemes(word: &str) -> String {
    let mut shown = String::with_capacity(word.len());
    let mut hide = false;
    for piece in word.split_inclusive(' ') {
        let bare = piece.trim();
        if hide && !bare.is_empty() {
            shown.push_str(HIDDEN);
            shown.push_str(if piece.ends_with(' ') { " " } else { "" });
            hide = false;
            continue;
        }
        let bare = bare.trim_start_matches(['"', '\'', ':', '=']);
        hide = piece.ends_with(' ') && (is_scheme(bare) || bare.eq_ignore_ascii_case("basic"));
        shown.push_str(piece);
    }
    shown
}

#[cfg(test)]
mod tests;
