//! A store whose secrets are sealed before they reach a disk, and opened when they are read.
//!
//! What is secret is told by the key's prefix and the field's name; fields are strings of a JSON value, at any depth. All
//! else stays readable, so that a store or a backup whose keys are lost loses its passwords and tokens alone: they read as
//! empty, and have to be given anew. A sealed field is `sealed:1:KEY:BASE64`, bound to the store's key and the field's name,
//! so that it can be opened nowhere else.

mod keys;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

pub use keys::{SealError, SealingKeys};

use crate::{
    Change, Entry, LeaseId, Listing, Operation, Outcome, Revision, SnapshotSummary, Store, StoreError,
    Transaction, WatchBatch, WatchStream,
};

/// What a sealed field begins with.
const SEALED: &str = "sealed:1:";

/// Fields that are secret, in the values of some keys.
#[derive(Clone, Copy, Debug)]
pub struct SecretFields {
    /// What the keys begin with.
    pub prefix: &'static str,
    /// Names of the fields, at any depth.
    pub names: &'static [&'static str],
}

/// A store that seals secrets. Snapshots hold them as they are on disk, and a restore takes them so.
#[derive(Clone)]
pub struct SealedStore {
    inner: Arc<dyn Store>,
    keys: Arc<SealingKeys>,
    secrets: &'static [SecretFields],
}

impl std::fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedStore").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl SealedStore {
    /// On top of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, keys: SealingKeys, secrets: &'static [SecretFields]) -> Self {
        Self { inner, keys: Arc::new(keys), secrets }
    }

    /// Seals what lies in the store in the clear, or sealed with another key than the first. Values that somebody else
    /// changes meanwhile are left: they were sealed then. The history, which may have them in the clear, is forgotten.
    /// Returns how many values were sealed anew.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn seal_all(&self) -> Result<usize, StoreError> {
        let mut sealed = 0_usize;
        for fields in self.secrets {
            for entry in self.inner.list(fields.prefix).await?.entries {
                let key = entry.key.as_str();
                let value = self.seal_fields(key, &entry.value, |name, text| match parts(text) {
                    Some((id, _)) if id == self.keys.current() => None,
                    // What cannot be opened may be by a key that somebody brings back.
                    Some((id, bytes)) => self.keys.open_sealed(id, &bytes, &place(key, name)),
                    None => Some(text.to_owned()),
                })?;
                let Some(value) = value else { continue };
                let transaction = Transaction::new().expect_modified(key, entry.modified).put(key, value);
                if self.inner.commit(transaction).await?.committed().is_some() {
                    sealed = sealed.saturating_add(1);
                }
            }
        }
        if sealed > 0 {
            self.inner.compact(self.inner.revision().await?).await?;
        }
        Ok(sealed)
    }

    fn names(&self, key: &str) -> Option<&'static [&'static str]> {
        self.secrets.iter().find(|fields| key.starts_with(fields.prefix)).map(|fields| fields.names)
    }

    /// A value with its secrets sealed, each as `plain` gives it; none where there are none.
    fn seal_fields(
        &self,
        key: &str,
        value: &Bytes,
        plain: impl Fn(&str, &str) -> Option<String>,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(names) = self.names(key) else { return Ok(None) };
        let mut failed = false;
        let sealed = turn(value, names, |name, text| {
            let plain = plain(name, text).filter(|plain| !plain.is_empty())?;
            let sealed = self.keys.seal(&plain, &place(key, name)).ok();
            failed |= sealed.is_none();
            Some(format!("{SEALED}{}:{}", self.keys.current(), BASE64.encode(sealed?)))
        });
        if failed { Err(StoreError::Seal { key: key.to_owned() }) } else { Ok(sealed) }
    }

    /// A value as it came from the disk, for whoever reads.
    fn open(&self, key: &str, value: Bytes) -> Bytes {
        let Some(names) = self.names(key) else { return value };
        let opened = turn(&value, names, |name, text| {
            let (id, bytes) = parts(text)?;
            Some(self.keys.open_sealed(id, &bytes, &place(key, name)).unwrap_or_else(|| {
                tracing::error!(key, field = name, sealed_with = id, "a secret cannot be opened: no key of the file fits; give it anew, or the file its key back");
                String::new()
            }))
        });
        opened.unwrap_or(value)
    }

    fn open_entry(&self, mut entry: Entry) -> Entry {
        entry.value = self.open(&entry.key, entry.value);
        entry
    }

    fn open_batch(&self, mut batch: WatchBatch) -> WatchBatch {
        for change in &mut batch.changes {
            if let Change::Put(entry) = change {
                entry.value = self.open(&entry.key, std::mem::take(&mut entry.value));
            }
        }
        batch
    }
}

/// Key id and bytes of a sealed field.
fn parts(text: &str) -> Option<(&str, Vec<u8>)> {
    let (id, sealed) = text.strip_prefix(SEALED)?.split_once(':')?;
    Some((id, BASE64.decode(sealed).ok()?))
}

/// Where a sealed field belongs.
fn place(key: &str, name: &str) -> Vec<u8> {
    [key.as_bytes(), b"\0", name.as_bytes()].concat()
}

/// Puts what `each` gives for name and text in the place of every field of these names; none where it gave nothing, or the
/// value is no JSON.
fn turn(value: &Bytes, names: &[&str], mut each: impl FnMut(&str, &str) -> Option<String>) -> Option<Bytes> {
    let mut document: Value = serde_json::from_slice(value).ok()?;
    let mut changed = false;
    let mut open = vec![&mut document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if names.contains(&name.as_str()) => {
                            if let Some(other) = each(name, text) {
                                *text = other;
                                changed = true;
                            }
                        }
                        other => open.push(other),
                    }
                }
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    if !changed {
        return None;
    }
    serde_json::to_vec(&document).ok().map(Bytes::from)
}

#[async_trait]
impl Store for SealedStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.inner.get(key).await?.map(|entry| self.open_entry(entry)))
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let mut listing = self.inner.list(prefix).await?;
        listing.entries = listing.entries.into_iter().map(|entry| self.open_entry(entry)).collect();
        Ok(listing)
    }

    async fn commit(&self, mut transaction: Transaction) -> Result<Outcome, StoreError> {
        for operation in &mut transaction.operations {
            if let Operation::Put { key, value, .. } = operation
                && let Some(sealed) = self.seal_fields(key, value, |_name, text| Some(text.to_owned()))?
            {
                *value = sealed;
            }
        }
        self.inner.commit(transaction).await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, StoreError> {
        let sealed = self.inner.watch(prefix, after).await?;
        let opener = self.clone();
        Ok(Box::pin(sealed.map(move |batch| batch.map(|batch| opener.open_batch(batch)))))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }

    async fn snapshot(
        &self,
        into: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<SnapshotSummary, StoreError> {
        self.inner.snapshot(into).await
    }

    async fn restore(&self, from: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Revision, StoreError> {
        self.inner.restore(from).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }
}
