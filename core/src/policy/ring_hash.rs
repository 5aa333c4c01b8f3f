//! `ring_hash`: the request's hash is looked up on a ring of hashes, of which every endpoint has as many as its weight says.
//!
//! **Solves** affinity: requests with one hash go to one endpoint from every client, with nothing agreed between them, so
//! that a cache is warm or a session is found. Where an endpoint fails, its keys go to the next on the ring, which is another
//! one for each of its points, and the keys of the others stay. In gRPC's way a client of a few keys connects to a few
//! endpoints only.
//!
//! **Source**: gRFC A42, with the picker of A61 and the keys of A76; envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash.
//! The points of an endpoint are XXH64(`key_0`), XXH64(`key_1`) and so on with seed 0; its key is its address, unless the
//! resolver gives it another. The one of least weight has a whole number of points and the ring at least `min_ring_size`, but no
//! more than `max_ring_size` in all; where that leaves fractions, a running sum says who gets the next point. They differ in:
//!
//! - the order of that sum: sorted by key in grpc-go and here, so that it is the same for all clients; the resolver's in C++, Java
//!   and Envoy. It matters only to who has one point more;
//! - sizes: both take up to 8388608, gRPC counts more than its `ring_size_cap` as that, 4096 unless the program says otherwise;
//!   there is no cap here. Envoy's own `maximum_ring_size` is 8388608;
//! - the hash: Envoy also has MURMUR_HASH_2, which gRPC rejects, and which is not here;
//! - connections, [`Connect`]: gRPC connects to an endpoint when a request means it. Envoy's hosts are there or not. Either way a
//!   request with a key waits for the endpoint that it means, as long as that has not failed;
//! - requests without a key: in gRPC with a `request_hash_header` they go to the next endpoint that is connected, and connect at
//!   most one that is not, along the way (A76); so they do here.
//!
//! As long as endpoints fail and none is READY, one more connects whenever none is trying (A61): if it were for requests alone, a
//! policy around this one that sends none to what has failed would never see it recover.
//!
//! **A pick costs** a look-up of about 10 ns however many points there are, as long as they are in the cache, and a load for each
//! point that it walks past because its endpoint has failed. When endpoints come or go, the points of those that stay are
//! kept: one of 10,000 that is replaced costs half a millisecond, and two with 160 points each. A change of state costs a
//! table of one byte per endpoint for the next picker.
//!
//! **How close**: with k points each of n endpoints, shares have a relative standard deviation of √((n − 1)/(k·n + 1)), about
//! 1/√k: 100 endpoints with 11 points each are ± 30 % off, and the fullest has nearly twice the mean. `maglev` is within 1 % there.
//!
//! **Does badly** in evenness; and when the number of endpoints changes, as then everybody's number of points may,
//! ⌈`min_ring_size`/n⌉. When one of four leaves, 11 % of all keys move from one of the others to another; of ten 6 %; of 103, when the
//! others get eleven points instead of ten, 9 %; and of 100, who have eleven before and after, none. It never looks at load: one
//! hot key is one hot endpoint (put `bounded_load` around it). With more endpoints than points, some get nothing.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig, policy::Wanted};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("ring_hash").unwrap().build();
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &EndpointSet::new((0..3).map(endpoint)));
//! assert_eq!(policy.wanted(), Wanted::Only(&[]));
//!
//! // A request means an endpoint that is not connected: it waits, and the host says so.
//! let key = lb_core::route::hash_of("ann");
//! let picker = policy.picker(&mut Context::new(Nanos::ZERO, &mut rng));
//! assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(key)), Pick::Queue);
//! policy.exit_idle(&mut Context::new(Nanos::ZERO, &mut rng));
//! let Wanted::Only(&[ann]) = policy.wanted() else { panic!() };
//!
//! policy.connectivity(&mut Context::new(Nanos::ZERO, &mut rng), ann, Connectivity::Ready);
//! let picker = policy.picker(&mut Context::new(Nanos::ZERO, &mut rng));
//! assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng).with_hash(key)), Pick::Endpoint(ann));
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::bounded_load::{Bound, Hashed};
use super::config::{Needs, Rule, Settings};
use super::endpoint_states::{self, Change, EndpointStates, has_failed};
use super::outstanding::Shared;
use super::ring::{Ring, Shares};
use super::{Picker, Policy, Wanted, fixed};
use crate::slots::Slots;
use crate::{Asks, Connectivity, Context, EndpointId, EndpointSet, Pick, PickContext, Status};

