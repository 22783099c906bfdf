//! Secrets leave a command line here, at capture, before anything else sees it.
//!
//! What is recognised: `password=…` and its like as flag, variable, URL query, JSON or header; `--token …` as two
//! arguments; `-p…` of the clients that take a password there; `user:password@` in URLs; `-u user:password`;
//! `Bearer …`, `Basic …`; tokens by their well-known beginnings. When in doubt it hides too much.

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
/// How well-known tokens begin, and how many characters follow at least.
const TOKENS: [(&str, usize); 32] = [
    ("ghp_", 9),
    ("gho_", 9),
    ("ghs_", 9),
    ("ghu_", 9),
    ("ghr_", 9),
    ("github_pat_", 9),
    ("glpat-", 9),
    ("glptt-", 9),
    ("xoxb-", 9),
    ("xoxp-", 9),
    ("xoxa-", 9),
    ("xapp-", 9),
    ("sk_live_", 9),
    ("rk_live_", 9),
    ("sk-", 20),
    ("AIza", 20),
    ("ya29.", 20),
    ("eyJ", 9),
    ("hvs.", 9),
    ("hvb.", 9),
    ("AKIA", 12),
    ("ASIA", 12),
    ("npm_", 20),
    ("pypi-", 20),
    ("dckr_pat_", 9),
    ("dop_v1_", 20),
    ("shpat_", 20),
    ("SG.", 20),
    ("hf_", 20),
    ("tskey-", 9),
    ("K10", 40),
    ("AGE-SECRET-KEY-", 9),
];
/// Characters of a secret access key of AWS.
const AWS_SECRET: usize = 40;

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

/// Tokens that are known by their beginning and secret keys that are known by their form, wherever they stand.
fn tokens(word: &str) -> String {
    let part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let hidden = runs(word, part, |run| {
        TOKENS.iter().any(|(begin, least)| run.strip_prefix(begin).is_some_and(|rest| rest.len() >= *least))
    });
    let part = |c: char| c.is_ascii_alphanumeric() || "/+".contains(c);
    runs(&hidden, part, |run| {
        let has = |test: fn(&u8) -> bool| run.as_bytes().iter().any(test);
        run.len() == AWS_SECRET
            && !run.starts_with('/')
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
    })
}

/// Replaces the runs of characters for which `hide` holds.
fn runs(text: &str, part: impl Fn(char) -> bool, hide: impl Fn(&str) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let begin = rest.find(&part).unwrap_or(rest.len());
        let (before, run) = rest.split_at_checked(begin).unwrap_or((rest, ""));
        shown.push_str(before);
        let end = run.find(|c| !part(c)).unwrap_or(run.len());
        let (run, behind) = run.split_at_checked(end).unwrap_or((run, ""));
        shown.push_str(if hide(run) { HIDDEN } else { run });
        rest = behind;
    }
    shown
}

