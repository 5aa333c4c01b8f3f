//! `circuit_breaker`: around a child policy, no more than so many requests at a time; what is over is turned away at once.
//!
//! **Solves** the pile-up behind a backend that has become slow: without a limit every request that arrives waits with those
//! before it, and takes memory and its caller's patience until the deadline. With one, some fail in no time, and the
//! backend has a bounded queue to come back from.
//!
//! **Source**: Envoy's circuit breakers (envoy.config.cluster.v3.CircuitBreakers.Thresholds), of which gRPC has
//! `max_requests` (gRFC A32). Envoy also counts connections and retries: HTTP/2 needs one connection for each endpoint,
//! which Envoy always allows, and the retries of a route have limits of their own ([`BudgetConfig`](crate::route::BudgetConfig)).
//! Endpoints of all priorities are one cluster here, with one threshold. The limit is this client's or proxy's own, as in
//! Envoy; gRPC's is shared by the channels of a process.
//!
//! **A pick costs** an atomic addition on one counter besides the child's; its end a subtraction. All threads share it.
//!
//! **Does badly** as a limit of a backend's load: each client has its own, so a backend gets up to as many times that as
//! there are clients.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let config = r#"{"circuit_breaker": {"max_requests": 2, "child_policy": "round_robin"}}"#;
//! let mut policy = serde_json::from_str::<PolicyConfig>(config)?.build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! policy.update(&mut cx, &EndpointSet::new([Endpoint::new(EndpointId(0), Address::new("10.0.0.1:80"))]));
//! policy.connectivity(&mut cx, EndpointId(0), Connectivity::Ready);
//! let picker = policy.picker(&mut cx);
//! let mut pick = || picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng));
//! assert_eq!([pick(), pick()], [0, 0].map(|i| Pick::Endpoint(EndpointId(i))));
//! assert!(matches!(pick(), Pick::Drop(status) if status.code == Code::Unavailable));
//! picker.done(EndpointId(0), Nanos::from_millis(5), &Outcome::new(Code::Ok, Nanos::from_millis(5)));
//! assert_eq!(pick(), Pick::Endpoint(EndpointId(0)));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use super::around::{Around, Wrap};
use super::config::Settings;
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig};
use crate::{EndpointId, Nanos, Outcome, Pick, PickContext, Status};

/// Settings of `circuit_breaker`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CircuitBreakerConfig {
    /// Requests that may be under way at a time. 1024, Envoy `max_requests` and gRFC A32.
    pub max_requests: u32,
    /// Requests that may wait for an endpoint at a time. 1024, Envoy `max_pending_requests`.
    pub max_pending_requests: u32,
    /// Who chooses. `round_robin` by default, as in Envoy.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for CircuitBreakerConfig {
    fn default() -> Self {
        let child_policy = Box::new(PolicyConfig::RoundRobin(Default::default()));
        Self { max_requests: 1024, max_pending_requests: 1024, child_policy }
    }
}

impl Settings for CircuitBreakerConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let Self { max_requests, max_pending_requests: max_pending, .. } = *self;
        let breaker = CircuitBreaker { max_requests, max_pending, active: Arc::default() };
        Box::new(Around::new(breaker, self.child_policy.build_with(shared)))
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

struct CircuitBreaker {
    max_requests: u32,
    max_pending: u32,
    /// One count for all pickers, as a request may end through a later one.
    active: Arc<AtomicU32>,
}

impl Wrap for CircuitBreaker {
    fn around(&self, child: Arc<dyn Picker>) -> Arc<dyn Picker> {
        let Self { max_requests, max_pending, .. } = *self;
        let full = Status::unavailable(format!("circuit breaker: {max_requests} requests are under way already"));
        let crowded = Status::unavailable(format!("circuit breaker: {max_pending} requests wait already"));
        let active = self.active.clone();
        Arc::new(CircuitBreakerPicker { max_requests, max_pending, full, crowded, child, active })
    }
}

struct CircuitBreakerPicker {
    max_requests: u32,
    max_pending: u32,
    full: Status,
    crowded: Status,
    child: Arc<dyn Picker>,
    active: Arc<AtomicU32>,
}

