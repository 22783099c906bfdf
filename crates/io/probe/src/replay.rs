//! A record once more, as often as wanted: through the programs' ring to whoever reads it. For measuring the reader.

use std::io;
use std::path::Path;

use libbpf_rs::{Object, ObjectBuilder, ProgramInput};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::layout::{ExecRecord, NO_RULE, exec_flag, kind};

/// Most records of one call of [`Replay::put`].
pub const MAX_RECORDS: u32 = 64;

#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("NV_REPLAY_OBJECT")));

/// Writes into the ring of loaded programs.
#[derive(Debug)]
pub struct Replay {
    object: Object,
}

/// What was run.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Process id.
    pub pid: u32,
    /// The process' cgroup.
    pub cgroup: u64,
    /// Number of the profile that was asked.
    pub profile: u32,
    /// Path of the program; at most 255 bytes of it are told.
    pub path: &'a str,
    /// Arguments, each with a NUL behind it; at most 256 bytes of them are told.
    pub arguments: &'a str,
}

impl Replay {
    /// Into the ring of the programs that are pinned below `pin_dir` ([`crate::load::Options::pin_dir`]): an exec that a
    /// rule allowed.
    ///
    /// # Errors
    /// Nothing is pinned there, or the kernel refused: it takes root and Linux 5.14.
    pub fn new(pin_dir: &Path, recorded: &Recorded<'_>) -> libbpf_rs::Result<Self> {
        let pins = pin_dir.join("process");
        let mut object = ObjectBuilder::default().name("nv_replay")?.open_memory(&OBJECT.0)?;
        for mut program in object.progs_mut() {
            program.set_autoload(true);
        }
        for mut map in object.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name == "ring" || name == "counters" {
                map.reuse_pinned_map(pins.join(name))?;
            } else if name.ends_with(".bss") {
                map.set_initial_value(record(recorded).as_bytes())?;
            } else if !name.ends_with(".rodata") {
                map.set_autocreate(false)?;
            }
        }
        Ok(Self { object: object.load()? })
    }

    /// Puts so many records into the ring, at most [`MAX_RECORDS`]; how many found room. The others are counted as
    /// dropped execs.
    ///
    /// # Errors
    /// The kernel refused to run the program.
    pub fn put(&mut self, records: u32) -> libbpf_rs::Result<u32> {
        let mut wanted = records.min(MAX_RECORDS).to_ne_bytes();
        let program = self.object.progs_mut().next();
        let program = program.ok_or_else(|| io::Error::other("the object has no program"))?;
        let input = ProgramInput { context_in: Some(&mut wanted), ..ProgramInput::default() };
        Ok(program.test_run(input)?.return_value)
    }
}

fn record(recorded: &Recorded<'_>) -> ExecRecord {
    let mut record = ExecRecord::new_zeroed();
    record.head.kind = kind::EXEC;
    (record.head.pid, record.head.cgroup) = (recorded.pid, recorded.cgroup);
    (record.parent_cgroup, record.parent_pid) = (recorded.cgroup, recorded.pid);
    record.flags = exec_flag::CONTAINER;
    (record.profile, record.rule) = (recorded.profile, NO_RULE);
    (record.verdict, record.mode) = (2, 1);
    fill(&mut record.comm, recorded.path.rsplit('/').next().unwrap_or_default());
    fill(&mut record.parent_comm, "sh");
    fill(&mut record.path, recorded.path);
    fill(&mut record.filename, recorded.path);
    record.argument_bytes = fill(&mut record.arguments, recorded.arguments);
    record
}

/// Bytes that fit, and how many; a NUL stays behind them where there is room.
fn fill(field: &mut [u8], text: &str) -> u32 {
    let mut filled = 0_u32;
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
        filled = filled.saturating_add(1);
    }
    filled
}
