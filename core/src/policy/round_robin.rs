//! `round_robin`: the ready endpoints in turn.
//!
//! **Solves** sharing requests evenly among endpoints that are alike: it connects to all of them, and as long as the
//! same ones are ready their counts differ by at most one.
//!
//! **Source**: gRPC load-balancing.md `round_robin`; the start from grpc-go's `endpointsharding`, which draws the first index of every
//! picker at random.
//!
//! **A pick costs** one atomic addition, on a counter all threads share, and one division. Two threads that do nothing else wait
//! for each other's cache line: some 50 ns instead of 9. With `turns = "worker"` each thread has a counter of its own, as in
//! Envoy, and counts of requests differ by one for each of them.
//!
//! **Does badly** when requests or endpoints are not alike: it counts requests, not work, so a slow endpoint piles up as
//! many as a fast one. And it starts over whenever the set of ready endpoints changes. If clients start at the same place
//! (`start = "zero"`, as old ones do), a fleet that sees one change together sends its next requests to the first
//! endpoint together (grpc-java#4462).
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use lb_core::policy::round_robin::{RoundRobinConfig, Start};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::RoundRobin(RoundRobinConfig { start: Start::Zero, ..Default::default() }).build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! for i in [0, 2] {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let picks = [0; 4].map(|_| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)));
//! assert_eq!(picks, [0, 2, 0, 2].map(|i| Pick::Endpoint(EndpointId(i))));
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::{Picker, Policy};
use crate::{Context, EndpointId, Pick, PickContext};

/// Settings of `round_robin`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoundRobinConfig {
    /// Where each picker starts; at random by default, as grpc-go's `endpointsharding` does.
    pub start: Start,
    /// Who takes turns with whom. Implementations differ.
    pub turns: Turns,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Turns {
    /// Those of the whole channel: gRPC.
    #[default]
    Channel,
    /// Those of each [worker](PickContext::worker) by themselves, each from a start of its own: Envoy, where every thread has
    /// its own load balancer.
    Worker,
}

/// Where a round begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Start {
    /// At an endpoint drawn for each picker, so that the clients of a fleet do not march in step.
    #[default]
    Random,
    /// At the first of the resolver's order, as old clients do (the harm: grpc-java#4462).
    Zero,
}

impl Settings for RoundRobinConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(RoundRobin { config: self.clone() }))
    }
}

/// Workers with a counter of their own; beyond that some share one. Our choice: as many cores as one process mostly has, and 1 kB
/// a picker.
const WORKERS: usize = 16;

struct RoundRobin {
    config: RoundRobinConfig,
}

impl PickerFactory for RoundRobin {
    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let ready = ready.ids();
        let mut start = || match self.config.start {
            Start::Random => below(cx.rng, ready.len()) as u32,
            Start::Zero => 0,
        };
        match self.config.turns {
            Turns::Channel => {
                let start = start();
                Arc::new(RoundRobinPicker::new(ready, start))
            }
            Turns::Worker => {
                let cursors = std::array::from_fn(|_| Padded(Cursor::new(ready.len(), start())));
                Arc::new(PerWorker { ready, cursors })
            }
        }
    }
}

/// Who is next.
struct Cursor {
    turn: AtomicU32,
    /// Whole rounds, in picks, after which the cursor is taken back by as much: it may not overflow, as 2^32 is in
    /// general no whole number of rounds and the endpoints past the remainder would lose a turn.
    lap: u32,
}

impl Cursor {
    fn new(n: usize, start: u32) -> Self {
        let n = n as u32;
        // Half of the range, so that whoever picks between the end of a lap and the taking back has room: 2^31 picks.
        let lap = n * ((1 << 31) / n).max(1);
        Self { turn: AtomicU32::new(start), lap }
    }

    #[inline]
    fn next(&self, ready: &[EndpointId]) -> Pick {
        // Relaxed: picks need distinct numbers, not an order with anything else.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        if turn == self.lap {
            // Exactly one pick of a lap gets here; the turns already given out stay right, being equal modulo n.
            self.turn.fetch_sub(self.lap, Ordering::Relaxed);
        }
        // 32-bit division: half the cycles of a 64-bit one on many processors.
        Pick::Endpoint(ready[(turn % ready.len() as u32) as usize])
    }
}

