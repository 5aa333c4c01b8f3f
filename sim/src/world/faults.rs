//! What fails without a pod going away: DNS, the control plane, and pods that run but do not serve.
//!
//! A pod that does not serve answers NOT_SERVING to health checks (grpc.health.v1) and UNAVAILABLE to requests, at once. Its
//! readiness probe asks something else and goes on passing, so it stays in its EndpointSlice: who does not ask for its
//! health goes on sending to it, and gets quick failures.

use lb_core::Nanos;
use lb_core::channel::Input;
use scenarios::Event as Planned;

use super::callers::Caller;
use super::connections::Connection;
use super::places::Hop;
use super::pods::{Phase, Pod};
use super::{Event, PodId, World};
use crate::engine::Id;

impl Pod<'_> {
    /// Whether it serves, as its health service says.
    #[inline]
    pub(super) fn is_serving(&self, now: Nanos) -> bool {
        self.unhealthy_until <= now
    }
}

impl World<'_> {
    /// Carries out what an event of the timeline breaks.
    pub(super) fn fault(&mut self, event: &Planned) {
        let now = self.now();
        if let Some(outage) = &event.dns_outage {
            self.dns_back_at = self.dns_back_at.max(now + outage.lasts);
        }
        if let Some(outage) = &event.control_plane_outage {
            self.control_plane_outage(outage.lasts);
        }
        let unhealthy = event.unhealthy.as_ref().and_then(|e| Some((self.find(&e.deployment)?, e)));
        if let Some((deployment, unhealthy)) = unhealthy {
            let pods = self.deployments[deployment].pods.iter().copied().take(unhealthy.pods as usize);
            for id in pods.collect::<Vec<PodId>>() {
                let pod = &mut self.pods[id.0 as usize];
                pod.unhealthy_until = pod.unhealthy_until.max(now + unhealthy.lasts);
                self.queue.at(pod.unhealthy_until, Event::Recovered(id));
                self.tell_health(id);
            }
        }
    }

    pub(super) fn recovered(&mut self, id: PodId) {
        if self.pods[id.0 as usize].is_serving(self.now()) {
            self.tell_health(id);
        }
    }

    /// Everyone who watches a pod's health hears of it a hop later.
    fn tell_health(&mut self, id: PodId) {
        let pod = &self.pods[id.0 as usize];
        let serving = pod.is_serving(self.queue.now());
        for connection in pod.connections.list(&self.connections) {
            let watched = self.connections.get(connection).filter(|c| c.health_watched);
            if let Some(hop) = watched.map(|c| c.hop) {
                self.queue.after(self.lanes.hops[hop as usize], health_event(connection, serving));
            }
        }
    }

    /// A caller that checks health opens a stream for it on each new connection.
    pub(super) fn watch_health(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get(id) else { return };
        if self.callers.get(connection.caller).is_some_and(|caller| caller.checks_health) {
            self.queue.after(self.lanes.hops[connection.hop as usize], Event::HealthWatch(id));
        }
    }

    /// The stream reaches the pod, which says how it is.
    pub(super) fn health_watch(&mut self, id: Id<Connection>) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(pod) = connection.pod.map(|pod| &self.pods[pod.0 as usize]) else { return };
        if pod.phase != Phase::Gone {
            connection.health_watched = true;
            let serving = pod.is_serving(now);
            self.queue.after(self.lanes.hops[connection.hop as usize], health_event(id, serving));
        }
    }

    pub(super) fn health(&mut self, id: Id<Connection>, serving: bool) {
        if let Some((caller, name)) = self.connections.get(id).map(|c| (c.caller, c.name)) {
            self.tell(caller, Input::Health(name, serving));
        }
    }

    pub(super) fn dns_is_out(&self) -> bool {
        self.queue.now() < self.dns_back_at
    }

    /// A query has reached a DNS server that does not answer; it left a hop ago.
    pub(super) fn no_answer(&mut self, id: Id<Caller>) {
        let now = self.now();
        let left = self.scenario.dns.timeout.since(self.places.latency(Hop::SameZone));
        self.queue.at(now + left, Event::DnsTimeout(id));
    }

    /// The resolver library asks again, or gives up.
    pub(super) fn dns_timeout(&mut self, id: Id<Caller>) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        caller.unanswered += 1;
        if caller.unanswered < self.scenario.dns.attempts {
            self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::DnsQuery(id));
        } else {
            self.tell(id, Input::ResolveFailed);
        }
    }
}

/// The pod's word on its health reaches the caller.
fn health_event(connection: Id<Connection>, serving: bool) -> Event {
    if serving { Event::Healthy(connection) } else { Event::Unhealthy(connection) }
}
