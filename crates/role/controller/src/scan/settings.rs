//! What is scanned without anybody's asking, and what is accepted: in the store, and here as it is now.

use nv_store::{Outcome, Store, StoreError, Transaction};
use nv_vulnerability::{Acceptance, Accepted};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Scans;

/// Key of [`AutoScan`].
const AUTO: &str = "scan/auto";
/// Key of the list of [`Accepted`], the one vulnerability profile that there is.
const PROFILE: &str = "scan/profile/default";
/// The first number of an entry, as the contract has it.
const FIRST_ENTRY: u32 = 1000;

/// What is scanned when it starts. `ScanConfig` of the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AutoScan {
    /// Containers.
    pub workloads: bool,
    /// Nodes.
    pub hosts: bool,
}

/// Both, as they are now.
#[derive(Debug, Default)]
pub struct ScanSettings {
    /// What is scanned when it starts.
    pub auto: AutoScan,
    /// Entries of the vulnerability profile, in order.
    pub accepted: Vec<Accepted>,
    /// The same, to be asked.
    pub acceptance: Acceptance,
    /// Grows with every change.
    pub revision: u64,
}

/// Why settings are not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanSettingsError {
    /// An entry of the profile that would accept everything or nothing, or too many.
    #[error(transparent)]
    Entry(#[from] nv_vulnerability::AcceptanceError),
    /// There is no such entry.
    #[error("the vulnerability profile has no entry {id}")]
    NoEntry {
        /// Its number.
        id: u32,
    },
    /// There is one for the same already.
    #[error("the vulnerability profile has an entry for {name} already")]
    Duplicate {
        /// The vulnerability.
        name: String,
    },
    /// Somebody else changed it at the same time.
    #[error("somebody else changed it at the same time; look at it and try again")]
    Conflict,
    /// The store.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// It cannot be written as JSON.
    #[error("it cannot be written")]
    Json(#[from] serde_json::Error),
}

impl Scans {
    /// What is scanned without anybody's asking, and what is accepted.
    #[must_use]
    pub fn settings(&self) -> std::sync::Arc<ScanSettings> {
        self.inner.settings.load_full()
    }

    /// Reads both from the store.
    pub(crate) async fn load_settings(&self, store: &dyn Store) -> Result<(), ScanSettingsError> {
        let auto = match store.get(AUTO).await? {
            Some(entry) => serde_json::from_slice(&entry.value)?,
            None => AutoScan::default(),
        };
        let accepted = match store.get(PROFILE).await? {
            Some(entry) => serde_json::from_slice(&entry.value)?,
            None => Vec::new(),
        };
        self.apply(auto, accepted)
    }

    fn apply(&self, auto: AutoScan, accepted: Vec<Accepted>) -> Result<(), ScanSettingsError> {
        let acceptance = Acceptance::new(accepted.clone())?;
        let revision = self.settings().revision.wrapping_add(1);
        let settings = ScanSettings { auto, accepted, acceptance, revision };
        self.inner.settings.store(std::sync::Arc::new(settings));
        self.changed();
        Ok(())
    }

    /// Follows what other controllers change, until `shutdown`.
    pub(crate) async fn follow_settings(self, store: std::sync::Arc<dyn Store>, shutdown: CancellationToken) {
        use futures::StreamExt as _;
        loop {
            let followed = async {
                let revision = store.revision().await?;
                self.load_settings(store.as_ref()).await?;
                let mut commits = store.watch("scan/", revision).await?;
                while let Some(batch) = commits.next().await {
                    batch?;
                    self.load_settings(store.as_ref()).await?;
                }
                Ok::<_, ScanSettingsError>(())
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                outcome = followed => if let Err(error) = outcome {
                    tracing::warn!(%error, "the settings of scans cannot be followed");
                }
            }
            tokio::time::sleep(super::HOUSEKEEPING).await;
        }
    }

    /// Changes what is scanned when it starts; durable when this returns.
    ///
    /// # Errors
    /// [`ScanSettingsError`]; nothing was changed then.
    pub async fn set_auto_scan(&self, auto: AutoScan) -> Result<(), ScanSettingsError> {
        let value = serde_json::to_vec(&auto)?;
        self.inner.store.commit(Transaction::new().put(AUTO, value)).await?;
        self.apply(auto, self.settings().accepted.clone())
    }

    /// Replaces the entries of the vulnerability profile by what `change` makes of them; durable when this returns. An
    /// entry without a number gets one.
    ///
    /// # Errors
    /// [`ScanSettingsError`]; nothing was changed then.
    pub async fn change_profile(
        &self,
        change: impl FnOnce(&mut Vec<Accepted>) -> Result<(), ScanSettingsError> + Send,
    ) -> Result<(), ScanSettingsError> {
        let present = self.inner.store.get(PROFILE).await?;
        let mut entries: Vec<Accepted> = match &present {
            Some(entry) => serde_json::from_slice(&entry.value)?,
            None => Vec::new(),
        };
        change(&mut entries)?;
        let mut last = entries.iter().map(|entry| entry.id).max().unwrap_or(0).max(FIRST_ENTRY - 1);
        for entry in entries.iter_mut().filter(|entry| entry.id == 0) {
            last = last.saturating_add(1);
            entry.id = last;
        }
        Acceptance::new(entries.clone())?;
        let value = serde_json::to_vec(&entries)?;
        let unchanged = match &present {
            Some(entry) => Transaction::new().expect_modified(PROFILE, entry.modified),
            None => Transaction::new().expect_absent(PROFILE),
        };
        match self.inner.store.commit(unchanged.put(PROFILE, value)).await? {
            Outcome::Committed(_) => self.apply(self.settings().auto, entries),
            Outcome::Conflict { .. } => Err(ScanSettingsError::Conflict),
        }
    }
}
