//! What a node is told. Nothing is cut here: a policy that does not fit is refused as a whole.

use std::collections::BTreeMap;

use nv_model::application::ApplicationId;
use nv_model::condition::Conditions;
use nv_model::group::Origin;
use nv_model::mode::{Baseline, Fault, Mode, Modes};
use nv_model::policy::{
    Identity, IdentityId, IdentityKind, NodeSettings, PolicyDelta, ResolvedRule, Revision, WorkloadPolicy,
};
use nv_model::profile::{EffectiveProfile, ProcessRule};
use nv_model::rule::RuleId;
use nv_model::rule_set::RuleSetBlob;
use nv_model::scan::BlobId;
use nv_model::sensor::Sensor;
use nv_model::verdict::Action;

use crate::bounds::{
    MAX_ADDRESSES, MAX_APPLICATIONS, MAX_FILE_RULES, MAX_IDENTITIES, MAX_NAMES, MAX_PORTS_TEXT_BYTES,
    MAX_PROCESS_RULES, MAX_PROFILES, MAX_RULE_ENDS, MAX_RULE_SETS, MAX_RULES, MAX_SENSORS, MAX_TEXT_BYTES,
    MAX_TOKEN_BYTES, MAX_WORD_BYTES, MAX_WORKLOADS,
};
use crate::enforcer::v1 as proto;
use crate::error::WireError;
use crate::file;
use crate::read::{Read, length, list, parse, parse_optional, parsed_list, text, time};

fn optional_mode(path: &str, raw: i32) -> Read<Option<Mode>> {
    match proto::Mode::try_from(raw) {
        Ok(proto::Mode::Unspecified) => Ok(None),
        Ok(proto::Mode::Discover) => Ok(Some(Mode::Discover)),
        Ok(proto::Mode::Monitor) => Ok(Some(Mode::Monitor)),
        Ok(proto::Mode::Protect) => Ok(Some(Mode::Protect)),
        Err(_unknown) => Err(WireError::range(path, raw)),
    }
}

fn mode(path: &str, raw: i32) -> Read<Mode> {
    optional_mode(path, raw)?.ok_or_else(|| WireError::missing(path))
}

const fn mode_number(mode: Mode) -> i32 {
    match mode {
        Mode::Discover => proto::Mode::Discover as i32,
        Mode::Monitor => proto::Mode::Monitor as i32,
        Mode::Protect => proto::Mode::Protect as i32,
    }
}

fn baseline(path: &str, raw: i32) -> Read<Baseline> {
    match proto::Baseline::try_from(raw) {
        Ok(proto::Baseline::Basic) => Ok(Baseline::Basic),
        Ok(proto::Baseline::ZeroDrift) => Ok(Baseline::ZeroDrift),
        Ok(proto::Baseline::Unspecified) => Err(WireError::missing(path)),
        Err(_unknown) => Err(WireError::range(path, raw)),
    }
}

const fn baseline_number(baseline: Baseline) -> i32 {
    match baseline {
        Baseline::Basic => proto::Baseline::Basic as i32,
        Baseline::ZeroDrift => proto::Baseline::ZeroDrift as i32,
    }
}

/// A peer that says nothing means what held before there was a choice.
fn fault(path: &str, raw: i32) -> Read<Fault> {
    match proto::Fault::try_from(raw) {
        Ok(proto::Fault::Open | proto::Fault::Unspecified) => Ok(Fault::Open),
        Ok(proto::Fault::Closed) => Ok(Fault::Closed),
        Err(_unknown) => Err(WireError::range(path, raw)),
    }
}

const fn fault_number(fault: Fault) -> i32 {
    match fault {
        Fault::Open => proto::Fault::Open as i32,
        Fault::Closed => proto::Fault::Closed as i32,
    }
}

pub(crate) fn action(path: &str, raw: i32) -> Read<Action> {
    match proto::Action::try_from(raw) {
        Ok(proto::Action::Allow) => Ok(Action::Allow),
        Ok(proto::Action::Deny) => Ok(Action::Deny),
        Ok(proto::Action::Unspecified) => Err(WireError::missing(path)),
        Err(_unknown) => Err(WireError::range(path, raw)),
    }
}

