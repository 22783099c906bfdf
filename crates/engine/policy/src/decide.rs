//! Verdicts as pure functions of policy and facts, with the reason: what the kernel's tables must equal.

pub use crate::condition::{Arguments, Call, Caller};
use nv_model::application::ApplicationId;
use nv_model::group::Origin;
use nv_model::mode::{Baseline, Mode};
use nv_model::name::GroupName;
use nv_model::policy::{Identity, IdentityId, IdentityKind, NodePolicy, NodeSettings, ResolvedRule};
use nv_model::port::Protocol;
use nv_model::profile::{EffectiveProfile, ProcessRule};
use nv_model::rule::RuleId;
use nv_model::verdict::{Action, Verdict};

use crate::condition;

/// A connection to be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who opens it.
    pub client: IdentityId,
    /// Who accepts it.
    pub server: IdentityId,
    /// IP protocol.
    pub protocol: Protocol,
    /// Destination port; 0 for protocols without.
    pub port: u16,
    /// The application, once it is known.
    pub application: Option<ApplicationId>,
    /// One of the ends is cut off from the network.
    pub quarantined: bool,
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Network policy is switched off.
    Disabled,
    /// An end is quarantined.
    Quarantined,
    /// ICMP passes always.
    Icmp,
    /// No end has a mode: this is not ours to judge.
    Unmanaged,
    /// A written rule says so.
    Rule,
    /// A learned rule says so.
    LearnedRule,
    /// No rule says anything, so the mode does.
    NoRule,
    /// The traffic crosses the boundary of a namespace.
    Boundary,
}

impl Reason {
    /// The reason as a sentence without its end, for whoever asks why.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "network policy is switched off",
            Self::Quarantined => "an end is in quarantine",
            Self::Icmp => "ICMP always passes",
            Self::Unmanaged => "neither end is managed",
            Self::Rule => "a rule says so",
            Self::LearnedRule => "a learned rule says so",
            Self::NoRule => "no rule speaks of it, so the mode decides",
            Self::Boundary => "it crosses the boundary of a namespace and no written rule allows it",
        }
    }
}

/// A verdict on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is done.
    pub verdict: Verdict,
    /// The rule that says so; [`RuleId::DEFAULT`] for none.
    pub rule: RuleId,
    /// Why.
    pub reason: Reason,
    /// The mode that holds between both ends.
    pub mode: Option<Mode>,
    /// It would be denied, but an end is a host, which is never cut off.
    pub spared: bool,
    /// The rule names applications and the flow's is not known yet: ask again when it is.
    pub awaits_application: bool,
}

/// Judges a connection.
#[must_use]
pub fn connection(policy: &NodePolicy, flow: Flow) -> Decision {
    let ends = [policy.identities.get(&flow.client), policy.identities.get(&flow.server)];
    let mode = match above_rules(&policy.settings, ends, flow.protocol, flow.quarantined) {
        Ok(mode) => mode,
        Err(decision) => return decision,
    };
    let matched = policy.rules.iter().find(|rule| matches(rule, flow));
    Decision {
        awaits_application: matched.is_some_and(|rule| !rule.applications.is_empty())
            && flow.application.is_none(),
        ..by_rules(matched, ends, mode)
    }
}

/// What stands above rules, or the mode in which they are asked.
pub(crate) fn above_rules(
    settings: &NodeSettings,
    ends: [Option<&Identity>; 2],
    protocol: Protocol,
    quarantined: bool,
) -> Result<Mode, Decision> {
    let plain = |verdict, reason| Decision {
        verdict,
        rule: RuleId::DEFAULT,
        reason,
        mode: None,
        spared: false,
        awaits_application: false,
    };
    if quarantined {
        return Err(plain(Verdict::Deny, Reason::Quarantined));
    }
    if settings.network_policy_disabled {
        return Err(plain(Verdict::Open, Reason::Disabled));
    }
    if protocol == Protocol::Icmp {
        return Err(plain(Verdict::Open, Reason::Icmp));
    }
    effective_mode(ends, settings.strict_group_mode).ok_or(plain(Verdict::Open, Reason::Unmanaged))
}

