//! Registries that are scanned, and whose signatures count.
//!
//! ```text
//! REST → store (registry/, signature/) ─ watch ─► Book
//! somebody asks, a schedule ─► look: catalogue → tags → manifests → images ─► a scan for each new one
//! ```
//!
//! The controller that leads looks after the schedules. What a registry has is kept in a file beside the reports, not in
//! the store: it can be asked for again.

mod book;
mod look;
mod reach;
mod schedule;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nv_model::registry::{ListedImage, RegistryConfig};
use nv_model::scan::{
    RegistryAccess, RegistryImage, ScanPriority, ScanRequest, ScanSource, ScanState, ScanSubject,
};
use nv_model::signature::RootOfTrust;
use nv_model::time::Timestamp;
use nv_registry::RegistryError;
use nv_store::Store;
use nv_telemetry::Clock;
use tokio_util::sync::CancellationToken;

pub use book::{Book, BookError, Held};
pub use look::{kind_options, try_registry};
pub use reach::{Reach, check_authorities};

use crate::scan::Scans;

/// Registries and roots of trust; cheap to clone.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    book: book::Shelf,
    scans: Scans,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    state: Mutex<BTreeMap<String, Seen>>,
    shutdown: CancellationToken,
}

/// What is known of a registry.
#[derive(Clone, Debug)]
struct Seen {
    images: Arc<[ListedImage]>,
    /// A look at it is under way; cancelling ends it.
    looking: Option<CancellationToken>,
    started: Option<Timestamp>,
    error: String,
    detail: String,
}

impl Default for Seen {
    fn default() -> Self {
        let images = Arc::from([]);
        Self { images, looking: None, started: None, error: String::new(), detail: String::new() }
    }
}

/// Where a registry's scans are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryStatus {
    /// It is looked at, or scans of its images wait or run.
    pub scanning: bool,
    /// When the last look began.
    pub started: Option<Timestamp>,
    /// Why the last look failed; empty when it did not.
    pub error: String,
    /// What of it could not be read, a line each.
    pub detail: String,
    /// Images with a report.
    pub scanned: usize,
    /// Scans that wait.
    pub scheduled: usize,
    /// Scans that run.
    pub running: usize,
    /// Images whose last scan failed.
    pub failed: usize,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").finish_non_exhaustive()
    }
}

