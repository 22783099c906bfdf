//! Recorded records once more: through the real ring to its real reader, as fast as wanted. For measuring, and for tests of
//! what happens when the ring is full.

use std::io;
use std::os::fd::AsFd as _;

use libbpf_rs::{MapCore as _, Object, ProgramInput};
use zerocopy::IntoBytes as _;

use crate::events::Events;
use crate::layout::{ExecRecord, NO_RULE, Replay as Run, exec_flag, kind};
use crate::load::descriptors;
use crate::object::{Constants, open};
use crate::tables::{TableError, Tables};

/// Most records of one call of [`Replay::put`].
pub const MAX_RECORDS: u32 = 64;

/// A ring of its own, and the program that writes into it. Nothing of the machine is seen or judged by it.
#[derive(Debug)]
pub struct Replay {
    object: Object,
    run: Run,
}

/// Why nothing can be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The kernel refused the program, its ring, or a run.
    #[error("the kernel refused the program that replays records; it takes root, and Linux 5.14")]
    Kernel(#[source] libbpf_rs::Error),
    /// The tables could not be used.
    #[error(transparent)]
    Tables(#[from] TableError),
    /// The ring could not be read, or descriptors are used up.
    #[error("the ring of replayed records")]
    Ring(#[from] io::Error),
}

impl Replay {
    /// With a program that was run, as the kernel's programs record it: the record is theirs byte for byte, with a path, a
    /// file name and arguments of some length.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn new() -> Result<Self, ReplayError> {
        let constants = Constants { host_mount_namespace: 0, keeps_by_task: false };
        let object = open(&["replay_records"], constants).map_err(ReplayError::Kernel)?;
        let object = object.load().map_err(ReplayError::Kernel)?;
        Ok(Self { object, run: Run { records: 0, reserved: 0, record: recorded() } })
    }

    /// A reader of its ring, and the tables with its counters.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn reader(&self) -> Result<(Events, Tables), ReplayError> {
        let ring = self.object.maps().find(|map| map.name() == "ring");
        let ring = ring.ok_or_else(|| io::Error::other("the object has no ring"))?;
        let events = Events::from_descriptor(ring.as_fd().try_clone_to_owned()?)?;
        Ok((events, Tables::from_descriptors(descriptors(&self.object)?)?))
    }

    /// Puts so many records into the ring, at most [`MAX_RECORDS`]; how many found room. The others are counted as dropped
    /// execs.
    ///
    /// # Errors
    /// [`ReplayError::Kernel`]
    pub fn put(&mut self, records: u32) -> Result<u32, ReplayError> {
        self.run.records = records.min(MAX_RECORDS);
        let mut program = self.object.progs_mut();
        let program = program.find(|program| program.name() == "replay_records");
        let program = program.ok_or_else(|| io::Error::other("the object has no such program"))?;
        let input = ProgramInput { context_in: Some(self.run.as_mut_bytes()), ..ProgramInput::default() };
        Ok(program.test_run(input).map_err(ReplayError::Kernel)?.return_value)
    }
}

/// A shell's exec of `ls`, as it was recorded on Linux 6.18.
fn recorded() -> ExecRecord {
    let mut record: ExecRecord = zerocopy::FromZeros::new_zeroed();
    record.head.kind = kind::EXEC;
    record.head.at = 1_000_000_000;
    record.head.cgroup = 4711;
    record.parent_cgroup = 4711;
    record.parent_pid = 1;
    record.flags = exec_flag::CONTAINER;
    record.profile = 6;
    record.rule = NO_RULE;
    (record.verdict, record.mechanism, record.mode) = (1, 3, 1);
    put(&mut record.path, b"/usr/bin/ls");
    put(&mut record.filename, b"/bin/ls");
    put(&mut record.comm, b"ls");
    put(&mut record.parent_comm, b"sh");
    let arguments = b"ls\0-la\0--color=auto\0--password=hidden\0/var/lib/service/data\0";
    put(&mut record.arguments, arguments);
    record.argument_bytes = u32::try_from(arguments.len()).unwrap_or(0);
    record
}

fn put(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}
