//! `outlier_detection`: around a child policy, endpoints that fail more than the others get no requests for a while.
//!
//! **Solves** the backend that answers, and wrongly: its connection is fine, a health check may be too, and as it fails fast a
//! policy that goes by load likes it best. Here the ends of requests tell. Three rules, each alone or together:
//!
//! * **success rate**: below mean − 1.9 σ of all endpoints' rates in the last interval. Of four at 100 % and one at 50 % the
//!   mean is 90 %, σ is √((4 · 10² + 40²)/5) = 20 %, so below 52 % is an outlier;
//! * **failure percentage**: so many of its requests failed in the last interval;
//! * **consecutive failures**: so many in a row, at any time.
//!
//! Whoever is found out is ejected: for `base_ejection_time` times the number of ejections, one of which is forgiven for
//! every interval that it gets through; and only as long as no more than `max_ejection_percent` are.
//!
//! **Source**: gRFC A50 (`OutlierDetectionLoadBalancingConfig`), Envoy (envoy.config.cluster.v3.OutlierDetection). As in
//! gRPC a rule without settings is off; with all of them off this is the child alone. Consecutive failures are Envoy's only.
//! An endpoint that is ejected already is not judged again, nor a part of the mean, as in Envoy. A50's "after" the ejection
//! time is taken as "not before": gRPC's timer fires late by a little, so its third interval does end an ejection of 30 s.
//! Envoy stops counting ejections at the longest time, so there an endpoint is forgiven sooner that was ejected often. Not
//! here: Envoy's split of local errors, consecutive gateway failures, and the jitter on the end of an ejection.
//!
//! The child hears of an ejected endpoint as unhealthy (see `mask.rs`); most don't pick it, `panic` may, and `pick_first`
//! does, as gRPC's (A61: it ignores health).
//!
//! **A pick costs** a load besides the child's; the end of a request an addition on a counter of its endpoint, or two for a
//! failure. Consecutive failures are seen where requests end, and endpoints are ejected on the control side: the next pick
//! asks for that ([`Asks::exit_idle`](crate::Asks::exit_idle)) and may go to the endpoint itself, as Envoy's workers go on
//! until the main thread has heard. Nothing is done in the meantime when nothing was seen.
//!
//! **Does badly** with few requests per client and endpoint: fewer than `request_volume` in an interval are no evidence. In
//! a small cluster 10 % is nobody or, as gRPC counts, one; when all endpoints fail alike the success rate finds no outlier, and
//! the other rules eject as many as they may. An error that is the caller's own (NOT_FOUND) is a failure to gRPC: set
//! `failures`.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let config = r#"{"outlier_detection": {"failure_percentage_ejection": {}, "child_policy": "random"}}"#;
//! let mut policy = serde_json::from_str::<PolicyConfig>(config)?.build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..5).map(endpoint)));
//! for i in 0..5 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! // Endpoint 4 fails all of its requests, about 200 of 1,000.
//! let interval = policy.tick(&mut cx).unwrap();
//! let mut round = |policy: &mut dyn lb_core::Policy, now| {
//!     let picker = policy.picker(&mut Context::new(now, &mut rng));
//!     let mut counts = [0; 5];
//!     for _ in 0..1_000 {
//!         if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(now, &mut rng)) {
//!             let code = if id.0 == 4 { Code::Internal } else { Code::Ok };
//!             picker.done(id, now, &Outcome::new(code, Nanos::from_millis(5)));
//!             counts[id.index()] += 1;
//!         }
//!     }
//!     policy.tick(&mut Context::new(interval, &mut rng));
//!     counts
//! };
//! assert!(round(&mut *policy, Nanos::ZERO).iter().all(|&n| n > 100));
//! assert_eq!(round(&mut *policy, interval)[4], 0);
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::{Rule, Settings};
use super::draw::below;
pub use super::failures::Failures;
use super::mask::Masked;
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig, earlier};
use crate::slots::Slots;
use crate::{Code, Connectivity, Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `outlier_detection`. Without any of its three rules it does nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OutlierDetectionConfig {
    /// How often endpoints are judged, and ejections looked at. 10 s, gRFC A50 and Envoy.
    pub interval: Nanos,
    /// How long the first ejection lasts; the second twice as long, and so on. 30 s, gRFC A50 and Envoy.
    pub base_ejection_time: Nanos,
    /// How long an ejection lasts at most, or `base_ejection_time` if that is longer. 300 s, gRFC A50 and Envoy.
    pub max_ejection_time: Nanos,
    /// How many of the endpoints may be ejected at a time, in percent. 10, gRFC A50 and Envoy.
    pub max_ejection_percent: u32,
    /// Which endpoints that percentage is of.
    pub ejection_limit: EjectionLimit,
    /// Whether one endpoint may be ejected whatever the percentage. False, Envoy.
    pub always_eject_one_host: bool,
    /// Eject those whose success rate is far below the others'. Off unless given, as in gRPC; on in Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_rate_ejection: Option<SuccessRateEjection>,
    /// Eject those that fail too many of their requests. Off unless given, as in gRPC; off in Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_percentage_ejection: Option<FailurePercentageEjection>,
    /// Eject those that fail so many requests in a row, at once. Off unless given: gRPC has no such rule; 5 in Envoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_5xx: Option<u32>,
    /// Which status codes are failures, for all three rules. "not_ok" in gRPC, "http_5xx" in Envoy.
    pub failures: Failures,
    /// Who chooses. `round_robin` by default, as in Envoy.
    pub child_policy: Box<PolicyConfig>,
}

/// The rule by the mean of all endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SuccessRateEjection {
    /// How many thousandths of the standard deviation below the mean is too low. 1900, gRFC A50 and Envoy.
    pub stdev_factor: u32,
    /// The odds that an outlier is ejected, in percent. 100, gRFC A50 and Envoy.
    pub enforcement_percentage: u32,
    /// With fewer endpoints that had requests enough, nobody is judged. 5, gRFC A50 and Envoy.
    pub minimum_hosts: u32,
    /// Requests in an interval that are enough. 100, gRFC A50 and Envoy.
    pub request_volume: u32,
}

