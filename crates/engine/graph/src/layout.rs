//! Where marks are put: the same marks always lie at the same places.

use std::f32::consts::{PI, TAU};

/// The angle between neighbours of a sunflower's seeds: nothing lines up, so that discs fill evenly.
const GOLDEN_ANGLE: f32 = 2.399_963;

/// Places of `count` marks of radius 1 within a disc around 0, and the radius of that disc.
pub(crate) fn seeds(count: usize) -> (Vec<(f32, f32)>, f32) {
    // Seeds at sqrt(n) lie about sqrt(pi) apart, so 1.6 keeps marks of radius 1 from touching.
    let spacing = 1.6_f32;
    let places: Vec<(f32, f32)> = (0_u16..)
        .take(count)
        .map(|n| {
            let (reach, angle) = (spacing * f32::from(n).sqrt(), GOLDEN_ANGLE * f32::from(n));
            (reach * angle.cos(), reach * angle.sin())
        })
        .collect();
    let outermost = places.last().map_or(0.0, |(x, y)| x.hypot(*y));
    (places, outermost + 1.5)
}

/// Places for discs of these radii so that none touches another: the first at 0, each next one at the first free place
/// along a spiral, further out than the one before, so that the spiral is walked once.
pub(crate) fn pack(radii: &[f32]) -> Vec<(f32, f32)> {
    let mut placed: Vec<(f32, f32, f32)> = Vec::with_capacity(radii.len());
    let (mut reach, mut angle, mut at) = (0.0_f32, 0.0_f32, (0.0_f32, 0.0_f32));
    for radius in radii {
        let free =
            |x: f32, y: f32| placed.iter().all(|(px, py, pr)| (px - x).hypot(py - y) >= pr + radius + GAP);
        while !free(at.0, at.1) {
            // A step is about one unit of length along the spiral, whose arms lie one unit apart.
            angle += 1.0 / reach.max(1.0);
            reach = angle / TAU;
            at = (reach * angle.cos(), reach * angle.sin());
        }
        placed.push((at.0, at.1, *radius));
    }
    placed.into_iter().map(|(x, y, _)| (x, y)).collect()
}

/// Room between discs.
const GAP: f32 = 1.0;

/// Two decimals are enough for a screen and keep the text short.
pub(crate) fn rounded(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

/// Radius of a disc whose area stands for `members`; 1 for one.
pub(crate) fn radius_of(members: usize) -> f32 {
    let members = f32::from(u16::try_from(members).unwrap_or(u16::MAX)).max(1.0);
    (1.0 + (members / PI).ln_1p() * 0.35).min(3.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn discs_never_touch(radii in prop::collection::vec(1.0_f32..6.0, 0..40)) {
            let places = pack(&radii);
            for (a, ((ax, ay), ar)) in places.iter().zip(&radii).enumerate() {
                for ((bx, by), br) in places.iter().zip(&radii).skip(a + 1) {
                    prop_assert!((ax - bx).hypot(ay - by) >= ar + br);
                }
            }
            prop_assert_eq!(pack(&radii), places);
        }

        #[test]
        fn seeds_lie_apart_and_within_their_disc(count in 0_usize..500) {
            let (places, radius) = seeds(count);
            prop_assert_eq!(places.len(), count);
            for (a, (ax, ay)) in places.iter().enumerate() {
                prop_assert!(ax.hypot(*ay) <= radius);
                for (bx, by) in places.iter().skip(a + 1) {
                    prop_assert!((ax - bx).hypot(ay - by) > 1.5, "{ax},{ay} {bx},{by}");
                }
            }
        }
    }
}
