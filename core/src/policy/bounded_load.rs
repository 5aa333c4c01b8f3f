//! `bounded_load`: around `ring_hash` or `maglev`, no endpoint has more than so many times the mean of the requests outstanding.
//!
//! **Solves** the hot key, and the uneven ring: hashing alone sends a key to its endpoint whatever the load there is. Here an
//! endpoint that has c times the mean takes no more, and the request goes on to another. Keys stay where they are as long as
//! nothing is that uneven.
//!
//! **Source**: Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018 (arXiv:1608.01350); Envoy's
//! envoy.extensions.load_balancing_policies.common.v3.ConsistentHashingLbConfig `hash_balance_factor`
//! (`thread_aware_lb_impl.cc`); gRPC has none. With T requests outstanding, the new one included, an endpoint whose weight is the
//! part w of all may have ⌈c · T · w⌉, and always one. They differ in:
//!
//! - who is next, [`Next`]: the paper takes the next on the ring. Then those that an overloaded endpoint turns away overload the one
//!   after it. Envoy takes one after the other in an order that each hash has of its own, as Chen, Coleman and Shrivastava
//!   propose ("Revisiting Consistent Hashing with Bounded Loads", AAAI 2021, arXiv:1908.08762). Envoy shuffles all hosts for that; here
//!   it is a walk of a stride that depends on the hash, which needs no memory;
//! - the last place: Envoy calls a host overloaded when it has more than its bound, so that it may have one above it. Here it is the
//!   bound, as in the paper;
//! - ends: the paper moves a request when others end. A request can't be moved, so an endpoint may be above the bound of the
//!   present mean for as long as requests end elsewhere only; it gets none.
//!
//! The part w is of the endpoints that have not failed. Where the ring connects on demand, a request whose endpoint is full
//! goes to one that is connected already, and waits only if these are full too.
//!
//! **A pick costs** three atomic additions besides the child's look-up, one of them on a counter that all threads share, and its
//! end as many. When the endpoint is full, also a look at one after the other until one is not: no more than 1/c of them can be
//! full, so in a random order these are c/(c − 1) looks, three at c = 1.5.
//!
//! **How close**: the bound holds at every pick, also when threads pick at a time: whoever picks is counted first, and takes a
//! place only if the endpoint's count is below the bound of that total. What it may be over by the time of the choice is the part
//! c · w of what ended while it chose. Below the bound nothing is promised: an endpoint that no key means has nothing.
//!
//! **Does badly** where keys matter more than load: the endpoint of a key that has half of all requests serves the part c · w of
//! all, and the others, which know nothing of the key, the rest. With few requests the bound is coarse: of two, each endpoint of
//! 100 may have one. A client counts its own requests only.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let config = r#"{"bounded_load": {"hash_balance_factor": 125, "child_policy": "maglev"}}"#;
//! let mut policy = serde_json::from_str::<PolicyConfig>(config)?.build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..4).map(endpoint)));
//! for i in 0..4 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! // One key has all the requests, none of which ends.
//! let mut counts = [0; 4];
//! for _ in 0..1000 {
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(42)) {
//!         counts[id.index()] += 1;
//!     }
//! }
//! // 1.25 · 1000 / 4 = 312.5.
//! assert_eq!(counts.iter().max(), Some(&313));
//! assert_eq!(counts.iter().sum::<u32>(), 1000);
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::config::{Rule, Settings};
use super::endpoint_states::Positions;
use super::outstanding::{Outstanding, Shared};
use super::ring_hash::{RingHash, RingHashConfig};
use super::{Picker, Policy, PolicyConfig, maglev};
use crate::slots::Slots;
use crate::sync::{AtomicU32, Ordering};
use crate::{Asks, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `bounded_load`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BoundedLoadConfig {
    /// The most that an endpoint may have, in percent of the mean; at least 100 (Envoy `hash_balance_factor`). 150, our choice:
    /// Envoy has no bound by default, and calls 120 to 200 typical.
    #[cfg_attr(feature = "schema", schemars(range(min = 100)))]
    pub hash_balance_factor: u32,
    /// Where a request goes whose endpoint is full. "jump" by default.
    pub next: Next,
    /// Whom a hash means: `ring_hash`, by default, or `maglev`.
    pub child_policy: Box<PolicyConfig>,
}

/// Where a request goes whose endpoint is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Next {
    /// From one endpoint to another in an order that depends on the hash alone. Envoy's way.
    #[default]
    Jump,
    /// To the next on the ring, or in `maglev`'s table. The paper's way.
    Ring,
}

impl Default for BoundedLoadConfig {
    fn default() -> Self {
        let child_policy = Box::new(PolicyConfig::RingHash(RingHashConfig::default()));
        Self { hash_balance_factor: 150, next: Next::default(), child_policy }
    }
}

impl Settings for BoundedLoadConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        self.around_child(self.bound(shared), shared)
    }

    fn check(&self) -> Result<(), Rule> {
        if self.hash_balance_factor < 100 {
            return Err(Rule::broken("hash_balance_factor", self.hash_balance_factor, ">= 100"));
        }
        match &*self.child_policy {
            PolicyConfig::RingHash(_) | PolicyConfig::Maglev(_) => Ok(()),
            other => Err(Rule::broken("child_policy", other.name(), "ring_hash or maglev")),
        }
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

impl BoundedLoadConfig {
    fn bound(&self, shared: &Shared) -> Bound {
        let load = Load { outstanding: shared.outstanding.clone(), counted: Slots::new(), total: AtomicU32::new(0) };
        let percent = self.hash_balance_factor.max(100);
        Bound { percent, next: self.next, load: Arc::new(load), members: EndpointSet::default() }
    }

    fn around_child(&self, bound: Bound, shared: &Shared) -> Box<dyn Policy> {
        match &*self.child_policy {
            PolicyConfig::RingHash(config) => Box::new(RingHash::new(config, Some(bound))),
            PolicyConfig::Maglev(config) => maglev::build(config, Some(bound)),
            // `check` has said that there is nothing to put a bound on.
            other => other.build_with(shared),
        }
    }
}

/// A picker that a bound can be put on: it knows more than one endpoint for a hash.
pub(super) trait Hashed: Picker + 'static {
    /// The answer if no endpoint were ever full. `is_key` unless the hash was drawn at random.
    fn meant(&self, hash: u64, is_key: bool, asks: &mut Asks) -> Pick;

    /// Endpoints in the order in which they follow on the hash, some more than once.
    fn from(&self, hash: u64) -> impl Iterator<Item = EndpointId>;

    /// The first in this order that is READY and can be taken; if there is none, whether to wait.
    fn any(
        &self,
        order: impl Iterator<Item = EndpointId>,
        asks: &mut Asks,
        take: impl FnMut(EndpointId) -> bool,
    ) -> Pick;
}

