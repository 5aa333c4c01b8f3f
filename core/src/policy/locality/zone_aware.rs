//! `zone_aware`: as many requests as possible stay in the client's zone, and every endpoint still has the same load.
//!
//! **Solves** hops between zones where nobody weighs localities: with the numbers of clients and of endpoints in each zone a client
//! can tell by itself how many of its requests its own zone can take without being busier than the others, and who has
//! room for the rest.
//!
//! **Source**: Envoy's zone aware routing (`zone_aware_lb_config` of
//! envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig; `regenerateLocalityRoutingStructures` of
//! `ZoneAwareLoadBalancerBase`). With *u* the part of the endpoints that a zone has and *c* its part of the clients:
//!
//! * own zone with *u* ≥ *c*: all requests stay in it;
//! * else *u/c* of them do, and the others go to zones with *u* > *c*, in proportion to *u − c*.
//!
//! There is no routing by zone with fewer than two zones of endpoints or of clients, fewer than `min_cluster_size`
//! endpoints, or a client that doesn't know its zone; then zones count by their endpoints. Numbers of clients are
//! [`Local::zones`](crate::Local::zones). Endpoints are healthy ones, and parts are cut to 1/10,000, both as in Envoy.
//! Envoy's later `force_local_zone` and `locality_basis` are not here; nor is a panic of the clients themselves, as only those who
//! live are counted.
//!
//! **In panic**, with less than `healthy_panic_threshold` percent of all endpoints healthy, there is no routing by zone either, and
//! all that are connected are used, or none (`fail_traffic_on_panic`). Within `priority`, which does the same for its
//! parts, set the threshold here to 0.
//!
//! **How close**: of *N* requests a zone gets its part *p*, give or take √(*N·p·(1 − p)*).
//!
//! **Does badly** when clients of different zones send unequally: it counts clients, not requests.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Local, Locality, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("zone_aware").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i: u32| Endpoint {
//!     locality: Some(Locality { zone: if i < 3 { "a" } else { "b" }.into(), weight: 0 }.into()),
//!     ..Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")))
//! };
//! // A client in zone a, one of 5 there and 5 in b. Of 10 endpoints zone a has 3: they can take 30 % / 50 % = 3/5 of its requests.
//! let zones = [("a".into(), 5), ("b".into(), 5)].into();
//! let local = Local { zone: Some("a".into()), instances: 10, zones, ..Default::default() };
//! policy.update(&mut cx, &EndpointSet::new((0..10).map(endpoint)).with_local(local.into()));
//! for i in 0..10 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let own = |_: &u64| matches!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(id) if id.0 < 3);
//! let own = (0..10_000).filter(own).count();
//! assert!((5_800..6_200).contains(&own), "{own}");
//! ```

use serde::{Deserialize, Serialize};

use super::{Localities, Panic, Route, Zone, available};
use crate::Local;
use crate::policy::children::Child;
use crate::policy::config::{Rule, Settings};
use crate::policy::outstanding::Shared;
use crate::policy::{Needs, Policy, PolicyConfig};

/// Settings of `zone_aware`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ZoneAwareConfig {
    /// Percentage of the requests that are routed by zone, 0 to 100; the others go to all. 100, Envoy `routing_enabled`.
    pub routing_enabled: u32,
    /// With fewer healthy endpoints there is no routing by zone. 6, Envoy `min_cluster_size`.
    pub min_cluster_size: u32,
    /// Below this many percent of healthy endpoints all that are connected are used. 50, Envoy `healthy_panic_threshold`; 0 to never
    /// panic, and at most 100.
    pub healthy_panic_threshold: u32,
    /// Whether requests fail instead. False, Envoy `fail_traffic_on_panic`.
    pub fail_traffic_on_panic: bool,
    /// Who chooses within a zone. `round_robin` by default, as in Envoy.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for ZoneAwareConfig {
    fn default() -> Self {
        Self {
            routing_enabled: 100,
            min_cluster_size: 6,
            healthy_panic_threshold: 50,
            fail_traffic_on_panic: false,
            child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        }
    }
}

