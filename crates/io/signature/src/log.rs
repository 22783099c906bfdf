//! Entries of a transparency log (Rekor), proved by the log's signature alone: the promise that an entry will be in it,
//! or the way from the entry to a signed state of the log (RFC 6962 §2.1.1).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::error::SignatureError;
use crate::key::PublicKey;

/// Deepest tree: a log has fewer than 2⁶³ entries.
const MAX_HASHES: usize = 63;

/// An entry, and what proves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// What was put into the log.
    pub(crate) body: Vec<u8>,
    /// When, in seconds since 1970; 0 where the log does not say.
    pub(crate) time: i64,
    /// Which log.
    pub(crate) log: Vec<u8>,
    /// The place among all entries.
    pub(crate) index: i64,
    /// The log's signature over all of this.
    pub(crate) promise: Option<Vec<u8>>,
    /// The way to a signed state.
    pub(crate) proof: Option<Proof>,
}

/// The way from an entry to a state of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) index: u64,
    pub(crate) size: u64,
    pub(crate) hashes: Vec<Vec<u8>>,
    /// The state, as a signed note.
    pub(crate) checkpoint: String,
}

/// What a promise is signed over: JSON in RFC 8785's order.
#[derive(Serialize)]
struct Promised<'a> {
    body: &'a str,
    #[serde(rename = "integratedTime")]
    time: i64,
    #[serde(rename = "logID")]
    log: String,
    #[serde(rename = "logIndex")]
    index: i64,
}

impl LogEntry {
    /// Checks all that it brings, and at least one proof. The time, when the log vouches for it.
    pub(crate) fn proved(&self, keys: &[PublicKey]) -> Result<Option<i64>, SignatureError> {
        if self.promise.is_none() && self.proof.is_none() {
            return Err(SignatureError::NoLog("its entry has neither a promise nor a proof"));
        }
        let mut time = None;
        if let Some(promise) = &self.promise {
            let body = BASE64_STANDARD.encode(&self.body);
            let log = self.log.iter().map(|byte| format!("{byte:02x}")).collect();
            let promised = Promised { body: &body, time: self.time, log, index: self.index };
            let bytes = serde_json::to_vec(&promised)
                .map_err(|_no_json| SignatureError::NoLog("its entry cannot be written"))?;
            let key = keys.iter().find(|key| key.id() == *self.log);
            let key = key.ok_or(SignatureError::NoLog("its entry is of another log"))?;
            if !key.signed(&bytes, promise) {
                return Err(SignatureError::NoLog(
                    "the promise is not of this log, or the entry was changed",
                ));
            }
            time = Some(self.time);
        }
        if let Some(proof) = &self.proof {
            proof.holds(&self.body, keys)?;
        }
        Ok(time)
    }
}

impl Proof {
    fn holds(&self, body: &[u8], keys: &[PublicKey]) -> Result<(), SignatureError> {
        let wrong = |why| SignatureError::NoLog(why);
        let root = self.root(body).ok_or(wrong("the proof is not one of its place"))?;
        // https://github.com/C2SP/C2SP: text, an empty line, then lines of signatures.
        let (text, signatures) =
            self.checkpoint.split_once("\n\n").ok_or(wrong("the log's state is not signed"))?;
        let mut lines = text.lines().skip(1);
        let size: Option<u64> = lines.next().and_then(|line| line.parse().ok());
        let hash = lines.next().and_then(|line| BASE64_STANDARD.decode(line).ok());
        if size != Some(self.size) || hash.as_deref() != Some(&root) {
            return Err(wrong("the proof leads to another state than the log's"));
        }
        let signed = format!("{text}\n");
        let by_log = signatures.lines().filter_map(|line| line.strip_prefix("\u{2014} ")).any(|line| {
            let bytes = line.rsplit(' ').next().and_then(|last| BASE64_STANDARD.decode(last).ok());
            // Four bytes say which key: the few that there are are all tried.
            let signature = bytes.as_deref().and_then(|bytes| bytes.get(4..));
            signature.is_some_and(|one| keys.iter().any(|key| key.signed(signed.as_bytes(), one)))
        });
        if by_log { Ok(()) } else { Err(wrong("the log's state is not signed by this root's log")) }
    }

    /// The hash of the tree that the proof leads to (RFC 9162 §2.1.3.2).
    fn root(&self, body: &[u8]) -> Option<[u8; 32]> {
        if self.index >= self.size || self.hashes.len() > MAX_HASHES {
            return None;
        }
        let (mut place, mut last) = (self.index, self.size.checked_sub(1)?);
        let mut hash: [u8; 32] = Sha256::new_with_prefix([0]).chain_update(body).finalize().into();
        for other in &self.hashes {
            if last == 0 || other.len() != 32 {
                return None;
            }
            let inner = Sha256::new_with_prefix([1]);
            if place & 1 == 1 || place == last {
                hash = inner.chain_update(other).chain_update(hash).finalize().into();
                while place & 1 == 0 && place != 0 {
                    (place, last) = (place >> 1, last >> 1);
                }
            } else {
                hash = inner.chain_update(hash).chain_update(other).finalize().into();
            }
            (place, last) = (place >> 1, last >> 1);
        }
        (last == 0).then_some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tree(leaves: &[Vec<u8>]) -> [u8; 32] {
        match leaves {
            [one] => Sha256::new_with_prefix([0]).chain_update(one).finalize().into(),
            many => {
                let (left, right) = many.split_at(many.len().next_power_of_two() / 2);
                Sha256::new_with_prefix([1])
                    .chain_update(tree(left))
                    .chain_update(tree(right))
                    .finalize()
                    .into()
            }
        }
    }

    fn path(leaves: &[Vec<u8>], place: usize) -> Vec<Vec<u8>> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut inner, other) = if place < half {
            (path(left, place), tree(right))
        } else {
            (path(right, place - half), tree(left))
        };
        inner.push(other.to_vec());
        inner
    }

    proptest! {
        #[test]
        fn a_proof_leads_to_the_tree_from_its_own_entry_alone(count in 1_usize..40, at in any::<prop::sample::Index>()) {
            let leaves: Vec<Vec<u8>> = (0..count).map(|one| vec![u8::try_from(one).unwrap()]).collect();
            let place = at.index(count);
            let proof = Proof {
                index: place as u64, size: count as u64, hashes: path(&leaves, place), checkpoint: String::new(),
            };
            prop_assert_eq!(proof.root(&leaves[place]), Some(tree(&leaves)));
            prop_assert_ne!(proof.root(b"another"), Some(tree(&leaves)));
            let longer = Proof { hashes: [proof.hashes.clone(), vec![vec![0; 32]]].concat(), ..proof };
            prop_assert_ne!(longer.root(&leaves[place]), Some(tree(&leaves)));
        }
    }
}
