//! Callers: a client application or a proxy with the core's channel, and the picks made through it.

use std::collections::VecDeque;
use std::sync::Arc;

use lb_core::channel::{Channel, ChannelConfig, Input, KeepaliveConfig, Output, Resolution, ResolverConfig};
use lb_core::policy::Needs;
use lb_core::{Address, Asks, Context, EndpointId, LoadReport, Nanos, Pick, PickContext, Picker};

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
    /// What its policy needs to know.
    pub(super) needs: Needs,
    /// The header by which its policy wants requests to be hashed where no route says otherwise.
    pub(super) hash_header: Option<Box<str>>,
    /// Its channel is being told that a request waits.
    waking: bool,
}

/// What a pick may look at of a request.
#[derive(Default)]
struct Request {
    hash: Option<u64>,
    session: Option<Address>,
}

impl Caller {
    /// Tells the channel something.
    fn handle(&mut self, now: Nanos, input: Input) {
        self.channel.handle(&mut Context::new(now, &mut self.stream), input);
        self.stale = true;
    }

    /// Where a request goes, by the channel's present picker, and what the pick asks for; `pending` others wait.
    #[inline]
    fn pick(&mut self, now: Nanos, request: &Request, pending: usize) -> (Pick, Asks) {
        self.refresh(now);
        let mut cx = PickContext::new(now, &mut self.stream);
        cx.hash = request.hash;
        cx.session = request.session.as_ref();
        cx.pending = pending as u32;
        (self.picker.pick(&mut cx), cx.asks)
    }

    /// Takes the channel's picker if it may be another.
    #[inline]
    fn refresh(&mut self, now: Nanos) {
        if std::mem::take(&mut self.stale) {
            self.picker = self.channel.picker(&mut Context::new(now, &mut self.stream));
        }
    }

    /// The answer to a probe.
    pub(super) fn probed(&mut self, endpoint: EndpointId, now: Nanos, report: &LoadReport) {
        self.refresh(now);
        self.picker.probed(endpoint, now, report);
    }

    pub(super) fn oob_reporting_period(&self) -> Option<Nanos> {
        self.channel.oob_reporting_period()
    }

    pub(super) fn address(&self, endpoint: EndpointId) -> Option<&Address> {
        self.channel.address(endpoint)
    }

    /// Whether one request may be sent while another waits.
    fn tells_requests_apart(&self) -> bool {
        self.needs.hash || self.needs.session
    }
}

impl World<'_> {
    /// A caller that has not started yet.
    pub(super) fn new_caller(&mut self, pod: PodId, name: Name, config: &ChannelConfig) -> Id<Caller> {
        let mut stream = stream(self.seed, Purpose::Picks, self.callers_made);
        self.callers_made += 1;
        let mut channel = Channel::new(config);
        let needs = config.policy.needs();
        if needs.local {
            let local = self.local(pod);
            channel.handle(&mut Context::new(self.queue.now(), &mut stream), Input::Local(local));
        }
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
            needs,
            hash_header: config.policy.request_hash_header().map(Box::from),
            waking: false,
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

    /// Requests that wait are picked for again, in their order; where all are alike, until one has to go on waiting.
    fn retry_waiting(&mut self, id: Id<Caller>) {
        let now = self.now();
        let (mut at, mut wake) = (0, false);
        while let Some(&call) = self.callers.get(id).and_then(|c| c.waiting.get(at)) {
            let request = self.request_of(id, call);
            let Some(caller) = self.callers.get_mut(id) else { return };
            let (pick, asks) = caller.pick(now, &request, caller.waiting.len() - 1);
            let alike = !caller.tells_requests_apart();
            wake |= asks.exit_idle;
            match pick {
                Pick::Queue if alike => break,
                Pick::Queue => at += 1,
                pick => {
                    caller.waiting.remove(at);
                    self.follow(id, call, pick);
                }
            }
            self.send_probes(id, &asks);
        }
        if wake {
            self.exit_idle(id);
        }
    }

    /// Chooses where a request goes, and sends it there.
    #[inline]
    pub(super) fn pick_and_send(&mut self, id: Id<Caller>, call: Id<Call>) {
        let now = self.queue.now();
        let request = self.request_of(id, call);
        let Some(caller) = self.callers.get_mut(id) else { return };
        let (pick, asks) = caller.pick(now, &request, caller.waiting.len());
        if pick == Pick::Queue {
            caller.waiting.push_back(call);
            self.exit_idle(id);
        } else {
            self.follow(id, call, pick);
            if asks.exit_idle {
                self.exit_idle(id);
            }
        }
        self.send_probes(id, &asks);
    }

    /// Does with a request what was picked, except wait.
    #[inline]
    fn follow(&mut self, id: Id<Caller>, call: Id<Call>, pick: Pick) {
        match pick {
            Pick::Endpoint(endpoint) => {
                let link = self.link(id, endpoint.index());
                self.send(call, endpoint, link);
            }
            Pick::Drop(status) => {
                self.recorder.interventions.turned_away += 1;
                self.fail_locally(call, End::TurnedAway(status.code));
            }
            Pick::Fail(_) | Pick::Queue => self.fail_locally(call, End::NoEndpoint),
        }
    }

    /// A request waits, or a pick wants a connection that was not wanted before.
    fn exit_idle(&mut self, id: Id<Caller>) {
        // What waits is tried again after this, and may ask again for the same.
        if self.callers.get_mut(id).is_none_or(|c| std::mem::replace(&mut c.waking, true)) {
            return;
        }
        self.tell(id, Input::Waiting);
        if let Some(caller) = self.callers.get_mut(id) {
            caller.waking = false;
        }
    }

    #[inline]
    fn send_probes(&mut self, id: Id<Caller>, asks: &Asks) {
        for &endpoint in asks.probes() {
            self.probe(id, endpoint);
        }
    }

    /// What the caller's policy looks at of a request.
    #[inline]
    fn request_of(&mut self, id: Id<Caller>, call: Id<Call>) -> Request {
        match self.callers.get(id).map(|c| c.needs) {
            Some(needs) if needs.hash || needs.session => Request {
                hash: if needs.hash { self.hash_for(id, call) } else { None },
                session: if needs.session { self.session_for(call) } else { None },
            },
            _ => Request::default(),
        }
    }

    /// Tells the policy how a request ended, and what its response said of the server's load.
    #[inline]
    pub(super) fn report_done(&mut self, id: Id<Caller>, call: &Call, load: Option<LoadReport>) {
        if let Some(caller) = self.callers.get(id) {
            let now = self.queue.now();
            let outcome =
                lb_core::Outcome { load, ..lb_core::Outcome::new(call.end.code(), now.since(call.picked_at)) };
            caller.picker.done(call.endpoint, now, &outcome);
            if caller.needs.session && call.end == End::Ok {
                self.bind_session(id, call, call.endpoint);
            }
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
