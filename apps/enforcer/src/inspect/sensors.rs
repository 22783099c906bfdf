//! Sensors from a file: YAML of the shape of the REST API's objects, or of the custom resources.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use nv_sensor::predefined;
use nv_sensor::sensor::{Action, Context, Kind, Pattern, Rule, Sensor};
use nv_sensor::set::SensorSet;
use serde::Deserialize;

/// First numbers of rules that have none.
const DLP_RULES: u32 = 20_000;
const WAF_RULES: u32 = 40_000;
/// Largest file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A file: `sensors` as the lists of the API, `config` or `sensor` as one of its objects, `spec` as a custom resource.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    sensors: Vec<SensorShape>,
    #[serde(default)]
    dlp_sensors: Vec<SensorShape>,
    #[serde(default)]
    waf_sensors: Vec<SensorShape>,
    config: Option<SensorShape>,
    sensor: Option<SensorShape>,
    spec: Option<Spec>,
    kind: Option<String>,
    #[serde(default, rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(default, rename = "metadata")]
    _metadata: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    sensor: SensorShape,
}

/// A sensor. One without rules is the predefined one of that name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SensorShape {
    name: String,
    /// `dlp` or `waf`; where it is not said, the rules' numbers say it.
    kind: Option<SensorKind>,
    /// What a group would do with it.
    #[serde(default)]
    action: ActionShape,
    #[serde(default)]
    rules: Vec<RuleShape>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    #[serde(default, rename = "cfg_type")]
    _cfg_type: Option<String>,
    #[serde(default, rename = "groups")]
    _groups: Option<Vec<String>>,
    #[serde(default, rename = "predefine")]
    _predefine: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SensorKind {
    Dlp,
    Waf,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionShape {
    #[default]
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleShape {
    name: String,
    #[serde(default)]
    id: u32,
    patterns: Vec<PatternShape>,
    #[serde(default, rename = "cfg_type")]
    _cfg_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatternShape {
    #[serde(default, rename = "key")]
    _key: KeyShape,
    #[serde(default)]
    op: OperatorShape,
    value: String,
    #[serde(default)]
    context: ContextShape,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyShape {
    #[default]
    Pattern,
}

#[derive(Default, Deserialize)]
enum OperatorShape {
    #[default]
    #[serde(rename = "regex")]
    Has,
    #[serde(rename = "!regex")]
    HasNot,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ContextShape {
    Url,
    Header,
    #[default]
    Body,
    Packet,
}

/// Reads and compiles the sensors of a file.
///
/// # Errors
/// What is wrong, at which line or in which rule, and what to do.
pub(crate) fn read(path: &Path) -> Result<Arc<SensorSet>> {
    let text = super::files::text(path, MAX_FILE_BYTES)?;
    let sensors = parse(&text).with_context(|| format!("sensors of {}", path.display()))?;
    match SensorSet::compile(&sensors) {
        Ok(set) => Ok(Arc::new(set)),
        Err(refused) => {
            let lines: Vec<String> = refused.iter().map(|one| format!("\n  {one}")).collect();
            bail!("sensors of {} are refused:{}", path.display(), lines.concat());
        }
    }
}

fn parse(text: &str) -> Result<Vec<Sensor>> {
    let file: File = serde_saphyr::from_str(text)?;
    let of_resource = match file.kind.as_deref() {
        Some("NvWafSecurityRule") => Some(Kind::Waf),
        Some("NvDlpSecurityRule") => Some(Kind::Dlp),
        Some(other) => bail!("kind {other:?} has no sensors; NvDlpSecurityRule and NvWafSecurityRule have"),
        None => None,
    };
    let one = [file.config, file.sensor, file.spec.map(|spec| spec.sensor)].into_iter().flatten();
    let shapes = file
        .dlp_sensors
        .into_iter()
        .map(|shape| (shape, Some(Kind::Dlp)))
        .chain(file.waf_sensors.into_iter().map(|shape| (shape, Some(Kind::Waf))))
        .chain(file.sensors.into_iter().chain(one).map(|shape| (shape, of_resource)));
    let (mut dlp, mut waf) = (DLP_RULES, WAF_RULES);
    let sensors: Vec<Sensor> =
        shapes.map(|(shape, kind)| sensor(shape, kind, &mut dlp, &mut waf)).collect::<Result<_>>()?;
    if sensors.is_empty() {
        bail!("there is no sensor in it; list some below `sensors:`, each with `name` and `rules`");
    }
    Ok(sensors)
}

fn sensor(shape: SensorShape, kind: Option<Kind>, dlp: &mut u32, waf: &mut u32) -> Result<Sensor> {
    let action = match shape.action {
        ActionShape::Allow => Action::Allow,
        ActionShape::Deny => Action::Deny,
    };
    if shape.rules.is_empty() {
        let Some(found) = predefined::sensor(&shape.name) else {
            let names: Vec<String> = predefined::sensors().into_iter().map(|sensor| sensor.name).collect();
            bail!(
                "sensor {:?} has no rules, and is none of the predefined ones ({}); give it `rules:`",
                shape.name,
                names.join(", ")
            );
        };
        return Ok(Sensor { action, ..found });
    }
    let kind = match (kind, shape.kind) {
        (Some(kind), _) => kind,
        (None, Some(SensorKind::Dlp)) => Kind::Dlp,
        (None, Some(SensorKind::Waf)) => Kind::Waf,
        (None, None) if shape.rules.iter().any(|rule| rule.id >= WAF_RULES) => Kind::Waf,
        (None, None) => Kind::Dlp,
    };
    let next = if kind == Kind::Waf { waf } else { dlp };
    let rules = shape.rules.into_iter().map(|rule| {
        let id = if rule.id == 0 { *next } else { rule.id };
        *next = (*next).max(id).saturating_add(1);
        Rule { name: rule.name, id, patterns: rule.patterns.into_iter().map(pattern).collect() }
    });
    Ok(Sensor { name: shape.name, kind, action, rules: rules.collect() })
}

fn pattern(shape: PatternShape) -> Pattern {
    let context = match shape.context {
        ContextShape::Url => Context::Url,
        ContextShape::Header => Context::Header,
        ContextShape::Body => Context::Body,
        ContextShape::Packet => Context::Packet,
    };
    Pattern { value: shape.value, absent: matches!(shape.op, OperatorShape::HasNot), context, check: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_of_the_api_and_of_custom_resources_are_read() {
        let rules = "rules: [{name: r, patterns: [{key: pattern, op: regex, value: 'a+b', context: url}]}]";
        let want = Pattern { value: "a+b".to_owned(), absent: false, context: Context::Url, check: None };
        for (text, kind, id) in [
            (format!("sensors: [{{name: s, {rules}}}]"), Kind::Dlp, DLP_RULES),
            (format!("waf_sensors: [{{name: s, {rules}}}]"), Kind::Waf, WAF_RULES),
            (format!("config: {{name: s, kind: waf, {rules}}}"), Kind::Waf, WAF_RULES),
            (
                format!(
                    "apiVersion: neuvector.com/v1\nkind: NvWafSecurityRule\nmetadata: {{name: s}}\nspec: {{sensor: {{name: s, {rules}}}}}"
                ),
                Kind::Waf,
                WAF_RULES,
            ),
        ] {
            let sensors = parse(&text).unwrap();
            assert_eq!((sensors[0].kind, sensors[0].rules[0].id), (kind, id), "{text}");
            assert_eq!(sensors[0].rules[0].patterns, std::slice::from_ref(&want), "{text}");
        }
        let named = parse("sensors: [{name: sensor.ssn, action: deny}]").unwrap();
        assert_eq!((named[0].action, named[0].rules[0].id), (Action::Deny, 30_007));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_to_do() {
        for (text, wants) in [
            ("sensors:\n  - name: s\n    rulez: []\n", &["rulez", "3"][..]),
            (
                "sensors:\n  - name: s\n    rules:\n      - name: r\n        patterns: [{value: x, context: footer}]\n",
                &["footer", "5"],
            ),
            ("sensors: [{name: nobody}]", &["nobody", "predefined", "give it `rules:`"]),
            ("{}", &["list some below `sensors:`"]),
            ("kind: Pod", &["Pod", "NvDlpSecurityRule"]),
            ("sensors: [", &["1"]),
        ] {
            let error = format!("{:#}", parse(text).map(|sensors| sensors.len()).unwrap_err());
            assert!(wants.iter().all(|want| error.contains(want)), "{text}: {error}");
        }
    }
}
