//! The command line of NeuVector's scanner, and its environment, as commands of this one.
//!
//! `scanner -registry URL -repository NAME -tag TAG -d DIR`, with `SCANNER_REGISTRY`, `SCANNER_REPOSITORY`, `SCANNER_TAG`,
//! `SCANNER_BASE_IMAGE` and `SCANNER_PROXY_URL` in their place, or `-image URL/NAME:TAG`, or `-pid NUMBER`, prints the table
//! and writes the result to `/var/neuvector/scan_result.json`; where a controller to join is named and
//! `SCANNER_CTRL_API_USERNAME` is set, the result is handed in there. `scanner -j CONTROLLER -d DIR` without any of them, with
//! `CLUSTER_JOIN_ADDR` in its place, serves a controller.

/// Where the result is written.
const RESULT: &str = "/var/neuvector/scan_result.json";
/// The folder of the database where none is named.
const FOLDER: &str = "/etc/neuvector/db/";
/// Flags with a value behind them, as Go's flag package reads them.
const WITH_VALUE: [&str; 21] = [
    "registry",
    "repository",
    "tag",
    "image",
    "pid",
    "base_image",
    "registry_username",
    "ctrl_username",
    "show",
    "debug",
    "d",
    "proxy_url",
    "license",
    "j",
    "join_port",
    "a",
    "adv_port",
    "u",
    "maxrec",
    "p",
    "o",
];
/// Flags without a value. `cap_critical` says that whoever reads the result knows what is worse than high. The others change
/// nothing here: a scan ends by itself, certificates are verified, layers are kept.
const ALONE: [&str; 6] =
    ["no_wait", "no_task", "x", "scan_layers", "enable-tls-verification", "cap_critical"];

