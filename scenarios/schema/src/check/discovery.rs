//! Rules of how endpoints are learnt: DNS, the control plane, and what can go wrong with them.

use lb_core::Nanos;
use lb_core::channel::ResolverConfig;

use super::Check;
use super::cluster::MOST_PODS;
use crate::{Balancer, ControlPlane, Discovery, Event, Lookaside, Outage, Strategy, zone_name};

/// Look-ups, health checks and queries without an answer come 1000 times a second at most. Our choice.
const SHORTEST_INTERVAL: Nanos = Nanos::from_millis(1);

impl Check<'_> {
    pub(super) fn discovery(&mut self) {
        let dns = &self.scenario.dns;
        self.at_least("dns.timeout", dns.timeout, SHORTEST_INTERVAL, "resolv.conf's default is \"5s\"");
        self.within("dns.attempts", dns.attempts, 1, 5, "resolv.conf's default is 2, and it knows no more than 5");

        self.control_plane("control_plane", &self.scenario.control_plane);
        if self.given("control_plane") && self.sound("strategy") {
            let strategies = &self.scenario.strategies;
            if !strategies.iter().any(|s| s.uses_control_plane() && s.control_plane.is_none()) {
                let rule = "there is a [control_plane], but no strategy that uses it";
                self.problem("control_plane", rule, "let one have `resolver = \"xds\"`, or delete this table");
            }
        }
        if let Some(lookaside) = &self.scenario.lookaside {
            self.lookaside("lookaside", lookaside);
            let asked = |s: &Strategy| s.lookaside.is_none() && s.lookaside(self.scenario).is_some();
            if self.sound("strategy") && !self.scenario.strategies.iter().any(asked) {
                let rule = "there is a [lookaside], but no strategy that uses it";
                self.problem("lookaside", rule, "let one's client have `resolver = \"grpclb\"`, or delete this table");
            }
        }
        for (i, strategy) in self.scenario.strategies.iter().enumerate() {
            let path = format!("strategy.{i}.control_plane");
            let Some(plane) = &strategy.control_plane else { continue };
            self.control_plane(&path, plane);
            if !strategy.uses_control_plane() && self.sound(&format!("strategy.{i}")) {
                let rule = "`control_plane` is given, but nobody subscribes to it under this strategy";
                self.problem(&path, rule, "add `resolver = \"xds\"` to `client` or `proxy`, or delete it");
            }
        }
    }

    fn control_plane(&mut self, path: &str, plane: &ControlPlane) {
        let at = |key: &str| format!("{path}.{key}");
        if let Discovery::Poll(every) = plane.discovery {
            let hint = "for no loop at all write `discovery = \"watch\"`";
            self.at_least(&at("discovery.poll"), every, SHORTEST_INTERVAL, hint);
        }
        if self.sound("cluster.zones") {
            let zones = self.scenario.cluster.zones;
            for name in plane.locality_weights.keys() {
                let number = name.strip_prefix("zone-").and_then(|number| number.parse().ok());
                if !number.is_some_and(|zone: u32| zone < zones && zone_name(zone) == *name) {
                    let rule = format!("there is no zone `{name}`");
                    let hint =
                        format!("`cluster.zones` is {zones}: they are zone-0 to zone-{}", zones.saturating_sub(1));
                    self.problem(&at("locality_weights"), rule, hint);
                }
            }
        }
        let interval = at("health_check_interval");
        self.at_least(&interval, plane.health_check_interval, SHORTEST_INTERVAL, "leave it out to get \"10s\"");
        if self.given(&interval) && self.sound(path) {
            let polls = plane.discovery != Discovery::Watch;
            if !plane.health_check || polls {
                let (rule, hint) = if polls {
                    ("`health_check_interval` is given, but pods are checked in each loop", "delete it")
                } else {
                    ("`health_check_interval` without `health_check`", "add `health_check = true`, or delete it")
                };
                self.problem(&interval, rule, hint);
            }
        }
    }

    /// A lookaside balancer at `path`.
    fn lookaside(&mut self, path: &str, lookaside: &Lookaside) {
        let at = |key: &str| format!("{path}.{key}");
        for (key, interval) in
            [("update_interval", lookaside.update_interval), ("report_interval", lookaside.report_interval)]
        {
            self.at_least(&at(key), interval, SHORTEST_INTERVAL, "leave it out to get \"1s\"");
        }
        let name = &lookaside.deployment;
        if self.refers(&at("deployment"), "deployment", name) {
            let works = self.scenario.answering().contains(&name.as_str()) || self.scenario.is_calling(name);
            let proxies = |s: &Strategy| s.proxy.as_ref().is_some_and(|proxy| proxy.deployment == *name);
            if works || self.scenario.strategies.iter().any(proxies) {
                let rule = format!("the balancer's deployment `{name}` has other work to do");
                self.problem(&at("deployment"), rule, "describe the balancer by a deployment of its own");
            } else {
                self.needs_pods(name, "the deployment of a lookaside balancer");
            }
        }
    }

    /// Whether whoever resolves has somebody to ask.
    pub(super) fn learns(&mut self, path: &str, strategy: &Strategy) {
        let grpclb = |resolver: &ResolverConfig| matches!(resolver, ResolverConfig::Grpclb(_));
        let at = |key: &str| format!("{path}.{key}.resolver");
        if strategy.proxy.as_ref().is_some_and(|proxy| grpclb(&proxy.resolver)) {
            let rule = "`resolver` is `grpclb`, which is a gRPC client's; a proxy has no such thing";
            self.problem(&at("proxy"), rule, "let the proxy have \"xds\", or `balancer` be \"client\"");
        }
        if grpclb(&strategy.client.resolver) && self.sound(&at("client")) {
            if strategy.balancer == Balancer::Ingress {
                let rule =
                    "`resolver` is `grpclb`, but a lookaside balancer lists servers, and this client calls a proxy";
                self.problem(&at("client"), rule, "let `balancer` be \"client\"");
            } else if strategy.client_resolves()
                && strategy.lookaside(self.scenario).is_none()
                && self.certain("lookaside")
            {
                let rule = "`resolver` is `grpclb`, but there is no balancer to ask";
                self.problem(&at("client"), rule, "add `[lookaside]` with `deployment = \"balancer\"`");
            }
        }
        if let Some(lookaside) = &strategy.lookaside {
            let place = format!("{path}.lookaside");
            self.lookaside(&place, lookaside);
            if strategy.lookaside(self.scenario).is_none() && self.sound(&at("client")) {
                let rule = "`lookaside` is given, but under this strategy nobody asks it";
                self.problem(&place, rule, "add `resolver = \"grpclb\"` to `client`, or delete it");
            }
        }
        let resolver = format!("{path}.client.resolver");
        let asks = matches!(strategy.client.resolver, ResolverConfig::Xds(_) | ResolverConfig::Grpclb(_));
        if asks && !matches!(strategy.balancer, Balancer::Client | Balancer::Ingress) && self.sound(&resolver) {
            let (what, hint) = if strategy.balancer == Balancer::KubeProxy {
                ("a ClusterIP", "let `balancer` be \"client\", or delete the resolver")
            } else {
                ("the proxy beside it", "give the proxy this resolver instead: `proxy = { resolver = \"xds\" }`")
            };
            self.problem(
                &resolver,
                format!("with this balancer the client calls {what}, whose address is known"),
                hint,
            );
        }
    }

    pub(super) fn faults(&mut self, path: &str, event: &Event) {
        if let Some(unhealthy) = &event.unhealthy {
            let at = |key: &str| format!("{path}.unhealthy.{key}");
            self.within(&at("pods"), unhealthy.pods, 1, MOST_PODS, "delete the event if all pods shall serve");
            self.positive(&at("for"), unhealthy.lasts, "write how long, such as \"30s\"");
        }
        for (name, outage) in [("dns_outage", &event.dns_outage), ("control_plane_outage", &event.control_plane_outage)]
        {
            if let Some(Outage { lasts }) = outage {
                self.positive(&format!("{path}.{name}.for"), *lasts, "write how long, such as \"30s\"");
            }
        }
        let used = self.scenario.strategies.iter().any(Strategy::uses_control_plane);
        if event.control_plane_outage.is_some() && !used && self.sound("strategy") {
            let rule = "`control_plane_outage`, but no strategy has a control plane";
            let hint = "let a client or a proxy have `resolver = \"xds\"`, or delete the event";
            self.problem(&format!("{path}.control_plane_outage"), rule, hint);
        }
    }
}
