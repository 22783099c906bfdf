//! Password profiles.

use nv_identity::profile::PasswordProfile;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// A password profile.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PwdProfile {
    /// Its name.
    pub name: String,
    /// A note.
    pub comment: String,
    /// Characters.
    pub min_len: i64,
    /// Upper-case letters.
    pub min_uppercase_count: i64,
    /// Lower-case letters.
    pub min_lowercase_count: i64,
    /// Digits.
    pub min_digit_count: i64,
    /// Other characters.
    pub min_special_count: i64,
    /// Passwords end.
    pub enable_password_expiration: bool,
    /// After this many days.
    pub password_expire_after_days: i64,
    /// Earlier passwords may not be used again.
    pub enable_password_history: bool,
    /// This many of them.
    pub password_keep_history_count: i64,
    /// Failed logins block.
    pub enable_block_after_failed_login: bool,
    /// After this many.
    pub block_after_failed_login_count: i64,
    /// For this many minutes.
    pub block_minutes: i64,
    /// Idle time of new users' sessions, in seconds.
    pub session_timeout: u32,
}
impl Named for PwdProfile {
    const ONE: &'static str = "pwd_profile";
    const MANY: &'static str = "pwd_profiles";
}

impl From<&PasswordProfile> for PwdProfile {
    fn from(profile: &PasswordProfile) -> Self {
        let want = profile.strength;
        Self {
            name: profile.name.clone(),
            comment: profile.comment.clone(),
            min_len: want.min_len.into(),
            min_uppercase_count: want.min_uppercase_count.into(),
            min_lowercase_count: want.min_lowercase_count.into(),
            min_digit_count: want.min_digit_count.into(),
            min_special_count: want.min_special_count.into(),
            enable_password_expiration: profile.expire_after_days.is_some(),
            password_expire_after_days: profile.expire_after_days.unwrap_or(0).into(),
            enable_password_history: profile.history > 0,
            password_keep_history_count: profile.history.into(),
            enable_block_after_failed_login: profile.block_after_failures > 0,
            block_after_failed_login_count: profile.block_after_failures.into(),
            block_minutes: profile.block_minutes.into(),
            session_timeout: profile.session_timeout_seconds,
        }
    }
}

/// All password profiles.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PwdProfilesData {
    /// The profiles.
    pub pwd_profiles: Vec<PwdProfile>,
    /// The one that counts.
    pub active_profile_name: String,
}

/// Changes to a password profile.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct PwdProfileConfig {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// A note.
    #[serde(default)]
    pub comment: Option<String>,
    /// It is to count.
    #[serde(default)]
    pub active: Option<bool>,
    /// Characters.
    #[serde(default)]
    pub min_len: Option<u32>,
    /// Upper-case letters.
    #[serde(default)]
    pub min_uppercase_count: Option<u32>,
    /// Lower-case letters.
    #[serde(default)]
    pub min_lowercase_count: Option<u32>,
    /// Digits.
    #[serde(default)]
    pub min_digit_count: Option<u32>,
    /// Other characters.
    #[serde(default)]
    pub min_special_count: Option<u32>,
    /// Passwords end.
    #[serde(default)]
    pub enable_password_expiration: Option<bool>,
    /// After this many days.
    #[serde(default)]
    pub password_expire_after_days: Option<u32>,
    /// Earlier passwords may not be used again.
    #[serde(default)]
    pub enable_password_history: Option<bool>,
    /// This many of them.
    #[serde(default)]
    pub password_keep_history_count: Option<u32>,
    /// Failed logins block.
    #[serde(default)]
    pub enable_block_after_failed_login: Option<bool>,
    /// After this many.
    #[serde(default)]
    pub block_after_failed_login_count: Option<u32>,
    /// For this many minutes.
    #[serde(default)]
    pub block_minutes: Option<u32>,
    /// Idle time of new users' sessions, in seconds.
    #[serde(default)]
    pub session_timeout: Option<u32>,
}
