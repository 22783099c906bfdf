//! Actions of a rule: what it is called, what it does when it matches.

use crate::control::Control;
use crate::error::Reason;
use crate::template::Template;
use crate::transform::Transform;
use crate::variable::List;

/// How grave a match is, by the names of syslog (RFC 5424 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Severity {
    Emergency,
    Alert,
    Critical,
    Error,
    Warning,
    Notice,
    Info,
    Debug,
}

impl Severity {
    /// All, the gravest first: their number is their place.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    /// Its name in capitals.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Emergency => "EMERGENCY",
            Self::Alert => "ALERT",
            Self::Critical => "CRITICAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let by_number = text.parse().ok().and_then(|number: usize| Self::ALL.get(number).copied());
        by_number.or_else(|| Self::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(text)))
    }
}

/// What becomes of the transaction when a rule matches.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Disruptive {
    /// Nothing.
    Pass,
    /// What the default action of its phase says.
    Block,
    Deny,
    Drop,
    Redirect(Template),
    Allow(AllowScope),
}

/// What `allow` lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowScope {
    /// All that comes, but for the phase of logging.
    Transaction,
    Phase,
    Request,
}

/// How a variable is changed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    Set(Template),
    Add(Template),
    Subtract(Template),
    Remove,
}

/// What happens at each match besides the decision.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Variable { list: List, name: Template, change: Change },
    Control(Control),
}

/// The actions of a rule as written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actions {
    pub(crate) id: Option<u32>,
    pub(crate) phase: Option<u8>,
    pub(crate) disruptive: Option<Disruptive>,
    pub(crate) status: Option<u16>,
    pub(crate) msg: Option<Template>,
    pub(crate) logdata: Option<Template>,
    pub(crate) severity: Option<Severity>,
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) log: Option<bool>,
    pub(crate) capture: bool,
    pub(crate) multi_match: bool,
    pub(crate) chain: bool,
    pub(crate) skip: usize,
    pub(crate) skip_after: Option<Box<[u8]>>,
    /// Whether `t:none` was there, which drops what the default action adds.
    pub(crate) resets: bool,
    pub(crate) transforms: Vec<Transform>,
    pub(crate) effects: Vec<Effect>,
}

impl Actions {
    /// Actions of a rule that are taken.
    const MAX: usize = 256;

    /// Reads `id:1,phase:2,…`.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Reason> {
        let mut actions = Self::default();
        let parts = split(text)?;
        if parts.len() > Self::MAX {
            return Err(Reason::Bound { what: "actions of a rule", most: Self::MAX });
        }
        for (name, value) in parts {
            actions.take(&name, &value)?;
        }
        Ok(actions)
    }

    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Reason> {
        let text = String::from_utf8_lossy(value);
        let wrong = |what| Reason::Value { what, value: text.clone().into_owned() };
        match name {
            "id" => self.id = Some(text.parse().map_err(|_bad| wrong("id"))?),
            "phase" => {
                self.phase = Some(match text.to_ascii_lowercase().as_str() {
                    "request" => 2,
                    "response" => 4,
                    "logging" => 5,
                    number => number
                        .parse()
                        .ok()
                        .filter(|phase| (1..=5).contains(phase))
                        .ok_or_else(|| wrong("phase"))?,
                });
            }
            "pass" => self.disruptive = Some(Disruptive::Pass),
            "block" => self.disruptive = Some(Disruptive::Block),
            "deny" => self.disruptive = Some(Disruptive::Deny),
            "drop" => self.disruptive = Some(Disruptive::Drop),
            "redirect" => self.disruptive = Some(Disruptive::Redirect(Template::parse(value)?)),
            "allow" => {
                self.disruptive = Some(Disruptive::Allow(match text.to_ascii_lowercase().as_str() {
                    "" => AllowScope::Transaction,
                    "phase" => AllowScope::Phase,
                    "request" => AllowScope::Request,
                    _ => return Err(wrong("scope")),
                }));
            }
            "status" => self.status = Some(text.parse().map_err(|_bad| wrong("status"))?),
            "msg" => self.msg = Some(Template::parse(value)?),
            "logdata" => self.logdata = Some(Template::parse(value)?),
            "severity" => self.severity = Some(Severity::parse(&text).ok_or_else(|| wrong("severity"))?),
            "tag" => self.tags.push(text.into()),
            "log" => self.log = Some(true),
            "nolog" => self.log = Some(false),
            "capture" => self.capture = true,
            "multimatch" => self.multi_match = true,
            "chain" => self.chain = true,
            "skip" => self.skip = text.parse().map_err(|_bad| wrong("count"))?,
            "skipafter" => self.skip_after = Some(value.into()),
            "t" if text.eq_ignore_ascii_case("none") => {
                self.resets = true;
                self.transforms.clear();
            }
            "t" => self.transforms.push(text.parse()?),
            "setvar" => self.effects.push(set_variable(value)?),
            "initcol" => self.effects.push(begin_collection(value)?),
            "ctl" => self.effects.push(Effect::Control(Control::parse(value)?)),
            // What a transaction collects ends with it, so that nothing is left to expire.
            "expirevar" => drop(list_of(value)?),
            // Words about the rule, and about logs that are another's.
            "accuracy"
            | "auditlog"
            | "maturity"
            | "noauditlog"
            | "rev"
            | "ver"
            | "sanitisearg"
            | "sanitisematched"
            | "sanitisematchedbytes"
            | "sanitiserequestheader"
            | "sanitiseresponseheader" => {}
            _ => return Err(Reason::Action(name.to_owned())),
        }
        Ok(())
    }
}

