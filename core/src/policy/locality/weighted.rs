//! `wrr_locality`: a locality drawn by weight, then an endpoint in it.
//!
//! **Solves** shares of zones or regions that were decided elsewhere: by a control plane that knows what each can bear. It moves
//! load away from a locality as its endpoints fail, without a word from the control plane.
//!
//! **Source**: Envoy's locality weighted load balancing (envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality,
//! `LocalityWrr`) and gRPC's `xds_wrr_locality_experimental` around `weighted_target` (gRFCs A52, A28). The effective weight is the
//! [locality's](crate::Locality::weight) · min(1, `overprovisioning_factor` · healthy/all). A locality of weight 0 is left out,
//! not even connected; if all weights are 0, localities count by their healthy endpoints, as Envoy then forgets about them. Endpoints
//! without a locality have weight 1 together (our choice).
//!
//! Implementations differ: gRPC doesn't overprovision (A27), a locality counts in full while its child is READY: say
//! `overprovisioning_factor` = 4294967295. Envoy takes its localities in the turns of a weighted round robin, gRPC draws them at
//! random; so does this, as then nothing is shared between threads.
//!
//! **How close**: of *N* requests a locality with the part *p* of the weights gets *N·p*, give or take √(*N·p·(1 − p)*).
//!
//! **Does badly** when weights are not in proportion to what is there: an endpoint that is alone in a locality has all of its
//! share.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Locality, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("wrr_locality").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |(i, zone, weight): (u32, &str, u32)| Endpoint {
//!     locality: Some(Locality { zone: zone.into(), weight }.into()),
//!     ..Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))
//! };
//! policy.update(&mut cx, &EndpointSet::new([(0, "a", 1), (1, "b", 3), (2, "b", 3)].map(endpoint)));
//! for i in 0..3 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let a = |_: &u64| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) == Pick::Endpoint(EndpointId(0));
//! let a = (0..10_000).filter(a).count();
//! assert!((2_300..2_700).contains(&a), "{a}");
//! ```

use serde::{Deserialize, Serialize};

use super::{Localities, Route, Zone, available};
use crate::Local;
use crate::policy::children::Child;
use crate::policy::config::{Rule, Settings};
use crate::policy::outstanding::Shared;
use crate::policy::{Policy, PolicyConfig};

/// Settings of `wrr_locality`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WrrLocalityConfig {
    /// A locality has its full weight while this many percent of its healthy endpoints are as many as all of them. 140, Envoy
    /// `overprovisioning_factor`; over 0.
    pub overprovisioning_factor: u32,
    /// Who chooses within a locality. `round_robin` by default.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for WrrLocalityConfig {
    fn default() -> Self {
        Self { overprovisioning_factor: 140, child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())) }
    }
}

impl Settings for WrrLocalityConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let weighted = Weighted { overprovisioning: f64::from(self.overprovisioning_factor) / 100.0 };
        Box::new(Localities::new(weighted, &self.child_policy, shared))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.overprovisioning_factor == 0 {
            return Err(Rule::broken("overprovisioning_factor", 0, "> 0"));
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

struct Weighted {
    overprovisioning: f64,
}

impl Route for Weighted {
    fn uses(&self, weight: u32, weights: &[u32]) -> bool {
        weight > 0 || weights.iter().all(|weight| *weight == 0)
    }

    fn shares(&self, _local: &Local, weights: &[u32], localities: &[Child<Zone>]) -> Vec<f64> {
        if weights.iter().all(|weight| *weight == 0) {
            return localities.iter().map(|child| available(child) as f64).collect();
        }
        let effective = |(child, weight): (&Child<Zone>, &u32)| {
            let part = available(child) as f64 / child.endpoints.len() as f64;
            f64::from(*weight) * (self.overprovisioning * part).min(1.0)
        };
        localities.iter().zip(weights).map(effective).collect()
    }
}

#[cfg(test)]
mod tests;
