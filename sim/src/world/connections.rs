//! Connections: a knock, a handshake, requests, a GOAWAY, the end.

use lb_core::channel::{AgeAction, ConnectionAge, ConnectionId, Input};
use lb_core::{Address, Context, Nanos};

use super::callers::Caller;
use super::calls::{Call, End};
use super::names::Target;
use super::places::Hop;
use super::pods::Phase;
use super::{Event, PodId, World};
use crate::engine::Id;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not ready yet.
    Connecting,
    /// Takes requests.
    Open,
    /// Takes no more; closes with its last request.
    Closing,
}

/// An HTTP/2 connection between a caller and a pod.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) caller: Id<Caller>,
    pub(super) name: ConnectionId,
    /// None while a ClusterIP without backends refuses.
    pub(super) pod: Option<PodId>,
    pub(super) hop: Hop,
    pub(super) state: State,
    /// Its age, once the pod has accepted it and counts it.
    pub(super) age: Option<ConnectionAge>,
    /// A GOAWAY has come before the handshake was over.
    early_goaway: bool,
    /// Requests the caller has sent and not got the end of.
    pub(super) in_flight: u32,
}

impl World<'_> {
    fn hop_between(&self, a: PodId, b: PodId) -> Hop {
        let (a, b) = (&self.pods[a.0 as usize], &self.pods[b.0 as usize]);
        if a.host == b.host { Hop::SamePod } else { self.places.hop(a.node, b.node) }
    }

    /// A channel wants a connection. To a ClusterIP, kube-proxy chooses the pod now, and for good.
    pub(super) fn connect(&mut self, caller: Id<Caller>, name: ConnectionId, address: &Address) {
        let Some(from) = self.callers.get(caller).map(|c| c.pod) else { return };
        let pod = match self.by_address.get(address) {
            Some(Target::Pod(pod)) => Some(*pod),
            Some(Target::ClusterIp(service)) => self.backend(*service),
            None => None,
        };
        // A ClusterIP without backends is refused by the caller's own node.
        let hop = pod.map_or(Hop::SameNode, |pod| self.hop_between(from, pod));
        let id = self.connections.insert(Connection {
            caller,
            name,
            pod,
            hop,
            state: State::Connecting,
            age: None,
            early_goaway: false,
            in_flight: 0,
        });
        self.set_link(caller, name.endpoint.index(), id);
        self.queue.after(self.lanes.hops[hop as usize], Event::Knock(id));
    }

    /// The first packet arrives: a listening pod accepts, anything else refuses.
    pub(super) fn knock(&mut self, id: Id<Connection>) {
        let now = self.queue.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let hop = connection.hop;
        let listening = connection.pod.filter(|pod| self.pods[pod.0 as usize].phase == Phase::Running);
        let Some(pod_id) = listening else {
            self.queue.after(self.lanes.hops[hop as usize], Event::Refused(id));
            return;
        };
        let pod = &mut self.pods[pod_id.0 as usize];
        pod.connections += 1;
        let config = &self.deployments[pod.deployment].age;
        let age = ConnectionAge::new(&mut Context::new(now, &mut pod.stream), config);
        self.queue.at(age.next_wake(), Event::Age(id));
        connection.age = Some(age);
        // TCP's handshake takes one round trip; HTTP/2 is ready when the server's SETTINGS have come, after another.
        // One of these four hops has passed.
        let latency = self.places.latency(hop);
        self.queue.at(now + latency + latency + latency, Event::Established(id));
    }

    pub(super) fn refused(&mut self, id: Id<Connection>) {
        if let Some(connection) = self.connections.remove(id) {
            self.set_link(connection.caller, connection.name.endpoint.index(), Id::NONE);
            self.tell(connection.caller, Input::ConnectFailed(connection.name));
        }
    }

    pub(super) fn established(&mut self, id: Id<Connection>) {
        let now = self.queue.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(pod) = connection.pod else { return };
        connection.state = State::Open;
        let (caller, name, early_goaway) = (connection.caller, connection.name, connection.early_goaway);
        self.pods[pod.0 as usize].moments.connected.get_or_insert(now);
        self.recorder.connection_opened();
        self.tell(caller, Input::Connected(name));
        if early_goaway {
            self.goaway(id);
        }
    }

    /// The server's timer for the connection's age or grace.
    pub(super) fn age(&mut self, id: Id<Connection>) {
        let now = self.queue.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let hop = self.lanes.hops[connection.hop as usize];
        let Some(age) = &mut connection.age else { return };
        match age.tick(now) {
            Some(AgeAction::GoAway) => {
                self.recorder.connections.goaways += 1;
                self.queue.after(hop, Event::GoAway(id));
            }
            Some(AgeAction::Close) => self.queue.after(hop, Event::Broken(id)),
            None => return, // the plan has changed since this was scheduled
        }
        self.queue.at(age.next_wake(), Event::Age(id));
    }

    /// A GOAWAY arrives. As servers announce their shutdown first (GOAWAY with the highest stream id, then a round trip
    /// later the true one), requests that were on their way are still served.
    pub(super) fn goaway(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.state {
            // It follows the server's SETTINGS on the same stream of bytes, so it is read when those are.
            State::Connecting => connection.early_goaway = true,
            State::Open => {
                connection.state = State::Closing;
                let (caller, name) = (connection.caller, connection.name);
                self.tell(caller, Input::GoAway(name));
            }
            State::Closing => {}
        }
        self.close_if_idle(id);
    }

    /// The connection was cut: what was in flight on it fails.
    pub(super) fn broken(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.state == State::Connecting {
            self.release_pod(id);
            self.refused(id);
            return;
        }
        connection.state = State::Closing;
        let cut: Vec<Id<Call>> = self.calls.iter().filter(|(_, c)| c.connection == id).map(|(call, _)| call).collect();
        for call in cut {
            self.finish(call, End::ConnectionClosed);
        }
        self.close_if_idle(id);
    }

    /// The channel wants no more of it: an attempt is given up, a connection closes with its last request.
    pub(super) fn close_when_idle(&mut self, id: Id<Connection>, name: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id).filter(|c| c.name == name) else { return };
        connection.state = match connection.state {
            State::Connecting => {
                let caller = connection.caller;
                self.release_pod(id);
                self.connections.remove(id);
                self.set_link(caller, name.endpoint.index(), Id::NONE);
                self.tell(caller, Input::Disconnected(name));
                return;
            }
            State::Open | State::Closing => State::Closing,
        };
        self.close_if_idle(id);
    }

    /// Closes a connection that takes no more requests once it has none.
    fn close_if_idle(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get(id) else { return };
        if connection.state != State::Closing || connection.in_flight > 0 {
            return;
        }
        let (caller, name) = (connection.caller, connection.name);
        self.forget_connection(id);
        if self.link(caller, name.endpoint.index()) == id {
            self.set_link(caller, name.endpoint.index(), Id::NONE);
        }
        self.tell(caller, Input::Disconnected(name));
    }

    /// Takes a connection out of the world, without a word to its caller.
    pub(super) fn forget_connection(&mut self, id: Id<Connection>) {
        if self.connections.get(id).is_some_and(|c| c.state != State::Connecting) {
            self.recorder.connection_closed();
        }
        self.release_pod(id);
        self.connections.remove(id);
    }

    /// The pod counts the connection no longer, and leaves if it was the last it waited for.
    fn release_pod(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.age.take().is_some()
            && let Some(pod) = connection.pod
        {
            self.pods[pod.0 as usize].connections -= 1;
            self.leave_if_done(pod);
        }
    }

    /// SIGTERM: GOAWAY on all of a pod's connections.
    pub(super) fn drain_connections(&mut self, pod: PodId, grace: Nanos) {
        let now = self.queue.now();
        for id in self.connections_of(pod) {
            if let Some(age) = self.connections.get_mut(id).and_then(|c| c.age.as_mut()) {
                age.drain(now, grace);
                self.queue.at(now, Event::Age(id));
            }
        }
    }

    /// The pod is gone: its peers notice a hop later.
    pub(super) fn cut_connections(&mut self, pod: PodId) {
        for id in self.connections_of(pod) {
            if let Some(connection) = self.connections.get(id).filter(|c| c.age.is_some()) {
                self.queue.after(self.lanes.hops[connection.hop as usize], Event::Broken(id));
            }
        }
    }

    fn connections_of(&self, pod: PodId) -> Vec<Id<Connection>> {
        self.connections.iter().filter(|(_, c)| c.pod == Some(pod)).map(|(id, _)| id).collect()
    }

    /// A request goes out on the connection; where to and how far.
    #[inline]
    pub(super) fn take_stream(&mut self, id: Id<Connection>) -> Option<(PodId, Hop)> {
        let connection = self.connections.get_mut(id)?;
        debug_assert_eq!(connection.state, State::Open, "picks are of ready endpoints");
        connection.in_flight += 1;
        Some((connection.pod?, connection.hop))
    }

    /// A request on the connection has ended.
    #[inline]
    pub(super) fn give_stream_back(&mut self, id: Id<Connection>) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.in_flight -= 1;
            if connection.state == State::Closing {
                self.close_if_idle(id);
            }
        }
    }
}
