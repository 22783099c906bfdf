//! Network rules from a file, for `enforcer inspect --policy`: YAML of the shape of the REST API's rules.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nv_model::application::ApplicationId;
use nv_model::port::Ports;
use serde::Deserialize;

/// Largest file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Places that one group or end may name.
const MAX_PLACES: usize = 4096;

/// Rules in their order, and what holds where none speaks.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: Action,
    /// Proxies in front of a server whose word about the client is taken.
    pub(crate) trusted_hops: usize,
}

/// One rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    pub(crate) from: Vec<Place>,
    pub(crate) to: Vec<Place>,
    pub(crate) ports: Ports,
    /// Empty for any.
    pub(crate) applications: Vec<ApplicationId>,
    pub(crate) action: Action,
}

/// An end of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Any,
    /// Addresses from the first to the last, of one family.
    Range(IpAddr, IpAddr),
    /// A host's name in lower case; behind `*.`, all below it.
    Name(String),
}

/// What a rule says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Allow,
    #[default]
    Deny,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    groups: Vec<GroupShape>,
    rules: Vec<RuleShape>,
    #[serde(default)]
    default: Action,
    #[serde(default)]
    trusted_hops: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupShape {
    name: String,
    criteria: Vec<CriterionShape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CriterionShape {
    key: CriterionKey,
    value: String,
    #[serde(default, rename = "op")]
    _op: Option<EqualsShape>,
}

#[derive(Deserialize)]
enum EqualsShape {
    #[serde(rename = "=")]
    Equals,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum CriterionKey {
    Address,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleShape {
    id: u32,
    #[serde(default = "any")]
    from: String,
    #[serde(default = "any")]
    to: String,
    #[serde(default = "any")]
    ports: String,
    #[serde(default)]
    applications: Vec<String>,
    action: Action,
    #[serde(default)]
    disable: bool,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

fn any() -> String {
    "any".to_owned()
}

/// Reads the rules of a file.
///
/// # Errors
/// What is wrong, at which line or in which rule, and what to do.
pub(crate) fn read(path: &Path) -> Result<Policy> {
    let text = super::files::text(path, MAX_FILE_BYTES)?;
    parse(&text).with_context(|| format!("policy of {}", path.display()))
}

pub(crate) fn parse(text: &str) -> Result<Policy> {
    let file: File = serde_saphyr::from_str(text)?;
    let mut groups: Vec<(&str, Vec<Place>)> = Vec::new();
    for group in &file.groups {
        let criteria = group.criteria.iter().map(|criterion| match criterion.key {
            CriterionKey::Address => place(&criterion.value),
        });
        let places: Vec<Place> =
            criteria.collect::<Result<_>>().with_context(|| format!("group {:?}", group.name))?;
        if places.is_empty() || places.len() > MAX_PLACES {
            bail!("group {:?} has {} criteria; 1 to {MAX_PLACES} may be", group.name, places.len());
        }
        if groups.iter().any(|(name, _)| *name == group.name) {
            bail!("group {:?} is there twice; give one another name", group.name);
        }
        groups.push((&group.name, places));
    }
    let mut rules: Vec<Rule> = Vec::new();
    for shape in file.rules.iter().filter(|shape| !shape.disable) {
        if rules.iter().any(|rule| rule.id == shape.id) {
            bail!("rule {} is there twice; give one another id", shape.id);
        }
        rules.push(rule(shape, &groups).with_context(|| format!("rule {}", shape.id))?);
    }
    Ok(Policy { rules, default: file.default, trusted_hops: file.trusted_hops })
}

fn rule(shape: &RuleShape, groups: &[(&str, Vec<Place>)]) -> Result<Rule> {
    let end = |name: &str| -> Result<Vec<Place>> {
        match groups.iter().find(|(group, _)| *group == name) {
            Some((_, places)) => Ok(places.clone()),
            None => Ok(vec![place(name)?]),
        }
    };
    let mut applications = Vec::new();
    for name in &shape.applications {
        match ApplicationId::parse(name) {
            Some(ApplicationId::ANY) => {
                applications.clear();
                break;
            }
            Some(application) => applications.push(application),
            None => bail!("application {name:?} is not known; see /v1/list/application for the names"),
        }
    }
    Ok(Rule {
        id: shape.id,
        from: end(&shape.from).context("from")?,
        to: end(&shape.to).context("to")?,
        ports: shape.ports.parse().context("ports")?,
        applications,
        action: shape.action,
    })
}

/// `any`, an address, a prefix, a range, or a name.
fn place(raw: &str) -> Result<Place> {
    let raw = raw.trim();
    if raw.eq_ignore_ascii_case("any") {
        return Ok(Place::Any);
    }
    if let Ok(address) = raw.parse::<IpAddr>() {
        return Ok(Place::Range(address, address));
    }
    if let Some((address, length)) = raw.split_once('/')
        && let (Ok(address), Ok(length)) = (address.parse::<IpAddr>(), length.parse::<u32>())
    {
        return prefix(address, length)
            .with_context(|| format!("{raw:?} has a prefix that is longer than an address"));
    }
    if let Some((low, high)) = raw.split_once('-')
        && let (Ok(low), Ok(high)) = (low.parse::<IpAddr>(), high.parse::<IpAddr>())
    {
        if low > high || low.is_ipv4() != high.is_ipv4() {
            bail!("range {raw:?} runs backwards or mixes families");
        }
        return Ok(Place::Range(low, high));
    }
    let host = raw.strip_prefix("*.").unwrap_or(raw);
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if !host.contains('.') || host.len() > 253 || !host.split('.').all(label) {
        bail!(
            "{raw:?} is no group of this file, address, prefix, range of addresses or name of a host; write one of these, or any"
        );
    }
    Ok(Place::Name(raw.to_ascii_lowercase()))
}

fn prefix(address: IpAddr, length: u32) -> Option<Place> {
    Some(match address {
        IpAddr::V4(address) => {
            let free = u32::MAX.checked_shr(length).unwrap_or(0);
            let low = address.to_bits() & !free;
            (length <= 32).then(|| Place::Range(IpAddr::V4(low.into()), IpAddr::V4((low | free).into())))?
        }
        IpAddr::V6(address) => {
            let free = u128::MAX.checked_shr(length).unwrap_or(0);
            let low = address.to_bits() & !free;
            (length <= 128).then(|| Place::Range(IpAddr::V6(low.into()), IpAddr::V6((low | free).into())))?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_groups_addresses_ranges_and_names() {
        let range = |low: &str, high: &str| Place::Range(low.parse().unwrap(), high.parse().unwrap());
        for (raw, want) in [
            ("any", Place::Any),
            ("10.1.2.3", range("10.1.2.3", "10.1.2.3")),
            ("10.1.2.3/16", range("10.1.0.0", "10.1.255.255")),
            ("0.0.0.0/0", range("0.0.0.0", "255.255.255.255")),
            ("fd00::1/64", range("fd00::", "fd00::ffff:ffff:ffff:ffff")),
            ("10.0.0.1-10.0.0.9", range("10.0.0.1", "10.0.0.9")),
            ("*.Example.com", Place::Name("*.example.com".to_owned())),
        ] {
            assert_eq!(place(raw).unwrap(), want, "{raw}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_to_do() {
        for (text, wants) in [
            (
                "rules:\n  - {id: 1, to: nobody, action: allow}",
                &["rule 1", "to", "nobody", "write one of these"][..],
            ),
            ("rules:\n  - {id: 1, ports: tcp/x, action: allow}", &["rule 1", "ports", "tcp/x"]),
            ("rules:\n  - {id: 1, action: maybe}", &["maybe", "2"]),
            (
                "rules:\n  - {id: 1, applications: [Gopher], action: allow}",
                &["Gopher", "/v1/list/application"],
            ),
            ("rules:\n  - {id: 1, action: deny}\n  - {id: 1, action: deny}", &["twice"]),
            ("rules:\n  - {id: 1, to: 10.0.0.0/40, action: deny}", &["prefix"]),
            ("rulez: []", &["rulez"]),
        ] {
            let error = format!("{:#}", parse(text).map(|policy| policy.rules.len()).unwrap_err());
            assert!(wants.iter().all(|want| error.contains(want)), "{text}: {error}");
        }
    }
}