impl Default for SuccessRateEjection {
    fn default() -> Self {
        Self { stdev_factor: 1900, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 100 }
    }
}

/// The rule by an endpoint's own failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FailurePercentageEjection {
    /// How many failures of a hundred requests are too many. 85, gRFC A50 and Envoy.
    pub threshold: u32,
    /// Whether so many are too many, or only more.
    pub comparison: Comparison,
    /// The odds that an outlier is ejected, in percent. 100, gRFC A50; 0 in Envoy, which means off.
    pub enforcement_percentage: u32,
    /// With fewer endpoints that had requests enough, nobody is judged. 5, gRFC A50 and Envoy.
    pub minimum_hosts: u32,
    /// Requests in an interval that are enough. 50, gRFC A50 and Envoy.
    pub request_volume: u32,
}

impl Default for FailurePercentageEjection {
    fn default() -> Self {
        let comparison = Comparison::GreaterOrEqual;
        Self { threshold: 85, comparison, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 50 }
    }
}

/// What a failure percentage is held against its threshold by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Comparison {
    /// The threshold itself is too many: gRFC A50 in its comment on the field, and Envoy.
    GreaterOrEqual,
    /// Only more is: gRFC A50 in its algorithm, and the gRPC implementations.
    Greater,
}

/// Which endpoints must be within `max_ejection_percent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum EjectionLimit {
    /// Those ejected already must be below it: gRFC A50. So one more is ejected than the percentage says, and one at least
    /// unless it is 0. Envoy did much the same before it had `always_eject_one_host`.
    Before,
    /// With the one to be ejected they must not be above it: Envoy.
    After,
}

impl Default for OutlierDetectionConfig {
    fn default() -> Self {
        Self {
            interval: Nanos::from_secs(10),
            base_ejection_time: Nanos::from_secs(30),
            max_ejection_time: Nanos::from_secs(300),
            max_ejection_percent: 10,
            ejection_limit: EjectionLimit::Before,
            always_eject_one_host: false,
            success_rate_ejection: None,
            failure_percentage_ejection: None,
            consecutive_5xx: None,
            failures: Failures::NotOk,
            child_policy: Box::new(PolicyConfig::RoundRobin(Default::default())),
        }
    }
}

