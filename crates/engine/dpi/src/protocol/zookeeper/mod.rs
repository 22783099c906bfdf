//! ZooKeeper (Apache ZooKeeper, jute records): told by the client's connect request, and by the words of four letters on
//! its port.

use crate::key::Side;
use crate::protocol::{Ports, Probe};

const PORT: u16 = 2181;
const WORDS: [&[u8]; 8] = [b"ruok", b"stat", b"mntr", b"srvr", b"conf", b"cons", b"dump", b"envi"];

/// A record of 44 or 45 bytes: version 0, and a password of 16 bytes behind 24 bytes of numbers.
pub(crate) fn probe(side: Side, input: &[u8], ports: Ports) -> Probe {
    if side == Side::Server {
        return Probe::No;
    }
    if ports.server == PORT
        && let Some(probe) =
            WORDS.iter().map(|word| Probe::starts(input, word)).find(|probe| *probe != Probe::No)
    {
        return probe;
    }
    match input {
        [0, 0, 0, 44 | 45, 0, 0, 0, 0, rest @ ..] => match rest.get(20..24) {
            Some(password) => Probe::when(password == [0, 0, 0, 16]),
            None => Probe::Maybe,
        },
        [0, 0, 0, 44 | 45, zeros @ ..] if zeros.len() < 4 => {
            Probe::when(false).or_maybe(zeros.iter().all(|byte| *byte == 0))
        }
        [] | [0] | [0, 0] | [0, 0, 0] => Probe::Maybe,
        _ => Probe::No,
    }
}
