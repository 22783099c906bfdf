//! Sensors and the groups that use them.

use nv_model::policy::IdentityId;
use nv_model::sensor::{
    PatternContext, RuleSetUse, Sensor, SensorGroup, SensorId, SensorKind, SensorPattern, SensorRule,
};
use nv_model::threat::{MAX_MESSAGE_BYTES, Sensed};
use nv_model::verdict::Action;

use crate::bounds::{MAX_IDENTITIES, MAX_SENSOR_PATTERNS, MAX_SENSOR_RULES, MAX_SENSORS, MAX_WORD_BYTES};
use crate::enforcer::v1 as proto;
use crate::error::WireError;
use crate::policy::{action, action_number, origin, origin_number};
use crate::read::{Read, length, list, parse, text};

fn kind(raw: &str) -> Read<SensorKind> {
    SensorKind::parse(raw).ok_or_else(|| WireError::value("kind", "is neither dlp nor waf"))
}

impl TryFrom<proto::SensorPattern> for SensorPattern {
    type Error = WireError;
    fn try_from(raw: proto::SensorPattern) -> Read<Self> {
        Ok(Self {
            value: text("value", raw.value, MAX_WORD_BYTES.saturating_mul(4))?,
            absent: raw.absent,
            context: PatternContext::parse(&raw.context)
                .ok_or_else(|| WireError::value("context", "is no known context"))?,
        })
    }
}

impl From<SensorPattern> for proto::SensorPattern {
    fn from(model: SensorPattern) -> Self {
        Self { value: model.value, absent: model.absent, context: model.context.as_str().to_owned() }
    }
}

impl TryFrom<proto::SensorRule> for SensorRule {
    type Error = WireError;
    fn try_from(raw: proto::SensorRule) -> Read<Self> {
        Ok(Self {
            name: parse("name", &raw.name)?,
            id: raw.id,
            patterns: list("patterns", raw.patterns, MAX_SENSOR_PATTERNS)?,
        })
    }
}

impl From<SensorRule> for proto::SensorRule {
    fn from(model: SensorRule) -> Self {
        let patterns = model.patterns.into_iter().map(Into::into).collect();
        Self { name: model.name.into(), id: model.id, patterns }
    }
}

impl TryFrom<proto::Sensor> for Sensor {
    type Error = WireError;
    fn try_from(raw: proto::Sensor) -> Read<Self> {
        Ok(Self {
            name: parse("name", &raw.name)?,
            kind: kind(&raw.kind)?,
            // A node has no use for the note.
            comment: String::new(),
            origin: origin("origin", raw.origin)?,
            predefined: raw.predefined,
            rules: list("rules", raw.rules, MAX_SENSOR_RULES)?,
            rule_set: match raw.rule_set.as_str() {
                "" => None,
                // Nor for how many rules there were when it was handed in.
                id => Some(RuleSetUse { blob: parse("rule_set", id)?, rules: 0, refused: 0 }),
            },
        })
    }
}

impl From<Sensor> for proto::Sensor {
    fn from(model: Sensor) -> Self {
        Self {
            name: model.name.into(),
            kind: model.kind.as_str().to_owned(),
            origin: origin_number(model.origin),
            predefined: model.predefined,
            rules: model.rules.into_iter().map(Into::into).collect(),
            rule_set: model.rule_set.map(|used| used.blob.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::Sensed> for Sensed {
    type Error = WireError;
    fn try_from(raw: proto::Sensed) -> Read<Self> {
        Ok(Self {
            kind: kind(&raw.kind)?,
            sensor: parse("sensor", &raw.sensor)?,
            rule: parse("rule", &raw.rule)?,
            group: parse("group", &raw.group)?,
            message: text("message", raw.message, MAX_MESSAGE_BYTES)?,
            variable: text("variable", raw.variable, MAX_MESSAGE_BYTES)?,
        })
    }
}

impl From<Sensed> for proto::Sensed {
    fn from(model: Sensed) -> Self {
        Self {
            kind: model.kind.as_str().to_owned(),
            sensor: model.sensor.into(),
            rule: model.rule.into(),
            group: model.group.into(),
            message: model.message,
            variable: model.variable,
        }
    }
}

impl TryFrom<proto::SensorGroup> for SensorGroup {
    type Error = WireError;
    fn try_from(raw: proto::SensorGroup) -> Read<Self> {
        length("settings", raw.settings.len(), MAX_SENSORS)?;
        length("members", raw.members.len(), MAX_IDENTITIES)?;
        let settings = raw.settings.into_iter().map(|setting| -> Read<(SensorId, Action)> {
            Ok((parse("settings.sensor", &setting.sensor)?, action("settings.action", setting.action)?))
        });
        Ok(Self {
            settings: settings.collect::<Read<_>>()?,
            members: raw.members.into_iter().map(IdentityId).collect(),
        })
    }
}

impl From<SensorGroup> for proto::SensorGroup {
    fn from(model: SensorGroup) -> Self {
        let settings = model.settings.into_iter().map(|(sensor, action)| proto::SensorSetting {
            sensor: sensor.to_string(),
            action: action_number(action),
        });
        Self {
            settings: settings.collect(),
            members: model.members.into_iter().map(|member| member.0).collect(),
        }
    }
}
