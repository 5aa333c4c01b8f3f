//! Earliest deadline first, for many threads without a lock.
//!
//! Every endpoint has a deadline in a time that only picks move. A pick takes the endpoint whose deadline is the earliest and
//! moves it on by a step, 1/weight in Envoy's `EdfScheduler`: whoever has twice the weight comes up twice as often. Envoy keeps
//! them in a heap, one for each worker thread; here each is a number of its own which a pick exchanges for the next one.
//! Nobody waits, and no two picks get the same turn, but to find the earliest every one is looked at.

use super::super::endpoint_states::Positions;
use crate::EndpointId;
use crate::sync::{AtomicU64, Ordering};

/// The longest step: that of an endpoint of weight 1 with as many requests as can be counted, at a bias of 1. With a larger
/// bias it could be infinite, and whoever is sent to infinity never comes back.
pub(super) const LONGEST_STEP: f64 = (1u64 << 32) as f64;

/// The deadlines of some endpoints.
pub(super) struct Deadlines {
    positions: Positions,
    /// As the bits of an `f64`, none of them negative, so that they are in the same order as the numbers.
    bits: Box<[AtomicU64]>,
}

impl Deadlines {
    /// Of these endpoints with these first steps. Those that `last` knows go on from there, and others join at the present
    /// time: what the earliest of those that stay is due at. If nobody stays, time starts over at `start`, which counts as
    /// if everyone had had its turns until then.
    pub(super) fn new(
        ready: &[EndpointId],
        steps: impl Iterator<Item = f64>,
        last: impl Fn(EndpointId) -> Option<f64>,
        start: impl FnOnce() -> f64,
    ) -> Self {
        let known: Vec<Option<f64>> = ready.iter().map(|&id| last(id)).collect();
        let now = known.iter().flatten().copied().min_by(f64::total_cmp);
        let start = if now.is_none() { start() } else { 0.0 };
        let due = |step: f64| now.map_or_else(|| ((start / step).floor() + 1.0) * step, |now| now + step);
        let deadline = |(known, step): (Option<f64>, f64)| AtomicU64::new(known.unwrap_or_else(|| due(step)).to_bits());
        Self {
            positions: Positions::of(ready.iter().copied()),
            bits: known.into_iter().zip(steps).map(deadline).collect(),
        }
    }

    /// The deadline of an endpoint, if it is one of these.
    pub(super) fn of(&self, endpoint: EndpointId) -> Option<f64> {
        self.positions.get(endpoint).map(|at| f64::from_bits(self.bits[at].load(Ordering::Relaxed)))
    }

    /// Whose turn it is: the place of the earliest, and of equals the first. It is due again after `step` of its place.
    #[inline]
    pub(super) fn take(&self, step: impl Fn(usize) -> f64) -> usize {
        loop {
            // Relaxed: a deadline is all there is to know, and the exchange finds out whether it is still what it was.
            let (mut first, mut earliest) = (0, u64::MAX);
            for (at, bits) in self.bits.iter().enumerate() {
                let bits = bits.load(Ordering::Relaxed);
                if bits < earliest {
                    (first, earliest) = (at, bits);
                }
            }
            let deadline = f64::from_bits(earliest);
            // At least to the next number, should the step be too short to make a difference.
            let next = (deadline + step(first)).max(deadline.next_up()).to_bits();
            if self.bits[first].compare_exchange(earliest, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return first;
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread::spawn;

    use super::*;

    #[test]
    fn threads_take_the_turns_of_one() {
        loom::model(|| {
            const STEPS: [f64; 2] = [1.0, 0.5];
            let ids = [0, 1].map(EndpointId);
            let deadlines = Arc::new(Deadlines::new(&ids, STEPS.into_iter(), |_| None, || 0.0));
            let take = |deadlines: &Deadlines| [(); 2].map(|()| deadlines.take(|at| STEPS[at]));
            let other = {
                let deadlines = deadlines.clone();
                spawn(move || take(&deadlines))
            };
            let mut taken = [take(&deadlines), other.join().unwrap()].concat();
            taken.sort();
            // Due are 1 at 0.5, 0 and 1 at 1.0, and 1 at 1.5.
            assert_eq!(taken, [0, 1, 1, 1]);
            assert_eq!(ids.map(|id| deadlines.of(id)), [Some(2.0), Some(2.0)]);
        });
    }
}
