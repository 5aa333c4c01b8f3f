//! The HorizontalPodAutoscaler: as many pods as bring their average utilisation to its target.
//!
//! desired = ⌈pods · utilisation / target⌉, unless the ratio is within the tolerance of 1 (Kubernetes, "Horizontal Pod
//! Autoscaling", Algorithm details). What stands for a resource is the part of a pod's `concurrency` that was busy, over the
//! last sync period; Kubernetes reads CPU in whole percent of the request. Pods that have not been ready for a whole period
//! are set aside; where the others ask for more pods, they count as idle, and may not turn growing into shrinking
//! (replica_calculator.go `GetResourceReplicas`).
//!
//! Then the default behaviour of autoscaling/v2: growing at once, by 100 % or 4 pods in 15 s, whichever is more; shrinking to
//! the most that was desired within the stabilisation window.
//!
//! It sees an average. A pod that has all the load among idle ones is invisible to it.

use std::collections::VecDeque;

use lb_core::Nanos;
use scenarios::{Balancer, Hpa};

use super::deployments::Role;
use super::{Event, World};

/// Pods that may be added in [`SCALE_UP_PERIOD`] however few there are: autoscaling/v2 default `scaleUp` policy, `Pods` 4.
const SCALE_UP_PODS: u32 = 4;
/// autoscaling/v2 default `scaleUp` policies, `periodSeconds` 15.
const SCALE_UP_PERIOD: Nanos = Nanos::from_secs(15);

/// One autoscaler and what it remembers.
#[derive(Debug)]
pub(super) struct Autoscaler<'s> {
    spec: &'s Hpa,
    deployment: usize,
    /// What was desired within the stabilisation window.
    desired: VecDeque<(Nanos, u32)>,
    /// Pods added within the scale-up period.
    added: VecDeque<(Nanos, u32)>,
}

/// The number of pods that brings these utilisations to the target, `set_aside` others not counted or counted as idle.
fn desired(current: u32, utilisations: &[f64], set_aside: usize, target: f64, tolerance: f64) -> u32 {
    let measured = utilisations.len();
    if measured == 0 {
        return current; // nothing to go by
    }
    let ratio = |pods: usize| utilisations.iter().sum::<f64>() / pods as f64 / target;
    let within = |ratio: f64| (ratio - 1.0).abs() <= tolerance;
    let pods = |ratio: f64, pods: usize| (ratio * pods as f64).ceil() as u32;

    let first = ratio(measured);
    if set_aside == 0 || first <= 1.0 {
        return if within(first) { current } else { pods(first, measured) };
    }
    let all = measured + set_aside;
    let second = ratio(all);
    if within(second) || second < 1.0 { current } else { pods(second, all).max(current) }
}

impl Autoscaler<'_> {
    /// What the deployment is set to, of what is desired.
    fn decide(&mut self, now: Nanos, current: u32, desired: u32) -> u32 {
        // The first recommendation is what was found (horizontal.go `recordInitialRecommendation`).
        if self.desired.is_empty() {
            self.desired.push_back((now, current));
        }
        self.desired.push_back((now, desired));
        let window = self.spec.scale_down_stabilization;
        while self.desired.front().is_some_and(|(at, _)| *at + window < now) {
            self.desired.pop_front();
        }
        while self.added.front().is_some_and(|(at, _)| *at + SCALE_UP_PERIOD <= now) {
            self.added.pop_front();
        }
        let most_desired = self.desired.iter().map(|(_, pods)| *pods).max().unwrap_or(desired);
        let stable = if desired > current { desired } else { most_desired.min(current) };
        let before = current.saturating_sub(self.added.iter().map(|(_, pods)| pods).sum());
        let room = before.saturating_mul(2).max(before.saturating_add(SCALE_UP_PODS)).max(current);
        let next = stable.min(room).clamp(self.spec.min_replicas, self.spec.max_replicas);
        if next > current {
            self.added.push_back((now, next - current));
        }
        next
    }
}

