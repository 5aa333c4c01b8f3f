//! Connections: a knock, a handshake, requests, pings, a GOAWAY, the end.

use lb_core::channel::{AgeAction, ConnectionAge, ConnectionId, Input, Keepalive, KeepaliveAction};
use lb_core::{Address, Context, Nanos};

use super::callers::Caller;
use super::calls::End;
use super::names::Target;
use super::places::Hop;
use super::{Event, PodId, World};
use crate::engine::{Id, Slab};

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
    /// The caller's pings, once it is ready.
    keepalive: Option<Box<Keepalive>>,
    /// A GOAWAY has come before the handshake was over.
    early_goaway: bool,
    /// The caller has a stream for the pod's health.
    pub(super) health_watched: bool,
    /// When TCP gets through with what was lost on it; in the past if nothing was.
    pub(super) resumes: Nanos,
    /// Requests the caller has sent and not got the end of.
    pub(super) in_flight: u32,
}

/// The connections of a caller, or those a pod has accepted. One that is gone stays listed until it and its like are
/// the greater part, so that opening and closing cost a constant however many there are.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    listed: Vec<Id<Connection>>,
    live: usize,
}

impl Connections {
    fn add(&mut self, id: Id<Connection>, all: &Slab<Connection>) {
        if self.listed.len() > 2 * self.live + 16 {
            self.listed.retain(|&id| all.get(id).is_some());
        }
        self.listed.push(id);
        self.live += 1;
    }

    fn remove_one(&mut self) {
        self.live -= 1;
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Those that are still there, in the order they were opened.
    pub(super) fn list(&self, all: &Slab<Connection>) -> Vec<Id<Connection>> {
        self.listed.iter().copied().filter(|&id| all.get(id).is_some()).collect()
    }
}

impl World<'_> {
    pub(super) fn hop_between(&self, a: PodId, b: PodId) -> Hop {
        let (a, b) = (&self.pods[a.0 as usize], &self.pods[b.0 as usize]);
        if a.host == b.host { Hop::SamePod } else { self.places.hop(a.node, b.node) }
    }

    /// A channel wants a connection. To a ClusterIP, kube-proxy chooses the pod now, and for good.
    pub(super) fn connect(&mut self, caller: Id<Caller>, name: ConnectionId, address: &Address) {
        let Some(from) = self.callers.get(caller).map(|c| c.pod) else { return };
        let pod = match self.by_address.get(address) {
            Some(Target::Pod(pod)) => Some(*pod),
            Some(Target::ClusterIp(service)) => self.backend(from, *service),
            None => None,
        };
        let pod = pod.map(|pod| self.entrance(from, pod));
        // A ClusterIP without backends is refused by the caller's own node.
        let hop = pod.map_or(Hop::SameNode, |pod| self.hop_between(from, pod));
        let id = self.connections.insert(Connection {
            caller,
            name,
            pod,
            hop,
            state: State::Connecting,
            age: None,
            keepalive: None,
            early_goaway: false,
            health_watched: false,
            resumes: Nanos::ZERO,
            in_flight: 0,
        });
        self.set_link(caller, name.endpoint.index(), id);
        if let Some(caller) = self.callers.get_mut(caller) {
            caller.connections.add(id, &self.connections);
        }
        self.queue.after(self.lanes.hops[hop as usize], Event::Knock(id));
    }

    /// The first packet arrives: a listening pod accepts, anything else refuses.
    pub(super) fn knock(&mut self, id: Id<Connection>) {
        if self.held_up(id, Event::Knock(id)) {
            return;
        }
        let now = self.queue.now();
        let Some(connection) = self.connections.get(id) else { return };
        let hop = connection.hop;
        let listening = connection.pod.filter(|pod| self.listens(connection, *pod));
        let Some(pod_id) = listening else {
            self.queue.after(self.lanes.hops[hop as usize], Event::Refused(id));
            return;
        };
        let config = self.connection_age(connection.caller, pod_id);
        let pod = &mut self.pods[pod_id.0 as usize];
        let age = ConnectionAge::new(&mut Context::new(now, &mut pod.stream), &config);
        self.queue.at(age.next_wake(), Event::Age(id));
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.age = Some(age);
        pod.connections.add(id, &self.connections);
        // TCP's handshake takes one round trip; HTTP/2 is ready when the server's SETTINGS have come, after another.
        // One of these four hops has passed.
        let latency = self.places.latency(hop);
        self.queue.at(now + latency + latency + latency, Event::Established(id));
    }

    pub(super) fn refused(&mut self, id: Id<Connection>) {
        if self.held_up(id, Event::Refused(id)) {
            return;
        }
        if let Some(connection) = self.forget_connection(id) {
            self.tell(connection.caller, Input::ConnectFailed(connection.name));
        }
    }

