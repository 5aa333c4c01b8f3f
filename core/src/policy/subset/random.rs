//! `random_subsetting`: a few endpoints drawn at random by each client, and kept.
//!
//! **Solves** the mesh of connections (see [the family](super)) without anything that clients would have to agree on.
//!
//! **Source**: gRFC A68 `random_subsetting`, rendezvous hashing: of *n* endpoints those with the lowest XXH64 of their address
//! under a seed that each client draws for itself. An endpoint that comes or goes moves no other, so a subset changes by at
//! most one for each. grpc-go hashes not the address but the text it prints for one (`hash_input`).
//!
//! **A pick costs** nothing besides the child's. A snapshot costs a hash for each endpoint.
//!
//! **How close**: with *c* clients a server is in *c·s/n* subsets on average, give or take √(*c·s/n* · (1 − *s/n*)): of 300 clients
//! with 10 % of 300 servers each, 30 ± 5.2; the least lucky has 54 % of the mean, the luckiest 153 %.
//!
//! **Does badly** with few clients or small subsets, as said: the luckiest server sets the capacity that all need.
//!
//! ```
//! use lb_core::policy::Wanted;
//! use lb_core::{Address, Context, Endpoint, EndpointId, EndpointSet, Nanos, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let config = r#"{"random_subsetting": {"subset_size": 5, "seed": 0, "child_policy": "least_request"}}"#;
//! let mut policy = serde_json::from_str::<PolicyConfig>(config)?.build();
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("endpoint-{i}")));
//! policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &EndpointSet::new((0..10).map(endpoint)));
//! assert_eq!(policy.wanted(), Wanted::Only(&[1, 2, 3, 5, 8].map(EndpointId)));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::{Select, Subset};
use crate::policy::config::{Rule, Settings};
use crate::policy::outstanding::Shared;
use crate::policy::{Policy, PolicyConfig};
use crate::{Context, Endpoint, EndpointSet};

/// Settings of `random_subsetting`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RandomSubsettingConfig {
    /// How many endpoints a client uses; all, if there are no more. 20, the default of gRFC A68 in its first versions;
    /// today it asks for one to be given. At least 1.
    pub subset_size: u32,
    /// What the client hashes with; by default it draws a seed when the first endpoints are known (gRFC A68: "a random integer").
    /// To be set where a run has to repeat.
    pub seed: Option<u64>,
    /// What is hashed of an endpoint.
    pub hash_input: HashInput,
    /// Who chooses in the subset. `round_robin` by default.
    pub child_policy: Box<PolicyConfig>,
}

/// What is hashed of an endpoint. Implementations differ, so that two clients with one seed have different subsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum HashInput {
    /// Its address: gRFC A68.
    #[default]
    Address,
    /// What Go prints for its address, `{Addr: "10.0.0.1:80", ServerName: "", }`: grpc-go.
    GrpcGoDebugString,
}

impl Default for RandomSubsettingConfig {
    fn default() -> Self {
        Self {
            subset_size: 20,
            seed: None,
            hash_input: HashInput::default(),
            child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        }
    }
}

