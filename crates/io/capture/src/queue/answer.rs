//! What is to become of a queued packet, on its way from the one who reads it to the one who may say so to the kernel.

use crate::fate::Fate;

/// The answer to one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which queue it is in, by whatever number the one who answers knows it by.
    pub queue: u32,
    /// The kernel's number of the packet.
    pub packet: u32,
    /// The mark that the packet had; what is not ours of it stays.
    pub mark: u32,
    /// What becomes of it.
    pub fate: Fate,
}

/// Bytes of an answer on its way.
pub const ANSWER_BYTES: usize = 16;

impl Answer {
    /// As it is sent: queue, packet, mark and fate, in the byte order of the machine that both ends are on.
    #[must_use]
    pub fn to_bytes(self) -> [u8; ANSWER_BYTES] {
        let fate: u32 = match self.fate {
            Fate::Pass => 1,
            Fate::Clean => 2,
            Fate::Drop => 3,
            Fate::Cut => 4,
        };
        let mut bytes = [0; ANSWER_BYTES];
        let fields = [self.queue, self.packet, self.mark, fate];
        for (into, from) in bytes.iter_mut().zip(fields.iter().flat_map(|field| field.to_ne_bytes())) {
            *into = from;
        }
        bytes
    }
    /// What was sent; `None` when it is no answer.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; ANSWER_BYTES]) -> Option<Self> {
        let (fields, _) = bytes.as_chunks::<4>();
        let [queue, packet, mark, fate] = *fields.first_chunk::<4>()?;
        let fate = match u32::from_ne_bytes(fate) {
            1 => Fate::Pass,
            2 => Fate::Clean,
            3 => Fate::Drop,
            4 => Fate::Cut,
            _ => return None,
        };
        let number = u32::from_ne_bytes;
        Some(Self { queue: number(queue), packet: number(packet), mark: number(mark), fate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_as_it_was_given_and_anything_else_is_none() {
        for fate in [Fate::Pass, Fate::Clean, Fate::Drop, Fate::Cut] {
            let answer = Answer { queue: 7, packet: u32::MAX, mark: 0x0539, fate };
            assert_eq!(Answer::from_bytes(&answer.to_bytes()), Some(answer));
        }
        assert_eq!(Answer::from_bytes(&[0; ANSWER_BYTES]), None);
        assert_eq!(Answer::from_bytes(&[0xff; ANSWER_BYTES]), None);
    }
}
