//! Configuration of the system.

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::system::SystemConfig as Model;
use nv_role_controller::Change;
use nv_role_controller::registry::check_authorities;

use crate::answer::{Empty, One};
use crate::call::Call;
use crate::change::{baseline, fault, mode};
use crate::dto::config::{
    ProxyConfig, SystemAtmoConfig, SystemConfig, SystemConfigConfig, SystemConfigData, SystemConfigDataV2,
    SystemConfigV2, SystemNetConfig,
};
use crate::error::{ApiError, Code};
use crate::query::ScopeFilter;
use crate::route::Route;

pub(crate) fn routes() -> Vec<Route> {
    use Category::SystemConfig as Config;
    vec![
        Route::get("/v1/system/config", Config, "Show the configuration", config),
        Route::patch("/v1/system/config", Config, "Change the configuration", update),
        Route::get("/v2/system/config", Config, "Show the configuration", config_v2),
        Route::patch("/v2/system/config", Config, "Change the configuration", update_v2),
    ]
}

/// Which configuration is asked for: only this cluster's own is there.
fn own(call: &Call) -> Result<(), ApiError> {
    match call.query.scope()? {
        ScopeFilter::All | ScopeFilter::Local => Ok(()),
        ScopeFilter::Fed => Err(ApiError::new(Code::NotAllowed, "this cluster is in no federation")),
    }
}

async fn config(call: Call) -> Result<One<SystemConfig>, ApiError> {
    own(&call)?;
    Ok(One(SystemConfig(call.app.controller.view().config.without_secrets())))
}

async fn config_v2(call: Call) -> Result<One<SystemConfigV2>, ApiError> {
    own(&call)?;
    Ok(One(call.app.controller.view().config.without_secrets().into()))
}

/// Refuses to switch on what has no effect yet, rather than to keep it and do nothing.
fn not_yet<T: PartialEq>(what: &str, given: Option<&T>, held: &T) -> Result<(), ApiError> {
    if given.is_none_or(|given| given == held) {
        Ok(())
    } else {
        Err(ApiError::new(Code::NotAllowed, format!("{what} cannot be changed: it is not offered yet")))
    }
}

fn over(config: &mut Model, given: SystemConfigConfig) -> Result<(), ApiError> {
    over_registries(config, &given)?;
    let network = mode("new_service_policy_mode", given.new_service_policy_mode.as_deref())?;
    let profile = mode("new_service_profile_mode", given.new_service_profile_mode.as_deref())?;
    let baseline = baseline(given.new_service_profile_baseline.as_deref())?;
    config.new_service_policy_mode = network.unwrap_or(config.new_service_policy_mode);
    config.new_service_profile_mode = profile.unwrap_or(config.new_service_profile_mode);
    config.new_service_profile_baseline = baseline.unwrap_or(config.new_service_profile_baseline);
    let fault = fault(given.new_service_fail_mode.as_deref())?;
    config.new_service_fail_mode = fault.unwrap_or(config.new_service_fail_mode);
    config.unused_group_aging = given.unused_group_aging.unwrap_or(config.unused_group_aging);
    if let Some(name) = given.cluster_name {
        config.cluster_name = name;
    }
    if let Some(subnets) = given.configured_internal_subnets {
        config.configured_internal_subnets = subnets;
    }
    config.no_telemetry_report = given.no_telemetry_report.unwrap_or(config.no_telemetry_report);
    config.xff_enabled = given.xff_enabled.unwrap_or(config.xff_enabled);
    config.xff_trusted_hops = given.xff_trusted_hops.unwrap_or(config.xff_trusted_hops);
    not_yet("monitor_service_mesh", given.monitor_service_mesh.as_ref(), &config.monitor_service_mesh)?;
    not_yet(
        "allow_ns_user_export_net_policy",
        given.allow_ns_user_export_net_policy.as_ref(),
        &config.allow_ns_user_export_net_policy,
    )?;
    not_yet("syslog_status", given.syslog_status.as_ref(), &config.syslog_status)?;
    not_yet("output_event_to_logs", given.output_event_to_logs.as_ref(), &config.output_event_to_logs)?;
    not_yet("auth_by_platform", given.auth_by_platform.as_ref(), &config.auth_by_platform)?;
    not_yet("auth_order", given.auth_order.as_ref(), &config.auth_order)
}

