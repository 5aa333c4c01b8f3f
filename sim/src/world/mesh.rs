//! Sidecars in the servers' pods too, as a service mesh has them (`balancer = "mesh"`).
//!
//! The client's sidecar chooses the pod, as without a mesh. What comes to that pod's address from outside is redirected to
//! the sidecar in it (Istio's `istio-init`: iptables REDIRECT of inbound traffic to port 15006), which does its own work on
//! every request and passes it to its pod's application over the loopback. It has nothing to choose and knows no routes.
//!
//! ```text
//! client ─ loopback ─► sidecar (picks) ─ network ─► sidecar (15006) ─ loopback ─► server
//! ```
//!
//! So a request makes two local hops more than without any proxy, one more than with the client's sidecar alone, and crosses
//! as many borders between nodes. The servers see connections of their own sidecar only: an age of connections (`max_age`)
//! is that of those which come from outside, and ends at the sidecar.
//!
//! A pod that terminates lets its sidecar drain first and the application after it, or requests that have come as far as
//! the sidecar would find nobody behind it. Istio does so where `EXIT_ON_ZERO_ACTIVE_CONNECTIONS` and a preStop sleep of the
//! application are set; the order is our choice.

use lb_core::Nanos;
use lb_core::channel::{ChannelConfig, ConnectionAgeConfig};
use scenarios::Balancer;

use super::callers::{Caller, Name};
use super::calls::Call;
use super::connections::Connection;
use super::deployments::Role;
use super::pods::{Phase, Pod};
use super::{PodId, World};
use crate::engine::Id;

/// A step on the way that no service has. With it the work of an inbound sidecar is its own, and what comes after it is the
/// same as without it: a server has the same work under "mesh" as under "sidecar".
const INBOUND_STAGE: u8 = 201;

impl Pod<'_> {
    /// Which of a request's parts of work this pod has.
    #[inline]
    pub(super) fn stage(&self, call: &Call) -> u8 {
        if self.is_inbound { INBOUND_STAGE } else { call.stage }
    }

    /// Which step on the way comes after this pod's.
    #[inline]
    pub(super) fn next_stage(&self, call: &Call) -> u8 {
        call.stage + u8::from(!self.is_inbound)
    }
}

impl World<'_> {
    /// The deployment whose container comes with every pod of this one.
    pub(super) fn sidecar_of(&self, deployment: usize) -> Option<usize> {
        let with_sidecar = match self.deployments[deployment].role {
            Role::Client => matches!(self.strategy.balancer, Balancer::Sidecar | Balancer::Mesh),
            Role::Server => self.strategy.balancer == Balancer::Mesh,
            Role::Proxy | Role::Support => false,
        };
        let proxy = || self.deployments.iter().position(|d| d.role == Role::Proxy).expect("checked: a proxy exists");
        with_sidecar.then(proxy)
    }

    /// Whether a sidecar in this pod takes what comes from outside.
    pub(super) fn is_inbound(&self, host: PodId) -> bool {
        self.pods[host.0 as usize].role == Role::Server
    }

    /// Who accepts a connection to the address of `pod`: the pod itself, or the sidecar in it if the caller is outside.
    pub(super) fn entrance(&self, from: PodId, pod: PodId) -> PodId {
        let [caller, called] = [from, pod].map(|id| &self.pods[id.0 as usize]);
        if caller.host == called.host { pod } else { called.entrance }
    }

    /// Whether a caller is the sidecar through which `pod` is called.
    pub(super) fn is_sidecar_before(&self, caller: Id<Caller>, pod: PodId) -> bool {
        let caller = self.callers.get(caller).map(|c| &self.pods[c.pod.0 as usize]);
        caller.is_some_and(|caller| caller.is_inbound && caller.host == pod)
    }

    /// An inbound sidecar starts: it has one channel, to its pod's application, whatever is called.
    pub(super) fn start_inbound(&mut self, id: PodId) {
        let application = self.pods[id.0 as usize].host;
        let caller = self.new_caller(id, Name::Fixed(application), &ChannelConfig::default());
        for service in self.scenario.called() {
            let service = self.service(&service.name);
            self.pods[id.0 as usize].channels.push((service, caller));
        }
        self.start_caller(caller);
    }

    /// The age of a connection from `caller` that `pod` has accepted. From outside it is that of the deployment that is
    /// called; the sidecar's own to its application is kept for good.
    pub(super) fn connection_age(&self, caller: Id<Caller>, pod: PodId) -> ConnectionAgeConfig {
        if self.is_sidecar_before(caller, pod) {
            return ConnectionAgeConfig::default();
        }
        let here = &self.pods[pod.0 as usize];
        let called = if here.is_inbound { here.host } else { pod };
        self.deployments[self.pods[called.0 as usize].deployment].age
    }

    /// Whether a pod's process accepts a connection from `caller`. A pod that has got SIGTERM accepts that of the sidecar
    /// that drains before it.
    pub(super) fn listens(&self, connection: &Connection, pod: PodId) -> bool {
        match self.pods[pod.0 as usize].phase {
            Phase::Running | Phase::Stopping => true,
            Phase::Terminating => self.is_sidecar_before(connection.caller, pod),
            Phase::Starting | Phase::Gone => false,
        }
    }

    /// Somebody has connected to the pod; a connection to a server's sidecar is one to the server.
    pub(super) fn note_connected(&mut self, caller: Id<Caller>, pod: PodId) {
        if self.is_sidecar_before(caller, pod) {
            return;
        }
        let now = self.queue.now();
        let here = &mut self.pods[pod.0 as usize];
        here.moments.connected.get_or_insert(now);
        if here.is_inbound {
            let host = here.host;
            self.pods[host.0 as usize].moments.connected.get_or_insert(now);
        }
    }

    /// The sidecars of a pod that are not gone: that which it came with, and those started again.
    pub(super) fn sidecars_in(&self, host: PodId) -> Vec<PodId> {
        // They come right after their pod or, started again, later.
        let later = (host.0 + 1..self.pods.len() as u32).map(PodId);
        let inside = |id: &PodId| {
            let pod = &self.pods[id.0 as usize];
            pod.host == host && pod.phase != Phase::Gone
        };
        later.filter(inside).collect()
    }

    /// Whether a server's sidecar has still to go before the server.
    pub(super) fn waits_for_sidecars(&self, pod: PodId) -> bool {
        self.pods[pod.0 as usize].entrance != pod && !self.sidecars_in(pod).is_empty()
    }

    /// A server's pod is deleted: its sidecars are not started again.
    pub(super) fn forget_inbound(&mut self, pod: PodId) {
        if self.pods[pod.0 as usize].entrance != pod {
            self.sidecars_in(pod).into_iter().for_each(|sidecar| self.forget(sidecar));
        }
    }

    /// SIGTERM for all containers of a server's pod: its sidecars drain towards the callers.
    pub(super) fn drain_inbound(&mut self, pod: PodId, grace: Nanos) {
        for sidecar in self.sidecars_in(pod) {
            match self.pods[sidecar.0 as usize].phase {
                Phase::Starting => self.remove_pod(sidecar),
                Phase::Running | Phase::Stopping => {
                    self.pods[sidecar.0 as usize].phase = Phase::Terminating;
                    self.announce(sidecar);
                    self.drain_connections(sidecar, grace);
                    self.leave_if_done(sidecar);
                }
                Phase::Terminating | Phase::Gone => {}
            }
        }
    }
}
