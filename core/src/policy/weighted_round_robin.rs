//! `weighted_round_robin`: the ready endpoints in turn, each as often as its weight says.
//!
//! **Solves** endpoints of different size, and shares that were decided elsewhere (1 % to a canary): weights come from
//! the resolver (`load_balancing_weight`) and stay until it sends others. Weights from load reports are another policy.
//!
//! **Source**: the static stride scheduler, with which gRPC implements A58 (grpc `static_stride_scheduler.cc`). Weights
//! are scaled so that the largest is 65535. A counter walks over the endpoints in generations; in generation *g* endpoint
//! *i* of weight *w* is skipped if (*w·g* + 32767*·i*) mod 65535 < 65535 − *w*. That sum passes a multiple of 65535 *w*
//! times in 65535 generations, evenly spread, and the offset keeps neighbours from being skipped together.
//!
//! **A pick costs** an atomic addition and a division for each endpoint looked at: max/mean of the weights on average, so
//! at most 10 with the default clamp. Without a clamp it can be as many as there are endpoints.
//!
//! **How close**: of *N* picks from one picker, wherever it started, an endpoint whose weight is *r* times the mean (after the
//! clamp) gets its share ± (1 + *r*) · (2 + *N*/131070) requests. Why: any run of the counter visits all endpoints
//! *G* or *G* + 1 times, and *G* visits pick endpoint *i* either ⌊*G·w*/65535⌋ or one more time, so each count is off
//! by less than 2 and their sum, of which the endpoint has *r/n*, by less than 2*n*; rounding to 16 bits moves each weight
//! by up to half of 1/65535 of the largest.
//!
//! **Does badly** when weights are out of date: like `round_robin` it never looks at load. With many endpoints and few
//! requests a light endpoint waits long for its turn: with 1 % one request in 100, not one in the first 100 (the start is
//! random). A clamp makes extreme weights less extreme: of {81, 1 × 19} the first gets 50/69 = 72 %, not 81 %.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("weighted_round_robin").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |(i, weight)| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80"))).with_weight(weight);
//! policy.update(&mut cx, &EndpointSet::new([(0, 99), (1, 1)].map(endpoint)));
//! policy.connectivity(&mut cx, EndpointId(0), Connectivity::Ready);
//! policy.connectivity(&mut cx, EndpointId(1), Connectivity::Ready);
//! let picker = policy.picker(&mut cx);
//! let mut canary = 0;
//! for _ in 0..10_000 {
//!     if picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) == Pick::Endpoint(EndpointId(1)) {
//!         canary += 1;
//!     }
//! }
//! assert!((98..=102).contains(&canary), "{canary}");
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::{Picker, Policy};
use crate::{Context, EndpointId, Pick, PickContext};

/// Settings of `weighted_round_robin`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WeightedRoundRobinConfig {
    /// How far a weight may be from the mean; as gRPC C-core has it by default.
    pub clamp: WeightClamp,
}

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

impl Settings for WeightedRoundRobinConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(WeightedRoundRobin { clamp: self.clamp }))
    }
}

struct WeightedRoundRobin {
    clamp: WeightClamp,
}

impl PickerFactory for WeightedRoundRobin {
    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let stride = StaticStride::new(&ready.weights(), self.clamp);
        let ready = ready.ids();
        // Anywhere in the schedule, as all of gRPC's implementations start: clients that see one change together
        // must not send their next requests to one endpoint together.
        let (generation, index) = (below(cx.rng, usize::from(MAX_WEIGHT)), below(cx.rng, ready.len()));
        let sequence = AtomicU64::new((generation * ready.len() + index) as u64);
        Arc::new(WeightedRoundRobinPicker { ready, stride, sequence })
    }
}

struct WeightedRoundRobinPicker {
    ready: Box<[EndpointId]>,
    stride: StaticStride,
    /// 64 bits, as gRPC's 32 break the pattern when they overflow; these last 584 years at one step a nanosecond.
    sequence: AtomicU64,
}

impl Picker for WeightedRoundRobinPicker {
    #[inline]
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        // Relaxed: picks need distinct numbers, not an order with anything else.
        Pick::Endpoint(self.ready[self.stride.next(|| self.sequence.fetch_add(1, Ordering::Relaxed))])
    }
}

/// What the largest weight is scaled to. `kMaxWeight` of `static_stride_scheduler.cc`.
const MAX_WEIGHT: u16 = u16::MAX;
/// Phase between neighbours, half a generation. `kOffset` of `static_stride_scheduler.cc`.
const OFFSET: u64 = MAX_WEIGHT as u64 / 2;

/// Turns a sequence of numbers into indices, each as often as its weight says.
struct StaticStride {
    /// At least 1, the largest [`MAX_WEIGHT`].
    weights: Box<[u16]>,
}

