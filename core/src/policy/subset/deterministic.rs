//! `deterministic_subsetting`: clients take turns at cutting a shuffled list of all endpoints into subsets.
//!
//! **Solves** the unevenness of [`random_subsetting`](super::random): clients that are numbered share the endpoints out among
//! themselves, so that each is in as many subsets as the others.
//!
//! **Source**: Site Reliability Engineering (Beyer et al., 2016), chapter 20, "A Subset Selection Algorithm: Deterministic
//! Subsetting". The list has ⌊*n/s*⌋ subsets. So many clients in a row are a *round*; they have one shuffle of the list, and the
//! *i*-th of them the *i*-th subset; the next round shuffles anew. The client's number is
//! [`Local::instance`](crate::Local::instance). The book's code shuffles with Python's generator; here it is Fisher and
//! Yates with the XXH64 of the place under the round as seed, which any language can repeat, so who is in which subset differs
//! from the book's.
//!
//! **A pick costs** nothing besides the child's. A snapshot costs sorting and shuffling the list.
//!
//! **How close**: an endpoint is in one subset of a round, or in none if it is among the *n* mod *s* last ones of that shuffle.
//! So if *s* divides *n* and the last round is full, all are in the same number of subsets; if only that round is not, the
//! numbers differ by one.
//!
//! **Does badly** when endpoints come or go: whoever stands behind them in the common order has another place, and with another
//! number of subsets all are cut anew, so a client changes up to its whole subset, all at once (Google left it for that: Ward
//! et al., "Reinventing Backend Subsetting at Google", 2022). Clients that don't know
//! their number all think they are the first, and share one subset.
//!
//! ```
//! use lb_core::policy::Wanted;
//! use lb_core::{Address, Context, Endpoint, EndpointId, EndpointSet, Local, Nanos, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let config = r#"{"deterministic_subsetting": {"subset_size": 4}}"#;
//! let config = serde_json::from_str::<PolicyConfig>(config)?;
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! let mut in_subsets = [0; 12];
//! // Two rounds of 12/4 = 3 clients each.
//! for instance in 0..6 {
//!     let local = Local { instance, instances: 6, ..Default::default() };
//!     let mut policy = config.build();
//!     let endpoints = EndpointSet::new((0..12).map(endpoint)).with_local(local.into());
//!     policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints);
//!     let Wanted::Only(subset) = policy.wanted() else { panic!("a subset") };
//!     subset.iter().for_each(|id| in_subsets[id.index()] += 1);
//! }
//! assert_eq!(in_subsets, [2; 12]);
//! # Ok::<(), serde_json::Error>(())
//! ```

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::{Select, Subset, in_common_order};
use crate::policy::config::{Rule, Settings};
use crate::policy::outstanding::Shared;
use crate::policy::{Needs, Policy, PolicyConfig};
use crate::{Context, Endpoint, EndpointSet};

/// Settings of `deterministic_subsetting`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeterministicSubsettingConfig {
    /// How many endpoints a client uses; all, if there are no more. At least 1. 20, our choice: `random_subsetting`'s, and the least of
    /// the 20 to 100 that the book calls usual.
    pub subset_size: u32,
    /// Who chooses in the subset. `round_robin` by default.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for DeterministicSubsettingConfig {
    fn default() -> Self {
        Self { subset_size: 20, child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())) }
    }
}

