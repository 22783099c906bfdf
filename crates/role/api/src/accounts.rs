//! Users, roles, API keys and the password profile: a copy of the store in memory, so that a request asks no disk.
//!
//! A write goes to the store with a compare on the revision it was based on, then into the copy; what other
//! controllers write comes in by a watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use futures::stream::select_all;
use nv_identity::access::Access;
use nv_identity::api_key::ApiKey;
use nv_identity::name::{KeyName, RoleName, UserName};
use nv_identity::password::Passwords;
use nv_identity::profile::PasswordProfile;
use nv_identity::role::{Assignment, Role};
use nv_identity::user::{BootstrapError, User};
use nv_model::time::Timestamp;
use nv_store::{Change, Entry, Outcome, Revision, Store, StoreError, Transaction, keep_following};
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::error::{ApiError, Code};

/// An object and the revision of the store that it was read at.
#[derive(Debug)]
pub struct Held<T> {
    /// The object.
    pub value: T,
    /// Its revision.
    pub modified: Revision,
}

type Shelf<K, T> = BTreeMap<K, Arc<Held<T>>>;

/// All accounts at one point in time.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Users by name.
    pub users: Shelf<UserName, User>,
    /// Custom roles by name.
    pub roles: Shelf<RoleName, Role>,
    /// API keys by name.
    pub keys: Shelf<KeyName, ApiKey>,
    /// Password profiles by name.
    pub profiles: Shelf<String, PasswordProfile>,
}

const USER: &str = "user/";
const ROLE: &str = "role/";
const KEY: &str = "apikey/";
const PROFILE: &str = "pwdprofile/";

impl Book {
    /// The profile that counts.
    #[must_use]
    pub fn profile(&self) -> PasswordProfile {
        self.profiles.get(PasswordProfile::DEFAULT).map(|held| held.value.clone()).unwrap_or_default()
    }
    /// What an assignment gives now.
    #[must_use]
    pub fn access(&self, assignment: &Assignment) -> Access {
        Access::of(assignment, &self.custom_roles())
    }
    /// The custom roles by name.
    #[must_use]
    pub fn custom_roles(&self) -> BTreeMap<RoleName, Role> {
        self.roles.iter().map(|(name, held)| (name.clone(), held.value.clone())).collect()
    }

    /// Takes one entry of the store in, if it is newer than what is held. What cannot be read is left out and told.
    fn apply(&mut self, entry: &Entry) {
        fn take<K: Ord + TryFrom<String>, T: DeserializeOwned>(
            shelf: &mut Shelf<K, T>,
            name: &str,
            entry: &Entry,
        ) {
            let Ok(key) = K::try_from(name.to_owned()) else {
                tracing::error!(key = entry.key, "an account has a name that cannot be used; it is left out");
                return;
            };
            match serde_json::from_slice(&entry.value) {
                Ok(value) => {
                    let held = Held { value, modified: entry.modified };
                    if shelf.get(&key).is_none_or(|old| old.modified <= held.modified) {
                        shelf.insert(key, Arc::new(held));
                    }
                }
                Err(error) => {
                    tracing::error!(key = entry.key, %error, "an account cannot be read; it is left out");
                    shelf.remove(&key);
                }
            }
        }
        if let Some(name) = entry.key.strip_prefix(USER) {
            take(&mut self.users, name, entry);
        } else if let Some(name) = entry.key.strip_prefix(ROLE) {
            take(&mut self.roles, name, entry);
        } else if let Some(name) = entry.key.strip_prefix(KEY) {
            take(&mut self.keys, name, entry);
        } else if let Some(name) = entry.key.strip_prefix(PROFILE) {
            take(&mut self.profiles, name, entry);
        }
    }
    fn remove(&mut self, key: &str) {
        if let Some(name) = key.strip_prefix(USER) {
            self.users.remove(name);
        } else if let Some(name) = key.strip_prefix(ROLE) {
            self.roles.remove(name);
        } else if let Some(name) = key.strip_prefix(KEY) {
            self.keys.remove(name);
        } else if let Some(name) = key.strip_prefix(PROFILE) {
            self.profiles.remove(name);
        }
    }
}

/// A kind of account that the store holds.
pub trait Stored: Serialize {
    /// Its key in the store.
    fn key(&self) -> String;
}
impl Stored for User {
    fn key(&self) -> String {
        format!("{USER}{}", self.name)
    }
}
impl Stored for Role {
    fn key(&self) -> String {
        format!("{ROLE}{}", self.name)
    }
}
impl Stored for ApiKey {
    fn key(&self) -> String {
        format!("{KEY}{}", self.name)
    }
}
impl Stored for PasswordProfile {
    fn key(&self) -> String {
        format!("{PROFILE}{}", self.name)
    }
}

