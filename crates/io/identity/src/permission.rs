//! Permissions, and which of them a route's category asks for: the contract's table as data.

use bitflags::bitflags;

bitflags! {
    /// The smallest units of permission. What clients see are the entries of [`VISIBLE`], some of which hold several.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Permissions: u32 {
        /// Run-time scans.
        const RT_SCAN_BASIC = 1;
        /// Registry scans.
        const REG_SCAN = 1 << 1;
        /// Scans in pipelines.
        const CI_SCAN = 1 << 2;
        /// Clouds.
        const CLOUD = 1 << 3;
        /// Hosts and namespaces.
        const INFRA_BASIC = 1 << 4;
        /// Controllers, enforcers, scanners.
        const NV_RESOURCE = 1 << 5;
        /// Network rules.
        const NW_POLICY_BASIC = 1 << 6;
        /// Process and file profiles.
        const SYS_POLICY_BASIC = 1 << 7;
        /// Groups and services.
        const GROUP_BASIC = 1 << 8;
        /// Workloads.
        const WORKLOAD_BASIC = 1 << 9;
        /// Admission control.
        const ADM_CONTROL = 1 << 10;
        /// Compliance.
        const COMPLIANCE_BASIC = 1 << 11;
        /// Audit log.
        const AUDIT_EVENTS = 1 << 12;
        /// Threats, violations, incidents.
        const SECURITY_EVENTS_BASIC = 1 << 13;
        /// Events and activities.
        const EVENTS = 1 << 14;
        /// Authentication servers.
        const AUTHENTICATION = 1 << 15;
        /// Users, roles, API keys.
        const AUTHORIZATION = 1 << 16;
        /// System configuration.
        const CONFIG = 1 << 17;
        /// Vulnerability profiles.
        const VULNERABILITY = 1 << 18;
        /// The federation.
        const FED = 1 << 19;
        /// A partner's interface.
        const IBMSA = 1 << 20;

        /// Run-time scans with what they name.
        const RT_SCAN = Self::RT_SCAN_BASIC.bits() | Self::WORKLOAD_BASIC.bits() | Self::INFRA_BASIC.bits();
        /// Run-time policy.
        const RT_POLICY = Self::GROUP_BASIC.bits() | Self::NW_POLICY_BASIC.bits()
            | Self::SYS_POLICY_BASIC.bits() | Self::WORKLOAD_BASIC.bits();
        /// Compliance with what it names.
        const COMPLIANCE = Self::COMPLIANCE_BASIC.bits() | Self::WORKLOAD_BASIC.bits() | Self::INFRA_BASIC.bits();
        /// Security events with what they name.
        const SECURITY_EVENTS = Self::SECURITY_EVENTS_BASIC.bits() | Self::WORKLOAD_BASIC.bits();
        /// What a role can be given to read.
        const CONFIGURABLE_READ = Self::CONFIG.bits() | Self::RT_SCAN.bits() | Self::REG_SCAN.bits()
            | Self::RT_POLICY.bits() | Self::ADM_CONTROL.bits() | Self::COMPLIANCE.bits()
            | Self::AUDIT_EVENTS.bits() | Self::SECURITY_EVENTS.bits() | Self::EVENTS.bits()
            | Self::AUTHENTICATION.bits() | Self::AUTHORIZATION.bits() | Self::VULNERABILITY.bits();
        /// Everything of a cluster that can be read.
        const CLUSTER_READ = Self::CONFIGURABLE_READ.bits() | Self::NV_RESOURCE.bits() | Self::CLOUD.bits();
        /// Everything of a cluster that can be written.
        const CLUSTER_WRITE = Self::CONFIG.bits() | Self::RT_SCAN.bits() | Self::REG_SCAN.bits()
            | Self::CI_SCAN.bits() | Self::RT_POLICY.bits() | Self::ADM_CONTROL.bits()
            | Self::COMPLIANCE.bits() | Self::AUTHENTICATION.bits() | Self::AUTHORIZATION.bits()
            | Self::VULNERABILITY.bits() | Self::NV_RESOURCE.bits() | Self::CLOUD.bits() | Self::IBMSA.bits();
        /// What can be read within a namespace.
        const DOMAIN_READ = Self::RT_SCAN.bits() | Self::REG_SCAN.bits() | Self::RT_POLICY.bits()
            | Self::COMPLIANCE.bits() | Self::AUTHORIZATION.bits() | Self::CONFIG.bits()
            | Self::AUDIT_EVENTS.bits() | Self::SECURITY_EVENTS.bits() | Self::EVENTS.bits();
        /// What can be written within a namespace: the same without configuration and logs.
        const DOMAIN_WRITE = Self::RT_SCAN.bits() | Self::REG_SCAN.bits() | Self::RT_POLICY.bits()
            | Self::COMPLIANCE.bits() | Self::AUTHORIZATION.bits();
    }
}

