//! Join tokens: `<random, 43 characters base64url>.<SHA-256 of the authority, 64 hex digits>`.
//!
//! The random part buys one certificate; the store holds only its SHA-256. The fingerprint lets the node check that it
//! talks to the right cluster before it says the random part.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nv_model::name::NodeId;
use nv_model::time::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::error::PkiError;

/// What is kept of a token, under `join/<hash>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The node that it is for, which may use it again until it expires (a node that lost its state joins again).
    /// Without one, any node may use it once.
    pub node: Option<NodeId>,
    /// From when on it is refused.
    pub expires: Timestamp,
    /// Whose certificate it buys.
    #[serde(default)]
    pub role: TokenRole,
}

/// Whose certificate a token buys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// A node's.
    #[default]
    Enforcer,
    /// A scanner's. Replicas of scanners share the token of their deployment: it is good until it expires.
    Scanner,
}

impl TokenRecord {
    /// Whether the token may be used now by this node.
    #[must_use]
    pub fn admits(&self, node: &NodeId, now: Timestamp) -> bool {
        self.role == TokenRole::Enforcer
            && now < self.expires
            && self.node.as_ref().is_none_or(|bound| bound == node)
    }
    /// Whether the token may be used now by a scanner.
    #[must_use]
    pub fn admits_scanner(&self, now: Timestamp) -> bool {
        self.role == TokenRole::Scanner && now < self.expires
    }
    /// Whether its first use is its last.
    #[must_use]
    pub fn is_single_use(&self) -> bool {
        self.node.is_none() && self.role == TokenRole::Enforcer
    }
}

/// A new token for the cluster of this authority.
///
/// # Errors
/// [`PkiError::Entropy`].
pub fn generate(authority: [u8; 32]) -> Result<SecretString, PkiError> {
    let mut random = Zeroizing::new([0_u8; 32]);
    getrandom::fill(random.as_mut()).map_err(|error| PkiError::Entropy(error.to_string()))?;
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_ref()));
    Ok(SecretString::from(format!("{}.{}", secret.as_str(), hex(&authority))))
}

/// The hash that the store keeps a token under: SHA-256 of its random part, 64 hex digits.
///
/// # Errors
/// [`PkiError::Token`] for a text that is no token.
pub fn hash(token: &SecretString) -> Result<String, PkiError> {
    let (random, _) = split(token.expose_secret())?;
    Ok(hex(&sha2::Sha256::digest(random.as_bytes())))
}

/// The fingerprint of the authority that a token names.
///
/// # Errors
/// [`PkiError::Token`] for a text that is no token.
pub fn authority(token: &SecretString) -> Result<[u8; 32], PkiError> {
    split(token.expose_secret()).map(|(_, authority)| authority)
}

fn split(token: &str) -> Result<(&str, [u8; 32]), PkiError> {
    let (random, digits) = token.trim().split_once('.').ok_or(PkiError::Token)?;
    if random.len() != 43 || digits.len() != 64 {
        return Err(PkiError::Token);
    }
    let mut authority = [0_u8; 32];
    let mut characters = digits.chars();
    for byte in &mut authority {
        let mut nibble = || characters.next().and_then(|digit| digit.to_digit(16)).ok_or(PkiError::Token);
        let (high, low) = (nibble()?, nibble()?);
        *byte = u8::try_from(high * 16 + low).map_err(|_too_big| PkiError::Token)?;
    }
    Ok((random, authority))
}

fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)).collect()
}
