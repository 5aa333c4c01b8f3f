//! `join_idle_queue`: an endpoint that falls idle queues at the balancer, and the next request is for one that waits there.
//!
//! **Solves** what a balancer cannot know when there are many of them: who is idle. Instead of asking around for every
//! request, as `least_request` and `prequal` do, it is told by the endpoints when they have nothing to do. A request is then
//! sent to an idle endpoint while there is one, at the cost of a look into a queue.
//!
//! **Source**: Lu, Xie, Kliot, Geller, Larus and Greenberg, "Join-Idle-Queue: A novel load balancing algorithm for dynamically
//! scalable web services", Performance Evaluation 68 (2011). Where no endpoint waits, the choice is random. The paper's
//! endpoint, when it falls idle, tells one balancer: a random one (JIQ-Random) or the one with the shortest queue of *d*
//! (JIQ-SQ(*d*), not here). Here it tells the balancer that gets the response after which nothing is left to do, in that very
//! response: its report of load has no requests in flight. An endpoint whose responses carry no such number counts as idle
//! when this client has no requests there. New endpoints begin in the queue.
//!
//! That balancer is a random one if all send alike, but it is often the one that took the endpoint out of its queue, which so
//! gets back what it spent. Queues run dry less often than JIQ-Random's: with 10 balancers of 100 endpoints a request takes
//! 1.03, 1.31, 1.76 and 2.71 times its service at 50, 80, 90 and 95 % load, where the paper's 1 + ρ / ((1 − ρ) · (1 + *n*/*m*))
//! for many endpoints *n* and balancers *m* is 1.09, 1.36, 1.82 and 2.73. That is without a network: what is said in a
//! response is older by the hop when it is heard, and with hops of a tenth of the service it is 2.5 at 90 %.
//!
//! The paper's queues are first-in-first-out. This one goes round: the next idle endpoint is the first one after the last that
//! was taken, by id, from a random one on. For endpoints that are alike, which of the idle ones it is makes no difference to
//! how long a request takes, and in a round each is taken once before any is taken twice, too. In turn no endpoint can be in
//! the queue twice, and nothing has to be moved when endpoints come and go.
//!
//! **A pick costs** a look at a few words out of a bit for each endpoint, and an exchange of one that all threads share,
//! besides the addition on a counter of the chosen endpoint; its end a subtraction and, if the endpoint is idle, an exchange.
//! None of it grows with the number of endpoints.
//!
//! **How close**: while nothing ends, the first *n* requests go to *n* different endpoints. All others are random, and counts
//! as far from the mean as chance takes them.
//!
//! **Does badly** where nobody is idle: under high load it is `random`. By the formula above a request takes 10 times its
//! service at 99 % load, where two choices take 5.4. With fewer endpoints than balancers most queues are empty most of the
//! time. Idle is not fast: an endpoint that is slow gets as many requests when it is idle as any other. And one that fails
//! fast is idle at once (pair it with outlier detection).
//!
//! ```
//! use lb_core::{Address, Code, Connectivity, Context, Endpoint, EndpointId, EndpointSet, LoadReport, Nanos, Outcome, Pick, PickContext, PolicyConfig};
//! use rand_xoshiro::{Xoshiro256PlusPlus, rand_core::SeedableRng};
//!
//! let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
//! let mut policy = PolicyConfig::named("join_idle_queue").unwrap().build();
//! let mut cx = Context::new(Nanos::ZERO, &mut rng);
//! let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
//! policy.update(&mut cx, &EndpointSet::new((0..3).map(endpoint)));
//! for i in 0..3 {
//!     policy.connectivity(&mut cx, EndpointId(i), Connectivity::Ready);
//! }
//! let picker = policy.picker(&mut cx);
//! let mut pick = || picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng));
//! // All are idle, so three requests go to three endpoints.
//! let mut first = [0; 3].map(|_| pick());
//! first.sort_by_key(|pick| if let Pick::Endpoint(id) = pick { id.0 } else { 3 });
//! assert_eq!(first, [0, 1, 2].map(|i| Pick::Endpoint(EndpointId(i))));
//! // Endpoint 0 still works for another client; endpoint 2 has nothing to do.
//! for (id, in_flight) in [(0, 1), (2, 0)] {
//!     let load = LoadReport { in_flight: Some(in_flight), ..LoadReport::default() };
//!     picker.done(EndpointId(id), Nanos::ZERO, &Outcome::new(Code::Ok, Nanos::ZERO).with_load(load));
//! }
//! assert_eq!(pick(), Pick::Endpoint(EndpointId(2)));
//! ```

