//! `degrader`: at random by weight; an endpoint that is slow, or fails, loses a fifth of its weight every five seconds.
//!
//! **Solves** a bad endpoint by degrees: ejection is all or nothing, and what was ejected comes back with all of its load.
//! Here each endpoint has a drop rate, the part of its requests that others get. Slow ones are degraded until they are
//! fast again, or until hardly anything is left that could be slow.
//!
//! **Source**: rest.li's D2, `DegraderImpl` and `DegraderLoadBalancerStrategyV3` (LinkedIn). At the end of each interval in which
//! an endpoint has ended enough calls (`min_call_count`, in proportion to the part that it still gets, at least 1):
//!
//! ```text
//! mean latency ≥ high_latency or error rate ≥ high_error_rate:  drop rate + up_step, at most max_drop_rate
//! mean latency ≤ low_latency and error rate ≤ low_error_rate:   drop rate − down_step, at least 0
//! ```
//!
//! and then weight · (1 − drop rate) is what it is drawn by. Where less than a hundredth would be left (in D2, no point on the
//! ring), it gets `initial_recovery_level` instead, and each interval with few calls `ring_ramp_factor` times as much, until it has
//! shown with its own calls how it is. So nobody is lost for good; and if all are degraded alike, all get the same.
//! What differs from D2:
//!
//! * D2 puts 100 points per unit of weight on a hash ring; here one is drawn at random, which is what D2 does with its default hash.
//! * Every other interval D2 adjusts, instead of these rates, one for the whole cluster, at which requests are not sent at all
//!   (`globalStepUp`). Turning requests away is what `adaptive_throttle` and `circuit_breaker` are for.
//! * D2 also counts as high that 5 calls or more are outstanding for 10 s on average. The core is not told when a request began
//!   that has not ended. Deadlines make such calls end: their latency is high, and DEADLINE_EXCEEDED is an error.
//! * V3 rounds the part that an endpoint gets down to 0 or 1 before it multiplies `min_call_count` with it, so that one call is
//!   enough for a judgement of any that is degraded; here it is as in `DegraderImpl`.
//! * Percentiles of latency (`latencyToUse`), quarantine and its health checks are not here.
//!
//! **A pick costs** one random number and one look into a table; its end three additions on counters of the endpoint. The
//! table is built anew, in O(n), only when a drop rate has changed.
//!
//! **How close** the shares come to weight · (1 − drop rate): as close as chance. With a share *p* of *N* requests the count is
//! off by √(*N·p*·(1 − *p*)) in the standard deviation.
//!
//! **Does badly** at speed: a dead endpoint takes five intervals, 25 s, to lose its share. Its thresholds are absolute, and the
//! defaults are those of slow services: below 3 s nothing is ever degraded. Errors count only if `high_error_rate` is set;
//! an endpoint that fails fast has the best of latencies. It sees no load: in itself the choice is `random`'s.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("degrader").unwrap().build();
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut Context::new(Nanos::ZERO, &mut rng), &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut Context::new(Nanos::ZERO, &mut rng), EndpointId(i), Connectivity::Ready);
//! }
//! // Endpoint 0 takes 4 s, endpoint 1 takes 5 ms. How many of 1,000 requests the first gets, interval by interval:
//! let mut slow = Vec::new();
//! for interval in 0..7 {
//!     let now = Nanos::from_secs(5 * interval);
//!     policy.tick(&mut Context::new(now, &mut rng));
//!     let picker = policy.picker(&mut Context::new(now, &mut rng));
//!     let mut count = 0;
//!     for _ in 0..1_000 {
//!         let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(now, &mut rng)) else { panic!() };
//!         let latency = Nanos::from_millis([4_000, 5][id.index()]);
//!         picker.done(id, now + latency, &Outcome::new(Code::Ok, latency));
//!         count += 1 - id.0;
//!     }
//!     slow.push(count);
//! }
//! // Weights 1, 0.8, 0.6, 0.4, 0.2 and then 0.01 against 1.
//! for (count, expected) in slow.iter().zip([500, 444, 375, 286, 167, 10, 10]) {
//!     assert!(count.abs_diff(expected) < 60, "{slow:?}");
//! }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::{Rule, Settings};
use super::draw::WeightedIndex;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::Shared;
use super::{Picker, Policy};
use crate::slots::Slots;
use crate::{Code, Codes, Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `degrader`. Names and defaults are rest.li's, `DegraderImpl` and `DegraderLoadBalancerStrategyConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DegraderConfig {
    /// How often drop rates are adjusted. 5 s, D2 `updateIntervalMs`.
    pub interval: Nanos,
    /// Added to the drop rate of an endpoint that does badly, 0 to 1. 0.20, `DEFAULT_UP_STEP`.
    pub up_step: f64,
    /// Taken from the drop rate of an endpoint that does well, 0 to 1. 0.20, `DEFAULT_DOWN_STEP`.
    pub down_step: f64,
    /// Calls that must have ended in an interval for a judgement, as long as nothing is dropped. 10, `DEFAULT_MIN_CALL_COUNT`.
    pub min_call_count: u32,
    /// A mean latency from here on is bad. 3 s, `DEFAULT_HIGH_LATENCY`.
    pub high_latency: Nanos,
    /// A mean latency up to here is good. 500 ms, `DEFAULT_LOW_LATENCY`.
    pub low_latency: Nanos,
    /// An error rate from here on is bad. 1.1, `DEFAULT_HIGH_ERROR_RATE`: more than there can be, so errors don't count.
    pub high_error_rate: f64,
    /// An error rate up to here is good. 1.1, `DEFAULT_LOW_ERROR_RATE`.
    pub low_error_rate: f64,
    /// What counts as an error. D2: exceptions when connecting, connections that were closed, timeouts and statuses of 500 and
    /// more; by default the codes that stand for these (google.rpc.Code says which HTTP status each is).
    pub error_codes: Vec<Code>,
    /// The highest drop rate, 0 to 1. 1.0, `DEFAULT_MAX_DROP_RATE`.
    pub max_drop_rate: f64,
    /// The drop rate of an endpoint that is new, 0 to 1. 0, `DEFAULT_INITIAL_DROP_RATE`; more makes it start slowly.
    pub initial_drop_rate: f64,
    /// While an endpoint gets a smaller part than this, the part doubles where it would grow by `down_step`; 0 to 1. 0,
    /// `DEFAULT_SLOW_START_THRESHOLD`.
    pub slow_start_threshold: f64,
    /// The part that is left to an endpoint that would get nothing, above 0. 0.01, `DEFAULT_INITIAL_RECOVERY_LEVEL`.
    pub initial_recovery_level: f64,
    /// What that part is multiplied by each interval in which it brings too few calls, at least 1. 1.0, `DEFAULT_RAMP_FACTOR`.
    /// Above 1, an endpoint that does well also keeps it until its drop rate is low: D2's fast recovery.
    pub ring_ramp_factor: f64,
}

