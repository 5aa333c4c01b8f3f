//! `aperture`: clients and endpoints lie around one ring, and each client uses the endpoints over against it.
//!
//! **Solves** the mesh of connections (see [the family](super)) with the same load for every endpoint, whatever the numbers of
//! clients and endpoints: where a client's arc ends within an endpoint, that endpoint has a part of a share.
//!
//! **Source**: Finagle's deterministic aperture (`DeterministicAperture`, `Ring`). The ring has one unit width per client and
//! another per endpoint. Client *i* of *c* begins at *i/c* and covers the least whole number of client widths in which
//! `min_aperture` of *n* endpoints have room, ⌈(*min/n*) / (1/*c*)⌉ · (1/*c*), at most the ring. So each point of it is covered by
//! as many clients as any other. The client's place is [`Local::instance`](crate::Local::instance) of
//! [`instances`](crate::Local::instances).
//!
//! **The part of an endpoint that is covered is its weight**, so the child should be one that goes by weights, as
//! `weighted_round_robin` does; one that does not gives the endpoints at both ends of the arc a whole share. (Finagle's own
//! picks two points of the arc at random and compares the load of their endpoints.) Weights are the covered parts in units of
//! 1/*c* times the endpoint's own weight.
//!
//! Here arcs are counted in units of 1/(*c·n*), so nothing is rounded. Finagle turns the ring by a hash of the client group's name,
//! lest two groups of the same size begin at the same endpoint. Finagle's first kind of aperture, which grows and shrinks with a client's load, is not here.
//!
//! **A pick costs** nothing besides the child's. A snapshot costs sorting the list.
//!
//! **How close**: exact: the weights that an endpoint has with all clients add up to ⌈*min·c/n*⌉ for each.
//!
//! **Does badly** when clients' load differs, as neighbours share their endpoints. One endpoint more or less moves all arcs a
//! little, and clients that start and stop move them too. Clients that don't know their place use all endpoints.
//!
//! ```
//! use lb_core::policy::Wanted;
//! use lb_core::{Address, Context, Endpoint, EndpointId, EndpointSet, Local, Nanos, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("aperture").unwrap().build();
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! let local = Local { instance: 3, instances: 10, ..Default::default() };
//! let endpoints = EndpointSet::new((0..100).map(endpoint)).with_local(local.into());
//! policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints);
//! // 12 of 100 endpoints need 2 of 10 clients' widths, which are 20 endpoints.
//! assert!(matches!(policy.wanted(), Wanted::Only(arc) if arc.len() == 20));
//! ```

use serde::{Deserialize, Serialize};

use super::{Select, Subset, in_common_order};
use crate::policy::config::{Rule, Settings};
use crate::policy::outstanding::Shared;
use crate::policy::{Needs, Policy, PolicyConfig};
use crate::{Context, Endpoint, EndpointSet};

/// Settings of `aperture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ApertureConfig {
    /// How many endpoints a client's arc is as wide as at least; all, if there are no more. 12, Finagle `minDeterministicAperture`
    /// (of two, too few weights can be respected, and of few all may be down); at least 2.
    pub min_aperture: u32,
    /// Who chooses in the aperture. `weighted_round_robin` by default (our choice), as weights matter.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for ApertureConfig {
    fn default() -> Self {
        Self { min_aperture: 12, child_policy: Box::new(PolicyConfig::WeightedRoundRobin(Default::default())) }
    }
}