/// What may be read and what may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rights {
    /// May be read.
    pub read: Permissions,
    /// May be written.
    pub write: Permissions,
}

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self { read: Permissions::empty(), write: Permissions::empty() };

    /// Both together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self { read: self.read.union(other.read), write: self.write.union(other.write) }
    }
    /// What of it counts within a namespace.
    #[must_use]
    pub const fn within_domain(self) -> Self {
        Self {
            read: self.read.intersection(Permissions::DOMAIN_READ),
            write: self.write.intersection(Permissions::DOMAIN_WRITE),
        }
    }
    /// Whether all of `required` is held for `operation`.
    #[must_use]
    pub const fn hold(self, required: Permissions, operation: Operation) -> bool {
        match operation {
            Operation::Read => self.read.contains(required),
            Operation::Write | Operation::Own => self.write.contains(required),
        }
    }
    /// Nothing at all.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }
}

/// What is asked of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// To see it.
    Read,
    /// To change it.
    Write,
    /// To create or delete it: of an object of several namespaces, all of them are needed.
    Own,
}

/// A permission that roles are made of, as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible {
    /// The contract's id.
    pub id: &'static str,
    /// What it holds.
    pub permissions: Permissions,
    /// It can be given for reading.
    pub read: bool,
    /// It can be given for writing.
    pub write: bool,
    /// It can be given for reading in a namespace.
    pub domain_read: bool,
    /// It can be given for writing in a namespace.
    pub domain_write: bool,
}

const fn visible(id: &'static str, permissions: Permissions, rights: [bool; 4]) -> Visible {
    let [read, write, domain_read, domain_write] = rights;
    Visible { id, permissions, read, write, domain_read, domain_write }
}

/// Every permission that a role can be given; columns: global read, global write, namespace read, namespace write.
pub const VISIBLE: &[Visible] = &[
    visible("config", Permissions::CONFIG, [true, true, true, false]),
    visible("rt_scan", Permissions::RT_SCAN, [true, true, true, true]),
    visible("reg_scan", Permissions::REG_SCAN, [true, true, true, true]),
    visible("ci_scan", Permissions::CI_SCAN, [false, true, false, false]),
    visible("rt_policy", Permissions::RT_POLICY, [true, true, true, true]),
    visible("admctrl", Permissions::ADM_CONTROL, [true, true, false, false]),
    visible("compliance", Permissions::COMPLIANCE, [true, true, true, true]),
    visible("audit_events", Permissions::AUDIT_EVENTS, [true, false, true, false]),
    visible("security_events", Permissions::SECURITY_EVENTS, [true, false, true, false]),
    visible("events", Permissions::EVENTS, [true, false, true, false]),
    visible("authentication", Permissions::AUTHENTICATION, [true, true, false, false]),
    visible("authorization", Permissions::AUTHORIZATION, [true, true, true, true]),
    visible("vulnerability", Permissions::VULNERABILITY, [true, true, false, false]),
];

