//! A set of sensors, compiled: made off the path of the packets, and put in place whole.

use std::collections::HashMap;
use std::sync::Arc;

use nv_dpi::content::Part;

use crate::compile::{MAX_ALWAYS_OF_BODIES, MAX_ALWAYS_OF_LINES, PatternError, compile};
use crate::program::Program;
use crate::sensor::{Action, Context, Kind, MAX_NAME_BYTES, MAX_PATTERNS, MAX_RULE_BYTES, Pattern, Sensor};

/// Patterns of a set.
pub const MAX_SET_PATTERNS: usize = 16_384;

/// Why a set is refused, by what of it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sensor {sensor:?}, rule {rule:?}{}: {error}", .pattern.as_ref().map(|pattern| format!(", pattern {pattern:?}")).unwrap_or_default())]
pub struct Refused {
    /// Name of the sensor.
    pub sensor: String,
    /// Name of the rule.
    pub rule: String,
    /// The pattern, where it is one.
    pub pattern: Option<String>,
    /// Why.
    pub error: RefusedError,
}

/// Why a rule is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefusedError {
    /// One of its patterns.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Its name, or its sensor's.
    #[error("a name has 1 to {MAX_NAME_BYTES} bytes; give it another")]
    Name,
    /// How many patterns it has.
    #[error("the rule has {count} patterns, 1 to {MAX_PATTERNS} may be; split it")]
    Patterns {
        /// How many.
        count: usize,
    },
    /// How long its patterns are together.
    #[error("the patterns of the rule have {bytes} bytes together, {MAX_RULE_BYTES} at most; split it")]
    Bytes {
        /// Their length.
        bytes: usize,
    },
    /// The set is full.
    #[error("the set has more than {MAX_SET_PATTERNS} patterns; take sensors away")]
    Full,
}

/// Sensors, ready to be matched.
#[derive(Debug)]
pub struct SensorSet {
    pub(crate) rules: Vec<CompiledRule>,
    /// Rules that have a pattern, by its number.
    pub(crate) rules_of: Vec<Vec<u16>>,
    /// Context of a pattern, by its number.
    pub(crate) contexts: Vec<Context>,
    /// What is looked for in each part of a message: its own patterns, and those for everything.
    pub(crate) programs: [Program; 4],
    /// Rules that can only be judged at the end of a message.
    pub(crate) late: Vec<u16>,
}

/// A rule, ready.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) sensor: String,
    pub(crate) name: String,
    pub(crate) id: u32,
    pub(crate) kind: Kind,
    pub(crate) action: Action,
    pub(crate) has: Vec<u16>,
    pub(crate) has_not: Vec<u16>,
}

