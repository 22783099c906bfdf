//! Sessions: an opaque token for each login. Only its hash is kept.

use std::collections::HashMap;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::name::UserName;
use crate::random::{EntropyError, Fingerprint, token};

/// Longest life of a session, whatever its use.
pub const ABSOLUTE_LIFE: Duration = Duration::from_secs(6 * 3_600);
/// Most sessions of one user at one time.
pub const MAX_PER_USER: usize = 32;
/// Most sessions of all users at one time.
pub const MAX_TOTAL: usize = 8_192;

/// Shortest and longest idle time that a user may have, and the usual one, in seconds.
pub const IDLE_SECONDS: std::ops::RangeInclusive<u32> = 30..=3_600;
/// The usual idle time, in seconds.
pub const DEFAULT_IDLE_SECONDS: u32 = 300;

/// A session. Times are those of a monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it in events; says nothing of its token.
    pub id: String,
    /// Whose it is.
    pub user: UserName,
    /// Where the user logged in from.
    pub address: String,
    /// When it was opened.
    pub opened: Duration,
    /// When it was last used.
    pub used: Duration,
    /// How long it may lie unused.
    pub idle: Duration,
}

impl Session {
    /// When it ends if it is not used again.
    #[must_use]
    pub fn ends(&self) -> Duration {
        self.opened.saturating_add(ABSOLUTE_LIFE).min(self.used.saturating_add(self.idle))
    }
}

/// Why a session was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The user, or all users together, have as many as they may.
    #[error("too many sessions are open; log out of one or wait until one ends")]
    TooMany,
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// All open sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    open: HashMap<Fingerprint, Session>,
}

impl Sessions {
    /// Opens one and gives its token.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn open(
        &mut self,
        user: &UserName,
        address: &str,
        idle: Duration,
        now: Duration,
    ) -> Result<(SecretString, Session), SessionError> {
        let mine = self.open.values().filter(|session| session.user == *user && session.ends() > now).count();
        if mine >= MAX_PER_USER || self.open.len() >= MAX_TOTAL {
            return Err(SessionError::TooMany);
        }
        let secret = token()?;
        let print = Fingerprint::of(secret.expose_secret());
        let session = Session {
            id: print.short(),
            user: user.clone(),
            address: address.chars().take(64).collect(),
            opened: now,
            used: now,
            idle,
        };
        self.open.insert(print, session.clone());
        Ok((secret, session))
    }

    /// The session of a token, which counts as a use of it; `None` when there is none or it has ended. An ended one
    /// stays for [`Self::sweep`], which reports it.
    pub fn touch(&mut self, token: &str, now: Duration) -> Option<&Session> {
        let session = self.open.get_mut(&Fingerprint::of(token))?;
        if session.ends() <= now {
            return None;
        }
        session.used = now;
        Some(session)
    }

    /// The session of a token, without a use of it.
    #[must_use]
    pub fn peek(&self, token: &str, now: Duration) -> Option<&Session> {
        self.open.get(&Fingerprint::of(token)).filter(|session| session.ends() > now)
    }

    /// Ends the session of a token.
    pub fn close(&mut self, token: &str) -> Option<Session> {
        self.open.remove(&Fingerprint::of(token))
    }

    /// Ends every session of a user but the one whose id is `except`; how many there were.
    pub fn close_user(&mut self, user: &str, except: Option<&str>) -> usize {
        let before = self.open.len();
        self.open
            .retain(|_, session| session.user.as_str() != user || except.is_some_and(|id| session.id == id));
        before.saturating_sub(self.open.len())
    }

    /// Gives the open sessions of a user another idle time.
    pub fn set_idle(&mut self, user: &str, idle: Duration) {
        for session in self.open.values_mut().filter(|session| session.user.as_str() == user) {
            session.idle = idle;
        }
    }

    /// Takes out those that have ended.
    pub fn sweep(&mut self, now: Duration) -> Vec<Session> {
        let mut ended = Vec::new();
        self.open.retain(|_, session| {
            let stays = session.ends() > now;
            if !stays {
                ended.push(session.clone());
            }
            stays
        });
        ended
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }
    /// None is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(300);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_ends_when_it_lies_idle_and_use_keeps_it() {
        let mut sessions = Sessions::default();
        let (token, _) = sessions.open(&"joe".parse().unwrap(), "", IDLE, at(0)).unwrap();
        let token = token.expose_secret();
        assert!(sessions.touch(token, at(299)).is_some());
        assert!(sessions.touch(token, at(598)).is_some());
        assert!(sessions.peek(token, at(897)).is_some(), "peeking is no use");
        assert!(sessions.touch(token, at(898)).is_none());
        assert!(sessions.touch(token, at(600)).is_some(), "the clock decides, not an earlier refusal");
        assert_eq!(sessions.sweep(at(2_000)).len(), 1);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_session_ends_after_six_hours_whatever_its_use() {
        let mut sessions = Sessions::default();
        let (token, _) = sessions.open(&"joe".parse().unwrap(), "", at(3_600), at(0)).unwrap();
        for hour in 1..=11 {
            assert!(sessions.touch(token.expose_secret(), at(hour * 1_800)).is_some(), "{hour}");
        }
        assert!(sessions.touch(token.expose_secret(), at(21_600)).is_none());
    }

    #[test]
    fn the_thirty_third_session_of_a_user_is_refused() {
        let mut sessions = Sessions::default();
        let joe: UserName = "joe".parse().unwrap();
        for _ in 0..MAX_PER_USER {
            sessions.open(&joe, "", IDLE, at(0)).unwrap();
        }
        assert!(matches!(sessions.open(&joe, "", IDLE, at(1)), Err(SessionError::TooMany)));
        assert!(sessions.open(&"ann".parse().unwrap(), "", IDLE, at(1)).is_ok());
        assert!(sessions.open(&joe, "", IDLE, at(301)).is_ok(), "ended ones do not count");
        assert_eq!(sessions.close_user("joe", None), 33);
    }

    #[test]
    fn a_token_that_differs_in_any_way_opens_nothing() {
        let mut sessions = Sessions::default();
        let (token, _) = sessions.open(&"joe".parse().unwrap(), "", IDLE, at(0)).unwrap();
        let token = token.expose_secret().to_owned();
        for odd in [
            format!("{token}="),
            format!(" {token}"),
            token.to_lowercase(),
            String::new(),
            token.chars().take(42).collect(),
        ] {
            assert!(odd == token || sessions.touch(&odd, at(1)).is_none(), "{odd:?}");
        }
        assert!(sessions.close(&token).is_some());
        assert!(sessions.touch(&token, at(1)).is_none());
    }
}
