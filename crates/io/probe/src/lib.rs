//! Process policy in the kernel.
//!
//! The **keeper** (privileged) uses [`trial`] to find what this kernel really allows and [`load`] to load, attach and
//! pin `bpf/probe.bpf.c`; it hands the maps' descriptors to the **agent**, which needs no privilege: [`tables`]
//! writes what is allowed where, [`events`] reads what was run. Pinned programs go on judging by the last rows when
//! both are gone.
//!
//! ```text
//! policy → Tables → cgroups, profiles, exact, patterns → exec hook → verdict (EPERM or SIGKILL)
//! exec, fork, exit, cgroup made or gone → ring → Events (arguments redacted) → agent
//! ```
//!
//! A cgroup's row names a profile; a new cgroup inherits its parent's row in the kernel, so the first program of a
//! container is judged before any user space knows of it. A change of mode is one write of a profile's row.

pub mod bpffs;
pub mod cgroup;
pub mod connector;
pub mod events;
pub mod fanotify;
pub mod file;
pub mod layout;
pub mod load;
mod map;
mod object;
pub mod redact;
pub mod replay;
mod ring;
mod rows;
pub mod tables;
pub mod trial;
mod trial_behaviour;
mod trial_files;

pub use events::{Event, Events};
pub use load::{Loaded, Options, RECORDS_PER_SECOND};
pub use object::shape;
pub use tables::Tables;
pub use trial::Trial;
pub use trial_behaviour::{BehaviourHooks, behaviour as try_behaviour};
pub use trial_files::{FileHooks, files as try_files};
