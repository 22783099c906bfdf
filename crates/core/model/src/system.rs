//! Configuration of the whole system, as `GET /v1/system/config` shows it.
//!
//! The flat form is the contract's first version; the second one is the same fields in groups, which the REST layer
//! makes of it. Every field has a default, so that a stored value of an older version is read as well. Secrets are kept
//! here as they are stored; whoever shows a configuration blanks them ([`SystemConfig::without_secrets`]).

use serde::{Deserialize, Serialize};

use crate::mode::{Baseline, Fault, Mode, Modes};
use crate::policy::NodeSettings;

/// A web address that is told of events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Webhook {
    /// Its name, unique.
    pub name: String,
    /// Its address, http or https.
    pub url: String,
    /// Told of events.
    pub enable: bool,
    /// Through the configured proxy.
    pub use_proxy: bool,
    /// Shape of the body: empty, `Slack`, `Teams` or `JSON`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `user_created` or `federal`.
    pub cfg_type: String,
}

/// An HTTP proxy.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Proxy {
    /// Its address.
    pub url: String,
    /// User name.
    pub username: String,
    /// Password, a secret.
    pub password: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("url", &self.url).finish_non_exhaustive()
    }
}

/// When scanners are added and removed on their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ScannerAutoscale {
    /// Empty, `immediate` or `delayed`.
    pub strategy: String,
    /// Fewest scanners.
    pub min_pods: u32,
    /// Most scanners.
    pub max_pods: u32,
    /// Something else changes the number.
    pub disabled_by_others: bool,
}

/// Everything that is configured for the whole system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct SystemConfig {
    /// Network mode of services not seen before.
    pub new_service_policy_mode: Mode,
    /// Process and file mode of services not seen before.
    pub new_service_profile_mode: Mode,
    /// Baseline of services not seen before.
    pub new_service_profile_baseline: Baseline,
    /// What holds for services not seen before where a verdict cannot be found in time; closed also stops every program
    /// of a container until the node knows which one it is.
    pub new_service_fail_mode: Fault,
    /// Hours after which a learned group without members is removed; 0 for never, at most 168.
    pub unused_group_aging: u8,
    /// Address or name of the syslog server.
    pub syslog_ip: String,
    /// 17 UDP, 6 TCP, 66 TCP with TLS.
    pub syslog_ip_proto: u8,
    /// Port of the syslog server.
    pub syslog_port: u16,
    /// Least severe level that is sent.
    pub syslog_level: String,
    /// Whether syslog is sent.
    pub syslog_status: bool,
    /// `event`, `security-event`, `audit`.
    pub syslog_categories: Vec<String>,
    /// Records are sent as JSON.
    pub syslog_in_json: bool,
    /// Certificate of the syslog server, PEM.
    pub syslog_server_cert: String,
    /// One message a vulnerability.
    pub single_cve_per_syslog: bool,
    /// Vulnerabilities by layer as well.
    pub syslog_cve_in_layers: bool,
    /// Events go to standard output as well.
    pub output_event_to_logs: bool,
    /// `local` and names of servers, in the order in which they are asked.
    pub auth_order: Vec<String>,
    /// The platform's own log-in is accepted.
    pub auth_by_platform: bool,
    /// Rancher's address.
    pub rancher_ep: String,
    /// Where events are told.
    pub webhooks: Vec<Webhook>,
    /// Name of this cluster.
    pub cluster_name: String,
    /// Networks that count as inside, when configured; CIDR each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configured_internal_subnets: Vec<String>,
    /// What the controllers trace.
    pub controller_debug: Vec<String>,
    /// The mesh's sidecars are looked into.
    pub monitor_service_mesh: bool,
    /// The HTTP proxy is used for registries.
    pub registry_http_proxy_status: bool,
    /// The HTTPS proxy is used for registries.
    pub registry_https_proxy_status: bool,
    /// Proxy for HTTP.
    pub registry_http_proxy: Proxy,
    /// Proxy for HTTPS.
    pub registry_https_proxy: Proxy,
    /// IBM Security Advisor is told.
    pub ibmsa_ep_enabled: bool,
    /// Set-up of IBM Security Advisor has begun (1).
    pub ibmsa_ep_start: u32,
    /// Its dashboard.
    pub ibmsa_ep_dashboard_url: String,
    /// When it connected.
    pub ibmsa_ep_connected_at: String,
    /// Clients are known by X-Forwarded-For.
    pub xff_enabled: bool,
    /// So many proxies before a workload are trusted to have added who asked them; the header counts for nothing while
    /// there is none. Not in the contract.
    pub xff_trusted_hops: u8,
    /// One network mode counts for all groups.
    pub net_service_status: bool,
    /// That mode.
    pub net_service_policy_mode: Mode,
    /// No network verdicts at all.
    pub disable_net_policy: bool,
    /// Addresses inside that nobody manages are told apart from external ones.
    pub detect_unmanaged_wl: bool,
    /// The stricter mode of both ends counts.
    pub strict_group_mode: bool,
    /// Groups go from Discover to Monitor on their own.
    pub mode_auto_d2m: bool,
    /// After this long, in seconds, at least 3600.
    pub mode_auto_d2m_duration: i64,
    /// Groups go from Monitor to Protect on their own.
    pub mode_auto_m2p: bool,
    /// After this long without an event, in seconds, at least 3600.
    pub mode_auto_m2p_duration: i64,
    /// Nothing is reported to the maker; there is no such report, so this is only kept.
    pub no_telemetry_report: bool,
    /// Scanners.
    pub scanner_autoscale: ScannerAutoscale,
    /// Servers' certificates are verified when we are the client; they always are.
    pub enable_tls_verification: bool,
    /// Roots for that, PEM each.
    pub cacerts: Vec<String>,
    /// A user of one namespace may export its network policy.
    pub allow_ns_user_export_net_policy: bool,
    /// Cloud provider: none, aws, gcloud, azure, ibm.
    pub csp_type: String,
    /// Repositories that policy is exported to.
    pub remote_repositories: Vec<RemoteRepository>,
}

