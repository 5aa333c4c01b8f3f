//! The static stride scheduler: indices in turn, each as often as its weight says, without a lock. gRPC's
//! (`static_stride_scheduler.cc`), for `weighted_round_robin` and `client_side_weighted_round_robin`.
//!
//! Weights are scaled so that the largest is 65535. A cursor walks over the endpoints in generations; in generation *g*
//! endpoint *i* of weight *w* is passed over if (*w·g* + 32767*·i*) mod 65535 < 65535 − *w*. That sum passes a multiple of
//! 65535 *w* times in 65535 generations, evenly spread, and the offset keeps neighbours from being passed over together.
//!
//! **How close**: of *N* picks in a row, an endpoint whose weight is *r* times the mean (after the clamp) gets its share
//! ± (1 + *r*) · (2 + *N*/131070). Why: any run of the cursor visits all endpoints *G* or *G* + 1 times, and *G* visits pick
//! endpoint *i* either ⌊*G·w*/65535⌋ or one more time, so each count is off by less than 2 and their sum, of which the
//! endpoint has *r/n*, by less than 2*n*; rounding to 16 bits moves each weight by up to half of 1/65535 of the largest.
//!
//! **A pick costs** one atomic exchange, and a multiplication for each endpoint looked at: max/mean of the weights on average.
//! gRPC takes a number from its counter for each of these and divides it into generation and index; here a pick finds its
//! endpoint first and then moves the cursor past it, and looks again if another thread was faster. The picks are the same.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::draw::below;

/// How far a weight may be from the mean of all before it is cut: it bounds the work of a pick. Implementations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum WeightClamp {
    /// Between 0.01 and 10 times the mean: gRPC C-core and the languages on it (`kMinRatio`, `kMaxRatio`).
    #[default]
    CCore,
    /// Between 0.1 and 10 times the mean: grpc-java (`K_MIN_RATIO`, `K_MAX_RATIO`).
    Java,
    /// Not at all: grpc-go; also the shares that Envoy's round robin gives.
    None,
}

impl WeightClamp {
    /// Smallest and largest weight, in means.
    fn ratios(self) -> (f64, f64) {
        match self {
            Self::CCore => (0.01, 10.0),
            Self::Java => (0.1, 10.0),
            Self::None => (0.0, f64::INFINITY),
        }
    }
}

/// What the largest weight is scaled to, and after how many generations the schedule repeats. `kMaxWeight` of
/// `static_stride_scheduler.cc`.
const MAX_WEIGHT: u32 = u16::MAX as u32;
/// Phase between neighbours, half a generation. `kOffset` of `static_stride_scheduler.cc`.
const OFFSET: u64 = MAX_WEIGHT as u64 / 2;

/// A schedule, and where it stands.
pub(super) struct StaticStride {
    /// At least one; the largest weight is [`MAX_WEIGHT`].
    rows: Box<[Row]>,
    /// Generation (upper half, below [`MAX_WEIGHT`]) and index (lower half) of the endpoint to look at next.
    cursor: AtomicU64,
}

/// One endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row {
    /// At least 1.
    weight: u16,
    /// [`OFFSET`] · index, modulo [`MAX_WEIGHT`].
    phase: u16,
}

impl StaticStride {
    /// A schedule for `weights`, positive and finite, that starts anywhere, as in all of gRPC's implementations: clients
    /// that see one change together must not send their next requests to one endpoint together.
    pub(super) fn new(weights: &[f64], clamp: WeightClamp, rng: &mut dyn rand::Rng) -> Self {
        let (generation, index) = (below(rng, MAX_WEIGHT as usize), below(rng, weights.len()));
        Self { rows: rows(weights, clamp), cursor: AtomicU64::new((generation as u64) << 32 | index as u64) }
    }

    /// The schedule of other weights for the same endpoints, which goes on where this one is; none if it is the same.
    pub(super) fn reweighted(&self, weights: &[f64], clamp: WeightClamp) -> Option<Self> {
        let rows = rows(weights, clamp);
        (rows != self.rows).then(|| Self { rows, cursor: AtomicU64::new(self.cursor.load(Ordering::Relaxed)) })
    }

    /// The next index.
    #[inline]
    pub(super) fn next(&self) -> usize {
        let mut next = 0;
        // Relaxed: picks need places of their own, not an order with anything else.
        self.cursor.update(Ordering::Relaxed, Ordering::Relaxed, |cursor| {
            let (index, after) = self.find(cursor);
            next = index;
            after
        });
        next
    }

