//! Configuration of the system, in the contract's two versions.

use nv_model::mode::{Baseline, Fault, Mode};
use nv_model::system::{Proxy, RemoteRepository, ScannerAutoscale, SystemConfig as Model, Webhook};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// Configuration, flat.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(transparent)]
pub struct SystemConfig(pub Model);
impl Named for SystemConfig {
    const ONE: &'static str = "config";
    const MANY: &'static str = "configs";
}

/// Of services that are new.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigNewSvcV2 {
    /// Network mode.
    pub new_service_policy_mode: Mode,
    /// Process mode.
    pub new_service_profile_mode: Mode,
    /// Baseline.
    pub new_service_profile_baseline: Baseline,
    /// What holds where a verdict cannot be found in time.
    pub new_service_fail_mode: Fault,
}

/// Of syslog.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigSyslogV2 {
    /// Server.
    pub syslog_ip: String,
    /// 17 UDP, 6 TCP, 66 TCP with TLS.
    pub syslog_ip_proto: u8,
    /// Port.
    pub syslog_port: u16,
    /// Least severe level.
    pub syslog_level: String,
    /// It is sent.
    pub syslog_status: bool,
    /// What is sent.
    pub syslog_categories: Vec<String>,
    /// As JSON.
    pub syslog_in_json: bool,
    /// The server's certificate.
    pub syslog_server_cert: String,
    /// One message a vulnerability.
    pub single_cve_per_syslog: bool,
    /// Vulnerabilities by layer.
    pub syslog_cve_in_layers: bool,
    /// Events go to standard output.
    pub output_event_to_logs: bool,
}

/// Of logging in.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigAuthV2 {
    /// Who is asked, in order.
    pub auth_order: Vec<String>,
    /// The platform's log-in is accepted.
    pub auth_by_platform: bool,
    /// Rancher's address.
    pub rancher_ep: String,
}

/// Of several things.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigMiscV2 {
    /// Networks that count as inside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configured_internal_subnets: Vec<String>,
    /// Hours until an empty learned group is removed.
    pub unused_group_aging: u8,
    /// Name of the cluster.
    pub cluster_name: String,
    /// What controllers trace.
    pub controller_debug: Vec<String>,
    /// A mesh's sidecars are looked into.
    pub monitor_service_mesh: bool,
    /// Clients are known by X-Forwarded-For.
    pub xff_enabled: bool,
    /// So many proxies before a workload are trusted with X-Forwarded-For. Not in the contract.
    pub xff_trusted_hops: u8,
    /// Nothing is reported to the maker.
    pub no_telemetry_report: bool,
    /// Users of one namespace may export its policy.
    pub allow_ns_user_export_net_policy: bool,
    /// Cloud.
    pub csp_type: String,
}

/// Of proxies.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigProxyV2 {
    /// The HTTP proxy is used.
    pub registry_http_proxy_status: bool,
    /// The HTTPS proxy is used.
    pub registry_https_proxy_status: bool,
    /// HTTP proxy.
    pub registry_http_proxy: Proxy,
    /// HTTPS proxy.
    pub registry_https_proxy: Proxy,
}

/// Of IBM Security Advisor.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigIBMSAV2 {
    /// It is told.
    pub ibmsa_ep_enabled: bool,
    /// Set-up has begun.
    pub ibmsa_ep_start: u32,
    /// Dashboard.
    pub ibmsa_ep_dashboard_url: String,
    /// When it connected.
    pub ibmsa_ep_connected_at: String,
}

/// Of network policy.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigNetSvcV2 {
    /// One network mode counts for all groups.
    pub net_service_status: bool,
    /// That mode.
    pub net_service_policy_mode: Mode,
    /// No network verdicts at all.
    pub disable_net_policy: bool,
    /// Unmanaged addresses inside are told apart.
    pub detect_unmanaged_wl: bool,
    /// The stricter mode of both ends counts.
    pub strict_group_mode: bool,
}

