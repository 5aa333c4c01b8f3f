//! Rules of the strategies that are compared.

use std::collections::HashSet;

use lb_core::Nanos;
use lb_core::channel::{ChannelConfig, KeepaliveConfig, ResolverConfig};

use super::Check;
use crate::{Balancer, Proxy, Strategy};

/// A server that is away is tried 1000 times a second at most where attempts time out. Our choice.
const SHORTEST_ATTEMPT: Nanos = Nanos::from_millis(1);
/// grpc-go `KeepaliveMinPingTime`: gRPC raises anything less to it.
const SHORTEST_KEEPALIVE: Nanos = Nanos::from_secs(10);
/// Beyond a round trip between zones. Our choice.
const SHORTEST_PING: Nanos = Nanos::from_millis(100);
/// The same for attempts that fail at once. Our choice.
const SHORTEST_PAUSE: Nanos = Nanos::from_millis(1);
/// A name that no longer leads anywhere is looked up 1000 times a second at most. Our choice.
const SHORTEST_FLOOR: Nanos = Nanos::from_millis(1);
/// envoy.config.cluster.v3.Cluster: "dns_refresh_rate … must be at least 1ms".
const SHORTEST_REFRESH: Nanos = Nanos::from_millis(1);

/// What the strategies need to know of the called service.
struct Called<'a> {
    deployments: HashSet<&'a str>,
    /// Whether connections to it may have an age of the deployment's. True if that is not known.
    aged: bool,
}