/// What hashing policies need to put a bound on what they pick.
pub(super) struct Bound {
    percent: u32,
    next: Next,
    load: Arc<Load>,
    /// Whose requests [`Load::total`] counts.
    members: EndpointSet,
}

/// Requests outstanding at the endpoints of one snapshot.
struct Load {
    outstanding: Arc<Outstanding>,
    /// By endpoint: the part of `total` that is there. The same as `outstanding` unless the endpoint left or came with requests
    /// under way, which only this policy must not count or has to.
    counted: Slots<AtomicU32>,
    /// Everything `counted`, and the picks that are choosing.
    total: AtomicU32,
}

impl Bound {
    /// A new snapshot: an endpoint that left takes its requests along, one that came brings them.
    pub(super) fn updated(&mut self, endpoints: &EndpointSet) {
        let Load { outstanding, counted, total } = &*self.load;
        outstanding.reserve(endpoints);
        counted.reserve(endpoints.table_len());
        let count = |id: EndpointId, now: u32| {
            if let Some(counted) = counted.get(id.index()) {
                // It wraps, and is right again when what was counted before is taken off.
                total.fetch_add(now, Ordering::Relaxed);
                total.fetch_sub(counted.swap(now, Ordering::Relaxed), Ordering::Relaxed);
            }
        };
        let stays = Positions::of(endpoints.iter().map(|e| e.id));
        let was = Positions::of(self.members.iter().map(|e| e.id));
        self.members.iter().filter(|e| stays.get(e.id).is_none()).for_each(|e| count(e.id, 0));
        endpoints.iter().filter(|e| was.get(e.id).is_none()).for_each(|e| count(e.id, outstanding.get(e.id)));
        self.members = endpoints.clone();
    }

    /// The same picker with a bound, for these endpoints and weights.
    pub(super) fn around(
        &self,
        child: impl Hashed,
        members: impl Iterator<Item = (EndpointId, u32)>,
    ) -> Arc<dyn Picker> {
        let members: Box<[(EndpointId, u32)]> = members.collect();
        let mut weights = vec![0; members.iter().map(|(id, _)| id.index() + 1).max().unwrap_or(0)];
        members.iter().for_each(|&(id, weight)| weights[id.index()] = weight);
        let sum = members.iter().map(|&(_, weight)| u64::from(weight)).sum();
        let ids: Box<[EndpointId]> = members.iter().map(|&(id, _)| id).collect();
        let jumps = u64::from(maglev::next_prime(ids.len() as u32));
        let Self { percent, next, ref load, .. } = *self;
        Arc::new(BoundedPicker { child, percent, next, ids, jumps, weights: weights.into(), sum, load: load.clone() })
    }

    /// A picker that gives this answer.
    pub(super) fn always(&self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(Waiting { answer, load: self.load.clone() })
    }
}

