//! Deployments: what a strategy runs, and the controllers that scale, restart and roll it.

use lb_core::Nanos;
use lb_core::channel::ConnectionAgeConfig;
use scenarios::Balancer;

use super::configuration::limit_services;
use super::names::{Service, Target};
use super::pods::Pod;
use super::{PodId, World};

/// What a deployment's pods do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Send requests.
    Client,
    /// Answer them.
    Server,
    /// Pass them on.
    Proxy,
    /// Answer questions about them: the limit service.
    Support,
}

/// A deployment in this world.
#[derive(Debug)]
pub(crate) struct Deployment<'s> {
    pub(super) spec: &'s scenarios::Deployment,
    /// What new pods are made from: `spec`, until a rollout says otherwise.
    pub(super) template: &'s scenarios::Deployment,
    pub(super) role: Role,
    /// Of the connections its pods accept.
    pub(super) age: ConnectionAgeConfig,
    /// From a pod's deletion to its SIGTERM.
    pub(super) pre_stop: Nanos,
    /// Pods that are not terminating, in order of creation.
    pub(super) pods: Vec<PodId>,
    /// How many there should be.
    pub(super) replicas: u32,
    /// Counts the rollouts: pods of an earlier revision are replaced.
    pub(super) revision: u32,
    /// Number in the next pod's name.
    pub(super) next: u32,
}

impl<'s> World<'s> {
    /// Creates the deployments the strategy uses, with their initial pods ready and known everywhere.
    pub(super) fn deploy(&mut self) {
        let (scenario, strategy) = (self.scenario, self.strategy);
        let answering = scenario.answering();
        let proxy = strategy.balancer.has_proxy().then(|| strategy.proxy.clone().unwrap_or_default());

        let balancer = strategy.lookaside(scenario).map(|lookaside| lookaside.deployment.as_str());

        for spec in &scenario.deployments {
            let (role, max_age, jitter, grace) = if scenario.is_calling(&spec.name) {
                (Role::Client, None, None, None)
            } else if answering.contains(&spec.name.as_str()) {
                (Role::Server, strategy.max_age, strategy.max_age_jitter, strategy.max_age_grace)
            } else if let Some(proxy) = proxy.as_ref().filter(|p| p.deployment == spec.name) {
                (Role::Proxy, proxy.max_age, proxy.max_age_jitter, proxy.max_age_grace)
            } else if limit_services(&strategy.routes).chain(balancer).any(|name| name == spec.name) {
                (Role::Support, None, None, None)
            } else {
                continue; // this strategy does without it
            };
            let default = ConnectionAgeConfig::default();
            let age = ConnectionAgeConfig {
                max_age: max_age.or(spec.max_connection_age).unwrap_or(default.max_age),
                jitter: jitter.or(spec.max_connection_age_jitter).unwrap_or(default.jitter),
                grace: grace.or(spec.max_connection_age_grace).unwrap_or(default.grace),
            };
            let pre_stop = strategy.pre_stop.filter(|_| role == Role::Server).unwrap_or(spec.pre_stop);
            self.deployments.push(Deployment {
                spec,
                template: spec,
                role,
                age,
                pre_stop,
                pods: Vec::new(),
                replicas: spec.replicas,
                revision: 0,
                next: 0,
            });
        }

        let mut names: Vec<(&str, Vec<&str>)> = Vec::new();
        for service in &scenario.services {
            names.push((&service.name, service.deployments.iter().map(String::as_str).collect()));
        }
        let proxies = proxy.as_ref().map(|p| p.deployment.as_str());
        for name in proxies.into_iter().chain(limit_services(&strategy.routes)).chain(balancer) {
            if names.iter().all(|(known, _)| *known != name) {
                names.push((name, vec![name]));
            }
        }
        for (name, members) in names {
            let index = self.services.len();
            let members: Vec<usize> = (0..self.deployments.len())
                .filter(|&d| members.contains(&self.deployments[d].spec.name.as_str()))
                .collect();
            let distribution = scenario.services.iter().find(|s| s.name == name).and_then(|s| s.traffic_distribution);
            let service = Service::new(index, name, members, distribution);
            self.by_address.insert(service.address.clone(), Target::ClusterIp(index));
            self.services.push(service);
        }

        // What only some strategies have comes last, so that servers and clients are on the same nodes under every strategy.
        let mut order: Vec<usize> = (0..self.deployments.len()).collect();
        order.sort_by_key(|&d| matches!(self.deployments[d].role, Role::Proxy | Role::Support));
        for deployment in order {
            let replicas = match (self.deployments[deployment].role, strategy.balancer) {
                (Role::Proxy, Balancer::Sidecar | Balancer::Mesh) => 0, // they come with the pods they are in
                (Role::Proxy, Balancer::NodeProxy) => self.places.nodes(),
                _ => self.deployments[deployment].spec.replicas,
            };
            for _ in 0..replicas {
                self.create_pod(deployment, true);
            }
        }
        for pod in (0..self.pods.len() as u32).map(PodId) {
            self.update_slices(pod);
            self.publish_dns(pod);
            self.sync_proxy(pod);
        }
        self.start_control_plane();
        self.start_lookaside();
        for pod in (0..self.pods.len() as u32).map(PodId) {
            self.start_work(pod);
        }
    }

