//! Client applications: they send requests and wait for answers.

use std::collections::BTreeMap;

use lb_core::{Address, Nanos};
use scenarios::{Arrivals, Balancer, ConnectionUse, Load, ReachedBy};

use super::callers::{Caller, Name};
use super::calls::{Call, End};
use super::deployments::Role;
use super::recorder::Ended;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, Stream, Work, exp1, stream};

/// Index of a client; clients are never removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientId(u32);

impl ClientId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The part of the application in a client pod that makes one load's requests.
#[derive(Debug)]
pub(crate) struct Client {
    pub(super) pod: PodId,
    /// Which of the scenario's loads.
    pub(super) load: u32,
    /// The service it calls.
    pub(super) to: usize,
    /// The channel it shares with others of its pod, unless it makes one per request.
    caller: Id<Caller>,
    /// Requests of the present batch that have not ended (closed loop).
    outstanding: u32,
    workload: Stream,
    pub(super) stopped: bool,
    /// Cookies of balancers that bind sessions: the endpoint of each key.
    pub(super) sessions: BTreeMap<u32, Address>,
}

impl<'s> World<'s> {
    /// The application in a client pod starts: a client for each load.
    pub(super) fn start_clients(&mut self, pod: PodId) {
        if self.strategy.balancer == Balancer::Client {
            self.start_routing(pod);
        }
        let deployment = &self.deployments[self.pods[pod.0 as usize].deployment].spec.name;
        for (load, spec) in self.scenario.loads.iter().enumerate().filter(|(_, load)| load.from == *deployment) {
            let id = ClientId(self.clients.len() as u32);
            let to = self.service(&spec.to);
            let shared = spec.connection == ConnectionUse::Shared && self.pods[pod.0 as usize].routing.is_none();
            let caller = if shared { self.channel_to(pod, to) } else { Id::NONE };
            self.clients.push(Client {
                pod,
                load: load as u32,
                to,
                caller,
                outstanding: 0,
                workload: stream(self.seed, Purpose::Workload, u64::from(id.0)),
                stopped: false,
                sessions: BTreeMap::new(),
            });
            let first = if spec.open.is_some() { self.gap(id) } else { Nanos::ZERO };
            let now = self.now();
            self.queue.at(now + first, Event::Issue(id));
        }
    }

    pub(super) fn client(&self, id: ClientId) -> &Client {
        &self.clients[id.0 as usize]
    }

    pub(super) fn client_mut(&mut self, id: ClientId) -> &mut Client {
        &mut self.clients[id.0 as usize]
    }

