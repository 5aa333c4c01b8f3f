//! Pods: they are created, start, become ready, terminate, die.

use std::collections::VecDeque;

use lb_core::{Address, Nanos};

use super::callers::{Caller, Name};
use super::calls::Call;
use super::configuration::Routing;
use super::connections::Connections;
use super::deployments::{Deployment, Role};
use super::failures::Degraded;
use super::load_reports::Meter;
use super::names::Target;
use super::{Event, PodId, World};
use crate::engine::Id;
use crate::random::{Purpose, Stream, fnv1a, stream, unit_below_one};

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its process does not listen yet.
    Starting,
    Running,
    /// Deleted, in its preStop hook: serves as before, but is no ready endpoint.
    Stopping,
    /// Got SIGTERM: finishes what it has, accepts no connection.
    Terminating,
    Gone,
}

/// The moments of a pod's life.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moments {
    pub(crate) created: Nanos,
    pub(crate) started: Option<Nanos>,
    pub(crate) ready: Option<Nanos>,
    /// In an EndpointSlice as ready.
    pub(crate) sliced: Option<Nanos>,
    pub(crate) published: Option<Nanos>,
    /// The resolver's cache would answer with it; may lie ahead.
    pub(crate) resolvable: Option<Nanos>,
    pub(crate) resolved: Option<Nanos>,
    pub(crate) connected: Option<Nanos>,
    pub(crate) first_request: Option<Nanos>,
    /// It was told to go.
    pub(crate) deleted: Option<Nanos>,
    pub(crate) removed: Option<Nanos>,
}

/// A pod, or a sidecar container in one.
///
/// What every request reads or writes comes first and stays together (`repr(C)`): with a hundred pods and more each cache
/// line counts.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Pod<'s> {
    /// What it is made from: its deployment's template when it was created.
    pub(super) template: &'s scenarios::Deployment,
    pub(super) deployment: usize,
    /// Requests worked on.
    pub(super) busy: u32,
    /// Requests that wait.
    pub(super) queue: VecDeque<Id<Call>>,
    pub(crate) requests: u64,
    /// Those after the warm-up.
    counted: u64,
    bucket: u32,
    pub(super) phase: Phase,
    pub(super) role: Role,
    /// A mesh's sidecar in a server's pod.
    pub(super) is_inbound: bool,
    /// Its bad period, which may be over.
    pub(super) degraded: Option<Box<Degraded>>,
    /// NOT_SERVING until then, as far as gRPC's health service and its requests go.
    pub(super) unhealthy_until: Nanos,
    /// Since when it works on so many, and the nanoseconds worked before, summed over requests.
    busy_since: Nanos,
    busy_ns: u64,
    /// Those of each load after the warm-up, where there are several loads.
    by_load: Box<[u64]>,
    /// What it routes requests with, if its strategy has routes.
    pub(super) routing: Option<Box<Routing>>,
    pub(crate) moments: Moments,
    pub(crate) name: String,
    pub(super) address: Address,
    pub(crate) node: u32,
    /// The pod whose loopback it shares: itself, or the pod it is a sidecar of.
    pub(super) host: PodId,
    /// Who accepts what comes to its address from outside the pod: itself, or a mesh's sidecar in it.
    pub(super) entrance: PodId,
    pub(super) passed_probe: bool,
    /// Its deployment's when it was created.
    pub(super) revision: u32,
    /// Connections it has accepted that are still there.
    pub(super) connections: Connections,
    /// Its process's channels, each with the service it leads to.
    pub(super) channels: Vec<(usize, Id<Caller>)>,
    /// Jitter of its connections' age.
    pub(super) stream: Stream,
    /// `busy_ns` when the autoscaler last asked.
    busy_ns_taken: u64,
    /// What it measures of its load, once it was asked.
    pub(super) meter: Option<Box<Meter>>,
    pub(crate) series: Vec<u32>,
    /// Its own requests that were answered OK, if it is a client; issued after the warm-up.
    pub(crate) ok: u64,
}

