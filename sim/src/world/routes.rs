//! Routes: what a balancer does with a request around the pick. It finds the request's route, asks for leave where there
//! is a rate limit, injects faults, chooses a cluster by weight, and tries again what failed or takes long.
//!
//! What is decided is the core's ([`lb_core::route`]); here its decisions are carried out. A request that passes routes is
//! a call without a connection of its own (at a client) or the call a proxy has received, and each attempt is a call made
//! for it. Where the request stands between them is its [`Routed`]. A call waits for one other at most, which its phase
//! names; only a hedged request has several attempts under way, and these are named by its `Routed`.

use lb_core::Nanos;
use lb_core::limit::{Limit, RateLimitService};
use lb_core::route::{
    Attempts, ClusterId, Fault, HedgeDecision, Hedges, MOST_ATTEMPTS, Pushback, RequestInfo, RetryDecision, RouteId,
};

use super::callers::Caller;
use super::calls::{Call, End, Phase};
use super::configuration::{Routing, channel_of};
use super::load::ClientId;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::Work;

/// A step on the way that no service has, so that the limit service's work is its own.
const LIMIT_STAGE: u8 = 200;

/// Where a request that passes routes stands.
pub(crate) struct Routed {
    /// Whose routes.
    pub(super) pod: PodId,
    pub(super) route: RouteId,
    cluster: ClusterId,
    pub(super) fault: Option<Fault>,
    pub(super) attempts: Option<Attempts>,
    /// What hashing policies go by.
    pub(super) hash: Option<u64>,
    /// From its first attempt on, where the route hedges.
    pub(super) hedged: Option<Box<Hedged>>,
    step: Step,
}

/// A request with several attempts under way.
pub(super) struct Hedged {
    hedges: Hedges,
    /// Those under way, each where [`Call::attempt`] says.
    pub(super) attempts: [Id<Call>; MOST_ATTEMPTS as usize],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The limit service has been asked.
    Asking,
    /// An injected delay.
    Delayed,
    /// An attempt is under way, or several.
    Attempting,
    /// The pause before the next attempt.
    Pausing,
}

