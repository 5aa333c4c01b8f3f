//! `maglev`: the request's hash is looked up in a table of a fixed, prime size that the ready endpoints filled in turns.
//!
//! **Solves** affinity: requests with one hash go to one endpoint from every client, with nothing agreed between them, so
//! that a cache is warm or a session is found. Shares are as even as a table can be: with equal weights the counts of
//! entries differ by at most one, 656 to a mean of 655.4 for 100 endpoints (a ring of 1,024 points is off by a third).
//!
//! **Source**: Eisenbud et al., "Maglev", NSDI 2016, listing 1, as Envoy has it
//! (envoy.extensions.load_balancing_policies.maglev.v3.Maglev, `maglev_lb.cc`); gRPC has none. Each endpoint walks the
//! table in an order of its own: from XXH64(key, seed 0) mod *M* in steps of XXH64(key, seed 1) mod (*M* − 1) + 1, where its key is
//! its address, unless the resolver gives it another; since *M* is prime, every step size reaches every entry. Endpoints take
//! turns, sorted by key, each claiming the next entry of its walk that is free; one with a third of the largest weight sits
//! out two turns of three. A request goes to entry hash mod *M*; one without a hash draws a random one.
//!
//! **A pick costs** two multiplications and one load. The table costs 4 · *M* bytes per client, 256 KiB by default, and its
//! last entries are long to find: about *M* ln *M* steps, up to 2 ms, whenever the set of ready endpoints changes.
//!
//! **Does badly** when that set changes: the keys of an endpoint that went away move, as they must, and some others move
//! with them, less than 1 % of the table with the default size and up to 200 endpoints. It never looks at load: one hot key is one
//! hot endpoint (put `bounded_load` around it). With more endpoints than entries, some get nothing.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("maglev").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! for i in 0..3 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let mut pick = |key| picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(key));
//! assert_eq!(pick(42), pick(42));
//! // Numbers that follow each other are next to each other in the table: a key must be hashed first.
//! assert_eq!(pick(7), pick(7 + 65_537));
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::bounded_load::{Bound, Hashed};
use super::config::{Needs, Settings};
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::{Picker, Policy, fixed};
use crate::{Asks, Context, Endpoint, EndpointId, EndpointSet, Pick, PickContext, Status};

/// Settings of `maglev`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MaglevConfig {
    /// Entries of the table: a prime, 65537 by default and at most 5000011 (Envoy `table_size`). A hundred times the
    /// number of endpoints keeps shares within 1 %.
    pub table_size: TableSize,
}

impl Settings for MaglevConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        build(self, None)
    }

    fn needs(&self) -> Needs {
        Needs { hash: true, ..Needs::default() }
    }

    fn uses_weights(&self) -> bool {
        true
    }
}

pub(super) fn build(config: &MaglevConfig, bound: Option<Bound>) -> Box<dyn Policy> {
    Box::new(ConnectAll::new(Maglev { table_size: config.table_size, bound }))
}

/// How many entries the table has: a prime up to 5000011.
///
/// ```
/// use lb_core::policy::maglev::TableSize;
/// assert_eq!(TableSize::default().get(), 65_537);
/// assert_eq!(TableSize::new(65_536).unwrap_err().to_string(),
///     "maglev: table_size: 65536, must be a prime number, such as 65537");
/// assert_eq!(TableSize::new(5_000_077).unwrap_err().to_string(), "maglev: table_size: 5000077, must be <= 5000011");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TableSize(u32);

impl TableSize {
    /// The smallest prime.
    const MIN: u32 = 2;
    /// envoy.extensions.load_balancing_policies.maglev.v3.Maglev `table_size`.
    const MAX: u32 = 5_000_011;

    /// `size` entries.
    ///
    /// # Errors
    ///
    /// If `size` is over 5000011 or no prime: some endpoints could not reach every entry.
    pub fn new(size: u32) -> Result<Self, TableSizeError> {
        if size > Self::MAX {
            Err(TableSizeError::TooLarge { size })
        } else if is_prime(size) {
            Ok(Self(size))
        } else {
            Err(TableSizeError::NotPrime { size, prime: next_prime(size) })
        }
    }

