//! The command line of NeuVector's stand-alone scanner, and its environment, as commands of this one.
//!
//! `scanner -registry URL -repository NAME -tag TAG -d DIR`, with `SCANNER_REGISTRY`, `SCANNER_REPOSITORY`,
//! `SCANNER_TAG` and `SCANNER_PROXY_URL` in their place, prints the table and writes the result
//! as JSON to `/var/neuvector/scan_result.json`.

/// Where the result is written as JSON.
const RESULT: &str = "/var/neuvector/scan_result.json";
/// The folder of the database where none is named.
const FOLDER: &str = "/etc/neuvector/db/";
/// Commands of this scanner: what begins with one is not translated.
const COMMANDS: [&str; 8] = ["db", "match", "fs", "image", "sbom", "run", "update", "help"];
/// Flags with a value behind them, as Go's flag package reads them.
const WITH_VALUE: [&str; 6] = ["registry", "repository", "tag", "d", "proxy_url", "license"];
/// Flags without a value; a stand-alone scan submits nothing and always ends, so that these change nothing.
const ALONE: [&str; 6] =
    ["no_wait", "no_task", "x", "scan_layers", "enable-tls-verification", "cap_critical"];

/// The arguments as a command of this scanner; none where they are none of the stand-alone scanner's, or ask for what
/// it does not do. `environment` gives a variable's value.
pub(crate) fn translate(
    arguments: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    if arguments.first().is_some_and(|first| COMMANDS.contains(&first.as_str())) {
        return None;
    }
    let mut given: Vec<(&str, String)> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let flag = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if WITH_VALUE.contains(&name) {
            let value = match value {
                Some(value) => value,
                None => rest.next()?.clone(),
            };
            given.push((name, value));
        } else if ALONE.contains(&name) {
            given.push((name, String::new()));
        } else {
            return None;
        }
    }
    let value = |name: &str, variable: &str| {
        let given = given.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        given.or_else(|| environment(variable)).filter(|value| !value.is_empty())
    };
    let repository = value("repository", "SCANNER_REPOSITORY")?;
    let registry = value("registry", "SCANNER_REGISTRY")?;
    let tag = value("tag", "SCANNER_TAG").unwrap_or_else(|| "latest".to_owned());
    let folder = value("d", "").unwrap_or_else(|| FOLDER.to_owned());
    let mut command = vec!["image".to_owned(), format!("{repository}:{tag}")];
    let mut option = |name: &str, value: String| command.extend([name.to_owned(), value]);
    option("--registry", registry);
    option("--db", format!("{}/cvedb", folder.trim_end_matches('/')));
    option("--json-file", RESULT.to_owned());
    if let Some(proxy) = value("proxy_url", "SCANNER_PROXY_URL") {
        option("--proxy", proxy);
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(arguments: &[&str], environment: &[(&str, &str)]) -> Option<String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        translate(&arguments, &variable).map(|command| command.join(" "))
    }

    #[test]
    fn flags_and_variables_of_the_stand_alone_scanner_are_a_scan_of_an_image() {
        let want = "image library/alpine:3.6 --registry https://r.example/ --db /db/cvedb --json-file /var/neuvector/scan_result.json";
        let flags = [
            "-registry",
            "https://r.example/",
            "-repository",
            "library/alpine",
            "--tag=3.6",
            "-d",
            "/db/",
            "-no_wait",
        ];
        assert_eq!(translated(&flags, &[]).as_deref(), Some(want));
        let variables = [
            ("SCANNER_REGISTRY", "https://r.example/"),
            ("SCANNER_REPOSITORY", "library/alpine"),
            ("SCANNER_TAG", "3.6"),
        ];
        assert_eq!(translated(&["-license", "on_demand", "-d", "/db"], &variables).as_deref(), Some(want));
    }

    #[test]
    fn what_is_this_scanners_own_or_asks_for_something_else_is_left() {
        let variables = [("SCANNER_REGISTRY", "https://r.example/"), ("SCANNER_REPOSITORY", "x")];
        for arguments in
            [&["image", "-registry", "r"][..], &["-v", "-d", "/db"], &["-pid", "7"], &["-repository"]]
        {
            assert_eq!(translated(arguments, &variables), None, "{arguments:?}");
        }
        assert_eq!(translated(&["-d", "/db"], &[]), None);
    }
}