impl Check<'_> {
    pub(super) fn strategies(&mut self) {
        let strategies = &self.scenario.strategies;
        if strategies.is_empty() && self.sound("strategy") {
            let hint = "add [[strategy]] with name = \"headless\" and balancer = \"client\"";
            self.problem_here("", "there is no [[strategy]]; a scenario compares one at least", hint);
        }
        let names: Vec<&str> = strategies.iter().map(|s| s.name.as_str()).collect();
        self.unique("strategy", &names);
        let called = self.answering();
        let aged = |name: &&str| {
            self.deployment(name).is_none_or(|i| self.scenario.deployments[i].max_connection_age.is_some())
        };
        let called = Called {
            aged: called.as_ref().is_none_or(|deployments| deployments.iter().any(aged)),
            deployments: called.unwrap_or_default().into_iter().collect(),
        };
        for (i, strategy) in strategies.iter().enumerate() {
            let path = format!("strategy.{i}");
            if !self.in_doubt.contains(&path) {
                self.strategy(&path, strategy, &called);
            }
        }
    }

    fn strategy(&mut self, path: &str, strategy: &Strategy, called: &Called<'_>) {
        self.channel(&format!("{path}.client"), &strategy.client);
        // The grace may be this strategy's own while the age is that of the deployment.
        self.age(path, ("max_age", strategy.max_age), ("max_age_grace", strategy.max_age_grace), called.aged);
        self.jitter(path, ("max_age", strategy.max_age), ("max_age_jitter", strategy.max_age_jitter), called.aged);

        self.routing(path, strategy);

        let at = format!("{path}.proxy");
        let balancer = format!("{path}.balancer");
        if !self.certain(&balancer) {
            return;
        }
        self.learns(path, strategy);
        match (&strategy.proxy, strategy.balancer.has_proxy()) {
            (Some(_), false) => {
                let rule = "`proxy` is given, but with this balancer requests pass none";
                self.problem(
                    &at,
                    rule,
                    "delete it, or let `balancer` be \"ingress\", \"sidecar\", \"node_proxy\" or \"mesh\"",
                );
            }
            (Some(proxy), true) => self.proxy(&at, strategy.balancer, proxy, called),
            (None, true) if self.certain(&at) => self.proxy(&at, strategy.balancer, &Proxy::default(), called),
            (None, _) => {}
        }
    }

    fn proxy(&mut self, path: &str, balancer: Balancer, proxy: &Proxy, called: &Called<'_>) {
        let place = format!("{path}.deployment");
        let name = &proxy.deployment;
        if !self.given(&place) && self.declared("deployment").is_some_and(|names| !names.set.contains(name.as_str())) {
            // Nothing in the file has this name; the balancer is what asks for it.
            let rule = format!("this balancer needs a deployment that describes the proxy; `{name}` is not declared");
            let balancer = path.replace(".proxy", ".balancer");
            let hint = format!(
                "add [[deployment]] with name = \"{name}\", or name another: `proxy = {{ deployment = \"…\" }}`"
            );
            self.problem(&balancer, rule, hint);
        } else if self.refers(&place, "deployment", name) {
            let called = called.deployments.contains(name.as_str());
            if called || (self.callers_are_certain() && self.scenario.is_calling(name)) {
                let who = if called { "called" } else { "calling" };
                let rule = format!("the proxy's deployment `{name}` is the {who} one");
                self.problem(&place, rule, "describe the proxy's container by a deployment of its own");
            } else if balancer == Balancer::Ingress {
                self.needs_pods(name, "the deployment of an ingress proxy");
            }
        }
        self.resolver(&format!("{path}.resolver"), &proxy.resolver);
        self.age(path, ("max_age", proxy.max_age), ("max_age_grace", proxy.max_age_grace), false);
        self.jitter(path, ("max_age", proxy.max_age), ("max_age_jitter", proxy.max_age_jitter), false);
        self.keepalive(&format!("{path}.keepalive"), proxy.keepalive.as_ref());
    }

    fn keepalive(&mut self, path: &str, keepalive: Option<&KeepaliveConfig>) {
        let Some(keepalive) = keepalive else { return };
        let hint = "gRPC's least is \"10s\" (KeepaliveMinPingTime); leave `keepalive` out for no pings";
        self.at_least(&format!("{path}.time"), keepalive.time, SHORTEST_KEEPALIVE, hint);
        let hint = "gRPC's default is \"20s\"; a shorter one closes healthy connections";
        self.at_least(&format!("{path}.timeout"), keepalive.timeout, SHORTEST_PING, hint);
    }

    fn channel(&mut self, path: &str, channel: &ChannelConfig) {
        let at = |key: &str| format!("{path}.{key}");
        self.resolver(&at("resolver"), &channel.resolver);
        let hint = "gRPC's default is \"20s\"";
        self.at_least(&at("connect_timeout"), channel.connect_timeout, SHORTEST_ATTEMPT, hint);
        self.keepalive(&at("keepalive"), channel.keepalive.as_ref());
        let backoff = &channel.backoff;
        self.at_least(&at("backoff.initial"), backoff.initial, SHORTEST_PAUSE, "gRPC's default is \"1s\"");
        if !(backoff.multiplier >= 1.0 && backoff.multiplier <= 1000.0) {
            let rule = format!("`multiplier` is {}; it must be from 1 to 1000", backoff.multiplier);
            self.problem(&at("backoff.multiplier"), rule, "pauses grow with every failure; gRPC's default is 1.6");
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            let rule = format!("`jitter` is {}; it must be from 0 to 1", backoff.jitter);
            self.problem(
                &at("backoff.jitter"),
                rule,
                "it is the part of a pause that is random; gRPC's default is 0.2",
            );
        }
        if backoff.max < backoff.initial && self.sound(&at("backoff")) {
            let rule = format!("`max` is {}, shorter than the first pause ({})", backoff.max, backoff.initial);
            // Either may be the default; the other one then stands in the file.
            let key = if self.given(&at("backoff.max")) { "backoff.max" } else { "backoff.initial" };
            self.problem(&at(key), rule, format!("write a `max` of at least {}", backoff.initial));
        }
    }

    fn resolver(&mut self, path: &str, resolver: &ResolverConfig) {
        match resolver {
            ResolverConfig::Dns(dns) => {
                let hint = "gRPC's default is \"30s\"";
                let path = format!("{path}.dns.min_resolution_interval");
                self.at_least(&path, dns.min_resolution_interval, SHORTEST_FLOOR, hint);
            }
            ResolverConfig::StrictDns(strict) => {
                let path = format!("{path}.strict_dns.dns_refresh_rate");
                self.at_least(&path, strict.dns_refresh_rate, SHORTEST_REFRESH, "Envoy's default is \"5s\"");
            }
            ResolverConfig::Xds(xds) => {
                let path = format!("{path}.xds.init_fetch_timeout");
                self.positive(&path, xds.init_fetch_timeout, "gRPC's and Envoy's default is \"15s\"");
            }
            ResolverConfig::Grpclb(lb) => {
                let path = format!("{path}.grpclb.fallback_timeout");
                self.positive(&path, lb.fallback_timeout, "gRPC's default is \"10s\"");
            }
        }
    }
}