impl Default for DegraderConfig {
    fn default() -> Self {
        use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
        Self {
            interval: Nanos::from_secs(5),
            up_step: 0.2,
            down_step: 0.2,
            min_call_count: 10,
            high_latency: Nanos::from_secs(3),
            low_latency: Nanos::from_millis(500),
            high_error_rate: 1.1,
            low_error_rate: 1.1,
            error_codes: vec![Unknown, DeadlineExceeded, Unimplemented, Internal, Unavailable, DataLoss],
            max_drop_rate: 1.0,
            initial_drop_rate: 0.0,
            slow_start_threshold: 0.0,
            initial_recovery_level: 0.01,
            ring_ramp_factor: 1.0,
        }
    }
}

impl Settings for DegraderConfig {
    fn build(&self, _shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(Degrader::new(self.clone())))
    }

    fn check(&self) -> Result<(), Rule> {
        if self.interval == Nanos::ZERO {
            return Err(Rule::broken("interval", self.interval, "> 0s"));
        }
        let parts = [
            ("up_step", self.up_step),
            ("down_step", self.down_step),
            ("max_drop_rate", self.max_drop_rate),
            ("initial_drop_rate", self.initial_drop_rate),
            ("slow_start_threshold", self.slow_start_threshold),
        ];
        if let Some((field, value)) = parts.into_iter().find(|(_, value)| !(0.0..=1.0).contains(value)) {
            return Err(Rule::broken(field, value, "0 to 1"));
        }
        let rates = [("high_error_rate", self.high_error_rate), ("low_error_rate", self.low_error_rate)];
        if let Some((field, value)) = rates.into_iter().find(|(_, value)| value.is_nan() || *value < 0.0) {
            return Err(Rule::broken(field, value, ">= 0"));
        }
        let Self { initial_recovery_level: level, ring_ramp_factor: factor, .. } = *self;
        if !(level > 0.0 && level <= 1.0) {
            return Err(Rule::broken("initial_recovery_level", level, "> 0 and <= 1"));
        }
        if !(factor >= 1.0 && factor.is_finite()) {
            return Err(Rule::broken("ring_ramp_factor", factor, ">= 1"));
        }
        Ok(())
    }

    fn uses_weights(&self) -> bool {
        true
    }
}