struct RoundRobinPicker {
    ready: Box<[EndpointId]>,
    cursor: Cursor,
}

impl RoundRobinPicker {
    fn new(ready: Box<[EndpointId]>, start: u32) -> Self {
        Self { cursor: Cursor::new(ready.len(), start), ready }
    }
}

impl Picker for RoundRobinPicker {
    #[inline]
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.cursor.next(&self.ready)
    }
}

/// On a cache line of its own.
#[repr(align(64))]
struct Padded(Cursor);

struct PerWorker {
    ready: Box<[EndpointId]>,
    cursors: [Padded; WORKERS],
}

impl Picker for PerWorker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        self.cursors[cx.worker as usize % WORKERS].0.next(&self.ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nanos;
    use crate::policy::draw::scripted::Script;

    fn picks(picker: &RoundRobinPicker, n: usize) -> Vec<u32> {
        let mut rng = Script::indices(1, &[0]);
        let mut pick = || match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
            Pick::Endpoint(id) => id.0,
            other => panic!("{other:?}"),
        };
        (0..n).map(|_| pick()).collect()
    }

    fn ids(n: u32) -> Box<[EndpointId]> {
        (0..n).map(EndpointId).collect()
    }

    #[test]
    fn endpoints_take_turns_from_the_start() {
        assert_eq!(picks(&RoundRobinPicker::new(ids(3), 2), 7), [2, 0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_end_of_a_lap_breaks_no_round() {
        // 2^31 = 3 · 715,827,882 + 2, so a lap of three endpoints is 2^31 − 2 picks.
        let picker = RoundRobinPicker::new(ids(3), (1 << 31) - 4);
        assert_eq!(picker.cursor.lap, (1 << 31) - 2);
        // (2^31 − 4) mod 3 = 1, as 2^31 mod 3 = 2.
        assert_eq!(picks(&picker, 9), [1, 2, 0, 1, 2, 0, 1, 2, 0]);
        // Two picks ended the lap and seven belong to the next.
        assert_eq!(picker.cursor.turn.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn each_worker_takes_its_own_turns() {
        use crate::{Address, Connectivity, Endpoint, EndpointSet};
        let mut policy = RoundRobinConfig { turns: Turns::Worker, ..Default::default() }.build(&Shared::default());
        let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        // The starts of the sixteen: 0, 1, 2, 0, …
        let starts: Vec<u32> = (0..16).map(|worker| worker % 3).collect();
        let mut rng = Script::indices(3, &starts);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
        (0..3).for_each(|i| policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready));
        let picker = policy.picker(&mut cx);
        let mut pick = |worker| {
            let mut cx = PickContext { worker, ..PickContext::new(Nanos::ZERO, cx.rng) };
            match picker.pick(&mut cx) {
                Pick::Endpoint(id) => id.0,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([0, 0, 1, 0, 1, 2].map(&mut pick), [0, 1, 1, 2, 2, 2]);
        // The seventeenth shares the first one's.
        assert_eq!([16, 0].map(&mut pick), [0, 1]);
    }

    #[test]
    fn pickers_start_anywhere_by_default_and_at_the_first_on_request() {
        use crate::{Address, Connectivity, Endpoint, EndpointSet};
        let first = |start: Start| -> Vec<u32> {
            let mut rng = Script::indices(4, &[3, 1, 2]);
            let mut policy = RoundRobinConfig { start, ..Default::default() }.build(&Shared::default());
            let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
            let all = EndpointSet::new((0..4).map(endpoint));
            let mut first = Vec::new();
            for _ in 0..3 {
                let mut cx = Context::new(Nanos::ZERO, &mut rng);
                policy.update(&mut cx, &EndpointSet::default());
                policy.update(&mut cx, &all);
                for e in &all {
                    policy.connectivity(&mut cx, e.id, Connectivity::Ready);
                }
                let picker = policy.picker(&mut cx);
                match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut Script::indices(1, &[0]))) {
                    Pick::Endpoint(id) => first.push(id.0),
                    other => panic!("{other:?}"),
                }
            }
            first
        };
        assert_eq!(first(Start::Random), [3, 1, 2]);
        assert_eq!(first(Start::Zero), [0, 0, 0]);
    }
}
