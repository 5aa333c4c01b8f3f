//! Calls: a request on its way to a pod, through its queue and its work, on through a proxy, and back.
//!
//! A request through a proxy is two calls, the client's and the proxy's; the second has the first as its parent. A mesh's
//! second proxy makes a third.

use lb_core::{Code, EndpointId, Nanos};

use super::callers::Caller;
use super::connections::Connection;
use super::deployments::Role;
use super::load::ClientId;
use super::pods::Phase as PodPhase;
use super::routes::Routed;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::Work;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Ok,
    /// The pod answered with an error.
    Failed(Code),
    /// The pod had no room for one more.
    QueueFull,
    /// The pod does not serve at present.
    NotServing,
    /// The connection was cut with the request in flight.
    ConnectionClosed,
    /// The policy had no endpoint to offer.
    NoEndpoint,
    /// The deadline passed.
    Deadline,
    /// Whoever it was made for has given up.
    Cancelled,
    /// The policy turned it away on purpose: too many requests, too many failures.
    TurnedAway(Code),
    /// No route is for it.
    NoRoute,
    /// Its route leads to a cluster that the balancer has not heard of.
    NoCluster,
    /// A fault injected on purpose.
    Injected(Code),
    /// There was no leave for it, by a rate limit.
    RateLimited(Code),
    /// The limit service gave no answer, and that counts as no leave.
    LimitFailed(Code),
    /// The limit service's answer that there is no leave.
    OverLimit,
}

impl End {
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Ok => Code::Ok,
            Self::Failed(code) => code,
            Self::QueueFull => Code::ResourceExhausted,
            Self::NotServing | Self::ConnectionClosed | Self::NoEndpoint | Self::NoRoute | Self::NoCluster => {
                Code::Unavailable
            }
            Self::Deadline => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::TurnedAway(code) | Self::Injected(code) | Self::RateLimited(code) | Self::LimitFailed(code) => code,
            Self::OverLimit => Code::ResourceExhausted,
        }
    }

    /// Status name and reason, as the record has them.
    pub(crate) fn describe(self) -> (&'static str, &'static str) {
        let reason = match self {
            Self::Ok => "",
            Self::Failed(_) => "application error",
            Self::QueueFull => "queue full",
            Self::NotServing => "not serving",
            Self::ConnectionClosed => "connection closed",
            Self::NoEndpoint => "no ready endpoint",
            Self::TurnedAway(_) => "turned away by the policy",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::NoRoute => "no matching route",
            Self::NoCluster => "cluster not known",
            Self::Injected(_) => "injected fault",
            Self::RateLimited(_) | Self::OverLimit => "over the rate limit",
            Self::LimitFailed(_) => "no answer from the limit service",
        };
        (self.code().name(), reason)
    }
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// At its caller, for want of an endpoint.
    Waiting,
    /// On its way to the pod.
    Outbound,
    /// In the pod's queue.
    Queued,
    /// Being worked on.
    Working,
    /// At a proxy, which waits for the answer to its own call; or passing routes, where there is none between attempts, and
    /// none either where the request is hedged.
    Forwarded(Id<Call>),
    /// The answer is on its way.
    Returning,
    /// Its caller has given up; the pod has not noticed.
    Abandoned,
}

/// A request from one caller to one pod.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(super) caller: Id<Caller>,
    /// Whose request it is, or is made for.
    pub(super) client: ClientId,
    /// The call it is made for; none if a client made it.
    pub(super) parent: Id<Call>,
    pub(super) connection: Id<Connection>,
    pub(super) endpoint: EndpointId,
    pub(super) pod: PodId,
    pub(super) phase: Phase,
    pub(super) end: End,
    /// Where it stands if it passes routes.
    pub(super) routed: Id<Routed>,
    /// The deployment of the server that it, or what was made for it, has reached.
    pub(super) reached: Option<u16>,
    /// Pods on the way before this one.
    pub(super) stage: u8,
    /// Attempts before this one, where a route retries or hedges.
    pub(super) attempt: u8,
    /// Node borders crossed on the way.
    pub(super) hops: u8,
    /// When the client wanted it sent.
    pub(super) issued: Nanos,
    pub(super) picked_at: Nanos,
    pub(super) work: Work,
}

impl Call {
    /// A client's request, waiting for a pick.
    #[inline]
    pub(super) fn new(client: ClientId, caller: Id<Caller>, work: Work, now: Nanos) -> Self {
        Self {
            caller,
            client,
            parent: Id::NONE,
            connection: Id::NONE,
            endpoint: EndpointId(0),
            pod: PodId(0),
            phase: Phase::Waiting,
            end: End::Ok,
            routed: Id::NONE,
            reached: None,
            stage: 0,
            attempt: 0,
            hops: 0,
            issued: now,
            picked_at: now,
            work,
        }
    }

    /// A call made for this one, whose name is `id`, by the process that has it.
    pub(super) fn child(&self, id: Id<Self>, now: Nanos) -> Self {
        Self {
            parent: id,
            connection: Id::NONE,
            phase: Phase::Waiting,
            routed: Id::NONE,
            reached: None,
            issued: now,
            picked_at: now,
            ..self.clone()
        }
    }
}

