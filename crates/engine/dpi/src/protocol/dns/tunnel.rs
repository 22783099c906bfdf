//! Names that carry data: long, of many different characters, and never the same twice (tunnels such as iodine, dnscat2
//! and DNSExfiltrator).

/// Bytes of a name, without the two labels that are registered, from which on it may be data.
const LONG_BYTES: usize = 40;
/// Entropy of these bytes from which on they are no words, in hundredths of a bit a byte: English has about 4.0 over so
/// few bytes at most, base 32 and base 64 lie above 4.2, hexadecimal at 3.7 with digits in it.
const DENSE: u32 = 410;
const DENSE_HEXADECIMAL: u32 = 340;
/// Names like this in one session before it is told.
const ENOUGH: u8 = 8;

/// What the questions of a session look like so far.
#[derive(Debug, Default)]
pub(super) struct Tunnel {
    dense: u8,
    last: u32,
    told: bool,
}

impl Tunnel {
    /// Notes a question; true once, when there were enough.
    pub(super) fn question(&mut self, name: &[u8]) -> bool {
        let Some(data) = data(name).filter(|data| data.len() >= LONG_BYTES) else { return false };
        let digest = data
            .iter()
            .fold(0x811C_9DC5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        if digest == self.last || !is_dense(data) {
            return false;
        }
        self.last = digest;
        self.dense = self.dense.saturating_add(1);
        let tell = self.dense >= ENOUGH && !self.told;
        self.told |= tell;
        tell
    }
}

/// The labels in front of the last two.
fn data(name: &[u8]) -> Option<&[u8]> {
    let last = memchr::memrchr(b'.', name)?;
    let before = memchr::memrchr(b'.', name.get(..last)?)?;
    name.get(..before)
}

fn is_dense(data: &[u8]) -> bool {
    let digits = data.iter().filter(|byte| byte.is_ascii_digit()).count();
    // Nine of ten, because labels for the tunnel's own use stand between.
    let hexadecimal =
        data.iter().filter(|byte| byte.is_ascii_hexdigit()).count() >= data.len().saturating_mul(9) / 10;
    let entropy = entropy(data);
    // Reverse zones are digits and dots alone.
    let numbers = data.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    !numbers
        && digits > 0
        && (entropy >= DENSE || (hexadecimal && digits > data.len() / 5 && entropy >= DENSE_HEXADECIMAL))
}

/// Shannon's entropy of single bytes, in hundredths of a bit.
fn entropy(data: &[u8]) -> u32 {
    let mut counts = [0_u32; 256];
    for byte in data {
        if let Some(count) = counts.get_mut(usize::from(byte.to_ascii_lowercase())) {
            *count = count.saturating_add(1);
        }
    }
    let total = f64::from(u32::try_from(data.len()).unwrap_or(u32::MAX));
    let bits: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum();
    // Eight bits at most: it fits.
    let hundredths = (bits * 100.0).clamp(0.0, 800.0);
    (0..=800).take_while(|value| f64::from(*value) <= hundredths).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: impl Iterator<Item = String>) -> usize {
        let mut tunnel = Tunnel::default();
        names.filter(|name| tunnel.question(name.as_bytes())).count()
    }

    /// Letters and digits that differ from call to call.
    fn noise(seed: u32, letters: &[u8], length: u32) -> String {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(letters[usize::try_from(state >> 16).unwrap() % letters.len()])
            })
            .collect()
    }

    #[test]
    fn encoded_data_is_told_once_and_ordinary_names_are_not() {
        let base32 = b"abcdefghijklmnopqrstuvwxyz234567";
        let tunnel = |letters: &'static [u8]| {
            (0..40).map(move |at| format!("{}.t.example.com", noise(at, letters, 60)))
        };
        assert_eq!(told(tunnel(base32)), 1);
        assert_eq!(told(tunnel(b"0123456789abcdef")), 1);
        assert_eq!(
            told((0..40).map(|_| format!("{}.example.com", noise(1, base32, 60)))),
            0,
            "always the same"
        );
        assert_eq!(
            told(
                (0..40)
                    .map(|at| format!("node-{at}.very-long-service-name.some-namespace.svc.cluster.local"))
            ),
            0
        );
        assert_eq!(told((0..40).map(|at| format!("{at}.{}ip6.arpa", "0.".repeat(31)))), 0);
        assert_eq!(told((0..3).map(|at| format!("{}.example.com", noise(at, base32, 60)))), 0, "too few");
    }
}
