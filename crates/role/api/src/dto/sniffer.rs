//! Captures of packets.

use nv_model::question::{CaptureEntry, CaptureStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answer::Named;

/// What to capture.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SnifferArgs {
    /// Files of 2 MiB that are kept, 1 to 50; 5 when absent. The oldest goes when there are more.
    #[serde(default)]
    pub file_number: Option<u32>,
    /// Seconds until it stops by itself; absent or 0 for not before somebody stops it.
    #[serde(default)]
    pub duration: Option<u32>,
    /// Which packets, in the language of pcap-filter; absent or empty for all.
    #[serde(default)]
    pub filter: Option<String>,
}

/// Around what to capture.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
pub struct SnifferArgsData {
    /// What.
    #[serde(default)]
    pub sniffer: Option<SnifferArgs>,
}

/// A capture that was begun.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SnifferResult {
    /// Its id: 8 hexadecimal digits and the id of the enforcer.
    pub id: String,
}

impl Named for SnifferResult {
    const ONE: &'static str = "result";
    const MANY: &'static str = "results";
}

/// A capture of packets.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct SnifferInfo {
    /// 8 hexadecimal digits and the id of the enforcer.
    pub id: String,
    /// Where it runs.
    pub enforcer_id: String,
    /// Whose packets.
    pub container_id: String,
    /// `running`, `stopped` or `failed`.
    pub status: String,
    /// The filter, as it was given.
    pub args: String,
    /// Files that are kept now.
    pub file_number: u32,
    /// Their bytes.
    pub size: i64,
    /// When it began, in seconds since the epoch.
    pub start_time: i64,
    /// When it ended, in seconds since the epoch; 0 while it runs.
    pub stop_time: i64,
    /// Packets that were kept, those that are not any more too; ours, beside the contract.
    pub packets: u64,
    /// Packets that came faster than they could be kept; ours, beside the contract.
    pub dropped: u64,
}

impl SnifferInfo {
    /// A capture of this enforcer.
    #[must_use]
    pub fn of(entry: CaptureEntry, enforcer: &str) -> Self {
        Self {
            id: format!("{}{enforcer}", entry.id),
            enforcer_id: enforcer.to_owned(),
            container_id: entry.workload.map(String::from).unwrap_or_default(),
            status: CaptureStatus::as_str(entry.status).to_owned(),
            args: entry.filter,
            file_number: entry.files,
            size: i64::try_from(entry.bytes).unwrap_or(i64::MAX),
            start_time: entry.started.seconds(),
            stop_time: entry.stopped.map_or(0, nv_model::time::Timestamp::seconds),
            packets: entry.packets,
            dropped: entry.dropped,
        }
    }
}

impl Named for SnifferInfo {
    const ONE: &'static str = "sniffer";
    const MANY: &'static str = "sniffers";
}