/// Of modes that change on their own.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigModeAutoV2 {
    /// Discover to Monitor.
    pub mode_auto_d2m: bool,
    /// After this long, in seconds.
    pub mode_auto_d2m_duration: i64,
    /// Monitor to Protect.
    pub mode_auto_m2p: bool,
    /// After this long, in seconds.
    pub mode_auto_m2p_duration: i64,
}

/// Of TLS as a client.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigTls {
    /// Servers are verified.
    pub enable_tls_verification: bool,
    /// Roots for that.
    pub cacerts: Vec<String>,
}

/// Configuration in groups.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SystemConfigV2 {
    /// Of services that are new.
    pub new_svc: SystemConfigNewSvcV2,
    /// Of syslog.
    pub syslog: SystemConfigSyslogV2,
    /// Of logging in.
    pub auth: SystemConfigAuthV2,
    /// Of several things.
    pub misc: SystemConfigMiscV2,
    /// Who is told of events.
    pub webhooks: Vec<Webhook>,
    /// Of proxies.
    pub proxy: SystemConfigProxyV2,
    /// Of IBM Security Advisor.
    pub ibmsa: SystemConfigIBMSAV2,
    /// Of network policy.
    pub net_svc: SystemConfigNetSvcV2,
    /// Of modes that change on their own.
    pub mode_auto: SystemConfigModeAutoV2,
    /// Of scanners.
    pub scanner_autoscale: ScannerAutoscale,
    /// Where policy is exported to.
    pub remote_repositories: Vec<RemoteRepository>,
    /// Of TLS as a client.
    pub tls_cfg: SystemConfigTls,
}
impl Named for SystemConfigV2 {
    const ONE: &'static str = "config";
    const MANY: &'static str = "configs";
}

impl From<Model> for SystemConfigV2 {
    fn from(all: Model) -> Self {
        Self {
            new_svc: SystemConfigNewSvcV2 {
                new_service_policy_mode: all.new_service_policy_mode,
                new_service_profile_mode: all.new_service_profile_mode,
                new_service_profile_baseline: all.new_service_profile_baseline,
                new_service_fail_mode: all.new_service_fail_mode,
            },
            syslog: SystemConfigSyslogV2 {
                syslog_ip: all.syslog_ip,
                syslog_ip_proto: all.syslog_ip_proto,
                syslog_port: all.syslog_port,
                syslog_level: all.syslog_level,
                syslog_status: all.syslog_status,
                syslog_categories: all.syslog_categories,
                syslog_in_json: all.syslog_in_json,
                syslog_server_cert: all.syslog_server_cert,
                single_cve_per_syslog: all.single_cve_per_syslog,
                syslog_cve_in_layers: all.syslog_cve_in_layers,
                output_event_to_logs: all.output_event_to_logs,
            },
            auth: SystemConfigAuthV2 {
                auth_order: all.auth_order,
                auth_by_platform: all.auth_by_platform,
                rancher_ep: all.rancher_ep,
            },
            misc: SystemConfigMiscV2 {
                configured_internal_subnets: all.configured_internal_subnets,
                unused_group_aging: all.unused_group_aging,
                cluster_name: all.cluster_name,
                controller_debug: all.controller_debug,
                monitor_service_mesh: all.monitor_service_mesh,
                xff_enabled: all.xff_enabled,
                xff_trusted_hops: all.xff_trusted_hops,
                no_telemetry_report: all.no_telemetry_report,
                allow_ns_user_export_net_policy: all.allow_ns_user_export_net_policy,
                csp_type: all.csp_type,
            },
            webhooks: all.webhooks,
            proxy: SystemConfigProxyV2 {
                registry_http_proxy_status: all.registry_http_proxy_status,
                registry_https_proxy_status: all.registry_https_proxy_status,
                registry_http_proxy: all.registry_http_proxy,
                registry_https_proxy: all.registry_https_proxy,
            },
            ibmsa: SystemConfigIBMSAV2 {
                ibmsa_ep_enabled: all.ibmsa_ep_enabled,
                ibmsa_ep_start: all.ibmsa_ep_start,
                ibmsa_ep_dashboard_url: all.ibmsa_ep_dashboard_url,
                ibmsa_ep_connected_at: all.ibmsa_ep_connected_at,
            },
            net_svc: SystemConfigNetSvcV2 {
                net_service_status: all.net_service_status,
                net_service_policy_mode: all.net_service_policy_mode,
                disable_net_policy: all.disable_net_policy,
                detect_unmanaged_wl: all.detect_unmanaged_wl,
                strict_group_mode: all.strict_group_mode,
            },
            mode_auto: SystemConfigModeAutoV2 {
                mode_auto_d2m: all.mode_auto_d2m,
                mode_auto_d2m_duration: all.mode_auto_d2m_duration,
                mode_auto_m2p: all.mode_auto_m2p,
                mode_auto_m2p_duration: all.mode_auto_m2p_duration,
            },
            scanner_autoscale: all.scanner_autoscale,
            remote_repositories: all.remote_repositories,
            tls_cfg: SystemConfigTls {
                enable_tls_verification: all.enable_tls_verification,
                cacerts: all.cacerts,
            },
        }
    }
}