impl OutlierDetectionConfig {
    fn has_rules(&self) -> bool {
        self.success_rate_ejection.is_some()
            || self.failure_percentage_ejection.is_some()
            || self.consecutive_5xx.is_some()
    }

    /// Whether one of `hosts` may be ejected when so many are.
    fn may_eject(&self, ejected: usize, hosts: usize) -> bool {
        let percent = |n: usize| n as u64 * 100;
        let limit = u64::from(self.max_ejection_percent) * hosts as u64;
        let within = match self.ejection_limit {
            EjectionLimit::Before => percent(ejected) < limit,
            EjectionLimit::After => percent(ejected + 1) <= limit,
        };
        within || self.always_eject_one_host && ejected == 0
    }

    /// How long the ejection lasts that is an endpoint's `multiplier`th.
    fn ejection_time(&self, multiplier: u32) -> Nanos {
        let longest = self.base_ejection_time.max(self.max_ejection_time);
        Nanos(self.base_ejection_time.0.saturating_mul(u64::from(multiplier))).min(longest)
    }
}

impl Settings for OutlierDetectionConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let child = self.child_policy.build_with(shared);
        if !self.has_rules() {
            return child;
        }
        let calls = Calls { failures: self.failures, in_a_row: self.consecutive_5xx.unwrap_or(0), ..Calls::default() };
        Box::new(OutlierDetection {
            config: self.clone(),
            child: Masked::new(child),
            calls: Arc::new(calls),
            began: None,
            published: None,
        })
    }

    fn check(&self) -> Result<(), Rule> {
        let percentage = |field, value| if value > 100 { Err(Rule::broken(field, value, "<= 100")) } else { Ok(()) };
        if self.interval == Nanos::ZERO {
            return Err(Rule::broken("interval", self.interval, "> 0s"));
        }
        if self.consecutive_5xx == Some(0) {
            return Err(Rule::broken("consecutive_5xx", 0, ">= 1"));
        }
        percentage("max_ejection_percent", self.max_ejection_percent)?;
        if let Some(rule) = self.success_rate_ejection {
            percentage("success_rate_ejection.enforcement_percentage", rule.enforcement_percentage)?;
        }
        if let Some(rule) = self.failure_percentage_ejection {
            percentage("failure_percentage_ejection.threshold", rule.threshold)?;
            percentage("failure_percentage_ejection.enforcement_percentage", rule.enforcement_percentage)?;
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

/// How the requests to one endpoint ended. Relaxed throughout: a request more or less in an interval is no matter.
#[derive(Debug, Default)]
struct Call {
    /// In this interval. A50 has two sets of counts and swaps them; reading these sets them to 0 in one step.
    succeeded: AtomicU64,
    failed: AtomicU64,
    failed_in_a_row: AtomicU32,
    /// Those were too many.
    noted: AtomicBool,
}

/// One table for all pickers.
#[derive(Debug)]
struct Calls {
    slots: Slots<Call>,
    failures: Failures,
    /// So many failures in a row are noted; 0 for never.
    in_a_row: u32,
    /// Some endpoint is. Set after the endpoint's own, Release to Acquire: who clears this finds that.
    noted: AtomicBool,
}

impl Default for Calls {
    fn default() -> Self {
        Self { slots: Slots::new(), failures: Failures::NotOk, in_a_row: 0, noted: AtomicBool::new(false) }
    }
}

impl Calls {
    #[inline]
    fn ended(&self, endpoint: EndpointId, code: Code) {
        let Some(call) = self.slots.get(endpoint.index()) else { return };
        if self.failures.include(code) {
            call.failed.fetch_add(1, Ordering::Relaxed);
            if self.in_a_row > 0
                && call.failed_in_a_row.fetch_add(1, Ordering::Relaxed).wrapping_add(1) == self.in_a_row
            {
                call.noted.store(true, Ordering::Relaxed);
                // An exchange, so that a store over another thread's hides nothing (as in `failure_accrual`).
                self.noted.swap(true, Ordering::Release);
            }
        } else {
            call.succeeded.fetch_add(1, Ordering::Relaxed);
            // Looked at first, as writing what is there already would cost every success.
            if self.in_a_row > 0 && call.failed_in_a_row.load(Ordering::Relaxed) > 0 {
                call.failed_in_a_row.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Successes and failures since the last time.
    fn take(&self, endpoint: EndpointId) -> (u64, u64) {
        let take = |n: &AtomicU64| n.swap(0, Ordering::Relaxed);
        self.slots.get(endpoint.index()).map_or((0, 0), |call| (take(&call.succeeded), take(&call.failed)))
    }

    /// Whether it failed too often in a row; then it begins anew.
    fn take_note(&self, endpoint: EndpointId) -> bool {
        let noted = |call: &Call| call.noted.swap(false, Ordering::Relaxed);
        let noted = self.slots.get(endpoint.index()).is_some_and(noted);
        if noted {
            self.forgive(endpoint);
        }
        noted
    }

    fn forgive(&self, endpoint: EndpointId) {
        if let Some(call) = self.slots.get(endpoint.index()) {
            call.failed_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    fn reset(&self, endpoint: EndpointId) {
        self.take(endpoint);
        self.take_note(endpoint);
        self.forgive(endpoint);
    }
}

/// What is remembered of an endpoint besides its calls.
#[derive(Debug, Default)]
struct Record {
    /// A50's "ejection time multiplier".
    multiplier: u32,
    /// Since when, if it is.
    ejected: Option<Nanos>,
}

struct OutlierDetection {
    config: OutlierDetectionConfig,
    child: Masked<Record>,
    calls: Arc<Calls>,
    /// When this interval began; none before the first snapshot.
    began: Option<Nanos>,
    published: Option<Arc<OutlierDetectionPicker>>,
}

/// An endpoint's last interval.
#[derive(Debug, Clone, Copy)]
struct Interval {
    id: EndpointId,
    succeeded: u64,
    failed: u64,
}

impl Interval {
    fn total(&self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// In percent; of at least one request.
    fn success_rate(&self) -> f64 {
        self.succeeded as f64 * 100.0 / self.total() as f64
    }
}

/// The mean of these rates, and what is too far below it.
fn success_rate_threshold(rates: &[f64], stdev_factor: u32) -> (f64, f64) {
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / n;
    (mean, mean - f64::from(stdev_factor) / 1000.0 * variance.sqrt())
}

impl OutlierDetection {
    /// Ejects it, unless too many are. Those that are ejected already stay so.
    fn eject(&mut self, cx: &mut Context<'_>, id: EndpointId, enforcement_percentage: u32) {
        if self.child.is_held(id) || !self.config.may_eject(self.child.held(), self.child.len()) {
            return;
        }
        // A50: "choose a random integer in [0, 100). If that number is less than enforcement_percentage, eject".
        if below(cx.rng, 100) as u32 >= enforcement_percentage {
            return;
        }
        if let Some(record) = self.child.own(id) {
            record.ejected = Some(cx.now);
            record.multiplier = record.multiplier.saturating_add(1);
            self.child.hold(cx, id, true);
        }
    }

    /// Looks at those that failed too often in a row.
    fn take_notes(&mut self, cx: &mut Context<'_>) {
        if !self.calls.noted.swap(false, Ordering::Acquire) {
            return;
        }
        let noted: Vec<EndpointId> = self.child.ids().filter(|id| self.calls.take_note(*id)).collect();
        for id in noted {
            // Envoy `enforcing_consecutive_5xx`: 100.
            self.eject(cx, id, 100);
        }
    }

    /// An interval is over: A50's timer.
    fn sweep(&mut self, cx: &mut Context<'_>) {
        let ids: Vec<EndpointId> = self.child.ids().collect();
        let intervals: Vec<Interval> = ids
            .iter()
            .map(|&id| (id, self.calls.take(id)))
            .filter(|(id, _)| !self.child.is_held(*id))
            .map(|(id, (succeeded, failed))| Interval { id, succeeded, failed })
            .collect();
        // One without a request has no rate, whatever the settings call enough.
        let with_volume = |volume: u32| -> Vec<Interval> {
            intervals.iter().copied().filter(|i| i.total() >= u64::from(volume.max(1))).collect()
        };
        if let Some(rule) = self.config.success_rate_ejection {
            let judged = with_volume(rule.request_volume);
            if !judged.is_empty() && judged.len() >= rule.minimum_hosts as usize {
                let rates: Vec<f64> = judged.iter().map(Interval::success_rate).collect();
                let (_, threshold) = success_rate_threshold(&rates, rule.stdev_factor);
                for (interval, rate) in judged.iter().zip(rates) {
                    if rate < threshold {
                        self.eject(cx, interval.id, rule.enforcement_percentage);
                    }
                }
            }
        }
        if let Some(rule) = self.config.failure_percentage_ejection {
            let judged = with_volume(rule.request_volume);
            if judged.len() >= rule.minimum_hosts as usize {
                for interval in judged {
                    let failures = u128::from(interval.failed) * 100;
                    let threshold = u128::from(interval.total()) * u128::from(rule.threshold);
                    let too_many = match rule.comparison {
                        Comparison::GreaterOrEqual => failures >= threshold,
                        Comparison::Greater => failures > threshold,
                    };
                    if too_many {
                        self.eject(cx, interval.id, rule.enforcement_percentage);
                    }
                }
            }
        }
        for id in ids {
            self.forgive(cx, id);
        }
    }

    /// Ends an ejection that has lasted long enough, or counts one less of an endpoint that got through the interval.
    fn forgive(&mut self, cx: &mut Context<'_>, id: EndpointId) {
        let Some(record) = self.child.own(id) else { return };
        match record.ejected {
            None => record.multiplier = record.multiplier.saturating_sub(1),
            Some(since) if cx.now >= since + self.config.ejection_time(record.multiplier) => {
                record.ejected = None;
                // Envoy: else it would be ejected again for a single failure more.
                self.calls.forgive(id);
                self.child.hold(cx, id, false);
            }
            Some(_) => {}
        }
    }
}

impl Policy for OutlierDetection {
    fn child(&self) -> Option<&dyn Policy> {
        Some(self.child.child())
    }

    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        Some(self.child.child_mut())
    }

    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        self.calls.slots.reserve(endpoints.table_len());
        for id in self.child.update(cx, endpoints) {
            self.calls.reset(id);
        }
        self.began.get_or_insert(cx.now);
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        self.child.connectivity(cx, endpoint, state);
    }

    fn exit_idle(&mut self, cx: &mut Context<'_>) {
        self.take_notes(cx);
        self.child.child_mut().exit_idle(cx);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        self.take_notes(cx);
        let mut due = None;
        if let Some(began) = self.began {
            let mut end = began + self.config.interval;
            if end <= cx.now {
                self.sweep(cx);
                self.began = Some(cx.now);
                end = cx.now + self.config.interval;
            }
            // Not after the end of time.
            due = Some(end).filter(|end| *end > cx.now);
        }
        earlier(due, self.child.tick(cx))
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        let child = self.child.child_mut().picker(cx);
        if let Some(picker) = &self.published
            && Arc::ptr_eq(&picker.child, &child)
        {
            return picker.clone();
        }
        let picker = OutlierDetectionPicker { child, calls: self.calls.clone() };
        self.published.insert(Arc::new(picker)).clone()
    }
}

struct OutlierDetectionPicker {
    child: Arc<dyn Picker>,
    calls: Arc<Calls>,
}

impl Picker for OutlierDetectionPicker {
    fn child(&self) -> Option<&dyn Picker> {
        Some(&*self.child)
    }

    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        if self.calls.noted.load(Ordering::Relaxed) {
            cx.asks.exit_idle = true;
        }
        self.child.pick(cx)
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, now: Nanos, outcome: &Outcome) {
        self.calls.ended(endpoint, outcome.code);
        self.child.done(endpoint, now, outcome);
    }
}

#[cfg(test)]
mod tests;
