//! `pick_first`: the first address that connects takes everything.
//!
//! **Solves** the plain case, one server or one virtual address in front of many: one connection, tried in the resolver's
//! order. It is what a gRPC client does that configures nothing.
//!
//! **Source**: gRFCs A61 (happy eyeballs), A62 (sticky TRANSIENT_FAILURE, shuffling) and A113 (shuffling by weight);
//! grpc-go `pickfirstleaf`.
//!
//! **A pick costs** nothing but the call: the choice was made when the connection was.
//!
//! **Does badly** as soon as there are several servers: one gets all requests of a client, and if every client has the same
//! order, all requests of all clients. New servers get nothing until the connection breaks.
//!
//! How it moves:
//!
//! ```text
//!              update                       an attempt succeeds
//! (nothing) ───────────► walk the list ───────────────────────────► selected ──┐
//!                         │        ▲                                    ▲      │ connection lost:
//!        all have failed  │        │ a request waits                    │      │ ask the resolver
//!                         ▼        └──────────────── idle ◄─────────────┼──────┘
//!                    try everything ────────────────────────────────────┘
//! ```
//!
//! * The walk starts an attempt; 250 ms later, or as soon as that attempt fails, the next one, without giving up those
//!   in flight. The first to succeed wins, the others are dropped.
//! * When each has failed, requests fail until something connects, the resolver is asked for fresh addresses, and all
//!   endpoints are tried as their back-offs end. That failure outlives further snapshots (A62), not an empty one.
//! * A lost connection is not made again until a request needs one.
//! * A snapshot that still has the selected endpoint changes nothing; another starts the walk again, and attempts in flight
//!   to endpoints it still has go on. Endpoints in back-off are passed over, as A61 says.
//!
//! ```
//! use lb_core::policy::Wanted;
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("pick_first").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! assert_eq!(policy.wanted(), Wanted::Only(&[EndpointId(0)]));
//! // The first does not answer within 250 ms, so the second is tried as well, and connects.
//! cx.now = policy.tick(&mut cx).unwrap();
//! policy.tick(&mut cx);
//! assert_eq!(policy.wanted(), Wanted::Only(&[EndpointId(0), EndpointId(1)]));
//! policy.connectivity(&mut cx, EndpointId(1), Connectivity::Ready);
//! assert_eq!(policy.wanted(), Wanted::Only(&[EndpointId(1)]));
//! let picker = policy.picker(&mut cx);
//! assert_eq!(picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)), Pick::Endpoint(EndpointId(1)));
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::Settings;
use super::draw::{open_unit, shuffle};
use super::endpoint_states::{Positions, no_addresses, nothing_connects};
use super::outstanding::Shared;
use super::{Picker, Policy, Wanted, fixed};
use crate::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick};

/// Settings of `pick_first`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PickFirstConfig {
    /// Shuffle the addresses before trying them: false by default (gRFC A62 `shuffleAddressList`); by weight where
    /// weights differ (A113).
    pub shuffle_address_list: bool,
    /// How long an attempt has before the next one starts beside it. 250 ms, 100 ms to 2 s (gRFC A61 "Connection
    /// Attempt Delay").
    pub connection_attempt_delay: ConnectionAttemptDelay,
}

impl Settings for PickFirstConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(PickFirst::new(self))
    }
}

/// How long a connection attempt has before the next one starts beside it: 100 ms to 2 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Nanos", into = "Nanos")]
pub struct ConnectionAttemptDelay(Nanos);

impl ConnectionAttemptDelay {
    /// gRFC A61: any lower value is treated as 100 ms.
    const MIN: Nanos = Nanos::from_millis(100);
    /// gRFC A61: any higher value is treated as 2 s.
    const MAX: Nanos = Nanos::from_secs(2);

    /// `delay`, or the nearest that gRFC A61 allows.
    pub fn new(delay: Nanos) -> Self {
        Self(delay.clamp(Self::MIN, Self::MAX))
    }

