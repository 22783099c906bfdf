//! The keys hold for any input, and agree with the algorithms as the ecosystems publish them.

use std::cmp::Ordering;

use proptest::prelude::*;

use crate::version::{Key, Scheme, compare};

/// Text of what versions are made of, so that comparisons go deep.
fn version() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            4 => "[0-9]{1,3}",
            4 => Just(".".to_owned()),
            2 => Just("-".to_owned()),
            1 => "[~^+_:!]",
            2 => "[a-z]{1,2}",
            1 => prop_oneof![Just("alpha"), Just("beta"), Just("rc"), Just("dev"), Just("post"), Just("_p"), Just("-r")]
                .prop_map(str::to_owned),
        ],
        0..10,
    )
    .prop_map(|pieces| pieces.concat())
}

/// `verrevcmp` of dpkg, as its manual describes it, over one part of a version.
fn dpkg_part(a: &[u8], b: &[u8]) -> Ordering {
    fn order(byte: Option<&u8>) -> i32 {
        match byte {
            Some(b'~') => -1,
            Some(byte) if byte.is_ascii_digit() => 0,
            Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
            Some(byte) => i32::from(*byte) + 256,
            None => 0,
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        while a.get(i).is_some_and(|x| !x.is_ascii_digit()) || b.get(j).is_some_and(|x| !x.is_ascii_digit()) {
            match order(a.get(i)).cmp(&order(b.get(j))) {
                Ordering::Equal => (i, j) = (i + 1, j + 1),
                other => return other,
            }
        }
        let number = |text: &[u8], at: &mut usize| {
            let mut value = 0_u128;
            while let Some(digit) = text.get(*at).filter(|x| x.is_ascii_digit()) {
                value = value * 10 + u128::from(digit - b'0');
                *at += 1;
            }
            value
        };
        match number(a, &mut i).cmp(&number(b, &mut j)) {
            Ordering::Equal => {}
            other => return other,
        }
    }
    Ordering::Equal
}

/// `rpmvercmp` of rpm over one part of a version.
fn rpm_part(a: &[u8], b: &[u8]) -> Ordering {
    let separator = |x: &u8| !x.is_ascii_alphanumeric() && *x != b'~' && *x != b'^';
    let skip = |t: &[u8]| t.iter().take_while(|x| separator(x)).count();
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        a = &a[skip(a)..];
        b = &b[skip(b)..];
        match (a.first() == Some(&b'~'), b.first() == Some(&b'~')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (false, true) => return Ordering::Greater,
            (true, false) => return Ordering::Less,
            (false, false) => {}
        }
        match (a.first() == Some(&b'^'), b.first() == Some(&b'^')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (true, false) => return if b.is_empty() { Ordering::Greater } else { Ordering::Less },
            (false, true) => return if a.is_empty() { Ordering::Less } else { Ordering::Greater },
            (false, false) => {}
        }
        if a.is_empty() || b.is_empty() {
            break;
        }
        let numeric = a[0].is_ascii_digit();
        let run = |t: &[u8]| {
            t.iter()
                .take_while(|x| if numeric { x.is_ascii_digit() } else { x.is_ascii_alphabetic() })
                .count()
        };
        let (la, lb) = (run(a), run(b));
        if lb == 0 {
            return if numeric { Ordering::Greater } else { Ordering::Less };
        }
        let (sa, sb) = (&a[..la], &b[..lb]);
        let found = if numeric {
            let value = |t: &[u8]| std::str::from_utf8(t).unwrap().parse::<u128>().unwrap();
            value(sa).cmp(&value(sb))
        } else {
            sa.cmp(sb)
        };
        if found != Ordering::Equal {
            return found;
        }
        (a, b) = (&a[la..], &b[lb..]);
    }
    a.is_empty().cmp(&b.is_empty()).reverse()
}

/// `Gem::Version#<=>` over canonical segments.
fn gem(a: &str, b: &str) -> Ordering {
    #[derive(PartialEq, Clone)]
    enum Segment {
        Word(String),
        Number(u128),
    }
    fn segments(version: &str) -> Vec<Segment> {
        let version = version.replace('-', ".pre.");
        let mut found = Vec::new();
        let mut rest = version.as_bytes();
        while let Some(start) = rest.iter().position(u8::is_ascii_alphanumeric) {
            rest = &rest[start..];
            let digit = rest[0].is_ascii_digit();
            let same = |byte: &u8| if digit { byte.is_ascii_digit() } else { byte.is_ascii_alphabetic() };
            let (run, after) = rest.split_at(rest.iter().take_while(|byte| same(byte)).count());
            let run = std::str::from_utf8(run).unwrap();
            found.push(if digit {
                Segment::Number(run.parse().unwrap())
            } else {
                Segment::Word(run.to_owned())
            });
            rest = after;
        }
        let split = found.iter().position(|s| matches!(s, Segment::Word(_))).unwrap_or(found.len());
        let mut pre = found.split_off(split);
        for part in [&mut found, &mut pre] {
            while part.last() == Some(&Segment::Number(0)) {
                part.pop();
            }
        }
        found.extend(pre);
        found
    }
    let (a, b) = (segments(a), segments(b));
    for at in 0..a.len().max(b.len()) {
        let zero = Segment::Number(0);
        let found = match (a.get(at).unwrap_or(&zero), b.get(at).unwrap_or(&zero)) {
            (Segment::Word(x), Segment::Word(y)) => x.cmp(y),
            (Segment::Number(x), Segment::Number(y)) => x.cmp(y),
            (Segment::Word(_), Segment::Number(_)) => Ordering::Less,
            (Segment::Number(_), Segment::Word(_)) => Ordering::Greater,
        };
        if found != Ordering::Equal {
            return found;
        }
    }
    Ordering::Equal
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_have_a_key_and_are_equal_to_themselves(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        for scheme in Scheme::ALL {
            prop_assert!(scheme.key(&bytes).as_bytes().len() <= Key::CAPACITY);
            prop_assert_eq!(compare(scheme, &bytes, &bytes), Ordering::Equal);
        }
    }

    #[test]
    fn order_is_antisymmetric_and_transitive(a in version(), b in version(), c in version()) {
        for scheme in Scheme::ALL {
            let order = |x: &str, y: &str| compare(scheme, x.as_bytes(), y.as_bytes());
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            if order(&a, &b) != Ordering::Greater && order(&b, &c) != Ordering::Greater {
                prop_assert_ne!(order(&a, &c), Ordering::Greater, "{:?} {} {} {}", scheme, a, b, c);
            }
        }
    }

    #[test]
    fn debian_keys_agree_with_dpkgs_algorithm(a in "[0-9a-z.~+]{0,8}", b in "[0-9a-z.~+]{0,8}") {
        prop_assert_eq!(compare(Scheme::Deb, a.as_bytes(), b.as_bytes()), dpkg_part(a.as_bytes(), b.as_bytes()));
    }

    #[test]
    fn rpm_keys_agree_with_rpms_algorithm(a in "[0-9a-c._~^]{0,8}", b in "[0-9a-c._~^]{0,8}") {
        prop_assert_eq!(compare(Scheme::Rpm, a.as_bytes(), b.as_bytes()), rpm_part(a.as_bytes(), b.as_bytes()));
    }

    #[test]
    fn gem_keys_agree_with_rubygems_algorithm(a in "([0-3a-b]{1,2}[.-]){0,4}[0-3a-b]", b in "([0-3a-b]{1,2}[.-]){0,4}[0-3a-b]") {
        prop_assert_eq!(compare(Scheme::Gem, a.as_bytes(), b.as_bytes()), gem(&a, &b));
    }
}
