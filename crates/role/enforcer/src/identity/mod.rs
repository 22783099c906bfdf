//! Whose it is: from the kernel's numbers (cgroups, processes, addresses, users) to workloads and their groups, before the
//! first program of a container and for a moment after its last.

pub(crate) mod attribution;
pub(crate) mod desk;
pub(crate) mod leaving;
pub(crate) mod nri;
pub(crate) mod oci_hook;
pub(crate) mod placer;
pub(crate) mod users;
pub(crate) mod workloads;
