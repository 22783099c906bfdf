//! The query language: `start`, `limit`, `f_<key>=[op,]value`, `s_<key>=asc|desc`, and switches.
//!
//! Keys are those of the answer's JSON. A value is read off an item by serialising it into [`Probe`], which keeps
//! the wanted keys and builds nothing else; so any answer can be filtered and sorted without a table of its keys.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use nv_model::group::Origin;
use serde::Serialize;

use crate::error::{ApiError, Code};
use crate::probe::{Probe, Scalar};

/// Most filters, and most sort keys, that are looked at.
pub const MAX_KEYS: usize = 8;

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// One of the alternatives parted by `|` is in it.
    In,
    /// None of the alternatives is in it.
    NotIn,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Begins with.
    Prefix,
}

/// One filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Key of the answer's JSON.
    pub key: String,
    /// How.
    pub op: Op,
    /// With what.
    pub value: String,
}

/// Which objects by owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScopeFilter {
    /// All.
    #[default]
    All,
    /// This cluster's own.
    Local,
    /// The federation's.
    Fed,
}

impl ScopeFilter {
    /// Whether an object of this owner is asked for: the federation's, or this cluster's own.
    #[must_use]
    pub fn admits(self, origin: Origin) -> bool {
        match self {
            Self::All => true,
            Self::Local => origin != Origin::Federal,
            Self::Fed => origin == Origin::Federal,
        }
    }
}

/// A query string that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Items that are skipped.
    pub start: usize,
    /// Most items; 0 for all.
    pub limit: usize,
    /// All must hold.
    pub filters: Vec<Filter>,
    /// In order of precedence: key, and whether descending.
    pub sorts: Vec<(String, bool)>,
    /// Every other key, the first value of each.
    pub others: BTreeMap<String, String>,
}

fn parse_op(word: &str) -> Option<Op> {
    Some(match word {
        "eq" => Op::Eq,
        "neq" => Op::Neq,
        "in" => Op::In,
        "notin" => Op::NotIn,
        "gt" => Op::Gt,
        "gte" => Op::Gte,
        "lt" => Op::Lt,
        "lte" => Op::Lte,
        "prefix" => Op::Prefix,
        _ => return None,
    })
}