    /// As a length of time.
    pub const fn get(self) -> Nanos {
        self.0
    }
}

impl Default for ConnectionAttemptDelay {
    /// 250 ms, gRFC A61 after RFC 8305 section 5.
    fn default() -> Self {
        Self(Nanos::from_millis(250))
    }
}

impl From<Nanos> for ConnectionAttemptDelay {
    fn from(delay: Nanos) -> Self {
        Self::new(delay)
    }
}

impl From<ConnectionAttemptDelay> for Nanos {
    fn from(delay: ConnectionAttemptDelay) -> Self {
        delay.0
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ConnectionAttemptDelay {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ConnectionAttemptDelay".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Nanos::json_schema(generator)
    }
}

struct PickFirst {
    shuffle: bool,
    delay: Nanos,
    /// In the order they are tried.
    candidates: Vec<Candidate>,
    positions: Positions,
    phase: Phase,
    /// Attempts in flight while walking, the winner when selected; unused while everything is tried.
    wanted: Vec<EndpointId>,
    /// gRFC A62: once all have failed requests fail until something is READY.
    failing: bool,
    resolve_request: bool,
    picker: Arc<dyn Picker>,
}

struct Candidate {
    id: EndpointId,
    address: Address,
    /// As last told. Endpoints nobody wants are taken to be IDLE: the channel closes them.
    state: Connectivity,
    /// Whether it was tried, or found in back-off, since the walk began, and failed.
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No addresses: none yet, or none in the last snapshot.
    Empty,
    /// There was a connection; the next request starts the walk.
    Idle,
    /// The first pass over the list.
    Walking {
        /// The position after the last attempt's.
        next: usize,
        /// When the next attempt starts although the last has not failed; none at the end of the list.
        next_attempt: Option<Nanos>,
        /// Whether an attempt was made and failed, rather than found in back-off.
        tried: bool,
    },
    /// Every endpoint failed and all are tried again; how many have failed since the resolver was last asked.
    TryingAll { failures: usize },
    /// Connected.
    Selected(EndpointId),
}

impl PickFirst {
    fn new(config: &PickFirstConfig) -> Self {
        Self {
            shuffle: config.shuffle_address_list,
            delay: config.connection_attempt_delay.get(),
            candidates: Vec::new(),
            positions: Positions::default(),
            phase: Phase::Empty,
            wanted: Vec::new(),
            failing: false,
            resolve_request: false,
            picker: fixed::queue(),
        }
    }

    fn publish(&mut self, answer: Pick) {
        self.picker = fixed::always(answer);
    }

    fn set_candidates(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        let mut order: Vec<&Endpoint> = endpoints.iter().collect();
        if self.shuffle {
            shuffle_by_weight(cx, &mut order);
        }
        let order = interleave_families(order);
        let state_of = |e: &Endpoint| match self.positions.get(e.id).map(|p| &self.candidates[p]) {
            Some(known) if known.address == e.address => known.state,
            _ => Connectivity::Idle,
        };
        let candidates = order
            .into_iter()
            .map(|e| Candidate { id: e.id, address: e.address.clone(), state: state_of(e), failed: false })
            .collect();
        self.candidates = candidates;
        self.positions = Positions::of(self.candidates.iter().map(|c| c.id));
    }

    fn start_walk(&mut self, now: Nanos) {
        self.wanted.clear();
        for candidate in &mut self.candidates {
            candidate.failed = false;
            // Attempts that are under way when a walk begins again are not thrown away.
            if candidate.state == Connectivity::Connecting {
                self.wanted.push(candidate.id);
            }
        }
        self.walk(now, 0, false);
    }

