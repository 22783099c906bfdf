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
