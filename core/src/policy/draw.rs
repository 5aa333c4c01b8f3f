//! Numbers drawn from the caller's random stream. One way to draw each kind, so that equal seeds give equal picks.

use rand::Rng;

/// An index below `len`, by Lemire's multiply-shift without rejection: the upper half of `r · len` for a 32-bit `r`.
///
/// No division; the most likely index is at most `len / 2^32` more likely than the least, 2 in a million for 10,000
/// endpoints. Zero when `len` is zero.
#[inline]
pub(super) fn below(rng: &mut dyn Rng, len: usize) -> usize {
    ((u64::from(rng.next_u32()) * len as u64) >> 32) as usize
}

/// A number between 0 and 1, never either: the middle of one of 2^53 equal intervals.
pub(super) fn open_unit(rng: &mut dyn Rng) -> f64 {
    const INTERVALS: f64 = (1u64 << 53) as f64;
    ((rng.next_u64() >> 11) as f64 + 0.5) / INTERVALS
}

/// Draws indices, each as often as its weight says, in constant time: Walker's alias method, built as by Vose ("A Linear
/// Algorithm for Generating Random Numbers with a Given Distribution", 1991).
///
/// Of n weights each has a column, and every column is as likely: the part of it below its cut belongs to its own index, the
/// rest to another that has more than its column holds.
#[derive(Debug)]
pub(super) struct WeightedIndex(Box<[Column]>);

#[derive(Debug, Clone, Copy)]
struct Column {
    /// In 1/2^32 of the column.
    cut: u32,
    /// Its own index if nothing is left for another.
    alias: u32,
}

impl WeightedIndex {
    /// Of positive, finite weights; at least one.
    pub(super) fn new(weights: &[f64]) -> Self {
        const WHOLE: f64 = (1u64 << 32) as f64;
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        // What is still to be placed of each, in columns.
        let mut left: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..weights.len() as u32).partition(|&i| left[i as usize] < 1.0);
        let mut columns: Box<[Column]> = (0..).take(weights.len()).map(|alias| Column { cut: 0, alias }).collect();
        while let (Some(filled), Some(&giver)) = (small.pop(), large.last()) {
            let part = left[filled as usize];
            columns[filled as usize] = Column { cut: (part * WHOLE) as u32, alias: giver };
            left[giver as usize] -= 1.0 - part;
            if left[giver as usize] < 1.0 {
                small.extend(large.pop());
            }
        }
        // Whoever is left has a whole column, but for rounding.
        Self(columns)
    }

    /// One index; one number from the stream: its upper half says the column, its lower half the part.
    #[inline]
    pub(super) fn draw(&self, rng: &mut dyn Rng) -> usize {
        let number = rng.next_u64();
        let index = ((number >> 32) * self.0.len() as u64) >> 32;
        let column = self.0[index as usize];
        if (number as u32) < column.cut { index as usize } else { column.alias as usize }
    }
}

/// An index below `len` that is none of the first `count` of `drawn`, which are ascending; it takes its place among them.
///
/// Of the `len` − `count` that are left, so the draw steps over those before it.
#[inline]
pub(super) fn another(rng: &mut dyn Rng, len: usize, drawn: &mut [usize], count: usize) -> usize {
    let mut index = below(rng, len - count);
    let mut at = 0;
    while at < count && drawn[at] <= index {
        index += 1;
        at += 1;
    }
    drawn.copy_within(at..count, at + 1);
    drawn[at] = index;
    index
}

/// Puts `items` into a uniformly random order (Fisher and Yates).
pub(super) fn shuffle<T>(rng: &mut dyn Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(rng, last + 1));
    }
}

#[cfg(test)]
pub(super) mod scripted {
    //! A stream that says what the test wants.

    use std::convert::Infallible;

    /// Gives the numbers of a list, then starts over.
    pub(in crate::policy) struct Script {
        words: Vec<u32>,
        next: usize,
    }

    impl Script {
        /// A stream from which [`below`](super::below)`(len)` draws exactly these indices (mod `len`).
        pub(in crate::policy) fn indices(len: u32, indices: &[u32]) -> Self {
            Self::each(&indices.iter().map(|&i| (i % len, len)).collect::<Vec<_>>())
        }

