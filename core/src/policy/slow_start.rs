//! `slow_start`: around a child policy that goes by weights, an endpoint that has just come gets its share little by little.
//!
//! **Solves** the flood on an endpoint that is not warm yet: it has no compiled code, empty caches and no connections of its
//! own, and its full share at once makes its first requests time out. Its weight grows over a window:
//!
//! ```text
//! weight · max(min_weight_percent, (max(age, 1 s) / slow_start_window)^(1/aggression))
//! ```
//!
//! **Source**: Envoy's slow start (envoy.config.cluster.v3.Cluster.SlowStartConfig), which its round robin and its least request
//! have. The formula is that of Envoy's documentation; its code takes 1 ms for an age of less, not 1 s. A window begins
//! as there: when an endpoint is first READY, and again when it is READY after it had failed or was unhealthy, but not when it
//! merely lost its connection. Envoy leaves ejections out of that: so does this policy if it is wrapped around
//! `outlier_detection`; inside of it, an endpoint that comes back from an ejection starts slowly, too. Envoy computes a weight
//! anew for each turn, here all are once in a hundredth of the window.
//!
//! **A pick costs** what the child's does: it is the child's picker. A step is an update of the child with other weights.
//!
//! **How close**: as the child, to weights that are up to a hundredth of the window old.
//!
//! **Does badly** when all endpoints are new: then all weights are small, and everyone has a full share. And where it takes
//! requests to warm an endpoint up, not time: with fewer of them it stays cold for longer. Around a policy that hashes, every
//! step moves keys and makes the table anew; Envoy does not offer that.
//!
//! ```
//! use lb_core::{Address, Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let config = r#"{"slow_start": {"slow_start_window": "60s", "child_policy": "weighted_round_robin"}}"#;
//! let mut policy = serde_json::from_str::<PolicyConfig>(config)?.build();
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! // Endpoint 1 comes a minute and a half after endpoint 0. How many of 600 requests it gets, as it gets older:
//! for (age, share) in [(0, 55), (12, 100), (30, 200), (60, 300)] {
//!     let mut cx = Context::new(Nanos::from_secs(90 + age), &mut rng);
//!     if age == 0 {
//!         policy.update(&mut Context::new(Nanos::ZERO, cx.rng), &EndpointSet::new([endpoint(0)]));
//!         policy.connectivity(&mut Context::new(Nanos::ZERO, cx.rng), EndpointId(0), Connectivity::Ready);
//!         policy.update(&mut cx, &EndpointSet::new([endpoint(0), endpoint(1)]));
//!         policy.connectivity(&mut cx, EndpointId(1), Connectivity::Ready);
//!     }
//!     policy.tick(&mut cx);
//!     let picker = policy.picker(&mut cx);
//!     let mut pick = || picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng));
//!     let picked = (0..600).filter(|_| pick() == Pick::Endpoint(EndpointId(1))).count();
//!     assert!(picked.abs_diff(share) <= 1, "{picked} at {age} s"); // 10 %, 20 %, 50 % and 100 % of the other's
//! }
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{Rule, Settings};
use super::endpoint_states::Positions;
use super::outstanding::Shared;
use super::{Picker, Policy, PolicyConfig, earlier};
use crate::{Connectivity, Context, Endpoint, EndpointId, EndpointSet, Nanos};

/// What a younger endpoint's age is taken to be: 1 s, Envoy's documentation of slow start, "max(TimeSinceStartInSeconds, 1)".
const MIN_AGE: Nanos = Nanos::from_secs(1);
/// Steps of a ramp. Our choice: each is 1 % of the full weight, which nobody will see; more are more updates.
const STEPS: u64 = 100;
/// At most ten updates a second, however short the window. Our choice.
const MIN_STEP: Nanos = Nanos::from_millis(100);
/// What weights are multiplied by, so that a part of 1 is still a whole number: to the hundredth of a percent. Our choice.
const SCALE: u32 = 10_000;

/// Settings of `slow_start`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SlowStartConfig {
    /// How long it takes an endpoint to come to its full weight. 60 s, our choice: Envoy's `slow_start_window` has no default,
    /// and without it there is no slow start. "0s" means that here.
    pub slow_start_window: Nanos,
    /// The shape of the ramp, above 0. 1 is a straight line, more is steeper at first. 1, Envoy `aggression`.
    pub aggression: f64,
    /// The least part of its weight that an endpoint gets, in percent. 10, Envoy `min_weight_percent`.
    pub min_weight_percent: f64,
    /// Who chooses, by weight. `weighted_round_robin` by default: Envoy's round robin goes by weights.
    pub child_policy: Box<PolicyConfig>,
}

impl Default for SlowStartConfig {
    fn default() -> Self {
        Self {
            slow_start_window: Nanos::from_secs(60),
            aggression: 1.0,
            min_weight_percent: 10.0,
            child_policy: Box::new(PolicyConfig::WeightedRoundRobin(Default::default())),
        }
    }
}

