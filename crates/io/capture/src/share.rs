//! Pods of a node, spread over those who read their packets.
//!
//! Each reader has a share of the pods, and all packets of a pod go to one reader: those that are copied, as the kernel's
//! program chooses by the same number (`place_of` in `bpf/network/tap.h`), and those that wait. So both ways of a connection,
//! and the fragments of a datagram, meet in one place without locks.

use serde::{Deserialize, Serialize};

/// Places that interfaces fall into (`PLACES` in `bpf/network/maps.h`).
const PLACES: u8 = 16;
/// Most shares: each has one place at least.
pub const MAX_SHARES: u8 = PLACES;

/// One share of so and so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(u8, u8)", into = "(u8, u8)")]
pub struct Share {
    number: u8,
    of: u8,
}

impl Share {
    /// Every pod.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// All shares of so and so many, at least one and at most [`MAX_SHARES`].
    pub fn each(of: u8) -> impl Iterator<Item = Self> {
        let of = of.clamp(1, MAX_SHARES);
        (0..of).map(move |number| Self { number, of })
    }
    /// Which one it is, from 0 on.
    #[must_use]
    pub fn number(self) -> u8 {
        self.number
    }
    /// Of how many.
    #[must_use]
    pub fn of(self) -> u8 {
        self.of
    }
    /// Whether a pod is in it, by the number of its interface.
    #[must_use]
    pub fn has(self, ifindex: u32) -> bool {
        self.places().any(|place| place == place_of(ifindex))
    }
    /// Its places.
    pub(crate) fn places(self) -> impl Iterator<Item = u32> {
        (u32::from(self.number)..u32::from(PLACES)).step_by(usize::from(self.of.max(1)))
    }
}

impl TryFrom<(u8, u8)> for Share {
    type Error = String;
    fn try_from((number, of): (u8, u8)) -> Result<Self, String> {
        if number < of && of <= MAX_SHARES {
            return Ok(Self { number, of });
        }
        Err(format!("there is no share {number} of {of}"))
    }
}

impl From<Share> for (u8, u8) {
    fn from(share: Share) -> Self {
        (share.number, share.of)
    }
}

/// As the kernel's program computes it: the upper four bits of the product with the golden ratio.
fn place_of(ifindex: u32) -> u32 {
    ifindex.wrapping_mul(2_654_435_769) >> 28
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_is_in_one_share_and_shares_are_about_equal_also_where_all_numbers_are_even() {
        for of in 1..=MAX_SHARES {
            for step in 1..=4 {
                let pods: Vec<u32> = (0..240).map(|pod| 7 + pod * step).collect();
                let counts: Vec<usize> = Share::each(of)
                    .map(|share| pods.iter().filter(|ifindex| share.has(**ifindex)).count())
                    .collect();
                assert_eq!(counts.iter().sum::<usize>(), pods.len(), "{of} {step}");
                let most = pods.len().div_ceil(16) * 16_usize.div_ceil(usize::from(of)) * 3 / 2;
                assert!(counts.iter().all(|count| *count > 0 && *count <= most), "{of} {step}: {counts:?}");
            }
        }
        assert!(Share::each(0).eq([Share::WHOLE]) && Share::WHOLE.has(u32::MAX));
        assert!(Share::try_from((2, 2)).is_err() && Share::try_from((16, 17)).is_err());
    }
}
