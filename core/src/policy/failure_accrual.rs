//! `failure_accrual`: around a child policy, an endpoint that fails again and again is shut off, and let back in by a single
//! request that succeeds.
//!
//! **Solves** the same as `outlier_detection`, without comparing endpoints: each has its own circuit breaker. It acts at once,
//! works with two endpoints as with a hundred, and asks one request, not all, whether an endpoint is well again.
//!
//! ```text
//!          too many failures              the penalty is over           a request takes the place
//!  open ────────────────────────► shut ───────────────────────► probation ──────────────────────► probing
//!   ▲                              ▲                                                              │     │
//!   │                              └──────────── it fails: the penalty is twice as long ──────────┘     │
//!   └─────────────────────────────────────────── it succeeds ───────────────────────────────────────────┘
//! ```
//!
//! **Source**: Linkerd's proxy (annotations `balancer.linkerd.io/failure-accrual-consecutive-*`), after Finagle's
//! `FailureAccrualFactory`. Linkerd goes by failures in a row; Finagle by these or by the success rate, whichever tells first:
//! that is `consecutive_failures = 5`, `success_rate = {}`, and penalties that come close to its equal jitter with
//! `min_penalty = "2.5s"`, `max_penalty = "300s"`, `jitter_ratio = 1.0` (its first is 5 s, without jitter). The rate is
//! Finagle's, an average that decays in time; Linkerd's newer one is a count over a window.
//!
//! * As in Linkerd, an endpoint in probation gets one request at a time, and responses that come late while it is shut are
//!   not heard. There its balancer must choose it first; here the next request is the probe, whatever the child would have
//!   chosen, its hash included: one request for each penalty.
//! * When all that are connected are shut, requests wait for a probation, as in Linkerd, which fails them after 3 s (put
//!   `admission` around this for that). Finagle fails open: put `panic` between this and the child, which hears of a shut
//!   endpoint as unhealthy (see `mask.rs`). `pick_first` does not mind that, and goes on.
//!
//! **A pick costs** two loads besides the child's; the end of a request two loads, or a load and an addition for a failure;
//! with `success_rate` also an exponential, two exchanges and a count. What the ends of requests show is acted on by the control
//! side, which the next pick asks for ([`Asks::exit_idle`](crate::Asks::exit_idle)).
//!
//! **Does badly** when all endpoints fail for a reason that they share: all are shut, and requests wait where a failure would
//! tell the caller. A client with few requests needs long to see 7 in a row. The wait for a probe that hangs has no end but
//! the request's own deadline.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let config = r#"{"failure_accrual": {"jitter_ratio": 0.0, "child_policy": "random"}}"#;
//! let mut policy = serde_json::from_str::<PolicyConfig>(config)?.build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! // Seven failures shut endpoint 1 for a second.
//! let failed = Outcome::new(Code::Unavailable, Nanos::from_millis(1));
//! let picker = policy.picker(&mut cx);
//! (0..7).for_each(|_| picker.done(EndpointId(1), Nanos::ZERO, &failed));
//! assert_eq!(policy.tick(&mut cx), Some(Nanos::from_secs(1)));
//! let picker = policy.picker(&mut cx);
//! let mut pick = |picker: &dyn lb_core::Picker| picker.pick(&mut PickContext::new(Nanos::from_secs(1), &mut rng));
//! assert!((0..20).all(|_| pick(&*picker) == Pick::Endpoint(EndpointId(0))));
//! // Then one request tries it.
//! let mut control = Xoshiro256PlusPlus::seed_from_u64(2);
//! let mut cx = Context::new(Nanos::from_secs(1), &mut control);
//! policy.tick(&mut cx);
//! let picker = policy.picker(&mut cx);
//! assert_eq!([pick(&*picker), pick(&*picker)], [1, 0].map(|i| Pick::Endpoint(EndpointId(i))));
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{Rule, Settings};
use super::draw::open_unit;
pub use super::failures::Failures;
use super::mask::Masked;
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig, earlier};
use crate::slots::Slots;
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::{Connectivity, Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `failure_accrual`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailureAccrualConfig {
    /// So many failures in a row shut an endpoint; 0 for none that do. 7, Linkerd `max-failures`; 5 in Finagle.
    pub consecutive_failures: u32,
    /// A success rate that shuts an endpoint. Off unless given, as in Linkerd; on in Finagle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// How long an endpoint is shut at first; after each probe that fails, twice as long. 1 s, Linkerd `min-penalty`.
    pub min_penalty: Nanos,
    /// How long an endpoint is shut at most. 60 s, Linkerd `max-penalty`.
    pub max_penalty: Nanos,
    /// Up to which part of itself a penalty is made longer at random, 0 to 100. 0.5, Linkerd `jitter-ratio`.
    pub jitter_ratio: f64,
    /// Which status codes are failures. "linkerd" by default.
    pub failures: Failures,
    /// Who chooses. `p2c_peak_ewma` by default, as in Linkerd.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for FailureAccrualConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 7,
            success_rate: None,
            min_penalty: Nanos::from_secs(1),
            max_penalty: Nanos::from_secs(60),
            jitter_ratio: 0.5,
            failures: Failures::Linkerd,
            child_policy: Box::new(PolicyConfig::P2cPeakEwma(Default::default())),
        }
    }
}