    /// As a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// By trial division: up to √5000011, 2,236 steps, for a table.
fn is_prime(n: u32) -> bool {
    n >= TableSize::MIN && (2..).take_while(|d| u64::from(*d).pow(2) <= n.into()).all(|d| !n.is_multiple_of(d))
}

/// The smallest prime that is `n` or more.
pub(super) fn next_prime(n: u32) -> u32 {
    (n..).find(|&n| is_prime(n)).unwrap_or(TableSize::MAX)
}

impl Default for TableSize {
    /// 65537, Envoy `MaglevTable::DefaultTableSize`; the paper's "small" table.
    fn default() -> Self {
        Self(65_537)
    }
}

impl TryFrom<u32> for TableSize {
    type Error = TableSizeError;
    fn try_from(size: u32) -> Result<Self, TableSizeError> {
        Self::new(size)
    }
}

impl From<TableSize> for u32 {
    fn from(size: TableSize) -> Self {
        size.0
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for TableSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TableSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": Self::MIN, "maximum": Self::MAX })
    }
}

/// A size that a table can't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableSizeError {
    /// Over 5000011.
    #[error("maglev: table_size: {size}, must be <= {}", TableSize::MAX)]
    TooLarge {
        /// What was asked for.
        size: u32,
    },
    /// It has divisors.
    #[error("maglev: table_size: {size}, must be a prime number, such as {prime}")]
    NotPrime {
        /// What was asked for.
        size: u32,
        /// The next prime.
        prime: u32,
    },
}

struct Maglev {
    table_size: TableSize,
    bound: Option<Bound>,
}

impl PickerFactory for Maglev {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, _newcomers: &[EndpointId]) {
        if let Some(bound) = &mut self.bound {
            bound.updated(endpoints);
        }
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let picker = MaglevPicker::new(fill(self.table_size, ready.iter()));
        match &self.bound {
            None => Arc::new(picker),
            Some(bound) => bound.around(picker, ready.iter().map(|e| (e.id, e.weight))),
        }
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        match &self.bound {
            None => fixed::always(answer),
            Some(bound) => bound.always(answer),
        }
    }
}

struct MaglevPicker {
    /// Never empty.
    table: Box<[EndpointId]>,
    modulo: Modulo,
}

impl MaglevPicker {
    fn new(table: Box<[EndpointId]>) -> Self {
        Self { modulo: Modulo::new(table.len() as u64), table }
    }
}

impl Hashed for MaglevPicker {
    #[inline]
    fn meant(&self, hash: u64, _is_key: bool, _asks: &mut Asks) -> Pick {
        Pick::Endpoint(self.table[self.modulo.of(hash) as usize])
    }

    fn from(&self, hash: u64) -> impl Iterator<Item = EndpointId> {
        let (before, after) = self.table.split_at(self.modulo.of(hash) as usize);
        after.iter().chain(before).copied()
    }

    /// All of the table are READY.
    fn any(
        &self,
        mut order: impl Iterator<Item = EndpointId>,
        _asks: &mut Asks,
        mut take: impl FnMut(EndpointId) -> bool,
    ) -> Pick {
        let none = || Pick::Fail(Status::unavailable("no endpoint takes the request"));
        order.find(|&endpoint| take(endpoint)).map_or_else(none, Pick::Endpoint)
    }
}

impl Picker for MaglevPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        self.meant(cx.hash_or_random(), cx.hash.is_some(), &mut cx.asks)
    }
}

/// Remainders by one divisor without a division (Barrett).
#[derive(Debug, Clone, Copy)]
struct Modulo {
    divisor: u64,
    /// ⌊(2^64 − 1) / divisor⌋.
    reciprocal: u64,
}

impl Modulo {
    fn new(divisor: u64) -> Self {
        Self { divisor, reciprocal: u64::MAX / divisor }
    }