/// Settings of `ring_hash`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RingHashConfig {
    /// Points that the ring has at least; 1 to 8388608. 1024, gRFC A42 `min_ring_size` and Envoy `minimum_ring_size`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 8_388_608)))]
    pub min_ring_size: u32,
    /// Points that it has at most; 1 to 8388608. 4096, gRFC A42 `max_ring_size`; Envoy's `maximum_ring_size` is 8388608.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 8_388_608)))]
    pub max_ring_size: u32,
    /// The header whose value is a request's key; empty if the route says what is (`hash_policy`). Empty, gRFC A76.
    pub request_hash_header: String,
    /// When endpoints are connected. "on_demand" by default.
    pub connect: Connect,
}

/// When `ring_hash` connects to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Connect {
    /// When a request means it; when its connection is lost, not before a request means it again. gRPC's way.
    #[default]
    OnDemand,
    /// At once. What Envoy's rings are like, of which every healthy host is a part.
    All,
}

impl RingHashConfig {
    /// 8 M: gRFC A42 and envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash reject more.
    const MAX_RING_SIZE: u32 = 8_388_608;
}

impl Default for RingHashConfig {
    fn default() -> Self {
        let request_hash_header = String::new();
        Self { min_ring_size: 1024, max_ring_size: 4096, request_hash_header, connect: Connect::default() }
    }
}

impl Settings for RingHashConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(RingHash::new(self, None))
    }

    fn check(&self) -> Result<(), Rule> {
        let Self { min_ring_size: min, max_ring_size: max, request_hash_header: header, .. } = self;
        let in_range = |field, size: u32| match size {
            1..=Self::MAX_RING_SIZE => Ok(()),
            _ => Err(Rule::broken(field, size, format!("1 to {}", Self::MAX_RING_SIZE))),
        };
        in_range("min_ring_size", *min)?;
        in_range("max_ring_size", *max)?;
        if min > max {
            return Err(Rule::broken("max_ring_size", max, format!(">= min_ring_size, {min}")));
        }
        // A76: "not a valid header name" and "a binary header (suffixed with -bin)" are rejected.
        if !header.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.')) {
            return Err(Rule::broken("request_hash_header", header, "a header's name in lower case, such as x-user"));
        }
        if header.ends_with("-bin") {
            return Err(Rule::broken("request_hash_header", header, "a header of text, without -bin at its end"));
        }
        Ok(())
    }

    fn uses_weights(&self) -> bool {
        true
    }

    fn needs(&self) -> Needs {
        Needs { hash: true, ..Needs::default() }
    }

    fn request_hash_header(&self) -> Option<&str> {
        Some(&*self.request_hash_header).filter(|name| !name.is_empty())
    }
}

pub(super) struct RingHash {
    connect: Connect,
    bound: Option<Bound>,
    states: EndpointStates,
    shares: Shares,
    ring: Ring,
    /// Of each endpoint, in the snapshot's order: whether it is to be connected. Everything is that is not IDLE.
    wants: Vec<bool>,
    wanted: Vec<EndpointId>,
    /// How many are CONNECTING, or about to: wanted and IDLE.
    connecting: usize,
    /// Whom to try next when the others failed.
    next_to_try: usize,
    lazy: Arc<Lazy>,
    published: Option<Arc<dyn Picker>>,
}

impl RingHash {
    pub(super) fn new(config: &RingHashConfig, bound: Option<Bound>) -> Self {
        let max_ring_size = config.max_ring_size.clamp(1, RingHashConfig::MAX_RING_SIZE);
        Self {
            connect: config.connect,
            bound,
            states: EndpointStates::default(),
            shares: Shares::new(config.min_ring_size.clamp(1, max_ring_size), max_ring_size),
            ring: Ring::default(),
            wants: Vec::new(),
            wanted: Vec::new(),
            connecting: 0,
            next_to_try: 0,
            lazy: Arc::default(),
            published: None,
        }
    }

    /// Connects it, or keeps it connected.
    fn want(&mut self, position: usize) {
        if !std::mem::replace(&mut self.wants[position], true) {
            self.connecting += usize::from(waits(self.states.states[position]));
            let id = self.states.endpoints.as_slice()[position].id;
            self.lazy.set_asked(id, true);
            self.wanted.push(id);
        }
    }

    /// Leaves it IDLE until a request means it.
    fn rest(&mut self, position: usize) {
        self.wants[position] = false;
        self.connecting -= 1;
        let id = self.states.endpoints.as_slice()[position].id;
        self.lazy.set_asked(id, false);
        self.wanted.retain(|other| *other != id);
    }

    /// Connects whom picks have asked for.
    fn read_asks(&mut self) {
        // Acquire: what a pick asked for before it said that it had can be seen.
        if self.lazy.news.swap(false, Ordering::Acquire) {
            let endpoints = self.states.endpoints.clone();
            let asked = endpoints.iter().enumerate().filter(|(_, e)| self.lazy.is_asked(e.id)).map(|(p, _)| p);
            asked.collect::<Vec<_>>().into_iter().for_each(|p| self.want(p));
        }
    }

