//! What the kernel and the runtimes tell, on its way to the agent: records of the rings, new cgroups, turns of runtimes.
//! Everything is read at once and kept in bounded queues, so that what is lost is lost here, and counted.

pub(crate) mod backlog;
mod cgroup_watch;
pub(crate) mod records;
pub(crate) mod runtimes;
