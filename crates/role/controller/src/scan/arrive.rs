//! Reports as they come from a scanner, piece by piece, and their way to the disk.

use nv_model::name::ScannerId;
use nv_model::scan::{BlobId, ScanSource, ScanTaskId};
use nv_model::scan_report::ScanReport;
use nv_wire::bounds::MAX_REPORT_BYTES;
use nv_wire::scanner::v1::report_piece::Piece as Part;
use tonic::Status;

use super::Scans;
use super::blobs::{BlobError, BlobWriter};
use super::kept::KeptReport;
use super::queue::Holder;
use super::service::{disk, invalid, stopping};

/// The documents of a report, as they come.
pub(super) struct Documents {
    inventory: Option<BlobWriter>,
    report: BlobWriter,
    bytes: Vec<u8>,
    scans: Scans,
}

/// What came whole.
pub(super) struct Taken {
    inventory: Option<(BlobId, u64)>,
    id: BlobId,
    bytes: u64,
    report: ScanReport,
}

fn most() -> u64 {
    u64::try_from(MAX_REPORT_BYTES).unwrap_or(u64::MAX)
}

impl Documents {
    pub(super) fn new(scans: &Scans) -> Result<Self, Status> {
        let report = scans.inner.blobs.writer(most()).map_err(disk)?;
        Ok(Self { inventory: None, report, bytes: Vec::new(), scans: scans.clone() })
    }

    pub(super) fn take(&mut self, part: Part) -> Result<(), Status> {
        match part {
            Part::Head(_) => Err(invalid("a second head")),
            Part::Inventory(piece) => {
                let writer = match &mut self.inventory {
                    Some(writer) => writer,
                    none => none.insert(self.scans.inner.blobs.writer(most()).map_err(disk)?),
                };
                writer.write(&piece).map_err(disk)
            }
            Part::Report(piece) => {
                self.report.write(&piece).map_err(disk)?;
                self.bytes.extend_from_slice(&piece);
                Ok(())
            }
        }
    }

    pub(super) fn finish(self) -> Result<Taken, Status> {
        let report =
            serde_json::from_slice(&self.bytes).map_err(|error| invalid(format!("the report: {error}")))?;
        let inventory = self.inventory.map(BlobWriter::finish).transpose().map_err(disk)?;
        let (id, bytes) = self.report.finish().map_err(disk)?;
        Ok(Taken { inventory, id, bytes, report })
    }
}

impl Scans {
    /// Puts a report in its place; `false` when the task is not the scanner's any more.
    pub(super) async fn take_report(
        &self,
        scanner: &ScannerId,
        task: ScanTaskId,
        taken: Taken,
    ) -> Result<bool, Status> {
        let scans = self.clone();
        let scanner = scanner.clone();
        let work = tokio::task::spawn_blocking(move || scans.keep_report(&scanner, task, &taken));
        work.await.map_err(stopping)?.map_err(disk)
    }

    fn keep_report(&self, scanner: &ScannerId, task: ScanTaskId, taken: &Taken) -> Result<bool, BlobError> {
        let at = self.inner.clock.now();
        let mut state = self.state();
        let Some(request) = state.queue.done(task, &Holder::Scanner(scanner.clone())) else {
            drop(state);
            // Another scanner has it now; what this one found is not referred to, unless it is the same.
            self.sweep(&[Some(taken.id), taken.inventory.map(|(id, _)| id)])?;
            return Ok(false);
        };
        let (inventory, inventory_bytes) = match (taken.inventory, &request.source) {
            (Some((id, bytes)), _) => (Some(id), bytes),
            (None, ScanSource::Inventory(id)) => (Some(*id), self.inner.blobs.size(*id).unwrap_or(0)),
            (None, _) => (None, 0),
        };
        let bytes = taken.bytes.saturating_add(inventory_bytes);
        let kept = KeptReport::new(request.subject.clone(), taken.id, inventory, bytes, at, &taken.report);
        state.freed(scanner, Some(&request.subject));
        self.keep(state, &kept, &taken.report)?;
        Ok(true)
    }

    /// Removes those of these blobs that no report refers to.
    pub(super) fn sweep(&self, blobs: &[Option<BlobId>]) -> Result<(), BlobError> {
        let referred = self.state().kept.blobs();
        let orphans = blobs.iter().flatten().filter(|blob| !referred.contains(blob));
        orphans.into_iter().try_for_each(|blob| self.inner.blobs.remove(*blob))
    }
}
