//! The channel: endpoints, their connections, and the policy above them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

use super::backoff::Backoff;
use super::resolver::{Resolution, ResolvedAddress, Resolver};
use super::subscription::{Fallback, Subscription};
use super::{BackoffConfig, ChannelConfig, ResolverConfig};
use crate::policy::{Wanted, fixed};
use crate::{
    Address, Connectivity, Context, EndpointId, EndpointSet, LoadReport, Local, Nanos, Picker, Policy, PolicyConfig,
    Status,
};

/// One attempt to connect to one endpoint, and the connection that came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Whose connection.
    pub endpoint: EndpointId,
    /// Counts the attempts of this endpoint, so that news of an old connection is not taken for the present one's.
    pub attempt: u32,
}

/// What the host tells the channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The look-up asked for was answered. No addresses count as a failure that also empties the channel.
    Resolved(Resolution),
    /// The look-up asked for failed; what was known stays in use.
    ResolveFailed,
    /// Whoever was subscribed to has sent its whole list. An address that comes n times has n times the weight.
    Pushed(Vec<ResolvedAddress>),
    /// The stream of a subscription has broken, or could not be opened; what was known stays in use.
    StreamBroken,
    /// The endpoint's health as its connection's health stream says it. Heard only if the channel checks health.
    Health(ConnectionId, bool),
    /// The connection is ready for requests.
    Connected(ConnectionId),
    /// The attempt failed: refused, unreachable, reset during the handshake.
    ConnectFailed(ConnectionId),
    /// The server wants no more requests on this connection. The host lets those in flight finish, then reports
    /// [`Input::Disconnected`].
    GoAway(ConnectionId),
    /// The connection is gone, whoever closed it. Comes once for every connection that was connected, after the
    /// requests on it were reported done.
    Disconnected(ConnectionId),
    /// An endpoint's report of its load, apart from any response ([`Channel::oob_reporting_period`]).
    LoadReport(ConnectionId, LoadReport),
    /// Who this client is among its peers. Until it is told, the channel takes itself to be alone.
    Local(Local),
    /// A request waits, because the picker said [`Pick::Queue`](crate::Pick::Queue), or a pick asked for this
    /// ([`Asks::exit_idle`](crate::Asks::exit_idle)).
    Waiting,
    /// The time of [`Channel::next_wake`] has come.
    Timer,
}

/// What the channel asks of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Look the name up; answer with [`Input::Resolved`] or [`Input::ResolveFailed`], always.
    Resolve,
    /// Open the stream to the control plane or to the lookaside balancer; give each of its lists to the channel with
    /// [`Input::Pushed`], and [`Input::StreamBroken`] when the stream ends or does not come about.
    Subscribe,
    /// Connect; answer with [`Input::Connected`] or [`Input::ConnectFailed`], unless told to close first.
    Connect {
        /// Name of the attempt and of the connection.
        connection: ConnectionId,
        /// Where to.
        address: Address,
    },
    /// Give the attempt up, or close the connection once its requests have ended. [`Input::Disconnected`] follows in
    /// both cases.
    Close(ConnectionId),
}

/// A connection's state as the channel keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// No connection; free to connect from this time on (the end of a back-off).
    Down { retry_at: Nanos },
    /// An attempt runs; it is given up at `deadline`, and after a failure the next starts no sooner than `retry_at`.
    Connecting { deadline: Nanos, retry_at: Nanos },
    /// Requests can be sent.
    Ready,
}

#[derive(Debug)]
struct Slot {
    address: Address,
    /// In the resolver's last answer.
    listed: bool,
    link: Link,
    attempt: u32,
    /// Attempts and connections the host has not reported the end of, the draining ones included.
    open: u32,
    backoff: Backoff,
}

