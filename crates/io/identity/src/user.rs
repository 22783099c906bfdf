//! Users, and what a login with the right password leads to.

use nv_model::time::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::name::UserName;
use crate::password::{PasswordError, PasswordHash, Passwords, Verified};
use crate::profile::{PasswordProfile, Weakness};
use crate::random::{EntropyError, one_time_password};
use crate::role::{ADMIN, Assignment};
use crate::session::DEFAULT_IDLE_SECONDS;

/// Most users.
pub const MAX_USERS: usize = 4_096;

/// A local user as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// Mail address.
    #[serde(default)]
    pub email: String,
    /// Language of the console.
    #[serde(default)]
    pub locale: String,
    /// Roles.
    pub assignment: Assignment,
    /// Idle time of sessions, in seconds.
    pub timeout_seconds: u32,
    /// Hash of the password.
    pub password: PasswordHash,
    /// When it was set.
    pub password_set: Timestamp,
    /// Earlier ones, the latest first.
    #[serde(default)]
    pub history: Vec<PasswordHash>,
    /// The password must be changed at the next login.
    #[serde(default)]
    pub must_change: bool,
    /// The first user: it can neither be deleted nor lose its role.
    #[serde(default)]
    pub built_in: bool,
    /// Last login.
    #[serde(default)]
    pub last_login: Timestamp,
    /// How many logins there were.
    #[serde(default)]
    pub logins: u32,
}

/// What a login with the right password leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A session.
    Open,
    /// A new password must come with the login.
    MustChange,
    /// The password has ended; an administrator must set another.
    Expired,
}

