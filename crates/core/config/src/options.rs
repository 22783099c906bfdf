use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

/// Declares each setting once: field, type, environment variable, value name and help. From it come the flag, the
/// key in the file and the merge of the two.
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty, $env:literal, $value:literal;)+) => {
        /// Settings as they were given; `None` where nothing was said.
        #[derive(Clone, Debug, Default, clap::Args, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Options {
            /// A TOML file with any of these settings; keys are the flags' names with `_` for `-`
            #[arg(long, env = "NV_CONFIG", value_name = "FILE", global = true)]
            #[serde(skip)]
            pub config: Option<PathBuf>,
            $(
                $(#[doc = $doc])+
                #[arg(long, env = $env, value_name = $value, global = true)]
                pub $field: Option<$type>,
            )+
        }

        impl Options {
            /// These settings, and where they say nothing, those of `under`.
            #[must_use]
            pub fn over(self, under: Self) -> Self {
                Self { config: self.config, $($field: self.$field.or(under.$field),)+ }
            }
        }
    };
}

options! {
    /// Folder for everything that outlives the process; made with mode 0700 [default: /var/neuvector]
    state_dir: PathBuf, "NV_STATE_DIR", "DIR";
    /// Address that the servers of this process listen on [default: 127.0.0.1]
    bind: IpAddr, "CLUSTER_BIND_ADDR", "ADDRESS";
    /// TCP port of the REST API [default: 10443]
    rest_port: u16, "CTRL_SERVER_PORT", "PORT";
    /// TCP port where the controller takes enforcers and scanners [default: 18400]
    grpc_port: u16, "NV_GRPC_PORT", "PORT";
    /// TCP port of the console [default: 8443]
    console_port: u16, "MANAGER_SERVER_PORT", "PORT";
    /// Serve the console with TLS; "off" only behind a proxy that does [default: on]
    console_ssl: OnOff, "MANAGER_SSL", "on|off";
    /// Path in front of the console's addresses, when a proxy serves it below one [default: none]
    path_prefix: String, "PATH_PREFIX", "PATH";
    /// File that the first start writes the one-time admin password to, with mode 0600 [default: none, it is only printed]
    bootstrap_password_file: PathBuf, "NV_BOOTSTRAP_PASSWORD_FILE", "FILE";
    /// Name of this cluster in events and reports [default: cluster.local]
    cluster_name: String, "NV_CLUSTER_NAME", "NAME";
    /// Host name or address of the controller, for a role that runs alone [default: 127.0.0.1]
    controller: String, "CLUSTER_JOIN_ADDR", "HOST";
    /// File with the token that a new enforcer joins with; a controller alone writes one there at each start [default: none]
    join_token_file: PathBuf, "NV_JOIN_TOKEN_FILE", "FILE";
    /// File where a controller keeps a token that scanners join with; it is good for a day and is made anew in half of that [default: none]
    scanner_token_file: PathBuf, "NV_SCANNER_TOKEN_FILE", "FILE";
    /// User name that a Harbor registry shows the scanner adapter, which is served only with one; its password is in the file below or in HARBOR_BASIC_AUTH_PASSWORD [default: none]
    harbor_user: String, "HARBOR_BASIC_AUTH_USERNAME", "NAME";
    /// File with the password that goes with it [default: none]
    harbor_password_file: PathBuf, "NV_HARBOR_PASSWORD_FILE", "FILE";
    /// How Harbor reaches the adapter; "http" only where nobody reads on the way [default: https]
    harbor_proto: Protocol, "HARBOR_SERVER_PROTO", "https|http";
    /// TCP port of the adapter [default: 9443, 8090 for http]
    harbor_port: u16, "NV_HARBOR_PORT", "PORT";
    /// Vulnerability database of the scanner in the all-in-one: the file, or the folder of cvedb; a newer file that is put in its place is taken into use [default: none, until an updater hands one in]
    database: PathBuf, "NV_DATABASE", "PATH";
    /// File with the public key (64 hexadecimal digits) that a database of vulnerabilities has to be signed with [default: none, any whole database is taken]
    database_key: PathBuf, "NV_DATABASE_KEY_FILE", "FILE";
    /// File with the keys that passwords and tokens in the store are sealed with, 64 hexadecimal digits a line, the one that seals first; made where there is none [default: secrets.key in the state directory]
    secrets_key_file: PathBuf, "NV_SECRETS_KEY_FILE", "FILE";
    /// Scans that one scanner does at one time, 1 to 64 [default: 2]
    scanner_tasks: u32, "MAX_SCANNER_TASKS", "NUMBER";
    /// Root certificate (PEM) that the controller's REST server is verified with, for a manager that runs alone [default: root.pem in the state directory]
    controller_ca: PathBuf, "NV_CONTROLLER_CA", "FILE";
    /// Socket of the container runtime, with or without unix:// in front [default: all of the usual ones, from when they are there]
    containerd_socket: String, "DOCKER_URL", "SOCKET";
    /// Socket of Docker Engine, with or without unix:// in front; once this or the one above is named, no other is looked for [default: /var/run/docker.sock, when it is there]
    docker_socket: String, "NV_DOCKER_SOCKET", "SOCKET";
    /// Socket where the container runtime takes plug-ins of NRI, as a rule /var/run/nri/nri.sock; the enforcer is asked there before a pod's container starts [default: none, it is not asked]
    nri_socket: String, "NV_NRI_SOCKET", "SOCKET";
    /// State directory of the container runtime, where the bundles of running containers lie [default: asked of the runtime]
    runtime_state_dir: PathBuf, "NV_RUNTIME_STATE_DIR", "DIR";
    /// Folder on the BPF file system for programs and maps that outlive the enforcer [default: /sys/fs/bpf/neuvector]
    bpf_dir: PathBuf, "NV_BPF_DIR", "DIR";
    /// Networks of services (a cluster's service range), with commas between them; connections to them are judged by who serves them from the first use on [default: none, a service is judged so from its second use on]
    service_range: String, "NV_SERVICE_RANGE", "NETWORK,…";
    /// CPU time that the enforcer may use before it leaves out what is least worth, in percent of one CPU; in the all-in-one the whole process counts [default: 100]
    enforcer_cpu_percent: u32, "NV_ENFORCER_CPU_PERCENT", "PERCENT";
    /// Memory that the enforcer may use before it leaves out what is least worth, in megabytes; in the all-in-one the whole process counts [default: 300]
    enforcer_memory_mb: u64, "NV_ENFORCER_MEMORY_MB", "MB";
    /// First of the four tiers of mechanisms that the enforcer may use (1 BPF LSM, 2 fmod_ret, 3 tracepoints, 4 no BPF); the best that works from there on is used [default: 1]
    enforcer_tier: u8, "NV_ENFORCER_TIER", "1-4";
    /// Processes that inspect packets, each for a share of the pods, 1 to 16 [default: one a CPU that the enforcer may use, at most 4]
    enforcer_inspectors: u8, "NV_ENFORCER_INSPECTORS", "1-16";
    /// Do not look for secrets in files of running containers [default: off]
    no_secret_scans: OnOff, "ENF_NO_SECRET_SCANS", "on|off";
    /// What is logged: error, warn, info, debug, trace, also by module (info,nv_policy=debug) [default: info]
    log: String, "NV_LOG", "FILTER";
    /// How it is logged [default: text]
    log_format: super::LogStyle, "NV_LOG_FORMAT", "text|json";
    /// Most megabytes that the event log may use on disk; the oldest go first [default: 1024]
    event_log_mb: u64, "NV_EVENT_LOG_MB", "MB";
    /// Days that events are kept [default: 30]
    event_log_days: u32, "NV_EVENT_LOG_DAYS", "DAYS";
}

/// `https` or `http`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// With TLS.
    #[default]
    Https,
    /// In the clear.
    Http,
}

/// `on` or `off`, also `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnOff(pub bool);

impl std::str::FromStr for OnOff {
    type Err = String;
    fn from_str(raw: &str) -> Result<Self, String> {
        match raw.to_ascii_lowercase().as_str() {
            "on" | "true" | "1" | "yes" => Ok(Self(true)),
            "off" | "false" | "0" | "no" => Ok(Self(false)),
            _ => Err(format!("{raw:?} is neither on nor off")),
        }
    }
}

impl<'de> Deserialize<'de> for OnOff {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bool(bool),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Bool(on) => Ok(Self(on)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}