    /// n mod divisor. With r = 2^64/d − reciprocal, which is between 0 and 1, n/d − n · reciprocal/2^64 = n · r/2^64 is below 1:
    /// the quotient is right or one too small.
    #[inline]
    fn of(self, n: u64) -> u64 {
        let quotient = ((u128::from(n) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = n - quotient * self.divisor;
        if rest < self.divisor { rest } else { rest - self.divisor }
    }
}

/// An endpoint's walk over the table.
struct Walk {
    id: EndpointId,
    weight: u64,
    /// It takes its turn when turn number · weight is this much.
    due: u64,
    /// The entry to look at next, and how far the one after is.
    entry: u32,
    skip: u32,
}

/// The table of these endpoints, of which there is at least one, each of weight 1 or more.
fn fill<'a>(size: TableSize, endpoints: impl Iterator<Item = &'a Endpoint>) -> Box<[EndpointId]> {
    // By key, so that all clients fill the same table whatever the order their resolver gave.
    let mut sorted: Vec<&Endpoint> = endpoints.collect();
    sorted.sort_by_key(|e| (e.hash_key(), &e.address));
    let size = size.get();
    let below = |text: &str, seed, len: u32| (xxh64(text.as_bytes(), seed) % u64::from(len)) as u32;
    let walk = |e: &&Endpoint| Walk {
        id: e.id,
        weight: u64::from(e.weight),
        due: 0,
        entry: below(e.hash_key(), 0, size),
        skip: below(e.hash_key(), 1, size - 1) + 1,
    };
    let mut walks: Vec<Walk> = sorted.iter().map(walk).collect();
    let heaviest = walks.iter().map(|w| w.weight).max().unwrap_or(1);

    let mut table: Vec<Option<EndpointId>> = vec![None; size as usize];
    let mut free = size;
    // The heaviest takes every turn, so there are at most `size` of them, and turn · weight stays below 2^23 · 2^32.
    let mut turn = 0;
    while free > 0 {
        turn += 1;
        for walk in &mut walks {
            if free == 0 {
                break;
            }
            if turn * walk.weight < walk.due {
                continue;
            }
            walk.due += heaviest;
            while table[walk.entry as usize].is_some() {
                walk.entry += walk.skip;
                if walk.entry >= size {
                    walk.entry -= size;
                }
            }
            table[walk.entry as usize] = Some(walk.id);
            free -= 1;
        }
    }
    table.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Nanos};
    use proptest::prelude::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    fn size(n: u32) -> TableSize {
        TableSize::new(n).unwrap()
    }

    fn endpoint(i: u32, address: &str) -> Endpoint {
        Endpoint::new(EndpointId(i), Address::new(address))
    }

    /// 127.0.0.1:90 and up as endpoint 0 and up, with these weights.
    fn local(weights: &[u32]) -> Vec<Endpoint> {
        let local = |(i, &weight)| endpoint(i, &format!("127.0.0.1:{}", 90 + i)).with_weight(weight);
        (0..).zip(weights).map(local).collect()
    }

    /// Pods `from..to`, as in one subnet.
    fn pods(range: std::ops::Range<u32>) -> Vec<Endpoint> {
        range.map(|i| endpoint(i, &format!("10.1.{}.{}:50051", i / 250, i % 250))).collect()
    }

    fn fill(size: TableSize, endpoints: Vec<Endpoint>) -> Box<[EndpointId]> {
        super::fill(size, endpoints.iter())
    }

    fn ids(table: &[EndpointId]) -> Vec<u32> {
        table.iter().map(|id| id.0).collect()
    }

    fn counts(table: &[EndpointId], n: usize) -> Vec<u32> {
        let mut counts = vec![0; n];
        table.iter().for_each(|id| counts[id.index()] += 1);
        counts
    }