impl Registries {
    /// Reads what is stored, and what was seen of the registries.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        scans: Scans,
        clock: Arc<dyn Clock>,
        folder: PathBuf,
        shutdown: CancellationToken,
    ) -> Result<Self, nv_store::StoreError> {
        let book = book::Shelf::open(store).await?;
        let mut state = BTreeMap::new();
        for name in book.load().registries.keys() {
            let images = Arc::from(look::remembered(&folder, name));
            state.insert(name.clone(), Seen { images, ..Seen::default() });
        }
        let state = Mutex::new(state);
        Ok(Self { inner: Arc::new(Inner { book, scans, clock, folder, state, shutdown }) })
    }

    /// A lock whose holder panicked still guards whole values.
    fn state(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is configured now.
    #[must_use]
    pub fn book(&self) -> Arc<Book> {
        self.inner.book.load()
    }

    /// Stores a registry that is based on the revision `base`; `None` for a new one.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn put_registry(
        &self,
        config: &RegistryConfig,
        base: Option<nv_store::Revision>,
    ) -> Result<(), BookError> {
        self.inner.book.put(&book::registry_key(&config.name), config, base).await
    }

    /// Takes a registry away, with its scans and reports.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn delete_registry(&self, held: &Held<RegistryConfig>) -> Result<(), BookError> {
        let name = &held.value.name;
        self.inner.book.delete(&book::registry_key(name), held.modified).await?;
        self.stop(name);
        let gone = self.state().remove(name).unwrap_or_default();
        for image in gone.images.iter() {
            self.forget(name, &image.id);
        }
        look::forget(&self.inner.folder, name);
        Ok(())
    }

    /// Stores a root of trust with its verifiers.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn put_root(
        &self,
        root: &RootOfTrust,
        base: Option<nv_store::Revision>,
    ) -> Result<(), BookError> {
        self.inner.book.put(&book::root_key(&root.name), root, base).await
    }

    /// Takes a root of trust away.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn delete_root(&self, held: &Held<RootOfTrust>) -> Result<(), BookError> {
        self.inner.book.delete(&book::root_key(&held.value.name), held.modified).await
    }

    /// Images that a registry had when it was last looked at.
    #[must_use]
    pub fn images(&self, name: &str) -> Arc<[ListedImage]> {
        self.state().get(name).map_or_else(|| Arc::from([]), |seen| Arc::clone(&seen.images))
    }

    /// Where a registry's scans are.
    #[must_use]
    pub fn status(&self, name: &str) -> RegistryStatus {
        let seen = self.state().get(name).cloned().unwrap_or_default();
        let mut status = RegistryStatus {
            scanning: seen.looking.is_some(),
            started: seen.started,
            error: seen.error,
            detail: seen.detail,
            ..RegistryStatus::default()
        };
        let ids: HashSet<&str> = seen.images.iter().map(|image| image.id.as_str()).collect();
        for id in ids {
            match self.inner.scans.status(&subject(name, id)).state {
                ScanState::Idle => {}
                ScanState::Scheduled => status.scheduled += 1,
                ScanState::Scanning => status.running += 1,
                ScanState::Finished => status.scanned += 1,
                ScanState::Failed => status.failed += 1,
            }
        }
        status.scanning |= status.scheduled + status.running > 0;
        status
    }

    /// Gives up what is under way of a registry.
    pub fn stop(&self, name: &str) {
        if let Some(looking) = self.state().get_mut(name).and_then(|seen| seen.looking.take()) {
            looking.cancel();
        }
        self.inner.scans.cancel(
            |subject| matches!(subject, ScanSubject::RegistryImage { registry, .. } if registry == name),
        );
    }

    /// Looks at a registry now, in the background: every image that it has is scanned, with `all` also those that have a
    /// report. A look that is under way goes on instead.
    pub fn start(&self, name: &str, all: bool) {
        let Some(held) = self.book().registries.get(name).cloned() else { return };
        let token = self.inner.shutdown.child_token();
        {
            let mut state = self.state();
            let seen = state.entry(name.to_owned()).or_default();
            if seen.looking.is_some() {
                return;
            }
            seen.looking = Some(token.clone());
            seen.started = Some(self.inner.clock.now());
        }
        let registries = self.clone();
        tokio::spawn(async move {
            let (config, system) = (&held.value, registries.inner.scans.config());
            let reach = Reach::of(&system, &config.url, config.ignore_proxy);
            let outcome = tokio::select! {
                () = token.cancelled() => None,
                outcome = look::look(config, reach, registries.inner.clock.now()) => Some(outcome),
            };
            registries.seen(&held.value, &token, outcome, all);
        });
    }

    /// Takes in what a look has found.
    fn seen(
        &self,
        config: &RegistryConfig,
        token: &CancellationToken,
        outcome: Option<Result<look::Looked, RegistryError>>,
        all: bool,
    ) {
        let name = &config.name;
        let mut gone = Vec::new();
        let mut images = None;
        {
            let mut state = self.state();
            let Some(seen) = state.get_mut(name).filter(|_| !token.is_cancelled()) else { return };
            seen.looking = None;
            match outcome {
                None => {}
                Some(Err(error)) => {
                    let why = nv_telemetry::chain(&error);
                    tracing::warn!(registry = name, error = why, "a registry could not be looked at");
                    seen.error = why;
                    seen.detail.clear();
                }
                Some(Ok(looked)) => {
                    let now: HashSet<&str> = looked.images.iter().map(|image| image.id.as_str()).collect();
                    let before = seen.images.iter().map(|image| image.id.clone());
                    gone = before.filter(|id| !now.contains(id.as_str())).collect();
                    seen.error.clear();
                    seen.detail = looked.faults.join("\n");
                    seen.images = Arc::from(looked.images);
                    images = Some((Arc::clone(&seen.images), looked.access));
                }
            }
        }
        for id in gone {
            self.forget(name, &id);
        }
        let Some((images, access)) = images else { return };
        look::remember(&self.inner.folder, name, &images);
        for image in images.iter() {
            self.scan(config, image, &access, all);
        }
    }

    fn forget(&self, registry: &str, id: &str) {
        if let Err(error) = self.inner.scans.forget(&subject(registry, id)) {
            tracing::warn!(%error, registry, "a report could not be forgotten");
        }
    }

    fn scan(&self, config: &RegistryConfig, image: &ListedImage, access: &RegistryAccess, all: bool) {
        let subject = subject(&config.name, &image.id);
        let known = self.inner.scans.status(&subject).state;
        let due = match known {
            ScanState::Idle | ScanState::Failed => true,
            ScanState::Finished => all,
            ScanState::Scheduled | ScanState::Scanning => false,
        };
        if !due {
            return;
        }
        let source = RegistryImage {
            access: RegistryAccess { url: image.domain.clone(), ..access.clone() },
            repository: image.repository.clone(),
            reference: image.digest.clone(),
            layers: config.scan_layers,
            base_image: String::new(),
            roots_of_trust: self.roots(),
        };
        let request = ScanRequest {
            subject,
            source: ScanSource::Image(Box::new(source)),
            priority: ScanPriority::Registry,
        };
        if let Err(error) = self.inner.scans.enqueue(request) {
            tracing::warn!(%error, registry = config.name, "an image is not scanned");
        }
    }

    /// Roots of trust that have somebody whose signature counts.
    #[must_use]
    pub fn roots(&self) -> Vec<RootOfTrust> {
        let book = self.book();
        let roots = book.roots.values().map(|held| held.value.clone());
        roots.filter(|root| !root.verifiers.is_empty()).collect()
    }
}

/// Whose report an image of a registry has.
#[must_use]
pub fn subject(registry: &str, image: &str) -> ScanSubject {
    ScanSubject::RegistryImage { registry: registry.to_owned(), image: image.to_owned() }
}
