//! The books at the end of a run, in debug builds: whoever counts requests or connections must count those that are
//! there. What does not balance is a slot, a stream or a place in a queue that has leaked, and would pass for load.

use super::World;
use super::calls::Phase;
use super::connections::State;
use super::pods::Phase as PodPhase;

impl World<'_> {
    /// Panics if the books do not balance.
    pub(super) fn audit(&self) {
        self.audit_calls();
        self.audit_pods();
        self.audit_connections();
    }

    fn audit_calls(&self) {
        let mut open = 0;
        for (id, call) in self.calls.iter().filter(|(_, c)| c.phase != Phase::Abandoned) {
            open += u64::from(call.parent.is_none());
            let caller = self.callers.get(call.caller).expect("a call that goes on has a caller");
            match call.phase {
                Phase::Waiting => assert!(caller.waiting.contains(&id), "its caller has forgotten that {id:?} waits"),
                // A proxy that dies takes its own call with it a hop before the client hears of it.
                Phase::Forwarded(child) => {
                    let alive = self.pods[call.pod.0 as usize].phase != PodPhase::Gone;
                    let child = self.calls.get(child).map(|c| c.parent == id);
                    assert_eq!(child, alive.then_some(true), "the call made for {id:?}");
                }
                _ => {}
            }
        }
        let requests = &self.recorder.requests;
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

    fn audit_pods(&self) {
        let mut on_nodes = vec![0; self.places.nodes() as usize];
        for (index, pod) in self.pods.iter().enumerate() {
            let of_pod = |id| self.calls.get(id).filter(|c| c.pod.0 as usize == index).map(|c| c.phase);
            for &id in &pod.queue {
                assert!(matches!(of_pod(id), Some(Phase::Queued | Phase::Abandoned)), "{} lists {id:?}", pod.name);
            }
            let here = self.calls.iter().filter(|(_, c)| c.pod.0 as usize == index);
            let working = here
                .filter(|(id, c)| match c.phase {
                    Phase::Working => true,
                    Phase::Abandoned => !pod.queue.contains(id),
                    Phase::Queued => {
                        assert!(pod.phase == PodPhase::Gone || pod.queue.contains(id), "{} forgot {id:?}", pod.name);
                        false
                    }
                    _ => false,
                })
                .count();
            let accepted = self.connections.iter().filter(|(_, c)| c.pod.is_some_and(|p| p.0 as usize == index));
            let accepted = accepted.filter(|(_, c)| c.age.is_some()).count();
            assert_eq!(pod.connections as usize, accepted, "connections of {}", pod.name);
            if pod.phase != PodPhase::Gone {
                assert_eq!(pod.busy as usize, working, "requests that {} works on", pod.name);
                on_nodes[pod.node as usize] += u32::from(pod.host.0 as usize == index);
            }
        }
        assert_eq!(self.places.load, on_nodes, "pods of each node");
    }

    fn audit_connections(&self) {
        let mut established = 0;
        for (id, connection) in self.connections.iter() {
            established += u64::from(connection.state != State::Connecting);
            let calls = self.calls.iter().filter(|(_, c)| c.connection == id && c.phase != Phase::Abandoned);
            assert_eq!(connection.in_flight as usize, calls.count(), "requests on {id:?}");
            if connection.state != State::Closing {
                let link = self.link(connection.caller, connection.name.endpoint.index());
                assert!(link == id, "{id:?} is not where its caller would look for it");
            }
        }
        let counted = &self.recorder.connections;
        assert_eq!(counted.opened - counted.closed, established, "connections that are open");
    }
}
