//! Callers: a client application or a proxy with the core's channel, and the picks made through it.

use std::collections::VecDeque;
use std::sync::Arc;

use lb_core::channel::{Channel, ChannelConfig, Input, KeepaliveConfig, Output, Resolution, ResolverConfig};
use lb_core::{Context, Nanos, Pick, PickContext, Picker};

use super::calls::{Call, End};
use super::connections::{Connection, Connections};
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, Stream, stream};

/// What a caller calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// The pods of a service, by its headless name.
    Headless(usize),
    /// A service's ClusterIP.
    ClusterIp(usize),
    /// Several services, whose addresses have weights: index into the world's list.
    Weighted(usize),
    /// One pod, known beforehand: the sidecar or the node's proxy.
    Fixed(PodId),
}

/// One process with a channel.
pub(crate) struct Caller {
    /// Where it runs.
    pub(super) pod: PodId,
    pub(super) name: Name,
    /// The lookaside balancer that it has asked last.
    pub(super) asked: Option<PodId>,
    /// Pings on its quiet connections.
    pub(super) keepalive: Option<KeepaliveConfig>,
    channel: Channel,
    picker: Arc<dyn Picker>,
    /// The channel has handled something since `picker` was taken.
    stale: bool,
    /// The connection to each endpoint, by its index.
    links: Vec<Id<Connection>>,
    /// All of its connections, those that drain too.
    pub(super) connections: Connections,
    /// Its channel's outputs are being carried out: what they bring about waits its turn instead of nesting.
    driving: bool,
    /// Requests no endpoint was ready for.
    pub(super) waiting: VecDeque<Id<Call>>,
    stream: Stream,
    /// When the channel will be woken.
    wake_at: Nanos,
    /// An answer on its way from the DNS server.
    pub(super) answer: Option<Resolution>,
    /// Queries of the present look-up that got no answer.
    pub(super) unanswered: u32,
    /// Its subscription is to a lookaside balancer, not to the control plane.
    pub(super) asks_balancer: bool,
    /// It watches the health of what it is connected to.
    pub(super) checks_health: bool,
}

impl Caller {
    /// Tells the channel something.
    fn handle(&mut self, now: Nanos, input: Input) {
        self.channel.handle(&mut Context::new(now, &mut self.stream), input);
        self.stale = true;
    }

    /// Where a request goes, by the channel's present picker.
    #[inline]
    fn pick(&mut self, now: Nanos) -> Pick {
        if std::mem::take(&mut self.stale) {
            self.picker = self.channel.picker(&mut Context::new(now, &mut self.stream));
        }
        self.picker.pick(&mut PickContext::new(now, &mut self.stream))
    }
}

