//! What an enforcer tells of itself.

use nv_model::time::Timestamp;
use nv_model::vitals::{Drops, Shedding, Vitals};

use crate::WireError;
use crate::bounds::{MAX_COUNTERS, MAX_WORD_BYTES};
use crate::enforcer::v1 as proto;
use crate::read::{Read, length, text};

impl From<proto::Drops> for Drops {
    fn from(raw: proto::Drops) -> Self {
        Self {
            exec: raw.exec,
            lifecycle: raw.lifecycle,
            file: raw.file,
            connection: raw.connection,
            behaviour: raw.behaviour,
            usage: raw.usage,
        }
    }
}

impl From<Drops> for proto::Drops {
    fn from(model: Drops) -> Self {
        Self {
            exec: model.exec,
            lifecycle: model.lifecycle,
            file: model.file,
            connection: model.connection,
            behaviour: model.behaviour,
            usage: model.usage,
        }
    }
}

/// A level that this side does not know is a later one, which leaves out more than all it knows.
pub(crate) fn shedding(raw: u32) -> Shedding {
    let place = usize::try_from(raw).unwrap_or(usize::MAX);
    Shedding::ALL.get(place).copied().unwrap_or(Shedding::Learning)
}

pub(crate) fn shedding_number(model: Shedding) -> u32 {
    match model {
        Shedding::Nothing => 0,
        Shedding::Activity => 1,
        Shedding::Usage => 2,
        Shedding::Learning => 3,
    }
}

impl TryFrom<proto::Heartbeat> for Vitals {
    type Error = WireError;
    fn try_from(raw: proto::Heartbeat) -> Read<Self> {
        length("counters", raw.counters.len(), MAX_COUNTERS)?;
        let counters = raw
            .counters
            .into_iter()
            .map(|(name, count)| Ok((text("counters key", name, MAX_WORD_BYTES)?, count)));
        Ok(Self {
            kernel_dropped: raw.kernel_dropped,
            queue_dropped: raw.queue_dropped,
            queued: raw.queued,
            drops: raw.drops.map(Drops::from).unwrap_or_default(),
            shedding: shedding(raw.shedding),
            cpu: raw.cpu,
            memory: raw.memory,
            memory_budget: raw.memory_budget,
            log_level: text("log_level", raw.log_level, MAX_WORD_BYTES)?,
            counters: counters.collect::<Read<_>>()?,
        })
    }
}

/// A sign of life at a time.
#[must_use]
pub fn heartbeat(at: Timestamp, vitals: Vitals) -> proto::Heartbeat {
    proto::Heartbeat {
        at: at.nanos(),
        kernel_dropped: vitals.kernel_dropped,
        queue_dropped: vitals.queue_dropped,
        queued: vitals.queued,
        drops: Some(vitals.drops.into()),
        shedding: shedding_number(vitals.shedding),
        cpu: vitals.cpu,
        memory: vitals.memory,
        memory_budget: vitals.memory_budget,
        log_level: vitals.log_level,
        counters: vitals.counters.into_iter().collect(),
    }
}
