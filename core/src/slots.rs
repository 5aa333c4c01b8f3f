//! An append-only table of per-endpoint state that never moves.

use std::sync::OnceLock;

/// Rows of the first bucket; each further bucket holds twice as many.
const FIRST: usize = 32;
/// Enough buckets for every `u32` index.
const BUCKETS: usize = 28;

/// Values indexed by [`EndpointId`](crate::EndpointId), made on demand, that stay where they are for as long as the
/// table lives.
///
/// A policy owns one in an `Arc` and hands clones to its pickers, so that a count taken with an old picker is given back
/// through a new one. Reading is two loads and no lock; growing happens on the control side. Bucket *k* holds
/// 32 · 2^k rows, so a table of n rows wastes less than n.
///
/// ```
/// use lb_core::slots::Slots;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let outstanding: Slots<AtomicU32> = Slots::new();
/// outstanding.reserve(100);
/// outstanding.get(70).unwrap().fetch_add(1, Ordering::Relaxed);
/// assert_eq!(outstanding.get(70).unwrap().load(Ordering::Relaxed), 1);
/// assert!(outstanding.get(100_000).is_none());
/// ```
#[derive(Debug)]
pub struct Slots<T> {
    buckets: [OnceLock<Box<[T]>>; BUCKETS],
}

impl<T: Default> Slots<T> {
    /// An empty table; it allocates when rows are reserved.
    pub fn new() -> Self {
        Self { buckets: [const { OnceLock::new() }; BUCKETS] }
    }

    /// Makes sure that rows `0..len` exist.
    pub fn reserve(&self, len: usize) {
        if len == 0 {
            return;
        }
        for (bucket, rows) in self.buckets.iter().zip(0..=place(len - 1).0).map(|(b, k)| (b, FIRST << k)) {
            bucket.get_or_init(|| (0..rows).map(|_| T::default()).collect());
        }
    }
}

impl<T> Slots<T> {
    /// The row of `index`, if it was reserved.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let (bucket, row) = place(index);
        self.buckets.get(bucket)?.get()?.get(row)
    }
}

impl<T: Default> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Bucket and row of an index. With `i = index + 32`, bucket k holds the `i` whose highest bit is 5 + k.
#[inline]
const fn place(index: usize) -> (usize, usize) {
    let i = index + FIRST;
    let top = i.ilog2();
    ((top - FIRST.ilog2()) as usize, i - (1 << top))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn places_are_dense_and_distinct() {
        // 0..32 in bucket 0, 32..96 in bucket 1, 96..224 in bucket 2.
        assert_eq!((place(0), place(31), place(32), place(95), place(96)), ((0, 0), (0, 31), (1, 0), (1, 63), (2, 0)));
    }

    #[test]
    fn rows_keep_their_value_when_the_table_grows() {
        let t: Slots<AtomicU32> = Slots::new();
        t.reserve(1);
        t.get(0).unwrap().store(7, Ordering::Relaxed);
        t.reserve(10_000);
        assert_eq!(t.get(0).unwrap().load(Ordering::Relaxed), 7);
        assert!(t.get(9_999).is_some());
    }
}