mod idle_set;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::idle_set::IdleSet;
use super::config::{Needs, Settings};
use super::draw::below;
use super::endpoint_states::{ConnectAll, IdSet, PickerFactory, Ready};
use super::outstanding::{Outstanding, Shared};
use super::{Picker, Policy};
use crate::sync::{AtomicU32, Ordering};
use crate::{Context, EndpointId, EndpointSet, Nanos, Outcome, Pick, PickContext};

/// Settings of `join_idle_queue`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JoinIdleQueueConfig {
    /// Who says that an endpoint is idle.
    pub idle: IdleSignal,
}

/// Who says that an endpoint is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum IdleSignal {
    /// The endpoint, by a report of load with no requests in flight; this client's own count where a response has no such
    /// report. Default; Lu et al.
    #[default]
    Reported,
    /// This client's own count. As good with one client; with more, an endpoint looks idle to each of them.
    Own,
}

impl Settings for JoinIdleQueueConfig {
    fn build(&self, shared: &Shared) -> Box<dyn Policy> {
        Box::new(ConnectAll::new(JoinIdleQueue::new(self.idle, shared)))
    }

    fn needs(&self) -> Needs {
        Needs { load: self.idle == IdleSignal::Reported, ..Needs::default() }
    }
}

/// Who is idle: one queue for all pickers of a policy.
struct Queue {
    set: IdleSet,
    /// Where the next one is looked for first. Relaxed, as it does no harm to look elsewhere.
    turn: AtomicU32,
    outstanding: Arc<Outstanding>,
    signal: IdleSignal,
}

impl Queue {
    #[inline]
    fn take(&self, ready: &IdSet) -> Option<EndpointId> {
        let endpoint = self.set.take(ready, self.turn.load(Ordering::Relaxed) as usize)?;
        self.turn.store(endpoint.0.wrapping_add(1), Ordering::Relaxed);
        Some(endpoint)
    }

    #[inline]
    fn ended(&self, endpoint: EndpointId, outcome: &Outcome) {
        let left = self.outstanding.done(endpoint);
        let reported = outcome.load.and_then(|load| load.in_flight).filter(|_| self.signal == IdleSignal::Reported);
        if reported.unwrap_or(left) == 0 {
            self.set.insert(endpoint);
        }
    }
}

struct JoinIdleQueue {
    queue: Arc<Queue>,
    /// Of the last picker; none if that said that nothing is ready.
    ready: IdSet,
}

impl JoinIdleQueue {
    fn new(signal: IdleSignal, shared: &Shared) -> Self {
        let outstanding = shared.outstanding.clone();
        let queue = Queue { set: IdleSet::default(), turn: AtomicU32::new(0), outstanding, signal };
        Self { queue: Arc::new(queue), ready: IdSet::default() }
    }
}

impl PickerFactory for JoinIdleQueue {
    fn updated(&mut self, _cx: &mut Context<'_>, endpoints: &EndpointSet, newcomers: &[EndpointId]) {
        self.queue.outstanding.reserve(endpoints);
        self.queue.set.reserve(endpoints.table_len());
        newcomers.iter().for_each(|id| self.ready.remove(*id));
    }

    fn over(&mut self, cx: &mut Context<'_>, ready: Ready<'_>) -> Arc<dyn Picker> {
        let ids = ready.ids();
        if !ids.iter().any(|id| self.ready.contains(*id)) {
            // So that clients that start together do not all begin with the same.
            self.queue.turn.store(ids[below(cx.rng, ids.len())].0, Ordering::Relaxed);
        }
        let now = IdSet::of(ids.iter().copied());
        self.ready.iter().filter(|id| !now.contains(*id)).for_each(|gone| {
            self.queue.set.remove(gone);
        });
        for &id in ids.iter().filter(|id| !self.ready.contains(**id)) {
            // One that was away may have requests from before, and is idle when they are over.
            if self.queue.outstanding.get(id) == 0 {
                self.queue.set.insert(id);
            }
        }
        self.ready = now.clone();
        Arc::new(JoinIdleQueuePicker { ready: ids, among: now, queue: self.queue.clone() })
    }