    /// Carries out an event of the scenario's timeline. One for a deployment this strategy does without is skipped.
    pub(super) fn timeline(&mut self, index: u32) {
        let event = &self.scenario.events[index as usize];
        if !event.is_under(self.strategy) {
            return;
        }
        self.fault(event);
        if let Some((deployment, scale)) = event.scale.as_ref().and_then(|e| Some((self.find(&e.deployment)?, e))) {
            self.deployments[deployment].replicas = scale.replicas;
            self.reconcile(deployment);
        }
        if let Some((deployment, rollout)) = event.rollout.as_ref().and_then(|e| Some((self.find(&e.deployment)?, e))) {
            let named = |d: &&scenarios::Deployment| rollout.template.as_ref() == Some(&d.name);
            if let Some(template) = self.scenario.deployments.iter().find(named) {
                self.deployments[deployment].template = template;
            }
            self.deployments[deployment].revision += 1;
            self.reconcile(deployment);
        }
        if let Some(deployment) = event.restart.as_ref().and_then(|e| self.find(&e.deployment)) {
            let old = self.deployments[deployment].pods.clone();
            for &pod in &old {
                self.terminate(pod);
            }
            self.replace(deployment, &old);
        }
        if let Some((deployment, kill)) = event.kill.as_ref().and_then(|e| Some((self.find(&e.deployment)?, e))) {
            let pods = self.deployments[deployment].pods.iter().copied();
            let victims: Vec<PodId> = pods.take(kill.pods as usize).collect();
            for &pod in &victims {
                self.kill(pod);
            }
            self.replace(deployment, &victims);
        }
        if let Some(change) = &event.configure {
            self.configure(change);
        }
        if let Some((deployment, degrade)) = event.degrade.as_ref().and_then(|e| Some((self.find(&e.deployment)?, e))) {
            self.degrade(deployment, degrade);
        }
        if let Some(loss) = &event.zone_loss {
            self.lose_zone(index, loss);
        }
    }

    pub(super) fn find(&self, deployment: &str) -> Option<usize> {
        self.deployments.iter().position(|d| d.spec.name == deployment)
    }

    /// The controller replaces pods that went; a sidecar is started again in its pod.
    fn replace(&mut self, deployment: usize, went: &[PodId]) {
        for &pod in went {
            let Pod { host, node, .. } = self.pods[pod.0 as usize];
            if host == pod {
                self.create_pod(deployment, false);
            } else {
                self.add_pod(deployment, node, Some(host), false);
            }
        }
    }

    pub(super) fn is_node_proxy(&self, deployment: usize) -> bool {
        self.deployments[deployment].role == Role::Proxy && self.strategy.balancer == Balancer::NodeProxy
    }

    /// What the Deployment controller does whenever something has changed: brings the pods to the number and the revision
    /// there should be. Old pods are replaced step by step: as many new ones as the surge allows, as many old ones away as
    /// may be unavailable, those that are not ready first. Terminating pods count as gone.
    pub(super) fn reconcile(&mut self, deployment: usize) {
        let Deployment { spec, role, replicas, revision, .. } = self.deployments[deployment];
        // Sidecars come and go with the pods they are in, node proxies with the nodes.
        if role == Role::Proxy && self.strategy.balancer != Balancer::Ingress {
            return;
        }
        let surge = spec.max_surge.rounded_up(replicas);
        let unavailable = spec.max_unavailable.rounded_down(replicas).min(replicas);
        // Kubernetes' own way out when both come to nothing.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        let (replicas, room) = (replicas as usize, (replicas + surge) as usize);
        loop {
            let pods = &self.deployments[deployment].pods;
            let is_new = |pod: &PodId| self.pods[pod.0 as usize].revision == revision;
            let (new, old): (Vec<PodId>, Vec<PodId>) = pods.iter().copied().partition(is_new);
            let room = if old.is_empty() { replicas } else { room };
            let missing = replicas.saturating_sub(new.len()).min(room.saturating_sub(pods.len()));
            if missing > 0 {
                (0..missing).for_each(|_| self.create_pod(deployment, false));
                continue;
            }
            let not_ready = new.iter().filter(|pod| !self.is_ready(**pod)).count();
            let keep = replicas.saturating_sub(unavailable as usize) + not_ready;
            let surplus = if new.len() > replicas {
                new.last() // a ReplicaSet removes its youngest pods first
            } else if pods.len() > keep {
                old.iter().min_by_key(|pod| self.is_ready(**pod))
            } else {
                None
            };
            match surplus.copied() {
                Some(pod) => self.terminate(pod),
                None => return,
            }
        }
    }
}