/// Why the accounts could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccountsError {
    /// The store did not answer or did not take a write.
    #[error("users cannot be read from or written to the store")]
    Store(#[from] StoreError),
    /// The first user could not be made.
    #[error("the first user could not be made")]
    Bootstrap(#[from] BootstrapError),
    /// A value could not be written as JSON.
    #[error("an account could not be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// The accounts.
pub struct Accounts {
    store: Arc<dyn Store>,
    book: ArcSwap<Book>,
}

/// How the store answers a write that came too late.
fn conflict() -> ApiError {
    ApiError::new(
        Code::WriteFailed,
        "the object was changed by someone else meanwhile; read it again and repeat",
    )
    .with_status(axum::http::StatusCode::CONFLICT)
}

/// A failure of the store as a refusal; the cause goes to the log.
pub(crate) fn store_failed(error: &StoreError) -> ApiError {
    tracing::error!(error = %error, "the store failed");
    ApiError::new(Code::WriteFailed, error.to_string())
}

impl Accounts {
    /// Reads all of them.
    ///
    /// # Errors
    /// [`AccountsError::Store`].
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, AccountsError> {
        let accounts = Self { store, book: ArcSwap::default() };
        accounts.load().await?;
        Ok(accounts)
    }

    /// The accounts as they are now.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        self.book.load_full()
    }

    async fn load(&self) -> Result<Revision, StoreError> {
        let mut book = Book::default();
        let mut revision = None::<Revision>;
        for prefix in [USER, ROLE, KEY, PROFILE] {
            let listing = self.store.list(prefix).await?;
            for entry in &listing.entries {
                book.apply(entry);
            }
            revision = Some(revision.map_or(listing.revision, |held| held.min(listing.revision)));
        }
        self.book.store(Arc::new(book));
        Ok(revision.unwrap_or_default())
    }

    /// Makes the first user where there is none, and gives its one-time password. As long as that password was never
    /// used, each start makes another one: whoever missed it starts again.
    ///
    /// # Errors
    /// [`AccountsError`].
    pub async fn bootstrap(
        &self,
        passwords: &Passwords,
        now: Timestamp,
    ) -> Result<Option<SecretString>, AccountsError> {
        let book = self.book();
        let held = book.users.values().find(|held| held.value.built_in);
        if !book.users.is_empty() && held.is_none_or(|held| !held.value.must_change || held.value.logins > 0)
        {
            return Ok(None);
        }
        let (user, secret) = User::bootstrap(passwords, now)?;
        let value = serde_json::to_vec(&user)?;
        let transaction = match held {
            Some(held) => Transaction::new().expect_modified(user.key(), held.modified),
            None => Transaction::new().expect_absent(user.key()),
        };
        let outcome = self.store.commit(transaction.put(user.key(), value)).await?;
        self.load().await?;
        match outcome {
            Outcome::Committed(_) => Ok(Some(secret)),
            // Another controller was faster: its password counts.
            Outcome::Conflict { .. } => Ok(None),
        }
    }

    /// Writes an object that is based on revision `base`; `None` for a new one.
    ///
    /// # Errors
    /// Code 8: 409 when it was changed meanwhile, 500 when the store failed. Code 13 when a new one exists already.
    pub async fn put<T: Stored>(&self, object: &T, base: Option<Revision>) -> Result<(), ApiError> {
        let key = object.key();
        let value =
            serde_json::to_vec(object).map_err(|error| ApiError::new(Code::Server, error.to_string()))?;
        let transaction = match base {
            Some(revision) => Transaction::new().expect_modified(key.clone(), revision),
            None => Transaction::new().expect_absent(key.clone()),
        };
        let transaction = transaction.put(key.clone(), value.clone());
        match self.store.commit(transaction).await.map_err(|error| store_failed(&error))? {
            Outcome::Committed(revision) => {
                let entry =
                    Entry { key, value: value.into(), created: revision, modified: revision, lease: None };
                self.change(|book| book.apply(&entry));
                Ok(())
            }
            Outcome::Conflict { .. } if base.is_none() => {
                Err(ApiError::new(Code::Duplicate, "an object of this name exists already"))
            }
            Outcome::Conflict { .. } => Err(conflict()),
        }
    }

    /// Deletes an object that is based on revision `base`.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn delete<T: Stored>(&self, object: &T, base: Revision) -> Result<(), ApiError> {
        let key = object.key();
        let transaction = Transaction::new().expect_modified(key.clone(), base).delete(key.clone());
        match self.store.commit(transaction).await.map_err(|error| store_failed(&error))? {
            Outcome::Committed(_) => {
                self.change(|book| book.remove(&key));
                Ok(())
            }
            Outcome::Conflict { .. } => Err(conflict()),
        }
    }

    fn change(&self, change: impl Fn(&mut Book)) {
        self.book.rcu(|book| {
            let mut next = Book::clone(book);
            change(&mut next);
            next
        });
    }

    /// Takes in what others write, until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        keep_following("accounts", shutdown.cancelled(), || self.follow_once()).await;
    }

    async fn follow_once(&self) -> Result<(), StoreError> {
        let after = self.load().await?;
        let mut watches = Vec::new();
        for prefix in [USER, ROLE, KEY, PROFILE] {
            watches.push(self.store.watch(prefix, after).await?);
        }
        let mut watches = select_all(watches);
        while let Some(batch) = watches.next().await {
            let batch = batch?;
            self.change(|book| {
                for change in &batch.changes {
                    match change {
                        Change::Put(entry) => book.apply(entry),
                        Change::Delete { key } => book.remove(key),
                    }
                }
            });
        }
        Ok(())
    }
}