/// A repository that policy is exported to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RemoteRepository {
    /// Its name here.
    pub nickname: String,
    /// `GitHub` or `AzureDevOps`.
    pub provider: String,
    /// A note.
    pub comment: String,
    /// Used.
    pub enable: bool,
    /// Set for GitHub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub github_configuration: Option<GithubRepository>,
    /// Set for Azure DevOps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure_devops_configuration: Option<AzureRepository>,
}

/// A repository at GitHub.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct GithubRepository {
    /// Owner.
    pub owner_username: String,
    /// Repository.
    pub repository_name: String,
    /// Branch.
    pub repository_branch_name: String,
    /// Token, a secret.
    pub personal_access_token: String,
    /// Author of commits.
    pub personal_access_token_committer_name: String,
    /// Their address.
    pub personal_access_token_email: String,
}

impl std::fmt::Debug for GithubRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GithubRepository")
            .field("repository_name", &self.repository_name)
            .finish_non_exhaustive()
    }
}

/// A repository at Azure DevOps.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct AzureRepository {
    /// Organization.
    pub organization_name: String,
    /// Project.
    pub project_name: String,
    /// Repository.
    pub repo_name: String,
    /// Branch.
    pub branch_name: String,
    /// Token, a secret.
    pub personal_access_token: String,
}

impl std::fmt::Debug for AzureRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureRepository").field("repo_name", &self.repo_name).finish_non_exhaustive()
    }
}

impl Default for SystemConfig {
    fn default() -> Self {
        Self {
            new_service_policy_mode: Mode::Discover,
            new_service_profile_mode: Mode::Discover,
            new_service_profile_baseline: Baseline::Basic,
            new_service_fail_mode: Fault::Open,
            unused_group_aging: 24,
            syslog_ip: String::new(),
            syslog_ip_proto: 17,
            syslog_port: 514,
            syslog_level: "Info".to_owned(),
            syslog_status: false,
            syslog_categories: ["event", "security-event", "audit"].map(str::to_owned).to_vec(),
            syslog_in_json: false,
            syslog_server_cert: String::new(),
            single_cve_per_syslog: false,
            syslog_cve_in_layers: false,
            output_event_to_logs: false,
            auth_order: vec!["local".to_owned()],
            auth_by_platform: false,
            rancher_ep: String::new(),
            webhooks: Vec::new(),
            cluster_name: Self::DEFAULT_CLUSTER_NAME.to_owned(),
            configured_internal_subnets: Vec::new(),
            controller_debug: Vec::new(),
            monitor_service_mesh: true,
            registry_http_proxy_status: false,
            registry_https_proxy_status: false,
            registry_http_proxy: Proxy::default(),
            registry_https_proxy: Proxy::default(),
            ibmsa_ep_enabled: false,
            ibmsa_ep_start: 0,
            ibmsa_ep_dashboard_url: String::new(),
            ibmsa_ep_connected_at: String::new(),
            xff_enabled: true,
            xff_trusted_hops: 0,
            net_service_status: false,
            net_service_policy_mode: Mode::Discover,
            disable_net_policy: false,
            detect_unmanaged_wl: false,
            strict_group_mode: false,
            mode_auto_d2m: false,
            mode_auto_d2m_duration: 21_600,
            mode_auto_m2p: false,
            mode_auto_m2p_duration: 43_200,
            no_telemetry_report: false,
            scanner_autoscale: ScannerAutoscale::default(),
            enable_tls_verification: true,
            cacerts: Vec::new(),
            allow_ns_user_export_net_policy: false,
            csp_type: "none".to_owned(),
            remote_repositories: Vec::new(),
        }
    }
}

