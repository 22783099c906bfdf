use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;

use crate::Options;
use crate::options::Protocol;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogStyle {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The adapter for Harbor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarborSettings {
    /// By which name Harbor shows itself.
    pub user: String,
    /// Where the password is; none for the environment's `HARBOR_BASIC_AUTH_PASSWORD`.
    pub password_file: Option<PathBuf>,
    /// It has TLS.
    pub tls: bool,
    /// Its port.
    pub port: u16,
}

/// Every setting with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Folder for everything that outlives the process.
    pub state_dir: PathBuf,
    /// Address that servers listen on.
    pub bind: IpAddr,
    /// Port of the REST API.
    pub rest_port: u16,
    /// Port where the controller takes enforcers.
    pub grpc_port: u16,
    /// Port of the console.
    pub console_port: u16,
    /// The console has TLS.
    pub console_ssl: bool,
    /// Path in front of the console's addresses; empty or `/…` without a slash at its end.
    pub path_prefix: String,
    /// Where the one-time password is written to.
    pub bootstrap_password_file: Option<PathBuf>,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Host of the controller, for a role alone.
    pub controller: String,
    /// Token of a new enforcer.
    pub join_token_file: Option<PathBuf>,
    /// Where a token for scanners is kept.
    pub scanner_token_file: Option<PathBuf>,
    /// The adapter for Harbor; none where no user was named.
    pub harbor: Option<HarborSettings>,
    /// The database of the scanner in this process.
    pub database: Option<PathBuf>,
    /// Public key (Ed25519) that a database has to be signed with.
    pub database_key: Option<[u8; 32]>,
    /// Keys that secrets in the store are sealed with.
    pub secrets_key_file: PathBuf,
    /// Scans that one scanner does at one time, 1 to 64.
    pub scanner_tasks: u32,
    /// Root that the REST server is verified with, for a manager alone.
    pub controller_ca: PathBuf,
    /// The runtime's socket; `None` to look for one.
    pub containerd_socket: Option<PathBuf>,
    /// Docker's socket; `None` to look for it.
    pub docker_socket: Option<PathBuf>,
    /// Where the runtime takes plug-ins of NRI; `None` to do without.
    pub nri_socket: Option<PathBuf>,
    /// The runtime's state directory; `None` to ask the runtime.
    pub runtime_state_dir: Option<PathBuf>,
    /// Folder on the BPF file system.
    pub bpf_dir: PathBuf,
    /// Networks that only services have addresses of.
    pub service_ranges: Vec<IpNet>,
    /// CPU time that the enforcer may use, in percent of one CPU; at least 1.
    pub enforcer_cpu_percent: u32,
    /// Resident memory that the enforcer may use, in bytes.
    pub enforcer_memory_bytes: u64,
    /// First tier of mechanisms that may be used, 1 to 4.
    pub enforcer_tier: u8,
    /// Processes that inspect packets, 1 to 16; `None`: by the CPUs.
    pub enforcer_inspectors: Option<u8>,
    /// Files of running containers are searched for secrets.
    pub secret_scans: bool,
    /// Log filter.
    pub log: String,
    /// Log style.
    pub log_format: LogStyle,
    /// Most bytes of the event log.
    pub event_log_bytes: u64,
    /// Days that events are kept.
    pub event_log_days: u32,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {} cannot be read", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key or value that is not known.
    #[error("configuration file {} has a mistake: {message}", .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where, with the line.
        message: String,
    },
    /// A value that cannot be used.
    #[error("{setting} is {value:?}, {expected}")]
    Value {
        /// The flag.
        setting: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
}