impl World<'_> {
    /// A client whose process has routes makes a request.
    pub(super) fn new_routed_call(&mut self, client: ClientId, work: Work) {
        let pod = self.client(client).pod;
        let call =
            Call { pod, phase: Phase::Forwarded(Id::NONE), ..Call::new(client, Id::NONE, work, self.queue.now()) };
        let call = self.begin_call(call);
        self.route(pod, call);
    }

    /// A request comes to a process with routes.
    pub(super) fn route(&mut self, pod: PodId, id: Id<Call>) {
        let now = self.queue.now();
        self.write_key(id);
        let Some(call) = self.calls.get_mut(id) else { return };
        let client = &self.clients[call.client.index()];
        let load = client.load as usize;
        let source = self.needs.hash.then(|| self.pods[client.pod.0 as usize].address.clone());
        let Some(Routing { router, limiters, stream, version, waiting, .. }) =
            self.pods[pod.0 as usize].routing.as_deref_mut()
        else {
            return;
        };
        if version.is_none() {
            return waiting.push(id);
        }
        let request = RequestInfo { path: &self.scenario.loads[load].path, headers: &self.headers[load] };
        let Some(route) = router.route(&request, stream) else { return self.end_routed(id, End::NoRoute) };
        let found = router.get(route);
        let cluster = found.cluster(stream);
        let attempts = found.retry().map(|retry| retry.begin());
        let hash = source.and_then(|source| found.hash(&request, source.as_str()));
        let routed = Routed { pod, route, cluster, fault: None, attempts, hash, hedged: None, step: Step::Asking };
        call.routed = self.routed.insert(routed);
        if let Some(timeout) = found.timeout() {
            self.queue.at(now + timeout, Event::RouteTimeout(id));
        }
        if let Some(Err(status)) = found.limit().map(|limit| limit.local(now)) {
            self.recorder.interventions.rate_limited += 1;
            return self.end_routed(id, End::RateLimited(status.code));
        }
        match found.limit().and_then(|limit| limit.global()) {
            Some(global) => {
                let (limiter, timeout) = (channel_of(limiters, &global.service), global.timeout);
                self.call_for(id, limiter, LIMIT_STAGE, Some(timeout));
            }
            None => self.inject_fault(id),
        }
    }

    /// The limit service's answer: leave, no leave, or nothing in time.
    fn answered_on_leave(&mut self, id: Id<Call>, answer: Option<Limit>) {
        let Some((pod, route)) = self.routed_of(id).map(|r| (r.pod, r.route)) else { return };
        let Some(routing) = self.pods[pod.0 as usize].routing.as_deref() else { return };
        match routing.router.get(route).limit().map(|limit| limit.global_answer(answer)) {
            Some(Err(status)) => {
                self.recorder.interventions.rate_limited += 1;
                let end = if answer.is_some() { End::RateLimited(status.code) } else { End::LimitFailed(status.code) };
                self.end_routed(id, end);
            }
            _ => self.inject_fault(id),
        }
    }

    fn inject_fault(&mut self, id: Id<Call>) {
        // The limit service's answer may have taken its time, in which other requests came by.
        self.write_key(id);
        let Some(load) = self.calls.get(id).map(|c| self.client(c.client).load as usize) else { return };
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        let Some(Routing { router, stream, .. }) = self.pods[routed.pod.0 as usize].routing.as_deref_mut() else {
            return;
        };
        let Some(injector) = router.get(routed.route).fault() else { return self.attempt(id) };
        let request = RequestInfo { path: &self.scenario.loads[load].path, headers: &self.headers[load] };
        let fault = injector.begin(&request, stream);
        self.recorder.interventions.faults_injected += u64::from(fault.counts());
        let delay = fault.delay;
        routed.fault = Some(fault);
        match delay {
            Some(delay) => {
                routed.step = Step::Delayed;
                let now = self.queue.now();
                self.queue.at(now + delay, Event::Resume(id));
            }
            None => self.after_delay(id),
        }
    }

    fn after_delay(&mut self, id: Id<Call>) {
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        let Some(fault) = routed.fault.take() else { return self.attempt(id) };
        let abort = fault.abort.as_ref().map(|status| status.code);
        if let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref()
            && let Some(injector) = routing.router.get(routed.route).fault()
        {
            injector.end(fault);
        }
        match abort {
            Some(code) => self.end_routed(id, End::Injected(code)),
            None => self.attempt(id),
        }
    }

    /// An injected delay or the pause before a retry is over, or another attempt of a hedged request is due.
    pub(super) fn resume(&mut self, id: Id<Call>) {
        match self.routed_of(id).map(|r| r.step) {
            Some(Step::Delayed) => self.after_delay(id),
            Some(Step::Pausing) => self.attempt(id),
            Some(Step::Attempting) => self.hedge(id),
            _ => {}
        }
    }

    /// Sends the request to its cluster, the first time or again after the last attempt has ended.
    fn attempt(&mut self, id: Id<Call>) {
        let now = self.queue.now();
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        routed.step = Step::Attempting;
        let number = routed.attempts.as_ref().map_or(1, |attempts| attempts.number());
        let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref() else { return };
        let Some(hedge) = routing.router.get(routed.route).hedge() else { return self.send_attempt(id, number) };
        let hedged = Hedged { hedges: hedge.begin(now), attempts: [Id::NONE; MOST_ATTEMPTS as usize] };
        routed.hedged = Some(Box::new(hedged));
        self.send_attempt(id, number);
        self.hedge(id);
    }

    /// Sends what is due of a hedged request's further attempts, and looks again when the next is.
    fn hedge(&mut self, id: Id<Call>) {
        let now = self.queue.now();
        // Without a cluster an attempt ends the request.
        while let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r))
            && let Some(hedged) = routed.hedged.as_deref_mut()
            && let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref()
            && let Some(hedge) = routing.router.get(routed.route).hedge()
        {
            let Some(number) = hedge.send_due(&mut hedged.hedges, now) else {
                if let Some(at) = hedged.hedges.next_at() {
                    self.queue.at(at, Event::Resume(id));
                }
                return;
            };
            self.recorder.interventions.hedges += 1;
            self.send_attempt(id, number);
        }
    }

    /// Sends attempt `number`, from 1.
    fn send_attempt(&mut self, id: Id<Call>, number: u32) {
        let Some(call) = self.calls.get_mut(id) else { return };
        // A client's own request is worked on as if there were no routes, a proxy's is the next step on its way.
        let stage = call.stage + u8::from(!call.connection.is_none());
        call.attempt = u8::try_from(number - 1).unwrap_or(u8::MAX);
        let Some(routed) = self.routed.get(call.routed) else { return };
        let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref() else { return };
        let timeout = routing.router.get(routed.route).retry().and_then(|retry| retry.per_attempt_timeout());
        let caller = routing.clusters.get(routed.cluster.index()).copied().unwrap_or(Id::NONE);
        if caller.is_none() {
            return self.end_routed(id, End::NoCluster);
        }
        self.call_for(id, caller, stage, timeout);
    }

    /// Makes a call for the request `id`.
    fn call_for(&mut self, id: Id<Call>, caller: Id<Caller>, stage: u8, timeout: Option<Nanos>) {
        let now = self.queue.now();
        let Some(parent) = self.calls.get(id) else { return };
        let child = Call { caller, stage, ..parent.child(id, now) };
        let (routed, attempt) = (parent.routed, usize::from(parent.attempt));
        let child = self.calls.insert(child);
        if let Some(hedged) = self.routed.get_mut(routed).and_then(|r| r.hedged.as_deref_mut()) {
            hedged.attempts[attempt] = child;
        } else if let Some(parent) = self.calls.get_mut(id) {
            parent.phase = Phase::Forwarded(child);
        }
        if let Some(timeout) = timeout {
            self.queue.at(now + timeout, Event::Deadline(child));
        }
        self.pick_and_send(caller, child);
    }

    /// A call made for a routed request has ended.
    pub(super) fn routed_call_ended(&mut self, id: Id<Call>, child: &Call) {
        if let Some(parent) = self.calls.get_mut(id) {
            parent.phase = Phase::Forwarded(Id::NONE);
        }
        let Some(routed) = self.calls.get(id).map(|c| c.routed).and_then(|r| self.routed.get_mut(r)) else { return };
        if routed.step == Step::Asking {
            return self.answered_on_leave(
                id,
                match child.end {
                    End::Ok => Some(Limit::Ok { remaining: 0 }),
                    End::OverLimit => Some(Limit::OverLimit),
                    _ => None,
                },
            );
        }
        if let Some(controller) = &mut self.delivery
            && let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref()
        {
            controller.measure(self.queue.now(), routing.router.cluster_name(routed.cluster), child);
        }
        if let Some(parent) = self.calls.get_mut(id) {
            parent.reached = child.reached;
        }
        if let Some(Routing { router, stream, .. }) = self.pods[routed.pod.0 as usize].routing.as_deref_mut()
            && let Some(retry) = router.get(routed.route).retry()
            && let Some(attempts) = &mut routed.attempts
        {
            let decision = match child.end {
                End::TurnedAway(_) => retry.on_drop(attempts),
                End::Deadline => retry.on_attempt_timeout(attempts, stream),
                end => retry.on_attempt_end(attempts, end.code(), Pushback::None, stream),
            };
            if let RetryDecision::Retry(pause) = decision {
                routed.step = Step::Pausing;
                self.recorder.interventions.retries += 1;
                let now = self.queue.now();
                return self.queue.at(now + pause, Event::Resume(id));
            }
        }
        if let Some(hedged) = routed.hedged.as_deref_mut()
            && let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref()
            && let Some(hedge) = routing.router.get(routed.route).hedge()
        {
            hedged.attempts[usize::from(child.attempt)] = Id::NONE;
            let (number, hedges) = (u32::from(child.attempt) + 1, &mut hedged.hedges);
            let decision = match child.end {
                End::TurnedAway(_) => hedge.on_drop(hedges, number),
                end => hedge.on_attempt_end(hedges, number, end.code(), Pushback::None, self.queue.now()),
            };
            if decision == HedgeDecision::GoOn {
                return self.hedge(id);
            }
        }
        let route = routed.route;
        self.count_for_split(route, child);
        if let Some(parent) = self.calls.get_mut(id) {
            parent.hops = child.hops;
        }
        self.release(id);
        self.pass_back(id, child.end);
    }

    /// The request ends without another attempt having ended: for want of a route or of leave, by a fault, by its time.
    fn end_routed(&mut self, id: Id<Call>, end: End) {
        self.release(id);
        if self.calls.get(id).is_some_and(|c| c.connection.is_none()) {
            self.fail_locally(id, end); // takes a moment, so that time passes in a closed loop
        } else {
            self.respond(id, end);
        }
    }

    /// The route's time for the whole request is over.
    pub(super) fn route_timeout(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Phase::Forwarded(child) = call.phase else { return };
        if call.routed.is_none() {
            return;
        }
        call.phase = Phase::Forwarded(Id::NONE);
        let reached = self.give_up(child, End::Cancelled).and_then(|child| child.reached);
        let reached = self.release(id).or(reached);
        if let Some(call) = self.calls.get_mut(id) {
            call.reached = reached.or(call.reached);
        }
        self.end_routed(id, End::Deadline);
    }

    /// See [`Self::release_routed`].
    fn release(&mut self, id: Id<Call>) -> Option<u16> {
        let routed = std::mem::replace(&mut self.calls.get_mut(id)?.routed, Id::NONE);
        self.release_routed(routed)
    }

    /// Gives back what a request has taken of its route's counts, and cancels its attempts if it is hedged: the deployment
    /// that the latest of these has reached.
    #[inline]
    pub(super) fn release_routed(&mut self, routed: Id<Routed>) -> Option<u16> {
        let routed = self.routed.remove(routed)?;
        self.give_back(routed)
    }

    fn give_back(&mut self, routed: Routed) -> Option<u16> {
        let mut reached = None;
        let attempts = routed.hedged.iter().flat_map(|hedged| hedged.attempts);
        for attempt in attempts {
            reached = self.give_up(attempt, End::Cancelled).and_then(|attempt| attempt.reached).or(reached);
        }
        // Without its process the counts are gone too.
        let Some(routing) = self.pods[routed.pod.0 as usize].routing.as_deref() else { return reached };
        let route = routing.router.get(routed.route);
        if let Some((injector, fault)) = route.fault().zip(routed.fault) {
            injector.end(fault);
        }
        if let Some((retry, attempts)) = route.retry().zip(routed.attempts) {
            retry.end(attempts);
        }
        if let Some((hedge, hedged)) = route.hedge().zip(routed.hedged) {
            hedge.end(hedged.hedges);
        }
        reached
    }

    fn routed_of(&self, id: Id<Call>) -> Option<&Routed> {
        self.routed.get(self.calls.get(id)?.routed)
    }

    /// The limit service has worked on a question: whether there is leave, by its counts of all who ask.
    pub(super) fn decide_on_leave(&mut self, id: Id<Call>) {
        let now = self.queue.now();
        let Some((pod, route)) = self.calls.get(id).and_then(|c| self.routed_of(c.parent)).map(|r| (r.pod, r.route))
        else {
            return self.respond(id, End::Cancelled);
        };
        let Some(routing) = self.pods[pod.0 as usize].routing.as_deref() else { return };
        let found = routing.router.get(route);
        let Some(global) = found.limit().and_then(|limit| limit.global()) else { return self.respond(id, End::Ok) };
        // The replicas of a limit service share their counts (Redis), which outlive them. Routes keep their order, so the
        // index means the same to all who ask.
        let counts = self.limits[route.index()]
            .get_or_insert_with(|| RateLimitService::new(global.requests_per_unit, global.unit));
        let end = match counts.should_rate_limit(now, found.name(), 1) {
            Limit::Ok { .. } => End::Ok,
            Limit::OverLimit => End::OverLimit,
        };
        self.respond(id, end);
    }
}
