//! EndpointSlices: who is ready, as the rest of the cluster hears it.
//!
//! A pod becomes ready, is deleted, goes. The EndpointSlice controller sees that and writes the conditions of its endpoint
//! (discovery.k8s.io/v1 EndpointConditions); CoreDNS, kube-proxy and control planes watch the slices and never the pods.
//! So nobody can know of a pod sooner than its slice does, and each has a delay of its own after that.
//!
//! | condition | true while |
//! |---|---|
//! | ready | the readiness probe has passed and the pod is not deleted |
//! | serving | the probe has passed and the process accepts connections, deleted or not |
//! | terminating | the pod is deleted and not gone |
//!
//! A pod that got SIGTERM accepts no connections here, so it is not serving: its probe would fail.

use super::pods::Phase;
use super::{Event, PodId, World};

/// A pod in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Endpoint {
    pod: PodId,
    ready: bool,
    serving: bool,
    terminating: bool,
}

/// The endpoints of a service, in order of creation. Kubernetes cuts them into slices of 100, which nobody notices.
#[derive(Debug, Default)]
pub(super) struct EndpointSlice {
    endpoints: Vec<Endpoint>,
}

impl EndpointSlice {
    fn find(&self, pod: PodId) -> Result<usize, usize> {
        self.endpoints.binary_search_by_key(&pod, |e| e.pod)
    }

    /// Writes one endpoint, or removes it.
    fn set(&mut self, pod: PodId, endpoint: Option<Endpoint>) {
        match (self.find(pod), endpoint) {
            (Ok(at), Some(endpoint)) => self.endpoints[at] = endpoint,
            (Err(at), Some(endpoint)) => self.endpoints.insert(at, endpoint),
            (Ok(at), None) => _ = self.endpoints.remove(at),
            (Err(_), None) => {}
        }
    }

    /// Takes over what `other` says of a pod, as a watcher does.
    pub(super) fn copy_from(&mut self, other: &Self, pod: PodId) {
        self.set(pod, other.find(pod).ok().map(|at| other.endpoints[at]));
    }

    pub(super) fn is_ready(&self, pod: PodId) -> bool {
        self.find(pod).is_ok_and(|at| self.endpoints[at].ready)
    }

    /// Whether it is deleted, and as good as before.
    pub(super) fn is_draining(&self, pod: PodId) -> bool {
        self.find(pod).is_ok_and(|at| self.endpoints[at].serving && self.endpoints[at].terminating)
    }

    /// The endpoints that are ready.
    pub(super) fn ready(&self) -> impl Iterator<Item = PodId> {
        self.endpoints.iter().filter(|e| e.ready).map(|e| e.pod)
    }

    /// Those in their preStop hook: deleted, and as good as before.
    pub(super) fn serving_and_terminating(&self) -> impl Iterator<Item = PodId> {
        self.endpoints.iter().filter(|e| e.serving && e.terminating).map(|e| e.pod)
    }
}

impl World<'_> {
    /// The pod has changed: the EndpointSlice controller hears of it after its delay.
    pub(super) fn announce(&mut self, pod: PodId) {
        let deployment = self.pods[pod.0 as usize].deployment;
        if self.services.iter().any(|service| service.deployments.contains(&deployment)) {
            self.queue.at(self.queue.now() + self.scenario.endpoint_slices.delay, Event::Slice(pod));
        }
    }

    /// The controller writes the slices, and the watchers begin their part.
    pub(super) fn slice(&mut self, pod: PodId) {
        self.update_slices(pod);
        let now = self.now();
        self.queue.at(now + self.scenario.dns.publication_delay, Event::PublishDns(pod));
        self.queue.at(now + self.scenario.kube_proxy.sync_period, Event::SyncProxy(pod));
        self.notify_control_plane(pod);
        self.notify_balancers(pod);
    }

    /// Writes the pod's present conditions into the slices of its services.
    pub(super) fn update_slices(&mut self, pod: PodId) {
        let now = self.now();
        let ready = self.is_ready(pod);
        let here = &mut self.pods[pod.0 as usize];
        let endpoint = (here.phase != Phase::Gone).then_some(Endpoint {
            pod,
            ready,
            serving: here.passed_probe && matches!(here.phase, Phase::Running | Phase::Stopping),
            terminating: matches!(here.phase, Phase::Stopping | Phase::Terminating),
        });
        let mut sliced = false;
        for service in self.services.iter_mut().filter(|s| s.deployments.contains(&here.deployment)) {
            service.slice.set(pod, endpoint);
            sliced |= ready;
        }
        if sliced {
            here.moments.sliced.get_or_insert(now);
        }
    }
}