impl Pod<'_> {
    /// The label of what it was made from.
    pub(crate) fn version(&self) -> &str {
        self.template.version()
    }

    /// The process's channel to a service.
    #[inline]
    pub(super) fn channel(&self, service: usize) -> Id<Caller> {
        self.channels.iter().find(|(of, _)| *of == service).map_or(Id::NONE, |(_, caller)| *caller)
    }

    /// It works on so many requests from now on.
    #[inline]
    pub(super) fn set_busy(&mut self, now: Nanos, busy: u32) {
        // Wraps after 584 years of one request; who asks goes by differences.
        let worked = u64::from(self.busy).wrapping_mul(now.since(self.busy_since).0);
        self.busy_ns = self.busy_ns.wrapping_add(worked);
        self.busy_since = now;
        self.busy = busy;
    }

    /// Nanoseconds it has worked so far, summed over the requests it worked on at the same time.
    pub(super) fn busy_ns(&mut self, now: Nanos) -> u64 {
        self.set_busy(now, self.busy);
        self.busy_ns
    }

    /// The same since this was last asked.
    pub(super) fn take_busy_ns(&mut self, now: Nanos) -> u64 {
        let busy = self.busy_ns(now);
        busy.wrapping_sub(std::mem::replace(&mut self.busy_ns_taken, busy))
    }

    /// Requests that it works on or keeps waiting.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.busy + self.queue.len() as u32
    }

    pub(super) fn close_bucket(&mut self) {
        self.series.push(std::mem::take(&mut self.bucket));
    }

    /// Requests of a load after the warm-up.
    pub(crate) fn of_load(&self, load: usize) -> u64 {
        self.by_load.get(load).copied().unwrap_or(self.counted)
    }

    /// A request of a load has come, after the warm-up or in it.
    #[inline]
    pub(super) fn count(&mut self, load: u32, now: Nanos, warm: bool) {
        self.requests += 1;
        self.bucket += 1;
        self.counted += u64::from(warm);
        if let Some(of_load) = self.by_load.get_mut(load as usize) {
            *of_load += u64::from(warm);
        }
        if self.requests == 1 {
            self.moments.first_request = Some(now);
        }
    }
}

