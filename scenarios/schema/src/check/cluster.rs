//! Rules of the cluster and what runs in it.

use std::collections::{HashMap, HashSet};

use lb_core::{Code, Nanos};

use super::Check;
use crate::{Deployment, ServiceTime};

pub(super) const MOST_NODES: u32 = 100_000;
pub(super) const MOST_PODS: u32 = 1_000_000;
/// A closed loop turns once in two hops, so 500,000 times a second at most. Our choice.
const SHORTEST_HOP: Nanos = Nanos::from_micros(1);
/// Further than light travels in a cluster; a longer one is a unit mixed up. Our choice.
const LONGEST_HOP: Nanos = Nanos::from_secs(10);
/// Whoever looks a name up by its TTL does so 1000 times a second at most. Our choice; a real TTL is in whole seconds.
const SHORTEST_TTL: Nanos = Nanos::from_millis(1);
/// Autoscalers look at their pods 100 times a second at most. Our choice.
const SHORTEST_SYNC: Nanos = Nanos::from_millis(10);
/// Connections that do nothing but grow old are made anew 1000 times a second at most. Our choice.
const SHORTEST_AGE: Nanos = Nanos::from_millis(1);

/// A pod sums its load up 1000 times a second at most. Our choice.
const SHORTEST_PERIOD: Nanos = Nanos::from_millis(1);

