//! What is configured: a copy of the store in memory, kept up to date by its watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use futures::stream::select_all;
use nv_model::registry::RegistryConfig;
use nv_model::signature::RootOfTrust;
use nv_store::{Change, Entry, Outcome, Revision, Store, StoreError, Transaction, keep_following};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::keys;

/// An object and the revision of the store that it was read at.
#[derive(Debug)]
pub struct Held<T> {
    /// The object.
    pub value: T,
    /// Its revision.
    pub modified: Revision,
}

/// Everything that is configured.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Registries by name.
    pub registries: BTreeMap<String, Arc<Held<RegistryConfig>>>,
    /// Roots of trust by name.
    pub roots: BTreeMap<String, Arc<Held<RootOfTrust>>>,
}

/// Why something is not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BookError {
    /// There is one of this name already.
    #[error("an object of this name exists already")]
    Exists,
    /// Somebody else changed it meanwhile.
    #[error("the object was changed by someone else meanwhile; read it again and repeat")]
    Conflict,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// It cannot be written as JSON.
    #[error("it could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

pub(super) fn registry_key(name: &str) -> String {
    format!("{}{name}", keys::REGISTRY)
}

pub(super) fn root_key(name: &str) -> String {
    format!("{}{name}", keys::ROOT_OF_TRUST)
}

fn take<T: DeserializeOwned>(shelf: &mut BTreeMap<String, Arc<Held<T>>>, name: &str, entry: Option<&Entry>) {
    let Some(entry) = entry else {
        shelf.remove(name);
        return;
    };
    match serde_json::from_slice(&entry.value) {
        Ok(value) => {
            let held = Held { value, modified: entry.modified };
            if shelf.get(name).is_none_or(|old| old.modified <= held.modified) {
                shelf.insert(name.to_owned(), Arc::new(held));
            }
        }
        Err(error) => {
            // The parser's words may quote a secret: where it stopped is enough.
            tracing::error!(
                key = entry.key,
                line = error.line(),
                "a stored value cannot be read; it is left out"
            );
            shelf.remove(name);
        }
    }
}

impl Book {
    fn apply(&mut self, key: &str, entry: Option<&Entry>) {
        if let Some(name) = key.strip_prefix(keys::REGISTRY) {
            take(&mut self.registries, name, entry);
        } else if let Some(name) = key.strip_prefix(keys::ROOT_OF_TRUST) {
            take(&mut self.roots, name, entry);
        }
    }
}

/// The store, and the copy of it.
pub(super) struct Shelf {
    store: Arc<dyn Store>,
    book: ArcSwap<Book>,
}