impl Settings for RandomSubsettingConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let lowest = Lowest { size: self.subset_size as usize, seed: self.seed, hash_input: self.hash_input };
        Box::new(Subset::new(lowest, self.child_policy.build_with(shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.subset_size == 0 { Err(Rule::broken("subset_size", 0, ">= 1")) } else { Ok(()) }
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

/// Selects the endpoints with the lowest hashes.
struct Lowest {
    size: usize,
    seed: Option<u64>,
    hash_input: HashInput,
}

impl Select for Lowest {
    fn select(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) -> Option<Vec<Endpoint>> {
        let seed = *self.seed.get_or_insert_with(|| cx.rng.next_u64());
        // A68: "If the number of endpoints is less than `subset_size` always use all available endpoints."
        if endpoints.len() <= self.size {
            return None;
        }
        let mut text = String::new();
        let mut hash = |e: &Endpoint| match self.hash_input {
            HashInput::Address => xxh64(e.address.as_str().as_bytes(), seed),
            HashInput::GrpcGoDebugString => {
                text.clear();
                let _ = write!(text, "{{Addr: {:?}, ServerName: \"\", }}", e.address.as_str());
                xxh64(text.as_bytes(), seed)
            }
        };
        let mut hashed: Vec<(u64, &Endpoint)> = endpoints.iter().map(|e| (hash(e), e)).collect();
        // Two addresses with one hash are in the order of their text, whatever the resolver's is.
        let order =
            |(a, x): &(u64, &Endpoint), (b, y): &(u64, &Endpoint)| a.cmp(b).then_with(|| x.address.cmp(&y.address));
        hashed.select_nth_unstable_by(self.size, order);
        hashed.truncate(self.size);
        hashed.sort_unstable_by(order);
        Some(hashed.into_iter().map(|(_, endpoint)| endpoint.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, EndpointId, Nanos};
    use proptest::prelude::*;

    /// "endpoint-0" and up, with these numbers.
    fn endpoints(numbers: impl IntoIterator<Item = u32>) -> EndpointSet {
        let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("endpoint-{i}")));
        EndpointSet::new(numbers.into_iter().map(endpoint))
    }

    fn subset(size: usize, seed: u64, hash_input: HashInput, endpoints: &EndpointSet) -> Vec<u32> {
        let mut lowest = Lowest { size, seed: Some(seed), hash_input };
        let mut rng = Script::indices(1, &[0]);
        let selected = lowest.select(&mut Context::new(Nanos::ZERO, &mut rng), endpoints);
        selected.unwrap_or_else(|| endpoints.as_slice().to_vec()).iter().map(|e| e.id.0).collect()
    }

    #[test]
    fn randomsubsetting_test_calculate_subset_simple() {
        let go = |size, n| subset(size, 0, HashInput::GrpcGoDebugString, &endpoints(0..n));
        assert_eq!(go(3, 0), [] as [u32; 0]);
        assert_eq!(go(10, 5), [0, 1, 2, 3, 4]);
        assert_eq!(go(5, 5), [0, 1, 2, 3, 4]);
        assert_eq!(go(5, 15), [13, 10, 12, 6, 0]);
        assert_eq!(go(5, 1000), [739, 116, 359, 876, 263]);
    }

    #[test]
    fn randomsubsetting_test_endpoints_retain_hash_values() {
        let ten = endpoints(0..10);
        assert_eq!(subset(5, 0, HashInput::GrpcGoDebugString, &ten), [6, 0, 1, 7, 3]);
        // What gRFC A68 says: the plain address.
        assert_eq!(subset(5, 0, HashInput::Address, &ten), [1, 3, 5, 2, 8]);
    }

    #[test]
    fn a_client_draws_its_seed_once() {
        let mut lowest = Lowest { size: 2, seed: None, hash_input: HashInput::Address };
        let mut rng = Script::indices(7, &[1, 2, 3, 4, 5, 6]);
        let mut select = |n| lowest.select(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints(0..n)).map(|s| s[0].id);
        assert_eq!((select(0), select(9), select(9)), (None, select(9), select(9)));
    }

    #[test]
    fn subsets_are_as_uneven_as_chance_makes_them() {
        // 300 clients choose among 300 servers. A server is in 300 · s/300 = s subsets on average, ± √(s · (1 − s/300)); of 300 the
        // farthest are about three of these away: 53.8 % and 152.9 % of the mean with 10 % each, 75.2 % and 125.9 % with 30 %.
        let all = endpoints(0..300);
        for (size, deviation) in [(30, 5.2), (90, 7.9)] {
            let mut counts = [0u32; 300];
            for client in 0..300 {
                subset(size, client, HashInput::Address, &all).iter().for_each(|&i| counts[i as usize] += 1);
            }
            let away = |count: &u32| (f64::from(*count) - size as f64) / deviation;
            let ends = (away(counts.iter().min().unwrap()), away(counts.iter().max().unwrap()));
            assert!((-5.0..-1.5).contains(&ends.0) && (1.5..5.0).contains(&ends.1), "{size}: {ends:?}");
        }
    }

    proptest! {
        /// A68: "if a single server is either added or removed …, every client will update at most 1 entry in its subset."
        #[test]
        fn one_server_changes_one_place_at_most(seed: u64, size in 1usize..20, n in 1u32..60, lost in any::<prop::sample::Index>()) {
            let lost = lost.index(n as usize) as u32;
            let with = subset(size, seed, HashInput::Address, &endpoints(0..n));
            let without = subset(size, seed, HashInput::Address, &endpoints((0..n).filter(|&i| i != lost)));
            let gone = with.iter().filter(|i| !without.contains(i)).count();
            let new = without.iter().filter(|i| !with.contains(i)).count();
            prop_assert!(gone <= 1 && new <= 1, "{with:?} and {without:?}");
            prop_assert!(gone == 0 || with.contains(&lost), "{lost} was not in {with:?}");
        }

        #[test]
        fn the_resolvers_order_does_not_matter(seed: u64, size in 1usize..20, rotate in 0usize..30) {
            let mut numbers: Vec<u32> = (0..30).collect();
            numbers.rotate_left(rotate);
            let subset = |numbers| subset(size, seed, HashInput::Address, &endpoints(numbers));
            prop_assert_eq!(subset(numbers), subset((0..30).collect()));
        }
    }
}
