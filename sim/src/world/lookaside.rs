//! The lookaside balancer (grpclb): pods of a deployment that stream lists of servers to the clients.
//!
//! A balancer watches EndpointSlices and sends each client its list whenever that has changed, once in `update_interval`. If
//! it is `load_aware`, the servers report how busy they are, and one with more to spare is in the list more often. The
//! choice for each request stays with the client, which goes round the list; so a list is only as good as it is new.
//!
//! Balancers are pods like others: one that goes takes its streams with it. A client then asks another, and without any goes
//! on with what it knows, or falls back to DNS (the core's rules). They all see the same slices and reports, so there is one
//! view here.

use std::collections::VecDeque;

use lb_core::Nanos;
use reports::record::Learnt;
use scenarios::{Scenario, Strategy};

use super::callers::Caller;
use super::deployments::Role;
use super::names::{ServicePart, set_member};
use super::places::Hop;
use super::pods::Phase;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::below;

/// How far a report moves what is thought of a server. 0.1, our choice. Weights act on the load they follow: with two thirds
/// of the capacity in use, one point more weight can bring a slow server two points more load, so a step must be well below
/// 2 / (1 + 2) of the way or the lists swing to and fro.
const NEW_PART: f64 = 0.1;
/// Entries of a server that is idle; a busy one has at least 1. Our choice.
const MOST_ENTRIES: f64 = 20.0;

struct Stream {
    caller: Id<Caller>,
    balancer: PodId,
    services: Vec<ServicePart>,
    /// Each server with its entries, as it was sent last.
    sent: Option<Vec<(PodId, u32)>>,
}

/// The balancers of a strategy; idle if no client uses them.
#[derive(Default)]
pub(super) struct Lookaside<'s> {
    config: Option<&'s scenarios::Lookaside>,
    /// The service by which clients find the balancers.
    service: usize,
    streams: Vec<Stream>,
    /// By service.
    known: Vec<Vec<PodId>>,
    /// Requests in flight over concurrency, at most 1, smoothed, by pod.
    busy: Vec<Option<f64>>,
    /// Reports on their way.
    reports: VecDeque<Vec<(PodId, f64)>>,
}

impl<'s> Lookaside<'s> {
    pub(super) fn new(scenario: &'s Scenario, strategy: &'s Strategy) -> Self {
        Self { config: strategy.lookaside(scenario), ..Self::default() }
    }
}

