//! The books at the end of a run, in debug builds: whoever counts requests or connections must count those that are
//! there. What does not balance is a slot, a stream or a place in a queue that has leaked, and would pass for load.

use lb_core::route::Fault;

use super::calls::{Call, Phase};
use super::connections::State;
use super::pods::Phase as PodPhase;
use super::routes::Hedged;
use super::{Tally, World};
use crate::engine::Id;

impl World<'_> {
    /// Panics if the books do not balance.
    pub(super) fn audit(&self) {
        self.audit_calls();
        self.audit_pods();
        self.audit_connections();
        self.audit_routes();
    }

    fn audit_calls(&self) {
        let mut open = 0;
        for (id, call) in self.calls.iter().filter(|(_, c)| c.phase != Phase::Abandoned) {
            open += u64::from(call.parent.is_none());
            if call.caller.is_none() {
                let passes_routes =
                    call.parent.is_none() && matches!(call.phase, Phase::Forwarded(_) | Phase::Returning);
                assert!(passes_routes, "{id:?} goes on without a caller: {call:?}");
            }
            let waits =
                || self.callers.get(call.caller).expect("a call that goes on has a caller").waiting.contains(&id);
            match call.phase {
                Phase::Waiting => assert!(waits(), "its caller has forgotten that {id:?} waits"),
                // Asking for leave, delayed, in the pause before another attempt, or hedged.
                Phase::Forwarded(child) if child.is_none() => {
                    let alive = self.pods[call.pod.0 as usize].phase != PodPhase::Gone;
                    let held = self.pods[call.pod.0 as usize].routing.as_ref().is_some_and(|r| r.holds(id));
                    assert!(!alive || held || self.routed.get(call.routed).is_some(), "{id:?} waits for nothing");
                }
                // A proxy that dies takes its own call with it before the client hears of it; the server may work on
                // it still.
                Phase::Forwarded(child) => {
                    let alive = self.pods[call.pod.0 as usize].phase != PodPhase::Gone;
                    let child = self.calls.get(child).filter(|c| c.phase != Phase::Abandoned).map(|c| c.parent == id);
                    assert_eq!(child, alive.then_some(true), "the call made for {id:?}");
                }
                _ => {}
            }
            if !call.parent.is_none() {
                // Nobody would ever cancel it.
                assert!(self.waits_for(call.parent, id), "{id:?} goes on, and nobody waits for it: {call:?}");
            }
        }
        let requests = Tally::sum(&self.recorder.loads).requests;
        let unended = requests.started - requests.ok - requests.failed;
        let clients_left = self.clients.iter().any(|c| c.stopped);
        assert!(unended == open || clients_left && unended > open, "{unended} requests have not ended, {open} go on");
        for (_, caller) in self.callers.iter() {
            assert!(self.pods[caller.pod.0 as usize].phase != PodPhase::Gone, "a caller outlives its process");
            for &id in &caller.waiting {
                assert!(self.calls.get(id).is_some_and(|c| c.phase == Phase::Waiting), "{id:?} waits no longer");
            }
        }
    }

    /// Whether the call `parent` waits for `child`, which was made for it.
    fn waits_for(&self, parent: Id<Call>, child: Id<Call>) -> bool {
        self.calls.get(parent).is_some_and(|parent| match self.routed.get(parent.routed).map(|r| &r.hedged) {
            Some(Some(hedged)) => hedged.attempts.contains(&child),
            _ => parent.phase == Phase::Forwarded(child),
        })
    }

    fn audit_pods(&self) {
        // What is there, by pod, in one pass over each: calls being worked on or in a queue, connections accepted.
        let mut working = vec![0; self.pods.len()];
        let mut accepted = vec![0; self.pods.len()];
        let mut on_nodes = vec![0; self.places.nodes() as usize];
        for (_, call) in self.calls.iter() {
            let here = matches!(call.phase, Phase::Working | Phase::Queued | Phase::Abandoned);
            working[call.pod.0 as usize] += usize::from(here);
        }
        for (_, connection) in self.connections.iter().filter(|(_, c)| c.age.is_some()) {
            accepted[connection.pod.expect("who accepted").0 as usize] += 1;
        }
        for (index, pod) in self.pods.iter().enumerate() {
            for &id in &pod.queue {
                let call = self.calls.get(id).expect("what waits is there");
                let waits = matches!(call.phase, Phase::Queued | Phase::Abandoned) && call.pod.0 as usize == index;
                assert!(waits, "{} lists {id:?}", pod.name);
            }
            assert_eq!(pod.connections.len(), accepted[index], "connections of {}", pod.name);
            if pod.phase != PodPhase::Gone {
                assert_eq!(pod.busy as usize + pod.queue.len(), working[index], "requests at {}", pod.name);
                on_nodes[pod.node as usize] += u32::from(pod.host.0 as usize == index);
            }
        }
        assert_eq!(self.places.load, on_nodes, "pods of each node");
    }

    /// What a route counts must be with the requests that pass it: a fault, a retry or a hedge that was never given back
    /// would take the place of another for ever.
    fn audit_routes(&self) {
        let held: Vec<_> = self.calls.iter().map(|(_, c)| c.routed).filter(|routed| !routed.is_none()).collect();
        assert!(held.iter().all(|&routed| self.routed.get(routed).is_some()), "what a call holds is there");
        assert_eq!(self.routed.iter().count(), held.len(), "each that passes routes is one call's");
        for (id, call) in self.calls.iter() {
            let alive = self.pods[call.pod.0 as usize].phase != PodPhase::Gone;
            let Some(hedged) = self.routed.get(call.routed).and_then(|r| r.hedged.as_ref()).filter(|_| alive) else {
                continue;
            };
            let under_way: Vec<_> = hedged.attempts.iter().filter(|attempt| !attempt.is_none()).collect();
            assert!(!under_way.is_empty(), "{id:?} is hedged and waits for nothing");
            for &&attempt in &under_way {
                let attempt = self.calls.get(attempt).filter(|c| c.phase != Phase::Abandoned);
                assert!(
                    attempt.is_some_and(|attempt| attempt.parent == id),
                    "an attempt of {id:?} has ended unnoticed"
                );
            }
        }
        for (index, pod) in self.pods.iter().enumerate().filter(|(_, pod)| pod.phase != PodPhase::Gone) {
            let Some(routing) = &pod.routing else { continue };
            for id in self.written.routes.iter().filter_map(|route| routing.router.find(&route.name)) {
                let route = routing.router.get(id);
                let here = || self.routed.iter().map(|(_, r)| r).filter(|r| r.pod.0 as usize == index && r.route == id);
                let place = || format!("{} of {}", route.name(), pod.name);
                if let Some(injector) = route.fault() {
                    let faults = here().filter(|r| r.fault.as_ref().is_some_and(Fault::counts)).count();
                    assert_eq!(injector.active() as usize, faults, "faults at {}", place());
                }
                if let Some(retry) = route.retry() {
                    let attempts = || here().filter_map(|r| r.attempts.as_ref());
                    assert_eq!(retry.active_requests() as usize, attempts().count(), "requests at {}", place());
                    // The first attempt's end makes it a retry, until it ends with its last attempt.
                    let retries = attempts().filter(|a| a.number() > 1).count();
                    assert_eq!(retry.active_retries() as usize, retries, "retries at {}", place());
                }
                if let Some(hedge) = route.hedge() {
                    let requests = || here().filter_map(|r| r.hedged.as_ref());
                    assert_eq!(hedge.active_requests() as usize, requests().count(), "requests at {}", place());
                    let further = |hedged: &Hedged| hedged.attempts[1..].iter().filter(|a| !a.is_none()).count();
                    let hedges: usize = requests().map(|hedged| further(hedged)).sum();
                    assert_eq!(hedge.active_hedges() as usize, hedges, "hedges at {}", place());
                }
            }
        }
    }

    fn audit_connections(&self) {
        let mut established = 0;
        let mut in_flight = 0;
        for (id, connection) in self.connections.iter() {
            established += u64::from(connection.state != State::Connecting);
            in_flight += connection.in_flight as usize;
            if connection.state != State::Closing {
                let link = self.link(connection.caller, connection.name.endpoint.index());
                assert!(link == id, "{id:?} is not where its caller would look for it");
            }
        }
        let sent = self.calls.iter().filter(|(_, c)| c.phase != Phase::Abandoned && !c.connection.is_none());
        assert_eq!(in_flight, sent.count(), "requests on connections");
        for (_, caller) in self.callers.iter() {
            let listed = caller.connections.list(&self.connections);
            assert_eq!(listed.len(), caller.connections.len(), "connections of a caller");
        }
        let counted = &self.recorder.connections;
        assert_eq!(counted.opened - counted.closed, established, "connections that are open");
    }
}
