//! Puts a container in its place while its runtime waits for that: asked by the OCI hook or by NRI.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nv_model::name::GroupName;
use nv_runtime::Identifiers;

use crate::identity::placer::{Rows, is_known};

/// How often it is looked whether the tables are still those that the kernel judges by.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Why a container is not in its place.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{reason}")]
pub(crate) struct NotPlaced {
    /// The group whose profile it should have, as far as that was found out.
    pub(crate) group: Option<GroupName>,
    /// What is missing.
    pub(crate) reason: String,
}

impl NotPlaced {
    pub(crate) fn unknown(reason: String) -> Self {
        Self { group: None, reason }
    }
}

/// What such questions are answered with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) identifiers: Identifiers,
    pub(crate) rows: Rows,
    /// Whether the rows are still those that the kernel judges by.
    pub(crate) alive: Arc<AtomicBool>,
}

impl Desk {
    /// Puts the container of a process in its place; the group that it is judged by.
    pub(crate) async fn place_process(&self, pid: u32) -> Result<GroupName, NotPlaced> {
        let path = nv_runtime::cgroup::of_process(Path::new("/proc"), pid)
            .map_err(|error| NotPlaced::unknown(format!("process {pid}: {error}")))?
            .ok_or_else(|| NotPlaced::unknown(format!("process {pid} is in no cgroup")))?;
        self.place(&path).await
    }

    /// Puts the container of a cgroup in its place; the group that it is judged by.
    pub(crate) async fn place(&self, path: &str) -> Result<GroupName, NotPlaced> {
        let found = match self.identifiers.identify_now(path).filter(is_known) {
            Some(found) => found,
            None => self
                .identifiers
                .identify(path)
                .await
                .filter(is_known)
                .ok_or_else(|| NotPlaced::unknown(format!("no runtime knows the cgroup {path}")))?,
        };
        let group = found.learned_group();
        if self.rows.place_by_path(&group, &found) {
            Ok(group)
        } else {
            Err(NotPlaced { group: Some(group), reason: "there is no policy yet".to_owned() })
        }
    }

    /// Comes back when the rows are others.
    pub(crate) async fn closed(&self) {
        while self.alive.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
    }
}
