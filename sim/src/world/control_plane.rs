//! The control plane: it learns of pods and pushes the endpoints of each service to those who subscribed (xDS).
//!
//! It learns by a watch of EndpointSlices, or by a loop of DNS look-ups, which see only what DNS publishes and caches. It
//! may ask each pod for its health before it tells anybody. Changes are gathered for a moment (istiod's debounce) and then
//! go out, one message a subscriber, a hop away. While it is away its streams are broken: callers keep what they know, and
//! connect again with back-off; when it is back, it first has to learn everything anew.
//!
//! A subscriber is a channel: each has a stream of its own and names the one service it calls, as gRPC 1.33 did. Newer
//! gRPC shares a stream among the channels of a process, and Envoy has one for everything.

use std::collections::VecDeque;
use std::sync::Arc;

use lb_core::channel::{Input, ResolvedAddress};
use lb_core::{Locality, Nanos};
use reports::record::Learnt;
use scenarios::{Discovery, Strategy};

use super::callers::Caller;
use super::deployments::Role;
use super::names::{ServicePart, Target, set_member};
use super::places::Hop;
use super::pods::Phase;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, stream, unit_below_one};

/// No change waits longer for others. 10 s, istiod `PILOT_DEBOUNCE_MAX`.
const LONGEST_DEBOUNCE: Nanos = Nanos::from_secs(10);

/// What the control plane does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)] // see Event
pub(super) enum Step {
    /// It starts again after an outage.
    Start,
    /// Its list of all EndpointSlices has come.
    Listed,
    /// A loop begins, or it is time for health checks.
    Look,
    /// The loop's queries reach the DNS server.
    Query,
    /// Health checks reach the pods.
    Check,
    /// The answers are there.
    Learn,
    /// No change has come for a while.
    Push,
}

/// The endpoints of one service.
#[derive(Debug, Default)]
struct Served {
    /// By watch or look-up.
    known: Vec<PodId>,
    /// Those of them that callers are told.
    usable: Vec<PodId>,
    /// Deleted, and serving: told to callers that bind sessions. Known by watch only.
    draining: Vec<PodId>,
}

#[derive(Debug)]
struct Subscriber {
    caller: Id<Caller>,
    services: Vec<ServicePart>,
    /// What it was sent last.
    sent: Option<Vec<Listed>>,
}

/// A pod in a subscriber's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listed {
    pod: PodId,
    /// To count its weight by.
    times: u32,
    priority: u32,
    draining: bool,
}

/// A list on its way to a caller.
#[derive(Debug)]
pub(crate) struct Push {
    pub(super) caller: Id<Caller>,
    pub(super) addresses: Vec<ResolvedAddress>,
}

/// The control plane of a strategy; it is idle if nobody subscribes.
pub(super) struct ControlPlane<'s> {
    config: &'s scenarios::ControlPlane,
    in_use: bool,
    services: Vec<Served>,
    subscribers: Vec<Subscriber>,
    /// It has learnt of the services since it started; before it answers nobody.
    informed: bool,
    /// Out until then.
    back_at: Nanos,
    /// Counts its starts: steps begun before the last one lead nowhere.
    life: u32,
    /// What the pods answered to health checks, by service, on its way back.
    answers: VecDeque<Vec<Vec<PodId>>>,
    /// When to push, and when at the latest, if something has changed.
    push: Option<(Nanos, Nanos)>,
}

impl<'s> ControlPlane<'s> {
    pub(super) fn new(scenario: &'s scenarios::Scenario, strategy: &'s Strategy) -> Self {
        Self {
            config: strategy.control_plane.as_ref().unwrap_or(&scenario.control_plane),
            in_use: strategy.uses_control_plane(),
            services: Vec::new(),
            subscribers: Vec::new(),
            informed: true,
            back_at: Nanos::ZERO,
            life: 0,
            answers: VecDeque::new(),
            push: None,
        }
    }
}

