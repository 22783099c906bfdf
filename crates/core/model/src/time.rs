//! Points in time. This crate reads no clock; whoever does hands one of these in.

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds since 1970-01-01T00:00:00Z, 0 for "never".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// "Never": the contract prints it as an empty string and as 0.
    pub const NEVER: Self = Self(0);

    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }
    /// From whole seconds since the epoch; saturates outside of the years 1677 to 2262.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }
    /// Reads RFC 3339, in any zone.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Self::from_seconds(at.as_second()))
    }
    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }
    /// Whole seconds since the epoch, rounded down.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }
    /// Whole milliseconds since the epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
    /// Time since `earlier`, zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        let nanos = self.0.saturating_sub(earlier.0);
        std::time::Duration::from_nanos(if nanos < 0 { 0 } else { nanos.unsigned_abs() })
    }
    /// This point moved by `by` into the future; saturates.
    #[must_use]
    pub fn after(self, by: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_nanos()).unwrap_or(i64::MAX)))
    }
    /// RFC 3339 in UTC with whole seconds (`2026-11-22T10:00:00Z`), as the contract's `*_at` fields; `""` for never.
    #[must_use]
    pub fn rfc3339(self) -> String {
        if self.0 == 0 {
            return String::new();
        }
        jiff::Timestamp::from_second(self.seconds()).map(|at| at.to_string()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_as_nothing_and_a_point_as_rfc3339() {
        assert_eq!(Timestamp::NEVER.rfc3339(), "");
        assert_eq!(Timestamp::from_nanos(1_700_000_000_999_999_999).rfc3339(), "2023-11-14T22:13:20Z");
    }
}