    /// The load whose requests a client makes.
    fn load_of(&self, id: ClientId) -> &'s Load {
        &self.scenario.loads[self.client(id).load as usize]
    }

    /// What the application calls, by where the strategy has the choice made.
    fn client_target(&self, pod: PodId, service: usize) -> Name {
        let proxy = || self.deployments.iter().find(|d| d.role == Role::Proxy).expect("checked: a proxy exists");
        match self.strategy.balancer {
            Balancer::KubeProxy => Name::ClusterIp(service),
            Balancer::Client => Name::Headless(service),
            Balancer::Ingress => {
                let proxies = self.service(&proxy().spec.name);
                match self.strategy.proxy.as_ref().map(|p| p.reached_by) {
                    Some(ReachedBy::ClusterIp) => Name::ClusterIp(proxies),
                    _ => Name::Headless(proxies),
                }
            }
            Balancer::Sidecar | Balancer::Mesh | Balancer::NodeProxy => {
                let here = &self.pods[pod.0 as usize];
                let local = proxy().pods.iter().copied().find(|p| {
                    let other = &self.pods[p.0 as usize];
                    match self.strategy.balancer {
                        Balancer::NodeProxy => other.node == here.node,
                        _ => other.host == pod,
                    }
                });
                Name::Fixed(local.expect("a proxy is always made with the pod or the node it serves"))
            }
        }
    }

    /// The channel of a client's pod to what it calls for a service, made if it is the first.
    fn channel_to(&mut self, pod: PodId, service: usize) -> Id<Caller> {
        let name = self.client_target(pod, service);
        let known = self.pods[pod.0 as usize].channels.iter().copied();
        let of_name = |id: &Id<Caller>| self.callers.get(*id).is_some_and(|c| c.name == name);
        if let Some(caller) = known.map(|(_, caller)| caller).find(of_name) {
            return caller;
        }
        let caller = self.new_caller(pod, name, &self.strategy.client);
        self.pods[pod.0 as usize].channels.push((service, caller));
        self.start_caller(caller);
        caller
    }

    /// Time to an open loop's next request.
    fn gap(&mut self, id: ClientId) -> Nanos {
        let Some(open) = &self.load_of(id).open else { return Nanos::ZERO };
        let mean = 1.0 / open.rate.per_s();
        Nanos::from_secs_f64(match open.arrivals {
            Arrivals::Poisson => mean * exp1(&mut self.clients[id.0 as usize].workload),
            Arrivals::Constant => mean,
        })
    }

    /// A client sends its next batch, or an open loop's next request has come.
    #[inline]
    pub(super) fn issue(&mut self, id: ClientId) {
        if self.client(id).stopped {
            return;
        }
        if let Some(closed) = &self.load_of(id).closed {
            self.clients[id.0 as usize].outstanding = closed.concurrency;
            for _ in 0..closed.concurrency {
                self.issue_one(id);
            }
        } else {
            self.issue_one(id);
            let gap = self.gap(id);
            let now = self.queue.now();
            self.queue.at(now + gap, Event::Issue(id));
        }
    }

    #[inline]
    fn issue_one(&mut self, id: ClientId) {
        let client = &mut self.clients[id.0 as usize];
        let work = Work::draw(&mut client.workload);
        let (pod, load, to, caller) = (client.pod, client.load, client.to, client.caller);
        let now = self.queue.now();
        let pod_of_client = &mut self.pods[pod.0 as usize];
        pod_of_client.count(load, now, self.recorder.counts(now));
        if pod_of_client.routing.is_some() {
            return self.new_routed_call(id, work);
        }
        if !caller.is_none() {
            return self.new_call(id, caller, work);
        }
        let name = self.client_target(pod, to);
        let caller = self.new_caller(pod, name, &self.strategy.client);
        self.start_caller(caller);
        self.new_call(id, caller, work);
    }

    /// A client's request has ended.
    #[inline]
    pub(super) fn client_call_ended(&mut self, call: &Call, end: End) {
        let now = self.queue.now();
        let Call { issued, hops, reached, .. } = *call;
        let Client { pod, load, caller, .. } = *self.client(call.client);
        self.recorder.ended(end, Ended { load, issued, latency: now.since(issued), hops, reached });
        if end == End::Ok && self.recorder.counts(issued) {
            self.pods[pod.0 as usize].ok += 1;
        }
        if caller.is_none() {
            self.close_caller(call.caller); // it was made for this request
        }
        if let Some(closed) = &self.load_of(call.client).closed {
            let client = &mut self.clients[call.client.0 as usize];
            client.outstanding -= 1;
            if client.outstanding == 0 {
                self.queue.at(now + closed.pause, Event::Issue(call.client));
            }
        }
    }

    /// The client's pod is gone.
    pub(super) fn stop_clients(&mut self, pod: PodId) {
        let mut any = false;
        for client in self.clients.iter_mut().filter(|c| c.pod == pod && !c.stopped) {
            client.stopped = true;
            any = true;
        }
        if any {
            let of_pod = self.callers.iter().filter(|(_, c)| c.pod == pod).map(|(id, _)| id);
            for caller in of_pod.collect::<Vec<Id<Caller>>>() {
                self.drop_caller(caller);
            }
            // What passes routes between two attempts has no caller.
            let without = |c: &Call| c.caller.is_none() && self.clients[c.client.index()].pod == pod;
            let orphans = self.calls.iter().filter(|(_, c)| without(c)).map(|(id, _)| id);
            for call in orphans.collect::<Vec<Id<Call>>>() {
                self.give_up(call, End::Cancelled);
            }
        }
    }
}