/// Why a configuration is refused: the field, and what is wrong with it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field} {problem}")]
pub struct SystemConfigError {
    /// The contract's name of the field.
    pub field: &'static str,
    /// What is wrong with its value.
    pub problem: &'static str,
}

impl SystemConfig {
    /// Name of a cluster that was given none.
    pub const DEFAULT_CLUSTER_NAME: &'static str = "cluster.local";

    /// Checks what the types do not hold.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self) -> Result<(), SystemConfigError> {
        let one_of = |value: &str, words: &[&str]| words.contains(&value);
        let checks: [(bool, &'static str, &'static str); 10] = [
            (self.unused_group_aging <= 168, "unused_group_aging", "is above 168 hours"),
            (matches!(self.syslog_ip_proto, 6 | 17 | 66), "syslog_ip_proto", "is not 6, 17 or 66"),
            (!self.syslog_status || !self.syslog_ip.is_empty(), "syslog_ip", "is empty while syslog is on"),
            (self.syslog_port != 0, "syslog_port", "is 0"),
            (
                self.syslog_categories.iter().all(|word| one_of(word, &["event", "security-event", "audit"])),
                "syslog_categories",
                "is not a list of event, security-event and audit",
            ),
            (self.mode_auto_d2m_duration >= 3600, "mode_auto_d2m_duration", "is below 3600 seconds"),
            (self.mode_auto_m2p_duration >= 3600, "mode_auto_m2p_duration", "is below 3600 seconds"),
            (
                one_of(&self.scanner_autoscale.strategy, &["", "immediate", "delayed"]),
                "scanner_autoscale.strategy",
                "is not empty, immediate or delayed",
            ),
            (
                self.configured_internal_subnets.iter().all(|net| net.parse::<ipnet::IpNet>().is_ok()),
                "configured_internal_subnets",
                "is not a list of networks",
            ),
            (
                !self.cluster_name.is_empty() && self.cluster_name.len() <= 256,
                "cluster_name",
                "is not 1 to 256 bytes long",
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, problem)) => Err(SystemConfigError { field, problem }),
            None => Ok(()),
        }
    }

    /// What the nodes need of it.
    #[must_use]
    pub const fn node_settings(&self) -> NodeSettings {
        NodeSettings {
            new_service: Modes {
                network: self.new_service_policy_mode,
                profile: self.new_service_profile_mode,
                baseline: self.new_service_profile_baseline,
                fault: self.new_service_fail_mode,
            },
            strict_group_mode: self.strict_group_mode,
            network_policy_disabled: self.disable_net_policy,
            forwarded_hops: match (self.xff_enabled, self.xff_trusted_hops) {
                (false, _) | (true, 0) => None,
                (true, hops) => Some(hops),
            },
        }
    }

    /// Fields that are secret, at any depth.
    pub const SECRETS: &[&str] = &["password", "personal_access_token"];

    /// The same with passwords and tokens blanked, to be shown.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        shown.registry_http_proxy.password.clear();
        shown.registry_https_proxy.password.clear();
        for repository in &mut shown.remote_repositories {
            if let Some(github) = &mut repository.github_configuration {
                github.personal_access_token.clear();
            }
            if let Some(azure) = &mut repository.azure_devops_configuration {
                azure.personal_access_token.clear();
            }
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_value_of_an_older_version_is_read_with_defaults() {
        let read: SystemConfig =
            serde_json::from_str(r#"{"cluster_name":"prod","strict_group_mode":true}"#).unwrap();
        let want =
            SystemConfig { cluster_name: "prod".into(), strict_group_mode: true, ..SystemConfig::default() };
        assert_eq!(read, want);
        assert_eq!((read.unused_group_aging, read.new_service_profile_baseline), (24, Baseline::Basic));
    }

    #[test]
    fn a_wrong_value_is_refused_by_the_name_of_its_field() {
        assert_eq!(SystemConfig::default().validate(), Ok(()));
        let wrong = SystemConfig { unused_group_aging: 169, ..SystemConfig::default() };
        assert_eq!(wrong.validate().unwrap_err().field, "unused_group_aging");
    }

    #[test]
    fn a_shown_configuration_has_no_secret_in_it() {
        let secret = Proxy { password: "hush".into(), ..Proxy::default() };
        let config = SystemConfig { registry_http_proxy: secret, ..SystemConfig::default() };
        assert!(!serde_json::to_string(&config.without_secrets()).unwrap().contains("hush"));
        assert!(!format!("{config:?}").contains("hush"));
    }
}
