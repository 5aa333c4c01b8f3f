//! `prefer_close`: the endpoints in the client's zone, if there are any; else all.
//!
//! **Solves** hops between zones in the simplest way: requests that can stay in their zone do.
//!
//! **Source**: Kubernetes `trafficDistribution: PreferClose` (KEP-4444), since 1.34 also called `PreferSameZone` (KEP-3015), as
//! kube-proxy does it (`topologyModeFromHints`): endpoints are those that are listed, which is to say ready for Kubernetes.
//! If one of them has no zone, or none is in the client's, all are used. There is no falling back when those of the zone
//! are listed and can't be reached: kube-proxy has no connections and would not know. (`PreferSameNode` is not here: endpoints
//! don't say on which node they are.)
//!
//! Only the endpoints that are used are connected. Those on their way out ([`Endpoint::draining`]) don't count, unless there are
//! no others.
//!
//! **A pick costs** nothing besides the child's.
//!
//! **Does badly** when zones are unequal: the clients of a zone with half of the traffic and one endpoint all go to that one.
//! [`zone_aware`](super::zone_aware) has a remedy.
//!
//! ```
//! use lb_core::policy::Wanted;
//! use lb_core::{Address, Context, Endpoint, EndpointId, EndpointSet, Local, Locality, Nanos, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("prefer_close").unwrap().build();
//! let endpoint = |(i, zone): (u32, &str)| Endpoint {
//!     locality: Some(Locality { zone: zone.into(), weight: 0 }.into()),
//!     ..Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))
//! };
//! let local = Local { zone: Some("b".into()), ..Default::default() };
//! let endpoints = EndpointSet::new([(0, "a"), (1, "b"), (2, "a"), (3, "b")].map(endpoint)).with_local(local.into());
//! policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints);
//! assert_eq!(policy.wanted(), Wanted::Only(&[1, 3].map(EndpointId)));
//! ```

use serde::{Deserialize, Serialize};

use crate::policy::config::Settings;
use crate::policy::outstanding::Shared;
use crate::policy::subset::{Select, Subset};
use crate::policy::{Needs, Policy, PolicyConfig};
use crate::{Context, Endpoint, EndpointSet};

/// Settings of `prefer_close`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PreferCloseConfig {
    /// Who chooses among those that are used. `round_robin` by default; `random` is what kube-proxy's iptables do.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for PreferCloseConfig {
    fn default() -> Self {
        Self { child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())) }
    }
}

impl Settings for PreferCloseConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(Subset::new(SameZone, self.child_policy.build_with(shared)))
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }

    fn needs(&self) -> Needs {
        Needs { local: true, ..self.child_policy.needs() }
    }
}

/// Selects the endpoints in the client's zone.
struct SameZone;

impl Select for SameZone {
    fn select(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet) -> Option<Vec<Endpoint>> {
        let own = endpoints.local().zone.as_ref()?;
        let close = |e: &&Endpoint| e.zone() == Some(own);
        let serving = || endpoints.iter().filter(|e| !e.draining);
        if serving().any(|e| e.zone().is_none()) || !serving().any(|e| close(&e)) || endpoints.iter().all(|e| close(&e))
        {
            return None;
        }
        Some(endpoints.iter().filter(close).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, EndpointId, Local, Locality, Nanos};

    /// The endpoints that are used, of which each is in a zone or in none, by a client in this one.
    fn used(own: &str, zones: &[&str], draining: &[u32]) -> Vec<u32> {
        let zone = |name: &str| (!name.is_empty()).then(|| name.into());
        let endpoint = |(i, name): (u32, &&str)| Endpoint {
            locality: zone(name).map(|zone| Locality { zone, weight: 0 }.into()),
            draining: draining.contains(&i),
            ..Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))
        };
        let local = Local { zone: zone(own), ..Default::default() };
        let endpoints = EndpointSet::new((0..).zip(zones).map(endpoint)).with_local(local.into());
        let mut rng = Script::indices(1, &[0]);
        let selected = SameZone.select(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints);
        selected.unwrap_or_else(|| endpoints.as_slice().to_vec()).iter().map(|e| e.id.0).collect()
    }

    /// Cases of Kubernetes' pkg/proxy/topology_test.go, TestCategorizeEndpoints, where every endpoint is hinted for its own zone.
    #[test]
    fn topology_test_categorize_endpoints() {
        assert_eq!(used("zone-a", &["zone-a", "zone-b", "zone-b", "zone-a"], &[]), [0, 3], "hints enabled");
        assert_eq!(used("", &["zone-a", "zone-b", "zone-b", "zone-a"], &[]), [0, 1, 2, 3], "node's zone is not known");
        assert_eq!(
            used("zone-c", &["zone-a", "zone-b", "zone-b", "zone-a"], &[]),
            [0, 1, 2, 3],
            "no hints for the zone"
        );
        assert_eq!(used("zone-a", &["zone-a", "zone-b", "", "zone-a"], &[]), [0, 1, 2, 3], "one endpoint has no hint");
        assert_eq!(used("zone-a", &["zone-a", "zone-b", "", "zone-a"], &[2]), [0, 3], "that endpoint is not ready");
    }

    #[test]
    fn what_leaves_the_zone_empty_opens_it() {
        assert_eq!(used("zone-a", &["zone-a", "zone-b"], &[0]), [0, 1]);
        assert_eq!(used("zone-a", &[], &[]), [] as [u32; 0]);
    }
}