pub(crate) const fn action_number(action: Action) -> i32 {
    match action {
        Action::Allow => proto::Action::Allow as i32,
        Action::Deny => proto::Action::Deny as i32,
    }
}

pub(crate) fn origin(path: &str, raw: i32) -> Read<Origin> {
    match proto::Origin::try_from(raw) {
        Ok(proto::Origin::Learned) => Ok(Origin::Learned),
        Ok(proto::Origin::UserCreated) => Ok(Origin::UserCreated),
        Ok(proto::Origin::Ground) => Ok(Origin::Ground),
        Ok(proto::Origin::Federal) => Ok(Origin::Federal),
        Ok(proto::Origin::SystemDefined) => Ok(Origin::SystemDefined),
        Ok(proto::Origin::Unspecified) => Err(WireError::missing(path)),
        Err(_unknown) => Err(WireError::range(path, raw)),
    }
}

pub(crate) const fn origin_number(origin: Origin) -> i32 {
    match origin {
        Origin::Learned => proto::Origin::Learned as i32,
        Origin::UserCreated => proto::Origin::UserCreated as i32,
        Origin::Ground => proto::Origin::Ground as i32,
        Origin::Federal => proto::Origin::Federal as i32,
        Origin::SystemDefined => proto::Origin::SystemDefined as i32,
    }
}

fn identity_kind(path: &str, raw: i32) -> Read<IdentityKind> {
    match proto::IdentityKind::try_from(raw) {
        Ok(proto::IdentityKind::Workload) => Ok(IdentityKind::Workload),
        Ok(proto::IdentityKind::Node) => Ok(IdentityKind::Node),
        Ok(proto::IdentityKind::External) => Ok(IdentityKind::External),
        Ok(proto::IdentityKind::Unmanaged) => Ok(IdentityKind::Unmanaged),
        Ok(proto::IdentityKind::Address) => Ok(IdentityKind::Address),
        Ok(proto::IdentityKind::Unspecified) => Err(WireError::missing(path)),
        Err(_unknown) => Err(WireError::range(path, raw)),
    }
}

const fn identity_kind_number(kind: IdentityKind) -> i32 {
    match kind {
        IdentityKind::Workload => proto::IdentityKind::Workload as i32,
        IdentityKind::Node => proto::IdentityKind::Node as i32,
        IdentityKind::External => proto::IdentityKind::External as i32,
        IdentityKind::Unmanaged => proto::IdentityKind::Unmanaged as i32,
        IdentityKind::Address => proto::IdentityKind::Address as i32,
    }
}

fn identities(path: &str, raw: Vec<u32>) -> Read<Vec<IdentityId>> {
    length(path, raw.len(), MAX_RULE_ENDS)?;
    Ok(raw.into_iter().map(IdentityId).collect())
}

fn identity_numbers(model: Vec<IdentityId>) -> Vec<u32> {
    model.into_iter().map(|id| id.0).collect()
}

impl TryFrom<proto::WorkloadPolicy> for WorkloadPolicy {
    type Error = WireError;
    fn try_from(raw: proto::WorkloadPolicy) -> Read<Self> {
        Ok(Self {
            group: parse("group", &raw.group)?,
            identity: IdentityId(raw.identity),
            quarantined: raw.quarantined,
        })
    }
}

impl From<WorkloadPolicy> for proto::WorkloadPolicy {
    fn from(model: WorkloadPolicy) -> Self {
        Self { group: model.group.into(), identity: model.identity.0, quarantined: model.quarantined }
    }
}

/// A line of an effective profile: the group that it comes from, and the line.
struct Line((nv_model::name::GroupName, ProcessRule));

