//! `least_loaded`: of all endpoints, the one with the fewest requests outstanding; which of several is left to chance.
//!
//! **Solves** what two random choices leave: a pick that sees every count never joins a queue while an endpoint is idle.
//! With two servers of 10 ms, 80 % busy, a request takes 29.6 ms instead of `random`'s 50 ms.
//!
//! **Source**: "join the shortest queue" of the literature (Winston, "Optimality of the Shortest Line Discipline", 1977);
//! Envoy's LEAST_REQUEST with `selection_method: FULL_SCAN`, of equals one at random. Weights are ignored.
//!
//! **A pick costs** a load for each ready endpoint and a random number for each that equals the fewest so far, so it grows
//! with their number; then, as its end, an addition on a counter of the chosen endpoint. Picks that choose different
//! endpoints write to different counters.
//!
//! **Does badly** with many endpoints (the scan), and with an endpoint that fails fast: it looks idle, and here every
//! request goes to what looks idle, not only those that happen to draw it (pair it with outlier detection). A client sees
//! its own requests only: with many clients of few requests each almost all counts are 0 and the choice is nearly
//! `random`'s. It wants one balancer, or few, through which everything passes.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("least_loaded").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! for i in 0..3 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let mut counts = [0; 3];
//! for _ in 0..300 {
//!     // Nothing ends, so whoever has fewest is next.
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
//!         counts[id.index()] += 1;
//!     }
//! }
//! assert_eq!(counts, [100; 3]);
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared, WaitingPicker};
use super::{Picker, Policy};
use crate::{Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `least_loaded`: it has none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeastLoadedConfig {}

impl Settings for LeastLoadedConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(LeastLoaded { outstanding: shared.outstanding.clone() }))
    }
}

struct LeastLoaded {
    outstanding: Arc<Outstanding>,
}

impl PickerFactory for LeastLoaded {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, _newcomers: &[EndpointId]) {
        self.outstanding.reserve(endpoints);
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        Arc::new(LeastLoadedPicker::new(ready.ids(), self.outstanding.clone()))
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker::new(answer, self.outstanding.clone()))
    }
}

pub(super) struct LeastLoadedPicker {
    /// At least one.
    ready: Box<[EndpointId]>,
    outstanding: Arc<Outstanding>,
}

impl LeastLoadedPicker {
    /// The fewest requests among these, of which there is at least one.
    pub(super) fn new(ready: Box<[EndpointId]>, outstanding: Arc<Outstanding>) -> Self {
        Self { ready, outstanding }
    }
}

impl Picker for LeastLoadedPicker {
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let mut best = self.ready[0];
        let (mut fewest, mut equals) = (self.outstanding.get(best), 1);
        for &endpoint in &self.ready[1..] {
            let n = self.outstanding.get(endpoint);
            if n < fewest {
                (best, fewest, equals) = (endpoint, n, 1);
            } else if n == fewest {
                // The k-th of equals takes the place with odds 1/k, and each of k has 1/k in the end: of three the first
                // keeps it with 1/2 · 2/3. To begin the scan anywhere would favour whoever stands behind a busy stretch.
                equals += 1;
                if below(cx.rng, equals) == 0 {
                    best = endpoint;
                }
            }
        }
        self.outstanding.started(best);
        Pick::Endpoint(best)
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.outstanding.started(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, _now: Nanos, _outcome: &Outcome) {
        self.outstanding.done(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;
    use crate::policy::draw::scripted::Script;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    /// A picker over endpoints with so many requests outstanding each.
    fn picker(requests: &[u32]) -> LeastLoadedPicker {
        let ready: Box<[EndpointId]> = (0..).take(requests.len()).map(EndpointId).collect();
        let outstanding = Arc::new(Outstanding::default());
        let endpoint = |&id: &EndpointId| crate::Endpoint::new(id, crate::Address::new("pod"));
        for id in &ready {
            let alone = EndpointSet::new([endpoint(id)]);
            outstanding.reserve(&alone);
            (0..requests[id.index()]).for_each(|_| outstanding.started(*id));
        }
        LeastLoadedPicker { ready, outstanding }
    }

    fn pick(picker: &LeastLoadedPicker, rng: &mut dyn rand::Rng) -> u32 {
        match picker.pick(&mut PickContext::new(Nanos::ZERO, rng)) {
            Pick::Endpoint(id) => id.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_fewest_of_all_wins_and_its_count_grows() {
        let picker = picker(&[4, 2, 7, 1, 3]);
        // No draw is needed: 3 is alone with 1. Then it has 2 as 1 has, and keeps whoever the second of two draws leaves.
        assert_eq!(pick(&picker, &mut Script::each(&[(0, 1)])), 3);
        assert_eq!(pick(&picker, &mut Script::each(&[(1, 2)])), 1, "drew 1 of 2: the first of the equals stays");
        assert_eq!(pick(&picker, &mut Script::each(&[(0, 1)])), 3, "1 has 3 now");
        picker.done(EndpointId(2), Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
        assert_eq!(picker.outstanding.get(EndpointId(2)), 6);
    }

    #[test]
    fn equals_are_as_likely_wherever_they_stand() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut counts = [0u32; 6];
        let picker = picker(&[0, 0, 3, 3, 3, 0]);
        for _ in 0..30_000 {
            let id = pick(&picker, &mut rng);
            picker.outstanding.done(EndpointId(id));
            counts[id as usize] += 1;
        }
        // 10,000 each; five standard deviations are 5 · √(30,000 · 1/3 · 2/3) = 408. A scan from a random place would give
        // 5,000, 5,000 and 20,000, as the last stands behind three busy ones.
        assert!([0, 1, 5].iter().all(|&i: &usize| counts[i].abs_diff(10_000) < 408), "{counts:?}");
        assert_eq!(counts[2..5], [0; 3]);
    }
}
