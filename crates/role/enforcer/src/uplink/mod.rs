//! What is sent: observations pass the gate, wait in the outbox by their worth, and leave by the link, which the node's
//! certificate opens.

pub(crate) mod gate;
pub(crate) mod join;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod outbox;
pub(crate) mod worth;