impl World<'_> {
    /// A client makes a request.
    #[inline]
    pub(super) fn new_call(&mut self, client: ClientId, caller: Id<Caller>, work: Work) {
        let call = self.begin_call(Call::new(client, caller, work, self.queue.now()));
        self.pick_and_send(caller, call);
    }

    /// A client's request begins.
    #[inline]
    pub(super) fn begin_call(&mut self, call: Call) -> Id<Call> {
        let load = self.client(call.client).load as usize;
        let id = self.calls.insert(call);
        self.recorder.started(load, self.queue.now());
        if let Some(lane) = self.lanes.deadlines[load] {
            self.queue.after(lane, Event::Deadline(id));
        }
        id
    }

    /// Sends a call on the connection to the endpoint picked for it.
    #[inline]
    pub(super) fn send(&mut self, id: Id<Call>, endpoint: EndpointId, connection: Id<Connection>) {
        let now = self.queue.now();
        let Some((pod, hop)) = self.take_stream(connection) else {
            debug_assert!(false, "a ready endpoint has a connection");
            return self.fail_locally(id, End::ConnectionClosed);
        };
        let Some(call) = self.calls.get_mut(id) else { return };
        call.endpoint = endpoint;
        call.connection = connection;
        call.pod = pod;
        call.picked_at = now;
        call.phase = Phase::Outbound;
        call.hops += u8::from(hop.leaves_node());
        self.queue.after(self.lanes.hops[hop as usize], Event::Reach(id));
    }

    /// A call that can't be sent fails without leaving its process; that takes as long as a hop within the pod, so
    /// that a client without a backend does not fail infinitely often in no time.
    pub(super) fn fail_locally(&mut self, id: Id<Call>, end: End) {
        if let Some(call) = self.calls.get_mut(id) {
            call.phase = Phase::Returning;
            call.end = end;
            self.queue.after(self.lanes.hops[0], Event::LocalFailure(id));
        }
    }

    pub(super) fn local_failure(&mut self, id: Id<Call>) {
        if let Some(end) = self.calls.get(id).map(|c| c.end) {
            self.finish(id, end);
        }
    }

    /// The request arrives.
    #[inline]
    pub(super) fn reach(&mut self, id: Id<Call>) {
        let Some(connection) = self.calls.get(id).map(|c| c.connection) else { return };
        if self.held_up(connection, Event::Reach(id)) {
            return;
        }
        let now = self.queue.now();
        let Some(call) = self.calls.get_mut(id) else { return };
        let pod = &mut self.pods[call.pod.0 as usize];
        if pod.phase == PodPhase::Gone {
            return; // the caller will notice that the connection is cut
        }
        pod.count(self.clients[call.client.index()].load, now, self.recorder.counts(now));
        if pod.role == Role::Server {
            call.reached = Some(pod.deployment as u16);
            self.note_key(id);
        }
        if self.servers_measure {
            self.note_arrival(id);
        }
        let Some(call) = self.calls.get_mut(id) else { return };
        let pod = &mut self.pods[call.pod.0 as usize];
        if !pod.is_serving(now) {
            self.respond(id, End::NotServing);
        } else if pod.busy < pod.template.concurrency {
            pod.set_busy(now, pod.busy + 1);
            self.start_working(id);
        } else if pod.queue.len() < pod.template.queue as usize {
            call.phase = Phase::Queued;
            pod.queue.push_back(id);
        } else {
            self.respond(id, End::QueueFull);
        }
    }

    #[inline]
    fn start_working(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.phase = Phase::Working;
        let now = self.queue.now();
        let pod = &self.pods[call.pod.0 as usize];
        let speed = pod.speed(now);
        let time = call.work.time(pod.stage(call), &pod.template.service_time);
        let time = if speed == 1.0 { time } else { time.mul_f64(1.0 / speed) };
        self.queue.at(now + time, Event::Worked(id));
        if self.servers_measure {
            self.note_start(id);
        }
    }

    /// The pod has done its part: the next in its queue begins; a server answers, a proxy passes the request on.
    #[inline]
    pub(super) fn worked(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get(id) else { return };
        let (pod_id, phase) = (call.pod, call.phase);
        let pod = &mut self.pods[pod_id.0 as usize];
        if pod.phase == PodPhase::Gone {
            self.forget_abandoned(id);
            return; // its caller, if it still has one, notices that the connection is cut
        }
        let role = pod.role;
        let verdict = pod.verdict(call, self.queue.now());
        self.next_in_queue(pod_id);
        if phase == Phase::Abandoned {
            self.calls.remove(id);
        } else if let Some(code) = verdict {
            self.respond(id, End::Failed(code));
        } else if role == Role::Proxy {
            self.forward(id);
        } else if role == Role::Support {
            self.decide_on_leave(id);
        } else {
            self.respond(id, End::Ok);
        }
    }

    /// A place is free: it goes to the first in the queue whose caller has not given up.
    #[inline]
    fn next_in_queue(&mut self, pod: PodId) {
        let now = self.queue.now();
        let pod = &mut self.pods[pod.0 as usize];
        while let Some(next) = pod.queue.pop_front() {
            match self.calls.get(next).map(|c| c.phase) {
                Some(Phase::Queued) => return self.start_working(next),
                Some(_) => {
                    self.calls.remove(next);
                }
                None => {}
            }
        }
        pod.set_busy(now, pod.busy - 1);
    }

    /// A proxy makes its own call for the one it has received.
    fn forward(&mut self, id: Id<Call>) {
        let now = self.queue.now();
        let Some(parent) = self.calls.get_mut(id) else { return };
        let proxy = &self.pods[parent.pod.0 as usize];
        if proxy.routing.is_some() {
            parent.phase = Phase::Forwarded(Id::NONE);
            let pod = parent.pod;
            return self.route(pod, id);
        }
        let caller = proxy.channel(self.clients[parent.client.index()].to);
        let child = Call { caller, stage: proxy.next_stage(parent), ..parent.child(id, now) };
        let child = self.calls.insert(child);
        if let Some(parent) = self.calls.get_mut(id) {
            parent.phase = Phase::Forwarded(child);
        }
        self.pick_and_send(caller, child);
    }

    /// The pod sends the end of a call back.
    #[inline]
    pub(super) fn respond(&mut self, id: Id<Call>, end: End) {
        if self.servers_measure {
            self.report_with(id, end);
        }
        let Some(call) = self.calls.get_mut(id) else { return };
        call.phase = Phase::Returning;
        call.end = end;
        if let Some(hop) = self.connections.get(call.connection).map(|c| c.hop) {
            self.queue.after(self.lanes.hops[hop as usize], Event::Answer(id));
        }
    }

    #[inline]
    pub(super) fn answer(&mut self, id: Id<Call>) {
        let Some(call) = self.calls.get(id) else { return };
        let (end, connection) = (call.end, call.connection);
        if self.held_up(connection, Event::Answer(id)) {
            return;
        }
        self.heard(connection);
        self.finish(id, end);
    }

    pub(super) fn deadline(&mut self, id: Id<Call>) {
        // A call that its pod still works on although its caller gave up has ended already.
        if self.calls.get(id).is_some_and(|c| c.phase != Phase::Abandoned) {
            self.finish(id, End::Deadline);
        }
    }

    /// A call has ended as its caller sees it: exactly once, however it ended.
    #[inline]
    pub(super) fn finish(&mut self, id: Id<Call>, end: End) {
        let Some(call) = self.give_up(id, end) else { return };
        if call.parent.is_none() {
            self.client_call_ended(&call, end);
        } else if let Some(parent) = self.calls.get_mut(call.parent) {
            if parent.routed.is_none() {
                parent.hops = call.hops;
                parent.reached = call.reached;
                self.respond(call.parent, end);
            } else {
                self.routed_call_ended(call.parent, &call);
            }
        }
    }

    /// A request that has passed routes ends as its last attempt did.
    pub(super) fn pass_back(&mut self, id: Id<Call>, end: End) {
        if self.calls.get(id).is_some_and(|c| c.parent.is_none() && c.connection.is_none()) {
            self.finish(id, end);
        } else {
            self.respond(id, end);
        }
    }

    /// The pod that still had a call is gone: nobody is left to notice that its caller has given up.
    pub(super) fn forget_abandoned(&mut self, id: Id<Call>) {
        if self.calls.get(id).is_some_and(|c| c.phase == Phase::Abandoned) {
            self.calls.remove(id);
        }
    }

    /// The caller has no more interest in a call, because it has ended or because the caller is gone: reports it done,
    /// gives its stream back, and forgets it, except where the pod has still to notice. None if that has happened before.
    #[inline]
    pub(super) fn give_up(&mut self, id: Id<Call>, end: End) -> Option<Call> {
        let call = self.calls.get_mut(id).filter(|c| c.phase != Phase::Abandoned)?;
        let before = std::mem::replace(&mut call.phase, Phase::Abandoned);
        let answered = before == Phase::Returning && call.end == end;
        call.end = end;
        let pod_still_has_it =
            matches!(before, Phase::Queued | Phase::Working) && self.pods[call.pod.0 as usize].phase != PodPhase::Gone;
        let mut call = if pod_still_has_it { call.clone() } else { self.calls.remove(id)? };
        let reached = self.release_routed(call.routed);
        match before {
            Phase::Waiting => self.stop_waiting(call.caller, id),
            Phase::Forwarded(child) => {
                // The parent ends first: how far its request came is the child's to say, or the latest of several; between
                // attempts it has been said.
                let child = self.give_up(child, End::Cancelled).and_then(|child| child.reached);
                call.reached = child.or(reached).or(call.reached);
            }
            _ => {}
        }
        if !call.connection.is_none() {
            let load = if self.needs.load { self.take_report(id).filter(|_| answered) } else { None };
            self.report_done(call.caller, &call, load);
            self.give_stream_back(call.connection);
        }
        Some(call)
    }
}