impl TryFrom<proto::ProcessRule> for Line {
    type Error = WireError;
    fn try_from(raw: proto::ProcessRule) -> Read<Self> {
        let group = parse("group", &raw.group)?;
        let rule = ProcessRule {
            uuid: text("uuid", raw.uuid, MAX_WORD_BYTES)?,
            name: text("name", raw.name, MAX_TEXT_BYTES)?,
            path: parse("path", &raw.path)?,
            action: action("action", raw.action)?,
            origin: origin("origin", raw.origin)?,
            allow_update: raw.allow_update,
            conditions: Conditions {
                arguments: parse_optional("arguments", &raw.arguments)?,
                parent: parse_optional("parent", &raw.parent)?,
                uid: raw.uid,
            },
            created: time(raw.created),
            modified: time(raw.modified),
        };
        Ok(Self((group, rule)))
    }
}

impl From<Line> for proto::ProcessRule {
    fn from(Line((group, rule)): Line) -> Self {
        let conditions = rule.conditions;
        Self {
            group: group.into(),
            uuid: rule.uuid,
            name: rule.name,
            path: rule.path.into(),
            action: action_number(rule.action),
            origin: origin_number(rule.origin),
            allow_update: rule.allow_update,
            created: rule.created.nanos(),
            modified: rule.modified.nanos(),
            arguments: conditions.arguments.map(String::from).unwrap_or_default(),
            parent: conditions.parent.map(String::from).unwrap_or_default(),
            uid: conditions.uid,
        }
    }
}

impl TryFrom<proto::EffectiveProfile> for EffectiveProfile {
    type Error = WireError;
    fn try_from(raw: proto::EffectiveProfile) -> Read<Self> {
        let rules: Vec<Line> = list("rules", raw.rules, MAX_PROCESS_RULES)?;
        let files: Vec<file::Line> = list("files", raw.files, MAX_FILE_RULES)?;
        Ok(Self {
            group: parse("group", &raw.group)?,
            mode: mode("mode", raw.mode)?,
            baseline: baseline("baseline", raw.baseline)?,
            rules: rules.into_iter().map(|Line(line)| line).collect(),
            files: files.into_iter().map(|file::Line(line)| line).collect(),
            alert_disabled: raw.alert_disabled,
            fault: fault("fault", raw.fault)?,
        })
    }
}

impl From<EffectiveProfile> for proto::EffectiveProfile {
    fn from(model: EffectiveProfile) -> Self {
        Self {
            group: model.group.into(),
            mode: mode_number(model.mode),
            baseline: baseline_number(model.baseline),
            rules: model.rules.into_iter().map(|line| Line(line).into()).collect(),
            files: model.files.into_iter().map(|line| file::Line(line).into()).collect(),
            alert_disabled: model.alert_disabled,
            fault: fault_number(model.fault),
        }
    }
}

impl TryFrom<proto::Identity> for Identity {
    type Error = WireError;
    fn try_from(raw: proto::Identity) -> Read<Self> {
        length("names", raw.names.len(), MAX_NAMES)?;
        let names = raw.names.into_iter().map(|name| text("names", name, MAX_TOKEN_BYTES));
        Ok(Self {
            names: names.collect::<Read<_>>()?,
            kind: identity_kind("kind", raw.kind)?,
            group: parse("group", &raw.group)?,
            mode: optional_mode("mode", raw.mode)?,
        })
    }
}

impl From<Identity> for proto::Identity {
    fn from(model: Identity) -> Self {
        Self {
            kind: identity_kind_number(model.kind),
            group: model.group.into(),
            mode: model.mode.map_or(proto::Mode::Unspecified as i32, mode_number),
            names: model.names,
        }
    }
}

impl TryFrom<proto::ResolvedRule> for ResolvedRule {
    type Error = WireError;
    fn try_from(raw: proto::ResolvedRule) -> Read<Self> {
        length("applications", raw.applications.len(), MAX_APPLICATIONS)?;
        length("ports", raw.ports.len(), MAX_PORTS_TEXT_BYTES)?;
        Ok(Self {
            id: RuleId(raw.id),
            from: identities("from", raw.from)?,
            to: identities("to", raw.to)?,
            ports: parse("ports", &raw.ports)?,
            applications: raw.applications.into_iter().map(ApplicationId).collect(),
            action: action("action", raw.action)?,
            learned: raw.learned,
        })
    }
}

