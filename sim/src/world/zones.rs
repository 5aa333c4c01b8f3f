//! A zone that is cut off: what is sent over its border vanishes, and nobody is told.
//!
//! Nothing resets a connection over the border, so a caller finds out by its own means: a deadline, the connect timeout,
//! keepalive; or by being told, once the cluster has noticed. That goes by the node lifecycle controller of
//! kube-controller-manager: a node that has not been heard of for `node_monitor_grace_period` is NotReady, and its pods are
//! no ready endpoints; then it is tainted `node.kubernetes.io/unreachable:NoExecute`, one node in 10 s
//! (`--node-eviction-rate` 0.1/s, which a zone that is wholly lost keeps to as long as others are healthy), and pods that do
//! not tolerate that for longer are replaced elsewhere. DaemonSets tolerate it for ever. In the zone all goes on: nobody
//! there hears that a pod was deleted before the zone is back.
//!
//! TCP sends again what was lost, after 200 ms, or 1 s where it is the first packet of a connection, then twice as long each
//! time: when the zone is back, a connection goes on at its next attempt, up to as long again as the loss lasted.
//!
//! As long as no zone was ever lost this costs a comparison per message.

use lb_core::Nanos;
use scenarios::ZoneLoss;

use super::callers::Caller;
use super::connections::Connection;
use super::deployments::Role;
use super::places::Hop;
use super::{Event, PodId, World};
use crate::engine::Id;

/// TCP's first retransmission timeout: Linux `TCP_RTO_MIN`, what connections within a region have.
const FIRST_RETRANSMISSION: Nanos = Nanos::from_millis(200);
/// That of a SYN, when the round trip is not known yet: Linux `TCP_TIMEOUT_INIT`, RFC 6298 §2.1.
const FIRST_RETRANSMISSION_OF_SYN: Nanos = Nanos::from_secs(1);
/// The longest one: Linux `TCP_RTO_MAX`.
const LONGEST_RETRANSMISSION: Nanos = Nanos::from_secs(120);
/// Between two nodes that are tainted: kube-controller-manager `--node-eviction-rate` 0.1/s.
const BETWEEN_EVICTIONS: Nanos = Nanos::from_secs(10);
/// A loss that lasts.
#[derive(Debug, Clone, Copy)]
struct Loss {
    /// The event of the timeline that began it.
    event: u32,
    until: Nanos,
}

/// Which zones are cut off.
#[derive(Debug)]
pub(super) struct Zones {
    losses: Vec<Option<Loss>>,
    /// Whether one ever was: connections may still wait for their retransmission.
    any: bool,
}

impl Zones {
    pub(super) fn new(zones: u32) -> Self {
        Self { losses: vec![None; zones as usize], any: false }
    }
}

/// When TCP gets through with what is lost `now`, if the way is open from `back` on and it first tries again after `pause`.
fn retransmitted(now: Nanos, back: Nanos, mut pause: Nanos) -> Nanos {
    let mut at = now + pause;
    while at < back && pause < LONGEST_RETRANSMISSION {
        pause = (pause + pause).min(LONGEST_RETRANSMISSION);
        at += pause;
    }
    let attempts = back.since(at).0.div_ceil(LONGEST_RETRANSMISSION.0);
    at + Nanos(attempts.saturating_mul(LONGEST_RETRANSMISSION.0))
}