    /// Starts the attempt on the candidate at `next` or, while those are in back-off, on one after it.
    fn walk(&mut self, now: Nanos, mut next: usize, tried: bool) {
        while let Some(candidate) = self.candidates.get_mut(next) {
            next += 1;
            if candidate.state == Connectivity::TransientFailure {
                candidate.failed = true;
                continue;
            }
            // It may have failed before its turn, in an attempt of an earlier walk, and be over its back-off by now.
            candidate.failed = false;
            // Not a second time if its attempt of an earlier walk goes on.
            if !self.wanted.contains(&candidate.id) {
                self.wanted.push(candidate.id);
            }
            let next_attempt = (next < self.candidates.len()).then_some(now + self.delay);
            self.phase = Phase::Walking { next, next_attempt, tried };
            return;
        }
        self.phase = Phase::Walking { next, next_attempt: None, tried };
        self.end_walk_if_all_failed();
    }

    fn end_walk_if_all_failed(&mut self) {
        let Phase::Walking { next, tried, .. } = self.phase else { return };
        if next < self.candidates.len() || !self.wanted.is_empty() {
            return;
        }
        // Asking again when nothing was tried would loop with a resolver that answers at once.
        self.resolve_request |= tried;
        self.failing = true;
        self.publish(Pick::Fail(nothing_connects(self.candidates.len())));
        self.phase = Phase::TryingAll { failures: 0 };
    }

    fn select(&mut self, endpoint: EndpointId) {
        self.forget_states();
        self.wanted.clear();
        self.wanted.push(endpoint);
        self.failing = false;
        self.phase = Phase::Selected(endpoint);
        self.publish(Pick::Endpoint(endpoint));
    }

    fn lose_connection(&mut self) {
        self.forget_states();
        self.wanted.clear();
        self.resolve_request = true;
        self.phase = Phase::Idle;
        self.publish(Pick::Queue);
    }

    /// What is not wanted gets closed, and its back-off with it: the next walk must not pass it over for a failure of
    /// long ago.
    fn forget_states(&mut self) {
        for candidate in &mut self.candidates {
            candidate.state = Connectivity::Idle;
        }
    }

    /// An attempt of the present walk failed.
    fn attempt_failed(&mut self, now: Nanos, position: usize) {
        let Phase::Walking { next, next_attempt, .. } = self.phase else { return };
        let candidate = &mut self.candidates[position];
        if candidate.failed {
            return;
        }
        candidate.failed = true;
        let id = candidate.id;
        self.wanted.retain(|&w| w != id);
        self.phase = Phase::Walking { next, next_attempt, tried: true };
        if position + 1 == next {
            self.walk(now, next, true);
        } else {
            self.end_walk_if_all_failed();
        }
    }
}

impl Policy for PickFirst {
    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        let selected = match self.phase {
            Phase::Selected(id) => self.positions.get(id).map(|p| self.candidates[p].address.clone()).map(|a| (id, a)),
            _ => None,
        };
        let kept = selected.is_some_and(|(id, address)| endpoints.iter().any(|e| e.id == id && e.address == address));
        self.set_candidates(cx, endpoints);
        if self.candidates.is_empty() {
            // Not the failure of a connection, so it ends with the next snapshot.
            self.wanted.clear();
            self.failing = false;
            self.resolve_request = true;
            self.phase = Phase::Empty;
            self.publish(Pick::Fail(no_addresses()));
        } else if kept || self.phase == Phase::Idle {
            // Connected, or resting until a request comes: the new list is for the next walk.
        } else {
            // What fails keeps failing through the walk (A62), what waits keeps waiting on the same picker.
            let waiting = matches!(self.phase, Phase::Walking { .. });
            if !self.failing && !waiting {
                self.publish(Pick::Queue);
            }
            self.start_walk(cx.now);
        }
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        let Some(position) = self.positions.get(endpoint) else { return };
        // gRFC A17: "pick_first does not support health checking": what is connected is good enough.
        let state = if state == Connectivity::Unhealthy { Connectivity::Ready } else { state };
        match self.phase {
            Phase::Selected(id) if id == endpoint => {
                if state != Connectivity::Ready {
                    self.lose_connection();
                }
            }
            // Late news of attempts that were given up.
            Phase::Selected(_) | Phase::Empty => {}
            // A61: "immediately choose the first subchannel that reports READY", whoever asked for it.
            _ if state == Connectivity::Ready => self.select(endpoint),
            Phase::Idle => {}
            Phase::Walking { .. } => {
                self.candidates[position].state = state;
                if state == Connectivity::TransientFailure {
                    self.attempt_failed(cx.now, position);
                }
            }
            Phase::TryingAll { failures } => {
                let before = std::mem::replace(&mut self.candidates[position].state, state);
                if state == Connectivity::TransientFailure && before != state {
                    // As many failures as endpoints are another pass (gRPC C-core counts them so).
                    let failures = (failures + 1) % self.candidates.len();
                    self.resolve_request |= failures == 0;
                    self.phase = Phase::TryingAll { failures };
                }
            }
        }
    }

    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        if self.phase == Phase::Idle {
            self.start_walk(cx.now);
        }
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        if let Phase::Walking { next, next_attempt: Some(at), tried } = self.phase
            && at <= cx.now
        {
            self.walk(cx.now, next, tried);
        }
        match self.phase {
            Phase::Walking { next_attempt, .. } => next_attempt,
            _ => None,
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        match self.phase {
            Phase::TryingAll { .. } => Wanted::All,
            _ => Wanted::Only(&self.wanted),
        }
    }