impl Settings for ApertureConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(Subset::new(RingArc { min_aperture: self.min_aperture }, self.child_policy.build_with(shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.min_aperture < 2 {
            return Err(Rule::broken("min_aperture", self.min_aperture, ">= 2"));
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }

    fn needs(&self) -> Needs {
        Needs { local: true, ..self.child_policy.needs() }
    }
}

/// Selects the endpoints under the client's arc.
struct RingArc {
    min_aperture: u32,
}

impl Select for RingArc {
    fn select(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet) -> Option<Vec<Endpoint>> {
        let local = endpoints.local();
        let covered = covered(local.instance, local.instances, endpoints.len() as u32, self.min_aperture)?;
        let order = in_common_order(endpoints);
        let weighed = |(index, part): &(u32, u32)| {
            let endpoint = order[*index as usize];
            (endpoint, u64::from(*part) * u64::from(endpoint.weight))
        };
        let weighed: Vec<(&Endpoint, u64)> = covered.iter().map(weighed).collect();
        // Shifted if need be, so that the largest has room in 32 bits.
        let shift = weighed.iter().map(|(_, weight)| u64::BITS - weight.leading_zeros()).max().unwrap_or(0);
        let shift = shift.saturating_sub(u32::BITS);
        let with_weight = |(endpoint, weight): (&Endpoint, u64)| endpoint.clone().with_weight((weight >> shift) as u32);
        Some(weighed.into_iter().map(with_weight).collect())
    }
}

/// The indices of the endpoints under a client's arc, from its beginning on, and how much of each, in units of 1/`clients` of an
/// endpoint. None if the arc is the ring.
fn covered(client: u32, clients: u32, endpoints: u32, min_aperture: u32) -> Option<Vec<(u32, u32)>> {
    // In units of 1/(clients · endpoints) of the ring an endpoint is `clients` wide and a client `endpoints`.
    let (c, n) = (u128::from(clients), u128::from(endpoints));
    let client_widths = (u128::from(min_aperture) * c).div_ceil(n.max(1));
    if client_widths >= c {
        return None;
    }
    let begin = u128::from(client) % c * n;
    let end = begin + client_widths * n;
    let mut covered = Vec::new();
    let mut at = begin;
    while at < end {
        let index = at / c;
        let edge = ((index + 1) * c).min(end);
        covered.push(((index % n) as u32, (edge - at) as u32));
        at = edge;
    }
    // An arc that all but closes the ring ends in the endpoint in which it begins.
    if let [first, .., last] = covered[..]
        && first.0 == last.0
    {
        covered[0].1 += last.1;
        covered.pop();
    }
    Some(covered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ring_test_range_and_indices() {
        // Of 10 endpoints those from 1/4 on, a quarter of the ring wide: the second half of 2, 3 and 4 whole. Finagle's tests choose
        // the width freely; here 1 of 4 clients' is the least that 2 endpoints fit in.
        assert_eq!(covered(1, 4, 10, 2), Some(vec![(2, 2), (3, 4), (4, 4)]));
        // From 3/4 on, half of the ring: it goes around, and 7 and 2 have a half.
        assert_eq!(covered(3, 4, 10, 3), Some(vec![(7, 2), (8, 4), (9, 4), (0, 4), (1, 4), (2, 2)]));
        // Clients and endpoints that are as many lie over against each other.
        for i in 0..10 {
            assert_eq!(covered(i, 10, 10, 1), Some(vec![(i, 10)]));
        }
    }

    #[test]
    fn aperture_test_daperture_toggle() {
        // "setCoordinate(0, 150)", 150 endpoints: 12 of them.
        assert_eq!(covered(0, 150, 150, 12).map(|arc| arc.len()), Some(12));
        // "setCoordinate(0, 1)": who is alone uses all.
        assert_eq!(covered(0, 1, 3, 12), None);
        // "FromInstanceId(1, 5)", 15 endpoints of one weight: 12 of 15 are 0.8 of the ring, 4 of 5 client widths.
        assert_eq!(covered(1, 5, 15, 12), Some((3..15).map(|i| (i, 5)).collect()));
    }

    #[test]
    fn an_arc_that_ends_where_it_begins_has_that_endpoint_once() {
        // 2 clients of 3, and 2 endpoints: from 1/3 on, two thirds; endpoint 0 from 1/3 to 1/2, 1 whole. And from 2/3 on, around to
        // 1/3: endpoint 1 from 2/3 to 1, endpoint 0 up to 1/3. Units of an endpoint's third.
        assert_eq!(covered(1, 3, 2, 1), Some(vec![(0, 1), (1, 3)]));
        assert_eq!(covered(2, 3, 2, 1), Some(vec![(1, 2), (0, 2)]));
        // 4 of 5 clients and 3 endpoints, from 3/5 on: the end of endpoint 1, 2 and 0 whole, and the beginning of 1. Units of a
        // fifth: 9 to 21, where endpoint 1 is from 5 to 10 and, a turn on, from 20 to 25.
        assert_eq!(covered(3, 5, 3, 2), Some(vec![(1, 2), (2, 5), (0, 5)]));
    }

    proptest! {
        /// Each endpoint is covered by the same number of clients, in all.
        #[test]
        fn clients_share_the_endpoints_evenly(clients in 1u32..60, endpoints in 1u32..80, min in 2u32..20) {
            let mut sums = vec![0u64; endpoints as usize];
            let mut widest = 0;
            for client in 0..clients {
                let arc = covered(client, clients, endpoints, min);
                let arc = arc.unwrap_or_else(|| (0..endpoints).map(|i| (i, clients)).collect());
                let distinct: std::collections::BTreeSet<u32> = arc.iter().map(|(i, _)| *i).collect();
                prop_assert_eq!(distinct.len(), arc.len());
                prop_assert!(arc.iter().all(|(_, part)| (1..=clients).contains(part)));
                prop_assert!(arc.len() >= min.min(endpoints) as usize, "{arc:?}");
                arc.iter().for_each(|&(i, part)| sums[i as usize] += u64::from(part));
                widest = widest.max(arc.len());
            }
            // ⌈min · c / n⌉ whole endpoints' worth, or all clients if they cover everything.
            let times = u64::from((min * clients).div_ceil(endpoints).min(clients));
            prop_assert_eq!(sums, vec![times * u64::from(clients); endpoints as usize]);
            // No wider than need be: a client's width more than the minimum, and a part at each end.
            prop_assert!(widest as u32 <= (min + endpoints.div_ceil(clients) + 1).min(endpoints), "{widest}");
        }

        #[test]
        fn any_numbers_will_do(client: u32, clients in 1u32.., endpoints in 0u32..300, min: u32) {
            if let Some(arc) = covered(client, clients, endpoints, min) {
                prop_assert!(arc.len() <= endpoints as usize);
            }
        }
    }
}