    /// What the policy would report to a parent: the rules of gRFC A42 "Aggregated Connectivity State".
    fn aggregate(&self) -> Connectivity {
        let EndpointStates { ready, failed, ref endpoints, .. } = self.states;
        match (ready, failed) {
            (1.., _) => Connectivity::Ready,
            (_, 2..) => Connectivity::TransientFailure,
            _ if self.connecting > 0 => Connectivity::Connecting,
            (_, 1) if endpoints.len() > 1 => Connectivity::Connecting,
            (_, 0) if !endpoints.is_empty() => Connectivity::Idle,
            _ => Connectivity::TransientFailure,
        }
    }

    /// gRFC A61 "Ring Hash": whatever happened, "if the aggregated connectivity state is TRANSIENT_FAILURE or CONNECTING and there
    /// are no endpoints in CONNECTING state", one that is IDLE connects.
    fn keep_trying(&mut self) {
        let n = self.states.endpoints.len();
        let failing = matches!(self.aggregate(), Connectivity::TransientFailure | Connectivity::Connecting);
        // None is READY or CONNECTING then, so those that have not failed are IDLE.
        if failing && self.connecting == 0 && self.states.failed < n {
            // It does not matter which (A61). In turn, so that a walk past all that failed is not repeated for each.
            while self.states.states[self.next_to_try] != Connectivity::Idle {
                self.next_to_try = (self.next_to_try + 1) % n;
            }
            self.want(self.next_to_try);
        }
        self.lazy.connecting.store(self.connecting > 0, Ordering::Relaxed);
    }

    fn standings(&self) -> Box<[Standing]> {
        let mut standings = vec![Standing::Failed; self.states.endpoints.table_len()];
        for (endpoint, state) in self.states.endpoints.iter().zip(&self.states.states) {
            standings[endpoint.id.index()] = Standing::of(*state);
        }
        standings.into()
    }
}

impl Policy for RingHash {
    fn update(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet) {
        if let Some(bound) = &mut self.bound {
            bound.updated(endpoints);
        }
        self.read_asks();
        let lazy = &*self.lazy;
        lazy.asked.reserve(endpoints.table_len());
        let Some(newcomers) = self.states.update(endpoints) else { return };
        // Nobody has asked for one that is new, but perhaps for another that had the same id.
        newcomers.into_iter().for_each(|id| lazy.set_asked(id, false));
        let positions = &self.states.positions;
        self.ring = self.shares.update(&self.ring, endpoints, positions);
        let wanted: Vec<EndpointId> = self.wanted.drain(..).filter(|id| lazy.is_asked(*id)).collect();
        let stay: Vec<usize> = wanted.into_iter().filter_map(|id| positions.get(id)).collect();
        self.wants = vec![false; endpoints.len()];
        self.connecting = 0;
        stay.into_iter().for_each(|p| self.want(p));
        if self.connect == Connect::All {
            (0..endpoints.len()).for_each(|p| self.want(p));
        }
        self.next_to_try = 0;
        self.keep_trying();
        self.published = None;
    }

    fn connectivity(&mut self, _cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        let Some(Change { position, before, after }) = self.states.set(endpoint, state) else { return };
        if self.wants[position] {
            self.connecting = self.connecting + usize::from(waits(after)) - usize::from(waits(before));
            // A42: "if a subchannel was in state READY but the connection fails", it is IDLE until it is meant again.
            let lost = (before, after) == (Connectivity::Ready, Connectivity::Idle);
            if lost && self.connect == Connect::OnDemand {
                self.rest(position);
            }
        } else if after != Connectivity::Idle {
            self.want(position);
        }
        if Standing::of(before) != Standing::of(after) {
            self.published = None;
        }
        self.keep_trying();
    }

    fn exit_idle(&mut self, _cx: &mut Context<'_>) {
        self.read_asks();
        self.keep_trying();
    }

    fn wanted(&self) -> Wanted<'_> {
        match self.connect {
            Connect::All => Wanted::All,
            Connect::OnDemand => Wanted::Only(&self.wanted),
        }
    }

    fn state(&self) -> Option<Connectivity> {
        Some(self.aggregate())
    }

    fn picker(&mut self, _cx: &mut Context<'_>) -> Arc<dyn Picker> {
        if let Some(picker) = &self.published {
            return picker.clone();
        }
        let endpoints = &self.states.endpoints;
        let picker = || RingPicker {
            ring: self.ring.clone(),
            standings: self.standings(),
            any_ready: self.states.ready > 0,
            all_failed: self.states.failed == endpoints.len(),
            lazy: self.lazy.clone(),
            failure: endpoint_states::nothing_connects(endpoints.len()),
        };
        let answer = match self.states.resolved {
            true => Pick::Fail(endpoint_states::no_addresses()),
            false => Pick::Queue,
        };
        let picker: Arc<dyn Picker> = match &self.bound {
            None if endpoints.is_empty() => fixed::always(answer),
            None => Arc::new(picker()),
            Some(bound) if endpoints.is_empty() => bound.always(answer),
            Some(bound) => {
                let members = endpoints.iter().zip(&self.states.states).filter(|(_, state)| !has_failed(**state));
                bound.around(picker(), members.map(|(e, _)| (e.id, e.weight)))
            }
        };
        self.published.insert(picker).clone()
    }
}