    fn always(&mut self, answer: Pick) -> Arc<dyn Picker> {
        self.ready = IdSet::default();
        Arc::new(WaitingPicker { answer, queue: self.queue.clone() })
    }
}

struct JoinIdleQueuePicker {
    /// At least one.
    ready: Box<[EndpointId]>,
    /// The same, as a set.
    among: IdSet,
    queue: Arc<Queue>,
}

impl Picker for JoinIdleQueuePicker {
    #[inline]
    fn pick(&self, cx: &mut PickContext<'_>) -> Pick {
        let idle = self.queue.take(&self.among);
        let endpoint = idle.unwrap_or_else(|| self.ready[below(cx.rng, self.ready.len())]);
        self.queue.outstanding.started(endpoint);
        Pick::Endpoint(endpoint)
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.queue.outstanding.started(endpoint);
    }

    #[inline]
    fn done(&self, endpoint: EndpointId, _now: Nanos, outcome: &Outcome) {
        self.queue.ended(endpoint, outcome);
    }
}

/// While nothing is ready: requests that were sent before still end.
struct WaitingPicker {
    answer: Pick,
    queue: Arc<Queue>,
}

impl Picker for WaitingPicker {
    fn pick(&self, _cx: &mut PickContext<'_>) -> Pick {
        self.answer.clone()
    }

    fn picked(&self, endpoint: EndpointId, _now: Nanos) {
        self.queue.outstanding.started(endpoint);
    }

