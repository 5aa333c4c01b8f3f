//! Rules of routes and clusters, of what changes them, and of who may have them.

use lb_core::Nanos;
use lb_core::route::{ClusterWeight, RouteConfig};

use super::Check;
use crate::{
    Balancer, ClusterConfig, Configuration, Configure, ConnectionUse, Event, ProgressiveDelivery, ServiceWeight,
    Strategy,
};

impl Check<'_> {
    /// The routes, clusters and delivery of a strategy.
    pub(super) fn routing(&mut self, path: &str, strategy: &Strategy) {
        let at = |key: &str| format!("{path}.{key}");
        if strategy.routes.is_empty() {
            for (key, given) in [("cluster", !strategy.clusters.is_empty()), ("delivery", strategy.delivery.is_some())]
            {
                if given && self.sound(&at("route")) {
                    let rule = format!("`{key}` without a route: no request gets there");
                    self.problem(&at(key), rule, "add [[strategy.route]] with `name` and `clusters`");
                }
            }
            return;
        }
        if strategy.balancer == Balancer::KubeProxy && self.certain(&at("balancer")) {
            let rule = "routes are given, but kube-proxy balances connections and sees no request";
            self.problem(&at("route"), rule, "let a proxy balance, or the client");
        }
        let per_request = self.scenario.loads.iter().any(|load| load.connection == ConnectionUse::PerRequest);
        if strategy.balancer == Balancer::Client && per_request && self.certain(&at("balancer")) && self.sound("load") {
            let rule = "routes are given to clients that make a channel per request";
            self.problem(&at("route"), rule, "share the connection, or let a proxy have the routes");
        }
        self.names_once(&at("route"), strategy.routes.iter().map(|route| &route.name));
        self.names_once(&at("cluster"), strategy.clusters.iter().map(|cluster| &cluster.name));
        for (i, route) in strategy.routes.iter().enumerate() {
            self.route(&format!("{path}.route.{i}"), route, strategy);
        }
        for (i, cluster) in strategy.clusters.iter().enumerate() {
            let list = format!("{path}.cluster.{i}.endpoints");
            if !self.in_doubt.contains(&format!("{path}.cluster.{i}")) {
                self.services_of(&list, &cluster.endpoints);
            }
        }
        if let Some(delivery) = &strategy.delivery {
            self.delivery(&at("delivery"), delivery, strategy);
        }
    }

    /// The names of a strategy's routes or clusters.
    fn names_once<'n>(&mut self, list: &str, names: impl Iterator<Item = &'n String>) {
        let mut seen: Vec<&str> = Vec::new();
        for (i, name) in names.enumerate() {
            let path = format!("{list}.{i}.name");
            if seen.contains(&name.as_str()) && self.sound(&path) {
                let rule = format!("`{name}` is declared twice in this strategy");
                self.problem(&path, rule, "rename one of them");
            }
            seen.push(name);
        }
    }

    fn route(&mut self, path: &str, route: &RouteConfig, strategy: &Strategy) {
        if !self.sound(path) {
            return;
        }
        for (key, rule, hint) in route.problems() {
            self.problem(&format!("{path}.{key}"), rule, hint);
        }
        self.clusters_of(&format!("{path}.clusters"), &route.clusters, &strategy.clusters);
        if let Some(global) = route.rate_limit.as_ref().and_then(|limit| limit.global.as_ref()) {
            let place = format!("{path}.rate_limit.global.service");
            if self.refers(&place, "deployment", &global.service)
                && (self.callers_are_certain() && self.scenario.is_calling(&global.service)
                    || self.answering().is_some_and(|names| names.contains(&global.service.as_str())))
            {
                let rule =
                    format!("deployment `{}` calls or is called; it cannot be the limit service too", global.service);
                self.problem(&place, rule, "describe the limit service by a deployment of its own");
            }
        }
    }

    /// Each must be a cluster of the strategy, or a service.
    fn clusters_of(&mut self, path: &str, weights: &[ClusterWeight], clusters: &[ClusterConfig]) {
        for (i, cluster) in weights.iter().enumerate() {
            if clusters.iter().all(|c| c.name != cluster.name) {
                self.refers(&format!("{path}.{i}.name"), "service", &cluster.name);
            }
        }
    }

    fn services_of(&mut self, path: &str, endpoints: &[ServiceWeight]) {
        if endpoints.is_empty() {
            let rule = "there are no endpoints; every request would wait or fail";
            self.problem(path, rule, "name one at least: `endpoints = [{ service = \"server\" }]`");
        }
        for (i, endpoint) in endpoints.iter().enumerate() {
            self.refers(&format!("{path}.{i}.service"), "service", &endpoint.service);
            // envoy.config.endpoint.v3.LbEndpoint load_balancing_weight: at least 1.
            let hint = "leave the service out if it shall get nothing";
            self.within(&format!("{path}.{i}.weight"), endpoint.weight, 1, 1_000_000, hint);
            // envoy.config.endpoint.v3.LocalityLbEndpoints priority: at most 128.
            let hint = "0 is used first, 1 when that is short of healthy endpoints";
            self.within(&format!("{path}.{i}.priority"), endpoint.priority, 0, 128, hint);
        }
    }

    fn delivery(&mut self, path: &str, delivery: &ProgressiveDelivery, strategy: &Strategy) {
        if !self.sound(path) {
            return;
        }
        for (key, rule, hint) in delivery.plan.problems() {
            self.problem(&format!("{path}.plan.{key}"), rule, hint);
        }
        let route = strategy.routes.iter().find(|route| route.name == delivery.route);
        let Some(route) = route else {
            let rule = format!("this strategy has no route `{}`", delivery.route);
            return self.problem(&format!("{path}.route"), rule, "name one of its [[strategy.route]]");
        };
        for (key, name) in [("stable", &delivery.stable), ("canary", &delivery.canary)] {
            if route.clusters.iter().all(|cluster| cluster.name != *name) {
                let rule = format!("route `{}` has no cluster `{name}`", route.name);
                self.problem(&format!("{path}.{key}"), rule, "name it among the route's clusters; its weight may be 0");
            }
        }
        if delivery.stable == delivery.canary {
            let rule = "`stable` and `canary` are the same cluster";
            self.problem(&format!("{path}.canary"), rule, "name the cluster that is to get the traffic");
        }
        if strategy.configuration == Configuration::Static {
            let rule = "a delivery changes weights while processes run, but this strategy's configuration is static";
            self.problem(&format!("{path}.route"), rule, "write `configuration = \"xds\"` in the strategy");
        }
        if delivery.start >= self.scenario.duration && self.sound("duration") && self.scenario.duration > Nanos::ZERO {
            let rule = format!("`start` is {}, not before the end of the run", delivery.start);
            self.problem(&format!("{path}.start"), rule, "begin earlier, or write a longer `duration`");
        }
    }

    /// `configure` of an event.
    pub(super) fn configure(&mut self, path: &str, event: &Event, configure: &Configure) {
        let at = |key: &str| format!("{path}.{key}");
        if !self.sound("strategy") || !self.sound(path) {
            return;
        }
        // Strategies that are not declared were reported as that.
        if event.strategies.iter().any(|name| self.scenario.strategies.iter().all(|s| s.name != *name)) {
            return;
        }
        let meant: Vec<&Strategy> = self.scenario.strategies.iter().filter(|s| event.is_under(s)).collect();
        match (&configure.route, &configure.cluster) {
            (Some(route), None) => {
                let having = meant.iter().find(|s| s.routes.iter().any(|r| r.name == *route));
                let Some(strategy) = having else {
                    let rule = format!("no strategy it is for has a route `{route}`");
                    return self.problem(&at("route"), rule, "name one of the strategies' [[strategy.route]]");
                };
                let mut changed = strategy.routes.iter().find(|r| r.name == *route).cloned();
                for (key, rule, hint) in changed.iter_mut().flat_map(|r| {
                    r.clusters.clone_from(&configure.clusters);
                    r.problems()
                }) {
                    if key.starts_with("clusters") {
                        self.problem(&at(&key), rule, hint);
                    }
                }
                self.clusters_of(&at("clusters"), &configure.clusters, &strategy.clusters);
            }
            (None, Some(cluster)) => {
                let Some(strategy) = meant.iter().find(|s| s.clusters.iter().any(|c| c.name == *cluster)) else {
                    let rule = format!("no strategy it is for has a cluster `{cluster}`");
                    return self.problem(&at("cluster"), rule, "name one of the strategies' [[strategy.cluster]]");
                };
                if strategy.configuration == Configuration::Xds {
                    let rule = "endpoints by DNS name are a matter of static configuration";
                    self.problem(&at("cluster"), rule, "with a control plane, shift the weights of a route's clusters");
                }
                self.services_of(&at("endpoints"), &configure.endpoints);
            }
            _ => {
                let rule =
                    "`configure` names either a route and its new `clusters`, or a cluster and its new `endpoints`";
                self.problem(path, rule, "write the one that is meant");
            }
        }
    }
}
