//! Bytes on an NRI socket: frames of several connections (containerd/nri, `pkg/net/multiplex`), and in each connection the
//! messages of ttrpc.
//!
//! ```text
//! frame    connection u32 │ length u32 │ bytes of that connection
//! message  length u32 │ call u32 │ kind u8 │ flags u8 │ payload            numbers are big-endian
//! ```
//!
//! A message may be spread over frames.

use bytes::{Buf as _, BufMut as _, BytesMut};

/// The connection where the runtime asks the plug-in.
pub(super) const TO_PLUGIN: u32 = 1;
/// The connection where the plug-in asks the runtime.
pub(super) const TO_RUNTIME: u32 = 2;
/// Kind of a call.
pub(super) const REQUEST: u8 = 1;
/// Kind of an answer.
pub(super) const RESPONSE: u8 = 2;
/// Bytes in front of a frame.
pub(super) const FRAME_HEADER: usize = 8;
/// Bytes in front of a message.
const MESSAGE_HEADER: usize = 10;
/// Longest payload of a message (ttrpc's own bound).
const MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// Longest payload that is sent: the other end reads frames of up to 4,096 bytes at once.
const SENT_BYTES: usize = 4096 - MESSAGE_HEADER;

/// Why bytes are not NRI's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// No such connection.
    #[error("a frame of connection {0}, expected 1 or 2")]
    Connection(u32),
    /// A frame or message that is longer than there are.
    #[error("{bytes} bytes are announced, expected {most} at most")]
    Length {
        /// What was announced.
        bytes: usize,
        /// What there may be.
        most: usize,
    },
}

/// A message of ttrpc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) connection: u32,
    /// Number of the call, which its answer repeats.
    pub(super) call: u32,
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
}

/// Reads the head of a frame: connection, and length of what follows.
pub(super) fn frame_header(head: [u8; FRAME_HEADER]) -> Result<(u32, usize), WireError> {
    let [c0, c1, c2, c3, l0, l1, l2, l3] = head;
    let connection = u32::from_be_bytes([c0, c1, c2, c3]);
    if connection != TO_PLUGIN && connection != TO_RUNTIME {
        return Err(WireError::Connection(connection));
    }
    let bytes = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let most = MESSAGE_HEADER + MESSAGE_BYTES;
    if bytes > most { Err(WireError::Length { bytes, most }) } else { Ok((connection, bytes)) }
}

/// What has come of each connection and is no whole message yet: one frame more than the longest message at most.
#[derive(Debug, Default)]
pub(super) struct Streams {
    to_plugin: BytesMut,
    to_runtime: BytesMut,
}

impl Streams {
    /// Adds what a frame has.
    pub(super) fn push(&mut self, connection: u32, bytes: &[u8]) {
        if connection == TO_PLUGIN {
            self.to_plugin.extend_from_slice(bytes);
        } else {
            self.to_runtime.extend_from_slice(bytes);
        }
    }

    /// Takes the next whole message, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Message>, WireError> {
        for (connection, stream) in [(TO_RUNTIME, &mut self.to_runtime), (TO_PLUGIN, &mut self.to_plugin)] {
            if let Some((call, kind, payload)) = message(stream)? {
                return Ok(Some(Message { connection, call, kind, payload }));
            }
        }
        Ok(None)
    }
}

fn message(stream: &mut BytesMut) -> Result<Option<(u32, u8, Vec<u8>)>, WireError> {
    let Some(mut head) = stream.first_chunk::<MESSAGE_HEADER>().map(|head| head.as_slice()) else {
        return Ok(None);
    };
    let bytes = usize::try_from(head.get_u32()).unwrap_or(usize::MAX);
    if bytes > MESSAGE_BYTES {
        return Err(WireError::Length { bytes, most: MESSAGE_BYTES });
    }
    let (call, kind) = (head.get_u32(), head.get_u8());
    if stream.len() < MESSAGE_HEADER.saturating_add(bytes) {
        return Ok(None);
    }
    stream.advance(MESSAGE_HEADER);
    Ok(Some((call, kind, stream.split_to(bytes).to_vec())))
}

/// A message in a frame of its own.
///
/// # Errors
/// [`WireError::Length`] when the payload has more than 4,086 bytes.
pub(super) fn frame(message: &Message) -> Result<Vec<u8>, WireError> {
    let bytes = message.payload.len();
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= SENT_BYTES);
    let Some(length) = length else { return Err(WireError::Length { bytes, most: SENT_BYTES }) };
    let mut frame = Vec::with_capacity(FRAME_HEADER + MESSAGE_HEADER + bytes);
    frame.put_u32(message.connection);
    frame.put_u32(length.saturating_add(10));
    frame.put_u32(length);
    frame.put_u32(message.call);
    frame.put_u8(message.kind);
    frame.put_u8(0);
    frame.put_slice(&message.payload);
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Message>, WireError> {
        let (mut streams, mut found, mut rest) = (Streams::default(), Vec::new(), bytes);
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEADER>() {
            let (connection, length) = frame_header(*head)?;
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            streams.push(connection, payload);
            while let Some(message) = streams.next()? {
                found.push(message);
            }
            rest = after;
        }
        Ok(found)
    }

    #[test]
    fn a_message_is_written_as_the_protocol_says() {
        let message = Message { connection: TO_RUNTIME, call: 1, kind: REQUEST, payload: b"ab".to_vec() };
        let want = [0, 0, 0, 2, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 1, 1, 0, b'a', b'b'];
        assert_eq!(frame(&message).unwrap(), want);
    }

    #[test]
    fn a_message_may_come_in_several_frames() {
        let message = Message { connection: TO_PLUGIN, call: 7, kind: REQUEST, payload: b"payload".to_vec() };
        let whole = frame(&message).unwrap();
        let (first, second) = whole[FRAME_HEADER..].split_at(12);
        let mut bytes = Vec::new();
        for part in [first, second] {
            bytes.put_u32(TO_PLUGIN);
            bytes.put_u32(part.len().try_into().unwrap());
            bytes.extend_from_slice(part);
        }
        assert_eq!(read(&bytes).unwrap(), [message]);
    }

    #[test]
    fn lengths_and_connections_that_there_are_not_end_it() {
        let too_long = [0, 0, 0, 1, 0xff, 0, 0, 0];
        assert!(matches!(frame_header(too_long), Err(WireError::Length { .. })));
        assert_eq!(frame_header([0, 0, 0, 3, 0, 0, 0, 1]), Err(WireError::Connection(3)));
        let mut streams = Streams::default();
        streams.push(TO_PLUGIN, &[0xff, 0, 0, 0, 0, 0, 0, 1, 1, 0]);
        assert!(matches!(streams.next(), Err(WireError::Length { .. })));
        let long = Message { connection: TO_PLUGIN, call: 1, kind: RESPONSE, payload: vec![0; 4087] };
        assert_eq!(frame(&long), Err(WireError::Length { bytes: 4087, most: 4086 }));
    }

    proptest! {
        #[test]
        fn reading_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
        }

        #[test]
        fn what_is_written_is_read_again(
            messages in proptest::collection::vec((1..3_u32, any::<u32>(), any::<u8>(), proptest::collection::vec(any::<u8>(), 0..99)), 0..5)
        ) {
            let messages: Vec<_> = messages
                .into_iter()
                .map(|(connection, call, kind, payload)| Message { connection, call, kind, payload })
                .collect();
            let bytes: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
            prop_assert_eq!(read(&bytes).unwrap(), messages);
        }
    }
}
