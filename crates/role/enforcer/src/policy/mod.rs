//! What is decided: the policy that this node holds, on disk and in the kernel's tables. The decision itself is
//! `nv_policy`'s; here its rows are written, and read back to tell which rule a record is about.

mod callers;
pub(crate) mod held;
pub(crate) mod kernel;
