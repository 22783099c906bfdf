//! What someone may do: the answer to every question about a route or an object.

use std::collections::BTreeMap;

use crate::name::{DomainPattern, RoleName};
use crate::permission::{Category, Operation, Permissions, Rights};
use crate::role::{Assignment, Role, reserved};

/// Where an object belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// To the cluster.
    Cluster,
    /// To these namespaces; none of them is the cluster.
    Domains(&'a [&'a str]),
    /// To two sides, each with its namespaces (a rule's or a connection's ends).
    Sides(&'a [&'a str], &'a [&'a str]),
    /// To the cluster, but whoever may read in any namespace may read it (sensors, address groups).
    Shared,
    /// To the federation: read like [`Scope::Cluster`], written by its administrators alone.
    Federal,
}

/// The rights of one user or API key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    global: Rights,
    domains: Vec<(DomainPattern, Rights)>,
}

impl Access {
    /// What an assignment gives. A role that no longer exists gives nothing.
    #[must_use]
    pub fn of(assignment: &Assignment, roles: &BTreeMap<RoleName, Role>) -> Self {
        let rights = |name: &str| match (reserved(name), roles.get(name)) {
            (Some(built_in), _) => built_in.rights,
            (None, Some(custom)) => custom.rights(),
            (None, None) => Rights::NONE,
        };
        let global = if assignment.role.is_empty() { Rights::NONE } else { rights(&assignment.role) };
        let domains = assignment
            .role_domains
            .iter()
            .flat_map(|(role, domains)| {
                let within = rights(role).within_domain();
                domains.iter().map(move |domain| (domain.clone(), within))
            })
            .filter(|(_, rights)| !rights.is_none())
            .collect();
        Self { global, domains }
    }

    /// What is held in the whole cluster.
    #[must_use]
    pub const fn global(&self) -> Rights {
        self.global
    }
    /// What is held in namespaces.
    #[must_use]
    pub fn domains(&self) -> &[(DomainPattern, Rights)] {
        &self.domains
    }

    /// Whether a route of `category` may be called at all: the permission is held in the cluster or in some namespace.
    #[must_use]
    pub fn may_call(&self, category: Category, operation: Operation) -> bool {
        let required = category.required(operation);
        self.global.hold(required, operation)
            || self.domains.iter().any(|(_, rights)| rights.hold(required, operation))
    }

    /// Whether `required` is held for an object of `scope`.
    #[must_use]
    pub fn allows(&self, required: Permissions, operation: Operation, scope: Scope<'_>) -> bool {
        let write = operation != Operation::Read;
        if let Scope::Federal = scope
            && write
        {
            return self.global.hold(required.union(Permissions::FED), operation);
        }
        if self.global.hold(required, operation) {
            return true;
        }
        match scope {
            Scope::Cluster | Scope::Federal => false,
            Scope::Shared => {
                !write && self.domains.iter().any(|(_, rights)| rights.hold(required, operation))
            }
            Scope::Domains(domains) => self.in_domains(required, operation, domains),
            Scope::Sides(one, other) if write => {
                self.in_domains(required, operation, one) && self.in_domains(required, operation, other)
            }
            Scope::Sides(one, other) => {
                self.in_domains(required, operation, one) || self.in_domains(required, operation, other)
            }
        }
    }

    fn in_domains(&self, required: Permissions, operation: Operation, domains: &[&str]) -> bool {
        let mut held = domains.iter().map(|domain| self.in_domain(required, operation, domain));
        match operation {
            Operation::Read | Operation::Write => held.any(|held| held),
            Operation::Own => !domains.is_empty() && held.all(|held| held),
        }
    }
    fn in_domain(&self, required: Permissions, operation: Operation, domain: &str) -> bool {
        self.domains
            .iter()
            .any(|(pattern, rights)| rights.hold(required, operation) && pattern.matches(domain))
    }