impl World<'_> {
    /// A caller that has not started yet.
    pub(super) fn new_caller(&mut self, pod: PodId, name: Name, config: &ChannelConfig) -> Id<Caller> {
        let mut stream = stream(self.seed, Purpose::Picks, self.callers_made);
        self.callers_made += 1;
        let mut channel = Channel::new(config);
        let picker = channel.picker(&mut Context::new(self.queue.now(), &mut stream));
        self.callers.insert(Caller {
            pod,
            name,
            asked: None,
            keepalive: config.keepalive,
            channel,
            picker,
            stale: false,
            links: Vec::new(),
            connections: Connections::default(),
            driving: false,
            waiting: VecDeque::new(),
            stream,
            wake_at: Nanos::NEVER,
            answer: None,
            unanswered: 0,
            asks_balancer: matches!(config.resolver, ResolverConfig::Grpclb(_)),
            checks_health: config.health_check,
        })
    }

    pub(super) fn start_caller(&mut self, id: Id<Caller>) {
        let now = self.now();
        if let Some(caller) = self.callers.get_mut(id) {
            caller.channel.start(&mut Context::new(now, &mut caller.stream));
            self.drive(id);
        }
    }

    /// Tells a caller's channel something, and carries out what it asks for.
    pub(super) fn tell(&mut self, id: Id<Caller>, input: Input) {
        let now = self.now();
        if let Some(caller) = self.callers.get_mut(id) {
            caller.handle(now, input);
            self.drive(id);
        }
    }

    pub(super) fn wake(&mut self, id: Id<Caller>) {
        let now = self.now();
        let Some(caller) = self.callers.get_mut(id) else { return };
        if caller.wake_at > now {
            return; // an earlier wake-up has put it off since
        }
        caller.wake_at = Nanos::NEVER;
        self.tell(id, Input::Timer);
    }

    /// Carries out the channel's outputs, plans its next wake-up, and gives waiting requests another try.
    fn drive(&mut self, id: Id<Caller>) {
        if self.callers.get_mut(id).is_none_or(|c| std::mem::replace(&mut c.driving, true)) {
            return;
        }
        while let Some(output) = self.callers.get_mut(id).and_then(|c| c.channel.poll()) {
            match output {
                Output::Resolve => self.resolve(id),
                Output::Subscribe => self.subscribe(id),
                Output::Connect { connection, address } => self.connect(id, connection, &address),
                Output::Close(connection) => {
                    let link = self.link(id, connection.endpoint.index());
                    self.close_when_idle(link, connection);
                }
            }
        }
        let now = self.now();
        let Some(caller) = self.callers.get_mut(id) else { return };
        caller.driving = false;
        let wake = caller.channel.next_wake().max(now);
        if wake < caller.wake_at {
            caller.wake_at = wake;
            self.queue.at(wake, Event::Wake(id));
        }
        if !caller.waiting.is_empty() {
            self.retry_waiting(id);
        }
    }

    /// Requests that wait are picked for again, in their order, until one has to go on waiting.
    fn retry_waiting(&mut self, id: Id<Caller>) {
        let now = self.now();
        while let Some(caller) = self.callers.get_mut(id) {
            let Some(&call) = caller.waiting.front() else { return };
            match caller.pick(now) {
                Pick::Queue => return,
                Pick::Endpoint(endpoint) => {
                    caller.waiting.pop_front();
                    let link = caller.links.get(endpoint.index()).copied().unwrap_or(Id::NONE);
                    self.send(call, endpoint, link);
                }
                Pick::Fail(_) | Pick::Drop(_) => {
                    caller.waiting.pop_front();
                    self.fail_locally(call, End::NoEndpoint);
                }
            }
        }
    }

    /// Chooses where a request goes, and sends it there.
    #[inline]
    pub(super) fn pick_and_send(&mut self, id: Id<Caller>, call: Id<Call>) {
        let now = self.queue.now();
        let Some(caller) = self.callers.get_mut(id) else { return };
        match caller.pick(now) {
            Pick::Endpoint(endpoint) => {
                let link = caller.links.get(endpoint.index()).copied().unwrap_or(Id::NONE);
                self.send(call, endpoint, link);
            }
            Pick::Queue => {
                caller.waiting.push_back(call);
                self.tell(id, Input::Waiting);
            }
            Pick::Fail(_) | Pick::Drop(_) => self.fail_locally(call, End::NoEndpoint),
        }
    }

    /// Tells the policy how a request ended.
    #[inline]
    pub(super) fn report_done(&mut self, id: Id<Caller>, call: &Call) {
        if let Some(caller) = self.callers.get(id) {
            let now = self.queue.now();
            let outcome = lb_core::Outcome::new(call.end.code(), now.since(call.picked_at));
            caller.picker.done(call.endpoint, now, &outcome);
        }
    }

    /// A request that waited for an endpoint gives up.
    pub(super) fn stop_waiting(&mut self, id: Id<Caller>, call: Id<Call>) {
        let Some(caller) = self.callers.get_mut(id) else { return };
        // Deadlines come in the order of the requests, so it is mostly the first.
        if let Some(at) = caller.waiting.iter().position(|&c| c == call) {
            caller.waiting.remove(at);
        }
    }

    pub(super) fn link(&self, id: Id<Caller>, endpoint: usize) -> Id<Connection> {
        self.callers.get(id).and_then(|c| c.links.get(endpoint)).copied().unwrap_or(Id::NONE)
    }

    pub(super) fn set_link(&mut self, id: Id<Caller>, endpoint: usize, connection: Id<Connection>) {
        if let Some(caller) = self.callers.get_mut(id) {
            if caller.links.len() <= endpoint {
                caller.links.resize(endpoint + 1, Id::NONE);
            }
            caller.links[endpoint] = connection;
        }
    }

    /// The process is gone: its requests are forgotten, its connections close.
    pub(super) fn drop_caller(&mut self, id: Id<Caller>) {
        let Some(caller) = self.callers.remove(id) else { return };
        let orphans: Vec<Id<Call>> = self.calls.iter().filter(|(_, c)| c.caller == id).map(|(call, _)| call).collect();
        for call in orphans {
            self.give_up(call, End::Cancelled);
        }
        self.forget_connections(&caller.connections);
    }

    /// A channel made for one request, which has ended, closes.
    pub(super) fn close_caller(&mut self, id: Id<Caller>) {
        if let Some(caller) = self.callers.remove(id) {
            self.forget_connections(&caller.connections);
        }
    }

    fn forget_connections(&mut self, connections: &Connections) {
        for connection in connections.list(&self.connections) {
            self.forget_connection(connection);
        }
    }
}