/// What the first rule that speaks of a connection says, or the mode where none does.
pub(crate) fn by_rules(matched: Option<&ResolvedRule>, ends: [Option<&Identity>; 2], mode: Mode) -> Decision {
    let spares = ends.into_iter().flatten().any(|end| end.kind == IdentityKind::Node);
    let (verdict, reason) = match matched {
        Some(rule) => (by_rule(rule.action, rule.learned, mode), reason_of(rule)),
        None => (by_mode(mode), Reason::NoRule),
    };
    let spared = spares && verdict == Verdict::Deny;
    Decision {
        verdict: if spared { Verdict::Violate } else { verdict },
        rule: matched.map_or(RuleId::DEFAULT, |rule| rule.id),
        reason,
        mode: Some(mode),
        spared,
        awaits_application: false,
    }
}

/// The mode between two ends: the less strict one, or with `strict` the stricter; an end without one leaves the
/// other's; `None` when neither has one.
#[must_use]
pub fn effective_mode(ends: [Option<&Identity>; 2], strict: bool) -> Option<Mode> {
    ends.into_iter().flatten().filter_map(|end| end.mode).reduce(|one, other| one.between(other, strict))
}

fn reason_of(rule: &ResolvedRule) -> Reason {
    if crate::compile::is_boundary(rule.id) {
        Reason::Boundary
    } else if rule.learned {
        Reason::LearnedRule
    } else {
        Reason::Rule
    }
}

/// What a matching rule leads to.
#[must_use]
pub const fn by_rule(action: Action, learned: bool, mode: Mode) -> Verdict {
    match (action, learned, mode) {
        (Action::Allow, true, Mode::Discover) => Verdict::Learn,
        (Action::Allow, ..) => Verdict::Allow,
        (Action::Deny, _, Mode::Protect) => Verdict::Deny,
        (Action::Deny, _, Mode::Discover | Mode::Monitor) => Verdict::Violate,
    }
}

/// What happens where no rule says anything.
#[must_use]
pub const fn by_mode(mode: Mode) -> Verdict {
    match mode {
        Mode::Discover => Verdict::Learn,
        Mode::Monitor => Verdict::Violate,
        Mode::Protect => Verdict::Deny,
    }
}

/// Whether a rule speaks of the flow. As long as the application is not known, an allowance of some applications
/// holds, so that the connection lives to show which one it is; a denial of some does not.
#[must_use]
pub fn matches(rule: &ResolvedRule, flow: Flow) -> bool {
    let application = match flow.application {
        _ if rule.applications.is_empty() => true,
        Some(known) => rule.applications.contains(&known),
        None => rule.action == Action::Allow,
    };
    application
        && rule.ports.contains(flow.protocol, flow.port)
        && rule.from.binary_search(&flow.client).is_ok()
        && rule.to.binary_search(&flow.server).is_ok()
}

/// What is known of a program besides its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramFacts<'a> {
    /// The file is not from the image: new, changed or in memory only.
    pub drifted: bool,
    /// Its path may be of the workload's own making: on a mount of its own, or in the host's file system.
    pub foreign: bool,
    /// It is a script: its interpreter is judged on its own.
    pub script: bool,
    /// Its process, or one that it descends from, came into the container by another way than the container's runtime.
    pub stranger: bool,
    /// What conditions ask for.
    pub call: Call<'a>,
}

/// Whether a path is a dynamic loader's by its file name (`ld-linux-x86-64.so.2`, `ld-musl-x86_64.so.1`, `ld.so`), as far as
/// the kernel's programs look at it. Under another name it is another file, which is not from the image.
#[must_use]
pub fn is_loader(path: &str) -> bool {
    const LOOKED_AT: usize = 34;
    let name = path.rsplit('/').next().unwrap_or(path).as_bytes();
    name.starts_with(b"ld")
        && name.iter().take(LOOKED_AT).copied().collect::<Vec<u8>>().windows(3).any(|part| part == b".so")
}

