//! `c3`: of all endpoints, the one where a request should wait least, by what servers say of their queues.
//!
//! **Solves** the tail: a server that is slow for a moment, or whose queue other clients have filled, looks idle to a client
//! that counts its own requests. Here every response carries the length of the server's queue and its time of service, and
//! endpoints are ranked by
//!
//! ```text
//! Ψ = R − 1/µ + q³ · 1/µ      R: response time, 1/µ: time of service, both averages
//! q = 1 + outstanding · w + Q   Q: length of the queue, an average; w: number of clients
//! ```
//!
//! R − 1/µ is what a request spends outside the server. The cube keeps queues short even where servers are fast: with q
//! alone, 20 requests at a server of 20 ms would be as good as 100 at one of 4 ms, and if the fast one then stumbles, 100
//! requests wait; with q³ they are as good as 20 · ∛5 = 34. "outstanding · w" supposes that the other clients have sent as many
//! as this one since the last word from the server: a client with much to send spreads it before the feedback says so, and
//! clients with the same feedback don't all run to the same server.
//!
//! **Source**: Suresh et al., "C3: Cutting Tail Latency in Cloud Data Stores via Adaptive Replica Selection", NSDI '15, its
//! "replica ranking"; the authors' Cassandra (`ScoreTracker`) and simulator (absim); Elasticsearch's adaptive replica selection.
//! C3's other half, rate control (a sending rate for each server that grows by a cubic function, and backpressure when all are
//! used up) is not here. What differs:
//!
//! * The paper ranks the replicas of the datum that is asked for, mostly three. Here any endpoint will do, and all are ranked, or
//!   `choice_count` drawn at random for each pick.
//! * Where nothing is known of a server the authors' programs give it the score 0, so every request goes there until it answers.
//!   Here it is first while it has no request, and last while it has not answered that one. Of equals one is drawn at
//!   random.
//! * A report may lack something. Without a queue it is taken for empty; without a time of service, all of the response time
//!   is taken for service.
//! * Elasticsearch smooths with 0.3 where the authors have 0.9, and leaves the averaging of service times to the server.
//!
//! **A pick costs** four loads and some multiplications for each endpoint ranked, so with all of them it grows with their
//! number; a random number for each that equals the best so far; and an addition on a counter of the chosen one. The end of a
//! request costs three atomic exchanges.
//!
//! **How close**: as long as nothing is known, counts of outstanding requests differ by no more than 1. After that, shares are
//! what latencies make of them. Weights are ignored.
//!
//! **Does badly** with an endpoint that fails fast: its response time is the best of all (pair it with outlier detection). The
//! feedback is as old as the last response: to an endpoint that was ranked low nothing is sent, so nothing better is heard
//! of it until the others get worse. And it wants servers that report: without, it is `least_loaded` weighted by latency.
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("c3").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..2).map(endpoint)));
//! for i in 0..2 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! // One request at a time. Both answer in 5 ms, but at endpoint 0 others have four requests waiting.
//! let mut counts = [0; 2];
//! for _ in 0..100 {
//!     if let Pick::Endpoint(id) = picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
//!         let latency = Nanos::from_millis(5);
//!         let load = LoadReport { in_flight: Some([4, 0][id.index()]), latency: Some(latency), ..Default::default() };
//!         picker.done(id, latency, &Outcome::new(Code::Ok, latency).with_load(load));
//!         counts[id.index()] += 1;
//!     }
//! }
//! assert_eq!(counts, [1, 99]);
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::config::{Needs, Rule, Settings};
use super::draw::below;
use super::endpoint_states::{ConnectAll, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared};
use super::{Picker, Policy};
use crate::slots::Slots;
use crate::{Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `c3`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct C3Config {
    /// How many endpoints are ranked for a pick, drawn at random with replacement. 0, our choice: all of them.
    pub choice_count: u32,
    /// w, absim's `concurrencyWeight`: what each request of this client counts in a server's queue. By default as many as there
    /// are clients, which is the paper's, if the host knows that; else 1.
    pub concurrency_weight: Option<u32>,
    /// The power that q is raised to, absim's `costExponent`; 1 to 10. 3, the paper's b.
    pub cost_exponent: u32,
    /// How much of an average is the latest value; above 0, at most 1. 0.9, `ALPHA` of the authors' Cassandra.
    pub alpha: f64,
}

impl Default for C3Config {
    fn default() -> Self {
        Self { choice_count: 0, concurrency_weight: None, cost_exponent: 3, alpha: 0.9 }
    }
}

impl Settings for C3Config {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(C3::new(self, shared)))
    }

    fn check(&self) -> Result<(), Rule> {
        if !(1..=10).contains(&self.cost_exponent) {
            return Err(Rule::broken("cost_exponent", self.cost_exponent, "1 to 10"));
        }
        if !(self.alpha > 0.0 && self.alpha <= 1.0) {
            return Err(Rule::broken("alpha", self.alpha, "> 0 and <= 1"));
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        Needs { load: true, local: self.concurrency_weight.is_none(), ..Needs::default() }
    }
}