impl Load {
    /// A request that a policy around this one sent: it counts, over the bound or not.
    fn picked(&self, endpoint: EndpointId) {
        self.outstanding.started(endpoint);
        if let Some(counted) = self.counted.get(endpoint.index()) {
            self.total.fetch_add(1, Ordering::Relaxed);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count of an endpoint goes down before the total, so that the total is never below what is counted.
    #[inline]
    fn done(&self, endpoint: EndpointId) {
        self.outstanding.done(endpoint);
        if let Some(counted) = self.counted.get(endpoint.index())
            && counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
        {
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

struct Waiting {
    answer: Pick,
    load: Arc<Load>,
}

impl Picker for Waiting {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.load.picked(endpoint);
    }

    fn done(&self, endpoint: EndpointId, _now: Nanos, _outcome: &Outcome) {
        self.load.done(endpoint);
    }
}

struct BoundedPicker<H> {
    child: H,
    percent: u32,
    next: Next,
    /// Those that have not failed.
    ids: Box<[EndpointId]>,
    /// The first prime that is not below their number.
    jumps: u64,
    /// Their weights by endpoint, and what these add up to.
    weights: Box<[u32]>,
    sum: u64,
    load: Arc<Load>,
}

impl<H: Hashed> BoundedPicker<H> {
    /// Takes a place at the endpoint, if fewer than ⌈percent/100 · total · weight/sum⌉ are taken; how many were if not.
    #[inline]
    fn take(&self, endpoint: EndpointId, total: u32) -> Result<(), u32> {
        let Some(counted) = self.load.counted.get(endpoint.index()) else { return Err(u32::MAX) };
        // n < ⌈x⌉ is n < x for a whole n, and without the division it is exact. Nobody is full who has nothing: ⌈x⌉ is 1 or more.
        let most = u128::from(self.percent) * u128::from(total) * u128::from(self.weight(endpoint));
        let has_room = |n: u32| n == 0 || u128::from(n) * 100 * u128::from(self.sum) < most;
        // Relaxed: `total` was read before, and a count is only compared with that.
        counted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| has_room(n).then_some(n.wrapping_add(1)))?;
        self.load.outstanding.started(endpoint);
        Ok(())
    }

    #[inline]
    fn weight(&self, endpoint: EndpointId) -> u32 {
        self.weights.get(endpoint.index()).copied().unwrap_or(0)
    }

    /// Every endpoint once, in an order that depends on the hash: from a random place in steps of a random size, which modulo a
    /// prime reach everybody. Each is as likely to be the first, and each other one to come after it.
    fn jumps(&self, hash: u64) -> impl Iterator<Item = EndpointId> {
        // Hashed again, as those of one endpoint have neighbouring hashes.
        let random = xxh64(&hash.to_le_bytes(), 0);
        let (size, mut at) = (self.jumps, random % self.jumps);
        let step = (random >> 32) % (size - 1) + 1;
        let place = move |_| {
            let here = at;
            at = (at + step) % size;
            self.ids.get(here as usize).copied()
        };
        (0..size).filter_map(place)
    }

    /// Somebody else, as the one that is meant is full.
    #[cold]
    fn overflow(&self, hash: u64, total: u32, asks: &mut Asks) -> Pick {
        let mut least: Option<(u32, EndpointId)> = None;
        let take = |endpoint: EndpointId| {
            let Err(n) = self.take(endpoint, total) else { return true };
            let relative = |n: u32, other: EndpointId| u64::from(n) * u64::from(self.weight(other));
            if least.is_none_or(|(least, at)| relative(n, at) < relative(least, endpoint)) {
                least = Some((n, endpoint));
            }
            false
        };
        let pick = match self.next {
            Next::Jump => self.child.any(self.jumps(hash), asks, take),
            // An endpoint that has no points is not on the ring, but has its part of the bound.
            Next::Ring => self.child.any(self.child.from(hash).chain(self.jumps(hash)), asks, take),
        };
        match (pick, least) {
            // All were full when looked at, which with c ≥ 1 they can't be at any one time: other threads have taken what had
            // become free, and given back what was looked at before. As in Envoy, the one furthest from its bound gets it.
            (Pick::Fail(_), Some((_, endpoint))) => {
                if let Some(counted) = self.load.counted.get(endpoint.index()) {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                self.load.outstanding.started(endpoint);
                Pick::Endpoint(endpoint)
            }
            (pick, _) => pick,
        }
    }
}

impl<H: Hashed> Picker for BoundedPicker<H> {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let (hash, is_key) = (cx.hash_or_random(), cx.hash.is_some());
        let meant = self.child.meant(hash, is_key, &mut cx.asks);
        let Pick::Endpoint(endpoint) = meant else { return meant };
        let total = self.load.total.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if self.take(endpoint, total).is_ok() {
            return meant;
        }
        let other = self.overflow(hash, total, &mut cx.asks);
        if !matches!(other, Pick::Endpoint(_)) {
            self.load.total.fetch_sub(1, Ordering::Relaxed);
        }
        other
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.load.picked(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, _now: Nanos, _outcome: &Outcome) {
        self.load.done(endpoint);
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod loom_models;