    fn done(&self, endpoint: EndpointId, _now: Nanos, outcome: &Outcome) {
        self.queue.ended(endpoint, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::draw::scripted::Script;
    use crate::{Address, Code, Connectivity, Endpoint, LoadReport};
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    type JiqPolicy = ConnectAll<JoinIdleQueue>;

    /// Endpoints `0..n`, all READY; the queue begins at 0.
    fn policy(signal: IdleSignal, n: u32) -> JiqPolicy {
        let mut policy = ConnectAll::new(JoinIdleQueue::new(signal, &Shared::default()));
        update(&mut policy, 0..n);
        (0..n).for_each(|i| state(&mut policy, i, Connectivity::Ready));
        policy
    }

    fn update(policy: &mut JiqPolicy, ids: impl Iterator<Item = u32>) {
        let endpoint = |i| Endpoint::new(EndpointId(i), Address::new(&format!("10.0.0.{i}:80")));
        let endpoints = EndpointSet::new(ids.map(endpoint));
        policy.update(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])), &endpoints);
    }

    fn state(policy: &mut JiqPolicy, id: u32, state: Connectivity) {
        policy.connectivity(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])), EndpointId(id), state);
    }

    fn picker(policy: &mut JiqPolicy) -> Arc<dyn Picker> {
        policy.picker(&mut Context::new(Nanos::ZERO, &mut Script::indices(1, &[0])))
    }

    /// Where requests go that find nobody idle once the script is asked.
    fn picks<const N: usize>(picker: &dyn Picker, random: &[(u32, u32)]) -> [u32; N] {
        let mut rng = Script::each(random);
        [(); N].map(|()| match picker.pick(&mut PickContext::new(Nanos::ZERO, &mut rng)) {
            Pick::Endpoint(id) => id.0,
            other => panic!("{other:?}"),
        })
    }

    fn done(picker: &dyn Picker, id: u32, in_flight: Option<u32>) {
        let outcome = Outcome::new(Code::Ok, Nanos::ZERO);
        let load = LoadReport { in_flight, ..LoadReport::default() };
        picker.done(EndpointId(id), Nanos::ZERO, &outcome.with_load(load));
    }

    #[test]
    fn idle_endpoints_are_taken_in_turn_and_then_any() {
        let picker = picker(&mut policy(IdleSignal::Own, 3));
        assert_eq!(picks(&*picker, &[(1, 3), (1, 3), (0, 3)]), [0, 1, 2, 1, 1, 0]);
        // Outstanding: 2 3 1. The second to fall idle is next after 0, the last one taken from the queue being 2.
        [2, 0, 0].into_iter().for_each(|id| done(&*picker, id, None));
        assert_eq!(picks(&*picker, &[(1, 3)]), [0, 2, 1]);
    }

    #[test]
    fn an_endpoint_queues_when_its_last_response_says_that_nothing_is_left() {
        let picker = picker(&mut policy(IdleSignal::Reported, 3));
        assert_eq!(picks(&*picker, &[(2, 3)]), [0, 1, 2, 2]);
        // 0 works for others, 1 does not say, 2 has nothing left, though another request is on its way to it from here.
        for (id, in_flight) in [(0, Some(4)), (1, None), (2, Some(0))] {
            done(&*picker, id, in_flight);
        }
        assert_eq!(picks(&*picker, &[(0, 3)]), [1, 2, 0]);
        // It is in the queue once, however often it says so.
        (0..2).for_each(|_| done(&*picker, 2, Some(0)));
        assert_eq!(picks(&*picker, &[(0, 3)]), [2, 0]);
    }

    #[test]
    fn own_counts_are_not_told_by_reports() {
        let picker = picker(&mut policy(IdleSignal::Own, 2));
        assert_eq!(picks(&*picker, &[(0, 2)]), [0, 1, 0]);
        done(&*picker, 0, Some(0));
        done(&*picker, 1, Some(7));
        assert_eq!(picks(&*picker, &[(0, 2)]), [1, 0]);
    }

    #[test]
    fn who_left_or_is_not_ready_is_not_taken_and_comes_back_idle() {
        let mut policy = policy(IdleSignal::Reported, 4);
        state(&mut policy, 1, Connectivity::TransientFailure);
        update(&mut policy, [0, 1, 3].into_iter());
        assert_eq!(picks(&*picker(&mut policy), &[(1, 2)]), [0, 3, 3]);
        // Requests to those that are away end, and one to an endpoint that never was.
        let last = picker(&mut policy);
        [1, 2, 9_999].into_iter().for_each(|id| done(&*last, id, Some(0)));
        assert_eq!(picks(&*last, &[(0, 2)]), [0]);
        // 1 is back, and 2 is another. Of 0, 1, 2 and 3 these two wait.
        update(&mut policy, 0..4);
        [1, 2].into_iter().for_each(|id| state(&mut policy, id, Connectivity::Ready));
        assert_eq!(picks(&*picker(&mut policy), &[(0, 4)]), [1, 2, 0]);
    }

    #[test]
    fn who_comes_back_with_requests_is_idle_when_they_are_over() {
        let mut policy = policy(IdleSignal::Own, 2);
        assert_eq!(picks(&*picker(&mut policy), &[(0, 2)]), [0, 1]);
        state(&mut policy, 1, Connectivity::Idle);
        picker(&mut policy);
        state(&mut policy, 1, Connectivity::Ready);
        assert_eq!(picks(&*picker(&mut policy), &[(0, 2)]), [0]);
        state(&mut policy, 0, Connectivity::Idle);
        state(&mut policy, 1, Connectivity::Idle);
        let waiting = picker(&mut policy);
        assert_eq!(waiting.pick(&mut PickContext::new(Nanos::ZERO, &mut Script::indices(1, &[0]))), Pick::Queue);
        done(&*waiting, 1, None);
        [0, 1].into_iter().for_each(|id| state(&mut policy, id, Connectivity::Ready));
        assert_eq!(picks(&*picker(&mut policy), &[(0, 2)]), [1, 0]);
    }

    #[test]
    fn clients_that_start_together_begin_anywhere() {
        let mut firsts = [0u32; 4];
        for seed in 0..4_000 {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let picker = policy(IdleSignal::Own, 4).picker(&mut Context::new(Nanos::ZERO, &mut rng));
            firsts[picks::<1>(&*picker, &[(0, 1)])[0] as usize] += 1;
        }
        // 1,000 each; five standard deviations are 5 · √(4,000 · 1/4 · 3/4) = 137.
        assert!(firsts.iter().all(|c| c.abs_diff(1_000) < 137), "{firsts:?}");
    }
}