    /// Whether everything of `other` is held too: no one may give away what they do not have.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let over = |mine: Rights, theirs: Rights| {
            mine.read.contains(theirs.read) && mine.write.contains(theirs.write)
        };
        over(self.global, other.global)
            && other.domains.iter().all(|(domain, theirs)| {
                over(self.global, *theirs)
                    || self.domains.iter().any(|(pattern, mine)| {
                        over(*mine, *theirs) && (pattern == domain || pattern.matches(domain.as_str()))
                    })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission::VISIBLE;
    use crate::role::Grant;
    use proptest::prelude::*;

    fn access(role: &str, domains: &[(&str, &str)]) -> Access {
        let mut assignment = Assignment::global(role);
        for (role, domain) in domains {
            assignment.role_domains.entry((*role).to_owned()).or_default().push(domain.parse().unwrap());
        }
        Access::of(&assignment, &BTreeMap::new())
    }

    #[test]
    fn the_reserved_roles_may_call_exactly_what_the_contract_says() {
        use Category as C;
        // Columns: admin, reader, ciops, no role, admin of a namespace, reader of a namespace; r and w where allowed.
        let table: &[(Category, [&str; 6])] = &[
            (C::Anonymous, ["rw", "rw", "rw", "rw", "rw", "rw"]),
            (C::AnyUser, ["rw", "rw", "rw", "rw", "rw", "rw"]),
            (C::RtScan, ["rw", "r", "", "", "rw", "r"]),
            (C::RegScan, ["rw", "r", "", "", "rw", "r"]),
            (C::CiScan, ["w", "", "w", "", "", ""]),
            (C::Infra, ["rw", "r", "", "", "rw", "r"]),
            (C::NvResource, ["rw", "r", "", "", "", ""]),
            (C::Workload, ["rw", "r", "", "", "rw", "r"]),
            (C::Group, ["rw", "r", "", "", "rw", "r"]),
            (C::RtPolicies, ["rw", "r", "", "", "rw", "r"]),
            (C::AdmControl, ["rw", "r", "", "", "", ""]),
            (C::Compliance, ["rw", "r", "", "", "rw", "r"]),
            (C::AuditEvents, ["r", "r", "", "", "r", "r"]),
            (C::SecurityEvents, ["r", "r", "", "", "r", "r"]),
            (C::Events, ["r", "r", "", "", "r", "r"]),
            (C::Authentication, ["rw", "r", "", "", "", ""]),
            (C::Authorization, ["rw", "r", "", "", "rw", "r"]),
            (C::SystemConfig, ["rw", "r", "", "", "r", "r"]),
            (C::PasswordProfile, ["rw", "r", "", "", "r", "r"]),
            (C::Vulnerability, ["rw", "r", "", "", "", ""]),
            (C::Fed, ["r", "r", "", "", "", ""]),
            (C::Debug, ["rw", "r", "", "", "", ""]),
        ];
        assert_eq!(table.len(), Category::ALL.len());
        let who = [
            access("admin", &[]),
            access("reader", &[]),
            access("ciops", &[]),
            access("", &[]),
            access("", &[("admin", "shop")]),
            access("", &[("reader", "shop")]),
        ];
        for (category, row) in table {
            for (column, (held, want)) in who.iter().zip(row).enumerate() {
                for (letter, operation) in [('r', Operation::Read), ('w', Operation::Write)] {
                    assert_eq!(
                        held.may_call(*category, operation),
                        want.contains(letter),
                        "{category:?} {operation:?} column {column}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_object_is_judged_by_its_namespaces() {
        let need = Permissions::RT_POLICY;
        let shop = access("", &[("admin", "shop"), ("reader", "pay*")]);
        let reader = access("reader", &[]);
        let admin = access("admin", &[]);
        use Operation::{Own, Read, Write};
        let one: &[&str] = &["shop"];
        let pay: &[&str] = &["payment"];
        let other: &[&str] = &["other"];
        let two: &[&str] = &["shop", "other"];
        for (scope, operation, want) in [
            // Columns of want: namespace user, global reader, global admin.
            (Scope::Cluster, Read, [false, true, true]),
            (Scope::Cluster, Write, [false, false, true]),
            (Scope::Domains(one), Read, [true, true, true]),
            (Scope::Domains(one), Write, [true, false, true]),
            (Scope::Domains(pay), Read, [true, true, true]),
            (Scope::Domains(pay), Write, [false, false, true]),
            (Scope::Domains(other), Read, [false, true, true]),
            (Scope::Domains(two), Read, [true, true, true]),
            (Scope::Domains(two), Write, [true, false, true]),
            (Scope::Domains(two), Own, [false, false, true]),
            (Scope::Domains(one), Own, [true, false, true]),
            (Scope::Domains(&[]), Read, [false, true, true]),
            (Scope::Domains(&[]), Own, [false, false, true]),
            (Scope::Sides(one, other), Read, [true, true, true]),
            (Scope::Sides(other, one), Read, [true, true, true]),
            (Scope::Sides(other, other), Read, [false, true, true]),
            (Scope::Sides(one, other), Write, [false, false, true]),
            (Scope::Sides(one, one), Write, [true, false, true]),
            (Scope::Sides(one, pay), Write, [false, false, true]),
            (Scope::Shared, Read, [true, true, true]),
            (Scope::Shared, Write, [false, false, true]),
            (Scope::Federal, Read, [false, true, true]),
            (Scope::Federal, Write, [false, false, false]),
        ] {
            let got = [&shop, &reader, &admin].map(|who| who.allows(need, operation, scope));
            assert_eq!(got, want, "{scope:?} {operation:?}");
        }
    }

    #[test]
    fn no_one_gives_away_what_they_do_not_have() {
        assert!(access("admin", &[]).covers(&access("reader", &[("admin", "shop")])));
        assert!(!access("reader", &[]).covers(&access("admin", &[])));
        assert!(!access("reader", &[]).covers(&access("", &[("admin", "shop")])));
        assert!(access("", &[("admin", "shop*")]).covers(&access("", &[("reader", "shop-eu")])));
        assert!(!access("", &[("admin", "shop-eu")]).covers(&access("", &[("reader", "shop*")])));
        assert!(!access("", &[("admin", "shop")]).covers(&access("ciops", &[])));
    }

    #[test]
    fn a_role_that_is_gone_gives_nothing() {
        assert_eq!(access("vanished", &[("vanished", "shop")]), Access::default());
    }

    prop_compose! {
        fn grants()(flags in proptest::collection::vec((any::<bool>(), any::<bool>()), VISIBLE.len())) -> Vec<Grant> {
            VISIBLE.iter().zip(flags).map(|(v, (read, write))| Grant { id: v.id.into(), read: read && v.read, write: write && v.write }).collect()
        }
    }

    proptest! {
        #[test]
        fn a_grant_more_never_takes_anything_away(grants in grants(), extra in 0..VISIBLE.len(), category in 0..Category::ALL.len()) {
            let role = |grants: Vec<Grant>| Role { name: "r".parse().unwrap(), comment: String::new(), grants };
            let access = |role: Role| Access::of(&Assignment::global("r"), &BTreeMap::from([("r".parse().unwrap(), role)]));
            let mut more = grants.clone();
            more[extra].read = true;
            more[extra].write = true;
            let (less, more) = (access(role(grants)), access(role(more)));
            prop_assert!(more.covers(&less));
            for operation in [Operation::Read, Operation::Write] {
                prop_assert!(!less.may_call(Category::ALL[category], operation) || more.may_call(Category::ALL[category], operation));
            }
        }
        #[test]
        fn a_namespace_role_never_reaches_the_cluster(grants in grants(), category in 0..Category::ALL.len()) {
            let role = Role { name: "r".parse().unwrap(), comment: String::new(), grants };
            let assignment = Assignment { role: String::new(), role_domains: BTreeMap::from([("r".to_owned(), vec!["shop".parse().unwrap()])]) };
            let access = Access::of(&assignment, &BTreeMap::from([("r".parse().unwrap(), role)]));
            for operation in [Operation::Read, Operation::Write, Operation::Own] {
                let required = Category::ALL[category].required(operation);
                prop_assert!(required.is_empty() || !access.allows(required, operation, Scope::Cluster));
                prop_assert!(required.is_empty() || !access.allows(required, operation, Scope::Domains(&["other"])));
            }
        }
    }
}
