//! `weighted_round_robin`: the ready endpoints in turn, each as often as its weight says.
//!
//! **Solves** endpoints of different size, and shares that were decided elsewhere (1 % to a canary): weights come from
//! the resolver (`load_balancing_weight`) and stay until it sends others. Weights from load reports are
//! [`client_side_weighted_round_robin`](super::client_side_weighted_round_robin).
//!
//! **Source**: two orders of turns, both in use. `static_stride` is gRPC's, with which it implements A58
//! (`static_stride_scheduler.cc`): the endpoints in the resolver's order, and a light one is passed over most of the time.
//! `edf` is what Envoy's round robin does with weights: the turn that is due next, where an endpoint of weight *w* has
//! one every 1/*w*. Each picker starts anywhere in its order, as in all of them: clients that see one change together must
//! not send their next requests to one endpoint together.
//!
//! | | `static_stride` | `edf` |
//! |---|---|---|
//! | **a pick costs** | an atomic exchange, and 2 ns for each endpoint looked at: max/mean of the weights on average, at most 10 with the default clamp, as many as there are endpoints without | an atomic exchange and a load, whatever the weights |
//! | **how close**: of *N* picks from one picker an endpoint of *r* times the mean weight gets its share ± | (1 + *r*) · (2 + *N*/131070), with weights as the clamp leaves them | 1 + *r*; with weights that have no short period (1 + *r*) · (1 + (*N* + *n*)/57,344) |
//! | a picker costs | 8 bytes and 6 ns an endpoint | up to 256 KiB, and 0.1 ms for 10,000 endpoints; 1 ms for 100 that all weigh something else |
//!
//! (The derivations are in `static_stride.rs` and `edf.rs`.)
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
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::below;
use super::edf;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::static_stride::StaticStride;
pub use super::static_stride::WeightClamp;
use super::{Picker, Policy};
use crate::{Context, EndpointId, Pick, PickContext};

/// Settings of `weighted_round_robin`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WeightedRoundRobinConfig {
    /// Who has the next turn. gRPC's static stride scheduler by default.
    pub scheduler: Scheduler,
    /// How far a weight may be from the mean; as gRPC C-core has it by default. `edf` cuts no weights.
    pub clamp: WeightClamp,
}

/// In which order turns are taken. Implementations differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scheduler {
    /// Round after round, in which lighter endpoints are passed over: gRPC.
    #[default]
    StaticStride,
    /// Earliest deadline first: Envoy.
    Edf,
}

impl Settings for WeightedRoundRobinConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(WeightedRoundRobin { config: self.clone() }))
    }

    fn uses_weights(&self) -> bool {
        true
    }
}

struct WeightedRoundRobin {
    config: WeightedRoundRobinConfig,
}

impl PickerFactory for WeightedRoundRobin {
    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        match self.config.scheduler {
            Scheduler::StaticStride => {
                let stride = StaticStride::new(&ready.weights(), self.config.clamp, cx.rng);
                Arc::new(StaticStridePicker { ready: ready.ids(), stride })
            }
            Scheduler::Edf => {
                let weights: Vec<u32> = ready.iter().map(|e| e.weight).collect();
                let ids = ready.ids();
                let turns: Box<[EndpointId]> = edf::turns(&weights).into_iter().map(|i| ids[i as usize]).collect();
                let next = AtomicUsize::new(below(cx.rng, turns.len()));
                Arc::new(EdfPicker { turns, next })
            }
        }
    }
}

struct StaticStridePicker {
    ready: Box<[EndpointId]>,
    stride: StaticStride,
}

impl Picker for StaticStridePicker {
    #[inline]
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        Pick::Endpoint(self.ready[self.stride.next()])
    }
}

struct EdfPicker {
    /// One period; at least one turn.
    turns: Box<[EndpointId]>,
    next: AtomicUsize,
}

impl Picker for EdfPicker {
    #[inline]
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        let after = |turn| if turn + 1 == self.turns.len() { 0 } else { turn + 1 };
        // Relaxed: picks need turns of their own, not an order with anything else.
        Pick::Endpoint(self.turns[self.next.update(Ordering::Relaxed, Ordering::Relaxed, after)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, Connectivity, Endpoint, EndpointSet, Nanos};

    /// The first `n` picks over endpoints of these weights; the start is drawn as `start.0` of `start.1`.
    fn picks(config: &WeightedRoundRobinConfig, weights: &[u32], start: &[(u32, u32)], n: usize) -> Vec<u32> {
        let mut policy = config.build(&Shared::default());
        let mut rng = Script::each(start);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        let endpoint =
            |(i, &weight)| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80"))).with_weight(weight);
        let endpoints = EndpointSet::new((0..).zip(weights).map(endpoint));
        policy.update(&mut cx, &endpoints);
        for e in &endpoints {
            policy.connectivity(&mut cx, e.id, Connectivity::Ready);
        }
        let picker = policy.picker(&mut cx);
        let mut pick = || match picker.pick(&mut PickContext::new(Nanos::ZERO, cx.rng)) {
            Pick::Endpoint(id) => id.0,
            other => panic!("{other:?}"),
        };
        (0..n).map(|_| pick()).collect()
    }

    const EDF: WeightedRoundRobinConfig =
        WeightedRoundRobinConfig { scheduler: Scheduler::Edf, clamp: WeightClamp::CCore };

    #[test]
    fn round_robin_lb_test_weighted() {
        assert_eq!(picks(&EDF, &[1, 2], &[(0, 3)], 6), [1, 0, 1, 1, 0, 1]);
        assert_eq!(picks(&EDF, &[2, 1, 3], &[(0, 6)], 12), [2, 0, 2, 1, 0, 2, 2, 0, 2, 1, 0, 2]);
        assert_eq!(picks(&EDF, &[1, 4], &[(0, 5)], 10), [1, 1, 1, 0, 1, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn round_robin_lb_test_weighted_seed() {
        assert_eq!(picks(&EDF, &[1, 2], &[(1, 3)], 6), [0, 1, 1, 0, 1, 1]);
    }

    #[test]
    fn round_robin_lb_test_weighted_initialization_picks_all_hosts() {
        let mut counts = [0; 3];
        (0..10).for_each(|start| counts[picks(&EDF, &[6, 3, 1], &[(start, 10)], 1)[0] as usize] += 1);
        assert_eq!(counts, [6, 3, 1]);
    }

    #[test]
    fn static_stride_starts_in_any_generation_at_any_endpoint() {
        let config = WeightedRoundRobinConfig::default();
        assert_eq!(picks(&config, &[5, 5, 5], &[(0, 65_535), (2, 3)], 4), [2, 0, 1, 2]);
        // Weights 65535 and 32768 (half, rounded up). Generation g looks at (32768 · g + 32767) mod 65535: 32767 for 0, which
        // is 65535 − 32768 and picked; for 1 it is 0, which is not.
        assert_eq!(picks(&config, &[2, 1], &[(0, 65_535), (0, 2)], 5), [0, 1, 0, 0, 1]);
        assert_eq!(picks(&config, &[2, 1], &[(1, 65_535), (0, 2)], 5), [0, 0, 1, 0, 0]);
    }
}
