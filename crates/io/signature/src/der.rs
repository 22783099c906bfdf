//! As much of DER (X.690) as is needed to take one extension out of a certificate: elements with one-byte tags and
//! definite lengths.

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const OCTET_STRING: u8 = 0x04;
/// `extensions [3] EXPLICIT` of a certificate (RFC 5280 §4.1).
pub(crate) const EXTENSIONS: u8 = 0xA3;

/// The first element and what is behind it.
pub(crate) fn element(input: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, rest) = input.split_first()?;
    // Tags of several bytes have all five low bits set.
    if tag & 0x1F == 0x1F {
        return None;
    }
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..=0x7F => (usize::from(short), rest),
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7F))?;
            (digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    let whole = input.get(..input.len().checked_sub(rest.len())?)?;
    Some((Element { tag, content, whole }, rest))
}

/// The elements in a content; none where it is not made of elements alone.
pub(crate) fn elements(mut content: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    while !content.is_empty() {
        let (one, rest) = element(content)?;
        found.push(one);
        content = rest;
    }
    Some(found)
}

/// The numbers of an object identifier, with dots between them.
pub(crate) fn object_text(content: &[u8]) -> Option<String> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0_u64;
    for byte in content {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7F))?;
        if byte & 0x80 == 0 {
            if numbers.is_empty() {
                // The first two stand in one.
                let first = (number / 40).min(2);
                numbers.push(first);
                number -= first * 40;
            }
            numbers.push(number);
            number = 0;
        }
    }
    Some(numbers.iter().map(u64::to_string).collect::<Vec<_>>().join("."))
}

/// An element of this tag.
pub(crate) fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits: Vec<u8> = length.into_iter().skip_while(|digit| *digit == 0).collect();
    let mut out = vec![tag];
    match digits.as_slice() {
        [] => out.push(0),
        [short @ 0..=0x7F] => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_wrapped_is_read_back(tag in 0_u8..31, content in prop::collection::vec(any::<u8>(), 0..1_000)) {
            let wrapped = wrap(tag, &content);
            let (read, rest) = element(&wrapped).unwrap();
            prop_assert_eq!((read.tag, read.content, read.whole, rest.len()), (tag, &content[..], &wrapped[..], 0));
        }

        #[test]
        fn lengths_of_three_bytes_are_read_back(length in 65_530_usize..65_540) {
            let wrapped = wrap(SEQUENCE, &vec![7; length]);
            prop_assert_eq!(element(&wrapped).unwrap().0.content.len(), length);
        }

        #[test]
        fn any_bytes_are_elements_or_none(input in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(found) = elements(&input) {
                let length: usize = found.iter().map(|one| one.whole.len()).sum();
                prop_assert_eq!(length, input.len());
            }
        }
    }
}