/// Why a password was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The new one is not good enough.
    #[error(transparent)]
    Weak(#[from] Weakness),
    /// It could not be hashed.
    #[error(transparent)]
    Hash(#[from] PasswordError),
}

/// Why there is no first user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootstrapError {
    /// No randomness for its password.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// Its password could not be hashed.
    #[error(transparent)]
    Hash(#[from] PasswordError),
}

impl User {
    /// A user with a password that is good enough for `profile`.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn new(
        name: UserName,
        password: &SecretString,
        assignment: Assignment,
        profile: &PasswordProfile,
        passwords: &Passwords,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        profile.check(name.as_str(), password)?;
        let password = passwords.hash(password)?;
        Ok(Self {
            name,
            email: String::new(),
            locale: String::new(),
            assignment,
            timeout_seconds: profile.session_timeout_seconds,
            password,
            password_set: now,
            history: Vec::new(),
            must_change: false,
            built_in: false,
            last_login: Timestamp::NEVER,
            logins: 0,
        })
    }

    /// The first user, `admin`, with a random password that must be changed at the first login. The password is
    /// given to the caller and not kept.
    ///
    /// # Errors
    /// [`BootstrapError`].
    pub fn bootstrap(passwords: &Passwords, now: Timestamp) -> Result<(Self, SecretString), BootstrapError> {
        let secret = one_time_password()?;
        let user = Self {
            name: UserName::admin(),
            email: String::new(),
            locale: String::new(),
            assignment: Assignment::global(ADMIN),
            timeout_seconds: DEFAULT_IDLE_SECONDS,
            password: passwords.hash(&secret)?,
            password_set: now,
            history: Vec::new(),
            must_change: true,
            built_in: true,
            last_login: Timestamp::NEVER,
            logins: 0,
        };
        Ok((user, secret))
    }

    /// What a login with the right password leads to.
    #[must_use]
    pub fn admission(&self, profile: &PasswordProfile, now: Timestamp) -> Admission {
        match profile.expires(self.password_set) {
            Some(end) if end <= now => Admission::Expired,
            _ if self.must_change => Admission::MustChange,
            _ => Admission::Open,
        }
    }

    /// Days and hours until the password ends, rounded down; `None` when it does not.
    #[must_use]
    pub fn password_left(&self, profile: &PasswordProfile, now: Timestamp) -> Option<(i64, i64)> {
        let end = profile.expires(self.password_set)?;
        let seconds = end.seconds().saturating_sub(now.seconds()).max(0);
        Some((seconds / 86_400, seconds / 3_600))
    }

    /// Takes another password, if it is good enough and was not used lately. The present one may never be kept.
    /// Slow, like every use of [`Passwords`].
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub fn change_password(
        &mut self,
        new: &SecretString,
        profile: &PasswordProfile,
        passwords: &Passwords,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        profile.check(self.name.as_str(), new)?;
        let keep = usize::try_from(profile.history.min(PasswordProfile::MAX_HISTORY)).unwrap_or(0);
        let used = std::iter::once(&self.password)
            .chain(self.history.iter().take(keep))
            .any(|hash| passwords.verify(new, Some(hash)) != Verified::Wrong);
        if used {
            return Err(Weakness::Reused { remembered: profile.history.max(1) }.into());
        }
        let hash = passwords.hash(new)?;
        let old = std::mem::replace(&mut self.password, hash);
        self.history.insert(0, old);
        self.history.truncate(keep);
        self.password_set = now;
        self.must_change = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::Cost;
    use secrecy::ExposeSecret as _;

    fn passwords() -> Passwords {
        Passwords::new(Cost { memory_kib: 8, passes: 1, lanes: 1 }).unwrap()
    }

    #[test]
    fn the_first_user_has_a_random_password_that_must_be_changed() {
        let passwords = passwords();
        let now = Timestamp::from_seconds(1_000);
        let profile = PasswordProfile::default();
        let (mut admin, secret) = User::bootstrap(&passwords, now).unwrap();
        assert_eq!(passwords.verify(&secret, Some(&admin.password)), Verified::Right);
        assert_eq!(passwords.verify(&"admin".into(), Some(&admin.password)), Verified::Wrong);
        assert_eq!(admin.admission(&profile, now), Admission::MustChange);
        assert!(profile.check("admin", &secret).is_ok());
        assert!(matches!(
            admin.change_password(&secret, &profile, &passwords, now),
            Err(ChangeError::Weak(Weakness::Reused { .. }))
        ));
        admin.change_password(&"Better1234".into(), &profile, &passwords, now).unwrap();
        assert_eq!(admin.admission(&profile, now), Admission::Open);
        assert!(!serde_json::to_string(&admin).unwrap().contains(secret.expose_secret()));
    }

    #[test]
    fn a_password_of_the_history_is_refused_until_it_drops_out() {
        let (passwords, now) = (passwords(), Timestamp::from_seconds(1));
        let profile = PasswordProfile { history: 1, ..PasswordProfile::default() };
        let mut user = User::new(
            "joe".parse().unwrap(),
            &"Aaaaaaa1".into(),
            Assignment::default(),
            &profile,
            &passwords,
            now,
        )
        .unwrap();
        user.change_password(&"Aaaaaaa2".into(), &profile, &passwords, now).unwrap();
        assert!(user.change_password(&"Aaaaaaa1".into(), &profile, &passwords, now).is_err());
        user.change_password(&"Aaaaaaa3".into(), &profile, &passwords, now).unwrap();
        user.change_password(&"Aaaaaaa1".into(), &profile, &passwords, now).unwrap();
        assert_eq!(user.history.len(), 1);
    }

    #[test]
    fn an_ended_password_opens_nothing() {
        let passwords = passwords();
        let profile = PasswordProfile { expire_after_days: Some(1), ..PasswordProfile::default() };
        let set = Timestamp::from_seconds(0).after(std::time::Duration::from_secs(1));
        let user = User::new(
            "joe".parse().unwrap(),
            &"Aaaaaaa1".into(),
            Assignment::default(),
            &profile,
            &passwords,
            set,
        )
        .unwrap();
        assert_eq!(user.admission(&profile, Timestamp::from_seconds(86_400)), Admission::Open);
        assert_eq!(user.password_left(&profile, Timestamp::from_seconds(43_201)), Some((0, 12)));
        assert_eq!(user.admission(&profile, Timestamp::from_seconds(86_401)), Admission::Expired);
        assert_eq!(user.password_left(&PasswordProfile::default(), set), None);
    }
}