impl Check<'_> {
    pub(super) fn cluster(&mut self) {
        let cluster = &self.scenario.cluster;
        self.within("cluster.nodes", cluster.nodes, 1, MOST_NODES, "leave it out to get 3");
        if self.sound("cluster.nodes") && (1..=MOST_NODES).contains(&cluster.nodes) {
            // The default of one zone always fits.
            self.within("cluster.zones", cluster.zones, 1, cluster.nodes, "every zone has at least one node");
        }
        let hops = &cluster.hops;
        let hint = "leave it out to get what is usual: from \"20us\" in a pod to \"1ms\" between zones";
        for (name, latency) in [
            ("same_pod", hops.same_pod),
            ("same_node", hops.same_node),
            ("same_zone", hops.same_zone),
            ("other_zone", hops.other_zone),
        ] {
            self.within(&format!("cluster.hops.{name}"), latency, SHORTEST_HOP, LONGEST_HOP, hint);
        }
        let hint = "for no cache in the resolver write `cache = \"0s\"`";
        self.at_least("dns.ttl", self.scenario.dns.ttl, SHORTEST_TTL, hint);
    }

    pub(super) fn deployments(&mut self) {
        let deployments = &self.scenario.deployments;
        let names: Vec<&str> = deployments.iter().map(|d| d.name.as_str()).collect();
        self.unique("deployment", &names);
        for (i, deployment) in deployments.iter().enumerate() {
            self.one_deployment(&format!("deployment.{i}"), deployment);
        }
    }

    fn one_deployment(&mut self, path: &str, deployment: &Deployment) {
        let at = |key: &str| format!("{path}.{key}");
        self.label(&at("name"), &deployment.name);
        self.within(&at("replicas"), deployment.replicas, 0, MOST_PODS, "fewer pods show the same effects");
        self.within(&at("concurrency"), deployment.concurrency, 1, 1_000_000, "a pod works on one request at least");
        self.within(&at("weight"), deployment.weight, 1, 1_000_000, "for pods without traffic set `replicas = 0`");
        if !(deployment.speed > 0.0 && deployment.speed <= 1000.0) {
            let rule = format!("`speed` is {}; it must be above 0 and at most 1000", deployment.speed);
            self.problem(&at("speed"), rule, "1.0 is normal, 0.5 is half as fast");
        }
        let hint = "it is a part of the requests: 0.01 is one in a hundred";
        self.within(&at("error_rate"), deployment.error_rate, 0.0, 1.0, hint);
        if deployment.error_code == Code::Ok {
            let rule = "`error_code` is OK; an answer with that status is no error";
            self.problem(&at("error_code"), rule, "for pods that never fail leave out `error_rate`");
        }
        let hint = "leave it out to get \"1s\"";
        self.at_least(&at("load_report.period"), deployment.load_report.period, SHORTEST_PERIOD, hint);
        let hint = "leave it out to get \"30s\"";
        let interval = deployment.load_report.min_reporting_interval;
        self.at_least(&at("load_report.min_reporting_interval"), interval, SHORTEST_PERIOD, hint);
        if let Some(warm_up) = &deployment.warm_up {
            let hint = "leave `warm_up` out for pods that are fast at once";
            self.positive(&at("warm_up.window"), warm_up.window, hint);
            self.speed_part(
                &at("warm_up.speed"),
                warm_up.speed,
                "0.2 makes the first requests take five times as long",
            );
        }
        if deployment.version.as_ref().is_some_and(|version| version.trim().is_empty()) {
            self.problem(&at("version"), "`version` is empty", "write a label such as \"v2\", or leave it out");
        }
        self.positive(&at("readiness.period"), deployment.readiness.period, "Kubernetes' default is \"10s\"");
        match &deployment.service_time {
            ServiceTime::Constant(_) => {}
            ServiceTime::Exponential(mean) => {
                self.positive(&at("service_time.exponential"), *mean, "for no work at all leave out `service_time`");
            }
            ServiceTime::Lognormal(lognormal) => {
                let path = at("service_time.lognormal");
                self.positive(&format!("{path}.mean"), lognormal.mean, "for no work at all leave out `service_time`");
                if !(lognormal.cv > 0.0 && lognormal.cv <= 100.0) {
                    let rule = format!("`cv` is {}; it must be above 0 and at most 100", lognormal.cv);
                    self.problem(
                        &format!("{path}.cv"),
                        rule,
                        "1.0 spreads as an exponential does; for no spread write `constant`",
                    );
                }
            }
        }
        if deployment.max_surge.rounded_up(100) == 0 && deployment.max_unavailable.rounded_down(100) == 0 {
            let rule = "`max_surge` and `max_unavailable` are both none; a rolling update could not begin";
            // The one that is written, for one of them must be.
            let place = if self.given(&at("max_unavailable")) { at("max_unavailable") } else { at("max_surge") };
            self.problem(&place, rule, "let one of them be at least \"1\", as Kubernetes requires");
        }
        if deployment.pre_stop > deployment.termination_grace_period {
            let rule = format!(
                "`pre_stop` is {}, longer than `termination_grace_period` ({})",
                deployment.pre_stop, deployment.termination_grace_period
            );
            self.problem(&at("pre_stop"), rule, "the grace period includes it: SIGKILL comes at its end");
        }
        let age = ("max_connection_age", deployment.max_connection_age);
        let grace = ("max_connection_age_grace", deployment.max_connection_age_grace);
        self.age(path, age, grace, false);
        let jitter = ("max_connection_age_jitter", deployment.max_connection_age_jitter);
        // Its age may be a strategy's.
        let elsewhere = self.scenario.strategies.iter().any(|strategy| strategy.max_age.is_some());
        self.jitter(path, age, jitter, elsewhere || !self.sound("strategy"));
    }

    /// The jitter of a connection's age, under the names they have at `path`. `elsewhere`: another place gives an age too.
    pub(super) fn jitter(
        &mut self,
        path: &str,
        (age_name, age): (&str, Option<Nanos>),
        (jitter_name, jitter): (&str, Option<f64>),
        elsewhere: bool,
    ) {
        let Some(jitter) = jitter else { return };
        let at = format!("{path}.{jitter_name}");
        self.within(&at, jitter, 0.0, 1.0, "it is a part of the age; gRPC's is 0.1");
        if age.is_none() && !elsewhere && self.sound(&format!("{path}.{age_name}")) {
            let rule = format!("`{jitter_name}` without `{age_name}`: there is no age that it could spread");
            self.problem(&at, rule, format!("add `{age_name} = \"30s\"`, or delete this line"));
        }
    }

    pub(super) fn autoscalers(&mut self) {
        let mut first = HashMap::new();
        for (i, hpa) in self.scenario.autoscalers.iter().enumerate() {
            let at = |key: &str| format!("hpa.{i}.{key}");
            if self.in_doubt.contains(&format!("hpa.{i}")) {
                continue;
            }
            let place = at("deployment");
            if self.refers(&place, "deployment", &hpa.deployment) {
                if let Some(before) = first.insert(&hpa.deployment, i) {
                    let line = self.line(&format!("hpa.{before}.deployment"));
                    let rule =
                        format!("deployment `{}` has two autoscalers; the other one is on line {line}", hpa.deployment);
                    self.problem(&place, rule, "they would undo each other's work; keep one of the two");
                } else if self.callers_are_certain() && self.scenario.is_calling(&hpa.deployment) {
                    let rule = format!("deployment `{}` calls; its pods work on no requests", hpa.deployment);
                    self.problem(&place, rule, "scale a deployment that answers, or an ingress proxy");
                }
            }
            let hint = "fewer pods show the same effects";
            self.within(&at("max_replicas"), hpa.max_replicas, 1, MOST_PODS, hint);
            if hpa.max_replicas >= 1 && self.sound(&at("max_replicas")) {
                let hint = "an autoscaler keeps one pod at least, and no more than `max_replicas`";
                self.within(&at("min_replicas"), hpa.min_replicas, 1, hpa.max_replicas, hint);
            }
            if !(hpa.target_utilization > 0.0 && hpa.target_utilization <= 1.0) {
                let rule =
                    format!("`target_utilization` is {}; it must be above 0 and at most 1", hpa.target_utilization);
                self.problem(&at("target_utilization"), rule, "0.8 is what Kubernetes takes where nothing is said");
            }
            self.within(&at("tolerance"), hpa.tolerance, 0.0, 1.0, "Kubernetes' default is 0.1");
            self.at_least(&at("sync_period"), hpa.sync_period, SHORTEST_SYNC, "Kubernetes' default is \"15s\"");
        }
    }

    /// A part of a pod's speed: as slow as `speed` itself may be, and no faster than all of it.
    pub(super) fn speed_part(&mut self, path: &str, part: f64, hint: &str) {
        if !(0.001..=1.0).contains(&part) {
            let rule = format!("`speed` is {part}; it must be from 0.001 to 1");
            self.problem(path, rule, hint);
        }
    }

    /// A connection's age and grace, under the names they have at `path`. `elsewhere`: another place gives an age too.
    pub(super) fn age(
        &mut self,
        path: &str,
        (age_name, age): (&str, Option<Nanos>),
        (grace_name, grace): (&str, Option<Nanos>),
        elsewhere: bool,
    ) {
        let age_path = format!("{path}.{age_name}");
        if let Some(age) = age {
            self.at_least(&age_path, age, SHORTEST_AGE, "leave it out for connections that live on");
        }
        if grace.is_some() && age.is_none() && !elsewhere && self.sound(&age_path) {
            let rule = format!("`{grace_name}` without `{age_name}`: there is no age after which it could begin");
            self.problem(
                &format!("{path}.{grace_name}"),
                rule,
                format!("add `{age_name} = \"30s\"`, or delete this line"),
            );
        }
    }

    pub(super) fn services(&mut self) {
        let services = &self.scenario.services;
        let names: Vec<&str> = services.iter().map(|s| s.name.as_str()).collect();
        self.unique("service", &names);
        for (i, service) in services.iter().enumerate() {
            let path = format!("service.{i}");
            self.label(&format!("{path}.name"), &service.name);
            let list = format!("{path}.deployments");
            if service.deployments.is_empty() {
                let rule = format!("service `{}` selects no deployment", service.name);
                self.problem(&list, rule, "name one at least: `deployments = [\"server\"]`");
            }
            let mut seen = HashSet::new();
            for (j, name) in service.deployments.iter().enumerate() {
                let path = format!("{list}.{j}");
                self.refers(&path, "deployment", name);
                if !seen.insert(name) {
                    self.problem(&path, format!("deployment `{name}` is in the list twice"), "keep one of the two");
                }
            }
        }
    }
}