    fn take_resolve_request(&mut self) -> bool {
        std::mem::take(&mut self.resolve_request)
    }

    fn state(&self) -> Option<Connectivity> {
        Some(match self.phase {
            Phase::Selected(_) => Connectivity::Ready,
            Phase::Idle => Connectivity::Idle,
            Phase::Walking { .. } if !self.failing => Connectivity::Connecting,
            Phase::Walking { .. } | Phase::TryingAll { .. } | Phase::Empty => Connectivity::TransientFailure,
        })
    }

    fn picker(&mut self, _cx: &mut Context<'_>) -> Arc<dyn Picker> {
        self.picker.clone()
    }
}

/// A random order: uniform if all weights are equal, else by u^(1/weight) descending for a `u` drawn for each (gRFC A113,
/// after Efraimidis and Spirakis), which puts each endpoint first as often as its share of the weight.
fn shuffle_by_weight(cx: &mut Context<'_>, order: &mut [&Endpoint]) {
    if order.windows(2).all(|pair| pair[0].weight == pair[1].weight) {
        return shuffle(cx.rng, order);
    }
    let mut keyed: Vec<(f64, &Endpoint)> =
        order.iter().map(|&e| (libm::pow(open_unit(cx.rng), 1.0 / f64::from(e.weight)), e)).collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (place, (_, endpoint)) in order.iter_mut().zip(keyed) {
        *place = endpoint;
    }
}

/// The same endpoints with the address families alternating, beginning with the first one's (gRFC A61 after RFC 8305
/// section 4), so that one broken family costs one attempt and not half of the list. Names and sockets are a third family.
fn interleave_families(order: Vec<&Endpoint>) -> Vec<&Endpoint> {
    let family = |e: &Endpoint| match e.address.as_str().parse::<SocketAddr>() {
        Ok(SocketAddr::V4(_)) => 4,
        Ok(SocketAddr::V6(_)) => 6,
        Err(_) => 0,
    };
    let mut families: Vec<(u8, std::collections::VecDeque<&Endpoint>)> = Vec::new();
    let total = order.len();
    for endpoint in order {
        let of = family(endpoint);
        match families.iter_mut().find(|(f, _)| *f == of) {
            Some((_, queue)) => queue.push_back(endpoint),
            None => families.push((of, [endpoint].into())),
        }
    }
    let mut interleaved = Vec::with_capacity(total);
    while interleaved.len() < total {
        interleaved.extend(families.iter_mut().filter_map(|(_, queue)| queue.pop_front()));
    }
    interleaved
}

#[cfg(test)]
mod tests;