    /// The first index to be picked from `cursor` on, and the cursor after it. There is one in every generation, as those of
    /// the largest weight are never passed over.
    #[inline]
    fn find(&self, cursor: u64) -> (usize, u64) {
        let (mut generation, mut index) = ((cursor >> 32) as u32, cursor as u32 as usize);
        loop {
            let (Row { weight, phase }, looked_at, in_generation) = (self.rows[index], index, generation);
            index += 1;
            if index == self.rows.len() {
                index = 0;
                generation = if generation == MAX_WEIGHT - 1 { 0 } else { generation + 1 };
            }
            let (weight, phase) = (u32::from(weight), u32::from(phase));
            // At most 65535 · 65534 + 65534 = 65535² − 1, which fits 32 bits.
            if (weight * in_generation + phase) % MAX_WEIGHT >= MAX_WEIGHT - weight {
                return (looked_at, u64::from(generation) << 32 | index as u64);
            }
        }
    }
}

fn rows(weights: &[f64], clamp: WeightClamp) -> Box<[Row]> {
    let (min_ratio, max_ratio) = clamp.ratios();
    // In units of the largest, so that no sum overflows.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let mean = weights.iter().map(|w| w / largest).sum::<f64>() / weights.len() as f64;
    let max = (mean * max_ratio).min(1.0);
    let scale = f64::from(MAX_WEIGHT) / max;
    // An endpoint of weight 0 would never have its turn; 1 is the least that has.
    let min = (scale * mean * min_ratio).round().max(1.0);
    // Casts of floats saturate, so no weight can come out of range.
    let scaled = |w: f64| ((w / largest).min(max) * scale).round().max(min) as u16;
    let phase = |index: u64| (index * OFFSET % u64::from(MAX_WEIGHT)) as u16;
    (0..).zip(weights).map(|(i, &w)| Row { weight: scaled(w), phase: phase(i) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A schedule that starts with this generation and index.
    fn at(weights: &[f64], clamp: WeightClamp, generation: u32, index: u32) -> StaticStride {
        StaticStride {
            rows: rows(weights, clamp),
            cursor: AtomicU64::new(u64::from(generation) << 32 | u64::from(index)),
        }
    }

    /// How often each index comes in `n` picks.
    fn counts(stride: &StaticStride, n: usize) -> Vec<u32> {
        let mut counts = vec![0; stride.rows.len()];
        (0..n).for_each(|_| counts[stride.next()] += 1);
        counts
    }

    fn from_the_start(weights: &[f64], clamp: WeightClamp, n: usize) -> Vec<u32> {
        counts(&at(weights, clamp, 0, 0), n)
    }

    fn one_heavy(heavy: f64) -> Vec<f64> {
        std::iter::once(heavy).chain([1.0; 19]).collect()
    }

    #[test]
    fn static_stride_scheduler_test_picks_are_weighted_exactly() {
        assert_eq!(from_the_start(&[1.0, 2.0, 3.0], WeightClamp::CCore, 6), [1, 2, 3]);
    }

    #[test]
    fn static_stride_scheduler_test_all_weights_equal_is_round_robin() {
        let stride = at(&[300.0; 3], WeightClamp::CCore, 0, 0);
        assert_eq!([0; 9].map(|_| stride.next()), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn static_stride_scheduler_test_largest_is_picked_every_generation() {
        // Mean 2, largest 3: 65535 generations hold 65535 · 3 · 2/3 = 131,070 picks, 65535 of them the largest's.
        assert_eq!(from_the_start(&[1.0, 2.0, 3.0], WeightClamp::CCore, 131_070), [21_845, 43_690, 65_535]);
    }

    #[test]
    fn static_stride_scheduler_test_max_is_clamped_for_high_ratio() {
        // Mean (81 + 19)/20 = 5, so 81 is cut to 50 and the whole is 50 + 19 = 69.
        let mut expected = vec![1; 20];
        expected[0] = 50;
        assert_eq!(from_the_start(&one_heavy(81.0), WeightClamp::CCore, 69), expected);
        // Of 100 picks 100 · 50/69 = 72.5.
        assert_eq!(from_the_start(&one_heavy(81.0), WeightClamp::CCore, 100)[0], 72);
        assert_eq!(from_the_start(&one_heavy(81.0), WeightClamp::None, 100)[0], 81);
    }

    #[test]
    fn static_stride_scheduler_test_min_is_clamped_for_high_ratio() {
        // Mean 50; the least is 0.01 · 50 = 0.5, that is one in 201 against 100. Java's is 0.1 · 50 = 5: one in 21.
        assert_eq!(from_the_start(&[100.0, 1e-10], WeightClamp::CCore, 201), [200, 1]);
        assert_eq!(from_the_start(&[100.0, 1e-10], WeightClamp::Java, 21), [20, 1]);
        // Unclamped it is 1 of 65536.
        assert_eq!(from_the_start(&[100.0, 1e-10], WeightClamp::None, 65_536), [65_535, 1]);
    }

    #[test]
    fn other_weights_go_on_where_the_old_ones_were() {
        let stride = at(&[1.0; 4], WeightClamp::None, 7, 2);
        assert!(stride.reweighted(&[5.0; 4], WeightClamp::None).is_none());
        // Half of the largest is 32768. Generation 8: 32768 · 8 + 32767 = 4 · 65535 + 32771, at least 65535 − 32768, so index 1
        // has its turn; generation 9: 4 (mod 65535), so it has not.
        let next = stride.reweighted(&[1.0, 0.5, 1.0, 1.0], WeightClamp::None).unwrap();
        assert_eq!([0; 8].map(|_| next.next()), [2, 3, 0, 1, 2, 3, 0, 2]);
        assert_eq!(stride.next(), 2, "requests that still use the old schedule");
    }

    #[test]
    fn no_turn_is_given_twice() {
        let stride = at(&[1.0, 2.0, 3.0], WeightClamp::CCore, 0, 0);
        let totals = std::thread::scope(|scope| {
            let threads = [0; 3].map(|_| scope.spawn(|| counts(&stride, 43_690)));
            threads.map(|thread| thread.join().unwrap())
        });
        // Together 131,070 picks, as above.
        let total = |i: usize| totals.iter().map(|counts| counts[i]).sum::<u32>();
        assert_eq!([0, 1, 2].map(total), [21_845, 43_690, 65_535]);
    }

    /// `StaticStrideScheduler::Pick` of gRPC, with 64 bits for its counter.
    fn grpc(rows: &[Row], sequence: &mut u64) -> usize {
        let n = rows.len() as u64;
        loop {
            let number = *sequence;
            *sequence += 1;
            let (generation, index) = (number / n, number % n);
            let (weight, max) = (u64::from(rows[index as usize].weight), u64::from(MAX_WEIGHT));
            if (weight * generation + index * OFFSET) % max >= max - weight {
                return index as usize;
            }
        }
    }

    proptest! {
        /// However far the counter is, the end of a cycle of 65535 generations included.
        #[test]
        fn picks_are_those_of_grpc(
            weights in proptest::collection::vec(prop_oneof![0.01..1.0f64, 1.0..1e6f64], 1..60),
            generation in prop_oneof![0..100_000u64, 65_400..65_535u64, 0..1u64 << 40],
            index in any::<prop::sample::Index>(),
            clamp in prop_oneof![Just(WeightClamp::CCore), Just(WeightClamp::None)],
        ) {
            let index = index.index(weights.len()) as u64;
            let stride = at(&weights, clamp, (generation % u64::from(MAX_WEIGHT)) as u32, index as u32);
            let mut sequence = generation * weights.len() as u64 + index;
            for pick in 0..5_000 {
                prop_assert_eq!(stride.next(), grpc(&stride.rows, &mut sequence), "pick {}", pick);
            }
        }

        #[test]
        fn share_tracks_weight_within_the_stated_bound(
            weights in proptest::collection::vec(1u32..=5_000, 1..40),
            generation in 0..MAX_WEIGHT,
            index in any::<prop::sample::Index>(),
            n in 1usize..5_000,
            clamp in prop_oneof![Just(WeightClamp::CCore), Just(WeightClamp::Java), Just(WeightClamp::None)],
        ) {
            let raw: Vec<f64> = weights.iter().copied().map(f64::from).collect();
            let counts = counts(&at(&raw, clamp, generation, index.index(raw.len()) as u32), n);
            let (min, max) = clamp.ratios();
            let raw_mean = raw.iter().sum::<f64>() / raw.len() as f64;
            let clamped: Vec<f64> = raw.iter().map(|w| w.min(raw_mean * max).max(raw_mean * min)).collect();
            let sum: f64 = clamped.iter().sum();
            for (weight, count) in clamped.iter().zip(&counts) {
                let expected = n as f64 * weight / sum;
                let ratio = weight / (sum / raw.len() as f64);
                let bound = (1.0 + ratio) * (2.0 + n as f64 / 131_070.0);
                prop_assert!((f64::from(*count) - expected).abs() < bound, "{count} of {n}, expected {expected} ± {bound}");
            }
        }

        /// Weights come from load reports, too: nothing that is positive and finite makes an endpoint lose its turn.
        #[test]
        fn extreme_weights_do_no_harm(
            weights in proptest::collection::vec(prop_oneof![Just(5e-324), Just(f64::MAX), 1e-300..1e300f64], 1..20),
            clamp in prop_oneof![Just(WeightClamp::CCore), Just(WeightClamp::None)],
        ) {
            let rows = rows(&weights, clamp);
            prop_assert!(rows.iter().all(|row| row.weight > 0));
            prop_assert_eq!(rows.iter().map(|row| row.weight).max(), Some(u16::MAX));
        }
    }
}