impl CircuitBreakerPicker {
    /// Never below zero: a request reported twice is a host's bug, and 2^32 − 1 would shut the breaker for good.
    #[inline]
    fn leave(&self) {
        let _ = self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    }
}

impl Picker for CircuitBreakerPicker {
    fn child(&self) -> Option<&dyn Picker> {
        Some(&*self.child)
    }

    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        // The place is taken before it is known to be free: two threads can't both have the last one.
        if self.active.fetch_add(1, Ordering::Relaxed) >= self.max_requests {
            self.leave();
            return Pick::Drop(self.full.clone());
        }
        let pick = self.child.pick(cx);
        if !matches!(pick, Pick::Endpoint(_)) {
            self.leave();
        }
        if pick == Pick::Queue && cx.pending >= self.max_pending {
            return Pick::Drop(self.crowded.clone());
        }
        pick
    }

    /// Over the limit if need be: it is sent already.
    fn picked(&self, endpoint: EndpointId, now: Nanos) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.child.picked(endpoint, now);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.leave();
        self.child.done(endpoint, now, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, Code, Connectivity, Context, Endpoint, EndpointSet};

    /// A policy over one ready endpoint, or over one that is not connected yet.
    fn picker(max_requests: u32, max_pending_requests: u32, ready: bool) -> Arc<dyn Picker> {
        let config = CircuitBreakerConfig { max_requests, max_pending_requests, ..Default::default() };
        let mut policy = config.build(&Shared::default());
        let mut rng = Script::indices(1, &[0]);
        let mut cx = Context::new(Nanos::ZERO, &mut rng);
        policy.update(&mut cx, &EndpointSet::new([Endpoint::new(EndpointId(0), Address::new("10.0.0.1:80"))]));
        if ready {
            policy.connectivity(&mut cx, EndpointId(0), Connectivity::Ready);
        }
        policy.picker(&mut cx)
    }

    fn pick(picker: &dyn Picker, pending: u32) -> Pick {
        picker.pick(&mut PickContext { pending, ..PickContext::new(Nanos::ZERO, &mut Script::indices(1, &[0])) })
    }

    #[test]
    fn one_too_many_is_turned_away_and_takes_no_place() {
        let picker = picker(3, 0, true);
        for _ in 0..3 {
            assert_eq!(pick(&*picker, 0), Pick::Endpoint(EndpointId(0)));
        }
        for _ in 0..5 {
            assert!(matches!(pick(&*picker, 0), Pick::Drop(s) if s.message.contains("3 requests are under way")));
        }
        // Reported once too often: no place below none.
        for _ in 0..4 {
            picker.done(EndpointId(0), Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
        }
        let free = (0..9).filter(|_| matches!(pick(&*picker, 0), Pick::Endpoint(_))).count();
        assert_eq!(free, 3);
    }

    #[test]
    fn a_request_sent_by_a_policy_around_it_takes_a_place() {
        let picker = picker(3, 0, true);
        picker.picked(EndpointId(0), Nanos::ZERO);
        assert_eq!((0..9).filter(|_| matches!(pick(&*picker, 0), Pick::Endpoint(_))).count(), 2);
        // All are taken, and it is sent all the same; two have to end before there is a place again.
        picker.picked(EndpointId(0), Nanos::ZERO);
        picker.done(EndpointId(0), Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
        assert!(matches!(pick(&*picker, 0), Pick::Drop(_)));
        picker.done(EndpointId(0), Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
        assert_eq!(pick(&*picker, 0), Pick::Endpoint(EndpointId(0)));
    }

    #[test]
    fn requests_wait_up_to_a_number() {
        let picker = picker(1, 2, false);
        assert_eq!([0, 1].map(|pending| pick(&*picker, pending)), [Pick::Queue, Pick::Queue]);
        assert!(matches!(pick(&*picker, 2), Pick::Drop(s) if s.message.contains("2 requests wait already")));
    }

    #[test]
    fn threads_never_have_more_places_than_there_are() {
        let picker = picker(5, 0, true);
        let most = AtomicU32::new(0);
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        if let Pick::Endpoint(id) = pick(&*picker, 0) {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            picker.done(id, Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO));
                        }
                    }
                });
            }
        });
        assert!((1..=5).contains(&most.into_inner()));
    }
}