impl World<'_> {
    /// At time zero the balancers know the initial pods.
    pub(super) fn start_lookaside(&mut self) {
        let Some(config) = self.lookaside.config else { return };
        self.lookaside.service = self.service(&config.deployment);
        self.lookaside.known = self.services.iter().map(|s| s.slice.ready().collect()).collect();
        for pod in (0..self.pods.len() as u32).map(PodId) {
            self.note_known(pod);
        }
        let now = self.now();
        self.queue.at(now + config.update_interval, Event::SendLists);
        if config.load_aware {
            self.queue.at(now + config.report_interval, Event::ReportLoad);
        }
    }

    /// A slice has changed: the balancers' watches hear of it.
    pub(super) fn notify_balancers(&mut self, pod: PodId) {
        if self.lookaside.config.is_some() {
            self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::BalancerObserves(pod));
        }
    }

    pub(super) fn balancer_observes(&mut self, pod: PodId) {
        let deployment = self.pods[pod.0 as usize].deployment;
        for (service, known) in self.services.iter().zip(&mut self.lookaside.known) {
            if service.deployments.contains(&deployment) {
                set_member(known, pod, service.slice.is_ready(pod));
            }
        }
        self.note_known(pod);
    }

    fn note_known(&mut self, pod: PodId) {
        let known = self.lookaside.known.iter().any(|pods| pods.binary_search(&pod).is_ok());
        if known && self.learnt_by(pod) == Learnt::Balancer {
            let now = self.now();
            self.pods[pod.0 as usize].moments.published.get_or_insert(now);
        }
    }

    /// Servers say how busy they are.
    pub(super) fn report_load(&mut self) {
        let Some(config) = self.lookaside.config else { return };
        let mut reports = Vec::new();
        for (index, pod) in self.pods.iter().enumerate() {
            if pod.role == Role::Server && matches!(pod.phase, Phase::Running | Phase::Stopping) {
                let in_flight = f64::from(pod.busy) + pod.queue.len() as f64;
                // A queue says that it is full, not how full: else a backlog would keep it off the list long after.
                let busy = (in_flight / f64::from(pod.template.concurrency)).min(1.0);
                reports.push((PodId(index as u32), busy));
            }
        }
        self.lookaside.reports.push_back(reports);
        self.queue.after(self.lanes.hops[Hop::SameZone as usize], Event::LoadReported);
        let now = self.now();
        self.queue.at(now + config.report_interval, Event::ReportLoad);
    }

    pub(super) fn load_reported(&mut self) {
        self.lookaside.busy.resize(self.pods.len(), None);
        for (pod, now) in self.lookaside.reports.pop_front().unwrap_or_default() {
            let busy = &mut self.lookaside.busy[pod.0 as usize];
            *busy = Some(busy.map_or(now, |before| before + NEW_PART * (now - before)));
        }
    }

    /// It is time for new lists.
    pub(super) fn send_lists(&mut self) {
        let Some(config) = self.lookaside.config else { return };
        let callers = &self.callers;
        self.lookaside.streams.retain(|s| callers.get(s.caller).is_some());
        for index in 0..self.lookaside.streams.len() {
            self.send_list(index);
        }
        let now = self.now();
        self.queue.at(now + config.update_interval, Event::SendLists);
    }

    /// Times a server is in the list: as it has capacity to spare, if anybody reports that.
    fn entries(&self, pod: PodId) -> u32 {
        if !self.lookaside.config.is_some_and(|config| config.load_aware) {
            return 1;
        }
        // A server that has not reported yet is taken for idle, as a new one is.
        let busy = self.lookaside.busy.get(pod.0 as usize).copied().flatten().unwrap_or(0.0);
        ((1.0 - busy) * MOST_ENTRIES).round().max(1.0) as u32
    }

    fn send_list(&mut self, index: usize) {
        let Stream { caller, balancer, services, sent } = &self.lookaside.streams[index];
        let (caller, balancer) = (*caller, *balancer);
        let mut list = Vec::new();
        for &ServicePart { service, weight, .. } in services {
            let known = self.lookaside.known[service].iter();
            list.extend(known.map(|pod| (*pod, self.entries(*pod).saturating_mul(weight))));
        }
        let Some(to) = self.callers.get(caller).filter(|_| sent.as_ref() != Some(&list)).map(|c| c.pod) else { return };
        // Named n times or once with n times the weight is the same to the client.
        let addresses = list.iter().map(|&(pod, n)| self.resolved_with_weight(pod, n)).collect();
        self.send_addresses(caller, addresses, self.hop_between(balancer, to));
        self.lookaside.streams[index].sent = Some(list);
    }

    /// A client looks for a balancer: a look-up, a connection of two round trips, and the request.
    pub(super) fn ask_balancer(&mut self, id: Id<Caller>) {
        let Some(from) = self.callers.get(id).map(|c| c.pod) else { return };
        let now = self.now();
        let look_up = self.hops(2);
        let (balancers, _) =
            if self.dns_is_out() { Default::default() } else { self.cached_records(self.lookaside.service) };
        if balancers.is_empty() {
            self.queue.at(now + look_up, Event::StreamBroken(id));
            return;
        }
        let balancer = balancers[below(&mut self.names_stream, balancers.len())];
        let hop = self.places.latency(self.hop_between(from, balancer));
        self.queue.at(now + look_up + Nanos(hop.0 * 5), Event::BalancerAsked(id));
        if let Some(caller) = self.callers.get_mut(id) {
            caller.asked = Some(balancer);
        }
    }

    pub(super) fn balancer_asked(&mut self, id: Id<Caller>) {
        let Some(caller) = self.callers.get(id) else { return };
        let Some(balancer) = caller.asked else { return };
        let Some(services) = self.services_of(caller.name) else { return };
        if matches!(self.pods[balancer.0 as usize].phase, Phase::Running | Phase::Stopping) {
            self.lookaside.streams.push(Stream { caller: id, balancer, services, sent: None });
            self.send_list(self.lookaside.streams.len() - 1);
        } else {
            let hop = self.hop_between(balancer, caller.pod);
            self.queue.after(self.lanes.hops[hop as usize], Event::StreamBroken(id));
        }
    }

    /// The pod is gone, and its streams with it.
    pub(super) fn break_streams(&mut self, balancer: PodId) {
        let streams = std::mem::take(&mut self.lookaside.streams);
        let (broken, rest): (Vec<Stream>, Vec<Stream>) = streams.into_iter().partition(|s| s.balancer == balancer);
        self.lookaside.streams = rest;
        for stream in broken {
            if let Some(to) = self.callers.get(stream.caller).map(|c| c.pod) {
                let hop = self.hop_between(balancer, to);
                self.queue.after(self.lanes.hops[hop as usize], Event::StreamBroken(stream.caller));
            }
        }
    }
}