/// Better than any score: an endpoint of which nothing is known, and that has no request yet.
const UNEXPLORED: f64 = -1.0;
/// Worse than any score, times its requests: an endpoint of which nothing is known but that it has not answered yet. Scores
/// stay below 10^212, even with times of 2^64 ns, 2^64 requests and the tenth power.
const UNANSWERED: f64 = 1e300;

/// What the responses of one endpoint said: averages, as the bits of an `f64`.
#[derive(Debug)]
struct Feedback {
    /// From the pick to the end of the response, in nanoseconds; [`UNEXPLORED`] if there was none.
    response_ns: AtomicU64,
    /// What the server took of it, never more.
    service_ns: AtomicU64,
    /// Requests in the server.
    queue: AtomicU64,
}

impl Default for Feedback {
    fn default() -> Self {
        let [response_ns, service_ns, queue] = [UNEXPLORED, 0.0, 0.0].map(|value| AtomicU64::new(value.to_bits()));
        Self { response_ns, service_ns, queue }
    }
}

/// What is known of every endpoint: one table for all pickers of a policy.
struct Feedbacks {
    slots: Slots<Feedback>,
    outstanding: Arc<Outstanding>,
    cost_exponent: u32,
    alpha: f64,
}

impl Feedbacks {
    /// Ψ in nanoseconds; the lower, the better.
    #[inline]
    fn score(&self, endpoint: EndpointId, weight: f64) -> f64 {
        let outstanding = f64::from(self.outstanding.get(endpoint));
        let Some(feedback) = self.slots.get(endpoint.index()) else { return f64::INFINITY };
        // Acquire, and first: who sees that there was a response sees what it said.
        let response = f64::from_bits(feedback.response_ns.load(Ordering::Acquire));
        if response < 0.0 {
            return if outstanding == 0.0 { UNEXPLORED } else { UNANSWERED * outstanding };
        }
        let service = f64::from_bits(feedback.service_ns.load(Ordering::Relaxed));
        let queue = 1.0 + outstanding * weight + f64::from_bits(feedback.queue.load(Ordering::Relaxed));
        // By hand, as the last bit of a platform's power may differ, and equal seeds are to give equal picks.
        let cost = (1..self.cost_exponent).fold(queue, |power, _| power * queue);
        response - service + cost * service
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, outcome: &Outcome) {
        self.outstanding.done(endpoint);
        let Some(feedback) = self.slots.get(endpoint.index()) else { return };
        let response = outcome.latency;
        let service = outcome.load.and_then(|load| load.latency).unwrap_or(response).min(response);
        let queue = outcome.load.and_then(|load| load.in_flight).unwrap_or(0);
        // The first value is taken as it is (absim; the authors' Cassandra mixes it with 0). Of several that are first at once
        // one stays.
        let first = f64::from_bits(feedback.response_ns.load(Ordering::Relaxed)) < 0.0;
        let average = |cell: &AtomicU64, value: f64, order| {
            let mixed = |bits| {
                let last = if first { value } else { f64::from_bits(bits) };
                Some((self.alpha * value + (1.0 - self.alpha) * last).to_bits())
            };
            let _ = cell.fetch_update(order, Ordering::Relaxed, mixed);
        };
        average(&feedback.service_ns, service.0 as f64, Ordering::Relaxed);
        average(&feedback.queue, f64::from(queue), Ordering::Relaxed);
        average(&feedback.response_ns, response.0 as f64, Ordering::Release);
    }
}

