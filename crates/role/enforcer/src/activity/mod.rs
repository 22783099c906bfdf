//! What goes on: processes, connections with their applications, what executables and packages there are, what all of it
//! uses. Folded here, in bounded tables, until it is told by a sweep or asked for.

pub(crate) mod applications;
pub(crate) mod captures;
pub(crate) mod connections;
pub(crate) mod hashes;
pub(crate) mod ingress;
pub(crate) mod installed;
pub(crate) mod processes;
pub(crate) mod usage;