impl From<ResolvedRule> for proto::ResolvedRule {
    fn from(model: ResolvedRule) -> Self {
        Self {
            id: model.id.0,
            from: identity_numbers(model.from),
            to: identity_numbers(model.to),
            ports: model.ports.into(),
            applications: model.applications.into_iter().map(|application| application.0).collect(),
            action: action_number(model.action),
            learned: model.learned,
        }
    }
}

impl TryFrom<proto::NodeSettings> for NodeSettings {
    type Error = WireError;
    fn try_from(raw: proto::NodeSettings) -> Read<Self> {
        Ok(Self {
            new_service: Modes {
                network: mode("new_service_network", raw.new_service_network)?,
                profile: mode("new_service_profile", raw.new_service_profile)?,
                baseline: baseline("new_service_baseline", raw.new_service_baseline)?,
                fault: fault("new_service_fault", raw.new_service_fault)?,
            },
            strict_group_mode: raw.strict_group_mode,
            network_policy_disabled: raw.network_policy_disabled,
            forwarded_hops: raw
                .forwarded_hops
                .map(|hops| {
                    u8::try_from(hops).map_err(|_large| WireError::value("forwarded_hops", "is above 255"))
                })
                .transpose()?,
        })
    }
}

impl From<NodeSettings> for proto::NodeSettings {
    fn from(model: NodeSettings) -> Self {
        Self {
            new_service_network: mode_number(model.new_service.network),
            new_service_profile: mode_number(model.new_service.profile),
            new_service_baseline: baseline_number(model.new_service.baseline),
            new_service_fault: fault_number(model.new_service.fault),
            strict_group_mode: model.strict_group_mode,
            network_policy_disabled: model.network_policy_disabled,
            forwarded_hops: model.forwarded_hops.map(u32::from),
        }
    }
}

fn rule_sets(raw: Vec<Vec<u8>>) -> Read<BTreeMap<BlobId, RuleSetBlob>> {
    length("rule_sets", raw.len(), MAX_RULE_SETS)?;
    let blobs = raw.into_iter().map(|bytes| {
        let blob = RuleSetBlob::new(bytes);
        blob.map(|blob| (blob.id(), blob)).map_err(|error| WireError::value("rule_sets", error))
    });
    blobs.collect()
}

