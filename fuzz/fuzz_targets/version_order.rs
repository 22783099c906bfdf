//! Any texts are versions, and each scheme puts them in one order; any text is a range or is refused.
#![no_main]

use std::cmp::Ordering;

use libfuzzer_sys::fuzz_target;
use nv_package::version::range::{Syntax, complement, parse_range};
use nv_package::version::{Scheme, compare};

const SYNTAXES: [Syntax; 5] = [Syntax::Npm, Syntax::Pep440, Syntax::Gem, Syntax::Composer, Syntax::Brackets];

// Which scheme, and which syntax of ranges; then three versions and a range, each on a line.
fuzz_target!(|bytes: &[u8]| {
    let [scheme, syntax, bytes @ ..] = bytes else { return };
    let scheme = Scheme::ALL[usize::from(*scheme) % Scheme::ALL.len()];
    let syntax = SYNTAXES[usize::from(*syntax) % SYNTAXES.len()];
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (a, b, c, range) = (next(), next(), next(), String::from_utf8_lossy(next()));
    assert_eq!(compare(scheme, a, a), Ordering::Equal, "{scheme:?}");
    assert_eq!(compare(scheme, a, b), compare(scheme, b, a).reverse(), "{scheme:?}");
    if compare(scheme, a, b).is_le() && compare(scheme, b, c).is_le() {
        assert!(compare(scheme, a, c).is_le(), "{scheme:?}");
    }
    let Ok(intervals) = parse_range(syntax, scheme, &range) else { return };
    let inside = intervals.iter().any(|interval| interval.contains(scheme, a));
    let outside = complement(scheme, &intervals).iter().any(|interval| interval.contains(scheme, a));
    assert!(inside || outside, "{scheme:?} {syntax:?}: a version is in a range or not");
});