        /// A stream from which [`below`](super::below) draws the first of each pair when asked for one below the second.
        pub(in crate::policy) fn each(draws: &[(u32, u32)]) -> Self {
            // (r · len) >> 32 = i for r = ⌈i · 2^32 / len⌉.
            let word = |&(i, len): &(u32, u32)| (u64::from(i) << 32).div_ceil(u64::from(len)) as u32;
            Self { words: draws.iter().map(word).collect(), next: 0 }
        }
    }

    impl rand::TryRng for Script {
        type Error = Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            let word = self.words[self.next % self.words.len()];
            self.next += 1;
            Ok(word)
        }

        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(u64::from(self.try_next_u32()?) << 32 | u64::from(self.try_next_u32()?))
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            for byte in bytes {
                *byte = self.try_next_u32()? as u8;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    #[test]
    fn below_covers_its_range_evenly() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7)] += 1;
        }
        // 10,000 expected each; the standard deviation is √(70,000 · 1/7 · 6/7) = 92.6, and 5 of them are 463.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 463), "{counts:?}");
        assert_eq!(below(&mut rng, 1), 0);
    }

    #[test]
    fn weighted_indices_come_as_often_as_their_weight_says() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        for weights in [&[1.0, 2.0, 3.0, 4.0][..], &[1.0; 5], &[0.01, 0.01, 7.0], &[3.5], &[5e-324, 1.0]] {
            let index = WeightedIndex::new(weights);
            let mut counts = vec![0u32; weights.len()];
            for _ in 0..100_000 {
                counts[index.draw(&mut rng)] += 1;
            }
            for (weight, count) in weights.iter().zip(&counts) {
                let share = weight / weights.iter().sum::<f64>();
                // Five standard deviations of a binomial count.
                let bound = 5.0 * (100_000.0 * share * (1.0 - share)).sqrt() + 1.0;
                assert!((f64::from(*count) - 100_000.0 * share).abs() < bound, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn weighted_columns_hold_exactly_the_weights() {
        // Of {1, 3} each column is a mean of 2: index 0 fills half of its own, index 1 the other half and its own.
        let index = WeightedIndex::new(&[1.0, 3.0]);
        let at = |column: u32, part: u32| {
            // The words of a scripted stream: `draw` takes the upper half first.
            index.draw(&mut scripted::Script::each(&[(column, 2), (part, 4)]))
        };
        assert_eq!([at(0, 0), at(0, 1), at(0, 2), at(0, 3)], [0, 0, 1, 1]);
        assert_eq!([at(1, 0), at(1, 3)], [1, 1]);
    }

    #[test]
    fn scripts_draw_what_they_say() {
        let mut rng = scripted::Script::indices(3, &[0, 1, 2, 3]);
        assert_eq!([0; 4].map(|_| below(&mut rng, 3)), [0, 1, 2, 0]);
    }

    #[test]
    fn distinct_indices_are_as_likely_in_every_order() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut draws = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut drawn = [0; 3];
            let order = [0, 1, 2].map(|count| another(&mut rng, 4, &mut drawn, count));
            *draws.entry(order).or_insert(0u32) += 1;
        }
        // 4 · 3 · 2 = 24 orders, 1,000 each; five standard deviations are 5 · √(24,000 · 1/24 · 23/24) = 155.
        assert_eq!(draws.len(), 24);
        assert!(draws.values().all(|c| c.abs_diff(1_000) < 155), "{draws:?}");
    }

    #[test]
    fn a_shuffle_reaches_every_order() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let mut orders = std::collections::BTreeMap::new();
        for _ in 0..6_000 {
            let mut items = [0, 1, 2];
            shuffle(&mut rng, &mut items);
            *orders.entry(items).or_insert(0u32) += 1;
        }
        // 1,000 expected of each of the 6; five standard deviations are 5 · √(6,000 · 1/6 · 5/6) = 144.
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|c| c.abs_diff(1_000) < 144), "{orders:?}");
    }
}