/// Changes to the configuration that take effect. Both versions of the contract give these keys; the second puts them
/// in groups.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemConfigConfig {
    /// Network mode of new services.
    #[serde(default)]
    pub new_service_policy_mode: Option<String>,
    /// Process mode of new services.
    #[serde(default)]
    pub new_service_profile_mode: Option<String>,
    /// Baseline of new services.
    #[serde(default)]
    pub new_service_profile_baseline: Option<String>,
    /// open or closed: what holds for new services where a verdict cannot be found in time; closed also stops every
    /// program of a container until the node knows which one it is.
    #[serde(default)]
    pub new_service_fail_mode: Option<String>,
    /// Hours until an empty learned group is removed; 0 for never, at most 168.
    #[serde(default)]
    pub unused_group_aging: Option<u8>,
    /// Name of the cluster.
    #[serde(default)]
    pub cluster_name: Option<String>,
    /// Networks that count as inside.
    #[serde(default)]
    pub configured_internal_subnets: Option<Vec<String>>,
    /// Nothing is reported to the maker.
    #[serde(default)]
    pub no_telemetry_report: Option<bool>,
    /// Clients are known by X-Forwarded-For.
    #[serde(default)]
    pub xff_enabled: Option<bool>,
    /// So many proxies before a workload are trusted with X-Forwarded-For; 0 for none. Not in the contract.
    #[serde(default)]
    pub xff_trusted_hops: Option<u8>,
    /// A mesh's sidecars are looked into.
    #[serde(default)]
    pub monitor_service_mesh: Option<bool>,
    /// Users of one namespace may export its policy.
    #[serde(default)]
    pub allow_ns_user_export_net_policy: Option<bool>,
    /// Syslog is sent; not offered yet.
    #[serde(default)]
    pub syslog_status: Option<bool>,
    /// Events go to standard output; not offered yet.
    #[serde(default)]
    pub output_event_to_logs: Option<bool>,
    /// The platform's log-in is accepted; not offered yet.
    #[serde(default)]
    pub auth_by_platform: Option<bool>,
    /// Who is asked at log-in; only `local` is offered yet.
    #[serde(default)]
    pub auth_order: Option<Vec<String>>,
    /// Registries over plain HTTP are reached through their proxy.
    #[serde(default)]
    pub registry_http_proxy_status: Option<bool>,
    /// Registries over TLS are reached through their proxy.
    #[serde(default)]
    pub registry_https_proxy_status: Option<bool>,
    /// The proxy to registries over plain HTTP.
    #[serde(default)]
    pub registry_http_proxy: Option<Proxy>,
    /// The proxy to registries over TLS.
    #[serde(default)]
    pub registry_https_proxy: Option<Proxy>,
    /// What of the proxy to registries over plain HTTP is changed.
    #[serde(default)]
    pub registry_http_proxy_cfg: Option<ProxyConfig>,
    /// What of the proxy to registries over TLS is changed.
    #[serde(default)]
    pub registry_https_proxy_cfg: Option<ProxyConfig>,
    /// Certificates of registries are verified. They always are: `false` is refused.
    #[serde(default)]
    pub enable_tls_verification: Option<bool>,
    /// Authorities that registries' certificates may be of besides the usual ones, PEM each.
    #[serde(default)]
    pub cacerts: Option<Vec<String>>,
}