impl Settings for ZoneAwareConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let zone_aware = ZoneAware {
            routed: f64::from(self.routing_enabled) / 100.0,
            min_cluster_size: self.min_cluster_size as usize,
            panic_threshold: self.healthy_panic_threshold as usize,
            panic: if self.fail_traffic_on_panic { Panic::Fail } else { Panic::UseAll },
        };
        Box::new(Localities::new(zone_aware, &self.child_policy, shared))
    }

    fn check(&self) -> Result<(), Rule> {
        let percentages =
            [("routing_enabled", self.routing_enabled), ("healthy_panic_threshold", self.healthy_panic_threshold)];
        match percentages.into_iter().find(|(_, percent)| *percent > 100) {
            Some((field, percent)) => Err(Rule::broken(field, percent, "<= 100")),
            None => Ok(()),
        }
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }

    fn needs(&self) -> Needs {
        Needs { local: true, ..self.child_policy.needs() }
    }
}

struct ZoneAware {
    /// The part of the requests that are routed by zone.
    routed: f64,
    min_cluster_size: usize,
    /// In percent.
    panic_threshold: usize,
    panic: Panic,
}

impl Route for ZoneAware {
    fn panics(&self, zones: &[Child<Zone>]) -> Panic {
        let all: usize = zones.iter().map(|zone| zone.endpoints.len()).sum();
        let healthy: usize = zones.iter().map(Child::healthy).sum();
        if 100 * healthy < self.panic_threshold * all { self.panic } else { Panic::No }
    }

    fn shares(&self, local: &Local, _weights: &[u32], zones: &[Child<Zone>]) -> Vec<f64> {
        if self.panics(zones) != Panic::No {
            return zones.iter().map(|zone| zone.endpoints.len() as f64).collect();
        }
        let zones: Vec<(Option<&str>, usize)> = zones.iter().map(|z| (z.key.as_deref(), available(z))).collect();
        let all: usize = zones.iter().map(|(_, endpoints)| endpoints).sum();
        let by_size = zones.iter().map(|(_, endpoints)| *endpoints as f64 / all.max(1) as f64);
        match by_zone(local, self.min_cluster_size, &zones) {
            Some(by_zone) => {
                by_zone.into_iter().zip(by_size).map(|(z, s)| self.routed * z + (1.0 - self.routed) * s).collect()
            }
            None => by_size.collect(),
        }
    }
}

/// Envoy's percentages have two decimals.
const WHOLE: u64 = 10_000;

/// The part of the requests that goes to each zone, by its name and the number of its endpoints; none if there is no routing
/// by zone.
fn by_zone(local: &Local, min_cluster_size: usize, zones: &[(Option<&str>, usize)]) -> Option<Vec<f64>> {
    let clients_in = |zone: &str| -> u64 {
        let same = local.zones.iter().filter(|(name, _)| **name == *zone);
        same.map(|(_, clients)| u64::from(*clients)).sum()
    };
    let clients: u64 = local.zones.iter().map(|(_, clients)| u64::from(*clients)).sum();
    let endpoints: u64 = zones.iter().map(|(_, endpoints)| *endpoints as u64).sum();
    let own_name = local.zone.as_deref().filter(|zone| clients_in(zone) > 0)?;
    let other_clients = clients > clients_in(own_name);
    if zones.len() < 2 || !other_clients || endpoints < min_cluster_size as u64 || endpoints == 0 {
        return None;
    }
    // Of each zone its part of the clients and of the endpoints.
    let parts: Vec<(u64, u64)> = zones
        .iter()
        .map(|(zone, here)| {
            let clients_here = zone.map_or(0, clients_in);
            (WHOLE * clients_here / clients, WHOLE * *here as u64 / endpoints)
        })
        .collect();
    let own = zones.iter().position(|(zone, _)| *zone == Some(own_name));
    let at_home = match own.map(|own| parts[own]) {
        Some((clients, endpoints)) if endpoints > 0 && endpoints >= clients => WHOLE,
        Some((clients, endpoints)) if clients > 0 => endpoints * WHOLE / clients,
        _ => 0,
    };
    let room = |(index, &(clients, endpoints)): (usize, &(u64, u64))| {
        if Some(index) == own { 0 } else { endpoints.saturating_sub(clients) }
    };
    let mut room: Vec<u64> = parts.iter().enumerate().map(room).collect();
    // Nobody has room where 1/10,000 is too coarse to see it: any zone will do.
    if room.iter().all(|room| *room == 0) {
        room = zones.iter().map(|(_, endpoints)| u64::from(*endpoints > 0)).collect();
    }
    let all_room: u64 = room.iter().sum();
    let at_home = at_home as f64 / WHOLE as f64;
    let away = |(index, &room): (usize, &u64)| {
        let stays = if Some(index) == own { at_home } else { 0.0 };
        stays + (1.0 - at_home) * room as f64 / all_room as f64
    };
    Some(room.iter().enumerate().map(away).collect())
}

#[cfg(test)]
mod tests;