/// Actions between commas; commas within single quotes are of the value.
fn split(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Reason> {
    let mut parts = Vec::new();
    let mut rest = text.trim_ascii();
    while !rest.is_empty() {
        let length = rest.iter().position(|byte| matches!(byte, b':' | b',')).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(length).unwrap_or_default();
        let name = String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase();
        let Some(after) = after.strip_prefix(b":") else {
            if !name.is_empty() {
                parts.push((name, Vec::new()));
            }
            rest = after.get(1..).unwrap_or_default().trim_ascii_start();
            continue;
        };
        let (value, behind) = value(after)?;
        parts.push((name, value));
        rest = behind.trim_ascii_start();
        rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    }
    Ok(parts)
}

/// A value up to its comma, and what is behind it.
fn value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Reason> {
    let mut value = Vec::new();
    let mut in_quotes = false;
    let mut rest = text;
    loop {
        match rest {
            [b'\\', b'\'', after @ ..] => {
                value.push(b'\'');
                rest = after;
            }
            // `setvar:'…'` and `ctl:name='…'`.
            [b'\'', after @ ..] if in_quotes || value.is_empty() || value.last() == Some(&b'=') => {
                in_quotes = !in_quotes;
                rest = after;
            }
            [b',', ..] if !in_quotes => break,
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] if in_quotes => return Err(Reason::Quote),
            [] => break,
        }
    }
    if rest.is_empty() || value.last().is_some_and(u8::is_ascii_whitespace) {
        let kept = value.trim_ascii_end().len();
        value.truncate(kept);
    }
    Ok((value, rest))
}

/// The collection of `name.key`, and its key.
fn list_of(text: &[u8]) -> Result<(List, &[u8]), Reason> {
    let at = text.iter().position(|byte| matches!(byte, b'.' | b':')).unwrap_or(text.len());
    let (name, key) = text.split_at_checked(at).unwrap_or_default();
    let list = match name.to_ascii_lowercase().as_slice() {
        b"tx" => List::Tx,
        b"global" => List::Global,
        b"ip" => List::Address,
        b"session" => List::Session,
        b"user" => List::User,
        b"resource" => List::Resource,
        _ => return Err(Reason::Variable(String::from_utf8_lossy(text).into_owned())),
    };
    Ok((list, key.get(1..).unwrap_or_default()))
}

/// `tx.name=value`, `=+1`, `=-1`, `!tx.name`, or `tx.name` alone, which is 1.
fn set_variable(text: &[u8]) -> Result<Effect, Reason> {
    if let Some(text) = text.strip_prefix(b"!") {
        let (list, name) = list_of(text)?;
        return Ok(Effect::Variable { list, name: Template::parse(name)?, change: Change::Remove });
    }
    let (left, right) = match text.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            (text.get(..at).unwrap_or_default(), text.get(at.saturating_add(1)..).unwrap_or_default())
        }
        None => (text, &b"1"[..]),
    };
    let (list, name) = list_of(left)?;
    let change = match right {
        [b'+', amount @ ..] => Change::Add(Template::parse(amount)?),
        [b'-', amount @ ..] => Change::Subtract(Template::parse(amount)?),
        value => Change::Set(Template::parse(value)?),
    };
    Ok(Effect::Variable { list, name: Template::parse(name)?, change })
}

/// `initcol:ip=%{REMOTE_ADDR}`: the collection gets its key.
fn begin_collection(text: &[u8]) -> Result<Effect, Reason> {
    let (name, key) = match text.iter().position(|byte| *byte == b'=') {
        Some(at) => {
            (text.get(..at).unwrap_or_default(), text.get(at.saturating_add(1)..).unwrap_or_default())
        }
        None => (text, &[][..]),
    };
    let (list, _) = list_of(name)?;
    Ok(Effect::Variable { list, name: Template::parse(b"key")?, change: Change::Set(Template::parse(key)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_read_with_quotes_and_commas() {
        let actions = Actions::parse(
            b"id:7, phase:request,deny,status:403,t:none,t:lowercase,msg:'a, b \\'c\\'',severity:CRITICAL,tag:x,tag:'y z',setvar:'tx.score=+%{tx.five}',ctl:ruleRemoveById=1-3,skipAfter:END,nolog",
        )
        .unwrap();
        assert_eq!((actions.id, actions.phase, actions.status), (Some(7), Some(2), Some(403)));
        assert_eq!(actions.disruptive, Some(Disruptive::Deny));
        assert_eq!(actions.msg.unwrap().plain(), Some(&b"a, b 'c'"[..]));
        assert_eq!(actions.tags, ["x".into(), "y z".into()]);
        assert_eq!(actions.transforms, [Transform::Lowercase]);
        assert_eq!(actions.severity, Some(Severity::Critical));
        assert_eq!(actions.skip_after.as_deref(), Some(&b"END"[..]));
        assert_eq!(actions.log, Some(false));
        assert_eq!(actions.effects.len(), 2);
    }

    #[test]
    fn what_would_run_programs_is_refused() {
        for action in ["exec:/bin/x", "proxy:http://x", "unheard"] {
            assert!(matches!(Actions::parse(action.as_bytes()), Err(Reason::Action(_))), "{action}");
        }
        assert!(matches!(Actions::parse(b"msg:'open"), Err(Reason::Quote)));
        assert!(matches!(Actions::parse(b"phase:9"), Err(Reason::Value { what: "phase", .. })));
    }
}
