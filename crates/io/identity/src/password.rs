//! Password hashes: Argon2id in the PHC text form, which carries its own parameters, so that they can be raised later.

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// Longest password that is looked at, in bytes; longer ones are refused before any work is done.
pub const MAX_PASSWORD_BYTES: usize = 1_024;

/// A stored hash (`$argon2id$v=19$m=…,t=…,p=…$salt$hash`). Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What hashing costs. OWASP's choice for Argon2id is the default: 19 MiB, 2 passes, 1 lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB, 8 at least.
    pub memory_kib: u32,
    /// Passes over it, 1 at least.
    pub passes: u32,
    /// Lanes, 1 at least.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

/// Why no hash was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Longer than [`MAX_PASSWORD_BYTES`].
    #[error("the password is {bytes} bytes long, at most {MAX_PASSWORD_BYTES} are accepted")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The hash function refused its parameters or found no randomness.
    #[error("the password could not be hashed: {reason}")]
    Hash {
        /// What it said.
        reason: String,
    },
}

/// Hashes and verifies. Each call takes tens of milliseconds of CPU: run it where blocking is allowed, and bound how
/// many run at one time.
pub struct Passwords {
    argon: Argon2<'static>,
    /// Hash of a random password: verified against when there is no such user, so that both take the same time.
    decoy: PasswordHash,
}

/// What a verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The password is right.
    Right,
    /// The password is right, the hash is of lower cost than today's: hash it again.
    RightButWeak,
    /// It is not.
    Wrong,
}

impl Passwords {
    /// With the given cost.
    ///
    /// # Errors
    /// [`PasswordError::Hash`] when the cost is out of Argon2's range or there is no randomness.
    pub fn new(cost: Cost) -> Result<Self, PasswordError> {
        let fail = |error: &dyn std::fmt::Display| PasswordError::Hash { reason: error.to_string() };
        let params =
            Params::new(cost.memory_kib, cost.passes, cost.lanes, None).map_err(|error| fail(&error))?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let random = crate::random::token().map_err(|error| fail(&error))?;
        let decoy = hash_with(&argon, &random)?;
        Ok(Self { argon, decoy })
    }

    /// A hash with a fresh salt.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn hash(&self, password: &SecretString) -> Result<PasswordHash, PasswordError> {
        hash_with(&self.argon, password)
    }

    /// Compares; `None` stands for an unknown user and costs the same as a wrong password of a known one.
    #[must_use]
    pub fn verify(&self, password: &SecretString, stored: Option<&PasswordHash>) -> Verified {
        let text = password.expose_secret();
        let hash = stored.unwrap_or(&self.decoy);
        if text.len() > MAX_PASSWORD_BYTES {
            return Verified::Wrong;
        }
        let Ok(parsed) = Phc::new(&hash.0) else { return Verified::Wrong };
        // The parameters are the stored hash's own; the ones of `self` are for new hashes.
        if self.argon.verify_password(text.as_bytes(), &parsed).is_err() || stored.is_none() {
            return Verified::Wrong;
        }
        match Params::try_from(&parsed) {
            Ok(params)
                if params.m_cost() >= self.argon.params().m_cost()
                    && params.t_cost() >= self.argon.params().t_cost() =>
            {
                Verified::Right
            }
            _ => Verified::RightButWeak,
        }
    }
}

fn hash_with(argon: &Argon2<'_>, password: &SecretString) -> Result<PasswordHash, PasswordError> {
    let text = password.expose_secret();
    if text.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordError::TooLong { bytes: text.len() });
    }
    let hash = argon
        .hash_password(text.as_bytes())
        .map_err(|error| PasswordError::Hash { reason: error.to_string() })?;
    Ok(PasswordHash(hash.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    #[test]
    fn a_hash_verifies_its_own_password_alone() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let hash = passwords.hash(&"Right1234".into()).unwrap();
        assert_eq!(passwords.verify(&"Right1234".into(), Some(&hash)), Verified::Right);
        assert_eq!(passwords.verify(&"right1234".into(), Some(&hash)), Verified::Wrong);
        assert_eq!(passwords.verify(&"".into(), Some(&hash)), Verified::Wrong);
        assert_eq!(passwords.verify(&"Right1234".into(), None), Verified::Wrong);
        assert_ne!(hash, passwords.hash(&"Right1234".into()).unwrap(), "salts differ");
    }

    #[test]
    fn a_hash_of_lower_cost_is_accepted_and_marked() {
        let hash = Passwords::new(CHEAP).unwrap().hash(&"Right1234".into()).unwrap();
        let today = Passwords::new(Cost { memory_kib: 16, ..CHEAP }).unwrap();
        assert_eq!(today.verify(&"Right1234".into(), Some(&hash)), Verified::RightButWeak);
        assert_eq!(today.verify(&"wrong".into(), Some(&hash)), Verified::Wrong);
    }

    #[test]
    fn a_password_that_is_too_long_is_refused_before_any_work() {
        let passwords = Passwords::new(CHEAP).unwrap();
        let long: SecretString = "x".repeat(MAX_PASSWORD_BYTES + 1).into();
        assert!(matches!(passwords.hash(&long), Err(PasswordError::TooLong { bytes: 1_025 })));
    }

    #[test]
    fn a_stored_hash_is_readable_text_and_never_printed() {
        let hash = Passwords::new(CHEAP).unwrap().hash(&"Right1234".into()).unwrap();
        assert!(serde_json::to_string(&hash).unwrap().starts_with("\"$argon2id$v=19$m=8,t=1,p=1$"));
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
        let broken: PasswordHash = serde_json::from_str("\"nonsense\"").unwrap();
        assert_eq!(Passwords::new(CHEAP).unwrap().verify(&"x".into(), Some(&broken)), Verified::Wrong);
    }
}