/// What an endpoint's state means for a pick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Ready,
    /// IDLE or CONNECTING.
    Waits,
    Failed,
}

impl Standing {
    fn of(state: Connectivity) -> Self {
        match state {
            Connectivity::Ready => Self::Ready,
            Connectivity::Idle | Connectivity::Connecting => Self::Waits,
            Connectivity::TransientFailure | Connectivity::Unhealthy => Self::Failed,
        }
    }
}

/// What picks leave for the policy, and what they need to know of it that no picker tells.
#[derive(Debug, Default)]
struct Lazy {
    /// By endpoint: it is to be connected, because a pick has asked for it or the policy wants it anyway.
    asked: Slots<AtomicBool>,
    /// A pick has asked for one since the policy looked.
    news: AtomicBool,
    /// One is connecting, or about to.
    connecting: AtomicBool,
}

impl Lazy {
    fn is_asked(&self, endpoint: EndpointId) -> bool {
        self.asked.get(endpoint.index()).is_some_and(|asked| asked.load(Ordering::Relaxed))
    }

    fn set_asked(&self, endpoint: EndpointId, asked: bool) {
        if let Some(flag) = self.asked.get(endpoint.index()) {
            flag.store(asked, Ordering::Relaxed);
        }
    }

    fn ask(&self, endpoint: EndpointId) {
        if !self.is_asked(endpoint) {
            self.set_asked(endpoint, true);
            self.connecting.store(true, Ordering::Relaxed);
            // An exchange, so that a store over another thread's hides nothing (as in `failure_accrual`).
            self.news.swap(true, Ordering::Release);
        }
    }
}

/// Whether it has neither connected nor failed.
fn waits(state: Connectivity) -> bool {
    Standing::of(state) == Standing::Waits
}

struct RingPicker {
    ring: Ring,
    /// By endpoint.
    standings: Box<[Standing]>,
    any_ready: bool,
    all_failed: bool,
    lazy: Arc<Lazy>,
    failure: Status,
}

impl RingPicker {
    #[inline]
    fn standing(&self, endpoint: EndpointId) -> Standing {
        self.standings.get(endpoint.index()).copied().unwrap_or(Standing::Failed)
    }
}

impl Hashed for RingPicker {
    #[inline]
    fn meant(&self, hash: u64, is_key: bool, asks: &mut Asks) -> Pick {
        if self.all_failed {
            return Pick::Fail(self.failure.clone());
        }
        if !is_key {
            return self.any(self.ring.from(hash), asks, |_| true);
        }
        // A61: the first that has not failed decides.
        for endpoint in self.ring.from(hash) {
            match self.standing(endpoint) {
                Standing::Ready => return Pick::Endpoint(endpoint),
                Standing::Waits => {
                    self.lazy.ask(endpoint);
                    return Pick::Queue;
                }
                Standing::Failed => {}
            }
        }
        Pick::Fail(self.failure.clone())
    }

    fn from(&self, hash: u64) -> impl Iterator<Item = EndpointId> {
        self.ring.from(hash)
    }

    /// A76: the first that is READY; at most one that is IDLE is connected on the way, and only if none is CONNECTING. Waits if
    /// there is one of either.
    #[inline]
    fn any(
        &self,
        order: impl Iterator<Item = EndpointId>,
        asks: &mut Asks,
        mut take: impl FnMut(EndpointId) -> bool,
    ) -> Pick {
        let is_connecting = || self.lazy.connecting.load(Ordering::Relaxed);
        let mut waits = is_connecting();
        for endpoint in order {
            match self.standing(endpoint) {
                Standing::Ready if take(endpoint) => return Pick::Endpoint(endpoint),
                Standing::Waits => {
                    if !is_connecting() {
                        self.lazy.ask(endpoint);
                        asks.exit_idle = true;
                    }
                    waits = true;
                }
                _ => {}
            }
            if waits && !self.any_ready {
                break;
            }
        }
        if waits { Pick::Queue } else { Pick::Fail(self.failure.clone()) }
    }
}

impl Picker for RingPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let (hash, is_key) = (cx.hash_or_random(), cx.hash.is_some());
        self.meant(hash, is_key, &mut cx.asks)
    }
}

#[cfg(test)]
mod tests;
