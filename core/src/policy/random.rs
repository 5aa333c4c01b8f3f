//! `random`: any ready endpoint, each as likely as the others.
//!
//! **Solves** choosing without coordination: no state is shared, so any number of threads, clients and proxies can
//! pick at once and never fall into step with each other.
//!
//! **Source**: envoy.extensions.load_balancing_policies.random.v3.Random.
//!
//! **A pick costs** one random number and one multiplication; nothing is written.
//!
//! **Does badly** at evening out: of *m* requests over *n* endpoints each gets *m/n* give or take √(*m/n*), and by chance
//! several in a row. With *m = n* the busiest has about ln *n* / ln ln *n* requests. It sees neither weight nor load.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("random").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! policy.connectivity(&mut cx, EndpointId(2), Connectivity::Ready);
//! let picker = policy.picker(&mut cx);
//! assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(EndpointId(2)));
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::{Picker, Policy};
use crate::{Context, EndpointId, Pick, PickContext};

/// Settings of `random`: it has none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RandomConfig {}

impl Settings for RandomConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(Random))
    }
}

struct Random;

impl PickerFactory for Random {
    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        Arc::new(RandomPicker { ready: ready.ids() })
    }
}

struct RandomPicker {
    ready: Box<[EndpointId]>,
}

impl Picker for RandomPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        Pick::Endpoint(self.ready[below(cx.rng, self.ready.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Nanos;
    use crate::policy::draw::scripted::Script;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    fn picker(n: u32) -> RandomPicker {
        RandomPicker { ready: (0..n).map(EndpointId).collect() }
    }

    #[test]
    fn the_stream_decides() {
        let mut rng = Script::indices(4, &[3, 0, 2]);
        let picks = [0; 3].map(|_| picker(4).pick(&mut PickContext::new(Nanos::ZERO, &mut rng)));
        assert_eq!(picks, [3, 0, 2].map(|i| Pick::Endpoint(EndpointId(i))));
    }

    #[test]
    fn every_endpoint_is_as_likely() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let picker = picker(5);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
                counts[id.index()] += 1;
            }
        }
        // 10,000 each; five standard deviations are 5 · √(50,000 · 1/5 · 4/5) = 447.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 447), "{counts:?}");
    }
}