impl World<'_> {
    /// The autoscalers of the deployments that this strategy runs at a number of their own.
    pub(super) fn start_autoscalers(&mut self) {
        for spec in &self.scenario.autoscalers {
            let Some(deployment) = self.find(&spec.deployment) else { continue };
            let by_others =
                self.deployments[deployment].role == Role::Proxy && self.strategy.balancer != Balancer::Ingress;
            if by_others {
                continue; // sidecars come with their pods, node proxies with the nodes
            }
            let index = self.autoscalers.len() as u32;
            let (desired, added) = (VecDeque::new(), VecDeque::new());
            self.autoscalers.push(Autoscaler { spec, deployment, desired, added });
            self.queue.at(spec.sync_period, Event::Autoscale(index));
        }
    }

    /// An autoscaler looks at its pods.
    pub(super) fn autoscale(&mut self, index: u32) {
        let now = self.now();
        let Autoscaler { spec, deployment, .. } = self.autoscalers[index as usize];
        self.queue.at(now + spec.sync_period, Event::Autoscale(index));

        let pods = self.deployments[deployment].pods.clone();
        let mut utilisations = Vec::with_capacity(pods.len());
        for &id in &pods {
            let ready = self.is_ready(id);
            let pod = &mut self.pods[id.0 as usize];
            let capacity = f64::from(pod.template.concurrency) * spec.sync_period.0 as f64;
            let utilisation = pod.take_busy_ns(now) as f64 / capacity;
            if ready && pod.moments.ready.is_some_and(|since| since + spec.sync_period <= now) {
                utilisations.push(utilisation);
            }
        }
        let current = self.deployments[deployment].replicas;
        if current == 0 {
            return; // scaled to nothing by hand: Kubernetes leaves that alone
        }
        let set_aside = pods.len() - utilisations.len();
        let desired = desired(current, &utilisations, set_aside, spec.target_utilization, spec.tolerance);
        let next = self.autoscalers[index as usize].decide(now, current, desired);
        if next != current {
            let mean = utilisations.iter().sum::<f64>() / utilisations.len().max(1) as f64;
            let (name, percent) = (&spec.deployment, (mean * 100.0).round());
            self.recorder.happened(now, format!("HPA: {name} {current} → {next} at {percent} % utilisation"));
            self.deployments[deployment].replicas = next;
            self.reconcile(deployment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of Kubernetes' replica_calculator_test.go, in thousandths of a request of 1.0.
    #[test]
    fn kubernetes_replica_calculator() {
        let of = |levels: &[u32]| levels.iter().map(|&level| f64::from(level) / 1000.0).collect::<Vec<_>>();
        // TestReplicaCalcScaleUp: 50 % on average, 30 % wanted: ⌈3 · 5/3⌉.
        assert_eq!(desired(3, &of(&[300, 500, 700]), 0, 0.3, 0.1), 5);
        // TestReplicaCalcScaleUpUnreadyLessScale: 1200 / 3 / 300 = 4/3 with the unready one as idle.
        assert_eq!(desired(3, &of(&[500, 700]), 1, 0.3, 0.1), 4);
        // TestReplicaCalcScaleUpUnreadyNoScale: 400 / 3 / 300 is below 1: growing would turn into shrinking.
        assert_eq!(desired(3, &of(&[400]), 2, 0.3, 0.1), 3);
        // TestReplicaCalcScaleDown: 1400 / 5 / 500 = 0.56.
        assert_eq!(desired(5, &of(&[100, 300, 500, 250, 250]), 0, 0.5, 0.1), 3);
    }

    #[test]
    fn within_the_tolerance_nothing_happens_nor_without_measurements() {
        assert_eq!(desired(10, &[0.54; 10], 0, 0.5, 0.1), 10);
        assert_eq!(desired(10, &[0.56; 10], 0, 0.5, 0.1), 12);
        assert_eq!(desired(10, &[], 10, 0.5, 0.1), 10);
    }

    #[test]
    fn one_hot_pod_among_idle_ones_is_invisible() {
        // 1.0 / 4 = 25 % of 80 %: it would rather have two.
        assert_eq!(desired(4, &[1.0, 0.0, 0.0, 0.0], 0, 0.8, 0.1), 2);
    }

    #[test]
    fn growing_doubles_or_adds_four_in_a_quarter_minute_shrinking_waits() {
        let spec = Hpa {
            deployment: "server".into(),
            min_replicas: 2,
            max_replicas: 50,
            target_utilization: 0.5,
            sync_period: Nanos::from_secs(5),
            tolerance: 0.1,
            scale_down_stabilization: Nanos::from_secs(300),
        };
        let mut hpa = Autoscaler { spec: &spec, deployment: 0, desired: VecDeque::new(), added: VecDeque::new() };
        let s = Nanos::from_secs;
        assert_eq!(hpa.decide(s(0), 3, 100), 7, "3 + 4");
        assert_eq!(hpa.decide(s(5), 7, 100), 7, "the four of 5 s ago count");
        assert_eq!(hpa.decide(s(15), 7, 100), 14, "twice as many");
        assert_eq!(hpa.decide(s(30), 14, 100), 28);
        assert_eq!(hpa.decide(s(45), 28, 100), 50, "no more than the most");
        assert_eq!(hpa.decide(s(60), 50, 1), 50);
        assert_eq!(hpa.decide(s(345), 50, 10), 50, "100 were desired at 45 s, 300 s ago");
        assert_eq!(hpa.decide(s(346), 50, 10), 10, "the most of those since");
        assert_eq!(hpa.decide(s(700), 10, 1), 2, "and no fewer than the least");
    }
}
