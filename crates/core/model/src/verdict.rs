//! What was decided about a process or a connection.

use serde::{Deserialize, Serialize};

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let it pass.
    Allow,
    /// Do not, as far as the mode says so.
    Deny,
}

impl Action {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
    /// Parses the contract's word.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        match raw {
            "allow" => Some(Self::Allow),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// What was done, from the least to the most severe. The order and the words are the contract's `policy_action`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No policy applies to this traffic.
    #[default]
    Open,
    /// Allowed and to be learned.
    Learn,
    /// Allowed by a rule.
    Allow,
    /// Not allowed, only reported.
    Violate,
    /// Not allowed and stopped.
    Deny,
}

impl Verdict {
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Learn => "learn",
            Self::Allow => "allow",
            Self::Violate => "violate",
            Self::Deny => "deny",
        }
    }
    /// Whether the act went through.
    #[must_use]
    pub const fn passes(self) -> bool {
        !matches!(self, Self::Deny)
    }
    /// Whether it is a violation (reported or stopped).
    #[must_use]
    pub const fn is_violation(self) -> bool {
        matches!(self, Self::Violate | Self::Deny)
    }
}

/// How something was stopped, from the strongest. Which one a node uses is found by loading and firing each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// BPF LSM hook: the call fails with EPERM.
    BpfLsm,
    /// BPF fmod_ret on a `security_` function: the call fails with EPERM.
    FmodRet,
    /// BPF tracepoint with a synchronous SIGKILL: the new program runs no instruction.
    TracepointKill,
    /// fanotify permission event: the call fails with EPERM.
    Fanotify,
    /// SIGKILL from user space after the fact.
    UserspaceKill,
    /// BPF at the host end of the veth drops the packet.
    TrafficControl,
    /// BPF at the host end of the veth leads a packet to an inspector, and no further until it has looked at it.
    Detour,
    /// A packet waits in the pod's network namespace until inspection has looked at it, and is refused.
    Nfqueue,
}

impl Mechanism {
    /// Word for reports and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BpfLsm => "bpf_lsm",
            Self::FmodRet => "fmod_ret",
            Self::TracepointKill => "tracepoint_kill",
            Self::Fanotify => "fanotify",
            Self::UserspaceKill => "userspace_kill",
            Self::TrafficControl => "traffic_control",
            Self::Detour => "detour",
            Self::Nfqueue => "nfqueue",
        }
    }
}