impl Settings for SlowStartConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        let ramp = Ramp {
            window: self.slow_start_window,
            exponent: 1.0 / self.aggression,
            min_part: self.min_weight_percent / 100.0,
        };
        Box::new(SlowStart::new(ramp, self.child_policy.build_with(shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        let Self { aggression, min_weight_percent, .. } = *self;
        // NaN is not above anything, nor in any range.
        if aggression <= 0.0 || aggression.is_nan() {
            return Err(Rule::broken("aggression", aggression, "> 0"));
        }
        if !(0.0..=100.0).contains(&min_weight_percent) {
            return Err(Rule::broken("min_weight_percent", min_weight_percent, "between 0 and 100"));
        }
        if !self.child_policy.uses_weights() {
            let going_by_weights = PolicyConfig::named_that_use_weights().join(", ");
            let must = format!("a policy that goes by weights, such as {going_by_weights}");
            return Err(Rule::broken("child_policy", self.child_policy.name(), must));
        }
        Ok(())
    }

    fn child(&self) -> Option<&PolicyConfig> {
        Some(&self.child_policy)
    }
}

/// How a weight grows with age.
#[derive(Debug, Clone, Copy)]
struct Ramp {
    window: Nanos,
    /// 1/aggression.
    exponent: f64,
    min_part: f64,
}

impl Ramp {
    /// The part of its weight that an endpoint of this age gets.
    fn part(&self, age: Nanos) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let time = age.max(MIN_AGE).0 as f64 / self.window.0 as f64;
        libm::pow(time, self.exponent).max(self.min_part).min(1.0)
    }

    fn step(&self) -> Nanos {
        Nanos(self.window.0 / STEPS).max(MIN_STEP)
    }
}

struct SlowStart {
    ramp: Ramp,
    child: Box<dyn Policy>,
    endpoints: EndpointSet,
    positions: Positions,
    /// When the window of each began, in the same order; none while it is not READY for the first time, or failed.
    began: Vec<Option<Nanos>>,
    /// Whether the child was given other weights than the resolver's.
    reweighted: bool,
    /// When it is to be given others; none when no endpoint is in its window.
    due: Option<Nanos>,
}

impl SlowStart {
    fn new(ramp: Ramp, child: Box<dyn Policy>) -> Self {
        let (endpoints, positions) = (EndpointSet::default(), Positions::default());
        Self { ramp, child, endpoints, positions, began: Vec::new(), reweighted: false, due: None }
    }

    /// Gives the child the weights of this moment.
    fn reweight(&mut self, cx: &mut Context<'_>) {
        // An endpoint that is not available gets no requests; as in Envoy its weight is what it is.
        let part = |began: &Option<Nanos>| began.map_or(1.0, |began| self.ramp.part(cx.now.since(began)));
        let in_window = |began: &Nanos| cx.now.since(*began) < self.ramp.window;
        if !self.began.iter().flatten().any(in_window) {
            self.due = None;
            if std::mem::take(&mut self.reweighted) {
                self.child.update(cx, &self.endpoints);
            }
            return;
        }
        self.due = Some(cx.now + self.ramp.step());
        self.reweighted = true;
        let heaviest = self.endpoints.iter().map(|e| e.weight).max().unwrap_or(1);
        // Less if the heaviest would not fit: beside that, what rounding does to the light ones is nothing.
        let scale = f64::from(SCALE.min(u32::MAX / heaviest));
        // Rounded up, so that nothing comes to 0.
        let weights = self.endpoints.iter().zip(&self.began);
        let weights = weights.map(|(e, began)| (f64::from(e.weight) * scale * part(began)).ceil() as u32);
        let scaled = self.endpoints.reweighted(weights);
        self.child.update(cx, &scaled);
    }

    fn reweight_if_due(&mut self, cx: &mut Context<'_>) {
        if self.due.is_some_and(|due| due <= cx.now) {
            self.reweight(cx);
        }
    }
}

impl Policy for SlowStart {
    fn child(&self) -> Option<&dyn Policy> {
        Some(&*self.child)
    }

    fn child_mut(&mut self) -> Option<&mut dyn Policy> {
        Some(&mut *self.child)
    }

    fn update(&mut self, cx: &mut Context<'_>, endpoints: &EndpointSet) {
        // Nothing is new, and the child has the weights of the last step.
        if self.reweighted && *endpoints == self.endpoints {
            return;
        }
        let known = |e: &Endpoint| {
            let position = self.positions.get(e.id)?;
            // The same id under another address is another endpoint.
            if self.endpoints.as_slice()[position].address == e.address { self.began[position] } else { None }
        };
        self.began = endpoints.iter().map(known).collect();
        self.positions = Positions::of(endpoints.iter().map(|e| e.id));
        self.endpoints = endpoints.clone();
        // It has to know who there is; who weighs what, when a picker is asked for.
        self.child.update(cx, endpoints);
        self.reweighted = false;
        self.due = Some(cx.now);
    }

    fn connectivity(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, state: Connectivity) {
        if let Some(position) = self.positions.get(endpoint) {
            let began = &mut self.began[position];
            match state {
                Connectivity::Ready if began.is_none() => {
                    *began = Some(cx.now);
                    // So that thousands that connect together are one update.
                    self.due = Some(cx.now);
                }
                Connectivity::TransientFailure | Connectivity::Unhealthy => *began = None,
                Connectivity::Ready | Connectivity::Idle | Connectivity::Connecting => {}
            }
        }
        self.child.connectivity(cx, endpoint, state);
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        self.reweight_if_due(cx);
        let child = self.child.tick(cx);
        earlier(self.due, child)
    }

    fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        self.reweight_if_due(cx);
        self.child.picker(cx)
    }
}

#[cfg(test)]
mod tests;