/// The rule by the success rate: Finagle's `successRateWithinDuration`. Successes count 1 and failures 0 in an average in
/// which a request weighs e^(−age/window).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SuccessRate {
    /// Below this an endpoint is shut, 0 to 1. 0.8, Finagle `DefaultSuccessRateThreshold`.
    pub required_success_rate: f64,
    /// How far back the average looks; no endpoint is shut before it was there for so long. 30 s, Finagle
    /// `DefaultSuccessRateWindow`.
    pub window: Nanos,
    /// With fewer requests in the last window it is not shut. 5, Finagle `DefaultMinimumRequestThreshold`.
    pub min_request_threshold: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { required_success_rate: 0.8, window: Nanos::from_secs(30), min_request_threshold: 5 }
    }
}

impl FailureAccrualConfig {
    /// How long an endpoint is shut that was shut `times` before without a success in between: Linkerd's back-off.
    fn penalty(&self, cx: &mut Context<'_>, times: u32) -> Nanos {
        let factor = 1u64.checked_shl(times).unwrap_or(u64::MAX);
        let base = Nanos(self.min_penalty.0.saturating_mul(factor)).min(self.max_penalty);
        if self.jitter_ratio == 0.0 {
            return base;
        }
        // "No greater than max": the longest penalty has no jitter.
        base + base.mul_f64(self.jitter_ratio * open_unit(cx.rng)).min(self.max_penalty - base)
    }
}

