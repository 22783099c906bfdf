//! What could not be read, told beside what was found.

use std::io::Write;

/// Most remarks that are written; the rest is counted.
const MAX_REMARKS: u64 = 200;

/// Where remarks go, and how many there were.
pub struct Remarks<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl<'a> Remarks<'a> {
    /// Remarks to `out`, a line each.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, count: 0 }
    }

    /// Writes one line.
    pub fn add(&mut self, remark: &str) {
        self.count += 1;
        if self.count <= MAX_REMARKS {
            // Where remarks can not be written, there is nowhere left to say so; the count still tells.
            let _written = writeln!(self.out, "scanner: {remark}");
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Says how many were not written.
    pub fn finish(self) -> u64 {
        if self.count > MAX_REMARKS {
            let more = self.count - MAX_REMARKS;
            let _written = writeln!(self.out, "scanner: {more} more of these");
        }
        self.count
    }
}
