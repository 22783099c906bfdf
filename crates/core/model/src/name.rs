//! Names and ids. A value of one of these types is always valid: parse at the edge, trust inside.

/// Why a string is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Too short or too long; lengths are in bytes.
    #[error("{what} is {bytes} bytes long, expected 1 to {max}")]
    Length {
        /// Which kind of name.
        what: &'static str,
        /// How long the given text is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// A character that this kind of name does not take.
    #[error("{what} has {found:?} at byte {at}")]
    Character {
        /// Which kind of name.
        what: &'static str,
        /// Byte offset of the character.
        at: usize,
        /// The character.
        found: char,
    },
}

/// Defines a type of names: a text of 1 to so many bytes, each of whose characters is accepted by its place and itself.
#[macro_export]
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal, $accept:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Box<str>);

        impl $type {
            /// Longest accepted text, in bytes.
            pub const MAX_BYTES: usize = $max;
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $type {
            type Err = $crate::name::NameError;
            fn from_str(raw: &str) -> Result<Self, $crate::name::NameError> {
                if raw.is_empty() || raw.len() > Self::MAX_BYTES {
                    return Err($crate::name::NameError::Length { what: $what, bytes: raw.len(), max: Self::MAX_BYTES });
                }
                let accept: fn(usize, char) -> bool = $accept;
                match raw.char_indices().find(|&(at, c)| !accept(at, c)) {
                    Some((at, found)) => Err($crate::name::NameError::Character { what: $what, at, found }),
                    None => Ok(Self(raw.into())),
                }
            }
        }
        impl TryFrom<String> for $type {
            type Error = $crate::name::NameError;
            fn try_from(raw: String) -> Result<Self, $crate::name::NameError> {
                raw.parse()
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.into()
            }
        }
        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn printable(_at: usize, c: char) -> bool {
    !c.is_control()
}

name!(
    /// A container's id as its runtime gives it (64 hex digits for containerd and Docker, a free name for `ctr`),
    /// or `host:<node id>` for the processes of a node that are in no container.
    WorkloadId, "workload id", 256, printable
);
name!(
    /// A node's id: `<machine id>` or `<host name>:<machine id>`; stable over restarts of the enforcer.
    NodeId, "node id", 256, printable
);
name!(
    /// The id of one running controller.
    ControllerId, "controller id", 128, printable
);
name!(
    /// The id of one scanner: made once, kept in its state directory.
    ScannerId, "scanner id", 128, printable
);
name!(
    /// The id of one enforcer installation; it is the node's, as there is one enforcer a node.
    EnforcerId, "enforcer id", 256, printable
);
name!(
    /// A service: what a workload is an instance of, for instance a Deployment's name.
    ServiceName, "service name", 256, printable
);
name!(
    /// A namespace (the contract's word is domain). Empty text stands for "none", so it is `Option<Domain>`.
    Domain, "domain", 256, printable
);
name!(
    /// A group of workloads: `[A-Za-z0-9._:/%@-]`, 1 to 256 bytes.
    GroupName, "group name", 256, |_, c| c.is_ascii_alphanumeric() || "._:/-%@".contains(c)
);

name!(
    /// A sensor, or one of its rules: `[A-Za-z0-9._:-]`, 1 to 256 bytes.
    SensorName, "sensor name", 256, |_, c| c.is_ascii_alphanumeric() || "._:-".contains(c)
);

impl GroupName {
    /// The learned group of a service: `nv.<service>.<domain>`, or `nv.<service>` outside of any namespace.
    /// Characters that a group name does not take become `_`.
    #[must_use]
    pub fn learned(service: &ServiceName, domain: Option<&Domain>) -> Self {
        let mut raw = String::with_capacity(64);
        raw.push_str("nv.");
        raw.push_str(service.as_str());
        if let Some(domain) = domain {
            raw.push('.');
            raw.push_str(domain.as_str());
        }
        let mut clean: String = raw
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._:/-%@".contains(c) { c } else { '_' })
            .collect();
        clean.truncate(Self::MAX_BYTES);
        Self(clean.into())
    }

    /// The reserved group of everything outside of the cluster.
    #[must_use]
    pub fn external() -> Self {
        Self("external".into())
    }
    /// The reserved group of all managed hosts.
    #[must_use]
    pub fn nodes() -> Self {
        Self("nodes".into())
    }
    /// The reserved group of all managed containers.
    #[must_use]
    pub fn containers() -> Self {
        Self("containers".into())
    }
    /// What a node calls the workloads that no policy knows yet. No stored group is named like it.
    #[must_use]
    pub fn new_services() -> Self {
        Self("@new-services".into())
    }
    /// What a node calls containers until it knows which ones they are. No stored group is named like it.
    #[must_use]
    pub fn unidentified() -> Self {
        Self("@unidentified".into())
    }
    /// `external`, `nodes`, `containers` and their `fed.` twins: they exist always and cannot be edited.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        matches!(
            self.as_str(),
            "external" | "nodes" | "containers" | "fed.external" | "fed.nodes" | "fed.containers"
        )
    }
    /// Whether this is a learned group (`nv.…` but no `nv.ip.…`).
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.as_str().starts_with("nv.") && !self.as_str().starts_with("nv.ip.")
    }
    /// Whether the group has modes of its own: the learned ones and `nodes`.
    #[must_use]
    pub fn has_mode(&self) -> bool {
        self.is_learned() || self.as_str() == "nodes"
    }
}

impl From<&WorkloadId> for ServiceName {
    /// A workload that is known by nothing else is a service of its own; both take the same text.
    fn from(id: &WorkloadId) -> Self {
        Self(id.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_learned_group_is_named_after_service_and_domain() {
        let service: ServiceName = "web".parse().unwrap();
        let domain: Domain = "shop".parse().unwrap();
        assert_eq!(GroupName::learned(&service, Some(&domain)).as_str(), "nv.web.shop");
        assert_eq!(GroupName::learned(&service, None).as_str(), "nv.web");
        let odd: ServiceName = "we b*".parse().unwrap();
        assert_eq!(GroupName::learned(&odd, None).as_str(), "nv.we_b_");
    }

    #[test]
    fn every_workload_id_is_a_service_name() {
        let id: WorkloadId = "c".repeat(WorkloadId::MAX_BYTES).parse().unwrap();
        assert_eq!(ServiceName::from(&id).as_str().parse::<ServiceName>(), Ok(ServiceName::from(&id)));
    }

    #[test]
    fn a_bad_name_says_what_is_wrong_and_where() {
        assert_eq!(
            "a b".parse::<GroupName>(),
            Err(NameError::Character { what: "group name", at: 1, found: ' ' })
        );
        assert_eq!(
            "".parse::<GroupName>(),
            Err(NameError::Length { what: "group name", bytes: 0, max: 256 })
        );
    }
}
