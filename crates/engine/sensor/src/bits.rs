//! A set of small numbers that remembers which came last.

/// Numbers from 0 up, as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    fresh: Vec<u16>,
}

impl Bits {
    /// Empties the set, for numbers below `count`.
    pub(crate) fn reset(&mut self, count: usize) {
        self.words.clear();
        self.words.resize(count.div_ceil(64), 0);
        self.fresh.clear();
    }
    pub(crate) fn has(&self, number: u16) -> bool {
        self.words.get(usize::from(number / 64)).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
    /// Adds a number.
    pub(crate) fn add(&mut self, number: u16) {
        let bit = 1 << (number % 64);
        if let Some(word) = self.words.get_mut(usize::from(number / 64))
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
