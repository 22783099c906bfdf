//! What becomes of packets that wait for an inspector, however they wait.

/// What becomes of a packet, as the one who inspects it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, and the next one of its connection is asked about too.
    Pass,
    /// It goes on, and no packet of its connection is asked about any more.
    Clean,
    /// It is dropped; its connection goes on.
    Drop,
    /// It is refused (TCP: with a reset), and so is every packet of its connection from now on.
    Cut,
}

/// What becomes of packets that cannot be judged: nobody inspects, or too much waits, or the answer is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// They go on.
    Pass,
    /// They are dropped.
    Drop,
}
