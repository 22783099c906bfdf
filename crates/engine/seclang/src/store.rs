//! The values of a transaction.

use hashbrown::HashMap;

use crate::variable::{List, Scalar, Source};

/// A named value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Values of one list that are kept.
const MAX_ENTRIES: usize = 4096;

/// Bytes of a value that rules set.
pub(crate) const MAX_SET_BYTES: usize = 64 * 1024;

/// Scalars: the last one's place, and one more.
const SCALARS: usize = Scalar::HighestSeverity as usize + 1;

/// All values by their source.
#[derive(Debug)]
pub(crate) struct Store {
    lists: [Vec<Entry>; List::COUNT],
    scalars: [Vec<u8>; SCALARS],
    /// Where a name that rules set is, by list and name in small letters.
    places: HashMap<(List, Vec<u8>), usize, foldhash::fast::RandomState>,
    /// Values that found no place.
    pub(crate) dropped: u64,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            lists: std::array::from_fn(|_| Vec::new()),
            scalars: std::array::from_fn(|_| Vec::new()),
            places: HashMap::default(),
            dropped: 0,
        }
    }

    pub(crate) fn list(&self, list: List) -> &[Entry] {
        self.lists.get(list.index()).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a value; false when there is no place.
    pub(crate) fn push(&mut self, list: List, name: Vec<u8>, value: Vec<u8>) -> bool {
        match self.lists.get_mut(list.index()).filter(|entries| entries.len() < MAX_ENTRIES) {
            Some(entries) => {
                entries.push(Entry { name, value });
                true
            }
            None => {
                self.dropped = self.dropped.saturating_add(1);
                false
            }
        }
    }

    pub(crate) fn clear(&mut self, list: List) {
        if let Some(entries) = self.lists.get_mut(list.index()) {
            entries.clear();
        }
    }

    pub(crate) fn scalar(&self, scalar: Scalar) -> &[u8] {
        self.scalars.get(scalar as usize).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn put(&mut self, scalar: Scalar, value: &[u8]) {
        if let Some(place) = self.scalars.get_mut(scalar as usize) {
            place.clear();
            place.extend_from_slice(value);
        }
    }

    /// Adds bytes to a scalar while it is shorter than `most`; gives how many were left out.
    pub(crate) fn append(&mut self, scalar: Scalar, bytes: &[u8], most: usize) -> usize {
        let Some(place) = self.scalars.get_mut(scalar as usize) else { return bytes.len() };
        let room = most.saturating_sub(place.len()).min(bytes.len());
        place.extend_from_slice(bytes.get(..room).unwrap_or_default());
        bytes.len().saturating_sub(room)
    }

    /// The value of a name that rules set.
    pub(crate) fn variable(&self, list: List, name: &[u8]) -> Option<&[u8]> {
        let at = self.place(list, name)?;
        self.list(list).get(at).map(|entry| entry.value.as_slice())
    }

    /// Where a name that rules set is in its list.
    pub(crate) fn place(&self, list: List, name: &[u8]) -> Option<usize> {
        self.places.get(&(list, name.to_ascii_lowercase())).copied()
    }

    /// Sets the value of a name.
    pub(crate) fn set(&mut self, list: List, name: &[u8], mut value: Vec<u8>) {
        value.truncate(MAX_SET_BYTES);
        let key = (list, name.to_ascii_lowercase());
        let entries = self.lists.get_mut(list.index());
        match (self.places.get(&key), entries) {
            (Some(at), Some(entries)) => {
                if let Some(entry) = entries.get_mut(*at) {
                    entry.value = value;
                }
            }
            (None, Some(entries)) => {
                let at = entries.len();
                if self.push(list, key.1.clone(), value) {
                    self.places.insert(key, at);
                }
            }
            (_, None) => {}
        }
    }

    /// Takes a name away.
    pub(crate) fn remove(&mut self, list: List, name: &[u8]) {
        let Some(at) = self.places.remove(&(list, name.to_ascii_lowercase())) else { return };
        let Some(entries) = self.lists.get_mut(list.index()).filter(|entries| at < entries.len()) else {
            return;
        };
        entries.swap_remove(at);
        // The last one has taken its place.
        if let Some(moved) = entries.get(at)
            && let Some(place) = self.places.get_mut(&(list, moved.name.clone()))
        {
            *place = at;
        }
    }

    /// How many values a source has.
    pub(crate) fn count(&self, source: Source) -> usize {
        match source {
            Source::Values(list) | Source::Names(list) => self.list(list).len(),
            Source::One(_) => 1,
        }
    }

    /// One value of a source.
    pub(crate) fn value(&self, source: Source, at: usize) -> &[u8] {
        match source {
            Source::Values(list) => {
                self.list(list).get(at).map(|entry| entry.value.as_slice()).unwrap_or_default()
            }
            Source::Names(list) => self.name(Source::Values(list), at),
            Source::One(scalar) => self.scalar(scalar),
        }
    }

    /// The name of one value of a source; scalars have none.
    pub(crate) fn name(&self, source: Source, at: usize) -> &[u8] {
        match source {
            Source::Values(list) | Source::Names(list) => {
                self.list(list).get(at).map(|entry| entry.name.as_slice()).unwrap_or_default()
            }
            Source::One(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_set_in_any_case_and_removal_keeps_the_others() {
        let mut store = Store::new();
        for (name, value) in [("a", "1"), ("B", "2"), ("c", "3"), ("A", "4")] {
            store.set(List::Tx, name.as_bytes(), value.as_bytes().to_vec());
        }
        store.remove(List::Tx, b"a");
        assert_eq!(store.variable(List::Tx, b"a"), None);
        assert_eq!(store.variable(List::Tx, b"b"), Some(&b"2"[..]));
        assert_eq!(store.variable(List::Tx, b"C"), Some(&b"3"[..]));
        assert_eq!(store.list(List::Tx).len(), 2);
    }

    #[test]
    fn a_list_is_bounded_and_what_it_leaves_out_is_counted() {
        let mut store = Store::new();
        for at in 0..MAX_ENTRIES + 3 {
            store.set(List::Tx, at.to_string().as_bytes(), Vec::new());
        }
        assert_eq!((store.list(List::Tx).len(), store.dropped), (MAX_ENTRIES, 3));
        assert_eq!(store.append(Scalar::RequestBody, b"abcdef", 4), 2);
    }
}