/// Changes to a proxy. What is not given stays as it is.
#[derive(Clone, Default, Deserialize, ToSchema)]
pub struct ProxyConfig {
    /// Its address.
    #[serde(default)]
    pub url: Option<String>,
    /// User name.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, a secret.
    #[serde(default)]
    pub password: Option<String>,
}

impl std::fmt::Debug for ProxyConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyConfig").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Changes to network policy as a whole.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemNetConfig {
    /// One network mode counts for all groups.
    #[serde(default)]
    pub net_service_status: Option<bool>,
    /// That mode.
    #[serde(default)]
    pub net_service_policy_mode: Option<String>,
    /// No network verdicts at all.
    #[serde(default)]
    pub disable_net_policy: Option<bool>,
    /// Unmanaged addresses inside are told apart.
    #[serde(default)]
    pub detect_unmanaged_wl: Option<bool>,
    /// The stricter mode of both ends counts.
    #[serde(default)]
    pub strict_group_mode: Option<bool>,
}

/// Changes to modes that change on their own.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemAtmoConfig {
    /// Discover to Monitor.
    #[serde(default)]
    pub mode_auto_d2m: Option<bool>,
    /// After this long, in seconds.
    #[serde(default)]
    pub mode_auto_d2m_duration: Option<i64>,
    /// Monitor to Protect.
    #[serde(default)]
    pub mode_auto_m2p: Option<bool>,
    /// After this long, in seconds.
    #[serde(default)]
    pub mode_auto_m2p_duration: Option<i64>,
}

/// Changes to the configuration, flat.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemConfigData {
    /// Of the system.
    #[serde(default)]
    pub config: Option<SystemConfigConfig>,
    /// Of network policy.
    #[serde(default)]
    pub net_config: Option<SystemNetConfig>,
    /// Of modes that change on their own.
    #[serde(default)]
    pub atmo_config: Option<SystemAtmoConfig>,
}

/// Changes to the configuration, in groups.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemConfigConfigV2 {
    /// Of services that are new.
    #[serde(default)]
    pub svc_cfg: Option<SystemConfigConfig>,
    /// Of syslog.
    #[serde(default)]
    pub syslog_cfg: Option<SystemConfigConfig>,
    /// Of logging in.
    #[serde(default)]
    pub auth_cfg: Option<SystemConfigConfig>,
    /// Of several things.
    #[serde(default)]
    pub misc_cfg: Option<SystemConfigConfig>,
    /// Of proxies to registries.
    #[serde(default)]
    pub proxy_cfg: Option<SystemConfigConfig>,
    /// Of certificates.
    #[serde(default)]
    pub tls_cfg: Option<SystemConfigConfig>,
}

/// Changes to the configuration, in groups.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SystemConfigDataV2 {
    /// Of the system.
    #[serde(default)]
    pub config_v2: Option<SystemConfigConfigV2>,
    /// Of network policy.
    #[serde(default)]
    pub net_config: Option<SystemNetConfig>,
    /// Of modes that change on their own.
    #[serde(default)]
    pub atmo_config: Option<SystemAtmoConfig>,
}