/// The arguments as a command of this scanner; none where they are none of NeuVector's scanner, or ask for what this one does
/// not do. `environment` gives a variable's value.
pub(crate) fn translate(
    arguments: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Vec<String>> {
    let given = flags(arguments)?;
    let value = |name: &str, variable: &str| {
        let given = given.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        given.or_else(|| environment(variable)).filter(|value| !value.is_empty())
    };
    let folder = value("d", "").unwrap_or_else(|| FOLDER.to_owned());
    if let Some(file) = value("o", "") {
        return Some(with_options(Vec::new(), vec![("-d", Some(folder)), ("-o", Some(file))]));
    }
    let database = format!("{}/cvedb", folder.trim_end_matches('/'));
    let mut command: Vec<String> = Vec::new();
    let subject = match (value("pid", ""), image(&value)) {
        (Some(pid), _) => {
            let number: u32 = pid.parse().ok()?;
            command.extend(["fs".to_owned(), format!("/proc/{number}/root")]);
            true
        }
        (None, Some((registry, name))) => {
            command.extend(["image".to_owned(), name]);
            command.extend(registry.into_iter().flat_map(|url| ["--registry".to_owned(), url]));
            true
        }
        (None, None) => false,
    };
    if subject {
        let mut options = vec![("--db", Some(database)), ("--result-file", Some(RESULT.to_owned()))];
        if value("pid", "").is_none() {
            options.push(("--base-image", value("base_image", "SCANNER_BASE_IMAGE")));
            options.push(("--registry-user", value("registry_username", "")));
            options.push(("--proxy", value("proxy_url", "SCANNER_PROXY_URL")));
            options.push(("--runtime-socket", value("u", "")));
            let user = value("ctrl_username", "SCANNER_CTRL_API_USERNAME");
            if let (Some(user), Some(join)) = (user, value("j", "CLUSTER_JOIN_ADDR")) {
                let port = value("join_port", "CLUSTER_JOIN_PORT").filter(|port| port != "0");
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                options.push(("--submit", Some(format!("{join}{port}"))));
                options.push(("--submit-user", Some(user)));
            }
        }
        options.push(("--show", value("show", "")));
        let mut command = with_options(command, options);
        if !given.iter().any(|(name, _)| *name == "cap_critical") {
            command.push("--no-critical".to_owned());
        }
        return Some(command);
    }
    // The remaining variables are those of the command itself.
    let options = vec![
        ("--controller", Some(value("j", "CLUSTER_JOIN_ADDR")?)),
        ("--controller-port", value("join_port", "").filter(|port| port != "0")),
        ("--advertise", value("a", "")),
        ("--runtime-socket", value("u", "")),
        ("--db", Some(folder)),
    ];
    Some(with_options(vec!["run".to_owned()], options))
}

fn with_options(mut command: Vec<String>, options: Vec<(&str, Option<String>)>) -> Vec<String> {
    for (name, value) in options {
        command.extend(value.map(|value| [name.to_owned(), value]).into_iter().flatten());
    }
    command
}

/// Names and values of flags; none where one is not known.
fn flags(arguments: &[String]) -> Option<Vec<(&str, String)>> {
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
    Some(given)
}

/// The address of the registry, where one is named, and the image's name there. Without one it is looked for in the
/// runtimes of this machine first.
fn image(value: &dyn Fn(&str, &str) -> Option<String>) -> Option<(Option<String>, String)> {
    if let Some(image) = value("image", "") {
        let (scheme, rest) = image.split_once("://").unwrap_or(("https", &image));
        let is_host = |host: &&str| host.contains(['.', ':']) || *host == "localhost";
        let of_registry = rest.split_once('/').filter(|(host, name)| is_host(host) && !name.is_empty());
        return Some(match of_registry {
            Some((host, name)) => (Some(format!("{scheme}://{host}/")), tagged(name)),
            None => (None, tagged(rest)),
        });
    }
    let repository = value("repository", "SCANNER_REPOSITORY")?;
    let registry = value("registry", "SCANNER_REGISTRY")
        .map(|registry| if registry.contains("://") { registry } else { format!("https://{registry}") });
    let tag = value("tag", "SCANNER_TAG").unwrap_or_else(|| "latest".to_owned());
    let sign = if tag.starts_with("sha256:") { '@' } else { ':' };
    let hub = ["docker.io", "index.docker.io", "registry.hub.docker.com", "registry-1.docker.io"];
    let of_hub = registry.as_ref().is_some_and(|url| hub.iter().any(|host| url.contains(host)));
    let library = if of_hub && !repository.contains('/') { "library/" } else { "" };
    Some((registry, format!("{library}{repository}{sign}{tag}")))
}

fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
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
        let want = "image library/alpine:3.6 --registry https://r.example/ --db /db/cvedb --result-file /var/neuvector/scan_result.json --no-critical";
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
            ("CLUSTER_JOIN_ADDR", "controller"),
        ];
        assert_eq!(translated(&["-license", "on_demand", "-d", "/db"], &variables).as_deref(), Some(want));
    }

    #[test]
    fn a_result_is_handed_in_where_a_controller_and_a_user_are_named() {
        let image = [("SCANNER_REPOSITORY", "web"), ("SCANNER_ON_DEMAND", "true")];
        let want =
            "image web:latest --db /etc/neuvector/db/cvedb --result-file /var/neuvector/scan_result.json";
        for (flags, variables, more) in [
            (
                &[][..],
                &[("CLUSTER_JOIN_ADDR", "c"), ("SCANNER_CTRL_API_USERNAME", "ci")][..],
                " --submit c --submit-user ci",
            ),
            (
                &["-j", "c", "--join_port", "443", "--ctrl_username", "ci", "-show", "cmd,module"],
                &[],
                " --submit c:443 --submit-user ci --show cmd,module",
            ),
            (
                &["-u", "unix:///run/x.sock"],
                &[("CLUSTER_JOIN_ADDR", "c")],
                " --runtime-socket unix:///run/x.sock",
            ),
        ] {
            let variables: Vec<(&str, &str)> = image.iter().chain(variables).copied().collect();
            let want = format!("{want}{more} --no-critical");
            assert_eq!(translated(flags, &variables), Some(want), "{flags:?}");
        }
    }

    #[test]
    fn an_image_by_its_whole_name_and_a_process_are_scanned() {
        let file = "--db /etc/neuvector/db/cvedb --result-file /var/neuvector/scan_result.json";
        let rest = format!("{file} --no-critical");
        for (name, want) in [
            ("r.example:5000/shop/web:1.0", "shop/web:1.0 --registry https://r.example:5000/"),
            ("http://localhost/web", "web:latest --registry http://localhost/"),
            ("alpine:3.20", "alpine:3.20"),
            ("bitnami/redis", "bitnami/redis:latest"),
        ] {
            let found = translated(&["-license", "on_demand", "-image", name], &[]);
            assert_eq!(found, Some(format!("image {want} {rest}")), "{name}");
        }
        assert_eq!(translated(&["-pid", "7"], &[]), Some(format!("fs /proc/7/root {rest}")));
        assert_eq!(translated(&["-pid", "7", "-cap_critical"], &[]), Some(format!("fs /proc/7/root {file}")));
        assert_eq!(translated(&["-pid", "7/../.."], &[]), None);
    }

    #[test]
    fn a_database_is_written_as_json_before_anything_else_is_done() {
        let variables = [("SCANNER_REPOSITORY", "web"), ("CLUSTER_JOIN_ADDR", "c")];
        let found = translated(&["-license", "x", "-o", "/tmp/all.json", "-d", "/db/"], &variables);
        assert_eq!(found.as_deref(), Some("-d /db/ -o /tmp/all.json"));
    }

    #[test]
    fn a_scanner_that_joins_a_controller_serves_it() {
        let variables = [("CLUSTER_JOIN_ADDR", "controller.neuvector")];
        for (arguments, variables, want) in [
            (&[][..], &variables[..], "run --controller controller.neuvector --db /etc/neuvector/db/"),
            (
                &[
                    "-j",
                    "c",
                    "-join_port",
                    "18400",
                    "-a",
                    "10.0.0.7",
                    "-adv_port",
                    "18402",
                    "-d",
                    "/db/",
                    "-x",
                ],
                &[],
                "run --controller c --controller-port 18400 --advertise 10.0.0.7 --db /db/",
            ),
            (
                &["-u", "unix:///run/x.sock", "-maxrec", "1000"],
                &variables,
                "run --controller controller.neuvector --runtime-socket unix:///run/x.sock --db /etc/neuvector/db/",
            ),
        ] {
            assert_eq!(translated(arguments, variables).as_deref(), Some(want), "{arguments:?}");
        }
    }

    #[test]
    fn what_is_this_scanners_own_or_asks_for_something_else_is_left() {
        let variables = [("SCANNER_REGISTRY", "https://r.example/"), ("SCANNER_REPOSITORY", "x")];
        for arguments in [
            &["image", "-registry", "r"][..],
            &["-v", "-d", "/db"],
            &["-registry_password", "x"],
            &["-repository"],
        ] {
            assert_eq!(translated(arguments, &variables), None, "{arguments:?}");
        }
        assert_eq!(translated(&["-d", "/db"], &[]), None);
    }
}
