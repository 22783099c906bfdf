//! A set of small numbers that remembers which came last.

/// Numbers from 0 up, as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    fresh: Vec<u16>,
}

impl Bits {
    /// Empties the set. Most messages have nothing of a set of sensors, so that there is no room until something is added.
    pub(crate) fn reset(&mut self) {
        self.words.clear();
        self.fresh.clear();
    }
    pub(crate) fn has(&self, number: u16) -> bool {
        self.words.get(usize::from(number / 64)).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
    /// Adds a number.
    pub(crate) fn add(&mut self, number: u16) {
        let (bit, place) = (1 << (number % 64), usize::from(number / 64));
        if place >= self.words.len() {
            self.words.resize(place.saturating_add(1), 0);
        }
        if let Some(word) = self.words.get_mut(place)
            && *word & bit == 0
        {
            *word |= bit;
            self.fresh.push(number);
        }
    }
    /// A number that was added since it was last asked for.
    pub(crate) fn fresh(&mut self) -> Option<u16> {
        self.fresh.pop()
    }
}