impl SensorSet {
    /// Compiles sensors. Takes milliseconds a pattern: not where packets wait.
    ///
    /// # Errors
    /// All that is wrong with them; then nothing of them is used.
    pub fn compile(sensors: &[Sensor]) -> Result<Self, Vec<Refused>> {
        let mut refused = Vec::new();
        let mut numbers: HashMap<(&str, Context, Option<crate::check::Check>), u16> = HashMap::new();
        let mut patterns: Vec<(&Sensor, &str, &Pattern)> = Vec::new();
        let mut set = Self {
            rules: Vec::new(),
            rules_of: Vec::new(),
            contexts: Vec::new(),
            programs: Default::default(),
            late: Vec::new(),
        };
        for sensor in sensors {
            for rule in &sensor.rules {
                let index = u16::try_from(set.rules.len()).unwrap_or(u16::MAX);
                let mut fail = |error| {
                    refused.push(Refused {
                        sensor: sensor.name.clone(),
                        rule: rule.name.clone(),
                        pattern: None,
                        error,
                    });
                };
                let bytes = rule.patterns.iter().map(|pattern| pattern.value.len()).sum();
                if [&sensor.name, &rule.name]
                    .iter()
                    .any(|name| name.is_empty() || name.len() > MAX_NAME_BYTES)
                {
                    fail(RefusedError::Name);
                } else if rule.patterns.is_empty() || rule.patterns.len() > MAX_PATTERNS {
                    fail(RefusedError::Patterns { count: rule.patterns.len() });
                } else if bytes > MAX_RULE_BYTES {
                    fail(RefusedError::Bytes { bytes });
                }
                let (mut has, mut has_not) = (Vec::new(), Vec::new());
                for pattern in &rule.patterns {
                    let key = (pattern.value.as_str(), pattern.context, pattern.check);
                    let next = u16::try_from(patterns.len())
                        .ok()
                        .filter(|next| usize::from(*next) < MAX_SET_PATTERNS);
                    let Some(number) = numbers.get(&key).copied().or(next) else {
                        refused.push(Refused {
                            sensor: sensor.name.clone(),
                            rule: rule.name.clone(),
                            pattern: None,
                            error: RefusedError::Full,
                        });
                        return Err(refused);
                    };
                    if numbers.insert(key, number).is_none() {
                        patterns.push((sensor, &rule.name, pattern));
                        set.contexts.push(pattern.context);
                        set.rules_of.push(Vec::new());
                    }
                    if pattern.absent {
                        has_not.push(number);
                    } else {
                        has.push(number);
                    }
                    if let Some(rules) = set.rules_of.get_mut(usize::from(number))
                        && !rules.contains(&index)
                    {
                        rules.push(index);
                    }
                }
                if !has_not.is_empty() {
                    set.late.push(index);
                }
                let (kind, action) = (sensor.kind, sensor.action);
                set.rules.push(CompiledRule {
                    sensor: sensor.name.clone(),
                    name: rule.name.clone(),
                    id: rule.id,
                    kind,
                    action,
                    has,
                    has_not,
                });
            }
        }
        let refuse = |number: u16, error: PatternError| {
            let (sensor, rule, pattern) = patterns.get(usize::from(number)).copied()?;
            let (sensor, rule) = (sensor.name.clone(), rule.to_owned());
            Some(Refused { sensor, rule, pattern: Some(pattern.value.clone()), error: error.into() })
        };
        let mut compiled = Vec::with_capacity(patterns.len());
        for (number, (.., pattern)) in (0_u16..).zip(&patterns) {
            match compile(pattern) {
                Ok(one) => compiled.push((number, pattern.context, one)),
                Err(error) => refused.extend(refuse(number, error)),
            }
        }
        for (context, place) in Context::ALL.into_iter().zip(&mut set.programs) {
            let here: Vec<_> = compiled
                .iter()
                .filter(|(_, of, _)| *of == context || *of == Context::Packet)
                .map(|(number, _, one)| (*number, one))
                .collect();
            let most = match context {
                Context::Url | Context::Header => MAX_ALWAYS_OF_LINES,
                Context::Body | Context::Packet => MAX_ALWAYS_OF_BODIES,
            };
            match Program::new(&here, most) {
                Ok(program) => *place = program,
                Err(refusals) => {
                    let new = refusals.into_iter().filter_map(|(number, error)| refuse(number, error));
                    // A pattern for everything may not fit in several places.
                    refused.extend(new.filter(|one| !refused.contains(one)).collect::<Vec<_>>());
                }
            }
        }
        if refused.is_empty() { Ok(set) } else { Err(refused) }
    }

    /// A set without sensors.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        Arc::new(Self {
            rules: Vec::new(),
            rules_of: Vec::new(),
            contexts: Vec::new(),
            programs: Default::default(),
            late: Vec::new(),
        })
    }

    /// Patterns, without those that are the same.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.contexts.len()
    }
    /// Rules.
    #[must_use]
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// Whether a message that begins with a part is of any use: something is looked for in it, or its absence counts.
    pub(crate) fn looks_at(&self, part: Part<'_>) -> bool {
        let context = match part {
            Part::Url(_) => Some(Context::Url),
            Part::Header(_) => Some(Context::Header),
            Part::Body(..) => Some(Context::Body),
            Part::Packet(_) | Part::Datagram(_) => Some(Context::Packet),
            Part::Hole | Part::End => None,
        };
        !self.late.is_empty() || context.is_some_and(|context| !self.program(context).is_empty())
    }

    /// What is looked for in a part of a message.
    pub(crate) fn program(&self, part: Context) -> &Program {
        let [url, header, body, packet] = &self.programs;
        match part {
            Context::Url => url,
            Context::Header => header,
            Context::Body => body,
            Context::Packet => packet,
        }
    }
}