impl StaticStride {
    /// A schedule for positive `weights`.
    fn new(weights: &[f64], clamp: WeightClamp) -> Self {
        let (min_ratio, max_ratio) = clamp.ratios();
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let max = weights.iter().copied().fold(0.0, f64::max).min(mean * max_ratio);
        let scale = f64::from(MAX_WEIGHT) / max;
        // An endpoint of weight 0 would never have its turn; 1 is the least that has.
        let min = (scale * mean * min_ratio).round().max(1.0);
        // Casts of floats saturate, so no weight can come out of range.
        let weights = weights.iter().map(|&w| (w.min(max) * scale).round().max(min) as u16).collect();
        Self { weights }
    }

    /// The next index. It ends because the endpoints of the largest weight have a turn in every generation.
    #[inline]
    fn next(&self, mut sequence: impl FnMut() -> u64) -> usize {
        let n = self.weights.len() as u64;
        loop {
            let number = sequence();
            let (generation, index) = (number / n, number % n);
            let weight = u64::from(self.weights[index as usize]);
            let modulus = u64::from(MAX_WEIGHT);
            // The schedule repeats after MAX_WEIGHT generations, and the product of the remainders fits 32 bits.
            if (weight * (generation % modulus) + index * OFFSET) % modulus >= modulus - weight {
                return index as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How often each index comes in `n` picks from sequence number `start` on.
    fn counts(weights: &[f64], clamp: WeightClamp, start: u64, n: usize) -> Vec<u32> {
        let (stride, mut sequence) = (StaticStride::new(weights, clamp), start);
        let mut counts = vec![0; weights.len()];
        for _ in 0..n {
            let next = stride.next(|| {
                sequence += 1;
                sequence - 1
            });
            counts[next] += 1;
        }
        counts
    }

    fn one_heavy(heavy: f64) -> Vec<f64> {
        std::iter::once(heavy).chain([1.0; 19]).collect()
    }

    #[test]
    fn static_stride_scheduler_test_picks_are_weighted_exactly() {
        assert_eq!(counts(&[1.0, 2.0, 3.0], WeightClamp::CCore, 0, 6), [1, 2, 3]);
    }

    #[test]
    fn static_stride_scheduler_test_all_weights_equal_is_round_robin() {
        let (stride, mut sequence) = (StaticStride::new(&[300.0; 3], WeightClamp::CCore), 0..);
        let picks: Vec<usize> = (0..9).map(|_| stride.next(|| sequence.next().unwrap())).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn static_stride_scheduler_test_largest_is_picked_every_generation() {
        // Mean 2, largest 3: 65535 generations hold 65535 · 3 · 2/3 = 131,070 picks, 65535 of them the largest's.
        assert_eq!(counts(&[1.0, 2.0, 3.0], WeightClamp::CCore, 0, 131_070), [21_845, 43_690, 65_535]);
    }

    #[test]
    fn static_stride_scheduler_test_max_is_clamped_for_high_ratio() {
        // Mean (81 + 19)/20 = 5, so 81 is cut to 50 and the whole is 50 + 19 = 69.
        let mut expected = vec![1; 20];
        expected[0] = 50;
        assert_eq!(counts(&one_heavy(81.0), WeightClamp::CCore, 0, 69), expected);
        // Of 100 picks 100 · 50/69 = 72.5.
        assert_eq!(counts(&one_heavy(81.0), WeightClamp::CCore, 0, 100)[0], 72);
        assert_eq!(counts(&one_heavy(81.0), WeightClamp::None, 0, 100)[0], 81);
    }

    #[test]
    fn static_stride_scheduler_test_min_is_clamped_for_high_ratio() {
        // Mean 50; the least is 0.01 · 50 = 0.5, that is one in 201 against 100. Java's is 0.1 · 50 = 5: one in 21.
        assert_eq!(counts(&[100.0, 1e-10], WeightClamp::CCore, 0, 201), [200, 1]);
        assert_eq!(counts(&[100.0, 1e-10], WeightClamp::Java, 0, 21), [20, 1]);
        // Unclamped it is 1 of 65536.
        assert_eq!(counts(&[100.0, 1e-10], WeightClamp::None, 0, 65_536), [65_535, 1]);
    }

    #[test]
    fn a_schedule_goes_on_past_32_bits() {
        let start = u64::from(u32::MAX) - 3;
        // Two whole rounds of weight 6: 2, 4 and 6, give or take what the cut at the start moves.
        let counts = counts(&[1.0, 2.0, 3.0], WeightClamp::CCore, start, 12);
        assert!(counts.iter().zip([2u32, 4, 6]).all(|(c, e)| c.abs_diff(e) <= 1), "{counts:?}");
    }

    proptest! {
        #[test]
        fn share_tracks_weight_within_the_stated_bound(
            weights in proptest::collection::vec(1u32..=5_000, 1..40),
            start: u32,
            n in 1usize..5_000,
            clamp in prop_oneof![Just(WeightClamp::CCore), Just(WeightClamp::Java), Just(WeightClamp::None)],
        ) {
            let raw: Vec<f64> = weights.iter().copied().map(f64::from).collect();
            let counts = counts(&raw, clamp, start.into(), n);
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
    }
}