    #[test]
    fn maglev_lb_test_basic() {
        let table = fill(size(7), local(&[1; 6]));
        assert_eq!(ids(&table), [2, 4, 0, 1, 5, 0, 3]);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let picker = MaglevPicker::new(table);
        for hash in 0..21 {
            let pick = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(hash));
            assert_eq!(pick, Pick::Endpoint(picker.table[hash as usize % 7]));
        }
    }

    #[test]
    fn maglev_lb_test_weighted() {
        let table = fill(size(17), local(&[1, 2]));
        assert_eq!(ids(&table), [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]);
        assert_eq!(counts(&table, 2), [6, 11]);
    }

    #[test]
    fn the_resolvers_order_does_not_matter() {
        let reversed = local(&[3, 1, 2]).into_iter().rev().collect();
        assert_eq!(fill(size(251), reversed), fill(size(251), local(&[3, 1, 2])));
    }

    #[test]
    fn an_endpoint_keeps_its_entries_under_another_address_if_it_has_a_key() {
        let named = |e: Endpoint| Endpoint { key: Some(format!("pod-{}", e.id.0).into()), ..e };
        let before = local(&[3, 1, 2]).into_iter().map(named).collect();
        let moved = |e: Endpoint| Endpoint { address: Address::new(&format!("10.9.{}.1:80", 9 - e.id.0)), ..e };
        let after = local(&[3, 1, 2]).into_iter().map(named).map(moved).collect();
        assert_eq!(fill(size(251), before), fill(size(251), after));
    }

    #[test]
    fn a_table_smaller_than_the_endpoints_leaves_some_out() {
        assert_eq!(fill(size(2), pods(0..10)).len(), 2);
    }

    #[test]
    fn a_hundred_endpoints_share_the_default_table_to_a_thousandth() {
        // 65537/100 = 655.37, so some have 655 entries and some 656: the largest is 656/655.37 = 1.00096 means.
        let counts = counts(&fill(TableSize::default(), pods(0..100)), 100);
        assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&655), Some(&656)));
    }

    #[test]
    fn a_request_without_a_hash_goes_anywhere() {
        let picker = MaglevPicker::new(fill(size(251), pods(0..5)));
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let mut counts = [0u32; 5];
        for _ in 0..50_000 {
            if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
                counts[id.index()] += 1;
            }
        }
        // 50 of 251 entries, 51 for one: 9,960 and 10,159; five standard deviations are 447.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 447 + 159), "{counts:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The keys of the one that left move, 1/n of all, and less than 1 % of the table besides.
        #[test]
        fn a_lost_endpoint_moves_few_keys_of_the_others(n in 2u32..200, lost in any::<prop::sample::Index>()) {
            let lost = EndpointId(lost.index(n as usize) as u32);
            let before = fill(TableSize::default(), pods(0..n));
            let after = fill(TableSize::default(), pods(0..n).into_iter().filter(|e| e.id != lost).collect());
            let moved = before.iter().zip(&after).filter(|(b, a)| **b != lost && b != a).count();
            prop_assert!((moved as f64) < 0.01 * before.len() as f64, "{moved} moved");
        }

        /// Also next to multiples, where a quotient that is one too small would show.
        #[test]
        fn remainders_are_remainders(n: u64, divisor in 2u64..=5_000_011, multiple: u64) {
            let modulo = Modulo::new(divisor);
            let next_to = multiple / divisor * divisor;
            for n in [n, next_to, next_to.wrapping_sub(1), next_to.wrapping_add(1), 0, 1, u64::MAX, divisor, divisor - 1] {
                prop_assert_eq!(modulo.of(n), n % divisor, "{} mod {}", n, divisor);
            }
        }

        /// Every endpoint gets its share of the turns: the heaviest every turn, others weight/heaviest of them, ± 1.
        #[test]
        fn entries_track_weights(weights in proptest::collection::vec(1u32..100, 1..50)) {
            let counts = counts(&fill(size(5_003), local(&weights)), weights.len());
            let heaviest = *weights.iter().max().unwrap();
            let turns = f64::from(*counts.iter().max().unwrap());
            for (weight, count) in weights.iter().zip(&counts) {
                let expected = turns * f64::from(*weight) / f64::from(heaviest);
                prop_assert!((f64::from(*count) - expected).abs() <= 2.0, "{count}, not {expected}");
            }
        }
    }
}
