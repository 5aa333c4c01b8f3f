//! Client applications: they send requests and wait for answers.

use lb_core::Nanos;
use lb_core::channel::ChannelConfig;
use scenarios::{Arrivals, Balancer, ConnectionUse};

use super::callers::{Caller, Name};
use super::calls::End;
use super::deployments::Role;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, Stream, Work, exp1, stream};

/// The application in a client pod.
#[derive(Debug)]
pub(crate) struct Client {
    pod: PodId,
    name: Name,
    /// Its channel, unless it makes one per request.
    caller: Id<Caller>,
    /// Requests of the present batch that have not ended (closed loop).
    outstanding: u32,
    workload: Stream,
    pub(super) stopped: bool,
}

impl World<'_> {
    /// The application in a client pod starts.
    pub(super) fn start_client(&mut self, pod: PodId) {
        let index = self.clients.len() as u32;
        let name = self.client_target(pod);
        self.clients.push(Client {
            pod,
            name,
            caller: Id::NONE,
            outstanding: 0,
            workload: stream(self.seed, Purpose::Workload, u64::from(index)),
            stopped: false,
        });
        if self.scenario.load.connection == ConnectionUse::Shared {
            let caller = self.new_caller(pod, Some(index), name, &self.strategy.client);
            self.clients[index as usize].caller = caller;
            self.start_caller(caller);
        }
        let first = if self.scenario.load.open.is_some() { self.gap(index) } else { Nanos::ZERO };
        let now = self.now();
        self.queue.at(now + first, Event::Issue(index));
    }

    /// What the application calls, by where the strategy has the choice made.
    fn client_target(&self, pod: PodId) -> Name {
        let to = &self.scenario.load.to;
        let proxy = || self.deployments.iter().find(|d| d.role == Role::Proxy).expect("checked: a proxy exists");
        match self.strategy.balancer {
            Balancer::KubeProxy => Name::ClusterIp(self.service(to)),
            Balancer::Client => Name::Headless(self.service(to)),
            Balancer::Ingress => Name::Headless(self.service(&proxy().spec.name)),
            Balancer::Sidecar | Balancer::NodeProxy => {
                let here = &self.pods[pod.0 as usize];
                let local = proxy().pods.iter().copied().find(|p| {
                    let other = &self.pods[p.0 as usize];
                    if self.strategy.balancer == Balancer::Sidecar {
                        other.host == pod
                    } else {
                        other.node == here.node
                    }
                });
                Name::Fixed(local.expect("a proxy is always made with the pod or the node it serves"))
            }
        }
    }

    /// Time to an open loop's next request.
    fn gap(&mut self, client: u32) -> Nanos {
        let Some(open) = &self.scenario.load.open else { return Nanos::ZERO };
        let mean = 1.0 / open.rate.per_s();
        Nanos::from_secs_f64(match open.arrivals {
            Arrivals::Poisson => mean * exp1(&mut self.clients[client as usize].workload),
            Arrivals::Constant => mean,
        })
    }

    /// A client sends its next batch, or an open loop's next request has come.
    #[inline]
    pub(super) fn issue(&mut self, index: u32) {
        if self.clients[index as usize].stopped {
            return;
        }
        if let Some(closed) = &self.scenario.load.closed {
            self.clients[index as usize].outstanding = closed.concurrency;
            for _ in 0..closed.concurrency {
                self.issue_one(index);
            }
        } else {
            self.issue_one(index);
            let gap = self.gap(index);
            let now = self.queue.now();
            self.queue.at(now + gap, Event::Issue(index));
        }
    }

    #[inline]
    fn issue_one(&mut self, index: u32) {
        let client = &mut self.clients[index as usize];
        let work = Work::draw(&mut client.workload);
        let (pod, name, caller) = (client.pod, client.name, client.caller);
        self.pods[pod.0 as usize].count(self.queue.now());
        if self.scenario.load.connection == ConnectionUse::Shared {
            self.new_call(caller, work);
        } else {
            let config: &ChannelConfig = &self.strategy.client;
            let caller = self.new_caller(pod, Some(index), name, config);
            self.start_caller(caller);
            self.new_call(caller, work);
        }
    }

    /// A client's request has ended.
    #[inline]
    pub(super) fn client_call_ended(&mut self, caller: Id<Caller>, end: End, latency: Nanos, hops: u8) {
        self.recorder.ended(end, latency, hops);
        let Some(index) = self.callers.get(caller).and_then(|c| c.client) else { return };
        if self.scenario.load.connection == ConnectionUse::PerRequest {
            self.close_caller(caller);
        }
        if let Some(closed) = &self.scenario.load.closed {
            let client = &mut self.clients[index as usize];
            client.outstanding -= 1;
            if client.outstanding == 0 {
                let now = self.queue.now();
                self.queue.at(now + closed.pause, Event::Issue(index));
            }
        }
    }

    /// The client's pod is gone.
    pub(super) fn stop_client(&mut self, pod: PodId) {
        let Some(index) = self.clients.iter().position(|c| c.pod == pod && !c.stopped) else { return };
        self.clients[index].stopped = true;
        let callers: Vec<Id<Caller>> =
            self.callers.iter().filter(|(_, c)| c.client == Some(index as u32)).map(|(id, _)| id).collect();
        for caller in callers {
            self.drop_caller(caller);
        }
    }
}
