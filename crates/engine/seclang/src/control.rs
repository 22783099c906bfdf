//! `ctl:`: what a matching rule changes for the rest of the transaction.

use std::sync::Arc;

use crate::error::Reason;
use crate::operator::expression::Expression;
use crate::operator::pattern;
use crate::variable::Target;

/// Whether rules run, and whether they decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Rules run and decide.
    On,
    /// No rule runs.
    Off,
    /// Rules run, and what they would decide is told, not done.
    DetectionOnly,
}

impl Engine {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "on" => Some(Self::On),
            "off" => Some(Self::Off),
            "detectiononly" => Some(Self::DetectionOnly),
            _ => None,
        }
    }
}

/// What reads the body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    Form,
    Multipart,
    Xml,
    Json,
}

impl Processor {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "URLENCODED" => Some(Self::Form),
            "MULTIPART" => Some(Self::Multipart),
            "XML" => Some(Self::Xml),
            "JSON" => Some(Self::Json),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Form => "URLENCODED",
            Self::Multipart => "MULTIPART",
            Self::Xml => "XML",
            Self::Json => "JSON",
        }
    }
}

/// Which rules.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// Ids within these ranges, both ends included.
    Ids(Vec<(u32, u32)>),
    /// A tag that the pattern is found in.
    Tag(Arc<Expression>),
    /// A message that the pattern is found in, macros not filled in.
    Message(Arc<Expression>),
}

impl Which {
    /// Ranges of ids that are taken.
    const MAX: usize = 1024;

    /// Reads `1 3-5,9`.
    pub(crate) fn ids(text: &[u8]) -> Result<Self, Reason> {
        let text = String::from_utf8_lossy(text);
        let wrong = || Reason::Value { what: "id", value: text.clone().into_owned() };
        let mut ranges = Vec::new();
        let words =
            text.split([' ', ',', '\t']).map(|word| word.trim_matches('"')).filter(|word| !word.is_empty());
        for word in words {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = first.trim().parse().ok().zip(last.trim().parse().ok());
            ranges.push(range.filter(|(first, last)| first <= last).ok_or_else(wrong)?);
        }
        if ranges.len() > Self::MAX {
            return Err(Reason::Bound { what: "ranges of ids", most: Self::MAX });
        }
        if ranges.is_empty() { Err(wrong()) } else { Ok(Self::Ids(ranges)) }
    }

    pub(crate) fn tag(text: &[u8]) -> Result<Self, Reason> {
        Ok(Self::Tag(Arc::new(pattern::compile(text, false).map_err(Reason::Pattern)?)))
    }

    pub(crate) fn message(text: &[u8]) -> Result<Self, Reason> {
        Ok(Self::Message(Arc::new(pattern::compile(text, false).map_err(Reason::Pattern)?)))
    }

    /// Whether a rule is one of them.
    pub(crate) fn takes(&self, id: u32, tags: &[Box<str>], message: &[u8]) -> bool {
        match self {
            Self::Ids(ranges) => ranges.iter().any(|(first, last)| (*first..=*last).contains(&id)),
            Self::Tag(pattern) => tags.iter().any(|tag| pattern.is_match(tag.as_bytes())),
            Self::Message(pattern) => pattern.is_match(message),
        }
    }
}

/// A change for the rest of the transaction.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    Engine(Engine),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    ForceRequestBody(bool),
    Processor(Processor),
    Remove(Which),
    RemoveTarget(Which, Box<Target>),
    /// Of logs that are another's.
    Nothing,
}

impl Control {
    /// Reads `name=value`.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Reason> {
        let at = text.iter().position(|byte| *byte == b'=').ok_or(Reason::Missing("the value of ctl"))?;
        let (name, value) =
            (text.get(..at).unwrap_or_default(), text.get(at.saturating_add(1)..).unwrap_or_default());
        let shown = String::from_utf8_lossy(value);
        let wrong = || Reason::Value { what: "ctl", value: String::from_utf8_lossy(text).into_owned() };
        let on = || match shown.to_ascii_lowercase().as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(wrong()),
        };
        let target = || -> Result<(&[u8], Box<Target>), Reason> {
            let at = value.iter().position(|byte| *byte == b';').ok_or_else(wrong)?;
            let target = value.get(at.saturating_add(1)..).unwrap_or_default();
            Ok((value.get(..at).unwrap_or_default(), Box::new(Target::parse(target, false)?)))
        };
        Ok(match name.to_ascii_lowercase().as_slice() {
            b"ruleengine" => Self::Engine(Engine::parse(&shown).ok_or_else(wrong)?),
            b"requestbodyaccess" => Self::RequestBodyAccess(on()?),
            b"responsebodyaccess" => Self::ResponseBodyAccess(on()?),
            b"forcerequestbodyvariable" => Self::ForceRequestBody(on()?),
            b"requestbodyprocessor" => Self::Processor(Processor::parse(&shown).ok_or_else(wrong)?),
            b"ruleremovebyid" => Self::Remove(Which::ids(value)?),
            b"ruleremovebytag" => Self::Remove(Which::tag(value)?),
            b"ruleremovebymsg" => Self::Remove(Which::message(value)?),
            b"ruleremovetargetbyid" => {
                target().and_then(|(id, target)| Ok(Self::RemoveTarget(Which::ids(id)?, target)))?
            }
            b"ruleremovetargetbytag" => {
                target().and_then(|(tag, target)| Ok(Self::RemoveTarget(Which::tag(tag)?, target)))?
            }
            b"ruleremovetargetbymsg" => {
                target().and_then(|(msg, target)| Ok(Self::RemoveTarget(Which::message(msg)?, target)))?
            }
            b"auditengine" | b"auditlogparts" | b"debugloglevel" => Self::Nothing,
            _ => return Err(Reason::Action(format!("ctl:{}", String::from_utf8_lossy(name)))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_named_by_ranges_tags_and_messages() {
        let ids = Which::ids(b"1 3-5,9").unwrap();
        let taken: Vec<u32> = (0..12).filter(|id| ids.takes(*id, &[], b"")).collect();
        assert_eq!(taken, [1, 3, 4, 5, 9]);
        assert!(Which::tag(b"^attack-").unwrap().takes(1, &["attack-x".into()], b""));
        assert!(Which::ids(b"5-3").is_err() && Which::ids(b"").is_err());
    }

    #[test]
    fn changes_of_the_transaction_are_read() {
        assert!(matches!(
            Control::parse(b"ruleEngine=DetectionOnly"),
            Ok(Control::Engine(Engine::DetectionOnly))
        ));
        assert!(matches!(Control::parse(b"ruleRemoveTargetById=5;ARGS:x"), Ok(Control::RemoveTarget(..))));
        assert!(matches!(
            Control::parse(b"requestBodyProcessor=XML"),
            Ok(Control::Processor(Processor::Xml))
        ));
        assert!(Control::parse(b"ruleEngine").is_err() && Control::parse(b"unheard=1").is_err());
    }
}