impl Settings for DeterministicSubsettingConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(Subset::new(Turns { size: self.subset_size as usize }, self.child_policy.build_with(shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.subset_size == 0 { Err(Rule::broken("subset_size", 0, ">= 1")) } else { Ok(()) }
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }

    fn needs(&self) -> Needs {
        Needs { local: true, ..self.child_policy.needs() }
    }
}

/// Selects this client's slice of its round's list.
struct Turns {
    size: usize,
}

impl Select for Turns {
    fn select(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet) -> Option<Vec<Endpoint>> {
        // Below two subsets there is nothing to cut; with one, those at the end of the list are left out in turn.
        if endpoints.len() <= self.size {
            return None;
        }
        let subsets = endpoints.len() / self.size;
        let instance = endpoints.local().instance as usize;
        let (round, subset) = (instance / subsets, instance % subsets);
        let mut list = in_common_order(endpoints);
        shuffle(round as u64, &mut list);
        Some(list[subset * self.size..][..self.size].iter().map(|&e| e.clone()).collect())
    }
}

/// The same random order for all who have this seed (Fisher and Yates).
fn shuffle<T>(seed: u64, items: &mut [T]) {
    for last in (1..items.len() as u64).rev() {
        let random = xxh64(&last.to_le_bytes(), seed) >> 32;
        items.swap(last as usize, ((random * (last + 1)) >> 32) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, EndpointId, Local, Nanos};
    use proptest::prelude::*;

    fn subset(size: usize, instance: u32, numbers: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        let local = Local { instance, instances: u32::MAX, ..Default::default() };
        let endpoints = EndpointSet::new(numbers.into_iter().map(endpoint)).with_local(local.into());
        let mut rng = Script::indices(1, &[0]);
        let selected = Turns { size }.select(&mut Context::new(Nanos::ZERO, &mut rng), &endpoints);
        selected.unwrap_or_else(|| endpoints.as_slice().to_vec()).iter().map(|e| e.id.0).collect()
    }

    /// In how many subsets of so many clients each is.
    fn counts(n: u32, size: usize, clients: u32) -> Vec<u32> {
        let mut counts = vec![0; n as usize];
        (0..clients).flat_map(|client| subset(size, client, 0..n)).for_each(|i| counts[i as usize] += 1);
        counts
    }

    /// The book's example in its text: 12 backends, subsets of 3, 10 clients: three rounds of 4 clients, the last not full.
    #[test]
    fn sre_book_twelve_backends_and_ten_clients() {
        for round in 0..2 {
            let mut all: Vec<u32> = (0..4).flat_map(|i| subset(3, 4 * round + i, 0..12)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..12).collect::<Vec<_>>(), "round {round} has each backend once");
        }
        assert_ne!(subset(3, 0, 0..12), subset(3, 4, 0..12), "rounds are shuffled differently");
        let counts = counts(12, 3, 10);
        // 10 · 3 = 30 places: two rounds of 12, and 6 that have one more.
        assert!(counts.iter().all(|n| (2..=3).contains(n)));
        assert_eq!(counts.iter().filter(|n| **n == 3).count(), 6);
    }

    #[test]
    fn what_a_round_leaves_over_is_somebody_else_the_next_time() {
        // 300 backends in subsets of 90: 3 of them, and 30 backends over, in each of 100 rounds. A backend is in 100 · 0.9 = 90
        // subsets ± √(100 · 0.9 · 0.1) = 3; five of these are 15. (At random it would be ± 7.9.)
        let counts = counts(300, 90, 300);
        assert!(counts.iter().all(|n| n.abs_diff(90) < 15), "{counts:?}");
    }

    #[test]
    fn shuffles_reach_every_order() {
        let mut orders = std::collections::BTreeMap::new();
        for seed in 0..6_000 {
            let mut items = [0, 1, 2];
            shuffle(seed, &mut items);
            *orders.entry(items).or_insert(0u32) += 1;
        }
        // 1,000 expected of each of the 6; five standard deviations are 5 · √(6,000 · 1/6 · 5/6) = 144.
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|c| c.abs_diff(1_000) < 144), "{orders:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn full_rounds_are_equal(size in 1usize..8, subsets in 1u32..8, rounds in 1u32..5, more in 0u32..8) {
            let n = size as u32 * subsets;
            prop_assert_eq!(counts(n, size, rounds * subsets), vec![rounds; n as usize]);
            let counts = counts(n, size, rounds * subsets + more % subsets);
            prop_assert!(counts.iter().all(|c| (rounds..=rounds + 1).contains(c)), "{counts:?}");
        }

        #[test]
        fn subsets_are_as_large_as_said(size in 1usize..8, n in 0u32..40, instance: u32, rotate in 0usize..8) {
            let mut numbers: Vec<u32> = (0..n).collect();
            let subset_of = |numbers: &[u32]| subset(size, instance, numbers.iter().copied());
            let subset = subset_of(&numbers);
            prop_assert_eq!(subset.len(), size.min(n as usize));
            if n as usize > size {
                numbers.rotate_left(rotate % n as usize);
                prop_assert_eq!(subset, subset_of(&numbers), "the resolver's order does not matter");
            }
        }
    }
}
