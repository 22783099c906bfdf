//! Random secrets, and the hashes that are kept of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system's random number generator failed: {reason}; no secret was made, try again")]
pub struct EntropyError {
    /// What the system said.
    reason: String,
}

fn fill(bytes: &mut [u8]) -> Result<(), EntropyError> {
    getrandom::fill(bytes).map_err(|error| EntropyError { reason: error.to_string() })
}

/// A session token: 256 random bits as 43 characters of base64url.
///
/// # Errors
/// [`EntropyError`].
pub fn token() -> Result<SecretString, EntropyError> {
    let mut bytes = [0_u8; 32];
    fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

/// `length` random letters and digits (5.95 bits each).
///
/// # Errors
/// [`EntropyError`].
pub fn letters_and_digits(length: usize) -> Result<SecretString, EntropyError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    let mut bytes = [0_u8; 64];
    while text.len() < length {
        fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte: what lies above would make some letters likelier.
        for byte in bytes.iter().filter(|byte| **byte < 248) {
            if text.len() < length
                && let Some(letter) = ALPHABET.get(usize::from(*byte) % ALPHABET.len())
            {
                text.push(char::from(*letter));
            }
        }
    }
    Ok(text.into())
}

/// A one-time password of 24 letters and digits (142 bits) that satisfies the default password profile.
///
/// # Errors
/// [`EntropyError`].
pub fn one_time_password() -> Result<SecretString, EntropyError> {
    loop {
        let password = letters_and_digits(24)?;
        let text = password.expose_secret();
        let has = |class: fn(&u8) -> bool| text.as_bytes().iter().any(class);
        if has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit) {
            return Ok(password);
        }
    }
}

/// SHA-256 of a random secret of at least 128 bits, which needs no salt and no slow hash. Compares in constant time.
#[derive(Clone, Copy, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }
    /// The first 8 bytes as hex: names a session in events without giving anything of its token away.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::hash::Hash for Fingerprint {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fingerprint({}…)", self.short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_promised_shape_and_differ() {
        let (a, b) = (token().unwrap(), token().unwrap());
        assert_eq!(a.expose_secret().len(), 43);
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(letters_and_digits(64).unwrap().expose_secret().len(), 64);
        assert_eq!(one_time_password().unwrap().expose_secret().len(), 24);
    }

    #[test]
    fn debug_output_of_a_fingerprint_is_short() {
        let print = Fingerprint::of("secret");
        assert!(format!("{print:?}").len() < 40);
        assert_eq!(print, Fingerprint::of("secret"));
        assert_ne!(print, Fingerprint::of("secre7"));
    }
}
