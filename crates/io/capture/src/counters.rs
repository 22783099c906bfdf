//! What the kernel side counts.

use std::os::fd::{AsFd, OwnedFd};

use crate::map::{self, TableError, name};
use crate::sys;

/// Totals over all CPUs since the tables were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets dropped.
    pub denied_packets: u64,
    /// Flows begun.
    pub flows_created: u64,
    /// Flows judged again after a change of the tables.
    pub flows_reevaluated: u64,
    /// Flows that found no place; their packets were judged one by one.
    pub flows_not_stored: u64,
    /// Records that found the ring full.
    pub events_lost: u64,
    /// Frames that could not be judged: more than two VLAN tags, other link protocols, broken or over-long headers.
    pub unparsed: u64,
    /// Fragments without the first of their datagram.
    pub fragments_alone: u64,
    /// Packets of interfaces without an endpoint.
    pub no_endpoint: u64,
    /// Connects and sends that were looked at.
    pub connects: u64,
    /// Those that were like one of the last 10 seconds.
    pub connects_folded: u64,
    /// Connects and sends that were refused.
    pub connects_denied: u64,
    /// Packets that were copied for inspection.
    pub tapped: u64,
    /// Packets of which no copy could be made.
    pub tap_failed: u64,
    /// Packets that were led to an inspector, to wait for it.
    pub waited: u64,
    /// Packets that were to wait while there was no inspector: they passed or were dropped, as their pod fails.
    pub waited_for_nobody: u64,
    /// Packets of connections that an inspector has ended.
    pub cut_packets: u64,
    /// Packets that came back from their inspector when their connection was forgotten, or denied.
    pub not_come_back: u64,
}

/// Reads the counters.
#[derive(Debug)]
pub struct Counters {
    fd: OwnedFd,
    cpus: usize,
}

impl Counters {
    const COUNT: usize = 17;

    /// From what the loader has handed over.
    ///
    /// # Errors
    /// When there is no such table, or it is of another version.
    pub fn from_descriptors(descriptors: &[(String, OwnedFd)]) -> Result<Self, TableError> {
        let table = name::COUNTERS;
        let (fd, shape) = map::find(table, descriptors)?;
        if shape.key != 4 || shape.value != 8 || usize::try_from(shape.entries) != Ok(Self::COUNT) {
            return Err(TableError::Shape { table, key: shape.key, value: shape.value });
        }
        let cpus = sys::possible_cpus().map_err(|source| TableError::Kernel {
            table,
            act: "count the CPUs of",
            source,
        })?;
        Ok(Self { fd, cpus })
    }
    /// The totals.
    ///
    /// # Errors
    /// When the kernel refuses the read.
    pub fn read(&self) -> Result<Totals, TableError> {
        let mut sums = [0_u64; Self::COUNT];
        let mut values = vec![0_u8; self.cpus.saturating_mul(8)];
        for (which, sum) in (0_u32..).zip(&mut sums) {
            sys::lookup(self.fd.as_fd(), &which, &mut values).map_err(|source| TableError::Kernel {
                table: name::COUNTERS,
                act: "read",
                source,
            })?;
            let (parts, _) = values.as_chunks::<8>();
            *sum = parts.iter().fold(0, |sum, part| sum.wrapping_add(u64::from_ne_bytes(*part)));
        }
        let [
            denied_packets,
            flows_created,
            flows_reevaluated,
            flows_not_stored,
            events_lost,
            unparsed,
            fragments_alone,
            no_endpoint,
            connects,
            connects_folded,
            connects_denied,
            tapped,
            tap_failed,
            waited,
            waited_for_nobody,
            cut_packets,
            not_come_back,
        ] = sums;
        Ok(Totals {
            denied_packets,
            flows_created,
            flows_reevaluated,
            flows_not_stored,
            events_lost,
            unparsed,
            fragments_alone,
            no_endpoint,
            connects,
            connects_folded,
            connects_denied,
            tapped,
            tap_failed,
            waited,
            waited_for_nobody,
            cut_packets,
            not_come_back,
        })
    }
}
