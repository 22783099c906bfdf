//! API keys: `<name>:<secret>` in a header, without a session. Only the secret's hash is kept.

use std::time::Duration;

use nv_model::time::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::name::KeyName;
use crate::random::{EntropyError, Fingerprint, letters_and_digits};
use crate::role::Assignment;

/// Most keys.
pub const MAX_KEYS: usize = 1_024;
/// Characters of a secret.
pub const SECRET_CHARACTERS: usize = 64;

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expiration {
    /// For ever.
    Never,
    /// An hour.
    OneHour,
    /// A day.
    OneDay,
    /// 30 days.
    OneMonth,
    /// 365 days.
    OneYear,
    /// This many hours, 1 to 8,760.
    Hours(u32),
}

impl Expiration {
    /// From the contract's word and number of hours.
    #[must_use]
    pub fn parse(word: &str, hours: u32) -> Option<Self> {
        match word {
            "never" => Some(Self::Never),
            "onehour" => Some(Self::OneHour),
            "oneday" => Some(Self::OneDay),
            "onemonth" => Some(Self::OneMonth),
            "oneyear" => Some(Self::OneYear),
            "hours" if (1..=8_760).contains(&hours) => Some(Self::Hours(hours)),
            _ => None,
        }
    }
    /// The contract's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OneHour => "onehour",
            Self::OneDay => "oneday",
            Self::OneMonth => "onemonth",
            Self::OneYear => "oneyear",
            Self::Hours(_) => "hours",
        }
    }
    /// In hours; 0 for ever.
    #[must_use]
    pub const fn hours(self) -> u32 {
        match self {
            Self::Never => 0,
            Self::OneHour => 1,
            Self::OneDay => 24,
            Self::OneMonth => 24 * 30,
            Self::OneYear => 24 * 365,
            Self::Hours(hours) => hours,
        }
    }
}

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its name.
    pub name: KeyName,
    /// Hash of its secret.
    pub secret: Fingerprint,
    /// A note.
    #[serde(default)]
    pub description: String,
    /// Its roles.
    pub assignment: Assignment,
    /// How long it lives.
    pub expiration: Expiration,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    #[serde(default)]
    pub created_by: String,
}

impl ApiKey {
    /// A new key and its secret, which is not kept anywhere.
    ///
    /// # Errors
    /// [`EntropyError`].
    pub fn generate(
        name: KeyName,
        description: String,
        assignment: Assignment,
        expiration: Expiration,
        created: Timestamp,
        created_by: String,
    ) -> Result<(Self, SecretString), EntropyError> {
        let secret = letters_and_digits(SECRET_CHARACTERS)?;
        let print = Fingerprint::of(secret.expose_secret());
        Ok((Self { name, secret: print, description, assignment, expiration, created, created_by }, secret))
    }

    /// When it ends; [`Timestamp::NEVER`] for never.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        match self.expiration.hours() {
            0 => Timestamp::NEVER,
            hours => self.created.after(Duration::from_secs(u64::from(hours).saturating_mul(3_600))),
        }
    }

    /// Whether `secret` is the right one and the key still lives.
    #[must_use]
    pub fn accepts(&self, secret: &str, now: Timestamp) -> bool {
        let lives = self.expires() == Timestamp::NEVER || now < self.expires();
        Fingerprint::of(secret) == self.secret && lives
    }
}

/// Splits the header's `<name>:<secret>`.
#[must_use]
pub fn split(header: &str) -> Option<(KeyName, &str)> {
    let (name, secret) = header.split_once(':')?;
    Some((name.parse().ok()?, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_accepts_its_secret_until_it_ends() {
        let made = Timestamp::from_seconds(1_000);
        let (key, secret) = ApiKey::generate(
            "ci".parse().unwrap(),
            String::new(),
            Assignment::global("ciops"),
            Expiration::Hours(2),
            made,
            "admin".into(),
        )
        .unwrap();
        let secret = secret.expose_secret();
        assert_eq!(secret.len(), 64);
        assert!(key.accepts(secret, made));
        assert!(key.accepts(secret, Timestamp::from_seconds(8_199)));
        assert!(!key.accepts(secret, Timestamp::from_seconds(8_200)));
        assert!(!key.accepts(secret.trim_end_matches(|c| secret.ends_with(c)), made));
        let stored = serde_json::to_string(&key).unwrap();
        assert!(!stored.contains(secret));
        assert_eq!(serde_json::from_str::<ApiKey>(&stored).unwrap(), key);
    }

    #[test]
    fn expirations_are_the_contracts_words() {
        for (word, hours, want) in [
            ("never", 0, Some(0)),
            ("onehour", 9, Some(1)),
            ("oneyear", 0, Some(8_760)),
            ("hours", 8_760, Some(8_760)),
            ("hours", 0, None),
            ("hours", 8_761, None),
            ("Never", 0, None),
        ] {
            assert_eq!(Expiration::parse(word, hours).map(Expiration::hours), want, "{word} {hours}");
        }
    }

    #[test]
    fn the_header_is_a_name_and_a_secret() {
        assert_eq!(split("ci:abc:d").map(|(n, s)| (n.to_string(), s)), Some(("ci".into(), "abc:d")));
        assert!(split("ci").is_none());
        assert!(split("c i:abc").is_none());
    }
}
