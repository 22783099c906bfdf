//! DLP and WAF sensors. Both kinds have the same shapes; only groups are wrapped in other keys.

use nv_model::sensor::{RuleSetUse, Sensor as Stored, SensorPattern, SensorRule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// A pattern of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DlpCriteriaEntry)]
pub struct CriteriaEntry {
    /// `pattern`.
    #[serde(default)]
    pub key: String,
    /// A regular expression.
    #[serde(default)]
    pub value: String,
    /// `regex`, or `!regex` for what must not be there.
    #[serde(default)]
    pub op: String,
    /// `url`, `header`, `body` or `packet`; the body when it is left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub context: String,
}

impl CriteriaEntry {
    fn of(value: &str, absent: bool, context: &str) -> Self {
        Self {
            key: "pattern".to_owned(),
            value: value.to_owned(),
            op: if absent { "!regex" } else { "regex" }.to_owned(),
            context: context.to_owned(),
        }
    }
}

impl From<&SensorPattern> for CriteriaEntry {
    fn from(pattern: &SensorPattern) -> Self {
        Self::of(&pattern.value, pattern.absent, pattern.context.as_str())
    }
}

/// A rule of a sensor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DlpRule)]
pub struct Rule {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Number, by which it is logged; given out when it is made.
    #[serde(default)]
    pub id: u32,
    /// What a message must have, all of it.
    #[serde(default)]
    pub patterns: Vec<CriteriaEntry>,
    /// Owner.
    #[serde(default)]
    pub cfg_type: String,
}
impl Named for Rule {
    const ONE: &'static str = "rule";
    const MANY: &'static str = "rules";
}

impl Rule {
    fn of(rule: &SensorRule, owner: &str) -> Self {
        Self {
            name: rule.name.to_string(),
            id: rule.id,
            patterns: rule.patterns.iter().map(CriteriaEntry::from).collect(),
            cfg_type: owner.to_owned(),
        }
    }

    /// The rules of a sensor; those of a predefined one are the product's.
    #[must_use]
    pub fn all_of(sensor: &Stored) -> Vec<Self> {
        let owner = sensor.origin.as_str();
        if !sensor.predefined {
            return sensor.rules.iter().map(|rule| Self::of(rule, owner)).collect();
        }
        let own = nv_sensor::predefined::sensor(sensor.name.as_str());
        let rules = own.into_iter().flat_map(|found| found.rules);
        rules
            .map(|rule| Self {
                name: rule.name,
                id: rule.id,
                patterns: rule
                    .patterns
                    .iter()
                    .map(|pattern| CriteriaEntry::of(&pattern.value, pattern.absent, pattern.context.name()))
                    .collect(),
                cfg_type: owner.to_owned(),
            })
            .collect()
    }
}

/// The rules of one name, and the sensors that have them.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = DlpRuleDetail)]
pub struct RuleDetail {
    /// Names of the sensors.
    pub sensors: Vec<String>,
    /// The rules.
    pub rules: Vec<Rule>,
}
impl Named for RuleDetail {
    const ONE: &'static str = "rule";
    const MANY: &'static str = "rules";
}

/// A sensor.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = DlpSensor)]
pub struct Sensor {
    /// Name.
    pub name: String,
    /// Groups that use it.
    pub groups: Vec<String>,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// A note.
    pub comment: String,
    /// It comes with the product.
    pub predefine: bool,
    /// Owner.
    pub cfg_type: String,
    /// The rule set that it has beside its rules; of WAF alone. Not in the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<RuleSetSummary>,
}
impl Named for Sensor {
    const ONE: &'static str = "sensor";
    const MANY: &'static str = "sensors";
}

/// The rule set of a sensor, in short.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RuleSetSummary {
    /// SHA-256 of its files.
    pub digest: String,
    /// Rules that were taken.
    pub rules: u32,
    /// Rules and directives that were left out.
    pub refused_count: u32,
}

impl From<&RuleSetUse> for RuleSetSummary {
    fn from(used: &RuleSetUse) -> Self {
        Self { digest: format!("sha256:{}", used.blob), rules: used.rules, refused_count: used.refused }
    }
}

/// The rule set of a sensor.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct RuleSet {
    /// The sensor.
    pub sensor: String,
    /// SHA-256 of its files.
    pub digest: String,
    /// How many files it has.
    pub files: u32,
    /// Rules that are taken; a chain is one.
    pub rules: u32,
    /// Rules and directives that are left out.
    pub refused_count: u32,
    /// The first hundred of these, each with its file, line, id and why.
    pub refused: Vec<String>,
}
impl Named for RuleSet {
    const ONE: &'static str = "rule_set";
    const MANY: &'static str = "rule_sets";
}

/// A sensor as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = DlpSensorConfig)]
pub struct SensorConfig {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// New rules, and another content for those that are there, by name.
    #[serde(default)]
    pub change: Option<Vec<Rule>>,
    /// Rules that go, by name.
    #[serde(default)]
    pub delete: Option<Vec<Rule>>,
    /// All rules; one that is not among them goes.
    #[serde(default)]
    pub rules: Option<Vec<Rule>>,
    /// Owner; `user_created`.
    #[serde(default)]
    pub cfg_type: String,
}

/// A sensor as it is to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = DlpSensorConfigData)]
pub struct SensorConfigData {
    /// The sensor.
    #[serde(default)]
    pub config: Option<SensorConfig>,
}

/// A sensor that a group uses.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[schema(as = DlpSetting)]
pub struct Setting {
    /// Name of the sensor.
    pub name: String,
    /// `allow` or `deny`: what becomes of a message in Protect.
    pub action: String,
    /// There is such a sensor.
    pub exist: bool,
    /// It comes with the product; of DLP alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predefine: Option<bool>,
    /// The sensor's note.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// The sensor's owner.
    pub cfg_type: String,
}

macro_rules! group {
    ($(#[$doc:meta])* $name:ident, $one:literal, $many:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Serialize, ToSchema)]
        pub struct $name {
            /// Its name.
            pub name: String,
            /// The sensors are looked at.
            pub status: bool,
            /// The sensors.
            pub sensors: Vec<Setting>,
            /// The group's owner.
            pub cfg_type: String,
        }
        impl Named for $name {
            const ONE: &'static str = $one;
            const MANY: &'static str = $many;
        }
    };
}

group!(
    /// A group and its DLP sensors.
    DlpGroup, "dlp_group", "dlp_groups"
);
group!(
    /// A group and its WAF sensors.
    WafGroup, "waf_group", "waf_groups"
);

/// A sensor that a group is to use.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = DlpConfig)]
pub struct SettingConfig {
    /// Name of the sensor.
    #[serde(default)]
    pub name: String,
    /// `allow` or `deny`.
    #[serde(default)]
    pub action: String,
}

/// The sensors of a group as they are to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = DlpGroupConfig)]
pub struct GroupConfig {
    /// The group.
    #[serde(default)]
    pub name: String,
    /// The sensors are looked at.
    #[serde(default)]
    pub status: Option<bool>,
    /// Names of sensors that it uses no more.
    #[serde(default)]
    pub delete: Option<Vec<String>>,
    /// Sensors that it uses, too; none at all when the list is empty.
    #[serde(default)]
    pub sensors: Option<Vec<SettingConfig>>,
    /// All sensors that it uses.
    #[serde(default)]
    pub replace: Option<Vec<SettingConfig>>,
}

/// The sensors of a group as they are to be.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = DlpGroupConfigData)]
pub struct GroupConfigData {
    /// The group.
    #[serde(default)]
    pub config: Option<GroupConfig>,
}