impl Shelf {
    pub(super) async fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let shelf = Self { store, book: ArcSwap::default() };
        shelf.read().await?;
        Ok(shelf)
    }

    pub(super) fn load(&self) -> Arc<Book> {
        self.book.load_full()
    }

    async fn read(&self) -> Result<Revision, StoreError> {
        let mut book = Book::default();
        let mut revision = None::<Revision>;
        for prefix in [keys::REGISTRY, keys::ROOT_OF_TRUST] {
            let listing = self.store.list(prefix).await?;
            for entry in &listing.entries {
                book.apply(&entry.key, Some(entry));
            }
            revision = Some(revision.map_or(listing.revision, |held| held.min(listing.revision)));
        }
        self.book.store(Arc::new(book));
        Ok(revision.unwrap_or_default())
    }

    fn change(&self, change: impl Fn(&mut Book)) {
        self.book.rcu(|book| {
            let mut next = Book::clone(book);
            change(&mut next);
            next
        });
    }

    pub(super) async fn put<T: Serialize>(
        &self,
        key: &str,
        object: &T,
        base: Option<Revision>,
    ) -> Result<(), BookError> {
        let value = serde_json::to_vec(object)?;
        let transaction = match base {
            Some(revision) => Transaction::new().expect_modified(key, revision),
            None => Transaction::new().expect_absent(key),
        };
        match self.store.commit(transaction.put(key, value.clone())).await? {
            Outcome::Committed(revision) => {
                let entry = Entry {
                    key: key.to_owned(),
                    value: value.into(),
                    created: revision,
                    modified: revision,
                    lease: None,
                };
                self.change(|book| book.apply(key, Some(&entry)));
                Ok(())
            }
            Outcome::Conflict { .. } if base.is_none() => Err(BookError::Exists),
            Outcome::Conflict { .. } => Err(BookError::Conflict),
        }
    }

    pub(super) async fn delete(&self, key: &str, base: Revision) -> Result<(), BookError> {
        let transaction = Transaction::new().expect_modified(key, base).delete(key);
        match self.store.commit(transaction).await? {
            Outcome::Committed(_) => {
                self.change(|book| book.apply(key, None));
                Ok(())
            }
            Outcome::Conflict { .. } => Err(BookError::Conflict),
        }
    }

    /// Takes in what others write, until `shutdown`.
    pub(super) async fn follow(&self, shutdown: CancellationToken) {
        keep_following("registries", shutdown.cancelled(), || self.follow_once()).await;
    }

    async fn follow_once(&self) -> Result<(), StoreError> {
        let after = self.read().await?;
        let mut watches = Vec::new();
        for prefix in [keys::REGISTRY, keys::ROOT_OF_TRUST] {
            watches.push(self.store.watch(prefix, after).await?);
        }
        let mut watches = select_all(watches);
        while let Some(batch) = watches.next().await {
            let batch = batch?;
            self.change(|book| {
                for change in &batch.changes {
                    match change {
                        Change::Put(entry) => book.apply(&entry.key, Some(entry)),
                        Change::Delete { key } => book.apply(key, None),
                    }
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nv_model::system::{AzureRepository, GithubRepository, Proxy, RemoteRepository, SystemConfig};
    use nv_store::{RedbStore, SealedStore, SealingKeys};

    use super::*;

    fn hush() -> String {
        "hunter2".to_owned()
    }

    #[tokio::test]
    async fn no_secret_of_a_registry_or_of_the_system_lies_in_the_clear() {
        let folder = tempfile::tempdir().unwrap();
        let raw: Arc<dyn Store> = Arc::new(RedbStore::open(folder.path().join("store")).unwrap());
        let sealing = SealingKeys::open(&folder.path().join("secrets.key")).unwrap();
        let store: Arc<dyn Store> = Arc::new(SealedStore::new(Arc::clone(&raw), sealing, keys::SECRETS));
        let shelf = Shelf::open(Arc::clone(&store)).await.unwrap();
        let registry = RegistryConfig {
            name: "hub".to_owned(),
            username: "reader".to_owned(),
            password: hush(),
            auth_token: hush(),
            gitlab_private_token: hush(),
            aws_access_key_id: hush(),
            aws_secret_access_key: hush(),
            gcr_json_key: hush(),
            ..RegistryConfig::default()
        };
        shelf.put(&registry_key("hub"), &registry, None).await.unwrap();
        let proxy = Proxy { password: hush(), ..Proxy::default() };
        let config = SystemConfig {
            registry_http_proxy: proxy.clone(),
            registry_https_proxy: proxy,
            remote_repositories: vec![RemoteRepository {
                github_configuration: Some(GithubRepository {
                    personal_access_token: hush(),
                    ..Default::default()
                }),
                azure_devops_configuration: Some(AzureRepository {
                    personal_access_token: hush(),
                    ..Default::default()
                }),
                ..RemoteRepository::default()
            }],
            ..SystemConfig::default()
        };
        let value = serde_json::to_vec(&config).unwrap();
        store.commit(Transaction::new().put(keys::CONFIG, value)).await.unwrap();

        let on_disk = raw.list("").await.unwrap().entries;
        assert_eq!(on_disk.len(), 2);
        for entry in on_disk {
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            assert!(!text.contains("hunter2"), "{text}");
        }
        let again = Shelf::open(store).await.unwrap();
        assert!(again.load().registries.get("hub").unwrap().value == registry);
    }
}
