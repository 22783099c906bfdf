//! Any bytes as any protocol: what fuzzing asks, where probing would let few bytes through to the parser they are meant for.

use std::net::{IpAddr, Ipv4Addr};

use crate::counters::Counters;
use crate::event::{SessionId, Sink};
use crate::flow::Flow;
use crate::key::{Endpoint, Key, Side, Transport};
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::reader::{Moment, Reader};

/// How many protocols there are, each over each transport that it has.
#[must_use]
pub fn protocols() -> usize {
    Protocol::STREAM.len().saturating_add(Protocol::DATAGRAM.len())
}

/// Reads pieces as a session of a protocol, by its number below [`protocols`]; an empty piece is a gap. A number beyond is
/// read as none.
pub fn read(protocol: usize, pieces: &[(Side, &[u8])], sink: &mut impl Sink) {
    let over_udp = protocol.checked_sub(Protocol::STREAM.len());
    let (transport, protocol) = match over_udp {
        None => (Transport::Tcp, Protocol::STREAM.get(protocol)),
        Some(protocol) => (Transport::Udp, Protocol::DATAGRAM.get(protocol)),
    };
    let Some(protocol) = protocol else { return };
    let end = |host, port| Endpoint { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), port };
    let (key, low) = Key::new(transport, end(1, 40_000), end(2, 80));
    let mut flow = Flow::new(key, low, SessionId(1), 0);
    let mut reader = Reader::new(&Limits { parsers: 8, carries: 8, ..Limits::default() });
    let mut counters = Counters::default();
    let mut moment = Moment { at: 1, sink, counters: &mut counters };
    reader.assume(&mut moment, &mut flow, *protocol);
    for (at, (side, bytes)) in (1..).zip(pieces) {
        moment.at = at;
        match (transport, bytes.is_empty()) {
            (Transport::Udp, _) => reader.datagram(&mut moment, &mut flow, *side, bytes),
            (_, false) => reader.stream(&mut moment, &mut flow, *side, bytes),
            (_, true) => reader.gap(&mut moment, &mut flow, *side, 1),
        }
    }
    reader.release(&mut moment, &mut flow);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::content::Content;
    use crate::event::Event;

    struct Count(usize);

    impl Sink for Count {
        fn event(&mut self, _: &Event<'_>) {
            self.0 += 1;
        }
        fn content(&mut self, _: &Content<'_>) {
            self.0 += 1;
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_their_end_as_any_protocol(
            pieces in vec((any::<bool>(), vec(any::<u8>(), 0..80)), 0..6),
        ) {
            let pieces: Vec<_> = pieces
                .iter()
                .map(|(client, bytes)| (if *client { Side::Client } else { Side::Server }, bytes.as_slice()))
                .collect();
            for protocol in 0..=protocols() {
                let mut count = Count(0);
                read(protocol, &pieces, &mut count);
                prop_assert!(count.0 < 10_000, "{protocol}");
            }
        }
    }
}
