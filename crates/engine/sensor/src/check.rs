//! What a number must be beside its form: digits that a card's or a social security number's own rules allow.

/// A condition on the bytes that end where an expression has matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// A number of cards: its length, its first digits, and Luhn's checksum (ISO/IEC 7812-1).
    Card(Scheme),
    /// A social security number of the United States that can have been given out (SSA, 20 CFR 422).
    SocialSecurity,
}

/// Who gives out cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// American Express: 34, 37.
    AmericanExpress,
    /// Discover: 6011, 644 to 649, 65.
    Discover,
    /// Mastercard: 51 to 55, 2221 to 2720.
    Mastercard,
    /// Visa: 4.
    Visa,
    /// Diners Club: 300 to 305, 36, 38.
    Diners,
    /// Diners Club enRoute: 2014, 2149, without a checksum.
    EnRoute,
    /// JCB: 3528 to 3589, and 1800 and 2131 with 15 digits.
    Jcb,
}

/// Bytes before the end of a match that a check looks at.
pub(crate) const WINDOW: usize = 40;
/// Most digits of a card's number.
const MAX_DIGITS: usize = 19;

impl Check {
    /// Whether what ends with `window` holds.
    #[must_use]
    pub fn holds(self, window: &[u8]) -> bool {
        match self {
            Self::Card(scheme) => card(scheme, window),
            Self::SocialSecurity => social_security(window),
        }
    }
}

fn card(scheme: Scheme, window: &[u8]) -> bool {
    // From the last digit to the first, over single blanks and hyphens.
    let mut digits = [0_u8; MAX_DIGITS];
    let (mut count, mut gap) = (0_usize, true);
    for byte in window.iter().rev() {
        match byte {
            b'0'..=b'9' => {
                let Some(place) = digits.get_mut(count) else { break };
                *place = byte & 0x0F;
                (count, gap) = (count.saturating_add(1), false);
            }
            b' ' | b'-' if !gap => gap = true,
            _ => break,
        }
    }
    let lengths: &[usize] = match scheme {
        Scheme::AmericanExpress | Scheme::EnRoute => &[15],
        Scheme::Diners => &[14],
        Scheme::Visa => &[13, 16, 19],
        Scheme::Jcb => &[15, 16],
        Scheme::Discover | Scheme::Mastercard => &[16],
    };
    lengths.iter().any(|length| {
        let Some(number) = digits.get(..*length).filter(|_| *length <= count) else { return false };
        let first = number
            .iter()
            .rev()
            .take(4)
            .fold(0_u16, |sum, digit| sum.saturating_mul(10).saturating_add(u16::from(*digit)));
        let known = match scheme {
            Scheme::AmericanExpress => matches!(first / 100, 34 | 37),
            Scheme::Discover => first == 6011 || matches!(first / 10, 644..=659),
            Scheme::Mastercard => matches!(first, 5100..=5599 | 2221..=2720),
            Scheme::Visa => first / 1000 == 4,
            Scheme::Diners => matches!(first / 10, 300..=305 | 360..=369 | 380..=389),
            Scheme::EnRoute => matches!(first, 2014 | 2149),
            Scheme::Jcb if *length == 15 => matches!(first, 1800 | 2131),
            Scheme::Jcb => matches!(first, 3528..=3589),
        };
        known && (scheme == Scheme::EnRoute || luhn(number))
    })
}

/// Luhn's sum over digits from the last to the first.
fn luhn(reversed: &[u8]) -> bool {
    let sum: u32 = reversed
        .iter()
        .enumerate()
        .map(|(at, digit)| {
            let doubled = u32::from(*digit).saturating_mul(if at % 2 == 1 { 2 } else { 1 });
            if doubled > 9 { doubled.saturating_sub(9) } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10) && reversed.iter().any(|digit| *digit != 0)
}

fn social_security(window: &[u8]) -> bool {
    let Some([a0, a1, a2, s0, g0, g1, s1, n0, n1, n2, n3]) = window.last_chunk::<11>() else { return false };
    let all = [a0, a1, a2, g0, g1, n0, n1, n2, n3];
    let never = (*a0 == b'0' && *a1 == b'0' && *a2 == b'0')
        || [a0, a1, a2] == [&b'6', &b'6', &b'6']
        || *a0 == b'9'
        || (*g0 == b'0' && *g1 == b'0')
        || [n0, n1, n2, n3].iter().all(|digit| **digit == b'0');
    s0 == s1 && all.iter().all(|digit| digit.is_ascii_digit()) && !never
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_its_first_digits_its_length_and_its_checksum() {
        for (scheme, text, want) in [
            (Scheme::Visa, "4111111111111111", true),
            (Scheme::Visa, "4111-1111-1111-1111", true),
            (Scheme::Visa, "pay 4111 1111 1111 1111", true),
            (Scheme::Visa, "4111111111111112", false),
            (Scheme::Visa, "4222222222222", true),
            (Scheme::Visa, "5555555555554444", false),
            (Scheme::Mastercard, "5555555555554444", true),
            (Scheme::Mastercard, "2223003122003222", true),
            (Scheme::AmericanExpress, "3782 822463 10005", true),
            (Scheme::Discover, "6011000990139424", true),
            (Scheme::Diners, "30569309025904", true),
            (Scheme::Jcb, "3530111333300000", true),
            (Scheme::EnRoute, "201400000000009", true),
            (Scheme::Visa, "", false),
        ] {
            assert_eq!(Check::Card(scheme).holds(text.as_bytes()), want, "{scheme:?} {text}");
        }
    }

    #[test]
    fn a_social_security_number_is_one_that_can_have_been_given_out() {
        for (text, want) in [
            ("078-05-1120", true),
            ("x 219 09 9999", true),
            ("219-09 9999", false),
            ("000-12-3456", false),
            ("666-12-3456", false),
            ("900-12-3456", false),
            ("123-00-4567", false),
            ("123-45-0000", false),
            ("12-34", false),
        ] {
            assert_eq!(Check::SocialSecurity.holds(text.as_bytes()), want, "{text}");
        }
    }
}
