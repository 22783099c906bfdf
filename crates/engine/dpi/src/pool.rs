//! Things that come and go by the thousand, without asking the allocator for each.

/// Index that stands for nothing.
pub(crate) const NONE: u32 = u32::MAX;

/// A bounded store that hands out indices and uses freed places again.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    items: Vec<T>,
    free: Vec<u32>,
    limit: u32,
}

impl<T> Pool<T> {
    pub(crate) fn new(limit: u32) -> Self {
        Self { items: Vec::new(), free: Vec::new(), limit: limit.min(NONE - 1) }
    }
    /// A place for `item`; `None` when the bound is reached.
    pub(crate) fn put(&mut self, item: T) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            *self.get_mut(index)? = item;
            return Some(index);
        }
        let index = u32::try_from(self.items.len()).ok().filter(|index| *index < self.limit)?;
        self.items.push(item);
        Some(index)
    }
    /// A place with what was left in it, for things whose memory is worth keeping.
    pub(crate) fn reuse(&mut self, fresh: impl FnOnce() -> T) -> Option<u32> {
        if let Some(index) = self.free.pop() { Some(index) } else { self.put(fresh()) }
    }
    pub(crate) fn free(&mut self, index: u32) {
        self.free.push(index);
    }
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.items.get(usize::try_from(index).ok()?)
    }
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.items.get_mut(usize::try_from(index).ok()?)
    }
    /// Places in use.
    pub(crate) fn used(&self) -> usize {
        self.items.len().saturating_sub(self.free.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_is_used_again_and_the_bound_holds() {
        let mut pool = Pool::new(2);
        let first = pool.put(1).unwrap();
        assert_eq!((pool.put(2), pool.put(3)), (Some(1), None));
        pool.free(first);
        assert_eq!(pool.put(4), Some(first));
        assert_eq!((pool.get(first), pool.used()), (Some(&4), 2));
    }
}
