//! Password profiles: how strong a password must be, how long it lasts, how often it may be guessed at.

use std::time::Duration;

use nv_model::time::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// What a password must have; the contract's `password_profile_basic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strength {
    /// Characters.
    pub min_len: u32,
    /// Upper-case letters.
    pub min_uppercase_count: u32,
    /// Lower-case letters.
    pub min_lowercase_count: u32,
    /// Digits.
    pub min_digit_count: u32,
    /// Characters that are none of these.
    pub min_special_count: u32,
}

/// A profile as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordProfile {
    /// Its name; `default` is built in.
    pub name: String,
    /// A note.
    #[serde(default)]
    pub comment: String,
    /// What a password must have.
    pub strength: Strength,
    /// A password ends after this many days; `None` for never.
    pub expire_after_days: Option<u32>,
    /// How many earlier passwords may not be used again; 0 for none.
    pub history: u32,
    /// Failed logins in a row that block a user; 0 for never.
    pub block_after_failures: u32,
    /// For how long, in minutes.
    pub block_minutes: u32,
    /// Idle time of new users' sessions, in seconds.
    pub session_timeout_seconds: u32,
}

impl PasswordProfile {
    /// Name of the built-in profile.
    pub const DEFAULT: &'static str = "default";
    /// What addresses whichever profile is active.
    pub const ACTIVE: &'static str = "nvsyspwdprofile";
    /// Most earlier passwords that are remembered.
    pub const MAX_HISTORY: u32 = 32;
}

impl Default for PasswordProfile {
    fn default() -> Self {
        Self {
            name: Self::DEFAULT.to_owned(),
            comment: String::new(),
            strength: Strength {
                min_len: 8,
                min_uppercase_count: 1,
                min_lowercase_count: 1,
                min_digit_count: 1,
                min_special_count: 0,
            },
            expire_after_days: None,
            history: 0,
            block_after_failures: 5,
            block_minutes: 60,
            session_timeout_seconds: 300,
        }
    }
}

/// Why a new password is refused.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// It has less than it must.
    #[error(
        "the password needs at least {} characters, {} upper-case and {} lower-case letters, {} digits and {} special characters",
        .0.min_len, .0.min_uppercase_count, .0.min_lowercase_count, .0.min_digit_count, .0.min_special_count
    )]
    Strength(Strength),
    /// It is the present one or was used before.
    #[error("the password was used before; the last {remembered} may not be used again")]
    Reused {
        /// How many are remembered.
        remembered: u32,
    },
    /// It is the user's name.
    #[error("the password is the user's name")]
    IsName,
}

impl PasswordProfile {
    /// Whether `password` has what it must.
    ///
    /// # Errors
    /// [`Weakness::Strength`] or [`Weakness::IsName`].
    pub fn check(&self, user: &str, password: &SecretString) -> Result<(), Weakness> {
        let (mut total, mut upper, mut lower, mut digit, mut special) = (0_u32, 0_u32, 0_u32, 0_u32, 0_u32);
        for c in password.expose_secret().chars() {
            let count = match c {
                'A'..='Z' => &mut upper,
                'a'..='z' => &mut lower,
                '0'..='9' => &mut digit,
                _ => &mut special,
            };
            *count = count.saturating_add(1);
            total = total.saturating_add(1);
        }
        let want = self.strength;
        let strong = total >= want.min_len
            && upper >= want.min_uppercase_count
            && lower >= want.min_lowercase_count
            && digit >= want.min_digit_count
            && special >= want.min_special_count;
        if !strong {
            return Err(Weakness::Strength(want));
        }
        if password.expose_secret().eq_ignore_ascii_case(user) {
            return Err(Weakness::IsName);
        }
        Ok(())
    }

    /// When a password that was set at `set` ends.
    #[must_use]
    pub fn expires(&self, set: Timestamp) -> Option<Timestamp> {
        self.expire_after_days
            .map(|days| set.after(Duration::from_secs(u64::from(days).saturating_mul(86_400))))
    }

    /// How long a block lasts; `None` when users are never blocked.
    #[must_use]
    pub fn block(&self) -> Option<(u32, Duration)> {
        (self.block_after_failures > 0).then(|| {
            (self.block_after_failures, Duration::from_secs(u64::from(self.block_minutes).saturating_mul(60)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_profile_wants_eight_characters_of_three_kinds() {
        let profile = PasswordProfile::default();
        for (password, strong) in [
            ("Abcdefg1", true),
            ("Abcdef1", false),
            ("abcdefg1", false),
            ("ABCDEFG1", false),
            ("Abcdefgh", false),
            ("Pässword1", true),
            ("", false),
            ("admin", false),
        ] {
            assert_eq!(profile.check("joe", &password.into()).is_ok(), strong, "{password}");
        }
        assert_eq!(profile.check("Administrator1", &"administratoR1".into()), Err(Weakness::IsName));
    }

    #[test]
    fn a_password_ends_the_given_days_after_it_was_set() {
        let profile = PasswordProfile { expire_after_days: Some(2), ..PasswordProfile::default() };
        assert_eq!(profile.expires(Timestamp::from_seconds(10)), Some(Timestamp::from_seconds(172_810)));
        assert_eq!(PasswordProfile::default().expires(Timestamp::from_seconds(10)), None);
    }

    proptest! {
        #[test]
        fn more_characters_never_weaken_a_password(password in "[ -~]{8,20}", more in "[ -~]{1,5}") {
            let profile = PasswordProfile::default();
            if profile.check("u", &password.clone().into()).is_ok() {
                let longer = format!("{password}{more}");
                prop_assert!(profile.check("u", &longer.into()).is_ok());
            }
        }
    }
}