    pub(super) fn established(&mut self, id: Id<Connection>) {
        if self.held_up(id, Event::Established(id)) {
            return;
        }
        let now = self.queue.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(pod) = connection.pod else { return };
        // What was lost on the way to or from a pod that has died since is never sent again.
        let died = self.pods[pod.0 as usize].moments.removed;
        if died.is_some_and(|died| died + self.places.latency(connection.hop) < now) {
            return self.refused(id);
        }
        connection.state = State::Open;
        let (caller, name, early_goaway) = (connection.caller, connection.name, connection.early_goaway);
        let config = self.callers.get(caller).and_then(|c| c.keepalive.as_ref());
        connection.keepalive = config.map(|config| Box::new(Keepalive::new(now, config)));
        self.plan_keepalive(id);
        self.note_connected(caller, pod);
        self.recorder.connection_opened();
        self.tell(caller, Input::Connected(name));
        self.watch_health(id);
        self.watch_load(id);
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
        if self.held_up(id, Event::GoAway(id)) {
            return;
        }
        self.heard(id);
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

    /// The pod has cut the connection.
    pub(super) fn broken(&mut self, id: Id<Connection>) {
        if !self.held_up(id, Event::Broken(id)) {
            self.cut(id);
        }
    }

    /// The connection is cut as its caller sees it: what was in flight on it fails.
    fn cut(&mut self, id: Id<Connection>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.state == State::Connecting {
            return self.refused(id);
        }
        let mut on_it = Vec::new();
        if connection.in_flight > 0 {
            on_it.extend(self.calls.iter().filter(|(_, c)| c.connection == id).map(|(call, _)| call));
        }
        // The channel hears of it first: where a request fails its caller may send another at once.
        self.close(id);
        for call in on_it {
            self.finish(call, End::ConnectionClosed);
        }
    }

    /// The channel wants no more of it: an attempt is given up, a connection closes with its last request.
    pub(super) fn close_when_idle(&mut self, id: Id<Connection>, name: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id).filter(|c| c.name == name) else { return };
        if connection.state == State::Connecting {
            self.close(id);
        } else {
            connection.state = State::Closing;
            self.close_if_idle(id);
        }
    }

    /// Closes a connection that takes no more requests once it has none.
    fn close_if_idle(&mut self, id: Id<Connection>) {
        if self.connections.get(id).is_some_and(|c| c.state == State::Closing && c.in_flight == 0) {
            self.close(id);
        }
    }

    fn close(&mut self, id: Id<Connection>) {
        if let Some(connection) = self.forget_connection(id) {
            self.tell(connection.caller, Input::Disconnected(connection.name));
        }
    }

    /// Takes a connection or an attempt out of the world, without a word to its caller's channel. A terminating pod leaves
    /// with the last of them.
    pub(super) fn forget_connection(&mut self, id: Id<Connection>) -> Option<Connection> {
        let connection = self.connections.remove(id)?;
        if connection.state != State::Connecting {
            self.recorder.connection_closed();
        }
        if let Some(caller) = self.callers.get_mut(connection.caller) {
            caller.connections.remove_one();
        }
        let endpoint = connection.name.endpoint.index();
        if self.link(connection.caller, endpoint) == id {
            self.set_link(connection.caller, endpoint, Id::NONE);
        }
        if connection.age.is_some()
            && let Some(pod) = connection.pod
        {
            self.pods[pod.0 as usize].connections.remove_one();
            self.leave_if_done(pod);
        }
        Some(connection)
    }

    /// SIGTERM: GOAWAY on all of a pod's connections.
    pub(super) fn drain_connections(&mut self, pod: PodId, grace: Nanos) {
        let now = self.queue.now();
        for id in self.pods[pod.0 as usize].connections.list(&self.connections) {
            if let Some(age) = self.connections.get_mut(id).and_then(|c| c.age.as_mut()) {
                age.drain(now, grace);
                self.queue.at(now, Event::Age(id));
            }
        }
    }

    /// The pod is gone: its peers notice a hop later.
    pub(super) fn cut_connections(&mut self, pod: PodId) {
        for id in self.pods[pod.0 as usize].connections.list(&self.connections) {
            if let Some(connection) = self.connections.get(id) {
                self.queue.after(self.lanes.hops[connection.hop as usize], Event::Broken(id));
            }
        }
    }

    /// A request goes out on the connection; where to and how far.
    #[inline]
    pub(super) fn take_stream(&mut self, id: Id<Connection>) -> Option<(PodId, Hop)> {
        let now = self.queue.now();
        let connection = self.connections.get_mut(id)?;
        debug_assert_eq!(connection.state, State::Open, "picks are of ready endpoints");
        connection.in_flight += 1;
        let way = (connection.pod?, connection.hop);
        if connection.keepalive.as_mut().is_some_and(|k| k.stream_started(now)) {
            self.plan_keepalive(id);
        }
        Some(way)
    }

    /// Something has come from the server on this connection.
    #[inline]
    pub(super) fn heard(&mut self, id: Id<Connection>) {
        let now = self.queue.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.keepalive.as_mut().is_some_and(|k| k.received(now)) {
            self.plan_keepalive(id);
        }
    }

    fn plan_keepalive(&mut self, id: Id<Connection>) {
        let wake = self.connections.get(id).and_then(|c| c.keepalive.as_deref()).map(Keepalive::next_wake);
        if let Some(wake) = wake.filter(|wake| *wake != Nanos::NEVER) {
            self.queue.at(wake, Event::Keepalive(id));
        }
    }

    /// The caller's timer for pings.
    pub(super) fn keepalive(&mut self, id: Id<Connection>) {
        let now = self.queue.now();
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (in_flight, hop) = (connection.in_flight, connection.hop);
        let Some(keepalive) = connection.keepalive.as_mut().filter(|k| k.next_wake() <= now) else {
            return; // the plan has changed since this was scheduled
        };
        match keepalive.tick(now, in_flight) {
            Some(KeepaliveAction::Ping) => {
                let latency = self.places.latency(hop);
                self.queue.at(now + latency + latency, Event::Pong(id));
            }
            Some(KeepaliveAction::Close) => return self.cut(id),
            None => {}
        }
        self.plan_keepalive(id);
    }

    /// The answer to a ping.
    pub(super) fn pong(&mut self, id: Id<Connection>) {
        if !self.held_up(id, Event::Pong(id)) {
            self.heard(id);
        }
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