impl World<'_> {
    /// At time zero it has long been running: it knows the initial pods.
    pub(super) fn start_control_plane(&mut self) {
        if !self.control_plane.in_use {
            return;
        }
        self.list_slices();
        for service in 0..self.services.len() {
            let known = self.control_plane.services[service].known.clone();
            self.use_endpoints(service, known);
        }
        self.control_plane.push = None;
        // Its loop is somewhere in the middle.
        let period = match self.control_plane.config.discovery {
            Discovery::Poll(every) => every,
            Discovery::Watch if self.control_plane.config.health_check => {
                self.control_plane.config.health_check_interval
            }
            Discovery::Watch => return,
        };
        let part = unit_below_one(&mut stream(self.seed, Purpose::Names, 1));
        self.plan(period.mul_f64(part), Step::Look);
    }

    fn plan(&mut self, wait: Nanos, step: Step) {
        let now = self.now();
        self.queue.at(now + wait, Event::ControlPlane(step, self.control_plane.life));
    }

    /// So many hops to or from the control plane or a DNS server, which are on some other node.
    pub(super) fn hops(&self, n: u64) -> Nanos {
        Nanos(self.places.latency(Hop::SameZone).0 * n)
    }

    pub(super) fn control_plane(&mut self, step: Step, life: u32) {
        if life != self.control_plane.life {
            return;
        }
        let now = self.now();
        let config = self.control_plane.config;
        match step {
            Step::Start => {
                self.configure_all_again();
                match config.discovery {
                    Discovery::Watch => self.plan(self.hops(2), Step::Listed),
                    Discovery::Poll(_) => self.plan(Nanos::ZERO, Step::Look),
                }
            }
            Step::Listed => {
                self.list_slices();
                if config.health_check {
                    self.plan(Nanos::ZERO, Step::Look);
                } else {
                    let known = self.control_plane.services.iter().map(|s| s.known.clone()).collect();
                    self.learn(known);
                }
            }
            Step::Look => match config.discovery {
                Discovery::Poll(_) => self.plan(self.hops(1), Step::Query),
                Discovery::Watch => {
                    self.plan(self.hops(CHECK), Step::Check);
                    self.plan(config.health_check_interval, Step::Look);
                }
            },
            Step::Query => self.query(),
            Step::Check => {
                let fit = |pods: &Vec<PodId>| pods.iter().copied().filter(|pod| self.says_serving(*pod)).collect();
                let answers = self.control_plane.services.iter().map(|s| fit(&s.known)).collect();
                self.control_plane.answers.push_back(answers);
                self.plan(self.hops(1), Step::Learn);
            }
            Step::Learn => {
                let answers = self.control_plane.answers.pop_front().unwrap_or_default();
                self.learn(answers);
                if let Discovery::Poll(every) = config.discovery {
                    self.plan(every, Step::Look);
                }
            }
            Step::Push => {
                if self.control_plane.push.is_some_and(|(at, latest)| at.min(latest) <= now) {
                    self.control_plane.push = None;
                    self.push_to_all();
                }
            }
        }
    }

    /// The loop's look-ups. If DNS does not answer, what is known stays, and the loop goes on.
    fn query(&mut self) {
        let config = self.control_plane.config;
        if self.dns_is_out() {
            let dns = &self.scenario.dns;
            let wait = Nanos(dns.timeout.0.saturating_mul(u64::from(dns.attempts)));
            if let Discovery::Poll(every) = config.discovery {
                self.plan(wait + every, Step::Look);
            }
            return;
        }
        for service in 0..self.services.len() {
            let (mut pods, _) = self.cached_records(service);
            pods.sort_unstable();
            self.control_plane.services[service].known = pods;
        }
        if config.health_check {
            self.plan(self.hops(1 + CHECK), Step::Check);
        } else {
            let known = self.control_plane.services.iter().map(|s| s.known.clone()).collect();
            self.control_plane.answers.push_back(known);
            self.plan(self.hops(1), Step::Learn);
        }
    }

    fn list_slices(&mut self) {
        let served = |s: &super::Service| Served {
            known: s.slice.ready().collect(),
            usable: Vec::new(),
            draining: s.slice.serving_and_terminating().collect(),
        };
        self.control_plane.services = self.services.iter().map(served).collect();
    }

    /// Its watch has news of a pod.
    pub(super) fn observe(&mut self, pod: PodId, life: u32) {
        if life != self.control_plane.life || !self.control_plane.informed {
            return; // the list that it is about to get has it
        }
        let checks = self.control_plane.config.health_check;
        let deployment = self.pods[pod.0 as usize].deployment;
        for service in 0..self.services.len() {
            if !self.services[service].deployments.contains(&deployment) {
                continue;
            }
            let ready = self.services[service].slice.is_ready(pod);
            let served = &mut self.control_plane.services[service];
            set_member(&mut served.known, pod, ready);
            let mut usable = served.usable.clone();
            let stays = ready && (!checks || usable.contains(&pod));
            set_member(&mut usable, pod, stays);
            self.use_endpoints(service, usable);
            let draining = self.services[service].slice.is_draining(pod);
            let before = self.control_plane.services[service].draining.binary_search(&pod).is_ok();
            if self.needs.session && draining != before {
                set_member(&mut self.control_plane.services[service].draining, pod, draining);
                self.push_soon();
            }
        }
        if checks {
            self.plan(self.hops(CHECK), Step::Check);
        }
    }

    /// A watch has something to say of a pod, if there is one.
    pub(super) fn notify_control_plane(&mut self, pod: PodId) {
        let plane = &self.control_plane;
        if plane.in_use && plane.config.discovery == Discovery::Watch && !self.control_plane_is_out() {
            self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::Observe(pod, plane.life));
        }
    }

    /// Whether a health check of the pod ends with SERVING; it passes a mesh's sidecar as every request does.
    fn says_serving(&self, pod: PodId) -> bool {
        let listens = |id: PodId| matches!(self.pods[id.0 as usize].phase, Phase::Running | Phase::Stopping);
        let here = &self.pods[pod.0 as usize];
        listens(pod) && listens(here.entrance) && here.is_serving(self.queue.now())
    }

    fn learn(&mut self, endpoints: Vec<Vec<PodId>>) {
        for (service, mut usable) in endpoints.into_iter().enumerate() {
            // The watch may have taken one away while it was checked.
            let known = &self.control_plane.services[service].known;
            usable.retain(|pod| known.binary_search(pod).is_ok());
            self.use_endpoints(service, usable);
        }
        if !std::mem::replace(&mut self.control_plane.informed, true) {
            self.push_soon();
        }
    }

    /// From now on these are what callers are told of a service.
    fn use_endpoints(&mut self, service: usize, usable: Vec<PodId>) {
        if self.control_plane.services[service].usable == usable {
            return;
        }
        let now = self.now();
        for &pod in &usable {
            if self.learnt_by(pod) == Learnt::ControlPlane {
                self.pods[pod.0 as usize].moments.published.get_or_insert(now);
            }
        }
        self.control_plane.services[service].usable = usable;
        self.push_soon();
    }

    /// Something has changed: what else does in the next moment goes out with it. While the control plane is away nothing
    /// does; it tells everything when it is back.
    pub(super) fn push_soon(&mut self) {
        if self.control_plane_is_out() {
            return;
        }
        let now = self.now();
        let at = now + self.control_plane.config.push_delay;
        let latest = self.control_plane.push.map_or(now + LONGEST_DEBOUNCE, |(_, latest)| latest);
        self.control_plane.push = Some((at, latest));
        self.plan(at.min(latest).since(now), Step::Push);
    }

    pub(super) fn control_plane_settings(&self) -> &scenarios::ControlPlane {
        self.control_plane.config
    }

    pub(super) fn control_plane_is_out(&self) -> bool {
        self.now() < self.control_plane.back_at
    }

    fn push_to_all(&mut self) {
        self.push_configuration();
        for index in 0..self.control_plane.subscribers.len() {
            self.push_to(index);
        }
        let callers = &self.callers;
        self.control_plane.subscribers.retain(|s| callers.get(s.caller).is_some());
    }

    /// Sends a subscriber what has changed for it.
    fn push_to(&mut self, index: usize) {
        if !self.control_plane.informed {
            return;
        }
        let Subscriber { caller, services, sent } = &self.control_plane.subscribers[index];
        let caller = *caller;
        let Some(to) = self.callers.get(caller) else { return };
        let zone_of = |pod: PodId| self.places.zone(self.pods[pod.0 as usize].node);
        let from_zone = zone_of(to.pod);
        let (sessions, failover) = (to.needs.session, self.control_plane.config.locality_failover);
        let mut list = Vec::new();
        for &ServicePart { service, weight: times, priority } in services {
            let Served { usable, draining, .. } = &self.control_plane.services[service];
            let listed = |&pod: &PodId, draining| {
                let farther = u32::from(failover && zone_of(pod) != from_zone);
                Listed { pod, times, priority: priority.saturating_add(farther), draining }
            };
            list.extend(usable.iter().map(|pod| listed(pod, false)));
            list.extend(draining.iter().filter(|_| sessions).map(|pod| listed(pod, true)));
        }
        if sent.as_ref() == Some(&list) || self.withholds(caller) {
            return;
        }
        let resolved = |l: &Listed| ResolvedAddress {
            priority: l.priority,
            draining: l.draining,
            locality: Some(self.localities[zone_of(l.pod) as usize].clone()),
            ..self.resolved_with_weight(l.pod, l.times)
        };
        let addresses = list.iter().map(resolved).collect();
        self.send_addresses(caller, addresses, Hop::SameZone);
        self.control_plane.subscribers[index].sent = Some(list);
    }

    /// Sends a caller its list.
    pub(super) fn send_addresses(&mut self, caller: Id<Caller>, addresses: Vec<ResolvedAddress>, hop: Hop) {
        let push = self.pushes.insert(Push { caller, addresses });
        self.queue.after(self.lanes.hops[hop as usize], Event::Pushed(push));
    }

    /// go-control-plane's rule: a request that names fewer resources than there are gets no answer at all.
    fn withholds(&self, caller: Id<Caller>) -> bool {
        let is_client = |caller: &Caller| self.pods[caller.pod.0 as usize].role == Role::Client;
        let by_name = self.callers.get(caller).is_some_and(is_client);
        self.control_plane.config.withhold_until_all_named && by_name && self.scenario.called().len() > 1
    }

    /// A channel wants to be told its service's endpoints.
    ///
    /// The connection takes two round trips; then a gRPC client asks for its listener, the routes, the cluster and the
    /// endpoints, each named by the one before (gRFC A27): four round trips, the last answer a hop from here.
    pub(super) fn subscribe(&mut self, id: Id<Caller>) {
        let now = self.now();
        if self.callers.get(id).is_some_and(|caller| caller.asks_balancer) {
            return self.ask_balancer(id);
        }
        if self.control_plane_is_out() {
            self.queue.at(now + self.hops(2), Event::StreamBroken(id)); // nobody listens
        } else {
            self.queue.at(now + self.hops(4 + 7), Event::Subscribed(id));
        }
    }

    pub(super) fn subscribed(&mut self, id: Id<Caller>) {
        let Some(services) = self.callers.get(id).and_then(|caller| self.services_of(caller.name)) else { return };
        if self.control_plane_is_out() {
            self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::StreamBroken(id));
            return;
        }
        self.control_plane.subscribers.push(Subscriber { caller: id, services, sent: None });
        self.push_to(self.control_plane.subscribers.len() - 1);
    }

    /// A list arrives.
    pub(super) fn pushed(&mut self, id: Id<Push>) {
        let Some(Push { caller, addresses }) = self.pushes.remove(id) else { return };
        if self.callers.get(caller).is_some() {
            self.address_learnt(&addresses);
            self.tell(caller, Input::Pushed(addresses));
        }
    }

    pub(super) fn stream_broken(&mut self, id: Id<Caller>) {
        self.tell(id, Input::StreamBroken);
    }

    /// The control plane is gone: its streams break, and what it knew is lost.
    pub(super) fn control_plane_outage(&mut self, lasts: Nanos) {
        let now = self.now();
        let plane = &mut self.control_plane;
        plane.back_at = plane.back_at.max(now + lasts);
        plane.life += 1;
        plane.informed = false;
        plane.push = None;
        plane.answers.clear();
        plane.services.iter_mut().for_each(|served| *served = Served::default());
        for subscriber in std::mem::take(&mut plane.subscribers) {
            self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::StreamBroken(subscriber.caller));
        }
        if self.control_plane.in_use {
            self.plan(self.control_plane.back_at.since(now), Step::Start);
        }
    }

    /// Somebody got these addresses.
    pub(super) fn address_learnt(&mut self, addresses: &[ResolvedAddress]) {
        let now = self.queue.now();
        for resolved in addresses {
            if let Some(Target::Pod(pod)) = self.by_address.get(&resolved.address) {
                let pod = *pod;
                self.pods[pod.0 as usize].moments.resolved.get_or_insert(now);
                // Who falls back to DNS may learn of a pod before the balancer lists it.
                if self.learnt_by(pod) == Learnt::Balancer {
                    self.pods[pod.0 as usize].moments.published.get_or_insert(now);
                }
            }
        }
    }
}

/// The zones as a strategy's control plane tells of them.
pub(super) fn localities(scenario: &scenarios::Scenario, strategy: &Strategy) -> Vec<Arc<Locality>> {
    let config = strategy.control_plane.as_ref().unwrap_or(&scenario.control_plane);
    let locality = |zone: u32| {
        let name = scenarios::zone_name(zone);
        let weight = config.locality_weights.get(&name).copied().unwrap_or(1);
        Arc::new(Locality { zone: name.into(), weight })
    };
    (0..scenario.cluster.zones).map(locality).collect()
}

/// Hops until a health check reaches its pod: a connection of its own (two round trips), then the check itself.
const CHECK: u64 = 5;