struct C3 {
    choices: usize,
    concurrency_weight: Option<u32>,
    /// How many clients there are.
    clients: u32,
    feedbacks: Arc<Feedbacks>,
}

impl C3 {
    fn new(config: &C3Config, shared: &Shared) -> Self {
        let &C3Config { choice_count, concurrency_weight, cost_exponent, alpha } = config;
        let outstanding = shared.outstanding.clone();
        Self {
            choices: choice_count as usize,
            concurrency_weight,
            clients: 1,
            feedbacks: Arc::new(Feedbacks { slots: Slots::new(), outstanding, cost_exponent, alpha }),
        }
    }
}

impl PickerFactory for C3 {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.clients = endpoints.local().instances;
        self.feedbacks.outstanding.reserve(endpoints);
        self.feedbacks.slots.reserve(endpoints.table_len());
        for new in newcomers {
            if let Some(feedback) = self.feedbacks.slots.get(new.index()) {
                feedback.response_ns.store(UNEXPLORED.to_bits(), Ordering::Relaxed);
            }
        }
    }

    fn over(&mut self, _cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        Arc::new(C3Picker {
            ready: ready.ids(),
            choices: self.choices,
            weight: f64::from(self.concurrency_weight.unwrap_or(self.clients)),
            feedbacks: self.feedbacks.clone(),
        })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        Arc::new(WaitingPicker { answer, feedbacks: self.feedbacks.clone() })
    }
}

struct C3Picker {
    /// At least one.
    ready: Box<[EndpointId]>,
    /// 0 for all.
    choices: usize,
    weight: f64,
    feedbacks: Arc<Feedbacks>,
}

/// The lowest score so far.
struct Best {
    endpoint: EndpointId,
    score: f64,
    equals: usize,
}

impl Best {
    /// Of k equals each has the place with odds 1/k in the end: the k-th takes it with 1/k.
    #[inline]
    fn or(&mut self, endpoint: EndpointId, score: f64, rng: &mut dyn rand::Rng) {
        if score < self.score {
            *self = Self { endpoint, score, equals: 1 };
        } else if score == self.score {
            self.equals += 1;
            if below(rng, self.equals) == 0 {
                self.endpoint = endpoint;
            }
        }
    }
}

impl Picker for C3Picker {
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let mut best = Best { endpoint: self.ready[0], score: f64::INFINITY, equals: 0 };
        if (1..self.ready.len()).contains(&self.choices) {
            for _ in 0..self.choices {
                let endpoint = self.ready[below(cx.rng, self.ready.len())];
                best.or(endpoint, self.feedbacks.score(endpoint, self.weight), cx.rng);
            }
        } else {
            for &endpoint in &self.ready {
                best.or(endpoint, self.feedbacks.score(endpoint, self.weight), cx.rng);
            }
        }
        self.feedbacks.outstanding.started(best.endpoint);
        Pick::Endpoint(best.endpoint)
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.feedbacks.outstanding.started(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, _now: Nanos, outcome: &Outcome) {
        self.feedbacks.done(endpoint, outcome);
    }
}

/// While nothing is ready: requests that were sent before still end, and are feedback.
struct WaitingPicker {
    answer: Pick,
    feedbacks: Arc<Feedbacks>,
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.feedbacks.outstanding.started(endpoint);
    }

    fn done(&self, endpoint: EndpointId, _now: Nanos, outcome: &Outcome) {
        self.feedbacks.done(endpoint, outcome);
    }
}

#[cfg(test)]
mod tests;