/// A private key in PEM (RFC 7468): all behind its first line goes, as where it ends may be cut.
fn keys(word: &str) -> String {
    match word.find("PRIVATE KEY-----") {
        Some(at) if word.contains("-----BEGIN ") => {
            format!("{}PRIVATE KEY-----{HIDDEN}", word.get(..at).unwrap_or_default())
        }
        _ => word.to_owned(),
    }
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redact(arguments: &[&str]) -> String {
        command(arguments.iter().map(|word| format!("{word}\0")).collect::<String>().as_bytes(), false)
    }

    #[test]
    fn secrets_are_hidden_wherever_they_are_given() {
        for (arguments, want) in [
            (&["curl", "--password=hunter2", "x"][..], "curl --password=*** x"),
            (&["app", "password=hunter2"], "app password=***"),
            (&["app", "--token", "abc", "--port", "80"], "app --token *** --port 80"),
            (&["app", "-secret", "abc"], "app -secret ***"),
            (&["mysql", "-uroot", "-phunter2", "db"], "mysql -uroot -p*** db"),
            (&["/usr/bin/mysqldump", "-psecret"], "/usr/bin/mysqldump -p***"),
            (&["tool", "-pS3cretWord"], "tool -p***"),
            (&["redis-cli", "-a", "hunter2", "ping"], "redis-cli -a *** ping"),
            (&["psql", "postgres://joe:hunter2@db:5432/x"], "psql postgres://joe:***@db:5432/x"),
            (&["git", "clone", "https://abcdef@host/x.git"], "git clone https://***@host/x.git"),
            (&["curl", "-u", "joe:hunter2", "http://h/"], "curl -u joe:*** http://h/"),
            (&["curl", "--user=joe:hunter2"], "curl --user=joe:***"),
            (&["curl", "-H", "Authorization: Bearer abc.def"], "curl -H Authorization: ***"),
            (&["curl", "-H", "Authorization: Basic am9l"], "curl -H Authorization: ***"),
            (&["curl", "-H", "X-Api-Key: 12345"], "curl -H X-Api-Key: ***"),
            (&["curl", "-H", "Cookie: a=b; c=d"], "curl -H Cookie: ***"),
            (&["x", "Bearer", "abc"], "x Bearer ***"),
            (&["x", "say Bearer abc now"], "x say Bearer *** now"),
            (&["env", "AWS_SECRET_ACCESS_KEY=abc", "ls"], "env AWS_SECRET_ACCESS_KEY=*** ls"),
            (&["sh", "-c", "PGPASSWORD=hunter2 psql -h db"], "sh -c PGPASSWORD=*** psql -h db"),
            (&["sh", "-c", "PGPASSWORD='hun ter2' psql"], "sh -c PGPASSWORD='***' psql"),
            (&["curl", "http://h/?token=abc&page=2"], "curl http://h/?token=***&page=2"),
            (
                &["curl", "-d", r#"{"password":"hunter2","user":"joe"}"#],
                r#"curl -d {"password":"***","user":"joe"}"#,
            ),
            (&["x", "ghp_0123456789abcdef"], "x ***"),
            (&["x", "--key=eyJhbGciOiJIUzI1NiJ9.e30.abc"], "x --key=***"),
            (&["curl", "https://h/p/eyJhbGciOiJIUzI1NiJ9.e30.abc/x"], "curl https://h/p/***/x"),
            (&["aws", "configure", "AKIAIOSFODNN7EXAMPLE"], "aws configure ***"),
            (&["x", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"], "x ***"),
            (&["x", "key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"], "x key=***"),
            (&["docker", "login", "-u", "joe", "-p", "hunter2", "h"], "docker login -u joe -p *** h"),
            (&["ldapsearch", "-w", "hunter2", "-x"], "ldapsearch -w *** -x"),
            (&["smbclient", "-U", "joe%hunter2", "//h/s"], "smbclient -U joe%*** //h/s"),
            (&["openssl", "-passin", "pass:hunter2"], "openssl -passin pass:***"),
            (&["redis-cli", "-u", "redis://:hunter2@h"], "redis-cli -u redis://:***@h"),
            (
                &["sh", "-c", "echo '-----BEGIN RSA PRIVATE KEY-----\nMIIE' > k"],
                "sh -c echo '-----BEGIN RSA PRIVATE KEY-----***",
            ),
        ] {
            assert_eq!(redact(arguments), want, "{arguments:?}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for arguments in [
            &["ls", "-la", "/etc/passwd"][..],
            &["ssh", "-p22", "git@host"],
            &["docker", "run", "-p", "8080:80", "-u", "1000:1000"],
            &["mkdir", "-pv", "/a"],
            &["find", "/", "-path", "*/x", "-print0"],
            &["app", "--token-file", "/run/token", "--password-stdin", "next"],
            &["git", "clone", "ssh://git@host:22/x.git"],
            &["wget", "http://host:8080/a=b"],
            &["sleep", "10"],
            &["nginx", "-g", "daemon off;"],
            &["app", "--passive", "--compass=n", "--author", "joe"],
            &["docker", "run", "-p", "80", "x"],
            &["tar", "-w", "x"],
            &["git", "checkout", "da39a3ee5e6b4b0d3255bfef95601890afd80709"],
            &["cat", "/usr/share/doc/Abcdefghijklmnopqrstuv1/x"],
            &["date", "+%H%M", "-U", "x"],
        ] {
            assert_eq!(redact(arguments), arguments.join(" "), "{arguments:?}");
        }
    }

    #[test]
    fn a_password_that_the_capture_cut_is_hidden_too() {
        assert_eq!(command(b"psql\0postgres://joe:hunt", true), "psql postgres://***");
        assert_eq!(command(b"app\0--password=hunt", true), "app --password=***");
    }

    proptest! {
        #[test]
        fn any_bytes_become_a_bounded_line_without_control_characters(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut: bool) {
            let line = command(&bytes, cut);
            prop_assert!(line.chars().count() <= MAX_CHARS);
            prop_assert!(!line.chars().any(char::is_control));
        }
        #[test]
        fn the_value_of_a_secret_never_shows(secret in "[A-Za-z0-9!%+]{6,20}", key in "(DB_)?(PASSWORD|password|api[-_]key|TOKEN)", how in 0_usize..5) {
            let words: Vec<String> = match how {
                0 => vec![format!("--{key}={secret}")],
                1 => vec![format!("--{key}"), secret.clone()],
                2 => vec![format!("{key}={secret}")],
                3 => vec![format!("run {key}={secret} now")],
                _ => vec![format!("{key}: {secret}")],
            };
            let mut bytes = b"app\0".to_vec();
            for word in words { bytes.extend_from_slice(word.as_bytes()); bytes.push(0); }
            let line = command(&bytes, false);
            prop_assert!(!line.contains(&secret), "{}", line);
        }

        #[test]
        fn a_planted_secret_never_shows_however_it_is_given(
            secret in "[A-Za-z0-9]{8,24}", user in "[a-z]{3,8}", at in 0_usize..4, how in 0_usize..16,
        ) {
            let token = |begin: &str| format!("{begin}{secret}0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH");
            let (program, words): (&str, Vec<String>) = match how {
                0 => ("psql", vec![format!("postgres://{user}:{secret}@db/x")]),
                1 => ("mysql", vec![format!("-p{secret}")]),
                2 => ("app", vec![format!("--db-password={secret}")]),
                3 => ("app", vec!["--password".into(), secret.clone()]),
                4 => ("env", vec![format!("PGPASSWORD={secret}")]),
                5 => ("curl", vec!["-H".into(), format!("Authorization: Bearer {secret}")]),
                6 => ("curl", vec!["-u".into(), format!("{user}:{secret}")]),
                7 => ("sh", vec!["-c".into(), format!("MYSQL_PWD={secret} run {user}")]),
                8 => ("app", vec![token("eyJ")]),
                9 => ("app", vec![format!("x:{}", token("ghp_"))]),
                10 => ("curl", vec![format!("https://h/{}/x", token("AKIA"))]),
                11 => ("curl", vec!["-d".into(), format!("{{\"api_key\": \"{secret}\"}}")]),
                12 => ("docker", vec!["login".into(), "-p".into(), secret.clone()]),
                13 => ("ldapsearch", vec![format!("-w{secret}")]),
                14 => ("app", vec![format!("https://h/?access_token={secret}&page=2")]),
                _ => ("aws", vec![format!("aws_secret_access_key={secret}")]),
            };
            let mut all = vec![program.to_owned()];
            // Where it stands must not matter.
            all.extend((0..at).map(|n| format!("word{n}")));
            all.extend(words);
            let bytes: Vec<u8> = all.iter().flat_map(|word| word.bytes().chain([0])).collect();
            let line = command(&bytes, false);
            prop_assert!(!line.contains(&secret), "{}", line);
        }
        #[test]
        fn ordinary_words_stay(words in proptest::collection::vec("-{0,2}[a-z]{1,7}(/[a-z]{1,6}){0,3}(\\.[a-z]{2,4})?", 1..8)) {
            let names = |word: &String| names_secret(word.trim_start_matches('-')) || word.starts_with("-p");
            prop_assume!(!words.iter().any(names));
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
            prop_assert_eq!(command(&bytes, false), words.join(" "));
        }
    }
}