impl TryFrom<proto::PolicyDelta> for PolicyDelta {
    type Error = WireError;
    fn try_from(raw: proto::PolicyDelta) -> Read<Self> {
        length("workloads", raw.workloads.len(), MAX_WORKLOADS)?;
        length("identities", raw.identities.len(), MAX_IDENTITIES)?;
        length("identities_gone", raw.identities_gone.len(), MAX_IDENTITIES)?;
        length("addresses", raw.addresses.len(), MAX_ADDRESSES)?;
        let workloads = raw.workloads.into_iter().map(|(id, policy)| {
            let policy = policy
                .try_into()
                .map_err(|error: WireError| error.under(format_args!("workloads[{}]", id.escape_debug())))?;
            Ok((parse("workloads key", &id)?, policy))
        });
        let profiles: Vec<EffectiveProfile> = list("profiles", raw.profiles, MAX_PROFILES)?;
        let identities = raw.identities.into_iter().map(|(id, identity)| {
            let identity = identity
                .try_into()
                .map_err(|error: WireError| error.under(format_args!("identities[{id}]")))?;
            Ok((IdentityId(id), identity))
        });
        let addresses =
            raw.addresses.iter().map(|(net, id)| Ok((parse("addresses key", net)?, IdentityId(*id))));
        let rule_order = match raw.rule_order {
            Some(order) => {
                length("rule_order.ids", order.ids.len(), MAX_RULES)?;
                Some(order.ids.into_iter().map(RuleId).collect())
            }
            None => None,
        };
        let sensors: Vec<Sensor> = list("sensors", raw.sensors, MAX_SENSORS)?;
        length("sensor_groups", raw.sensor_groups.len(), MAX_PROFILES)?;
        let sensor_groups = raw.sensor_groups.into_iter().map(|(name, group)| {
            let group = group.try_into().map_err(|error: WireError| {
                error.under(format_args!("sensor_groups[{}]", name.escape_debug()))
            })?;
            Ok((parse("sensor_groups key", &name)?, group))
        });
        let settings = raw
            .settings
            .map(|settings| settings.try_into().map_err(|error: WireError| error.under("settings")))
            .transpose()?;
        Ok(Self {
            base: Revision(raw.base),
            revision: Revision(raw.revision),
            workloads: workloads.collect::<Read<BTreeMap<_, _>>>()?,
            workloads_gone: parsed_list("workloads_gone", &raw.workloads_gone, MAX_WORKLOADS)?,
            profiles: profiles.into_iter().map(|profile| (profile.group.clone(), profile)).collect(),
            profiles_gone: parsed_list("profiles_gone", &raw.profiles_gone, MAX_PROFILES)?,
            identities: identities.collect::<Read<BTreeMap<_, _>>>()?,
            identities_gone: raw.identities_gone.into_iter().map(IdentityId).collect(),
            addresses: addresses.collect::<Read<BTreeMap<_, _>>>()?,
            addresses_gone: parsed_list("addresses_gone", &raw.addresses_gone, MAX_ADDRESSES)?,
            rules: list("rules", raw.rules, MAX_RULES)?,
            rule_order,
            settings,
            sensors: sensors.into_iter().map(|sensor| (sensor.id(), sensor)).collect(),
            sensors_gone: parsed_list("sensors_gone", &raw.sensors_gone, MAX_SENSORS)?,
            sensor_groups: sensor_groups.collect::<Read<BTreeMap<_, _>>>()?,
            sensor_groups_gone: parsed_list("sensor_groups_gone", &raw.sensor_groups_gone, MAX_PROFILES)?,
            rule_sets: rule_sets(raw.rule_sets)?,
            rule_sets_gone: parsed_list("rule_sets_gone", &raw.rule_sets_gone, MAX_RULE_SETS)?,
        })
    }
}

impl From<PolicyDelta> for proto::PolicyDelta {
    fn from(model: PolicyDelta) -> Self {
        Self {
            base: model.base.0,
            revision: model.revision.0,
            workloads: model.workloads.into_iter().map(|(id, policy)| (id.into(), policy.into())).collect(),
            workloads_gone: model.workloads_gone.into_iter().map(String::from).collect(),
            // The key of a profile is its group: the map's key adds nothing to it.
            profiles: model.profiles.into_values().map(Into::into).collect(),
            profiles_gone: model.profiles_gone.into_iter().map(String::from).collect(),
            identities: model.identities.into_iter().map(|(id, identity)| (id.0, identity.into())).collect(),
            identities_gone: identity_numbers(model.identities_gone),
            addresses: model.addresses.into_iter().map(|(net, id)| (net.to_string(), id.0)).collect(),
            addresses_gone: model.addresses_gone.into_iter().map(|net| net.to_string()).collect(),
            rules: model.rules.into_iter().map(Into::into).collect(),
            rule_order: model
                .rule_order
                .map(|ids| proto::RuleOrder { ids: ids.into_iter().map(|id| id.0).collect() }),
            settings: model.settings.map(Into::into),
            sensors: model.sensors.into_values().map(Into::into).collect(),
            sensors_gone: model.sensors_gone.into_iter().map(String::from).collect(),
            sensor_groups: model
                .sensor_groups
                .into_iter()
                .map(|(name, group)| (name.into(), group.into()))
                .collect(),
            sensor_groups_gone: model.sensor_groups_gone.into_iter().map(String::from).collect(),
            rule_sets: model.rule_sets.into_values().map(|blob| blob.bytes().to_vec()).collect(),
            rule_sets_gone: model.rule_sets_gone.iter().map(ToString::to_string).collect(),
        }
    }
}
