//! Sensors as the product stores them, made into what is compiled.

use nv_model::sensor::{PatternContext, Sensor as Stored, SensorKind, SensorRule};

use crate::predefined;
use crate::sensor::{Action, Context, Kind, Pattern, Rule, Sensor};
use crate::set::{Refused, SensorSet};

/// A stored sensor as it is compiled; a predefined one by its name alone. `None` for a predefined one that this version
/// has none of. What becomes of a message is each group's own choice, and not in it.
#[must_use]
pub fn sensor(stored: &Stored) -> Option<Sensor> {
    if stored.predefined {
        return predefined::sensor(stored.name.as_str()).filter(|found| found.kind == kind(stored.kind));
    }
    Some(Sensor {
        name: stored.name.to_string(),
        kind: kind(stored.kind),
        action: Action::Allow,
        rules: stored.rules.iter().map(rule).collect(),
    })
}

/// Tries whether rules can be run at the speed of traffic. Takes milliseconds a pattern.
///
/// # Errors
/// All that is wrong with them.
pub fn check(stored: &Stored) -> Result<(), Vec<Refused>> {
    sensor(stored).map_or(Ok(()), |sensor| SensorSet::compile(&[sensor]).map(drop))
}

/// What a stored kind is called here.
#[must_use]
pub fn kind(stored: SensorKind) -> Kind {
    match stored {
        SensorKind::Dlp => Kind::Dlp,
        SensorKind::Waf => Kind::Waf,
    }
}

fn rule(stored: &SensorRule) -> Rule {
    let patterns = stored.patterns.iter().map(|pattern| Pattern {
        value: pattern.value.clone(),
        absent: pattern.absent,
        context: match pattern.context {
            PatternContext::Url => Context::Url,
            PatternContext::Header => Context::Header,
            PatternContext::Body => Context::Body,
            PatternContext::Packet => Context::Packet,
        },
        check: None,
    });
    Rule { name: stored.name.to_string(), id: stored.id, patterns: patterns.collect() }
}

#[cfg(test)]
mod tests {
    use nv_model::group::Origin;
    use nv_model::sensor::SensorPattern;

    use super::*;

    fn stored(name: &str, predefined: bool, patterns: &[&str]) -> Stored {
        let patterns = patterns.iter().map(|value| SensorPattern {
            value: (*value).to_owned(),
            absent: false,
            context: PatternContext::Url,
        });
        let rules =
            vec![SensorRule { name: "rule".parse().unwrap(), id: 20_000, patterns: patterns.collect() }];
        Stored {
            name: name.parse().unwrap(),
            kind: SensorKind::Dlp,
            comment: String::new(),
            origin: Origin::UserCreated,
            predefined,
            rules: if predefined { vec![] } else { rules },
            rule_set: None,
        }
    }

    #[test]
    fn a_predefined_sensor_has_its_rules_from_its_name_and_kind() {
        assert_eq!(sensor(&stored("sensor.creditcard", true, &[])).unwrap().rules.len(), 7);
        assert_eq!(sensor(&stored("sensor.log4shell", true, &[])), None, "is no DLP sensor");
        assert_eq!(sensor(&stored("sensor.creditcard", false, &["x{3}"])).unwrap().rules.len(), 1);
    }

    #[test]
    fn what_costs_too_much_is_refused_before_it_is_stored() {
        assert_eq!(check(&stored("mine", false, &["secret[0-9]{4}"])), Ok(()));
        let refused = check(&stored("mine", false, &["(?=a)b"])).unwrap_err();
        assert!(refused[0].to_string().contains("looks around"), "{}", refused[0]);
    }
}
