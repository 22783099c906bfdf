//! Sensors as custom resources.

use nv_model::sensor::{Sensor as Stored, SensorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::resource::{Metadata, Resource};
use super::sensor::{CriteriaEntry, Rule};

/// Which sensors are exported.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = DlpSensorExport)]
pub struct SensorExport {
    /// Their names.
    #[serde(default)]
    pub names: Vec<String>,
    /// Where else the file goes; not supported.
    #[serde(default)]
    pub remote_export_options: Option<serde_json::Value>,
}

/// What a resource says.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Spec {
    /// A sensor.
    #[serde(default)]
    pub sensor: Option<SensorResource>,
}

/// A sensor of a resource.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct SensorResource {
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// Name.
    #[serde(default)]
    pub name: String,
    /// Its rules.
    #[serde(default)]
    pub rules: Vec<RuleResource>,
}

/// A rule of a resource.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct RuleResource {
    /// Name.
    #[serde(default)]
    pub name: String,
    /// What a message must have.
    #[serde(default)]
    pub patterns: Vec<CriteriaEntry>,
}

/// The kind of a sensor's resource.
#[must_use]
pub const fn kind(kind: SensorKind) -> &'static str {
    match kind {
        SensorKind::Dlp => "NvDlpSecurityRule",
        SensorKind::Waf => "NvWafSecurityRule",
    }
}

impl From<&Stored> for Resource<Spec> {
    fn from(sensor: &Stored) -> Self {
        let metadata = Metadata { name: sensor.name.to_string(), namespace: None };
        let rules = Rule::all_of(sensor);
        let sensor_resource = SensorResource {
            comment: Some(sensor.comment.clone()),
            name: sensor.name.to_string(),
            rules: rules
                .into_iter()
                .map(|rule| RuleResource { name: rule.name, patterns: rule.patterns })
                .collect(),
        };
        Self::new(kind(sensor.kind), metadata, Spec { sensor: Some(sensor_resource) })
    }
}
