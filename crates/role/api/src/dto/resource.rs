//! Sensors as custom resources: what is exported and imported as YAML.

use nv_model::sensor::{Sensor as Stored, SensorKind};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::sensor::{CriteriaEntry, Rule};

/// Group and version of the resources.
pub const API_VERSION: &str = "neuvector.com/v1";

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

/// Several resources.
#[derive(Debug, Serialize)]
pub struct ResourceList {
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    items: Vec<Resource>,
    kind: &'static str,
    metadata: Option<()>,
}

/// A resource, or several.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Resource {
    /// Group and version.
    #[serde(rename = "apiVersion", default)]
    pub api_version: String,
    /// Of a list: its members.
    #[serde(default, skip_serializing)]
    pub items: Vec<Resource>,
    /// What it is.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub metadata: Option<Metadata>,
    /// The sensor.
    #[serde(default)]
    pub spec: Option<Spec>,
}

/// Who a resource is.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Metadata {
    /// Its name.
    #[serde(default)]
    pub name: String,
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

impl ResourceList {
    /// Of these sensors.
    #[must_use]
    pub fn of(sensors: &[Stored]) -> Self {
        let one = |sensor: &Stored| Resource {
            api_version: API_VERSION.to_owned(),
            items: Vec::new(),
            kind: kind(sensor.kind).to_owned(),
            metadata: Some(Metadata { name: sensor.name.to_string() }),
            spec: Some(Spec {
                sensor: Some(SensorResource {
                    comment: Some(sensor.comment.clone()),
                    name: sensor.name.to_string(),
                    rules: Rule::all_of(sensor)
                        .into_iter()
                        .map(|rule| RuleResource { name: rule.name, patterns: rule.patterns })
                        .collect(),
                }),
            }),
        };
        Self { api_version: "v1", items: sensors.iter().map(one).collect(), kind: "List", metadata: None }
    }
}