impl World<'_> {
    /// When a node is reachable again: now, if it is.
    pub(super) fn back_at(&self, node: u32) -> Nanos {
        let loss = self.zones.losses[self.places.zone(node) as usize];
        loss.map_or(self.now(), |loss| loss.until)
    }

    /// Whether a message on this connection is lost on its way, and so happens only when TCP gets through with it.
    #[inline]
    pub(super) fn held_up(&mut self, id: Id<Connection>, event: Event) -> bool {
        self.zones.any && self.vanishes(id, event)
    }

    fn vanishes(&mut self, id: Id<Connection>, event: Event) -> bool {
        let now = self.now();
        let Some(connection) = self.connections.get(id).filter(|c| c.hop == Hop::OtherZone) else { return false };
        let (Some(caller), Some(pod)) = (self.callers.get(connection.caller), connection.pod) else { return false };
        let mut resumes = connection.resumes;
        if resumes <= now {
            let ends = [caller.pod, pod].map(|pod| self.back_at(self.pods[pod.0 as usize].node));
            let back = ends[0].max(ends[1]);
            if back <= now {
                return false;
            }
            // The first loss sets the connection's timer; what follows waits behind it.
            let first =
                if matches!(event, Event::Knock(_)) { FIRST_RETRANSMISSION_OF_SYN } else { FIRST_RETRANSMISSION };
            resumes = retransmitted(now, back, first);
            if let Some(connection) = self.connections.get_mut(id) {
                connection.resumes = resumes;
            }
        }
        self.queue.at(resumes, event);
        true
    }

    /// Whether a caller is in a zone that is cut off, where it gets no answer from DNS servers, which are outside.
    pub(super) fn is_cut_off(&self, id: Id<Caller>) -> bool {
        let node = |caller: &Caller| self.pods[caller.pod.0 as usize].node;
        self.zones.any && self.callers.get(id).is_some_and(|caller| self.back_at(node(caller)) > self.now())
    }

    /// The scenario's event: the zone is cut off.
    pub(super) fn lose_zone(&mut self, event: u32, loss: &ZoneLoss) {
        let now = self.now();
        let until = now + loss.lasts;
        self.zones.any = true;
        self.queue.at(until, Event::ZoneBack(loss.zone));
        match &mut self.zones.losses[loss.zone as usize] {
            Some(going_on) => going_on.until = going_on.until.max(until),
            none => {
                *none = Some(Loss { event, until });
                let grace = self.scenario.cluster.node_monitor_grace_period;
                self.queue.at(now + grace, Event::NodesNotReady { event, zone: loss.zone });
            }
        }
    }

    /// Whether the loss that this event began goes on.
    fn goes_on(&self, event: u32, zone: u32) -> bool {
        self.zones.losses[zone as usize].is_some_and(|loss| loss.event == event)
    }

    /// The controller has waited long enough: the zone's pods are no ready endpoints.
    pub(super) fn nodes_not_ready(&mut self, event: u32, zone: u32) {
        if !self.goes_on(event, zone) {
            return;
        }
        self.places.set_ready(zone, false);
        self.announce_zone(zone);
        self.recorder.happened(self.queue.now(), format!("nodes of zone {zone} are NotReady"));
        let mut at = self.now() + self.scenario.cluster.default_unreachable_toleration;
        for node in (0..self.places.nodes()).filter(|&node| self.places.zone(node) == zone) {
            self.queue.at(at, Event::Evict { event, node });
            at += BETWEEN_EVICTIONS;
        }
    }

    /// Pods of a node are not tolerated there any longer: they are deleted, and replaced elsewhere.
    pub(super) fn evict(&mut self, event: u32, node: u32) {
        if !self.goes_on(event, self.places.zone(node)) {
            return;
        }
        for deployment in 0..self.deployments.len() {
            if self.is_node_proxy(deployment) {
                continue;
            }
            let here = |id: &PodId| {
                let pod = &self.pods[id.0 as usize];
                pod.node == node && pod.host == *id // sidecars go with the pod they are in
            };
            let evicted: Vec<PodId> = self.deployments[deployment].pods.iter().copied().filter(here).collect();
            if !evicted.is_empty() {
                let what =
                    format!("{} × {} on node-{node} replaced", evicted.len(), self.deployments[deployment].spec.name);
                self.recorder.happened(self.queue.now(), what);
            }
            for pod in evicted {
                self.terminate(pod);
            }
            self.reconcile(deployment);
        }
    }

    /// The zone can be reached again, and its nodes say so at once.
    pub(super) fn zone_back(&mut self, zone: u32) {
        let now = self.now();
        if self.zones.losses[zone as usize].is_none_or(|loss| loss.until > now) {
            return; // it was back already, or another event keeps it cut off
        }
        self.zones.losses[zone as usize] = None;
        if !self.places.is_ready(zone) {
            self.places.set_ready(zone, true);
            self.recorder.happened(now, format!("nodes of zone {zone} are Ready again"));
            self.announce_zone(zone);
            for deployment in 0..self.deployments.len() {
                self.reconcile(deployment);
            }
        }
    }

    /// The readiness of a zone's pods has changed with its nodes'.
    fn announce_zone(&mut self, zone: u32) {
        let of_zone = |&id: &PodId| {
            let pod = &self.pods[id.0 as usize];
            self.places.zone(pod.node) == zone && pod.moments.removed.is_none() && pod.role != Role::Client
        };
        let pods: Vec<PodId> = (0..self.pods.len() as u32).map(PodId).filter(of_zone).collect();
        for pod in pods {
            self.announce(pod);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_gets_through_at_its_first_attempt_after_the_loss() {
        let s = Nanos::from_secs;
        // 0.2, 0.6, 1.4, 3.0, 6.2, … = 0.2 · (2^n − 1) after the loss.
        assert_eq!(retransmitted(s(10), s(10), FIRST_RETRANSMISSION), Nanos::from_millis(10_200));
        assert_eq!(retransmitted(s(10), s(11), FIRST_RETRANSMISSION), Nanos::from_millis(11_400));
        assert_eq!(retransmitted(s(10), s(13), FIRST_RETRANSMISSION), s(13));
        // … 51.0, 102.2: the tenth pause would be 102.4, the eleventh 204.8, but none is longer than 120.
        assert_eq!(retransmitted(s(0), s(120), FIRST_RETRANSMISSION), Nanos::from_millis(204_600));
        assert_eq!(retransmitted(s(0), s(300), FIRST_RETRANSMISSION), Nanos::from_millis(324_600));
        assert_eq!(retransmitted(s(0), s(1000), FIRST_RETRANSMISSION), Nanos::from_millis(1_044_600));
        // A handshake: after 1, 3, 7, 15 s.
        assert_eq!(retransmitted(s(25), s(37), FIRST_RETRANSMISSION_OF_SYN), s(40));
    }
}