/// With less than this of its weight an endpoint is given `initial_recovery_level`: D2 has 100 points per unit of weight
/// (`DEFAULT_POINTS_PER_WEIGHT`), and this would be no point.
const ONE_POINT: f64 = 0.01;
/// Fast recovery ends at this drop rate. D2 `FAST_RECOVERY_MAX_DROPRATE`.
const FAST_RECOVERY_MAX_DROP_RATE: f64 = 0.5;
/// A longer call counts as one of an hour, so that five million of them in an interval don't overflow their sum.
const LONGEST: Nanos = Nanos::from_secs(3600);

/// What has ended since the interval began.
#[derive(Debug, Default)]
struct Calls {
    /// Relaxed, each by itself: a call that ends while they are read may be counted in this interval and timed in the next.
    ended: AtomicU32,
    errors: AtomicU32,
    latency_ns: AtomicU64,
}

/// An interval of an endpoint.
#[derive(Debug, Clone, Copy)]
struct Interval {
    calls: u32,
    error_rate: f64,
    latency: Nanos,
}

struct Tracker {
    slots: Slots<Calls>,
    errors: Codes,
}

impl Tracker {
    #[inline]
    fn done(&self, endpoint: EndpointId, outcome: &Outcome) {
        let Some(calls) = self.slots.get(endpoint.index()) else { return };
        calls.ended.fetch_add(1, Ordering::Relaxed);
        calls.latency_ns.fetch_add(outcome.latency.min(LONGEST).0, Ordering::Relaxed);
        if self.errors.contains(outcome.code) {
            calls.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted; counting begins anew.
    fn take(&self, endpoint: EndpointId) -> Interval {
        let Some(row) = self.slots.get(endpoint.index()) else {
            return Interval { calls: 0, error_rate: 0.0, latency: Nanos::ZERO };
        };
        let calls = row.ended.swap(0, Ordering::Relaxed);
        let errors = row.errors.swap(0, Ordering::Relaxed);
        let latency_ns = row.latency_ns.swap(0, Ordering::Relaxed);
        let per_call = |sum: f64| if calls == 0 { 0.0 } else { sum / f64::from(calls) };
        Interval {
            calls,
            error_rate: per_call(f64::from(errors)),
            latency: Nanos(per_call(latency_ns as f64).round() as u64),
        }
    }
}

/// How far an endpoint is degraded.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Degraded {
    /// The part of its requests that others get.
    drop_rate: f64,
    /// The part that it is left nevertheless.
    recovery: Option<f64>,
}

impl Degraded {
    /// The part of its weight that it is drawn by.
    fn transmission(self) -> f64 {
        (1.0 - self.drop_rate).max(self.recovery.unwrap_or(0.0))
    }

    /// An interval is over.
    fn after(self, interval: Interval, config: &DegraderConfig) -> Self {
        let Interval { calls, error_rate, latency } = interval;
        let min_calls = ((1.0 - self.drop_rate) * f64::from(config.min_call_count)).round().max(1.0);
        let enough = f64::from(calls) >= min_calls;
        let high = enough && (latency >= config.high_latency || error_rate >= config.high_error_rate);
        let low = enough && latency <= config.low_latency && error_rate <= config.low_error_rate;
        let drop_rate = if high {
            (self.drop_rate + config.up_step).min(config.max_drop_rate).max(self.drop_rate)
        } else if low {
            self.relieved(config)
        } else {
            self.drop_rate
        };
        let still = |level: f64| {
            if calls < config.min_call_count {
                return Some((level * config.ring_ramp_factor).min(1.0));
            }
            let recovers = !high && drop_rate > FAST_RECOVERY_MAX_DROP_RATE.min(1.0 - level);
            (config.ring_ramp_factor > 1.0 && recovers).then_some(level)
        };
        let recovery = self.recovery.and_then(still);
        let after = Self { drop_rate, recovery };
        if after.transmission() < ONE_POINT {
            return Self { recovery: Some(config.initial_recovery_level), ..after };
        }
        after
    }