/// Why a program is judged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessReason {
    /// A line of the profile says so.
    Rule,
    /// A line allows it, but the file changed and the line does not excuse that.
    DriftedDespiteRule,
    /// The file is not from the image.
    Drifted,
    /// The file is from the image.
    FromImage,
    /// The file is from the image, but is a dynamic loader, which runs whatever program it is given.
    Loader,
    /// Its process descends neither from the container's first one nor from one that the runtime sent in, and no line
    /// that somebody wrote allows it.
    NotFamily,
    /// A script needs no line of its own.
    Interpreted,
    /// No line speaks of it.
    NotInProfile,
}

impl ProcessReason {
    /// The reason as a sentence without its end, for whoever asks why.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "a line of the profile says so",
            Self::DriftedDespiteRule => {
                "a line allows it, but the file is not the image's and the line does not excuse that"
            }
            Self::Drifted => "the file is not from the image",
            Self::FromImage => "the file is from the image",
            Self::Loader => {
                "a dynamic loader runs any program that it is given, so it needs a line of its own"
            }
            Self::NotFamily => {
                "its process was not started by the container's runtime, nor was one that it descends from"
            }
            Self::Interpreted => "no line denies the script; its interpreter is judged on its own",
            Self::NotInProfile => "no line of the profile speaks of it",
        }
    }
}

/// A verdict on a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessDecision {
    /// What is done.
    pub verdict: Verdict,
    /// Why.
    pub reason: ProcessReason,
    /// The line that matched: its place in the profile, the group it comes from and its uuid.
    pub rule: Option<(usize, GroupName, String)>,
}

/// Judges a program; `path` is absolute in the workload.
#[must_use]
pub fn process(profile: &EffectiveProfile, path: &str, facts: ProgramFacts<'_>) -> ProcessDecision {
    let speaks = |rule: &ProcessRule| rule.matches(path) && condition::lets_speak(rule, facts.call);
    let matched = profile.rules.iter().enumerate().find(|(_, (_, rule))| speaks(rule));
    let zero_drift = profile.baseline == Baseline::ZeroDrift;
    let written = matched.is_some_and(|(_, (_, rule))| rule.origin != Origin::Learned);
    let stranger = zero_drift && facts.stranger && !written;
    // What a rule for the path means only when it says so.
    let excepted = if zero_drift { facts.drifted } else { facts.foreign };
    // Whether it is allowed, and if not, whether someone said so.
    let (allowed, explicit, reason) = match matched {
        Some((_, (_, rule))) if rule.action == Action::Deny => (false, true, ProcessReason::Rule),
        _ if !zero_drift && facts.script => {
            return ProcessDecision {
                verdict: Verdict::Open,
                reason: ProcessReason::Interpreted,
                rule: None,
            };
        }
        // Also in Discover, where it is not learned.
        _ if stranger => (false, true, ProcessReason::NotFamily),
        Some((_, (_, rule))) if excepted && !rule.allow_update => {
            (false, false, ProcessReason::DriftedDespiteRule)
        }
        Some(_) => (true, true, ProcessReason::Rule),
        None if zero_drift && facts.drifted => (false, false, ProcessReason::Drifted),
        None if zero_drift && is_loader(path) => (false, false, ProcessReason::Loader),
        None if zero_drift => (true, false, ProcessReason::FromImage),
        None => (false, false, ProcessReason::NotInProfile),
    };
    let verdict = match (allowed, explicit, profile.mode) {
        (true, ..) => Verdict::Allow,
        (false, false, Mode::Discover) => Verdict::Learn,
        (false, true, Mode::Discover) | (false, _, Mode::Monitor) => Verdict::Violate,
        (false, _, Mode::Protect) => Verdict::Deny,
    };
    let rule = matched.filter(|_| reason != ProcessReason::NotFamily);
    let rule = rule.map(|(at, (group, rule))| (at, group.clone(), rule.uuid.clone()));
    ProcessDecision { verdict, reason, rule }
}

#[cfg(test)]
mod tests;