impl World<'_> {
    /// The Deployment controller creates a pod. The cluster's initial ones are ready at once.
    pub(super) fn create_pod(&mut self, deployment: usize, initial: bool) {
        let node = if self.is_node_proxy(deployment) {
            // The node that has none of this deployment; they are created once for each.
            let taken: Vec<u32> =
                self.deployments[deployment].pods.iter().map(|p| self.pods[p.0 as usize].node).collect();
            let node = (0..self.places.nodes()).find(|n| !taken.contains(n)).unwrap_or(0);
            self.places.place_on(node)
        } else {
            self.places.place()
        };
        let id = self.add_pod(deployment, node, None, initial);

        if let Some(proxy) = self.sidecar_of(deployment) {
            self.add_pod(proxy, node, Some(id), initial);
        }
    }

    /// A pod, or a sidecar in the pod `host`.
    pub(super) fn add_pod(&mut self, deployment: usize, node: u32, host: Option<PodId>, initial: bool) -> PodId {
        let now = self.now();
        let id = PodId(self.pods.len() as u32);
        let Deployment { spec, template, .. } = self.deployments[deployment];
        let number = self.deployments[deployment].next;
        self.deployments[deployment].next += 1;
        self.deployments[deployment].pods.push(id);
        // A sidecar is made right after the pod it comes with; what is made later is a container started again.
        let again = host.filter(|host| host.0 + 1 != id.0);
        let name = match (host.map(|host| &self.pods[host.0 as usize].name), again) {
            (None, _) => format!("{}-{number}", spec.name),
            (Some(host), None) => format!("{host}/{}", spec.name),
            (Some(host), Some(_)) => format!("{host}/{}-{number}", spec.name),
        };
        let ip = |id: PodId| format!("10.{}.{}.{}", 128 + (id.0 >> 16), (id.0 >> 8) & 255, id.0 & 255);
        // A sidecar has its pod's address and a port of its own, a node's proxy a port of the node: whoever is started in
        // its place is found there again.
        let is_inbound = host.is_some_and(|host| self.is_inbound(host));
        let address = match (host, self.is_node_proxy(deployment)) {
            // Istio's ports for what leaves a pod and for what enters it.
            (Some(host), _) if is_inbound => Address::new(&format!("{}:15006", ip(host))),
            (Some(host), _) => Address::new(&format!("{}:15001", ip(host))),
            (None, true) => Address::new(&format!("10.{}.{}.{}:15001", node >> 16, (node >> 8) & 255, node & 255)),
            (None, false) => Address::new(&format!("{}:50051", ip(id))),
        };
        self.by_address.insert(address.clone(), Target::Pod(id));
        // By name, so that server-3 has the same luck under every strategy, whatever else there is.
        let stream = stream(self.seed, Purpose::Pod, fnv1a(name.as_bytes()));
        let several = self.scenario.loads.len() > 1;
        self.pods.push(Pod {
            name,
            deployment,
            role: self.deployments[deployment].role,
            template,
            address,
            node,
            host: host.unwrap_or(id),
            entrance: id,
            is_inbound,
            phase: if initial { Phase::Running } else { Phase::Starting },
            passed_probe: initial,
            revision: self.deployments[deployment].revision,
            moments: Moments {
                created: now,
                started: initial.then_some(now),
                ready: initial.then_some(now),
                ..Moments::default()
            },
            unhealthy_until: Nanos::ZERO,
            degraded: None,
            busy: 0,
            busy_since: now,
            busy_ns: 0,
            queue: VecDeque::new(),
            connections: Connections::default(),
            channels: Vec::new(),
            routing: None,
            stream,
            busy_ns_taken: 0,
            meter: None,
            requests: 0,
            bucket: 0,
            series: vec![0; self.recorder.buckets()],
            counted: 0,
            by_load: if several { vec![0; self.scenario.loads.len()].into() } else { Box::default() },
            ok: 0,
        });
        if let Some(host) = host.filter(|_| is_inbound) {
            self.pods[host.0 as usize].entrance = id;
        }
        self.tell_peers(deployment);
        if !initial {
            // A sidecar starts with the pod it comes with.
            let with = host.filter(|_| again.is_none());
            let clock = with.unwrap_or(id);
            // The kubelet of a zone that is cut off hears of a new pod when it is back; it starts containers again all the
            // same.
            let from = if again.is_none() { self.back_at(node) } else { now };
            self.queue.at(from + self.pods[clock.0 as usize].template.start_up, Event::Started(id));
        }
        id
    }

    pub(super) fn started(&mut self, id: PodId) {
        let now = self.now();
        let pod = &mut self.pods[id.0 as usize];
        if pod.phase != Phase::Starting {
            return;
        }
        // Deleted, but its kubelet has not heard of it: it serves whoever finds it, and is no ready endpoint.
        pod.phase = if pod.moments.deleted.is_some() { Phase::Stopping } else { Phase::Running };
        pod.moments.started = Some(now);
        // Probes do not wait for the process: the first one after it listens comes at a random part of a period.
        let readiness = &pod.template.readiness;
        let wait = readiness.initial_delay + readiness.period.mul_f64(unit_below_one(&mut pod.stream));
        self.queue.at(now + wait, Event::Ready(id));
        self.start_work(id);
    }

    /// A process that calls others starts to.
    pub(super) fn start_work(&mut self, id: PodId) {
        let pod = &self.pods[id.0 as usize];
        match pod.role {
            Role::Server | Role::Support => {}
            Role::Client => self.start_clients(id),
            Role::Proxy if pod.is_inbound => self.start_inbound(id),
            Role::Proxy => {
                self.start_routing(id);
                if self.pods[id.0 as usize].routing.is_some() {
                    return;
                }
                let config = self.balancer_channel();
                for service in self.scenario.called() {
                    let service = self.service(&service.name);
                    let caller = self.new_caller(id, Name::Headless(service), &config);
                    self.pods[id.0 as usize].channels.push((service, caller));
                    self.start_caller(caller);
                }
            }
        }
    }

    /// The index of a service.
    pub(super) fn service(&self, name: &str) -> usize {
        self.services.iter().position(|s| s.name == name).expect("checked: the service exists")
    }

    pub(super) fn ready(&mut self, id: PodId) {
        let now = self.now();
        let heard = self.back_at(self.pods[id.0 as usize].node);
        if heard > now {
            return self.queue.at(heard, Event::Ready(id)); // the kubelet can't say so
        }
        let pod = &mut self.pods[id.0 as usize];
        if pod.phase == Phase::Running {
            pod.passed_probe = true;
            pod.moments.ready = Some(now);
            let deployment = pod.deployment;
            self.announce(id);
            self.reconcile(deployment);
        }
    }

    /// Whether the pod is a ready endpoint of its services.
    pub(super) fn is_ready(&self, id: PodId) -> bool {
        let pod = &self.pods[id.0 as usize];
        pod.phase == Phase::Running && pod.passed_probe && self.places.is_ready(self.places.zone(pod.node))
    }

    /// The pod is deleted: no ready endpoint from now on, SIGTERM after its preStop hook, SIGKILL after its grace period. A
    /// client process, and one that has not begun to listen, ends at once.
    pub(super) fn terminate(&mut self, id: PodId) {
        let now = self.now();
        let Pod { deployment, node, role, phase, .. } = self.pods[id.0 as usize];
        self.forget(id);
        self.pods[id.0 as usize].moments.deleted.get_or_insert(now);
        // In a zone that is cut off it lives on until its kubelet hears of this.
        let heard = self.back_at(node);
        let at_once = role == Role::Client || phase == Phase::Starting;
        if at_once && heard == now {
            self.remove_pod(id);
            return;
        }
        // One that has not begun to listen still does; see `started`.
        if phase != Phase::Starting {
            self.pods[id.0 as usize].phase = Phase::Stopping;
        }
        self.forget_inbound(id);
        self.announce(id);
        let Deployment { spec, pre_stop, .. } = self.deployments[deployment];
        self.queue.at(heard + if at_once { Nanos::ZERO } else { spec.termination_grace_period }, Event::Kill(id));
        if heard + pre_stop == now {
            self.sigterm(id);
        } else {
            self.queue.at(heard + pre_stop, Event::Sigterm(id));
        }
    }

    /// SIGTERM: a server or a proxy accepts no more connections, sends GOAWAY on those it has, and ends with the last of
    /// them, or at the end of its grace period.
    pub(super) fn sigterm(&mut self, id: PodId) {
        let pod = &mut self.pods[id.0 as usize];
        if pod.phase != Phase::Stopping {
            return;
        }
        pod.phase = Phase::Terminating;
        let Deployment { spec, pre_stop, .. } = self.deployments[pod.deployment];
        let has_sidecar = pod.entrance != id;
        self.announce(id);
        let grace = spec.termination_grace_period - pre_stop;
        if has_sidecar {
            self.drain_inbound(id, grace);
        } else {
            self.drain_connections(id, grace);
        }
        self.leave_if_done(id);
    }

    /// SIGKILL: everything it had is cut off.
    pub(super) fn kill(&mut self, id: PodId) {
        if self.pods[id.0 as usize].phase == Phase::Gone {
            return;
        }
        self.forget(id);
        self.remove_pod(id);
    }

    /// The deployment counts it no longer.
    pub(super) fn forget(&mut self, id: PodId) {
        let deployment = self.pods[id.0 as usize].deployment;
        self.deployments[deployment].pods.retain(|&p| p != id);
        self.tell_peers(deployment);
    }

    /// A terminating pod leaves with its last connection, and after the sidecar before it.
    pub(super) fn leave_if_done(&mut self, id: PodId) {
        let pod = &self.pods[id.0 as usize];
        if pod.phase == Phase::Terminating && pod.connections.len() == 0 && !self.waits_for_sidecars(id) {
            self.remove_pod(id);
        }
    }

    /// The process is gone, and its sidecars with it.
    pub(super) fn remove_pod(&mut self, id: PodId) {
        let now = self.now();
        let pod = &mut self.pods[id.0 as usize];
        if pod.phase == Phase::Gone {
            return;
        }
        pod.phase = Phase::Gone;
        pod.moments.removed = Some(now);
        pod.set_busy(now, 0);
        let queue = std::mem::take(&mut pod.queue);
        let mut channels: Vec<Id<Caller>> = pod.channels.drain(..).map(|(_, caller)| caller).collect();
        channels.extend(pod.routing.take().iter().flat_map(|routing| routing.channels()));
        let (node, host, deployment) = (pod.node, pod.host, pod.deployment);
        let is_sidecar = host != id;
        for call in queue {
            self.forget_abandoned(call);
        }
        if !is_sidecar {
            self.places.leave(node);
        }
        for caller in channels {
            self.drop_caller(caller);
        }
        self.stop_clients(id);
        self.cut_connections(id);
        self.break_streams(id);
        if !self.strategy.routes.is_empty() {
            self.note_configured(); // the last that went by the old one may have left
        }
        self.announce(id);
        if is_sidecar {
            return self.leave_if_done(host); // a server's pod that terminates goes when its sidecar has
        }
        if self.sidecar_of(deployment).is_some() {
            for sidecar in self.sidecars_in(id) {
                self.forget(sidecar);
                self.remove_pod(sidecar);
            }
        }
    }
}