/// What a route belongs to; the contract's permission category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// No one need be known.
    Anonymous,
    /// Whoever is logged in, whatever the rights.
    AnyUser,
    /// RT_SCAN.
    RtScan,
    /// REG_SCAN.
    RegScan,
    /// CICD_SCAN.
    CiScan,
    /// INFRA.
    Infra,
    /// NV_RESOURCE.
    NvResource,
    /// WORKLOAD.
    Workload,
    /// GROUP.
    Group,
    /// RT_POLICIES.
    RtPolicies,
    /// ADM_CONTROL.
    AdmControl,
    /// COMPLIANCE.
    Compliance,
    /// AUDIT_EVENTS.
    AuditEvents,
    /// SECURITY_EVENTS.
    SecurityEvents,
    /// EVENTS.
    Events,
    /// AUTHENTICATION.
    Authentication,
    /// AUTHORIZATION.
    Authorization,
    /// SYSTEM_CONFIG.
    SystemConfig,
    /// PWD_PROFILE.
    PasswordProfile,
    /// VULNERABILITY.
    Vulnerability,
    /// FED.
    Fed,
    /// DEBUG: everything of the cluster.
    Debug,
}

impl Category {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Anonymous,
        Self::AnyUser,
        Self::RtScan,
        Self::RegScan,
        Self::CiScan,
        Self::Infra,
        Self::NvResource,
        Self::Workload,
        Self::Group,
        Self::RtPolicies,
        Self::AdmControl,
        Self::Compliance,
        Self::AuditEvents,
        Self::SecurityEvents,
        Self::Events,
        Self::Authentication,
        Self::Authorization,
        Self::SystemConfig,
        Self::PasswordProfile,
        Self::Vulnerability,
        Self::Fed,
        Self::Debug,
    ];

    /// What must be held, all of it.
    #[must_use]
    pub const fn required(self, operation: Operation) -> Permissions {
        match self {
            Self::Anonymous | Self::AnyUser => Permissions::empty(),
            Self::RtScan => Permissions::RT_SCAN,
            Self::RegScan => Permissions::REG_SCAN,
            Self::CiScan => Permissions::CI_SCAN,
            Self::Infra => Permissions::INFRA_BASIC,
            Self::NvResource => Permissions::NV_RESOURCE,
            Self::Workload => Permissions::WORKLOAD_BASIC,
            Self::Group => Permissions::GROUP_BASIC,
            Self::RtPolicies => Permissions::RT_POLICY,
            Self::AdmControl => Permissions::ADM_CONTROL,
            Self::Compliance => Permissions::COMPLIANCE,
            Self::AuditEvents => Permissions::AUDIT_EVENTS,
            Self::SecurityEvents => Permissions::SECURITY_EVENTS,
            Self::Events => Permissions::EVENTS,
            Self::Authentication => Permissions::AUTHENTICATION,
            Self::Authorization => Permissions::AUTHORIZATION,
            Self::SystemConfig => Permissions::CONFIG,
            Self::PasswordProfile => Permissions::AUTHORIZATION.union(Permissions::CONFIG),
            Self::Vulnerability => Permissions::VULNERABILITY,
            Self::Fed => Permissions::FED,
            Self::Debug => match operation {
                Operation::Read => Permissions::CLUSTER_READ,
                Operation::Write | Operation::Own => Permissions::CLUSTER_WRITE,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visible_permissions_are_what_the_reserved_roles_hold() {
        let all = |give: fn(&Visible) -> bool| {
            VISIBLE.iter().filter(|v| give(v)).fold(Permissions::empty(), |sum, v| sum | v.permissions)
        };
        assert_eq!(all(|v| v.read), Permissions::CONFIGURABLE_READ);
        assert!(Permissions::CLUSTER_WRITE.contains(all(|v| v.write)));
        assert_eq!(all(|v| v.domain_read), Permissions::DOMAIN_READ);
        assert_eq!(all(|v| v.domain_write), Permissions::DOMAIN_WRITE);
    }

    #[test]
    fn every_category_but_the_two_open_ones_asks_for_something() {
        for category in Category::ALL {
            for operation in [Operation::Read, Operation::Write, Operation::Own] {
                let open = matches!(category, Category::Anonymous | Category::AnyUser);
                assert_eq!(category.required(operation).is_empty(), open, "{category:?} {operation:?}");
            }
        }
    }
}