impl Settings {
    /// Resolves what was given on the command line and in the environment against the file and the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the key or the flag.
    pub fn resolve(given: Options) -> Result<Self, ConfigError> {
        let file = match &given.config {
            Some(path) => read_file(path)?,
            None => Options::default(),
        };
        let given = given.over(file);
        let state_dir = given.state_dir.unwrap_or_else(|| PathBuf::from("/var/neuvector"));
        let path_prefix = given.path_prefix.unwrap_or_default();
        let path_prefix = path_prefix.trim_end_matches('/').to_owned();
        if !path_prefix.is_empty() && !path_prefix.starts_with('/') {
            return Err(ConfigError::Value {
                setting: "--path-prefix",
                value: path_prefix,
                expected: "expected a path that begins with /",
            });
        }
        Ok(Self {
            controller_ca: given.controller_ca.unwrap_or_else(|| state_dir.join("root.pem")),
            secrets_key_file: given.secrets_key_file.unwrap_or_else(|| state_dir.join("secrets.key")),
            database_key: given.database_key.as_deref().map(public_key).transpose()?,
            state_dir,
            bind: given.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            rest_port: given.rest_port.unwrap_or(10443),
            grpc_port: given.grpc_port.unwrap_or(18400),
            console_port: given.console_port.unwrap_or(8443),
            console_ssl: given.console_ssl.is_none_or(|on| on.0),
            path_prefix,
            bootstrap_password_file: given.bootstrap_password_file,
            cluster_name: given.cluster_name.unwrap_or_else(|| "cluster.local".to_owned()),
            controller: given.controller.unwrap_or_else(|| "127.0.0.1".to_owned()),
            join_token_file: given.join_token_file,
            scanner_token_file: given.scanner_token_file,
            harbor: given.harbor_user.filter(|user| !user.is_empty()).map(|user| {
                let tls = given.harbor_proto.unwrap_or_default() == Protocol::Https;
                HarborSettings {
                    user,
                    password_file: given.harbor_password_file,
                    tls,
                    port: given.harbor_port.unwrap_or(if tls { 9443 } else { 8090 }),
                }
            }),
            database: given.database,
            scanner_tasks: given.scanner_tasks.unwrap_or(2).clamp(1, 64),
            containerd_socket: socket("--containerd-socket", given.containerd_socket)?,
            docker_socket: socket("--docker-socket", given.docker_socket)?,
            nri_socket: socket("--nri-socket", given.nri_socket)?,
            runtime_state_dir: given.runtime_state_dir,
            bpf_dir: given.bpf_dir.unwrap_or_else(|| PathBuf::from("/sys/fs/bpf/neuvector")),
            service_ranges: networks("--service-range", given.service_range)?,
            enforcer_cpu_percent: given.enforcer_cpu_percent.unwrap_or(100).max(1),
            enforcer_memory_bytes: given.enforcer_memory_mb.unwrap_or(300).saturating_mul(1024 * 1024),
            enforcer_tier: match given.enforcer_tier {
                None => 1,
                Some(tier @ 1..=4) => tier,
                Some(other) => {
                    return Err(ConfigError::Value {
                        setting: "--enforcer-tier",
                        value: other.to_string(),
                        expected: "expected 1, 2, 3 or 4",
                    });
                }
            },
            enforcer_inspectors: match given.enforcer_inspectors {
                count @ (None | Some(1..=16)) => count,
                Some(other) => {
                    return Err(ConfigError::Value {
                        setting: "--enforcer-inspectors",
                        value: other.to_string(),
                        expected: "expected a number from 1 to 16",
                    });
                }
            },
            secret_scans: given.no_secret_scans.is_none_or(|off| !off.0),
            log: given.log.unwrap_or_else(|| "info".to_owned()),
            log_format: given.log_format.unwrap_or_default(),
            event_log_bytes: given.event_log_mb.unwrap_or(1024).saturating_mul(1024 * 1024),
            event_log_days: given.event_log_days.unwrap_or(30),
        })
    }
}

/// Most bytes that a configuration file may have.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

fn read_file(path: &Path) -> Result<Options, ConfigError> {
    use std::io::Read as _;
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    std::fs::File::open(path).map_err(read)?.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(read)?;
    toml::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// A public key of 64 hexadecimal digits.
fn public_key(path: &Path) -> Result<[u8; 32], ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let digits = text.trim();
    let wrong = || ConfigError::Value {
        setting: "--database-key",
        value: path.display().to_string(),
        expected: "expected a file with a public key of 64 hexadecimal digits",
    };
    let mut key = [0; 32];
    if digits.len() != 64 {
        return Err(wrong());
    }
    for (slot, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_no_text| wrong())?;
        *slot = u8::from_str_radix(pair, 16).map_err(|_no_digits| wrong())?;
    }
    Ok(key)
}

