//! Whether the conditions of a process rule hold, where not all may be known that they ask for.

use nv_model::condition::{ArgumentPattern, Conditions};
use nv_model::profile::ProcessRule;
use nv_model::verdict::Action;

/// Who runs a program, how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call<'a> {
    /// Real user id in the host's numbering.
    pub uid: Option<u32>,
    /// What the process ran before.
    pub caller: Caller<'a>,
    /// The arguments.
    pub arguments: Arguments<'a>,
}

/// The executable that runs a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller<'a> {
    /// It is not known.
    #[default]
    Unknown,
    /// The container's runtime, or whoever else came in from outside: no path in the container is its.
    Outside,
    /// By its absolute path in the workload.
    Program(&'a str),
}

/// The arguments of a program without its name, each preceded and followed by a space (` -m http.server `).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// They could not be read.
    #[default]
    Unknown,
    /// How they begin; they are longer than [`ArgumentPattern::HEAD_BYTES`].
    Head(&'a str),
    /// All of them.
    Whole(&'a str),
}

/// Whether a rule speaks, as far as its conditions go. What is not known fails in the safe direction: a denial holds, an
/// allowance does not.
#[must_use]
pub fn lets_speak(rule: &ProcessRule, call: Call<'_>) -> bool {
    hold(&rule.conditions, call).unwrap_or(rule.action == Action::Deny)
}

/// Whether all conditions hold; `None` where that is not known.
fn hold(conditions: &Conditions, call: Call<'_>) -> Option<bool> {
    let uid = conditions.uid.map_or(Some(true), |wanted| call.uid.map(|uid| uid == wanted));
    let parent = conditions.parent.as_ref().map_or(Some(true), |wanted| match call.caller {
        Caller::Unknown => None,
        Caller::Outside => Some(false),
        Caller::Program(path) => Some(wanted.matches(path)),
    });
    let arguments = conditions.arguments.as_ref().map_or(Some(true), |wanted| match call.arguments {
        Arguments::Unknown => None,
        Arguments::Whole(text) => Some(wanted.matches(text)),
        Arguments::Head(text) => match wanted {
            // More follows than a pattern is long.
            ArgumentPattern::Exact(_) => Some(false),
            ArgumentPattern::Prefix(_) => Some(wanted.matches(text)),
            ArgumentPattern::Contains(_) if wanted.matches(text) => Some(true),
            ArgumentPattern::Contains(_) | ArgumentPattern::Suffix(_) => None,
        },
    });
    let all = [uid, parent, arguments];
    if all.contains(&Some(false)) {
        return Some(false);
    }
    if all.contains(&None) { None } else { Some(true) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::process;

    fn rule(action: Action, arguments: &str, parent: &str, uid: Option<u32>) -> ProcessRule {
        let conditions = Conditions {
            arguments: (!arguments.is_empty()).then(|| arguments.parse().unwrap()),
            parent: (!parent.is_empty()).then(|| parent.parse().unwrap()),
            uid,
        };
        ProcessRule { conditions, ..process("", "sh", "/bin/sh", action) }
    }

    #[test]
    fn a_rule_speaks_when_all_of_its_conditions_hold() {
        let call = Call {
            uid: Some(33),
            caller: Caller::Program("/usr/sbin/nginx"),
            arguments: Arguments::Whole(" -c id "),
        };
        for (arguments, parent, uid, want) in [
            ("", "", None, true),
            ("-c *", "/usr/sbin/nginx", Some(33), true),
            ("-c *", "/usr/sbin/*", None, true),
            ("-c", "/usr/sbin/nginx", Some(33), false),
            ("-c *", "/bin/nginx", Some(33), false),
            ("-c *", "/usr/sbin/nginx", Some(0), false),
        ] {
            for action in [Action::Allow, Action::Deny] {
                let got = lets_speak(&rule(action, arguments, parent, uid), call);
                assert_eq!(got, want, "{action:?} {arguments} {parent} {uid:?}");
            }
        }
        let entered = Call { caller: Caller::Outside, ..call };
        assert!(!lets_speak(&rule(Action::Deny, "", "/usr/sbin/nginx", None), entered));
    }

    #[test]
    fn what_is_not_known_lets_a_denial_hold_and_an_allowance_not() {
        let nothing = Call::default();
        for (arguments, parent, uid) in [("x", "", None), ("", "/bin/x", None), ("", "", Some(0))] {
            assert!(lets_speak(&rule(Action::Deny, arguments, parent, uid), nothing));
            assert!(!lets_speak(&rule(Action::Allow, arguments, parent, uid), nothing));
        }
        // One that is known not to hold is enough.
        let other = Call { uid: Some(1), ..nothing };
        assert!(!lets_speak(&rule(Action::Deny, "x", "", Some(0)), other));
    }

    #[test]
    fn of_long_arguments_only_what_the_head_shows_is_known() {
        let head = Call { arguments: Arguments::Head(" -m a b "), ..Call::default() };
        for (pattern, denied, allowed) in [
            ("-m *", true, true),
            ("-x *", false, false),
            ("*m a*", true, true),
            ("*c*", true, false),
            ("*b", true, false),
            ("-m a b", false, false),
        ] {
            assert_eq!(lets_speak(&rule(Action::Deny, pattern, "", None), head), denied, "{pattern}");
            assert_eq!(lets_speak(&rule(Action::Allow, pattern, "", None), head), allowed, "{pattern}");
        }
    }
}