/// How registries are reached.
fn over_registries(config: &mut Model, given: &SystemConfigConfig) -> Result<(), ApiError> {
    if given.enable_tls_verification == Some(false) {
        let why = "certificates are always verified; an authority of one's own belongs into cacerts";
        return Err(ApiError::new(Code::NotAllowed, why));
    }
    if let Some(authorities) = &given.cacerts {
        check_authorities(authorities).map_err(ApiError::format)?;
        config.cacerts.clone_from(authorities);
    }
    let http = (&mut config.registry_http_proxy, &given.registry_http_proxy, &given.registry_http_proxy_cfg);
    let https =
        (&mut config.registry_https_proxy, &given.registry_https_proxy, &given.registry_https_proxy_cfg);
    for (proxy, whole, parts) in [http, https] {
        if let Some(whole) = whole {
            proxy.clone_from(whole);
        }
        if let Some(ProxyConfig { url, username, password }) = parts {
            for (held, given) in
                [(&mut proxy.url, url), (&mut proxy.username, username), (&mut proxy.password, password)]
            {
                if let Some(given) = given {
                    held.clone_from(given);
                }
            }
        }
        if !proxy.url.is_empty() {
            let proxy = nv_registry::Proxy { url: proxy.url.clone(), credentials: None };
            let options = nv_registry::Options {
                url: "https://localhost".to_owned(),
                proxy: Some(proxy),
                ..nv_registry::Options::default()
            };
            nv_registry::Registry::new(options)
                .map_err(|_no_address| ApiError::format("the proxy's address is none: http://host:port"))?;
        }
    }
    let status = |given: Option<bool>, held: bool| given.unwrap_or(held);
    config.registry_http_proxy_status =
        status(given.registry_http_proxy_status, config.registry_http_proxy_status);
    config.registry_https_proxy_status =
        status(given.registry_https_proxy_status, config.registry_https_proxy_status);
    Ok(())
}

fn over_net(config: &mut Model, given: &SystemNetConfig) -> Result<(), ApiError> {
    let forced = mode("net_service_policy_mode", given.net_service_policy_mode.as_deref())?;
    config.net_service_policy_mode = forced.unwrap_or(config.net_service_policy_mode);
    config.net_service_status = given.net_service_status.unwrap_or(config.net_service_status);
    config.disable_net_policy = given.disable_net_policy.unwrap_or(config.disable_net_policy);
    config.strict_group_mode = given.strict_group_mode.unwrap_or(config.strict_group_mode);
    not_yet("detect_unmanaged_wl", given.detect_unmanaged_wl.as_ref(), &config.detect_unmanaged_wl)
}

fn over_atmo(config: &Model, given: &SystemAtmoConfig) -> Result<(), ApiError> {
    not_yet("mode_auto_d2m", given.mode_auto_d2m.as_ref(), &config.mode_auto_d2m)?;
    not_yet("mode_auto_m2p", given.mode_auto_m2p.as_ref(), &config.mode_auto_m2p)?;
    not_yet("mode_auto_d2m_duration", given.mode_auto_d2m_duration.as_ref(), &config.mode_auto_d2m_duration)?;
    not_yet("mode_auto_m2p_duration", given.mode_auto_m2p_duration.as_ref(), &config.mode_auto_m2p_duration)
}

async fn store(
    call: &Call,
    parts: Vec<SystemConfigConfig>,
    net: Option<SystemNetConfig>,
    atmo: Option<SystemAtmoConfig>,
) -> Result<Empty, ApiError> {
    own(call)?;
    call.need(Operation::Write, Scope::Cluster)?;
    let mut config = Model::clone(&call.app.controller.view().config);
    for part in parts {
        over(&mut config, part)?;
    }
    if let Some(net) = net {
        over_net(&mut config, &net)?;
    }
    if let Some(atmo) = atmo {
        over_atmo(&config, &atmo)?;
    }
    config.validate().map_err(|error| ApiError::format(error.to_string()))?;
    call.change(Change::SetConfig(Box::new(config))).await?;
    Ok(Empty)
}

async fn update(call: Call, body: SystemConfigData) -> Result<Empty, ApiError> {
    store(&call, body.config.into_iter().collect(), body.net_config, body.atmo_config).await
}

async fn update_v2(call: Call, body: SystemConfigDataV2) -> Result<Empty, ApiError> {
    let groups = body.config_v2.unwrap_or_default();
    let parts = [
        groups.svc_cfg,
        groups.syslog_cfg,
        groups.auth_cfg,
        groups.misc_cfg,
        groups.proxy_cfg,
        groups.tls_cfg,
    ];
    store(&call, parts.into_iter().flatten().collect(), body.net_config, body.atmo_config).await
}