/// The path of a runtime's socket. An API over TCP is no thing to trust with what a container is.
fn socket(setting: &'static str, given: Option<String>) -> Result<Option<PathBuf>, ConfigError> {
    let Some(raw) = given else { return Ok(None) };
    let path = raw.strip_prefix("unix://").unwrap_or(&raw);
    if !path.starts_with('/') {
        let expected = "expected an absolute path of a unix socket";
        return Err(ConfigError::Value { setting, value: raw, expected });
    }
    Ok(Some(PathBuf::from(path)))
}

/// Most networks of services; the kernel's table of them has no more rows.
const MAX_SERVICE_RANGES: usize = 16;

/// Networks with commas between them.
fn networks(setting: &'static str, given: Option<String>) -> Result<Vec<IpNet>, ConfigError> {
    let Some(raw) = given else { return Ok(Vec::new()) };
    let parsed: Result<Vec<IpNet>, _> = raw.split(',').map(|one| one.trim().parse()).collect();
    match parsed {
        Ok(networks) if networks.len() <= MAX_SERVICE_RANGES => Ok(networks),
        _ => {
            let expected =
                "expected at most 16 networks with commas between them, as 10.96.0.0/12,fd00:96::/108";
            Err(ConfigError::Value { setting, value: raw, expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(args: &[&str]) -> Options {
        Line::try_parse_from(["neuvector"].iter().chain(args)).unwrap().options
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "rest_port = 1\nconsole_port = 2\nconsole_ssl = \"off\"").unwrap();
        let path = file.path().to_str().unwrap();
        let settings = Settings::resolve(parse(&["--config", path, "--rest-port", "9"])).unwrap();
        assert_eq!((settings.rest_port, settings.console_port, settings.grpc_port), (9, 2, 18400));
        assert!(!settings.console_ssl);
    }

    #[test]
    fn the_key_of_databases_is_read_from_its_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{}", "0a".repeat(32)).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        let settings = Settings::resolve(parse(&["--database-key", &path])).unwrap();
        assert_eq!(settings.database_key, Some([10; 32]));
        writeln!(file, "more").unwrap();
        let error = Settings::resolve(parse(&["--database-key", &path])).unwrap_err().to_string();
        assert!(error.contains(&path) && error.contains("64 hexadecimal digits"), "{error}");
        assert_eq!(Settings::resolve(Options::default()).unwrap().database_key, None);
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_its_place() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "bind = \"127.0.0.1\"\nrest_prot = 1").unwrap();
        let path = file.path().to_str().unwrap();
        let error = Settings::resolve(parse(&["--config", path])).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains("rest_prot") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_runtime_socket_may_be_written_as_an_url() {
        let sockets = [
            "--containerd-socket",
            "unix:///run/x.sock",
            "--docker-socket",
            "/run/d.sock",
            "--nri-socket",
            "/run/n.sock",
        ];
        let settings = Settings::resolve(parse(&sockets)).unwrap();
        assert_eq!(settings.containerd_socket, Some(PathBuf::from("/run/x.sock")));
        assert_eq!(settings.docker_socket, Some(PathBuf::from("/run/d.sock")));
        assert_eq!(settings.nri_socket, Some(PathBuf::from("/run/n.sock")));
        for flag in ["--containerd-socket", "--docker-socket", "--nri-socket"] {
            let error = Settings::resolve(parse(&[flag, "tcp://h"])).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn networks_of_services_are_given_with_commas_between_them() {
        let read = |raw: &str| networks("--service-range", Some(raw.to_owned()));
        let both = ["10.96.0.0/12", "fd00:96::/108"].map(|net| net.parse().unwrap());
        assert_eq!(read("10.96.0.0/12, fd00:96::/108").unwrap(), both);
        assert_eq!(networks("--service-range", None).unwrap(), []);
        for wrong in ["", "10.96.0.0", "10.96.0.0/12,", &["10.0.0.0/8"; 17].join(",")] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