/// The client's side of a gRPC channel: one name, its endpoints, one connection to each that the policy wants.
///
/// Feed it with [`handle`](Self::handle), then carry out everything [`poll`](Self::poll) gives, then call it again
/// no later than [`next_wake`](Self::next_wake).
pub struct Channel {
    policy: Box<dyn Policy>,
    resolver: Resolver,
    /// To a control plane or a balancer.
    subscription: Option<Subscription>,
    /// grpclb's way out.
    fallback: Option<Fallback>,
    health_check: bool,
    backoff: BackoffConfig,
    connect_timeout: Nanos,
    slots: Vec<Slot>,
    /// Listed addresses and those that still drain.
    by_address: BTreeMap<Address, EndpointId>,
    free: Vec<EndpointId>,
    /// Deadlines of attempts and ends of back-offs; entries that no longer apply are skipped.
    timers: BinaryHeap<Reverse<(Nanos, u32)>>,
    policy_wake: Nanos,
    /// What the policy wanted last, if that was not everything.
    choosy: Option<Choice>,
    /// Endpoints that have become free to connect since the last input.
    free_to_connect: Vec<EndpointId>,
    /// The last list, as the policy got it.
    endpoints: EndpointSet,
    local: Arc<Local>,
    /// Whether the policy has a use for endpoints that drain.
    keeps_draining: bool,
    names: Names,
    outputs: VecDeque<Output>,
}

/// Some of the endpoints.
#[derive(Debug)]
struct Choice {
    /// As the policy said it, to see whether it says the same again.
    wanted: Vec<EndpointId>,
    sorted: Vec<EndpointId>,
}

impl Choice {
    fn of(wanted: &[EndpointId]) -> Self {
        let mut sorted = wanted.to_vec();
        sorted.sort_unstable();
        Self { wanted: wanted.to_vec(), sorted }
    }

    fn contains(&self, endpoint: EndpointId) -> bool {
        self.sorted.binary_search(&endpoint).is_ok()
    }
}

/// What the channel knows of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Names {
    /// Not answered yet: requests wait.
    Pending,
    /// Never answered, and the last look-up failed.
    Failed,
    /// Answered: the policy decides.
    Known,
}

impl Channel {
    /// A channel that has not looked anything up yet.
    pub fn new(config: &ChannelConfig) -> Self {
        let (patience, fallback) = match &config.resolver {
            ResolverConfig::Xds(xds) => (Some(xds.init_fetch_timeout), None),
            ResolverConfig::Grpclb(lb) => (Some(lb.fallback_timeout), Some(Fallback::default())),
            ResolverConfig::Dns(_) | ResolverConfig::StrictDns(_) => (None, None),
        };
        Self {
            policy: config.policy.build(),
            resolver: Resolver::new(&config.resolver),
            subscription: patience.map(Subscription::new),
            fallback,
            // gRFC A17: "pick_first does not support health checking".
            health_check: config.health_check && !matches!(config.policy, PolicyConfig::PickFirst(_)),
            backoff: config.backoff.clone(),
            connect_timeout: config.connect_timeout,
            slots: Vec::new(),
            by_address: BTreeMap::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            policy_wake: Nanos::NEVER,
            choosy: None,
            free_to_connect: Vec::new(),
            endpoints: EndpointSet::default(),
            local: Arc::default(),
            keeps_draining: config.policy.needs().session,
            names: Names::Pending,
            outputs: VecDeque::new(),
        }
    }

    /// Leaves idle: looks the name up, or subscribes.
    pub fn start(&mut self, cx: &mut Context<'_>) {
        self.resolver.start(cx.now);
        if let Some(subscription) = &mut self.subscription {
            subscription.start(cx.now);
        }
        self.look_up(cx.now);
        self.settle_subscription(cx);
    }