impl Settings for FailureAccrualConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(FailureAccrual {
            child: Masked::new(self.child_policy.build_with(shared)),
            gates: Arc::new(Gates::new(self)),
            config: self.clone(),
            ends: BTreeSet::new(),
            version: 0,
            published: None,
        })
    }

    fn check(&self) -> Result<(), Rule> {
        if self.max_penalty == Nanos::ZERO {
            return Err(Rule::broken("max_penalty", self.max_penalty, "> 0s"));
        }
        if self.min_penalty > self.max_penalty {
            return Err(Rule::broken("min_penalty", self.min_penalty, format!("<= max_penalty, {}", self.max_penalty)));
        }
        if !(0.0..=100.0).contains(&self.jitter_ratio) {
            return Err(Rule::broken("jitter_ratio", self.jitter_ratio, "0 to 100"));
        }
        if let Some(rule) = self.success_rate {
            if !(0.0..=1.0).contains(&rule.required_success_rate) {
                let rate = rule.required_success_rate;
                return Err(Rule::broken("success_rate.required_success_rate", rate, "0 to 1"));
            }
            if rule.window == Nanos::ZERO {
                return Err(Rule::broken("success_rate.window", rule.window, "> 0s"));
            }
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

/// Where an endpoint stands. Who may move it on is one side only: the end of a request, a pick, or the control side.
mod gate {
    /// Requests go there. To `TRIPPED` by the end of a request.
    pub(super) const OPEN: u8 = 0;
    /// There were too many failures. To `SHUT` by the control side.
    pub(super) const TRIPPED: u8 = 1;
    /// Nothing goes there. To `PROBATION` by the control side, in time.
    pub(super) const SHUT: u8 = 2;
    /// A request may go there. To `PROBING` by the pick that takes it.
    pub(super) const PROBATION: u8 = 3;
    /// One is there. To `PASSED` or `FAILED` by its end.
    pub(super) const PROBING: u8 = 4;
    /// It succeeded. To `OPEN` by the control side.
    pub(super) const PASSED: u8 = 5;
    /// It failed. To `SHUT` by the control side.
    pub(super) const FAILED: u8 = 6;
}

#[derive(Debug, Default)]
struct Gate {
    /// See `gate`.
    at: AtomicU8,
    failures_in_a_row: AtomicU32,
    /// When a request last moved it on, for the control side: in nanoseconds of the host's clock.
    moved: AtomicU64,
}

/// One table for all pickers.
struct Gates {
    slots: Slots<Gate>,
    rates: Option<Rates>,
    failures: Failures,
    /// So many in a row are too many; 0 for never.
    in_a_row: u32,
    /// Some endpoint was moved on by the end of a request. Set after that, Release to Acquire: who clears it finds where.
    noted: AtomicBool,
}

impl Gates {
    fn new(config: &FailureAccrualConfig) -> Self {
        Self {
            slots: Slots::new(),
            rates: config.success_rate.map(Rates::new),
            failures: config.failures,
            in_a_row: config.consecutive_failures,
            noted: AtomicBool::new(false),
        }
    }

    fn reserve(&self, endpoints: &EndpointSet) {
        self.slots.reserve(endpoints.table_len());
        if let Some(rates) = &self.rates {
            rates.slots.reserve(endpoints.table_len());
        }
    }

    /// Opens an endpoint, new or well again: nothing counts that was before.
    fn open(&self, endpoint: EndpointId, now: Nanos) {
        if let Some(rates) = &self.rates {
            rates.reset(endpoint, now);
        }
        if let Some(gate) = self.slots.get(endpoint.index()) {
            gate.failures_in_a_row.store(0, Ordering::Relaxed);
            gate.at.store(gate::OPEN, Ordering::Release);
        }
    }

    #[inline]
    fn at(&self, endpoint: EndpointId) -> u8 {
        self.slots.get(endpoint.index()).map_or(gate::OPEN, |gate| gate.at.load(Ordering::Acquire))
    }

    fn set(&self, endpoint: EndpointId, at: u8) {
        if let Some(gate) = self.slots.get(endpoint.index()) {
            gate.at.store(at, Ordering::Release);
        }
    }

    fn moved(&self, endpoint: EndpointId) -> Nanos {
        Nanos(self.slots.get(endpoint.index()).map_or(0, |gate| gate.moved.load(Ordering::Relaxed)))
    }

    /// Takes the place of the probe; only one can.
    fn take_probe(&self, endpoint: EndpointId) -> bool {
        let take = |gate: &Gate| {
            gate.at.compare_exchange(gate::PROBATION, gate::PROBING, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        self.slots.get(endpoint.index()).is_some_and(take)
    }

    /// A request has ended.
    #[inline]
    fn ended(&self, endpoint: EndpointId, now: Nanos, failed: bool) {
        let Some(gate) = self.slots.get(endpoint.index()) else { return };
        let from = gate.at.load(Ordering::Relaxed);
        let to = match from {
            gate::OPEN => {
                if !self.is_one_too_many(gate, endpoint, now, failed) {
                    return;
                }
                gate::TRIPPED
            }
            gate::PROBING if failed => gate::FAILED,
            gate::PROBING => gate::PASSED,
            // Linkerd: "ignore responses while the breaker is shut".
            _ => return,
        };
        gate.moved.store(now.0, Ordering::Relaxed);
        // Of several at once the first decides, as in Linkerd and Finagle.
        if gate.at.compare_exchange(from, to, Ordering::Release, Ordering::Relaxed).is_ok() {
            // An exchange, though it is set either way: a store over another thread's would hide what that thread did before
            // from who clears it, and that endpoint would stay where it is.
            self.noted.swap(true, Ordering::Release);
        }
    }

    #[inline]
    fn is_one_too_many(&self, gate: &Gate, endpoint: EndpointId, now: Nanos, failed: bool) -> bool {
        let low = self.rates.as_ref().is_some_and(|rates| rates.is_low(endpoint, now, failed));
        if !failed {
            // Looked at first, as writing what is there already would cost every success.
            if gate.failures_in_a_row.load(Ordering::Relaxed) > 0 {
                gate.failures_in_a_row.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let in_a_row = gate.failures_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        low || self.in_a_row > 0 && in_a_row >= self.in_a_row
    }
}

/// Slices that a window is counted in. 5, Finagle: "The window was chosen to have 5 slices arbitrarily".
const SLICES: u64 = 5;

/// The success rates of all endpoints. Ends of requests at the same time on several threads each count once; which of
/// them gets the time since the last does not matter.
struct Rates {
    rule: SuccessRate,
    slots: Slots<Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    /// When it began to be measured, in nanoseconds of the host's clock.
    since: AtomicU64,
    /// When the last request ended.
    last: AtomicU64,
    /// The average, as the bits of an `f64`; negative before the first request.
    average: AtomicU64,
    /// Requests in each slice of time: the slice's number in the upper half, the count in the lower.
    slices: [AtomicU64; SLICES as usize],
}

impl Rates {
    fn new(rule: SuccessRate) -> Self {
        Self { rule, slots: Slots::new() }
    }

    fn reset(&self, endpoint: EndpointId, now: Nanos) {
        let Some(rate) = self.slots.get(endpoint.index()) else { return };
        rate.since.store(now.0, Ordering::Relaxed);
        rate.last.store(now.0, Ordering::Relaxed);
        rate.average.store((-1.0f64).to_bits(), Ordering::Relaxed);
        rate.slices.iter().for_each(|slice| slice.store(0, Ordering::Relaxed));
    }

    /// Counts a request; whether it failed and the rate is too low.
    fn is_low(&self, endpoint: EndpointId, now: Nanos, failed: bool) -> bool {
        let Some(rate) = self.slots.get(endpoint.index()) else { return false };
        let sample = if failed { 0.0 } else { 1.0 };
        let elapsed = now.since(Nanos(rate.last.fetch_max(now.0, Ordering::Relaxed)));
        let keep = libm::exp(-(elapsed.0 as f64) / self.rule.window.0.max(1) as f64);
        let mixed = |average: f64| if average < 0.0 { sample } else { sample * (1.0 - keep) + average * keep };
        let update = |bits| Some(mixed(f64::from_bits(bits)).to_bits());
        let before = rate.average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        let average = mixed(f64::from_bits(before.unwrap_or_else(|bits| bits)));

        let slice = (now.0 / (self.rule.window.0 / SLICES).max(1)) & u64::from(u32::MAX);
        let counted = |bits: u64| Some(if bits >> 32 == slice { bits.saturating_add(1) } else { slice << 32 | 1 });
        let _ = rate.slices[(slice % SLICES) as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
        if !failed || average >= self.rule.required_success_rate {
            return false;
        }
        let recent = |bits: &u64| slice.wrapping_sub(bits >> 32) < SLICES;
        let slices = rate.slices.iter().map(|slice| slice.load(Ordering::Relaxed));
        let requests: u64 = slices.filter(recent).map(|bits| bits & u64::from(u32::MAX)).sum();
        now.since(Nanos(rate.since.load(Ordering::Relaxed))) >= self.rule.window
            && requests >= u64::from(self.rule.min_request_threshold)
    }
}

/// What the control side remembers of an endpoint.
#[derive(Debug, Default)]
struct Sentence {
    /// Penalties since it was last open.
    times: u32,
    /// When the present one ends.
    end: Option<Nanos>,
}

struct FailureAccrual {
    config: FailureAccrualConfig,
    child: Masked<Sentence>,
    gates: Arc<Gates>,
    /// Penalties by their end.
    ends: BTreeSet<(Nanos, EndpointId)>,
    /// Changes with who is in probation, as the child's with who is held.
    version: u64,
    published: Option<Published>,
}

struct Published {
    picker: Arc<FailureAccrualPicker>,
    /// The child's version and ours at the time.
    versions: (u64, u64),
}

impl FailureAccrual {
    /// Does what the ends of requests have shown to be due, and what is due by now.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if self.gates.noted.swap(false, Ordering::Acquire) {
            let moved: Vec<(EndpointId, u8)> = self.child.ids().map(|id| (id, self.gates.at(id))).collect();
            for (id, at) in moved {
                match at {
                    gate::TRIPPED | gate::FAILED => self.shut(cx, id),
                    gate::PASSED => {
                        self.gates.open(id, cx.now);
                        if let Some(sentence) = self.child.own(id) {
                            *sentence = Sentence::default();
                        }
                        self.child.hold(cx, id, false);
                    }
                    _ => {}
                }
            }
        }
        while let Some(&(end, id)) = self.ends.first()
            && end <= cx.now
        {
            self.ends.pop_first();
            if let Some(sentence) = self.child.own(id) {
                sentence.end = None;
            }
            self.gates.set(id, gate::PROBATION);
            self.version += 1;
        }
    }

    /// From the moment of the failure on, which may be a while ago.
    fn shut(&mut self, cx: &mut Context<'_>, id: EndpointId) {
        let Some(sentence) = self.child.own(id) else { return };
        let end = self.gates.moved(id) + self.config.penalty(cx, sentence.times);
        sentence.times = sentence.times.saturating_add(1);
        sentence.end = Some(end);
        self.gates.set(id, gate::SHUT);
        self.ends.insert((end, id));
        self.child.hold(cx, id, true);
    }
}

impl Policy for FailureAccrual {
    fn child(&self) -> Option<&dyn Policy> {
        Some(self.child.child())
    }

    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        Some(self.child.child_mut())
    }

    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.gates.reserve(endpoints);
        for id in self.child.update(cx, endpoints) {
            self.gates.open(id, cx.now);
        }
        let child = &mut self.child;
        self.ends.retain(|&(end, id)| child.own(id).is_some_and(|sentence| sentence.end == Some(end)));
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.child.connectivity(cx, endpoint, state);
    }

    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        self.settle(cx);
        self.child.child_mut().exit_idle(cx);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        self.settle(cx);
        let end = self.ends.first().map(|&(end, _)| end);
        earlier(end, self.child.tick(cx))
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        let child = self.child.child_mut().picker(cx);
        let versions = (self.child.version(), self.version);
        if let Some(published) = &self.published
            && published.versions == versions
            && Arc::ptr_eq(&published.picker.child, &child)
        {
            return published.picker.clone();
        }
        let shut: Vec<EndpointId> = self.child.could_serve().collect();
        let picker = Arc::new(FailureAccrualPicker {
            child,
            probes: shut.iter().copied().filter(|id| self.gates.at(*id) == gate::PROBATION).collect(),
            next: AtomicUsize::new(0),
            some_are_shut: !shut.is_empty(),
            gates: self.gates.clone(),
        });
        self.published.insert(Published { picker, versions }).picker.clone()
    }
}

struct FailureAccrualPicker {
    child: Arc<dyn Picker>,
    gates: Arc<Gates>,
    /// Endpoints in probation, each to be given one request.
    probes: Box<[EndpointId]>,
    /// The first of them that has not been tried, or more.
    next: AtomicUsize,
    /// Some that are connected, in probation or not.
    some_are_shut: bool,
}

impl FailureAccrualPicker {
    /// An endpoint that this request is to try. Each is offered once, so that no pick looks for one that is free; the gate
    /// itself makes sure of one request at a time, whatever other pickers are about.
    #[inline]
    fn probe(&self) -> Option<EndpointId> {
        if self.next.load(Ordering::Relaxed) >= self.probes.len() {
            return None;
        }
        let endpoint = *self.probes.get(self.next.fetch_add(1, Ordering::Relaxed))?;
        self.gates.take_probe(endpoint).then_some(endpoint)
    }
}

impl Picker for FailureAccrualPicker {
    fn child(&self) -> Option<&dyn Picker> {
        Some(&*self.child)
    }

    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        if self.gates.noted.load(Ordering::Relaxed) {
            cx.asks.exit_idle = true;
        }
        if let Some(endpoint) = self.probe() {
            self.child.picked(endpoint, cx.now);
            return Pick::Endpoint(endpoint);
        }
        let pick = self.child.pick(cx);
        // The child fails as it takes them for broken; they are to be tried again soon.
        if self.some_are_shut && matches!(pick, Pick::Fail(_)) { Pick::Queue } else { pick }
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.gates.ended(endpoint, now, self.gates.failures.include(outcome.code));
        self.child.done(endpoint, now, outcome);
    }
}

#[cfg(test)]
mod tests;

#[cfg(all(test, loom))]
mod loom_models;