/// Decodes `%xx`, and `+` as a space when `plus`; what is no escape stays as it is. Bytes that are no UTF-8 become
/// replacement characters.
#[must_use]
pub fn unescape(raw: &str, plus: bool) -> String {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' if plus => bytes.push(b' '),
            b'%' => {
                let digit = |at: usize| after.get(at).and_then(|d| char::from(*d).to_digit(16));
                match (digit(0), digit(1)) {
                    (Some(high), Some(low)) => {
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                        rest = after.get(2..).unwrap_or(&[]);
                    }
                    _ => bytes.push(b'%'),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

impl Query {
    /// Reads a query string. What cannot be read is ignored, as the contract has it.
    #[must_use]
    pub fn parse(raw: &str) -> Self {
        let mut query = Self::default();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()).take(256) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (unescape(key, true), unescape(value, true));
            let number =
                || value.parse::<i64>().ok().map(|n| usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX));
            if key == "start" {
                query.start = number().unwrap_or(0);
            } else if key == "limit" {
                query.limit = number().unwrap_or(0);
            } else if let Some(key) = key.strip_prefix("f_") {
                if query.filters.len() < MAX_KEYS {
                    let (op, value) = match value.split_once(',') {
                        // Without an operator in front of it the comma is part of the value.
                        Some((word, rest)) => match parse_op(word) {
                            Some(op) => (op, rest.to_owned()),
                            None => (Op::Eq, value),
                        },
                        None => (Op::Eq, value),
                    };
                    query.filters.push(Filter { key: key.to_owned(), op, value });
                }
            } else if let Some(key) = key.strip_prefix("s_") {
                if query.sorts.len() < MAX_KEYS {
                    query.sorts.push((key.to_owned(), value.eq_ignore_ascii_case("desc")));
                }
            } else {
                query.others.entry(key).or_insert(value);
            }
        }
        query
    }

    /// A switch, read as Go reads booleans.
    #[must_use]
    pub fn switch(&self, key: &str) -> bool {
        self.others
            .get(key)
            .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
    /// `view=pod`: containers within their pods.
    #[must_use]
    pub fn by_pod(&self) -> bool {
        self.others.get("view").is_some_and(|view| view == "pod" || view == "pod_only")
    }
    /// `scope`.
    ///
    /// # Errors
    /// Code 6 for a word that is none.
    pub fn scope(&self) -> Result<ScopeFilter, ApiError> {
        match self.others.get("scope").map(String::as_str) {
            None | Some("") => Ok(ScopeFilter::All),
            Some("local") => Ok(ScopeFilter::Local),
            Some("fed") => Ok(ScopeFilter::Fed),
            Some(_) => Err(ApiError::new(Code::Format, "scope is none of local, fed and empty")),
        }
    }
    /// The same, with the contract's `s_severity` as what it stands for: counts of findings, the worst first, then `name`.
    #[must_use]
    pub fn by_severity(&self, name: &str) -> Self {
        let mut query = self.clone();
        query.sorts = self
            .sorts
            .iter()
            .flat_map(|(key, descending)| match key.as_str() {
                "severity" => {
                    let counts = ["critical", "high", "medium"].map(|count| (count.to_owned(), *descending));
                    counts.into_iter().chain([(name.to_owned(), false)]).collect()
                }
                _ => vec![(key.clone(), *descending)],
            })
            .collect();
        query
    }
    /// Takes a filter out: its value when its operator is `eq`.
    pub fn take_filter(&mut self, key: &str) -> Option<String> {
        let at = self.filters.iter().position(|filter| filter.key == key)?;
        Some(self.filters.remove(at).value)
    }

    fn keys(&self) -> Vec<&str> {
        self.filters
            .iter()
            .map(|f| f.key.as_str())
            .chain(self.sorts.iter().map(|(key, _)| key.as_str()))
            .collect()
    }
    fn has_keys(&self) -> bool {
        !self.filters.is_empty() || !self.sorts.is_empty()
    }
    fn accepts(&self, found: &[Option<Scalar>]) -> bool {
        self.filters.iter().zip(found).all(|(filter, value)| match value {
            // Keys that are unknown, and values that cannot be compared, do not filter.
            None => true,
            Some(value) => value.satisfies(filter.op, &filter.value),
        })
    }
    fn compare(&self, one: &[Option<Scalar>], other: &[Option<Scalar>]) -> Ordering {
        let skip = self.filters.len();
        self.sorts
            .iter()
            .zip(one.iter().skip(skip).zip(other.iter().skip(skip)))
            .map(|((_, descending), (one, other))| {
                let order = one.cmp(other);
                if *descending { order.reverse() } else { order }
            })
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
    fn most(&self) -> usize {
        if self.limit == 0 { usize::MAX } else { self.limit }
    }

    /// For inventory: sort, skip `start` items as they are, filter, stop at `limit`. `show` makes the answer's item.
    pub fn inventory<T, D: Serialize>(&self, items: Vec<T>, show: impl Fn(&T) -> D) -> Vec<T> {
        if !self.has_keys() {
            return items.into_iter().skip(self.start).take(self.most()).collect();
        }
        self.probed(items, show)
            .into_iter()
            .skip(self.start)
            .filter(|(found, _)| self.accepts(found))
            .take(self.most())
            .map(|(_, item)| item)
            .collect()
    }

    /// For logs: sort, filter, then the slice.
    pub fn log<T: Serialize>(&self, items: Vec<T>) -> Vec<T> {
        if !self.has_keys() {
            return items.into_iter().skip(self.start).take(self.most()).collect();
        }
        self.probed_by_ref(items)
            .into_iter()
            .filter(|(found, _)| self.accepts(found))
            .skip(self.start)
            .take(self.most())
            .map(|(_, item)| item)
            .collect()
    }

    /// Whether one item passes the filters.
    pub fn passes<D: Serialize>(&self, item: &D) -> bool {
        self.filters.is_empty() || self.accepts(&Probe::read(&self.keys(), item))
    }

    fn probed<T, D: Serialize>(
        &self,
        items: Vec<T>,
        show: impl Fn(&T) -> D,
    ) -> Vec<(Vec<Option<Scalar>>, T)> {
        let keys = self.keys();
        let mut probed: Vec<_> =
            items.into_iter().map(|item| (Probe::read(&keys, &show(&item)), item)).collect();
        if !self.sorts.is_empty() {
            probed.sort_by(|(one, _), (other, _)| self.compare(one, other));
        }
        probed
    }
    fn probed_by_ref<T: Serialize>(&self, items: Vec<T>) -> Vec<(Vec<Option<Scalar>>, T)> {
        let keys = self.keys();
        let mut probed: Vec<_> = items.into_iter().map(|item| (Probe::read(&keys, &item), item)).collect();
        if !self.sorts.is_empty() {
            probed.sort_by(|(one, _), (other, _)| self.compare(one, other));
        }
        probed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Common {
        level: &'static str,
    }
    #[derive(Clone, Debug, PartialEq, Serialize)]
    struct Item {
        #[serde(flatten)]
        common: Common,
        name: String,
        size: i64,
        count: u32,
        on: bool,
        ratio: f64,
        nested: Vec<u8>,
    }

    fn items() -> Vec<Item> {
        [("web", 30, true), ("api", 10, false), ("db-1", 20, true), ("db-2", 5, false)]
            .into_iter()
            .map(|(name, size, on)| Item {
                common: Common { level: if on { "Critical" } else { "Info" } },
                name: name.into(),
                size,
                count: 1,
                on,
                ratio: 0.5,
                nested: vec![1],
            })
            .collect()
    }
    fn names(items: &[Item]) -> String {
        items.iter().map(|item| item.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_sort_by_severity_is_one_by_the_counts_of_findings() {
        let query = Query::parse("s_severity=desc&s_tag=asc").by_severity("image");
        let sorts: Vec<(&str, bool)> = query.sorts.iter().map(|(key, down)| (key.as_str(), *down)).collect();
        assert_eq!(
            sorts,
            [("critical", true), ("high", true), ("medium", true), ("image", false), ("tag", false)]
        );
    }

    #[test]
    fn filters_and_sorts_read_the_answers_keys() {
        for (query, want) in [
            ("", "web api db-1 db-2"),
            ("f_name=web", "web"),
            ("f_name=eq,web", "web"),
            ("f_name=neq,web", "api db-1 db-2"),
            ("f_name=prefix,db", "db-1 db-2"),
            ("f_name=in,eb|pi", "web api"),
            ("f_name=notin,eb|pi", "db-1 db-2"),
            ("f_size=gte,20", "web db-1"),
            ("f_size=lt,10", "db-2"),
            ("f_on=true", "web db-1"),
            ("f_ratio=gt,0.4&f_size=10", "api"),
            ("f_level=Critical", "web db-1"),
            ("f_count=77", "web api db-1 db-2"),
            ("f_nested=77", "web api db-1 db-2"),
            ("f_unknown=x", "web api db-1 db-2"),
            ("f_name=odd,web", ""),
            ("s_size=asc", "db-2 api db-1 web"),
            ("s_size=desc", "web db-1 api db-2"),
            ("s_on=desc&s_name=asc", "db-1 web api db-2"),
            ("f_name=d%62-1", "db-1"),
        ] {
            assert_eq!(names(&Query::parse(query).inventory(items(), Item::clone)), want, "{query}");
            assert_eq!(names(&Query::parse(query).log(items())), want, "{query}");
        }
    }

    #[test]
    fn inventory_skips_before_it_filters_and_logs_after() {
        let query = Query::parse("f_on=true&start=1&limit=1");
        assert_eq!(names(&query.inventory(items(), Item::clone)), "db-1");
        assert_eq!(names(&query.log(items())), "db-1");
        let query = Query::parse("f_name=prefix,db&start=1");
        assert_eq!(names(&query.inventory(items(), Item::clone)), "db-1 db-2");
        assert_eq!(names(&query.log(items())), "db-2");
    }

    #[test]
    fn a_negative_start_counts_by_its_size() {
        assert_eq!(Query::parse("start=-2&limit=x"), Query { start: 2, ..Query::default() });
    }

    #[test]
    fn switches_are_gos_booleans_and_scopes_are_checked() {
        for (raw, want) in [
            ("brief=true", true),
            ("brief=T", true),
            ("brief=1", true),
            ("brief=yes", false),
            ("brief", false),
        ] {
            assert_eq!(Query::parse(raw).switch("brief"), want, "{raw}");
        }
        assert_eq!(Query::parse("scope=fed").scope(), Ok(ScopeFilter::Fed));
        assert!(Query::parse("scope=all").scope().is_err());
        assert!(Query::parse("view=pod").by_pod());
    }

    proptest! {
        #[test]
        fn any_query_string_is_answered_without_panic(raw in ".{0,200}") {
            Query::parse(&raw).log(items());
        }
        #[test]
        fn pages_of_a_log_put_together_are_the_whole(size in 1_usize..5, filter in "(f_on=true|f_size=gt,7|s_name=asc|)") {
            let whole = Query::parse(&filter).log(items());
            let mut pages = Vec::new();
            for start in (0..whole.len()).step_by(size) {
                let page = format!("{filter}&start={start}&limit={size}");
                pages.extend(Query::parse(&page).log(items()));
            }
            prop_assert_eq!(pages, whole);
        }
        #[test]
        fn a_filter_and_its_opposite_share_everything_out(value in "[a-z0-9-]{0,4}", pair in 0_usize..4) {
            let (one, other) = [("eq", "neq"), ("in", "notin"), ("gt", "lte"), ("lt", "gte")][pair];
            let count = |op: &str| {
                let raw = format!("f_name={op},{value}");
                Query::parse(&raw).log(items()).len()
            };
            prop_assert_eq!(count(one) + count(other), items().len());
        }
    }
}