    /// Takes in what happened.
    pub fn handle(&mut self, cx: &mut Context<'_>, input: Input) {
        match input {
            Input::Resolved(resolution) => self.resolved(cx, resolution),
            Input::ResolveFailed => self.resolve_failed(cx),
            Input::Pushed(addresses) => self.pushed(cx, addresses),
            Input::StreamBroken => self.stream_broken(cx),
            Input::Health(c, serving) => self.health(cx, c, serving),
            Input::Connected(c) => self.connected(cx, c),
            Input::ConnectFailed(c) => self.connect_failed(cx, c),
            Input::GoAway(c) => self.lost(cx, c),
            Input::Disconnected(c) => {
                self.lost(cx, c);
                self.ended(c.endpoint);
            }
            Input::LoadReport(c, report) => {
                if self.current(c).is_some() {
                    self.policy.load_report(cx, c.endpoint, &report);
                }
            }
            Input::Local(local) => self.seen_by(cx, local),
            Input::Waiting => self.policy.exit_idle(cx),
            Input::Timer => self.timer(cx),
        }
        self.settle(cx);
    }

    /// The next thing to carry out.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to send [`Input::Timer`]; [`Nanos::NEVER`] if nothing is planned.
    pub fn next_wake(&mut self) -> Nanos {
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if self.slots[index as usize].timer() == Some(at) {
                break;
            }
            self.timers.pop();
        }
        let slots = self.timers.peek().map_or(Nanos::NEVER, |&Reverse((at, _))| at);
        let pushed = self.subscription.as_ref().map_or(Nanos::NEVER, Subscription::wake);
        slots.min(self.policy_wake).min(self.resolver.wake()).min(pushed)
    }

    /// The picker for the present state. Cheap when nothing has changed; not meant for the pick path, which keeps
    /// the last one until the channel has handled something.
    pub fn picker(&mut self, cx: &mut Context<'_>) -> Arc<dyn Picker> {
        match self.names {
            Names::Pending => fixed::queue(),
            Names::Failed => fixed::fail(Status::unavailable("name resolution failed and no address is known")),
            Names::Known => self.policy.picker(cx),
        }
    }

    /// How often the host is to ask every connected endpoint for its load and to tell [`Input::LoadReport`]; never if none.
    pub fn oob_reporting_period(&self) -> Option<Nanos> {
        self.policy.oob_reporting_period()
    }

    /// The endpoint's address, as long as it is listed or has connections that drain.
    pub fn address(&self, endpoint: EndpointId) -> Option<&Address> {
        let slot = self.slots.get(endpoint.index())?;
        (slot.listed || slot.open > 0).then_some(&slot.address)
    }

    fn resolved(&mut self, cx: &mut Context<'_>, resolution: Resolution) {
        if resolution.addresses.is_empty() {
            self.resolver.failed(cx, &self.backoff);
        } else {
            self.resolver.answered(cx.now, resolution.ttl);
        }
        if let Some(fallback) = &mut self.fallback {
            fallback.failed = false;
            fallback.addresses = Some(resolution.addresses.clone());
            if !fallback.active {
                return; // known in case the balancer is lost
            }
        }
        self.use_addresses(cx, resolution.addresses);
    }

    /// A list from whoever was subscribed to; the end of a fallback.
    fn pushed(&mut self, cx: &mut Context<'_>, addresses: Vec<ResolvedAddress>) {
        let Some(subscription) = &mut self.subscription else { return };
        subscription.answered();
        if let Some(fallback) = &mut self.fallback {
            fallback.active = false;
            fallback.listed = true;
        }
        let mut weights: BTreeMap<Address, u32> = BTreeMap::new();
        for resolved in &addresses {
            let weight = weights.entry(resolved.address.clone()).or_default();
            *weight = weight.saturating_add(resolved.weight.max(1));
        }
        let with_sums = |r: ResolvedAddress| ResolvedAddress { weight: weights[&r.address], ..r };
        self.use_addresses(cx, addresses.into_iter().map(with_sums).collect());
    }

    fn stream_broken(&mut self, cx: &mut Context<'_>) {
        let Some(subscription) = &mut self.subscription else { return };
        subscription.broken(cx, &self.backoff);
        // Without a resource in hand, gRPC's XdsClient fails its watchers at once. grpclb waits for its fallback.
        if self.names == Names::Pending && self.fallback.is_none() {
            self.names = Names::Failed;
        }
    }

    /// Goes on with the addresses that DNS knows, if there are any.
    fn fall_back(&mut self, cx: &mut Context<'_>) {
        let Some(fallback) = &mut self.fallback else { return };
        fallback.active = true;
        match fallback.addresses.clone() {
            Some(addresses) => self.use_addresses(cx, addresses),
            None if fallback.failed && self.names == Names::Pending => self.names = Names::Failed,
            None => {} // the look-up's end will tell
        }
    }

    /// After every input: whether the first answer is overdue, and whether balancer and backends are both lost.
    fn settle_subscription(&mut self, cx: &mut Context<'_>) {
        let Some(subscription) = &mut self.subscription else { return };
        if subscription.poll(cx.now) {
            self.outputs.push_back(Output::Subscribe);
        }
        let (overdue, up) = (subscription.take_expired(cx.now), subscription.is_up());
        match &self.fallback {
            None if overdue && self.names == Names::Pending => self.names = Names::Failed,
            Some(fallback) if !fallback.active => {
                let any_ready = || self.slots.iter().any(|s| s.listed && s.link == Link::Ready);
                if overdue || fallback.listed && !up && !any_ready() {
                    self.fall_back(cx);
                }
            }
            _ => {}
        }
    }

    /// A whole list of addresses: those that are new get endpoints, those that are gone are closed.
    fn use_addresses(&mut self, cx: &mut Context<'_>, addresses: Vec<ResolvedAddress>) {
        self.names = Names::Known;

        let mut before = std::mem::take(&mut self.by_address);
        let mut endpoints = Vec::with_capacity(addresses.len());
        for resolved in addresses {
            if self.by_address.contains_key(&resolved.address) {
                continue; // an answer may repeat an address; once is enough
            }
            if resolved.draining && !self.keeps_draining {
                continue;
            }
            let id = before.remove(&resolved.address).unwrap_or_else(|| self.new_slot(&resolved.address));
            self.slots[id.index()].listed = true;
            self.by_address.insert(resolved.address.clone(), id);
            endpoints.push(resolved.endpoint(id));
        }
        for (address, id) in before {
            if std::mem::take(&mut self.slots[id.index()].listed) {
                self.close(id);
            }
            if self.slots[id.index()].open > 0 {
                self.by_address.insert(address, id); // keeps its id until the last connection has drained
            } else {
                self.free.push(id);
            }
        }
        self.endpoints = EndpointSet::new(endpoints).with_local(self.local.clone());
        self.policy.update(cx, &self.endpoints);
        // Those that stay stay connected; what is new has to be.
        if self.policy.wanted() == Wanted::All {
            for e in &self.endpoints.clone() {
                self.connect(cx, e.id);
            }
        } else {
            self.free_to_connect.extend(self.endpoints.iter().map(|e| e.id));
        }
    }

    /// The policy learns that it is another's, or that there are more or fewer of its kind.
    fn seen_by(&mut self, cx: &mut Context<'_>, local: Local) {
        if *self.local == local {
            return;
        }
        self.local = Arc::new(local);
        if self.names == Names::Known {
            self.endpoints = self.endpoints.clone().with_local(self.local.clone());
            self.policy.update(cx, &self.endpoints);
        }
    }

    fn resolve_failed(&mut self, cx: &mut Context<'_>) {
        self.resolver.failed(cx, &self.backoff);
        let in_use = match &mut self.fallback {
            Some(fallback) => {
                fallback.failed = true;
                fallback.active
            }
            None => true,
        };
        if in_use && self.names == Names::Pending {
            self.names = Names::Failed;
        }
    }

    fn connected(&mut self, cx: &mut Context<'_>, c: ConnectionId) {
        let Some(slot) = self.current(c) else { return };
        if !matches!(slot.link, Link::Connecting { .. }) {
            return;
        }
        slot.link = Link::Ready;
        slot.backoff.reset();
        // With health checking it stays CONNECTING until the health stream's first answer.
        if !self.health_check {
            self.policy.connectivity(cx, c.endpoint, Connectivity::Ready);
        }
    }

    /// The health of a connected endpoint (gRFC A17).
    fn health(&mut self, cx: &mut Context<'_>, c: ConnectionId, serving: bool) {
        let checks = self.health_check;
        if self.current(c).is_some_and(|slot| checks && slot.link == Link::Ready) {
            let state = if serving { Connectivity::Ready } else { Connectivity::Unhealthy };
            self.policy.connectivity(cx, c.endpoint, state);
        }
    }

    fn connect_failed(&mut self, cx: &mut Context<'_>, c: ConnectionId) {
        if let Some(slot) = self.current(c)
            && let Link::Connecting { retry_at, .. } = slot.link
        {
            self.down_after_failure(cx, c.endpoint, retry_at);
        }
        self.ended(c.endpoint);
    }

    fn down_after_failure(&mut self, cx: &mut Context<'_>, endpoint: EndpointId, retry_at: Nanos) {
        self.slots[endpoint.index()].link = Link::Down { retry_at };
        self.timers.push(Reverse((retry_at, endpoint.0)));
        self.resolver.request(cx.now);
        self.policy.connectivity(cx, endpoint, Connectivity::TransientFailure);
    }

    /// The present connection takes no more requests (GOAWAY, reset, closed): gRPC looks the name up again, and a
    /// policy that wants every endpoint connects again at once.
    fn lost(&mut self, cx: &mut Context<'_>, c: ConnectionId) {
        let Some(slot) = self.current(c) else { return };
        if slot.link != Link::Ready {
            return;
        }
        slot.link = Link::Down { retry_at: cx.now };
        self.resolver.request(cx.now);
        self.policy.connectivity(cx, c.endpoint, Connectivity::Idle);
        self.connect_again(cx, c.endpoint);
    }

    /// The endpoint is free to connect: at once if everything is wanted, else when the policy has said what it wants now.
    fn connect_again(&mut self, cx: &mut Context<'_>, endpoint: EndpointId) {
        match self.policy.wanted() {
            Wanted::All => self.connect(cx, endpoint),
            Wanted::Only(_) => self.free_to_connect.push(endpoint),
        }
    }

    /// The host has let go of an attempt or a connection.
    fn ended(&mut self, endpoint: EndpointId) {
        let Some(slot) = self.slots.get_mut(endpoint.index()) else { return };
        slot.open = slot.open.saturating_sub(1);
        if slot.open == 0 && !slot.listed && self.by_address.remove(&slot.address).is_some() {
            self.free.push(endpoint);
        }
    }

    fn timer(&mut self, cx: &mut Context<'_>) {
        while let Some(&Reverse((at, index))) = self.timers.peek() {
            if at > cx.now {
                break;
            }
            self.timers.pop();
            let endpoint = EndpointId(index);
            let slot = &self.slots[endpoint.index()];
            match slot.link {
                Link::Connecting { deadline, retry_at } if deadline == at => {
                    self.outputs.push_back(Output::Close(ConnectionId { endpoint, attempt: slot.attempt }));
                    self.down_after_failure(cx, endpoint, retry_at);
                }
                Link::Down { retry_at } if retry_at == at && slot.listed => match self.policy.wanted() {
                    Wanted::All => self.connect(cx, endpoint),
                    Wanted::Only(_) => {
                        self.policy.connectivity(cx, endpoint, Connectivity::Idle);
                        self.free_to_connect.push(endpoint);
                    }
                },
                _ => {}
            }
        }
        if self.policy_wake <= cx.now {
            self.policy_wake = Nanos::NEVER;
        }
    }

    /// After every input: what the policy wants now, its timer, and the resolver's.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.policy_wake = self.policy.tick(cx).unwrap_or(Nanos::NEVER);
        self.reconcile(cx);
        if self.policy.take_resolve_request() {
            self.resolver.request(cx.now);
        }
        self.look_up(cx.now);
        self.settle_subscription(cx);
    }

    /// Connects what a choosy policy wants and closes the rest. While a policy wants the same, endpoints are served one by
    /// one as things happen.
    fn reconcile(&mut self, cx: &mut Context<'_>) {
        let free = std::mem::take(&mut self.free_to_connect);
        match self.policy.wanted() {
            Wanted::All => {
                if self.choosy.take().is_some() {
                    for id in self.listed() {
                        self.connect(cx, id);
                    }
                }
            }
            Wanted::Only(wanted) => match &self.choosy {
                Some(choice) if choice.wanted == wanted => {
                    for id in free {
                        if self.choosy.as_ref().is_some_and(|choice| choice.contains(id)) {
                            self.connect(cx, id);
                        }
                    }
                }
                _ => {
                    let choice = Choice::of(wanted);
                    for id in self.listed().into_iter().filter(|id| !choice.contains(*id)) {
                        self.close(id);
                    }
                    for &id in &choice.sorted {
                        self.connect(cx, id);
                    }
                    self.choosy = Some(choice);
                }
            },
        }
    }

    fn listed(&self) -> Vec<EndpointId> {
        let listed = |id: &EndpointId| self.slots[id.index()].listed;
        self.by_address.values().copied().filter(listed).collect()
    }

    /// Starts an attempt, if the endpoint is down and its back-off is over.
    fn connect(&mut self, cx: &mut Context<'_>, endpoint: EndpointId) {
        let Some(slot) = self.slots.get_mut(endpoint.index()) else { return };
        if !slot.listed || !matches!(slot.link, Link::Down { retry_at } if retry_at <= cx.now) {
            return;
        }
        slot.attempt = slot.attempt.wrapping_add(1);
        slot.open += 1;
        let deadline = cx.now + self.connect_timeout;
        slot.link = Link::Connecting { deadline, retry_at: cx.now + slot.backoff.pause(cx, &self.backoff) };
        self.timers.push(Reverse((deadline, endpoint.0)));
        let connection = ConnectionId { endpoint, attempt: slot.attempt };
        self.outputs.push_back(Output::Connect { connection, address: slot.address.clone() });
        self.policy.connectivity(cx, endpoint, Connectivity::Connecting);
    }

    /// Closes what the endpoint has, attempt or connection.
    fn close(&mut self, endpoint: EndpointId) {
        let slot = &mut self.slots[endpoint.index()];
        if !matches!(slot.link, Link::Down { .. }) {
            slot.link = Link::Down { retry_at: Nanos::ZERO };
            slot.backoff.reset();
            self.outputs.push_back(Output::Close(ConnectionId { endpoint, attempt: slot.attempt }));
        }
    }

    fn look_up(&mut self, now: Nanos) {
        if self.resolver.poll(now) {
            self.outputs.push_back(Output::Resolve);
        }
    }

    fn current(&mut self, c: ConnectionId) -> Option<&mut Slot> {
        self.slots.get_mut(c.endpoint.index()).filter(|slot| slot.attempt == c.attempt)
    }

    fn new_slot(&mut self, address: &Address) -> EndpointId {
        let slot = Slot {
            address: address.clone(),
            listed: true,
            link: Link::Down { retry_at: Nanos::ZERO },
            attempt: 0,
            open: 0,
            backoff: Backoff::default(),
        };
        match self.free.pop() {
            Some(id) => {
                // Attempts go on counting, so that late news of the former endpoint is not taken for the new one's.
                let attempt = self.slots[id.index()].attempt;
                self.slots[id.index()] = Slot { attempt, ..slot };
                id
            }
            None => {
                let id = EndpointId(u32::try_from(self.slots.len()).expect("fewer than 2^32 endpoints"));
                self.slots.push(slot);
                id
            }
        }
    }
}

impl Slot {
    /// The time this slot waits for, if any: its timer entries for other times are stale.
    fn timer(&self) -> Option<Nanos> {
        match self.link {
            Link::Connecting { deadline, .. } => Some(deadline),
            Link::Down { retry_at } if self.listed && retry_at > Nanos::ZERO => Some(retry_at),
            _ => None,
        }
    }
}