    /// The drop rate after an interval that went well.
    fn relieved(self, config: &DegraderConfig) -> f64 {
        let part = 1.0 - self.drop_rate;
        if self.drop_rate > 0.0 && part < config.slow_start_threshold {
            // DegraderImpl: from nothing to a hundredth, then twice as much each time.
            return if part > 0.0 { (1.0 - 2.0 * part).max(0.0) } else { 0.99 };
        }
        (self.drop_rate - config.down_step).max(0.0)
    }
}

struct Degrader {
    config: DegraderConfig,
    tracker: Arc<Tracker>,
    endpoints: EndpointSet,
    /// By id.
    degraded: Vec<Degraded>,
    /// When the interval ends; none if there is nobody to judge.
    ends_at: Option<Nanos>,
}

impl Degrader {
    fn new(config: DegraderConfig) -> Self {
        let tracker = Arc::new(Tracker { slots: Slots::new(), errors: Codes::of(&config.error_codes) });
        Self { config, tracker, endpoints: EndpointSet::default(), degraded: Vec::new(), ends_at: None }
    }

    /// How far a new endpoint is degraded.
    fn initial(&self) -> Degraded {
        let drop_rate = self.config.initial_drop_rate;
        let recovery = (1.0 - drop_rate < ONE_POINT).then_some(self.config.initial_recovery_level);
        Degraded { drop_rate, recovery }
    }
}

impl PickerFactory for Degrader {
    fn updated(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.tracker.slots.reserve(endpoints.table_len());
        let initial = self.initial();
        self.degraded.resize(endpoints.table_len().max(self.degraded.len()), initial);
        for &new in newcomers {
            self.tracker.take(new);
            self.degraded[new.index()] = initial;
        }
        self.endpoints = endpoints.clone();
        self.ends_at = match self.ends_at {
            _ if endpoints.is_empty() => None,
            None => Some(cx.now + self.config.interval),
            ends_at => ends_at,
        };
    }

    fn tick(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> (Option<Arc<dyn Picker>>, Option<Nanos>) {
        let mut changed = false;
        if self.ends_at.is_some_and(|at| at <= cx.now) {
            for endpoint in &self.endpoints {
                let degraded = &mut self.degraded[endpoint.id.index()];
                let before = degraded.transmission();
                *degraded = degraded.after(self.tracker.take(endpoint.id), &self.config);
                changed |= degraded.transmission() != before;
            }
            self.ends_at = Some(cx.now + self.config.interval);
        }
        (changed.then(|| self.over(cx, ready)), self.ends_at)
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let share = |e: &crate::Endpoint| f64::from(e.weight) * self.degraded[e.id.index()].transmission();
        let shares = WeightedIndex::new(&ready.iter().map(share).collect::<Vec<_>>());
        Arc::new(DegraderPicker { ready: ready.ids(), shares, tracker: self.tracker.clone() })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker { answer, tracker: self.tracker.clone() })
    }
}

struct DegraderPicker {
    ready: Box<[EndpointId]>,
    shares: WeightedIndex,
    tracker: Arc<Tracker>,
}

impl Picker for DegraderPicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        Pick::Endpoint(self.ready[self.shares.draw(cx.rng)])
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, _now: Nanos, outcome: &Outcome) {
        self.tracker.done(endpoint, outcome);
    }
}

/// While nothing is ready: requests that were sent before still end, and count.
struct WaitingPicker {
    answer: Pick,
    tracker: Arc<Tracker>,
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn done(&self, endpoint: EndpointId, _now: Nanos, outcome: &Outcome) {
        self.tracker.done(endpoint, outcome);
    }
}

#[cfg(test)]
mod tests;
